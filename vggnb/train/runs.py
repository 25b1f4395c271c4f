"""A run: the folder of one training, what was decided when it began, and what came out of it."""

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras

from vggnb.census import Manifest
from vggnb.checkpoints import read_state
from vggnb.lock import LOCK, held
from vggnb.metrics.ood import FeatureRanges
from vggnb.metrics.temperature import Calibration
from vggnb.model import build_base, build_classifier, build_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import (
    TEMPORARY_PREFIX,
    VggnbError,
    make_folder,
    read_json,
    sealed,
    sha256_bytes,
    sha256_file,
    storage_errors,
    unsealed,
    write_json,
)
from vggnb.weights import WeightSource

TRAINING_FILE = "training.json"  # written last: it names the head that belongs to it
RUN_SCHEMA = 2
ANEW = "Put it back from a copy of the run, or train again into a new folder."


@dataclass(frozen=True)
class History:
    """One row an epoch: epoch, loss, accuracy, and with validation images val_loss, val_accuracy."""

    rows: tuple[dict[str, float], ...]

    def column(self, name: str) -> list[float]:
        """One value an epoch."""
        return [row[name] for row in self.rows]

    def __str__(self) -> str:
        first, last = self.rows[0], self.rows[-1]
        text = f"{len(self.rows)} epochs: loss {first['loss']:.2f} -> {last['loss']:.2f}"
        text += f", training accuracy {first['accuracy']:.2f} -> {last['accuracy']:.2f}"
        if "val_accuracy" in last:
            text += f", validation accuracy {first['val_accuracy']:.2f} -> {last['val_accuracy']:.2f}"
        return text


@dataclass(frozen=True)
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

    def head(self) -> keras.Model:
        """The trained head.

        Raises:
            VggnbError: the run is not trained, or its file is damaged.
        """
        training = self.training()
        path = self.folder / training["head"]
        if not path.is_file() or sha256_file(path) != training["head_sha256"]:
            raise VggnbError("The trained head is damaged or gone.", path, "Train again.")
        head = build_head(self.recipe, len(self.classes))
        head.load_weights(path)
        return head

    def training(self) -> dict:
        """What training wrote down: head, history, timing, images left out.

        Raises:
            VggnbError: the run is not trained.
        """
        with storage_errors(self.folder):
            is_trained = (self.folder / TRAINING_FILE).is_file()
        if not is_trained:
            raise VggnbError("This run is not trained yet.", self.folder, "Run the training step (notebook 05) first.")
        path = self.folder / TRAINING_FILE
        training = _document(path, {"head", "head_sha256", "history", "timing", "left_out", "of"})
        if training["of"] != self.sha256:
            what = "This file is of another run: its recipe, pictures or weights are not those of the files beside it."
            raise VggnbError(what, path, ANEW)
        return training

    @functools.cached_property
    def sha256(self) -> str:
        """Of all that was decided before training, wherever the pictures lie now."""
        decided = [self.recipe.to_dict(), self.classes, sorted(_images(self.manifest)), self.source.sha256]
        return sha256_bytes(json.dumps(decided).encode())

    def history(self) -> History:
        """The training's course, as `fit` returned it."""
        return History(tuple(self.training()["history"]))

    def fine_tuned(self) -> dict | None:
        """What fine-tuning wrote down, if it was the last step: from_block, history, file and the file's sha256."""
        found, path = self.training().get("fine_tune"), self.folder / TRAINING_FILE
        return found and _with_keys(found, {"from_block", "file", "sha256", "history"}, path)

    def model_sha256(self) -> str:
        """Names the numbers that were trained: another one means another classifier."""
        sha256 = (self.fine_tuned() or {"sha256": self.training()["head_sha256"]})["sha256"]
        temperature = self.calibration().temperature
        return sha256 if temperature == 1 else sha256_bytes(f"{sha256} at {temperature!r}".encode())

    def calibration(self) -> Calibration:
        """The temperature of the classifier, fitted on validation at the end of its training."""
        found = (self.fine_tuned() or self.training()).get("calibration")
        if not found:
            return Calibration(reason="It was trained before there was calibration.")
        calibration = _filled(Calibration, found, self.folder / TRAINING_FILE)
        if not isinstance(temperature := calibration.temperature, float | int) or not temperature > 0:
            what = f"This file is damaged: its temperature is {temperature!r}."
            raise VggnbError(what, self.folder / TRAINING_FILE, "Train again into a new folder.")
        return calibration

    def ranges(self) -> FeatureRanges | None:
        """What the features of the training images were like: the test for out-of-distribution images."""
        found = (self.fine_tuned() or self.training()).get("feature_ranges")
        width, where = len(pool_columns(self.recipe)), self.folder / TRAINING_FILE
        return None if found is None else FeatureRanges.from_dict(found, width=width, where=where)

    def base(self) -> keras.Model:
        """The base as it was before any fine-tuning.

        Raises:
            VggnbError: its weights are not those the head was trained on.
        """
        base, source = build_base(self.recipe, self.weights)
        if source.sha256 != self.source.sha256:
            remedy = "Name the same weights as in training with --weights or VGGNB_WEIGHTS."
            raise VggnbError("The base's weights are not those this run was trained on.", self.folder, remedy)
        return base

    def classifier(self, base: keras.Model | None = None) -> keras.Model:
        """The assembled model, fine-tuned if the run is: raw pixels in, calibrated probabilities out.

        Args:
            base: what `base` would give, if it is at hand; it is left as it is.

        Raises:
            VggnbError: the base's weights are not those the head was trained on, or a file is damaged.
        """
        base, head = base or self.base(), self.head()
        if tuned := self.fine_tuned():
            base, head = self._with_tuned(base, head, self.folder / tuned["file"], tuned["sha256"])
        return build_classifier(base, head, self.recipe, temperature=self.calibration().temperature)

    def _with_tuned(self, base: keras.Model, head: keras.Model, path: Path, sha256: str):
        """A copy of the base and the head with the numbers that fine-tuning found."""
        if not path.is_file() or sha256_file(path) != sha256:
            raise VggnbError("The fine-tuned weights are damaged or gone.", path, "Fine-tune again.")
        arrays = read_state(path).arrays
        copy = keras.models.clone_model(base)
        copy.set_weights(base.get_weights())
        for name in dict.fromkeys(name.split("/")[1] for name in arrays if name.startswith("base/")):
            copy.get_layer(name).set_weights([arrays[f"base/{name}/kernel"], arrays[f"base/{name}/bias"]])
        copy.trainable = False
        head.set_weights([arrays[f"head/{number:03d}"] for number in range(len(head.weights))])
        return copy, head


def start_run(folder: Path, manifest: Manifest, recipe: Recipe, *, weights: str, source: WeightSource) -> Run:
    """Make the folder of a run and write down what is decided before training; the same decisions again are welcome.

    Raises:
        VggnbError: the folder cannot be written to, is in use, or holds another run or something else.
    """
    folder = Path(folder)
    if (folder / "run.json").is_file():
        check_same(open_run(folder), manifest, recipe, source)
    elif folder.is_dir() and not all(map(_is_begun, folder.iterdir())):
        raise VggnbError("This folder holds something else than a run.", folder, "Name a new folder for the run.")
    with held(make_folder(folder)):
        manifest.write(folder / "manifest.csv")
        write_json(folder / "recipe.json", sealed(recipe.to_dict()))
        about = {"schema": RUN_SCHEMA, "weights": weights, "source": asdict(source)}
        write_json(folder / "run.json", sealed(about))
    return Run(folder, recipe, manifest, weights, source)


def _is_begun(path: Path) -> bool:
    """Whether a file may be there before `run.json` is: a start was killed, or another process is just starting."""
    return path.name in ("manifest.csv", "recipe.json") or path.name.startswith((TEMPORARY_PREFIX, LOCK))


def check_same(run: Run, manifest: Manifest, recipe: Recipe, source: WeightSource | None = None) -> None:
    """Refuse to go on with a run for which something else was decided; the first three differences are told."""
    old, new = run.recipe.to_dict(), recipe.to_dict()
    found = [f"{choice} is {old[choice]} there and {new[choice]} here" for choice in new if old[choice] != new[choice]]
    if run.manifest.classes != manifest.classes:
        found.append(f"its classes are {list(run.classes)}, here {list(manifest.classes)}")
    elif _images(run.manifest) != _images(manifest):
        found.append(f"its {len(run.manifest.rows)} images or their splits are not these {len(manifest.rows)}")
    if source is not None and run.source.sha256 != source.sha256:
        found.append("the base's weights are not the same")
    if found:
        remedy = "Name a new folder for this run, or remove that one."
        raise VggnbError(f"This folder holds another run: {'; '.join(found[:3])}.", run.folder, remedy)


def _images(manifest: Manifest) -> set[tuple[str, str, int]]:
    """Which picture is in which split under which label, wherever the dataset lies."""
    return {(row.sha256, row.split, row.label) for row in manifest.rows}


def open_run(folder: Path, *, weights: str | None = None) -> Run:
    """Open a run that `start_run` made.

    Args:
        weights: where the base's weights are now, if not where they were.

    Raises:
        VggnbError: there is no run in this folder, or its files are damaged.
    """
    folder = Path(folder)
    with storage_errors(folder):
        is_run = (folder / "run.json").is_file()
    if not is_run and (folder / TRAINING_FILE).exists():
        raise VggnbError("A file of this run is missing.", folder / "run.json", ANEW)
    if not is_run:
        raise VggnbError("There is no run in this folder.", folder, "Train first: vggnb train DATASET --out RUN.")
    for name in ("recipe.json", "manifest.csv"):
        if not (folder / name).exists():
            raise VggnbError("A file of this run is missing.", folder / name, ANEW)
    about = _with_keys(read_json(folder / "run.json", ANEW), {"schema", "weights", "source"}, folder / "run.json")
    if about["schema"] != RUN_SCHEMA:
        raise VggnbError("The run was made by another version of vggnb.", folder, "Train again into a new folder.")
    about = unsealed(about, folder / "run.json", ANEW)
    source = _filled(WeightSource, about["source"], folder / "run.json")
    recipe = Recipe.from_dict(unsealed(read_json(folder / "recipe.json", ANEW), folder / "recipe.json", ANEW))
    manifest = Manifest.read(folder / "manifest.csv")
    return Run(folder, recipe, manifest, weights or about["weights"], source)


def _document(path: Path, keys: set[str]) -> dict:
    """A JSON file of a run, which must have these keys and be what was written."""
    return unsealed(_with_keys(read_json(path, ANEW), keys, path), path, ANEW)


def _with_keys(document: object, keys: set[str], path: Path) -> dict:
    """What a file of a run holds, if it has these keys."""
    if not isinstance(document, dict) or not keys <= document.keys():
        raise VggnbError(f"This file lacks {', '.join(sorted(keys))}.", path, "Train again into a new folder.")
    return document


def _filled(kind: type, values: object, path: Path):
    """A dataclass with the values that a file of a run holds for it."""
    try:
        return kind(**values)
    except TypeError as error:
        raise VggnbError(f"This file is damaged: {error}.", path, "Train again into a new folder.") from error
