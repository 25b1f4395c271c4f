"""A cluster whose machines are all this one, and a worker that is killed, to test what happens."""

import importlib.util
import os
import signal
from functools import partial

import numpy as np

from vggnb.features import Job, vgg16
from vggnb.storage import VggnbError

NODE = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 100_000_000}
# A machine that does not answer counts as gone after seconds, not after minutes.
HASTY = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_timeout_ms": 1000}


class Rehearsal:
    """Two nodes on this machine; without Ray, the local engine and a printed line.

    Attributes:
        engine, address: what `fill_store` takes.
    """

    def __init__(self):
        self.engine, self.address, self._cluster = "local", None, None
        if not importlib.util.find_spec("ray"):
            print("Ray is not installed (pip install 'vggnb[cluster]'): the local engine is used instead.")
            return
        from vggnb.features.ray_engine import ray  # isort: skip - it sets what Ray reads when it starts
        from ray.cluster_utils import Cluster

        # Ray prints each death at length, with addresses; nothing public stops that.
        self._worker, self._print = ray._private.worker, ray._private.worker.print_to_stdstream
        self._worker.print_to_stdstream = lambda *_, **__: None
        self._cluster = Cluster()
        self._add(include_dashboard=False, _system_config=HASTY)
        self.engine, self.address, self._second = "ray", self._cluster.address, self._add()
        print("A cluster of two nodes runs on this machine.")

    def _add(self, **options) -> object:
        for left in (2, 1, 0):  # Ray waits half a minute for a node, which a busy machine may exceed
            try:
                return self._cluster.add_node(**NODE, **options)
            except Exception as error:  # Ray has no name for it
                if not left:
                    self.close()
                    remedy = "Run this again when this machine is less busy."
                    raise VggnbError(f"Ray did not start ({error}).", "this machine", remedy) from error

    def remove_node(self) -> None:
        """Kill the second node at once, as a power cut would."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def close(self) -> None:
        """Stop what was started."""
        if self._cluster:
            self._cluster.shutdown()
            self._worker.print_to_stdstream, self._cluster = self._print, None


def dies_once():
    """VGG-16 for `fill_store`, of which the first worker is killed (SIGKILL) in the middle of its first batch.

    It happens once in a store, and never in the process that calls this.
    """
    return partial(_DiesOnce, spared=os.getpid())


class _DiesOnce:
    def __init__(self, job: Job, *, spared: int):
        self._network, self._spared, self._mark = vgg16(job), spared, job.store / ".a-worker-died"
        self.key, self.precision, self.batch = self._network.key, self._network.precision, self._network.batch

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if os.getpid() != self._spared and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._network(pixels)
