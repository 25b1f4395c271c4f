"""The frozen part of the network is a pure function of an image: run it once for each image and keep the result.

An image is looked up by the hash of its file's bytes, so a changed file never gets old features, a second recipe with
the same pixels costs no forward pass, and an extraction that was stopped computes only what is missing.

- here: `extract` and `fill_store`, the one loop that computes what the store lacks; the local engine
- `store`: the files that hold the results
- `ray_engine`: the same work on the machines of a Ray cluster
- `rehearsal`: a cluster of two nodes on this machine, and a worker that dies, to try it
"""

import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vggnb import colab
from vggnb.census import Manifest, Row
from vggnb.features.store import Stored, keep, restore, write_shard
from vggnb.folders import counted, shown
from vggnb.images import DECODER_VERSION
from vggnb.machine import device_words, environment, tqdm
from vggnb.paths import kept_on_drive
from vggnb.recipe import Recipe
from vggnb.staging import check_apart
from vggnb.storage import VggnbError, make_folder, sha256_bytes

if TYPE_CHECKING:  # TensorFlow is imported only by the processes that run the network
    import keras

    from vggnb.weights import WeightSource

BAR = "VGG-16, once for each image"
LONG_S = 60  # seconds; what takes longer is announced
SHARD_BATCHES = 8  # a kill loses at most this many batches
# Features are kept in float32, 12 KB an image: in float16 no decision changed on 660 real images, but probabilities
# moved by up to 2.5e-4.

# When (seconds since 1970), how many more images had features; (path, reason) of files that have none.
Done = tuple[float, int, list[tuple[str, str]]]


@dataclass(frozen=True)
class Job:
    """What a process needs to compute features.

    Attributes:
        network: makes what is used like a `VGG16`, once in each process.
    """

    manifest: Manifest
    recipe: Recipe
    weights: str
    store: Path
    precision: str
    network: Callable[["Job"], "VGG16"]


@dataclass(frozen=True)
class Features:
    """What the frozen part gives for some rows, in their order: values float32 (n, 2944) and labels int32 (n,).

    Attributes:
        images_forwarded: images, different in their bytes, that were run through the network.
        images_per_s: of these, without starting and compiling; 0 where there were none.
    """

    rows: tuple[Row, ...]
    values: np.ndarray
    images_forwarded: int
    from_store: int
    seconds: float
    unreadable: tuple[tuple[str, str], ...] = ()
    workers: int = 1
    images_per_s: float = 0.0
    precision: str = "float32"

    @property
    def labels(self) -> np.ndarray:
        """int32 (n,)."""
        return np.array([row.label for row in self.rows], np.int32)

    def of(self, split: str) -> "Features":
        """The part that belongs to one split."""
        keep = [index for index, row in enumerate(self.rows) if row.split == split]
        return replace(self, rows=tuple(self.rows[index] for index in keep), values=self.values[keep])

    def to_dict(self) -> dict:
        """Plain values for JSON, without the features."""
        names = ("images_forwarded", "from_store", "workers", "images_per_s", "precision", "seconds")
        unreadable = [{"path": path, "reason": reason} for path, reason in self.unreadable]
        counts = {name: getattr(self, name) for name in names}
        return {"rows": len(self.rows) + len(unreadable), **counts, "unreadable": unreadable}

    def __str__(self) -> str:
        (n, d), new = self.values.shape, self.images_forwarded
        text = f"{n} images x {d} features: {new} run through VGG-16, {self.from_store} from the store"
        text += f" ({counted(self.workers, 'worker')})" * (self.workers > 1)
        text += f", in {self.precision}" * (self.precision != "float32")
        return text + "".join(f"\n  left out: {shown(path)}: {reason}" for path, reason in self.unreadable)


def store_key(recipe: Recipe, source: "WeightSource") -> str:
    """Name of the folder for everything, besides the image's bytes, that the features depend on."""
    pixels = (DECODER_VERSION, recipe.image_size, recipe.resize, recipe.preprocessing)
    return sha256_bytes(repr((*pixels, source.sha256, "pools", source.precision)).encode())[:16]


def extract(
    manifest: Manifest,
    recipe: Recipe,
    base: "keras.Model",
    source: "WeightSource",
    *,
    store: Path,
    splits: Iterable[str] = ("train", "validation"),
    progress: bool = True,
) -> Features:
    """Features of the manifest's images, each run through the base only once.

    Args:
        store: folder of the feature store; made when absent.
        splits: which splits; the test split is left alone until `evaluate`.
        base, source: of `model.build_base`.

    Raises:
        VggnbError: none of the images can be read, or the store cannot be written.
    """
    rows = tuple(row for split in splits for row in manifest.of(split))
    return _fill(LocalEngine(manifest, recipe, VGG16(base, source, recipe)), Path(store), manifest, rows, progress)


def fill_store(
    manifest: Manifest,
    recipe: Recipe,
    *,
    weights: str,
    store: Path,
    engine: str = "local",
    address: str | None = None,
    gpus_per_worker: int | None = None,
    splits: Collection[str] = ("train", "validation"),
    precision: str = "float32",
    network: Callable[[Job], "VGG16"] | None = None,
    progress: bool = True,
) -> Features:
    """The same as `extract`, in this process or on the machines of a cluster, which build the base themselves.

    Args:
        weights: see `model.build_base`.
        engine: "local" (this process) or "ray".
        address: of a Ray cluster, "host:port" or "auto"; None starts one on this machine.
        gpus_per_worker: 0 for none; None takes one where the cluster has any.
        precision: see `device.decide_precision`; with "auto" all workers must decide alike.
        network: see `Job`; VGG-16 by default.

    Raises:
        VggnbError: no usable cluster, workers that differ, a store that cannot be written, or not one readable image.
    """
    if engine not in ("local", "ray"):
        raise VggnbError(f"There is no engine '{engine}'.", "--engine", "Use local or ray.")
    check_apart(store, manifest.dataset, "The feature store", "--store")
    rows = tuple(row for split in splits for row in manifest.of(split))
    if not rows:
        what = f"The manifest names no image of {' or '.join(splits)}."
        raise VggnbError(what, manifest.dataset, "Create it again from a census.")
    store = make_folder(Path(store).absolute())
    job = Job(replace(manifest, rows=()), recipe, weights, store, precision, network or vgg16)
    if engine == "local":
        return _fill(LocalEngine(manifest, recipe, job.network(job)), store, manifest, rows, progress)
    from vggnb.features.ray_engine import on_cluster

    with on_cluster(job, address=address, gpus_per_worker=gpus_per_worker) as cluster:
        return _fill(cluster, store, manifest, rows, progress)


def vgg16(job: Job) -> "VGG16":
    """VGG-16's frozen part, built where this is called."""
    from vggnb.model import build_base

    return VGG16(*build_base(job.recipe, job.weights, precision=job.precision), job.recipe)


class VGG16:
    """The frozen part of a base, compiled when it is first called: pixels uint8 (n, size, size, 3) -> float32 (n, d).

    Attributes:
        key: names the folder in the store.
        batch: images to run at once.
    """

    def __init__(self, base: "keras.Model", source: "WeightSource", recipe: Recipe):
        from vggnb.device import batch_size

        self.key, self.precision = store_key(recipe, source), source.precision
        self.batch = batch_size(recipe.image_size)
        self._base, self._recipe = base, recipe

    @functools.cached_property
    def _run(self) -> Callable[[np.ndarray], np.ndarray]:
        from vggnb.model import build_extractor, compiled

        return compiled(build_extractor(self._base, self._recipe))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The features of some pixels."""
        return self._run(pixels)


class LocalEngine:
    """This process; images are decoded ahead in threads while the network works."""

    workers = 1

    def __init__(self, manifest: Manifest, recipe: Recipe, network: VGG16):
        self.key, self.precision = network.key, network.precision
        self._manifest, self._recipe, self._network = manifest, recipe, network

    def run(self, rows: list[Row], folder: Path) -> Iterator[Done]:
        """Compute the features of rows and write them into the store, as shards of some batches."""
        from vggnb.generators import readable_batches

        unreadable, hashes, parts = [], [], []
        batches = readable_batches(self._manifest, rows, self._recipe, batch=self._network.batch, unreadable=unreadable)
        try:
            for batch, pixels in batches:
                parts.append(self._network(pixels))
                hashes += [row.sha256 for row in batch]
                if len(parts) == SHARD_BATCHES:
                    write_shard(folder, hashes, np.concatenate(parts))
                    hashes, parts = [], []
                yield time.time(), len(batch), []
        finally:  # also when it is interrupted
            if parts:
                write_shard(folder, hashes, np.concatenate(parts))
        yield time.time(), 0, unreadable


def _fill(engine, store: Path, manifest: Manifest, rows: tuple[Row, ...], progress: bool) -> Features:
    """Compute what the store lacks of these rows, one of all duplicates, with a `LocalEngine` or `RayEngine`.

    On Colab, they are kept on Drive, if it is mounted, for the next runtime.
    """
    start, folder = time.time(), make_folder(store / engine.key)
    if elsewhere := kept_on_drive(folder):
        restore(folder, elsewhere)
    stored = Stored(folder, {row.sha256 for row in rows})
    before, reasons = len(stored.places), {}
    missing = {row.sha256: row for row in rows if row.sha256 not in stored.places}
    hashes = {row.path: row.sha256 for row in missing.values()}
    answers: list[tuple[float, int]] = []
    if missing:
        try:
            with tqdm(total=len(missing), desc=BAR, unit="image", disable=not progress) as bar:
                for ended, forwarded, unreadable in engine.run(list(missing.values()), folder):
                    reasons |= {hashes[path]: reason for path, reason in unreadable}
                    bar.update(forwarded + len(unreadable))
                    if forwarded:
                        answers.append((ended, forwarded))
                        if progress and len(answers) == 2 * engine.workers:
                            left = (len(missing) - bar.n) / _rate(answers, engine.workers, start)
                            _announce(left, len(missing), engine.precision)
        finally:  # also when it is interrupted
            stored.refresh()
            if elsewhere:
                keep(stored, elsewhere)
    if lost := missing.keys() - stored.places.keys() - reasons.keys():
        remedy = "All machines must run the same vggnb, with the same weights, and see the store under the same path."
        raise VggnbError(f"The features of {counted(len(lost), 'image')} are not in the store.", folder, remedy)
    if not stored.places:
        raise VggnbError("None of the images can be read.", manifest.dataset, "Look at the census for the reasons.")
    kept, made = tuple(row for row in rows if row.sha256 in stored.places), len(stored.places) - before
    left_out = tuple((row.path, reasons[row.sha256]) for row in rows if row.sha256 in reasons)
    # What the disk holds, even right after it was computed: the first run and the second see the same numbers.
    values = stored.values([row.sha256 for row in kept])
    speed = round(_rate(answers, engine.workers, start), 3)
    rest = {"workers": engine.workers, "images_per_s": speed, "precision": engine.precision}
    return Features(kept, values, made, len(kept) - made, time.time() - start, left_out, **rest)


def _announce(seconds: float, images: int, precision: str) -> None:
    """Print how long a long computation will take, measured on its first batches."""
    if seconds > LONG_S:
        minutes = counted(round(seconds / 60) or 1, "minute")
        print(f"{counted(images, 'image')} pass through VGG-16 once: about {minutes} ({device_words()}, {precision}).")
        if environment() == "colab" and "no GPU" in device_words():
            print(colab.GPU)


def _rate(answers: list[tuple[float, int]], workers: int, start: float) -> float:
    """Images a second, by when and how many: after the first answer of each worker, which includes compiling."""
    answers = sorted(answers)
    if len(answers) > workers:
        start, answers = answers[workers - 1][0], answers[workers:]
    return sum(count for _, count in answers) / max(answers[-1][0] - start, 1e-6) if answers else 0.0
