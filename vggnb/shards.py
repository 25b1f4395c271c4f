"""Arrays on disk that are whole or absent, and are read only where they are asked for.

A shard is one .npy file of records (image hash, values), named by the SHA-256 of its bytes: written whole or not at
all, and what was damaged since no longer fits its name. Rows are read through memory maps, so the system keeps in
memory what fits and no more.
"""

import contextlib
import io
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggnb.storage import TEMPORARY_PREFIX, VggnbError, sha256_bytes, sha256_file, storage_errors, write_bytes

Place = tuple[int, int]  # which shard, which of its records


@dataclass(frozen=True)
class Shard:
    """One file: where it is, and the form of its records."""

    path: Path
    dtype: np.dtype
    offset: int
    count: int

    def records(self) -> np.ndarray:
        """A fresh memory map, (count,) of ("image", "values"); its pages are given back when it is dropped."""
        if not self.count:
            return np.zeros(0, self.dtype)
        with storage_errors(self.path):
            return np.memmap(self.path, self.dtype, "r", self.offset, (self.count,))

    def images(self) -> list[str]:
        """The hash of each record's image, hex."""
        return [name.decode() for name in self.records()["image"].tolist()]


class StoredRows:
    """Rows of shards that look like one float32 array (n, ...): indexing its first axis reads those rows from disk."""

    dtype = np.dtype(np.float32)

    def __init__(self, shards: Sequence[Shard], places: Sequence[Place] | np.ndarray):
        self.shards, self.places = tuple(shards), np.asarray(places, np.int64).reshape(-1, 2)
        self.shape = (len(self.places), *(shards[0].dtype["values"].shape if shards else (0,)))

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, keep) -> "StoredRows":
        """Some of the rows, still on disk."""
        return StoredRows(self.shards, self.places[keep])

    def __getitem__(self, keep) -> np.ndarray:
        places = self.places[keep]
        single, places = places.ndim == 1, places.reshape(-1, 2)
        values = np.empty((len(places), *self.shape[1:]), self.dtype)
        for number in np.unique(places[:, 0]):
            here = places[:, 0] == number
            values[here] = self.shards[number].records()["values"][places[here, 1]]
        return values[0] if single else values

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


def write_shard(folder: Path, hashes: Sequence[str], values: np.ndarray) -> Shard:
    """Write one shard, whole or not at all.

    Args:
        hashes: of the images, hex, one a row of `values`.
    """
    records = np.empty(len(hashes), [("image", "S64"), ("values", values.dtype, values.shape[1:])])
    records["image"], records["values"] = hashes, values
    buffer = io.BytesIO()
    np.save(buffer, records, allow_pickle=False)
    data = buffer.getvalue()
    path = Path(folder) / f"{sha256_bytes(data)}.npy"
    write_bytes(path, data)
    return _opened(path)


def find_rows(folder: Path, wanted: set[str]) -> tuple[list[Shard], dict[str, Place]]:
    """The shards of a folder, and where each of the wanted images is; damaged shards are removed, and that is said."""
    shards: list[Shard] = []
    found: dict[str, Place] = {}
    for shard in whole_shards(folder):
        found.update((name, (len(shards), row)) for row, name in enumerate(shard.images()) if name in wanted)
        shards.append(shard)
    return shards, found


def whole_shards(folder: Path, *, but: Container[str] = ()) -> Iterator[Shard]:
    """The shards of a folder `but` those of these names, one by one; damaged ones are removed, and that is said."""
    _sweep(folder)
    for path in sorted(Path(folder).glob("[!.]*.npy")):
        if path.name in but:
            continue
        with storage_errors(path):
            if sha256_file(path) != path.stem:
                print(f"A stored feature file was damaged ({path.name[:12]}...); its images are run again.")
                path.unlink(missing_ok=True)
                continue
        yield _opened(path)


def _sweep(folder: Path) -> None:
    """Remove what a killed process was writing; a file of the last hour may belong to one that still writes."""
    for path in Path(folder).glob(f"{TEMPORARY_PREFIX}*.npy"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def _opened(path: Path) -> Shard:
    """A shard whose bytes are known to be right."""
    with storage_errors(path), open(path, "rb") as file:
        try:
            np.lib.format.read_magic(file)
            (count,), _, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise VggnbError(f"Not a feature file: {error}.", path, "Move it away, then run this again.") from error
        return Shard(path, dtype, file.tell(), count)
