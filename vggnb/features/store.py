"""The feature store: a folder for each kind of features, with shards in it that are looked up by the image's hash.

A shard is one .npy file of records (image hash, values), named by the SHA-256 of its bytes: written whole or not at
all, and a damaged one no longer matches its name. Any number of processes may add shards at the same time. Rows are
read through memory maps.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vggnb.storage import VggnbError, make_folder, read_json, sha256_bytes, storage_errors, write_bytes, write_json

INDEX = "index.json"  # beside shards that are kept elsewhere: {shard: [image hashes]}; written last
KEPT_IMAGES = 20_000  # most of them in one shard that is kept elsewhere: 240 MB of pools

Place = tuple[int, int]  # which shard, which of its records


def write_shard(folder: Path, hashes: Sequence[str], values: np.ndarray) -> Path:
    """Write one shard, whole or not at all.

    Args:
        hashes: SHA-256 of each image's file, hex, in the order of the rows of `values`.
    """
    records = np.empty(len(hashes), [("image", "S64"), ("values", values.dtype, values.shape[1:])])
    records["image"], records["values"] = hashes, values
    buffer = io.BytesIO()
    np.save(buffer, records, allow_pickle=False)
    data = buffer.getvalue()
    path = Path(folder) / f"{sha256_bytes(data)}.npy"
    write_bytes(path, data)
    return path


def open_shard(path: Path) -> np.ndarray:
    """A fresh memory map of a shard, (n,) of ("image", "values"); its pages are given back when it is dropped.

    Raises:
        VggnbError: the file is not a shard.
    """
    with storage_errors(path):
        try:
            records = np.lib.format.open_memmap(path, mode="r")
            if records.dtype.names != ("image", "values"):
                raise ValueError("other columns")
        except ValueError as error:
            raise VggnbError(f"Not a feature file: {error}.", path, "Move it away, then run this again.") from error
    return records


class StoredRows:
    """Rows of shards as one float32 array (n, ...): indexing its first axis reads those rows from disk."""

    dtype = np.dtype(np.float32)

    def __init__(self, shards: Sequence[Path], places: Sequence[Place] | np.ndarray, shape: tuple[int, ...]):
        self.shards, self.places = tuple(shards), np.asarray(places, np.int64).reshape(-1, 2)
        self.shape = (len(self.places), *shape)

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, keep) -> "StoredRows":
        """Some of the rows, still on disk."""
        return StoredRows(self.shards, self.places[keep], self.shape[1:])

    def __getitem__(self, keep) -> np.ndarray:
        places = self.places[keep]
        single, places = places.ndim == 1, places.reshape(-1, 2)
        values = np.empty((len(places), *self.shape[1:]), self.dtype)
        for number in np.unique(places[:, 0]):
            here = places[:, 0] == number
            values[here] = open_shard(self.shards[number])["values"][places[here, 1]]
        return values[0] if single else values

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


class Stored:
    """The wanted images of a folder of shards.

    Attributes:
        places: of each image found, its shard and its record there.
    """

    def __init__(self, folder: Path, wanted: set[str]):
        self.folder, self.places, self._wanted = Path(folder), {}, wanted
        self._shards: list[Path] = []
        self._shape: tuple[int, ...] = (0,)

    def refresh(self) -> None:
        """Take up the shards that were not there before; damaged ones are removed with a message."""
        for path in sorted({*self.folder.glob("[!.]*.npy")}.difference(self._shards)):
            with storage_errors(path):
                if sha256_bytes(path.read_bytes()) != path.stem:
                    print(f"A stored feature file was damaged ({path.name[:12]}...); its features are computed again.")
                    path.unlink(missing_ok=True)
                    continue
            records = open_shard(path)
            self._shape = records.dtype["values"].shape
            for row, name in enumerate(records["image"].tolist()):
                if (name := name.decode()) in self._wanted:
                    self.places[name] = len(self._shards), row
            self._shards.append(path)

    def rows(self, hashes: Iterable[str]) -> StoredRows:
        """The features of images, in this order, still on disk."""
        return StoredRows(self._shards, [self.places[name] for name in hashes], self._shape)


def kept(elsewhere: Path) -> dict[str, list[str]]:
    """The image hashes of each shard that `keep` has finished."""
    index = Path(elsewhere) / INDEX
    found = read_json(index, "Remove this file: the features are computed again.") if index.is_file() else {}
    return {name: hashes for name, hashes in found.items() if (Path(elsewhere) / name).is_file()}


def keep(folder: Path, elsewhere: Path) -> None:
    """Bring what a folder of shards holds to a slow disk that stays (Drive), as few large shards; its index comes last.

    Raises:
        VggnbError: the disk is full or gone; what was kept before is untouched.
    """
    index = kept(elsewhere)
    known, hashes, parts = {name for names in index.values() for name in names}, [], []

    def write() -> None:
        if hashes:
            index[write_shard(make_folder(elsewhere), hashes, np.concatenate(parts)).name] = list(hashes)
            write_json(elsewhere / INDEX, index)
            hashes.clear(), parts.clear()

    for path in sorted(Path(folder).glob("[!.]*.npy")):
        records = open_shard(path)
        names = [name.decode() for name in records["image"].tolist()]
        if rows := [row for row, name in enumerate(names) if name not in known]:
            hashes += [names[row] for row in rows]
            parts.append(records["values"][rows])
            known.update(names)
        if len(hashes) >= KEPT_IMAGES:
            write()
    write()


def restore(folder: Path, elsewhere: Path) -> None:
    """Copy the shards that `keep` brought elsewhere, and that the folder lacks, into it."""
    for name in kept(elsewhere):
        if not (Path(folder) / name).is_file():
            with storage_errors(elsewhere / name):
                data = (elsewhere / name).read_bytes()
            write_bytes(Path(folder) / name, data)
