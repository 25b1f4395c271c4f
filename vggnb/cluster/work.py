"""What a worker does with a unit: read and decode, run the network, write whole shards. Without TensorFlow.

Whatever a user can mend is handed back as words, not raised: between machines an exception loses what it says.
"""

import contextlib
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vggnb.census import Row
from vggnb.census.manifest import check_there
from vggnb.images import read_unchanged
from vggnb.paths import versions
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError

MAKERS = ("python", "vggnb", "pillow", "tensorflow", "keras")  # what pixels and features depend on
DECODERS = 2  # threads that decode one unit


class Network(Protocol):
    """The frozen part: `key` names its folder in the store, and is the same exactly where weights and pixels are."""

    key: str

    def forward(self, folder: Path, hashes: Sequence[str], pixels: np.ndarray) -> list[str]:
        """Run uint8 (n, size, size, 3) through the network, write shards, and give their files' names."""


@dataclass(frozen=True)
class Job:
    """What every worker must know.

    Attributes:
        network: makes the network; called once in each worker.
        threads: for the network; None leaves it to the worker's machine.
    """

    dataset: Path
    recipe: Recipe
    weights: str
    network: Callable[["Job"], Network]
    threads: int | None = None
    cut: str = "pools"
    view: int = 0


@dataclass(frozen=True)
class Pixels:
    """A decoded unit: pixels uint8 (n, size, size, 3) of the rows that could be read, and (path, hash, reason)."""

    hashes: tuple[str, ...]
    values: np.ndarray
    unreadable: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Answer:
    """What became of a unit, or the words of the error that ended it."""

    forwarded: int = 0
    shards: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str, str], ...] = ()
    error: tuple[str, str, str] | None = None


def decode(job: Job, rows: Sequence[Row]) -> Pixels | Answer:
    """Read and decode a unit; an answer only where the dataset or the storage itself is gone."""

    def read(row: Row) -> np.ndarray | str:
        path = job.dataset / row.path
        return read_unchanged(path, row.sha256, size=job.recipe.image_size, resize=job.recipe.resize)

    try:
        check_there(job.dataset)
        with ThreadPoolExecutor(DECODERS) as pool:
            found = list(zip(rows, pool.map(read, rows), strict=True))
    except VggnbError as error:
        return Answer(error=words(error))
    good = [(row.sha256, answer) for row, answer in found if not isinstance(answer, str)]
    unreadable = tuple((row.path, row.sha256, answer) for row, answer in found if isinstance(answer, str))
    values = np.stack([pixels for _, pixels in good]) if good else np.empty((0, 0, 0, 3), np.uint8)
    return Pixels(tuple(sha256 for sha256, _ in good), values, unreadable)


class Worker:
    """One network, and the units that it is given."""

    def __init__(self, job: Job, threads: int | None = None):
        self._error, self._network = None, None
        if threads := job.threads or threads:
            os.environ["VGGNB_THREADS"] = str(threads)  # TensorFlow is not imported yet
        try:
            self._network = job.network(job)
        except VggnbError as error:
            self._error = words(error)

    def key(self) -> str | tuple[str, str, str]:
        """The network's, or why there is none."""
        return self._error or self._network.key

    def forward(self, folder: Path, pixels: Pixels | Answer) -> Answer:
        """Write the features of a decoded unit."""
        if isinstance(pixels, Answer):
            return pixels
        try:
            shards = self._network.forward(folder, pixels.hashes, pixels.values) if pixels.hashes else ()
        except VggnbError as error:
            return Answer(error=words(error))
        return Answer(len(pixels.hashes), tuple(shards), pixels.unreadable)


def words(error: VggnbError) -> tuple[str, str, str]:
    """The parts of an error, to be raised again elsewhere."""
    return error.what, error.where, error.remedy


def who_am_i(probe: Path, secret: str, dataset: Path) -> dict:
    """What must agree on all machines: versions, and whether this one sees the pictures and a file in the store."""
    import ray

    store = pictures = False
    with contextlib.suppress(OSError):
        store = probe.read_text() == secret
    with contextlib.suppress(OSError), os.scandir(dataset) as listing:
        pictures = any(listing)
    installed = versions()
    found = {"ray": ray.__version__, **{name: installed[name] for name in MAKERS}}
    return {"versions": found, "store": store, "dataset": pictures, "host": platform.node()}
