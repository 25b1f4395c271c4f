"""The engine for the machines of a Ray cluster: Ray Data schedules, limits, retries and moves the pixels.

Rows become blocks; decoding a block is a task, and an actor for each GPU or group of cores runs the network on it and
writes the shard itself. Shards are named by their content, so a block that is tried again does no harm.
"""

import json
import logging
import os
import platform
import secrets
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import numpy as np

from vggnb.census import Row
from vggnb.census.manifest import check_there
from vggnb.features.extraction import Done, Job
from vggnb.features.store import write_shard
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


class RayEngine:
    """A pool of actors on a cluster; see `extraction.LocalEngine`.

    Attributes:
        workers: actors.
    """

    def __init__(self, job: Job, *, address: str | None = None, gpus_per_worker: int | None = None):
        self._job, self._ours = job, not ray.is_initialized()
        if self._ours:
            _connect(address)
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            self._gpus = _gpus_each(nodes, gpus_per_worker)
            self._cores = 0 if self._gpus else _cores_each(nodes)
            self.workers = sum(_workers_on(node, self._gpus, self._cores) for node in nodes)
            self._decoders = int(sum(node["Resources"].get("CPU", 0) for node in nodes)) or 1
            self.key, self.precision = _check_machines(job, nodes, self._gpus)
        except BaseException:
            self.__exit__()
            raise

    def run(self, rows: list[Row], folder: Path) -> Iterator[Done]:
        """Compute the features of rows and write them into the store; one answer a block."""
        size = min(BLOCK_ROWS, BLOCK_BYTES // (3 * self._job.recipe.image_size**2), -(-len(rows) // (4 * self.workers)))
        columns = {"path": [os.fsencode(row.path) for row in rows], "sha256": [row.sha256 for row in rows]}
        table = pyarrow.table(columns)
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
            fn_constructor_kwargs={"job": self._job, "cores": None if self._gpus else self._cores},
            batch_size=None,
            num_cpus=0 if self._gpus else CLAIM * self._cores,
            num_gpus=self._gpus,
            compute=ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=2),
        )
        try:
            for answer in answers.iter_rows():
                if answer["error"]:
                    raise VggnbError(*json.loads(answer["error"]))
                yield answer["forwarded"], [tuple(pair) for pair in json.loads(answer["unreadable"])]
        except RayError as error:
            remedy = "Look at the machines' memory and at Ray's logs; what was finished is kept, run this again."
            raise VggnbError(f"A worker failed:\n{str(error)[-2000:]}", "the Ray cluster", remedy) from error

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_) -> None:
        if self._ours:
            ray.shutdown()


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

    def __init__(self, job: Job, cores: int | None):
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
                write_shard(self._folder, list(map(str, batch["sha256"][good])), np.concatenate(values))
            except VggnbError as full:
                error = _carried(full)
        return {"forwarded": [int(good.sum())], "unreadable": [json.dumps(unreadable)], "error": [error]}


def _connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine where no address is given."""
    where = address or "this machine"
    try:
        host, _, port = (address or "").rpartition(":")
        if port.isdigit():  # Ray itself would wait for ever
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address or "local", **QUIET, **({} if address else {"include_dashboard": False}))
    except (ConnectionError, OSError, ValueError) as error:
        remedy = "Start one with 'ray start --head' and run this on one of its machines; --address is its host:port."
        raise VggnbError(f"No Ray cluster answers ({str(error).strip().splitlines()[0]}).", where, remedy) from error
    except Exception as error:  # of another version: RuntimeError; of a machine that is too busy: just Exception
        remedy = "Install the same Python and the same Ray on all machines; if they are the same, try again."
        raise VggnbError(f"Ray refused: {' '.join(str(error).split())[:500]}", where, remedy) from error


def _gpus_each(nodes: list[dict], requested: int | None) -> int:
    """How many GPUs an actor gets; one, where the cluster has any and nothing else is requested."""
    most = int(max(node["Resources"].get("GPU", 0) for node in nodes))
    each = min(most, 1) if requested is None else requested
    if not 0 <= each <= most:
        what = f"A worker cannot have {each} GPUs: no machine of the cluster has more than {most}."
        raise VggnbError(what, f"--gpus-per-worker {each}", "With 0 the work is done on the CPUs.")
    return each


def _cores_each(nodes: list[dict]) -> int:
    """The cores of an actor that has no GPU: those of the smallest node, MOST_CORES at most."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in nodes]
    if not any(cores):
        raise VggnbError("The cluster has no usable CPU.", "the Ray cluster", "Start its nodes with --num-cpus.")
    return min(min(n for n in cores if n), MOST_CORES)


def _workers_on(node: dict, gpus: int, cores: int = 1) -> int:
    """How many actors a node has room for."""
    return int(node["Resources"].get("GPU", 0) // gpus if gpus else node["Resources"].get("CPU", 0) // cores)


def _check_machines(job: Job, nodes: list[dict], gpus: int) -> tuple[str, str]:
    """The network's key and precision; all machines must have the same versions, weights, store and dataset."""
    probe = job.store / f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
    look, here, answers = ray.remote(_look), versions(), []
    try:
        probe.touch()
        for node in nodes:
            there, works = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False), _workers_on(node, gpus) > 0
            options = {"num_cpus": 0, "num_gpus": gpus * works, "scheduling_strategy": there}
            answers.append(look.options(**options).remote(job if works else replace(job, network=None), probe))
        answers = ray.get(answers, timeout=300)
    except RayError as error:
        remedy = "Install vggnb on all machines: python -c 'import vggnb.features' must work on each."
        words = str(error).strip().splitlines()[-1]
        raise VggnbError(f"A machine cannot run vggnb ({words}).", "the Ray cluster", remedy) from error
    finally:
        probe.unlink(missing_ok=True)
    for answer in answers:
        host, theirs = f"machine {answer['host']}", answer["versions"]
        if answer["error"]:
            raise VggnbError(*json.loads(answer["error"]))
        if differ := [f"{one} {theirs[one]} there, {here[one]} here" for one in COMPARED if theirs[one] != here[one]]:
            raise VggnbError(f"Versions differ: {'; '.join(differ)}.", host, "Install the same on all machines.")
        for what, place in (("store", job.store), ("dataset", job.manifest.dataset)):
            if not answer[what]:
                remedy = "All machines must see it under the same path, for example on NFS."
                raise VggnbError(f"This machine does not see the {what}.", f"{place} on {host}", remedy)
    networks = [answer["network"] for answer in answers if answer["network"]]
    if len(set(networks)) > 1:
        what = f"The workers differ in weights or precision ({', '.join(sorted({name for _, name in networks}))})."
        remedy = "Give all machines the same weights (--weights) and name a --precision, then run this again."
        raise VggnbError(what, "the Ray cluster", remedy)
    return networks[0]


def _look(job: Job, probe: Path) -> dict:
    """What must agree on all machines."""
    dataset, found = job.manifest.dataset, {"versions": versions(), "host": platform.node()}
    # A folder on which nothing is mounted is there, but empty.
    found |= {"store": probe.exists(), "dataset": dataset.is_dir() and any(dataset.iterdir())}
    found |= {"network": None, "error": None}
    try:
        if job.network:
            network = job.network(job)
            found["network"] = network.key, network.precision
    except VggnbError as error:
        found["error"] = _carried(VggnbError(error.what, f"{error.where} on {platform.node()}", error.remedy))
    return found
