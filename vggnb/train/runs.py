"""A run: one training, what was decided when it began and what came out of it, in a folder.

`run.json`, with the hash of every other file, is written last. A folder without it is of an interrupted training, which
is simply repeated: it takes seconds on stored features and ends with the same numbers. A file whose hash differs is
damaged or of another run.
"""

import contextlib
import os
import shutil
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from vggnb import paths
from vggnb.census import Manifest, Row
from vggnb.device import keras
from vggnb.folders import counted, duration, html_table, is_system, shown
from vggnb.metrics.calibration import Calibration, FeatureRanges
from vggnb.metrics.predictions import Predictions
from vggnb.model import build_base, build_classifier, build_head
from vggnb.recipe import Recipe
from vggnb.storage import (
    VggnbError,
    is_alive,
    make_folder,
    read_json,
    sha256_bytes,
    sha256_file,
    storage_errors,
    write_bytes,
    write_json,
)
from vggnb.weights import WeightSource

RUN_FILE = "run.json"
RUN_SCHEMA = 3
HEAD, FINE_TUNED, VALIDATION = "head.safetensors", "fine_tuned.safetensors", "validation.csv"
OURS = ("manifest.csv", "recipe.json", "history.csv", HEAD, VALIDATION)  # what an interrupted training may leave
# What evaluate and report write about a model; when the model changes, these files go.
REPORTS = ("report.html", "report-card.json", "report-card.md", *(f"report-{split}.json" for split in paths.SPLITS))
LOCK = ".vggnb-lock"
ANEW = "Train again into a new folder: vggnb train DATASET --out RUN."


class Stopped(KeyboardInterrupt):
    """Training was interrupted; the message says how to continue."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [str(self)]


@dataclass(frozen=True)
class History:
    """One row an epoch: epoch, loss, accuracy, and with held-out validation images val_loss, val_accuracy.

    Empty for a head that was solved exactly.
    """

    rows: tuple[dict[str, float], ...]

    def column(self, name: str) -> list[float]:
        """One value an epoch."""
        return [row[name] for row in self.rows]

    def __str__(self) -> str:
        if not self.rows:
            return "The head was solved exactly: there are no epochs."
        first, last = self.rows[0], self.rows[-1]
        text = f"{counted(last['epoch'], 'epoch')}: loss {first['loss']:.2f} -> {last['loss']:.2f}"
        text += f", training accuracy {first['accuracy']:.2f} -> {last['accuracy']:.2f}"
        if "val_accuracy" in last:
            text += f", validation accuracy {first['val_accuracy']:.2f} -> {last['val_accuracy']:.2f}"
        return text


@dataclass(frozen=True, repr=False)
class Run:
    """A training's folder and what was decided when it began."""

    folder: Path
    recipe: Recipe
    manifest: Manifest
    weights: str
    source: WeightSource

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.manifest.classes

    def __str__(self) -> str:
        lines = self.fit_sentences()
        if len(self.validation().labels):
            calibration = str(self.calibration()).rstrip(".")
            lines.append(f"Validation accuracy {self._validation_accuracy():.2f}; {calibration}.")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        facts, n = self.fine_tuned() or self.training(), len(self.validation().labels)
        rows = [
            ("classes", ", ".join(map(shown, self.classes))),
            ("fitted on", f"{facts['images']} images of {facts['fitted_on']}"),
            ("validation accuracy", f"{self._validation_accuracy():.2f}, of {n} images" if n else "-"),
            ("precision", self.source.precision),
            ("time", duration(self.training()["timing"]["total_s"])),
            ("folder", self.folder),
        ]
        return html_table((f"recipe {self.recipe.name}", ""), rows, notes=self.fit_sentences()[1:])

    def _validation_accuracy(self) -> float:
        found = self.validation()
        return (found.probabilities.argmax(axis=1) == found.labels).mean()

    def fit_sentences(self) -> list[str]:
        """What the head was fitted on, and what is called validation."""
        facts = self.training()
        epochs = counted(len(facts["history"]), "epoch")
        solved = f"was trained for {epochs}" if facts["history"] else "was solved exactly"
        fitted = f"The head {solved} on {facts['images']} images of {facts['fitted_on']}."
        images = facts["validation"]["images"]
        if tuned := self.fine_tuned():
            fitted += f" Then {tuned['from_block']} and all layers after it were trained for "
            fitted += f"{counted(tuned['epochs'], 'epoch')} on {tuned['images']} images of {tuned['fitted_on']}."
            if tuned["fitted_on"] != "train":
                return [fitted, f"Validation means predictions for {images} images by a first training without them."]
        if not facts["validation"]["out_of_fold"]:
            return [fitted, f"{images} validation images were held out."]
        text = "Validation means out-of-fold predictions of these images, each by a head that was fitted"
        return [fitted, f"{text} without the image, its near-duplicates and its group."]

    def training(self) -> dict:
        """The facts of the training: history, timing, ridge, calibration, images left out, fine-tuning if any."""
        return read_run(self.folder)["training"]

    def is_trained(self) -> bool:
        """Whether training ended and all its files are whole."""
        try:
            for name in read_run(self.folder)["files"]:
                self._bytes(name)
        except VggnbError as error:
            if isinstance(error.__cause__, OSError):  # the storage does not answer
                raise
            return False
        return True

    def history(self) -> History:
        """The history of the training, as `fit` returned it."""
        return History(tuple(self.training()["history"]))

    def fine_tuned(self) -> dict | None:
        """The facts of fine-tuning (from_block, history, ...), if it was the last step."""
        return self.training().get("fine_tune")

    def fine_tuning(self) -> History:
        """The epochs of fine-tuning, as `fine_tune` returned them; empty if there was none."""
        return History(tuple((self.fine_tuned() or {}).get("history", ())))

    def head(self) -> keras.Model:
        """The trained head."""
        return set_head(build_head(self.recipe, len(self.classes)), self.arrays(HEAD))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays in one of the run's `.safetensors` files."""
        return load(self._bytes(name))

    def _bytes(self, name: str) -> bytes:
        return _checked_bytes(self.folder / name, read_run(self.folder)["files"].get(name))

    def model_sha256(self) -> str:
        """Names the trained weights: another hash means another classifier."""
        return read_run(self.folder)["model_sha256"]

    def calibration(self) -> Calibration:
        """The temperature of the classifier."""
        return Calibration(**(self.fine_tuned() or self.training())["calibration"])

    def ranges(self) -> FeatureRanges:
        """The ranges of the features in training, for telling out-of-distribution images."""
        tuned = self.fine_tuned()
        facts, arrays = (tuned or self.training())["feature_ranges"], self.arrays(FINE_TUNED if tuned else HEAD)
        return FeatureRanges(arrays["ranges/low"], arrays["ranges/high"], **facts)

    def validation(self) -> Predictions:
        """Calibrated predictions for images that the predicting model was not fitted on: out of fold, or held out."""
        return Predictions.from_csv(self._bytes(VALIDATION))

    def base(self) -> keras.Model:
        """The base as it was before any fine-tuning."""
        base, source = build_base(self.recipe, self.weights, precision=self.source.precision)
        if source.sha256 != self.source.sha256:
            remedy = "Name the same weights as in training with --weights or VGGNB_WEIGHTS."
            raise VggnbError("The base's weights are not those this run was trained on.", self.folder, remedy)
        return base

    def classifier(self, base: keras.Model | None = None) -> keras.Model:
        """The assembled model, fine-tuned if the run is: raw pixels in, calibrated probabilities out."""
        base, head = base or self.base(), self.head()
        if self.fine_tuned():
            arrays, untuned = self.arrays(FINE_TUNED), base  # which is left as it is
            base = keras.models.clone_model(untuned)
            base.set_weights(untuned.get_weights())
            for name in {name.split("/")[1] for name in arrays if name.startswith("base/")}:
                base.get_layer(name).set_weights([arrays[f"base/{name}/kernel"], arrays[f"base/{name}/bias"]])
            base.trainable = False
            set_head(head, arrays)
        return build_classifier(base, head, self.recipe, temperature=self.calibration().temperature)


def open_run(folder: Path, *, weights: str | None = None) -> Run:
    """Open a trained run.

    Args:
        weights: where the base's weights are now, if not where they were.

    Raises:
        VggnbError: there is no trained run in this folder, or its files are damaged.
    """
    folder = Path(folder)
    document = read_run(folder)
    _checked_bytes(folder / "recipe.json", document["files"].get("recipe.json"))
    # The manifest, which holds its own hash, may be newer than run.json: see `start_run`.
    recipe, manifest = Recipe.from_dict(read_json(folder / "recipe.json", ANEW)), Manifest.read(folder / "manifest.csv")
    return Run(folder, recipe, manifest, weights or document["weights"], WeightSource(**document["source"]))


def start_run(folder: Path, manifest: Manifest, recipe: Recipe, *, weights: str, source: WeightSource) -> Run:
    """Make the folder of a run and write what is decided before training; a trained run with the same decisions stays.

    Raises:
        VggnbError: the folder cannot be written to, is in use, or holds another run or something else.
    """
    folder, facts = Path(folder), None
    run = Run(folder, recipe, manifest, weights, source)
    if (folder / RUN_FILE).is_file():
        check_same(found := open_run(folder), manifest, recipe, source)
        facts, files = found.training(), _renamed(found, manifest)
    else:
        check_empty(folder)
    with run_lock(make_folder(folder)):
        manifest.write(folder / "manifest.csv")  # the dataset may have been moved
        write_json(folder / "recipe.json", recipe.to_dict())
        if facts:
            record(run, facts, files, extend=True)
    return run


def _renamed(run: Run, manifest: Manifest) -> dict[str, bytes]:
    """The validation predictions of a run whose images have other names now."""

    def facts(row: Row) -> tuple:
        return row.sha256, row.split, row.label

    there, new = {(row.path, facts(row)) for row in manifest.rows}, {facts(row): row.path for row in manifest.rows}
    names = {row.path: new[facts(row)] for row in run.manifest.rows if (row.path, facts(row)) not in there}
    if not names or not run.is_trained():
        return {}
    found = run.validation()
    paths = tuple(names.get(path, path) for path in found.paths)
    return {VALIDATION: replace(found, paths=paths).to_csv(run.classes)}


def in_place(run: Run, manifest: Manifest) -> Run:
    """A run of the same images, which may have been moved or renamed since: its manifest is replaced then."""
    if run.manifest.dataset == manifest.dataset and {*run.manifest.rows} == {*manifest.rows}:
        return run
    return start_run(run.folder, manifest, run.recipe, weights=run.weights, source=run.source)


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds anything but what an interrupted training leaves."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if any(not (name in OURS or name.startswith(".vggnb-") or is_system(name)) for name in names):
        raise VggnbError("This folder holds something other than a run.", folder, "Name a new folder for the run.")


def check_same(run: Run, manifest: Manifest, recipe: Recipe, source: WeightSource | None = None) -> None:
    """Refuse to train into the folder of a run with other decisions; the first three differences are named."""
    old, new = run.recipe.to_dict(), recipe.to_dict()
    found = [f"{choice} is {old[choice]} there and {new[choice]} here" for choice in new if old[choice] != new[choice]]
    # Which image is in which split under which label, wherever the dataset lies.
    images = ({(row.sha256, row.split, row.label) for row in one.rows} for one in (run.manifest, manifest))
    if run.manifest.classes != manifest.classes:
        found.append(f"its classes are {list(run.manifest.classes)}, here {list(manifest.classes)}")
    elif next(images) != next(images):
        found.append(f"its images or splits differ ({len(run.manifest.rows)} images there, {len(manifest.rows)} here)")
    if source is not None and run.source.sha256 != source.sha256:
        found.append("the base's weights are not the same")
    if source is not None and run.source.precision != source.precision:
        found.append(f"its precision is {run.source.precision}, here {source.precision}")
    if found:
        remedy = "Name a new folder for this run, or remove that one."
        raise VggnbError(f"This folder holds another run: {'; '.join(found[:3])}.", run.folder, remedy)


def read_run(folder: Path) -> dict:
    """What is in `run.json`."""
    path = folder / RUN_FILE
    with storage_errors(folder):
        if not path.is_file():
            what, remedy = "There is no run in this folder.", "Train first: vggnb train DATASET --out RUN."
            if (folder / "recipe.json").is_file():
                what = "This run is not trained: its training was not completed."
                remedy = "Run the training step again (notebook 05, or the same vggnb train)."
            raise VggnbError(what, folder, remedy)
    document = read_json(path, ANEW)
    keys = {"weights", "source", "files", "training"}
    if not isinstance(document, dict) or document.get("schema") != RUN_SCHEMA or not keys <= document.keys():
        raise VggnbError("This run.json was not written by this version of vggnb.", path, ANEW)
    return document


def _checked_bytes(path: Path, sha256: str | None) -> bytes:
    if not path.is_file():
        raise VggnbError("A file of this run is missing.", path, ANEW)
    with storage_errors(path):
        data = path.read_bytes()
    if sha256_bytes(data) != sha256:
        raise VggnbError("This file is damaged or belongs to another run: its hash differs.", path, ANEW)
    return data


def record(run: Run, facts: dict, files: dict[str, bytes], *, extend: bool = False) -> None:
    """Write files of a run, each whole or not at all, then `run.json` with their hashes and the facts of the training.

    What the run has besides is removed, unless it is to `extend`, such as the head when it is fine-tuned.
    """
    path = run.folder / RUN_FILE
    before = read_run(run.folder) if path.is_file() else {"files": {}}
    with storage_errors(run.folder):
        for name, data in files.items():
            write_bytes(run.folder / name, data)
        hashes = (before["files"] if extend else {}) | {name: sha256_bytes(data) for name, data in files.items()}
        hashes |= {name: sha256_file(run.folder / name) for name in ("manifest.csv", "recipe.json")}
        document = {"schema": RUN_SCHEMA, "weights": run.weights, "source": asdict(run.source), "files": hashes}
        document["training"], tuned = facts, facts.get("fine_tune")
        model = hashes[FINE_TUNED if tuned else HEAD], (tuned or facts)["calibration"]["temperature"]
        document["model_sha256"] = sha256_bytes(f"{model[0]} at {model[1]!r}".encode())
        write_json(path, document)
        stale = [run.folder / name for name in before["files"].keys() - hashes.keys()]
        if HEAD in before["files"] and before["model_sha256"] != document["model_sha256"]:
            stale += [run.folder / name for name in REPORTS]
            stale += [path for split in paths.SPLITS for path in run.folder.glob(f"predictions-{split}-*.csv")]
        for path in stale:
            path.unlink(missing_ok=True)


def set_head(head: keras.Model, arrays: dict[str, np.ndarray]) -> keras.Model:
    """Put weights named "head/000", "head/001"... into a head; gives the head."""
    head.set_weights([arrays[f"head/{number:03d}"] for number in range(len(head.weights))])
    for layer in head.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return head


@contextlib.contextmanager
def run_lock(folder: Path):
    """Hold the lock of a run's folder, which must exist, while the block runs; calls in one process may be nested.

    The lock is a folder: `mkdir` succeeds for one process only on every file system. That of a run on Google Drive is
    on Colab's own disk, which ends with the runtime.

    Raises:
        VggnbError: another process holds it; the message names the process and what to remove if it is gone.
    """
    folder = Path(folder).absolute()
    place = folder / LOCK
    if folder.is_relative_to(paths.CONTENT / "drive"):
        place = paths.CONTENT / ".vggnb-locks" / sha256_bytes(os.fsencode(folder))[:16]
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.strftime("%Y-%m-%d %H:%M")}
    nested = False
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mkdir(place)
        except FileExistsError:
            owner = {}
            with contextlib.suppress(VggnbError):  # while it is not written
                owner = read_json(place / "owner.json")
            nested = (owner.get("pid"), owner.get("host")) == (mine["pid"], mine["host"])
            if not nested and (owner.get("host") != mine["host"] or is_alive(owner["pid"])):
                who = f"by process {owner['pid']} on {owner['host']} since {owner['time']}" if owner else "already"
                remedy = f"Wait until it finishes, or name another folder. If no process uses the run, remove {place}."
                raise VggnbError(f"The run '{folder.name}' is in use {who}.", folder, remedy) from None
    if nested:
        yield
        return
    try:
        write_json(place / "owner.json", mine)
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
