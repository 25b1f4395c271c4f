"""Predict the class of image files, with the same decoder and the same pixels as in training."""

import base64
import codecs
import contextlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from vggnb.folders import html_table, plain_cell, read_ahead, shown, walk
from vggnb.images import read_image
from vggnb.machine import cores, tqdm
from vggnb.save.bundle import MANIFEST, Bundle, load_bundle, read_manifest
from vggnb.storage import VggnbError, csv_text, read_json, storage_errors

BATCH = 32
THUMBNAILS = 24  # in the table of a notebook
OUT_OF_DISTRIBUTION = "out-of-distribution: the prediction may be meaningless"


@dataclass(frozen=True)
class Rule:
    """How a class follows from the probabilities: the most probable one; or, of two, `positive` from `threshold` on."""

    positive: str | None = None
    threshold: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.threshold is None:
            return "the most probable class"
        return f"{shown(self.positive)} from probability {self.threshold:.3g} on{self.reason and f' ({self.reason})'}"

    def ranked(self, probabilities: dict[str, float]) -> dict[str, float]:
        """Class -> probability, the predicted class first, then from most to least probable."""
        ranked = dict(sorted(probabilities.items(), key=lambda pair: -pair[1]))
        if self.threshold is None:
            return ranked
        found = ranked[self.positive] >= self.threshold
        return dict(sorted(ranked.items(), key=lambda pair: (pair[0] == self.positive) != found))


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, or why there is none."""

    path: str
    probabilities: dict[str, float]  # by class, the predicted class first, then from most to least probable
    error: str | None = None
    out_of_distribution: bool | None = None  # None: unknown
    rule: Rule = Rule()

    @property
    def class_name(self) -> str | None:
        """The predicted class."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """Of the predicted class, 0 to 1."""
        return next(iter(self.probabilities.values()), None)

    @property
    def words(self) -> str:
        """The prediction without the file's name."""
        ranked = ", ".join(f"{shown(kind)} {p:.2f}" for kind, p in self.probabilities.items())
        return self.error or (f"{ranked} ({OUT_OF_DISTRIBUTION})" if self.out_of_distribution else ranked)

    def __str__(self) -> str:
        return f"{shown(Path(self.path).name)}: {self.words}"

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        if self.error:
            return {"path": self.path, "error": self.error}
        best = {"class": self.class_name, "probability": self.probability, "probabilities": self.probabilities}
        return {"path": self.path, **best, "out_of_distribution": self.out_of_distribution, "rule": str(self.rule)}


class PredictionList(list):
    """Predictions of files; in a notebook, a table with thumbnails."""

    def _repr_html_(self) -> str:
        rows = [
            (_thumbnail(Path(one.path)) if place < THUMBNAILS else "", Path(one.path).name, one.words)
            for place, one in enumerate(self)
        ]
        return html_table(("image", "file", "prediction"), rows)

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "no files"


def _thumbnail(path: Path) -> Markup:
    """A small copy of an image; nothing where it cannot be read."""
    try:
        image, data = Image.fromarray(read_image(path)), io.BytesIO()
    except VggnbError:
        return Markup()
    image.thumbnail((96, 96))
    image.save(data, "JPEG", quality=80)
    return Markup('<img alt="" src="data:image/jpeg;base64,{}">').format(base64.b64encode(data.getvalue()).decode())


def open_model(path: Path, *, engine: str = "tensorflow", precision: str | None = None) -> Bundle:
    """Open a bundle, as `load_bundle` does, or a run: its bundle is used if it is of the run's present model."""
    path = Path(path)
    with storage_errors(path):
        is_run = (path / "run.json").is_file() and not (path / MANIFEST).is_file()
    if not is_run:
        return load_bundle(path, engine=engine, precision=precision)
    document, of_bundle = read_json(path / "run.json"), None
    of_run = document.get("model_sha256") if isinstance(document, dict) else None
    with contextlib.suppress(VggnbError):  # none, or one that is damaged: the run itself is there
        of_bundle = read_manifest(path / "bundle")["model_sha256"]
    if of_run and of_bundle == of_run:
        return load_bundle(path / "bundle", engine=engine, precision=precision)
    if engine != "tensorflow":
        what = f"The engine {engine} needs a bundle, and this run has none of its present model."
        raise VggnbError(what, path, f"Save it: vggnb save {path} --to {path / 'bundle'}")
    from vggnb.save.saving import bundle_of  # Keras: not before it is needed
    from vggnb.train import open_run

    return bundle_of(open_run(path), precision=precision)


def choose_rule(bundle: Bundle, threshold: float | str | None = None) -> Rule:
    """The rule that predicts a class.

    Args:
        threshold: "chosen" for the bundle's operating point, a number between 0 and 1 for a threshold of the positive
            class (of the operating point, else the last in alphabetical order), None for the most probable class.
    """
    if threshold is None:
        return Rule()
    if len(bundle.classes) != 2:
        what = f"A threshold needs two classes; this model has {len(bundle.classes)}."
        raise VggnbError(what, "--threshold", "Leave it out: the most probable class is predicted.")
    point = bundle.threshold
    if threshold == "chosen":
        if not point:
            remedy = "Choose one: vggnb evaluate RUN --sensitivity 0.9; or give a number, such as --threshold 0.3."
            raise VggnbError("No threshold was chosen for this model.", bundle.folder, remedy)
        why = f"chosen on {point['images']} validation images for {point['aim']}"
        return Rule(point["positive"], point["threshold"], why)
    if isinstance(threshold, str) or not 0 < threshold < 1:
        remedy = "Use chosen, or a probability between 0 and 1, such as 0.3."
        raise VggnbError(f"A threshold of {threshold} is out of range.", "--threshold", remedy)
    return Rule(point["positive"] if point else sorted(bundle.classes)[-1], float(threshold))


def predict_files(
    bundle: Bundle,
    paths: Path | Iterable[Path],
    *,
    threshold: float | str | None = None,
    missing: str = "refuse",
    progress: bool = False,
) -> PredictionList:
    """Predict files, and every file in folders; what cannot be read is a row with its reason.

    Args:
        threshold: see `choose_rule`.
        missing: what to do where a path does not exist or a folder holds no file: "refuse", or "list" it as a row.
    """
    sources: list[tuple[str, Path | str]] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            sources += _files(path)
        except VggnbError as error:
            if missing == "refuse":
                raise
            sources.append((str(path), f"{error.what} {error.remedy}"))
    return PredictionList(_predict(bundle, sources, choose_rule(bundle, threshold), progress))


def predict_images(
    bundle: Bundle, images: Iterable[tuple[str, bytes]], *, threshold: float | str | None = None
) -> list[Prediction]:
    """Predict images in memory: (name, bytes) each; the name is a label and never used as a path."""
    return _predict(bundle, list(images), choose_rule(bundle, threshold))


def read_names(data: bytes) -> list[str]:
    """The names in a list: one per line, or ended by zero bytes as `find -print0` does."""
    pieces = data.split(b"\0") if b"\0" in data else data.removeprefix(codecs.BOM_UTF8).splitlines()
    if not (names := [os.fsdecode(name) for name in pieces if name.strip()]):
        raise VggnbError("The list holds no names.", "the standard input", "Give names of files, one per line.")
    return names


def _files(path: Path | str) -> list[tuple[str, Path | str]]:
    """The file itself, or every file in a folder at any depth, in order, without system files: name and path.

    What cannot be opened (a broken link, a pipe) has a reason instead of a path.
    """
    if path == "":  # an unset variable of the shell; as a path it would be the current folder
        raise VggnbError("A path is empty.", "''", "Name a file or a folder; the current folder is a dot.")
    path = Path(path)
    if not os.path.lexists(path):
        raise VggnbError("There is no such file or folder.", path, "Check the name.")
    if not path.is_dir():
        if path.exists() and not path.is_file():  # reading from a pipe could wait for ever
            what = "This is not a regular file (a pipe, a socket or a device)."
            raise VggnbError(what, path, "Name an image, or a folder of images.")
        return [(str(path), path)]
    root, strays, _ = walk(path)
    found = {path / name: path / name for name in root.all_files()}
    found |= {path / stray.path: stray.reason for stray in strays}
    if not found:
        raise VggnbError("There are no files in this folder.", path, "Name a folder that holds images.")
    return [(str(one), found[one]) for one in sorted(found)]


def to_csv(predictions: Iterable[Prediction], classes: Sequence[str]) -> str:
    """One row per file: path, class, probability, out_of_distribution, error, and the probability of each class.

    In a cell that a spreadsheet would take for a formula, an apostrophe stands first; what is no text is escaped.
    """
    names = ["path", "class", "probability", "out_of_distribution", "error"]
    rows = [[*names, *(plain_cell(f"p({name})") for name in classes)]]
    for one in predictions:
        outside = {True: "yes", False: "no", None: ""}[one.out_of_distribution]
        shares = ["" if p is None else f"{p:.6f}" for p in (one.probability, *map(one.probabilities.get, classes))]
        cells = [one.path, one.class_name or "", shares[0], outside, one.error or ""]
        rows.append([*map(plain_cell, cells), *shares[1:]])
    return csv_text(rows).encode("utf-8", "backslashreplace").decode()


def _predict(bundle: Bundle, sources: Sequence[tuple[str, Path | bytes | str]], rule: Rule, progress: bool = False):
    """Predict a batch at a time, in order, while threads decode the next images; a source that is a str is a reason."""

    def read(source: Path | bytes | str) -> np.ndarray | str:
        if isinstance(source, str):
            return source
        try:
            return read_image(source, size=bundle.recipe.image_size, resize=bundle.recipe.resize)
        except VggnbError as error:
            return f"{error.what} {error.remedy}"

    predictions: list[Prediction] = []
    decoded = read_ahead(read, [source for _, source in sources], workers=max(2, cores()), ahead=2 * BATCH)
    found = zip((name for name, _ in sources), decoded, strict=True)
    with tqdm(total=len(sources), desc="Predicting", unit="image", disable=not progress) as bar:
        while batch := list(islice(found, BATCH)):
            answers = iter(())
            if images := [pixels for _, pixels in batch if not isinstance(pixels, str)]:
                probabilities, features = bundle.forward(np.stack(images))
                outside = bundle.ranges.out_of_distribution(features) if bundle.ranges else [None] * len(images)
                answers = zip(probabilities.tolist(), outside, strict=True)
            for name, pixels in batch:
                if isinstance(pixels, str):
                    predictions.append(Prediction(name, {}, pixels))
                else:
                    row, flag = next(answers)
                    ranked = rule.ranked(dict(zip(bundle.classes, row, strict=True)))
                    predictions.append(Prediction(name, ranked, None, flag, rule))
            bar.update(len(batch))
    return predictions
