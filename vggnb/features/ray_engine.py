"""The engine for the machines of a Ray cluster: Ray Data schedules, limits, retries and moves the pixels.

Rows become blocks; decoding a block is a task, and an actor for each GPU or group of cores runs the network on it and
writes the shard itself. Shards are named by their content, so a block that is tried again does no harm.
"""

import contextlib
import json
import logging
import os
import platform
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import numpy as np

from vggnb.census import Row
from vggnb.census.manifest import check_there
from vggnb.features import Done, Job, write_shard
from vggnb.folders import read_ahead
from vggnb.images import read_unchanged
from vggnb.machine import threads, versions
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, make_folder

try:
    import pyarrow
    import ray
    import ray.data
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    remedy = "pip install 'vggnb[cluster]', or leave --engine at local."
    raise VggnbError(f"Ray Data is not installed ({error}).", "--engine ray", remedy) from error

COMPARED = ("python", "vggnb", "pillow", "tensorflow", "keras")  # the versions that pixels and features depend on
BLOCK_ROWS = 128  # at most
BLOCK_BYTES = 32_000_000  # of pixels in a block, at most
MOST_CORES = 8  # of an actor
# Actors claim three quarters of their cores, so that no node gets one too many. Decoding tasks claim none, and their
# number is limited instead: they can start even where actors, those of a lost node included, want all there is.
CLAIM = 0.75
QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


@contextlib.contextmanager
def on_cluster(job: Job, *, address: str | None = None, gpus_per_worker: int | None = None):
    """A `RayEngine` on a cluster that is joined, or started on this machine, and left at the end."""
    if ours := not ray.is_initialized():
        _connect(address)
    try:
        yield RayEngine(job, gpus_per_worker)
    finally:
        if ours:
            ray.shutdown()


class RayEngine:
    """A pool of actors on a cluster; see `features.LocalEngine`."""

    def __init__(self, job: Job, gpus_per_worker: int | None):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.workers, self._gpus, self._cores = pool([node["Resources"] for node in nodes], gpus_per_worker)
        self._decoders = int(sum(node["Resources"].get("CPU", 0) for node in nodes)) or 1
        self._job, (self.key, self.precision) = job, _check_machines(job, nodes, self._gpus)

    def run(self, rows: list[Row], folder: Path) -> Iterator[Done]:
        """Compute the features of rows and write them into the store; one answer a block."""
        size = min(BLOCK_ROWS, BLOCK_BYTES // (3 * self._job.recipe.image_size**2), -(-len(rows) // (4 * self.workers)))
        paths, hashes = [os.fsencode(row.path) for row in rows], [row.sha256 for row in rows]
        table = pyarrow.table({"path": paths, "sha256": hashes})
        blocks = [table.slice(at, size) for at in range(0, len(rows), max(size, 1))]
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one of ours
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        pixels = ray.data.from_arrow(blocks).map_batches(
            _decode,
            fn_kwargs={"job": self._job},
            batch_size=None,
            num_cpus=0,
            compute=ray.data.TaskPoolStrategy(size=self._decoders),
        )
        answers = pixels.map_batches(
            _Worker,
            fn_constructor_kwargs={"job": self._job, "cores": self._cores},
            batch_size=None,
            num_cpus=CLAIM * self._cores,
            num_gpus=self._gpus,
            compute=ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=2),
        )
        try:
            for answer in answers.iter_rows():
                if answer["error"]:
                    raise VggnbError(*json.loads(answer["error"]))
                unreadable = [tuple(pair) for pair in json.loads(answer["unreadable"])]
                yield answer["ended"], answer["forwarded"], unreadable
        except RayError as error:
            remedy = "Look at the machines' memory and at Ray's logs; what was finished is kept, run this again."
            raise VggnbError(f"A worker failed:\n{str(error)[-2000:]}", "the Ray cluster", remedy) from error


def _decode(batch: dict[str, np.ndarray], job: Job) -> dict[str, np.ndarray]:
    """A block of rows -> their pixels, and the reason for each file that has none."""
    dataset, size, resize = job.manifest.dataset, job.recipe.image_size, job.recipe.resize
    paths = [os.fsdecode(path) for path in batch["path"]]
    pixels, reasons, error = np.zeros((len(paths), size, size, 3), np.uint8), [""] * len(paths), ""

    def read(k: int) -> np.ndarray | str:
        return read_unchanged(dataset / paths[k], str(batch["sha256"][k]), size=size, resize=resize)

    try:
        check_there(dataset)
        for k, found in enumerate(read_ahead(read, range(len(paths)), workers=2)):
            if isinstance(found, str):
                reasons[k] = found
            else:
                pixels[k] = found
    except VggnbError as lost:  # the dataset or the storage is gone
        error = _carried(lost)
    return {**batch, "pixels": pixels, "reason": np.array(reasons), "error": np.array([error] * len(paths))}


def _carried(error: VggnbError) -> str:
    """An error as text: exceptions lose their attributes between machines."""
    return json.dumps([error.what, error.where, error.remedy])


class _Worker:
    """An actor: the network of a job, and its folder in the store."""

    def __init__(self, job: Job, cores: int):
        if cores and not threads():
            os.environ["VGGNB_THREADS"] = str(cores)  # TensorFlow is not imported yet
        self._network = job.network(job)
        self._folder = make_folder(job.store / self._network.key)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        error, good = str(batch["error"][0]), batch["reason"] == ""
        paths = [os.fsdecode(path) for path in batch["path"][~good]]
        unreadable = list(zip(paths, map(str, batch["reason"][~good]), strict=True))
        if good.any() and not error:
            pixels, step = batch["pixels"][good], self._network.batch
            values = [self._network(part) for part in np.split(pixels, range(step, len(pixels), step))]
            try:
                write_shard(self._folder, batch["sha256"][good].astype(str), np.concatenate(values))
            except VggnbError as full:
                error = _carried(full)
        answer = {"ended": time.time(), "forwarded": int(good.sum()), "unreadable": json.dumps(unreadable)}
        return {name: [value] for name, value in (answer | {"error": error}).items()}


def _connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine where no address is given."""
    try:
        host, _, port = (address or "").rpartition(":")
        if port.isdigit():  # Ray itself would wait for ever
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address or "local", **QUIET, **({} if address else {"include_dashboard": False}))
    except Exception as error:  # of another version: RuntimeError; of a machine that is too busy: just Exception
        words = " ".join(str(error).split())[:500]
        if not address:
            remedy = "Close other programs and try again, or leave --engine at local."
            raise VggnbError(f"Ray could not start on this machine ({words}).", "--engine ray", remedy) from error
        remedy = "Run 'ray start --head' on one machine and this on one of its machines, with --address HOST:PORT; all "
        remedy += "need the same Python and Ray. If that is so, try again."
        raise VggnbError(f"No Ray cluster answers ({words}).", address, remedy) from error


def pool(nodes: list[dict[str, float]], gpus: int | None) -> tuple[int, int, int]:
    """The number of actors, and the GPUs and the cores of each, by the resources of the nodes.

    An actor has the requested GPUs, or one where the cluster has any; else the cores of the smallest node, at most 8.
    """
    all_gpus, all_cores = ([int(node.get(kind, 0)) for node in nodes] for kind in ("GPU", "CPU"))
    gpus = min(max(all_gpus), 1) if gpus is None else gpus
    if not 0 <= gpus <= max(all_gpus):
        what = f"A worker cannot have {gpus} GPUs: no machine of the cluster has more than {max(all_gpus)}."
        raise VggnbError(what, f"--gpus-per-worker {gpus}", "With 0 the work is done on the CPUs.")
    if gpus:
        return sum(count // gpus for count in all_gpus), gpus, 0
    if not any(all_cores):
        raise VggnbError("The cluster has no usable CPU.", "the Ray cluster", "Start its nodes with --num-cpus.")
    cores = min(*filter(None, all_cores), MOST_CORES)
    return sum(count // cores for count in all_cores), 0, cores


def _check_machines(job: Job, nodes: list[dict], gpus: int) -> tuple[str, str]:
    """The network's key and precision; all machines must have the same versions, weights, store and dataset."""
    probe = job.store / f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
    look, answers = ray.remote(_look), []
    try:
        probe.touch()
        for node in nodes:
            works = node["Resources"].get("GPU" if gpus else "CPU", 0) >= max(gpus, 1)
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = look.options(num_cpus=0, num_gpus=gpus * works, scheduling_strategy=there)
            answers.append(task.remote(job if works else replace(job, network=None), probe, versions()))
        answers = ray.get(answers, timeout=300)
    except RayError as error:
        remedy = "Install vggnb on all machines: python -c 'import vggnb.features' must work on each."
        words = str(error).strip().splitlines()[-1]
        raise VggnbError(f"A machine cannot run vggnb ({words}).", "the Ray cluster", remedy) from error
    finally:
        probe.unlink(missing_ok=True)
    for error, _ in answers:
        if error:
            raise VggnbError(*json.loads(error))
    networks = {network for _, network in answers if network}
    if len(networks) > 1:
        what = f"The workers differ in weights or precision ({', '.join(sorted(name for _, name in networks))})."
        remedy = "Give all machines the same weights (--weights) and name a --precision, then run this again."
        raise VggnbError(what, "the Ray cluster", remedy)
    return networks.pop()


def _look(job: Job, probe: Path, ours: dict) -> tuple[str, tuple[str, str] | None]:
    """On one machine: what prevents its work, and the key and precision of its network."""
    dataset, theirs = job.manifest.dataset, versions()
    try:
        if differ := [f"{one} {theirs[one]} there, {ours[one]} here" for one in COMPARED if theirs[one] != ours[one]]:
            raise VggnbError(f"Versions differ: {'; '.join(differ)}.", "Python", "Install the same on all machines.")
        # A folder on which nothing is mounted is there, but empty.
        seen = {"store": probe.exists(), "dataset": dataset.is_dir() and any(dataset.iterdir())}
        for what, place in (("store", job.store), ("dataset", dataset)):
            if not seen[what]:
                remedy = "All machines must see it under the same path, for example on NFS."
                raise VggnbError(f"This machine does not see the {what}.", place, remedy)
        network = job.network and job.network(job)
        return "", network and (network.key, network.precision)
    except VggnbError as error:
        return _carried(VggnbError(error.what, f"{error.where} on machine {platform.node()}", error.remedy)), None
