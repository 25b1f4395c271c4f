"""The frozen part of the network is a pure function of the picture: run it once for each, keep the result.

The store is a folder of shards named by their own SHA-256. A shard is written whole or not at all, a damaged one is
noticed by its name and made again, and an image is looked up by the hash of its bytes, so a changed file is never
served stale and a second recipe with the same pixels costs no forward pass.
"""

import io
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm.auto import tqdm

from vggnb.census import Row
from vggnb.census.splits import Manifest
from vggnb.folders import shown
from vggnb.generators import readable_batches
from vggnb.images import DECODER_VERSION
from vggnb.model import build_extractor, compiled
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, make_folder, sha256_bytes, write_bytes
from vggnb.weights import WeightSource

BATCH = 32  # images a forward pass; measured: 8, 16 and 32 are equally fast on a CPU
SHARD_BATCHES = 8  # a kill loses at most this many batches


@dataclass(frozen=True)
class Features:
    """What the frozen part gives for some rows: values float32 (n, 2944), and labels int32 (n,), in the rows' order."""

    rows: tuple[Row, ...]
    values: np.ndarray
    images_forwarded: int
    from_store: int
    seconds: float
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> np.ndarray:
        """int32 (n,)."""
        return np.array([row.label for row in self.rows], np.int32)

    def of(self, split: str) -> "Features":
        """The part that belongs to one split."""
        keep = [index for index, row in enumerate(self.rows) if row.split == split]
        rows = tuple(self.rows[index] for index in keep)
        return Features(rows, self.values[keep], self.images_forwarded, self.from_store, self.seconds, self.unreadable)

    def __str__(self) -> str:
        n, width = self.values.shape
        text = f"{n} images x {width} features: "
        text += f"{self.images_forwarded} run through VGG-16, {self.from_store} from the store"
        return text + "".join(f"\n  left out: {shown(path)}: {reason}" for path, reason in self.unreadable)


def extract(
    manifest: Manifest,
    recipe: Recipe,
    base: keras.Model,
    source: WeightSource,
    *,
    store: Path,
    splits: Iterable[str] = ("train", "validation"),
    progress: bool = True,
) -> Features:
    """Features of the manifest's images, each run through the base once in its life.

    Args:
        store: folder of the feature store; made when absent.
        splits: which splits; the test split is left alone until `evaluate`.

    Raises:
        VggnbError: none of the images can be read, or the store cannot be written.
    """
    start = time.perf_counter()
    rows = tuple(row for split in splits for row in manifest.of(split))
    folder = make_folder(Path(store) / store_key(recipe, source))
    known = _read_shards(folder, {row.sha256 for row in rows})
    missing, tried, in_store = _missing(rows, known, ()), set(), len(known)
    unreadable: list[tuple[str, str]] = []
    with tqdm(total=len(rows), desc="VGG-16, once for each image", unit="image", disable=not progress) as bar:
        bar.update(len(rows) - len(missing))
        forwarded: list[tuple[list[str], np.ndarray]] = []
        while missing:
            for hashes, values in _forward(manifest, missing, recipe, base, unreadable):
                forwarded.append((hashes, values))
                known.update(zip(hashes, values, strict=True))
                bar.update(len(hashes))
                if len(forwarded) == SHARD_BATCHES:
                    _write_shard(folder, forwarded)
                    forwarded = []
            tried.update(row.path for row in missing)
            missing = _missing(rows, known, tried)  # a copy of a picture that could not be read
        if forwarded:
            _write_shard(folder, forwarded)
    kept = tuple(row for row in rows if row.sha256 in known)
    if not kept:
        raise VggnbError("None of the images can be read.", manifest.dataset, "Look at the census for the reasons.")
    values = np.stack([known[row.sha256] for row in kept])
    made, served = len(known) - in_store, {row.path for row in kept}
    left_out = tuple((path, reason) for path, reason in unreadable if path not in served)
    return Features(kept, values, made, len(kept) - made, time.perf_counter() - start, left_out)


def _missing(rows: Iterable[Row], known: Container[str], tried: Container[str]) -> list[Row]:
    """One row for each picture that has no features yet: of its copies, the first that was not tried."""
    firsts: dict[str, Row] = {}
    for row in rows:
        if row.sha256 not in known and row.path not in tried:
            firsts.setdefault(row.sha256, row)
    return list(firsts.values())


def store_key(recipe: Recipe, source: WeightSource) -> str:
    """Name of the folder for everything, besides the image's bytes, that the features depend on."""
    parts = (DECODER_VERSION, recipe.image_size, recipe.resize, recipe.preprocessing, source.sha256, "pools", "float32")
    return sha256_bytes(repr(parts).encode())[:16]


def _forward(
    manifest: Manifest, rows: list[Row], recipe: Recipe, base: keras.Model, unreadable: list
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Hashes and features, a batch at a time."""
    if not rows:
        return
    run = compiled(build_extractor(base, recipe))
    for batch, pixels in readable_batches(manifest, rows, recipe, batch=BATCH, unreadable=unreadable):
        yield [row.sha256 for row in batch], run(pixels)


def _write_shard(folder: Path, batches: list[tuple[list[str], np.ndarray]]) -> None:
    """Write one shard under the SHA-256 of its bytes."""
    buffer = io.BytesIO()
    hashes = np.array([name for names, _ in batches for name in names])
    np.savez(buffer, hashes=hashes, values=np.concatenate([values for _, values in batches]))
    data = buffer.getvalue()
    write_bytes(folder / f"{sha256_bytes(data)}.npz", data)


def _read_shards(folder: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """Stored features of the wanted images; shards that are damaged are removed, their images are made again."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("[0-9a-f]*.npz")):
        data = path.read_bytes()
        if sha256_bytes(data) != path.stem:
            print(f"A stored feature file was damaged ({path.name[:12]}...); its images are run again.")
            path.unlink(missing_ok=True)
            continue
        with np.load(io.BytesIO(data), allow_pickle=False) as shard:
            values = shard["values"]
            found.update((name, values[i]) for i, name in enumerate(shard["hashes"].tolist()) if name in wanted)
    return found
