"""Predict the class of image files, with the same decoder and the same pixels as in training."""

import base64
import codecs
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image
from tqdm.auto import tqdm

from vggnb.folders import html_table, plain_cell, read_ahead, shown, walk
from vggnb.images import read_image
from vggnb.paths import cores
from vggnb.save.bundle import Bundle
from vggnb.storage import VggnbError, csv_text

BATCH = 32
THUMBNAILS = 24  # in the table of a notebook
MOST_NAMES = 100_000_000  # bytes of a list of names
OUT_OF_DISTRIBUTION = "out-of-distribution: this may mean nothing"


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, or why there is none.

    Attributes:
        probabilities: class -> probability, the predicted class first, then from most to least probable.
        out_of_distribution: see `metrics.ood`; None: unknown.
    """

    path: str
    probabilities: dict[str, float]
    error: str | None = None
    out_of_distribution: bool | None = None

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
        return {
            "path": self.path,
            "class": self.class_name,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "out_of_distribution": self.out_of_distribution,
        }


class PredictionList(list):
    """Predictions of files; a notebook shows them as a table with small copies of the images."""

    def _repr_html_(self) -> str:
        rows = [
            (_thumbnail(Path(one.path)) if place < THUMBNAILS else "", Path(one.path).name, one.words)
            for place, one in enumerate(self)
        ]
        return html_table(("image", "file", "prediction"), rows)

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "no files"


def _thumbnail(path: Path) -> Markup:
    """A small copy of an image inside the page; nothing if it cannot be read."""
    try:
        image, data = Image.fromarray(read_image(path)), io.BytesIO()
    except VggnbError:
        return Markup()
    image.thumbnail((96, 96))
    image.save(data, "JPEG", quality=80)
    return Markup('<img alt="" src="data:image/jpeg;base64,{}">').format(base64.b64encode(data.getvalue()).decode())


def predict_files(bundle: Bundle, paths: Path | Iterable[Path], *, progress: bool = False) -> PredictionList:
    """Predict files, and every file in folders; a file that cannot be read is a row with its reason.

    Raises:
        VggnbError: a path is empty or does not exist, or a folder holds no file.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if "" in paths:  # an unset variable of the shell; as a path it would be the current folder
        raise VggnbError("A path is empty.", "''", "Name a file or a folder; the current folder is a dot.")
    sources = [(str(path), path) for given in paths for path in files_of(Path(given))]
    return PredictionList(_predict(bundle, sources, progress))


def predict_images(bundle: Bundle, images: Iterable[tuple[str, bytes]]) -> list[Prediction]:
    """Predict images in memory: (name, bytes) each; the name is a label and never used as a path."""
    return _predict(bundle, list(images))


def predict_listed(bundle: Bundle, names: Iterable[str], *, progress: bool = False) -> list[Prediction]:
    """Predict the names of a list (see `read_names`); one that does not exist is a row with its reason."""
    sources: list[tuple[str, Path | VggnbError]] = []
    for name in names:
        try:
            sources += [(str(path), path) for path in files_of(Path(name))]
        except VggnbError as error:
            sources.append((name, error))
    return _predict(bundle, sources, progress)


def read_names(data: bytes) -> list[str]:
    """The names in a list: one per line, or ended by zero bytes as `find -print0` does.

    A list of lines may begin with the mark of UTF-8 or UTF-16, as on Windows.

    Raises:
        VggnbError: the list is empty or far too large, or it is UTF-16 that is damaged or lacks its mark.
    """
    if len(data) > MOST_NAMES:
        raise VggnbError("The list is far too large.", "the standard input", "Give it in parts.")
    damaged = VggnbError("This UTF-16 cannot be read.", "the standard input", "Write it as UTF-8, one name per line.")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = os.fsencode(data.decode("utf-16"))
        except UnicodeError:
            raise damaged from None
    ends = b"\0" if b"\0" in data else b"\n"
    pieces = (data if ends == b"\0" else data.removeprefix(codecs.BOM_UTF8)).split(ends)
    if b"\n" in pieces:  # it stands alone where the zero bytes are UTF-16's
        raise damaged
    names = [os.fsdecode(name.removesuffix(b"\r") if ends == b"\n" else name) for name in pieces]
    names = [name for name in names if name.strip()]
    if not names:
        raise VggnbError("The list holds no names.", "the standard input", "Give names of files, one per line.")
    return names


def files_of(path: Path) -> list[Path]:
    """The file itself, or every file in a folder at any depth, in order, without system files.

    Raises:
        VggnbError: it does not exist, is no regular file, or is a folder without files or that cannot be listed.
    """
    if not os.path.lexists(path):
        raise VggnbError("There is no such file or folder.", path, "Check the name.")
    if not path.is_dir():
        if path.exists() and not path.is_file():  # reading from a pipe could wait for ever
            what = "This is not a regular file (a pipe, a socket or a device)."
            raise VggnbError(what, path, "Name an image, or a folder of images.")
        return [path]
    root, strays, _ = walk(path)
    inside = [path / name for name in (*root.all_files(), *(stray.path for stray in strays))]
    if not (files := sorted(name for name in inside if name.is_file())):  # a link to a file is one
        raise VggnbError("There are no files in this folder.", path, "Name a folder that holds images.")
    return files


def to_csv(predictions: Iterable[Prediction], classes: Sequence[str]) -> str:
    """One row per file: path, class, probability, out_of_distribution, error, and the probability of each class.

    In a cell that a spreadsheet would take for a formula, an apostrophe stands first; what is no text is escaped.
    """
    names = ["path", "class", "probability", "out_of_distribution", "error"]
    rows = [[*names, *(plain_cell(f"p({name})") for name in classes)]]
    for one in predictions:
        outside = {True: "yes", False: "no", None: ""}[one.out_of_distribution]
        cells = [one.path, one.class_name or "", _number(one.probability), outside, one.error or ""]
        rows.append([*map(plain_cell, cells), *(_number(one.probabilities.get(name)) for name in classes)])
    return csv_text(rows).encode("utf-8", "backslashreplace").decode()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _predict(bundle: Bundle, sources: Sequence[tuple[str, Path | bytes | VggnbError]], progress: bool = False):
    """Predict a batch at a time, in order, while threads decode the next images."""

    def read(source: Path | bytes | VggnbError) -> np.ndarray | str:
        try:
            if isinstance(source, VggnbError):
                raise source
            return read_image(source, size=bundle.recipe.image_size, resize=bundle.recipe.resize)
        except VggnbError as error:
            return f"{error.what} {error.remedy}"

    predictions: list[Prediction] = []
    decoded = read_ahead(read, [source for _, source in sources], workers=max(2, cores()), ahead=2 * BATCH)
    with tqdm(total=len(sources), desc="Predicting", unit="image", disable=not progress) as bar:
        while batch := list(islice(decoded, BATCH)):
            rows = iter(_rows(bundle, [pixels for pixels in batch if isinstance(pixels, np.ndarray)]))
            for pixels in batch:
                name = sources[len(predictions)][0]
                one = Prediction(name, {}, pixels) if isinstance(pixels, str) else replace(next(rows), path=name)
                predictions.append(one)
            bar.update(len(batch))
    return predictions


def _rows(bundle: Bundle, images: list[np.ndarray]) -> list[Prediction]:
    """Predictions without the files' names."""
    if not images:
        return []
    probabilities, features = bundle.forward(np.stack(images))
    outside = bundle.ranges.out_of_distribution(features) if bundle.ranges else [None] * len(images)
    ranked = ({bundle.classes[i]: float(row[i]) for i in np.argsort(-row, kind="stable")} for row in probabilities)
    return [Prediction("", one, None, flag) for one, flag in zip(ranked, outside, strict=True)]
