"""The frozen part of the network is a pure function of the picture: run it once for each, keep the result.

The store is a folder of shards (see `shards`). An image is looked up by the hash of its bytes, so a changed file is
never served stale and a second recipe with the same pixels costs no forward pass.
"""

import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm.auto import tqdm

from vggnb.census import Manifest, Row
from vggnb.folders import shown
from vggnb.generators import readable_batches, turned
from vggnb.images import DECODER_VERSION
from vggnb.model import POOLS, build_extractor, compiled
from vggnb.recipe import Recipe
from vggnb.shards import Shard, StoredRows, find_rows, write_shard
from vggnb.storage import VggnbError, make_folder, sha256_bytes
from vggnb.weights import WeightSource

BATCH = 32  # images a forward pass; measured: 8, 16 and 32 are equally fast on a CPU
SHARD_BATCHES = 8  # a kill loses at most this many batches
SHARD_BYTES = 32_000_000  # and a shard of large activations is closed before it holds so many
# Kept in float32 (12 KB of pools an image; 400 KB of activations before block5_conv1 at 224 pixels): in float16 no
# decision changed on 660 real images, but probabilities moved by up to 2.5e-4, and a step of fine-tuning was another.


@dataclass(frozen=True)
class Features:
    """What the frozen part gives for some rows, in their order: values float32 (n, ...) and labels int32 (n,).

    Attributes:
        values: (n, 2944) of pools, in memory; or (n, h, w, channels) of another cut, on disk until it is indexed.
    """

    rows: tuple[Row, ...]
    values: np.ndarray | StoredRows
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
        values = self.values.rows(keep) if isinstance(self.values, StoredRows) else self.values[keep]
        return Features(rows, values, self.images_forwarded, self.from_store, self.seconds, self.unreadable)

    def __str__(self) -> str:
        n, *shape = self.values.shape
        text = f"{n} images x {' x '.join(map(str, shape))} features: {self.images_forwarded} run through VGG-16, "
        text += f"{self.from_store} from the store"
        return text + "".join(f"\n  left out: {shown(path)}: {reason}" for path, reason in self.unreadable)


def extract(
    manifest: Manifest,
    recipe: Recipe,
    base: keras.Model,
    source: WeightSource,
    *,
    store: Path,
    splits: Iterable[str] = ("train", "validation"),
    cut: str = POOLS,
    view: int = 0,
    progress: bool = True,
) -> Features:
    """Features of the manifest's images, each run through the base once in its life.

    Args:
        store: folder of the feature store; made when absent.
        splits: which splits; the test split is left alone until `evaluate`.
        cut: "pools", or the layer before which to stop; see `model.build_extractor`.
        view: 0 for the picture as it is, 1 to 7 for its turns and mirror images; see `generators.turned`.

    Raises:
        VggnbError: none of the images can be read, or the store cannot be written.
    """
    start = time.perf_counter()
    rows = tuple(row for split in splits for row in manifest.of(split))
    folder = make_folder(Path(store) / store_key(recipe, source, cut=cut, view=view))
    shards, known = find_rows(folder, {row.sha256 for row in rows})
    missing, tried, in_store = _missing(rows, known, ()), set(), len(known)
    unreadable: list[tuple[str, str]] = []
    with tqdm(total=len(rows), desc=_doing(cut), unit="image", disable=not progress) as bar:
        bar.update(len(rows) - len(missing))
        run = compiled(build_extractor(base, recipe, cut=cut)) if missing else None
        while missing:
            forwarded = _forward(manifest, missing, recipe, run, view, unreadable, bar)
            for hashes, shard in write_shards(folder, forwarded):
                known.update((name, (len(shards), k)) for k, name in enumerate(hashes))
                shards.append(shard)
            tried.update(row.path for row in missing)
            missing = _missing(rows, known, tried)  # a copy of a picture that could not be read
    kept = tuple(row for row in rows if row.sha256 in known)
    if not kept:
        raise VggnbError("None of the images can be read.", manifest.dataset, "Look at the census for the reasons.")
    # What the disk holds, even right after it was computed: the first run and the second see the same numbers.
    values = StoredRows(shards, [known[row.sha256] for row in kept])
    made, served = len(known) - in_store, {row.path for row in kept}
    left_out = tuple((path, reason) for path, reason in unreadable if path not in served)
    seconds = time.perf_counter() - start
    return Features(kept, values[:] if cut == POOLS else values, made, len(kept) - made, seconds, left_out)


def _doing(cut: str) -> str:
    return "VGG-16, once for each image" if cut == POOLS else f"VGG-16 up to {cut}"


def _missing(rows: Iterable[Row], known: Container[str], tried: Container[str]) -> list[Row]:
    """One row for each picture that has no features yet: of its copies, the first that was not tried."""
    firsts: dict[str, Row] = {}
    for row in rows:
        if row.sha256 not in known and row.path not in tried:
            firsts.setdefault(row.sha256, row)
    return list(firsts.values())


def store_key(recipe: Recipe, source: WeightSource, *, cut: str = POOLS, view: int = 0) -> str:
    """Name of the folder for everything, besides the image's bytes, that the features depend on."""
    pixels = (DECODER_VERSION, recipe.image_size, recipe.resize, recipe.preprocessing, view)
    parts = (*pixels, source.sha256, cut, "float32")
    return sha256_bytes(repr(parts).encode())[:16]


def _forward(
    manifest: Manifest, rows: list[Row], recipe: Recipe, run, view: int, unreadable: list, bar: tqdm
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Hashes and features, a batch at a time."""
    for batch, pixels in readable_batches(manifest, rows, recipe, batch=BATCH, unreadable=unreadable):
        yield [row.sha256 for row in batch], run(turned(pixels, view))
        bar.update(len(batch))


def write_shards(folder: Path, batches: Iterable[tuple[list[str], np.ndarray]]) -> Iterator[tuple[list[str], Shard]]:
    """Write hashes and features, given a batch at a time, as shards of `folder`; each as soon as it is full."""
    for hashes, values in _gathered(batches):
        yield hashes, write_shard(folder, hashes, values)


def _gathered(batches: Iterable[tuple[list[str], np.ndarray]]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batches joined to shards."""
    hashes: list[str] = []
    parts: list[np.ndarray] = []
    for names, values in batches:
        hashes += names
        parts.append(values)
        if len(parts) == SHARD_BATCHES or sum(part.nbytes for part in parts) >= SHARD_BYTES:
            yield hashes, np.concatenate(parts)
            hashes, parts = [], []
    if parts:
        yield hashes, np.concatenate(parts)
