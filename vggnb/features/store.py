"""The feature store: a folder for each kind of features, with shards in it that are looked up by the image's hash.

A shard is one .npy file of records (image hash, values), named by the SHA-256 of its bytes: written whole or not at
all, and a damaged one no longer matches its name. Any number of processes may add shards at the same time.
"""

import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vggnb.storage import make_folder, read_json, sha256_bytes, storage_errors, write_bytes, write_json

INDEX = "index.json"  # beside shards that are kept elsewhere: {shard: [image hashes]}; written last
KEPT_IMAGES = 20_000  # most of them in one shard that is kept elsewhere: 240 MB of pools


def write_shard(folder: Path, hashes: Sequence[str], values: np.ndarray) -> Path:
    """Write one shard, whole or not at all; a row of `values` for each SHA-256 (hex) of an image's file."""
    records = np.empty(len(hashes), [("image", "S64"), ("values", values.dtype, values.shape[1:])])
    records["image"], records["values"] = hashes, values
    buffer = io.BytesIO()
    np.save(buffer, records, allow_pickle=False)
    path = Path(folder) / f"{sha256_bytes(buffer.getvalue())}.npy"
    write_bytes(path, buffer.getvalue())
    return path


def open_shard(path: Path) -> np.ndarray:
    """A memory map of a shard, (n,) of ("image", "values")."""
    with storage_errors(path):
        return np.lib.format.open_memmap(path, mode="r")


class Stored:
    """The wanted images of a folder of shards.

    Attributes:
        places: of each image found, its shard and its record there.
    """

    def __init__(self, folder: Path, wanted: set[str]):
        self.folder, self.wanted = Path(folder), wanted
        self.places: dict[str, tuple[Path, int]] = {}
        self._shards: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that are new; damaged ones are removed with a message."""
        for path in sorted({*self.folder.glob("[!.]*.npy")} - self._shards):
            with storage_errors(path):
                if sha256_bytes(path.read_bytes()) != path.stem:
                    print(f"Damaged feature file {path.name[:12]}...: its features will be computed again.")
                    path.unlink(missing_ok=True)
                    continue
            for record, name in enumerate(open_shard(path)["image"].tolist()):
                if (name := name.decode()) in self.wanted:
                    self.places[name] = path, record
            self._shards.add(path)

    def values(self, hashes: Sequence[str]) -> np.ndarray:
        """The features of images, float32 (n, d), in this order."""
        by_shard: dict[Path, list[int]] = defaultdict(list)
        for row, name in enumerate(hashes):
            by_shard[self.places[name][0]].append(row)
        found: list = [None] * len(hashes)
        for path, rows in by_shard.items():  # one after the other: a process may open only some hundred files
            shard = open_shard(path)["values"]
            for row in rows:
                found[row] = np.array(shard[self.places[hashes[row]][1]], np.float32)
        return np.array(found, np.float32)


def _kept(elsewhere: Path) -> dict[str, list[str]]:
    """The image hashes of each shard that `keep` has finished."""
    index = elsewhere / INDEX
    found = read_json(index, "Remove this file: the features are computed again.") if index.is_file() else {}
    return {name: hashes for name, hashes in found.items() if (elsewhere / name).is_file()}


def keep(stored: Stored, elsewhere: Path) -> None:
    """Copy to a slow persistent disk (Drive) what it lacks, as few large shards; the index is written last."""
    index = _kept(elsewhere)
    known = {name for hashes in index.values() for name in hashes}
    new = [name for name in stored.places if name not in known]
    for at in range(0, len(new), KEPT_IMAGES):
        part = new[at : at + KEPT_IMAGES]
        index[write_shard(make_folder(elsewhere), part, stored.values(part)).name] = part
        write_json(elsewhere / INDEX, index)


def restore(folder: Path, elsewhere: Path) -> None:
    """Copy into the folder the shards that `keep` stored elsewhere and that the folder lacks."""
    for name in _kept(elsewhere):
        if not (folder / name).is_file():
            with storage_errors(elsewhere / name):
                data = (elsewhere / name).read_bytes()
                if sha256_bytes(data) != Path(name).stem:  # damaged: `keep` will write it again
                    (elsewhere / name).unlink()
                    continue
            write_bytes(folder / name, data)
