"""A run: one training, what was decided when it began and what came out of it, in a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from vggnb.census import Manifest
from vggnb.device import keras
from vggnb.folders import duration, html_table, shown
from vggnb.metrics.calibration import Calibration, FeatureRanges
from vggnb.metrics.predictions import Predictions
from vggnb.model import build_base, build_classifier, build_head
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, make_folder, read_json, write_json
from vggnb.train.lock import run_lock
from vggnb.train.run_files import (
    ANEW,
    FINE_TUNED,
    HEAD,
    RUN_FILE,
    VALIDATION,
    checked_bytes,
    read_run,
    record,
    set_head,
)
from vggnb.weights import WeightSource

OURS = ("manifest.csv", "recipe.json", "history.csv", HEAD, VALIDATION)  # what an interrupted training may leave


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
        text = f"{last['epoch']} epochs: loss {first['loss']:.2f} -> {last['loss']:.2f}"
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
        lines, validation = self.fit_sentences(), self.validation()
        if len(validation.labels):
            accuracy = (validation.probabilities.argmax(axis=1) == validation.labels).mean()
            lines.append(f"Validation accuracy {accuracy:.2f}; {str(self.calibration()).rstrip('.')}.")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        facts, validation = self.fine_tuned() or self.training(), self.validation()
        right = (
            (validation.probabilities.argmax(axis=1) == validation.labels).mean() if len(validation.labels) else None
        )
        seconds = self.training()["timing"]["total_s"]
        rows = [
            ("classes", ", ".join(map(shown, self.classes))),
            ("fitted on", f"{facts['images']} images of {facts['fitted_on']}"),
            ("validation accuracy", "-" if right is None else f"{right:.2f}, of {len(validation.labels)} images"),
            ("arithmetic", self.source.precision),
            ("time", duration(seconds)),
            ("folder", self.folder),
        ]
        return html_table((f"recipe {self.recipe.name}", ""), rows, notes=self.fit_sentences()[1:])

    def fit_sentences(self) -> list[str]:
        """What the head was fitted on, and what is called validation."""
        facts = self.training()
        solved = f"was trained for {len(facts['history'])} epochs" if facts["history"] else "was solved exactly"
        fitted = f"The head {solved} on {facts['images']} images of {facts['fitted_on']}."
        if tuned := self.fine_tuned():
            fitted += f" Then {tuned['from_block']} and all layers after it were trained for {tuned['epochs']} epochs "
            fitted += f"on {tuned['images']} images of {tuned['fitted_on']}."
            if tuned["fitted_on"] != "train":
                text = f"Validation means predictions for {facts['validation']['images']} images by a first training"
                return [fitted, f"{text} without them."]
        if not facts["validation"]["out_of_fold"]:
            return [fitted, f"{facts['validation']['images']} validation images were held out."]
        text = "Validation means out-of-fold predictions of these images, each by a head that was fitted"
        return [fitted, f"{text} without the image, its near-duplicates and its group."]

    def training(self) -> dict:
        """The facts of the training: history, timing, ridge, calibration, images left out, fine-tuning if any."""
        return read_run(self.folder)["training"]

    def is_trained(self) -> bool:
        """Whether training ended and all its files are whole.

        Raises:
            VggnbError: the storage does not answer.
        """
        try:
            for name, sha256 in read_run(self.folder)["files"].items():
                checked_bytes(self.folder / name, sha256)
        except VggnbError as error:
            if isinstance(error.__cause__, OSError):
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
        return load(checked_bytes(self.folder / name, read_run(self.folder)["files"].get(name)))

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
        """Calibrated predictions for images that the predicting model was not fitted on.

        Of a head fitted on train and validation these are out-of-fold predictions of all images of both; else they are
        the predictions of the held-out validation images.
        """
        data = checked_bytes(self.folder / VALIDATION, read_run(self.folder)["files"].get(VALIDATION))
        return Predictions.from_csv(data)

    def base(self) -> keras.Model:
        """The base as it was before any fine-tuning."""
        base, source = build_base(self.recipe, self.weights, precision=self.source.precision)
        if source.sha256 != self.source.sha256:
            remedy = "Name the same weights as in training with --weights or VGGNB_WEIGHTS."
            raise VggnbError("The base's weights are not those this run was trained on.", self.folder, remedy)
        return base

    def classifier(self, base: keras.Model | None = None) -> keras.Model:
        """The assembled model, fine-tuned if the run is: raw pixels in, calibrated probabilities out.

        Args:
            base: what `base` would give, if it is at hand; it is left as it is.
        """
        base, head = base or self.base(), self.head()
        if self.fine_tuned():
            arrays, untuned = self.arrays(FINE_TUNED), base
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
    for name in ("recipe.json", "manifest.csv"):
        checked_bytes(folder / name, document["files"].get(name))
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
        facts = found.training()
    else:
        check_empty(folder)
    with run_lock(make_folder(folder)):
        manifest.write(folder / "manifest.csv")  # the dataset may have been moved
        write_json(folder / "recipe.json", recipe.to_dict())
        if facts:
            record(run, facts, {}, extend=True)
    return run


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds anything but what an interrupted training leaves."""
    if folder.is_dir() and any(not (p.name in OURS or p.name.startswith(".vggnb-")) for p in folder.iterdir()):
        raise VggnbError("This folder holds something other than a run.", folder, "Name a new folder for the run.")


def check_same(run: Run, manifest: Manifest, recipe: Recipe, source: WeightSource | None = None) -> None:
    """Refuse to train into the folder of a run with other decisions; the first three differences are named."""
    old, new = run.recipe.to_dict(), recipe.to_dict()
    found = [f"{choice} is {old[choice]} there and {new[choice]} here" for choice in new if old[choice] != new[choice]]
    if run.manifest.classes != manifest.classes:
        found.append(f"its classes are {list(run.classes)}, here {list(manifest.classes)}")
    elif _images(run.manifest) != _images(manifest):
        found.append(f"its {len(run.manifest.rows)} images or their splits are not these {len(manifest.rows)}")
    if source is not None and run.source.sha256 != source.sha256:
        found.append("the base's weights are not the same")
    if source is not None and run.source.precision != source.precision:
        found.append(f"its precision is {run.source.precision}, here {source.precision}")
    if found:
        remedy = "Name a new folder for this run, or remove that one."
        raise VggnbError(f"This folder holds another run: {'; '.join(found[:3])}.", run.folder, remedy)


def _images(manifest: Manifest) -> set[tuple[str, str, int]]:
    """Which image is in which split under which label, wherever the dataset lies."""
    return {(row.sha256, row.split, row.label) for row in manifest.rows}
