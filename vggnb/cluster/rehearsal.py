"""A cluster of machines that are all this one, and a worker that dies: to see what happens before it matters."""

import importlib.util
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vggnb.cluster.fill import vgg16
from vggnb.cluster.work import Job, Network
from vggnb.storage import VggnbError

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}
# A machine that does not answer is held to be gone after seconds, not after minutes.
HASTY = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_timeout_ms": 1000}
WITHOUT = "Ray is not installed (pip install 'vggnb[cluster]'): the local engine does all of it, alone."


class Rehearsal:
    """Two nodes with a core each, or, where Ray is not installed, nothing but a note that says so.

    Attributes:
        engine, address: what `fill_store` takes.
    """

    def __init__(self):
        self.engine, self.address, self._cluster = "local", None, None
        if not importlib.util.find_spec("ray"):
            print(WITHOUT)
            return
        from vggnb.cluster.machines import ray  # first: it sets what Ray reads when it starts

        Cluster = importlib.import_module("ray.cluster_utils").Cluster
        # Where Ray tells a death at length, with addresses; nothing public stops that.
        self._worker, self._told = ray._private.worker, ray._private.worker.print_to_stdstream
        self._worker.print_to_stdstream = lambda *_, **__: None
        head = {**NODE, "include_dashboard": False, "_system_config": HASTY}
        self._cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.engine, self.address = "ray", self._cluster.address
        self.second = self.add()
        print("A cluster of two nodes runs on this machine.")

    def add(self) -> object:
        """One node more."""
        return _started(lambda: self._cluster.add_node(**NODE))

    def remove(self, node) -> None:
        """As if somebody had pulled the plug."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """Stop what was started."""
        if self._cluster:
            self._cluster.shutdown()
            self._worker.print_to_stdstream = self._told
            self._cluster = None


def _started(start: Callable[[], object], tries: int = 3) -> object:
    """What starts; Ray waits half a minute for a node, which a busy machine may exceed."""
    for left in reversed(range(tries)):
        try:
            return start()
        except Exception as error:  # Ray has no name for it
            if not left:
                remedy = "Run this again when less is going on here."
                raise VggnbError(f"Ray did not start ({error}).", "this machine", remedy) from error


def dies_once() -> Callable[[Job], Network]:
    """VGG-16 for `fill_store`, in which the first worker to get a unit is killed (SIGKILL) in the middle of it.

    Only the first one in a store, and never the process that asks for this.
    """
    return partial(_DiesOnce, spared=os.getpid())


class _DiesOnce:
    def __init__(self, job: Job, *, spared: int):
        self._network, self._spared = vgg16(job), spared
        self.key = self._network.key

    def forward(self, folder: Path, hashes: Sequence[str], pixels: np.ndarray) -> list[str]:
        """See `work.Network`."""
        mark = folder / ".somebody-died"
        if os.getpid() != self._spared and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._network.forward(folder, hashes, pixels)
