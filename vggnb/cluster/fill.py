"""`fill_store`: a manifest file of any length -> every picture's features in the store, computed once."""

import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from vggnb.census import Manifest, Row
from vggnb.cluster.local import LocalEngine
from vggnb.cluster.units import UNIT_ROWS, Index, Missing
from vggnb.cluster.work import Answer, Job, Network
from vggnb.folders import counted, shown
from vggnb.paths import threads
from vggnb.recipe import Recipe
from vggnb.shards import whole_shards
from vggnb.staging import check_apart
from vggnb.storage import VggnbError, make_folder

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Filled:
    """What became of the rows of a manifest; `rows` counts files, the others count pictures.

    Attributes:
        folder: of the shards; its name stands for weights and pixels.
        lost: workers that died meanwhile.
        forward_s: seconds between the first unit and the last answer, without starting and without reading the store.
    """

    folder: Path
    engine: str
    rows: int
    images_forwarded: int
    from_store: int
    shards: int
    unreadable: tuple[tuple[str, str], ...]
    workers: int
    lost: int
    seconds: float
    forward_s: float

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        unreadable = [{"path": path, "reason": reason} for path, reason in self.unreadable]
        rate = self.images_forwarded / self.forward_s if self.forward_s else 0.0
        return {**vars(self), "folder": str(self.folder), "unreadable": unreadable, "images_per_s": round(rate, 3)}

    def __str__(self) -> str:
        text = f"{self.rows} rows: {counted(self.images_forwarded, 'image')} run through the network, "
        text += f"{self.from_store} in the store already ({self.engine}, {counted(self.workers, 'worker')})"
        text += f"; {counted(self.lost, 'worker')} lost on the way, nothing missing" * bool(self.lost)
        return text + "".join(f"\n  left out: {shown(path)}: {reason}" for path, reason in self.unreadable)


def vgg16(job: Job) -> Network:
    """VGG-16's frozen part; TensorFlow is imported where this is called, in the worker."""
    from vggnb.cluster.network import VGG16

    return VGG16(job)


def fill_store(
    manifest: Path,
    recipe: Recipe,
    *,
    weights: str,
    store: Path,
    engine: str = "local",
    address: str | None = None,
    gpus_per_worker: int | None = None,
    splits: Collection[str] = ("train", "validation"),
    cut: str = "pools",
    view: int = 0,
    network: Callable[[Job], Network] = vgg16,
    unit_rows: int = UNIT_ROWS,
    progress: bool = True,
) -> Filled:
    """Bring into the store what it lacks of a manifest's pictures; what was finished before a stop is not done again.

    Args:
        manifest: file that `Manifest.write` wrote; read a line at a time.
        weights, cut, view: see `model.build_base` and `features.extract`.
        engine: "local" (this process) or "ray".
        address: of a Ray cluster, "host:port" or "auto"; None starts one on this machine.
        gpus_per_worker: 0 for none; None takes one where the cluster has any.
        splits: the test split is left alone until `evaluate`.
        network: makes what a worker runs; another one than VGG-16 is for tests and simulations.
        unit_rows: rows handed out at once, at most.

    Raises:
        VggnbError: not a manifest, no usable cluster, workers that differ, a store that cannot be written, or not a
            single picture that can be read.
    """
    start = time.perf_counter()
    if engine not in ENGINES:
        raise VggnbError(f"There is no engine '{engine}'.", "--engine", f"Use {' or '.join(ENGINES)}.")
    manifest, dataset = Path(manifest), Manifest.read(manifest).dataset
    check_apart(store, dataset, "The feature store", "--store")
    store = make_folder(Path(store).absolute())
    job = Job(dataset, recipe, weights, network, threads(), cut, view)
    with _engine(engine, job, store, address, gpus_per_worker) as run, tempfile.TemporaryDirectory() as place:
        folder = make_folder(store / run.key)
        index = Index(Path(place))
        pass_ = _Pass(manifest, splits, index, run, folder, unit_rows, progress)
        try:
            pass_.learn_what_there_is()
            while pass_.once():  # again for the copies of pictures that could not be read
                pass
            if not pass_.rows:
                what = f"The manifest names no image of {' or '.join(splits)}."
                raise VggnbError(what, manifest, "Make it again with a census.")
            unreadable = tuple(pass_.unreadable())
            if len(unreadable) == pass_.rows:
                remedy = "Look at the census for the reasons."
                raise VggnbError("None of the images can be read.", job.dataset, remedy)
        finally:
            index.close()
        return Filled(
            folder, engine, pass_.rows, pass_.forwarded, pass_.rows - pass_.forwarded - len(unreadable), pass_.shards,
            unreadable, run.workers, run.lost, time.perf_counter() - start, pass_.seconds,
        )  # fmt: skip


def _engine(name: str, job: Job, store: Path, address: str | None, gpus_per_worker: int | None):
    if name == "local":
        return LocalEngine(job)
    from vggnb.cluster.distributed import RayEngine

    return RayEngine(job, store, address=address, gpus_per_worker=gpus_per_worker)


class _Pass:
    """Going through the manifest: once, and again while a copy of an unreadable picture is left to try."""

    def __init__(self, manifest, splits, index: Index, engine, folder: Path, unit_rows: int, progress: bool):
        self._manifest, self._splits, self._index, self._engine = manifest, splits, index, engine
        self._folder, self._unit_rows, self._progress = folder, unit_rows, progress
        self._reasons: dict[str, tuple[str, str]] = {}  # path -> hash, reason
        self.rows = self.forwarded = self.shards = 0
        self.seconds = 0.0

    def learn_what_there_is(self) -> None:
        """Put the store's pictures into the index; a damaged shard's are not among them."""
        for shard in whole_shards(self._folder):
            for sha256 in shard.images():
                self._index.add(sha256)

    def once(self) -> bool:
        """Whether it was worth going again."""
        first, known = not self.rows, len(self._reasons)
        missing = Missing(self._wanted(first))
        try:
            self._run(missing)
        finally:
            missing.close()
        return len(self._reasons) > known

    def _wanted(self, first: bool) -> Iterator[Row]:
        for row in (row for row in Manifest.read(self._manifest).rows if row.split in self._splits):
            self.rows += first
            if row.path not in self._reasons and self._index.add(row.sha256):
                yield row

    def _run(self, missing: Missing) -> None:
        if not missing.count:
            return
        start, units = time.perf_counter(), missing.units(self._unit_rows)
        words = {"desc": "the network, once for each image", "unit": "image", "disable": not self._progress}
        with tqdm(total=missing.count, **words) as bar:
            for answer in self._engine.run(units, self._folder):
                self._note(answer)
                bar.set_postfix_str(counted(self._engine.workers, "worker"), refresh=False)
                bar.update(answer.forwarded + len(answer.unreadable))
        self.seconds += time.perf_counter() - start

    def _note(self, answer: Answer) -> None:
        if answer.error:
            raise VggnbError(*answer.error)
        self.forwarded += answer.forwarded
        self.shards += len(answer.shards)
        for path, sha256, reason in answer.unreadable:
            self._reasons[path] = sha256, reason
            self._index.forget(sha256)

    def unreadable(self) -> Iterable[tuple[str, str]]:
        """(path, reason) of the files whose picture came from no copy either."""
        return ((path, why) for path, (sha256, why) in sorted(self._reasons.items()) if sha256 not in self._index)
