"""Files in, ranked class names out: the same decoder and the same pixels as in training."""

import base64
import codecs
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image
from tqdm.auto import tqdm

from vggnb.folders import html_table, plain_cell, shown, walk
from vggnb.images import read_image
from vggnb.paths import cores
from vggnb.storage import VggnbError, csv_text

if TYPE_CHECKING:
    from vggnb.save import Bundle, OnnxBundle

BATCH = 32
THUMBNAILS = 24  # in the table of a notebook
MOST_NAMES = 100_000_000  # bytes of a list of names
OUT_OF_DISTRIBUTION = "out-of-distribution: this may mean nothing"
ENGINES = ("tensorflow", "onnxruntime")


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture: classes from most to least probable, or why there is none.

    Attributes:
        out_of_distribution: whether the picture is out-of-distribution (see `metrics.ood`); None: unknown.
    """

    path: str
    probabilities: dict[str, float]
    error: str | None = None
    out_of_distribution: bool | None = None

    @property
    def class_name(self) -> str | None:
        """The most probable class."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """Of the most probable class, 0 to 1."""
        return next(iter(self.probabilities.values()), None)

    @property
    def words(self) -> str:
        """The answer without the file's name."""
        ranked = ", ".join(f"{shown(kind)} {p:.2f}" for kind, p in self.probabilities.items())
        return self.error or (f"{ranked} ({OUT_OF_DISTRIBUTION})" if self.out_of_distribution else ranked)

    def __str__(self) -> str:
        return f"{shown(Path(self.path).name)}: {self.words}"

    def to_dict(self) -> dict:
        """The contract's JSON."""
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


def open_bundle(folder: Path, engine: str = "tensorflow") -> "Bundle | OnnxBundle":
    """Open a bundle in one of ENGINES; with "onnxruntime", neither TensorFlow nor Keras is imported.

    Raises:
        VggnbError: no such engine, not a bundle, or a file that the engine needs is damaged, missing or hostile.
    """
    from vggnb import save

    if engine not in ENGINES:
        raise VggnbError(f"There is no engine '{engine}'.", "--engine", f"Use {' or '.join(ENGINES)}.")
    return save.load_bundle(folder) if engine == "tensorflow" else save.open_onnx(folder)


def predict_files(
    bundle: "Bundle | OnnxBundle", paths: Path | Iterable[Path], *, progress: bool = False
) -> PredictionList:
    """Answer for files, and for every file in folders; a broken file gets its answer in its row.

    Raises:
        VggnbError: a path is empty or does not exist, or a folder holds no file.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if "" in paths:  # an unset variable of the shell; as a path it would be the current folder
        raise VggnbError("A path is empty.", "''", "Name a file or a folder; the current folder is a dot.")
    sources = [(str(path), path) for given in paths for path in files_of(Path(given))]
    return PredictionList(_answer(bundle, sources, progress))


def predict_images(bundle: "Bundle | OnnxBundle", pictures: Iterable[tuple[str, bytes]]) -> list[Prediction]:
    """Answer for pictures in memory: (name, bytes) each; the name is a label and never used as a path."""
    return _answer(bundle, list(pictures))


def predict_listed(bundle: "Bundle | OnnxBundle", names: Iterable[str], *, progress: bool = False) -> list[Prediction]:
    """Answer for names from a list (see `read_names`); one that leads nowhere gets its answer in its row, too."""
    sources: list[tuple[str, Path | VggnbError]] = []
    for name in names:
        try:
            sources += [(str(path), path) for path in files_of(Path(name))]
        except VggnbError as error:
            sources.append((name, error))
    return _answer(bundle, sources, progress)


def read_names(data: bytes) -> list[str]:
    """The names in a list: one a line, or ended by zero bytes as `find -print0` does, so that any name can be told.

    A list of lines may begin with the mark of UTF-8 or UTF-16, as on Windows.

    Raises:
        VggnbError: the list is empty or far too large, or it is UTF-16 that is damaged or lacks its mark.
    """
    if len(data) > MOST_NAMES:
        raise VggnbError("The list is far too large.", "the standard input", "Give it in parts.")
    unread = VggnbError("This UTF-16 cannot be read.", "the standard input", "Write it as UTF-8, one name a line.")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            data = os.fsencode(data.decode("utf-16"))
        except UnicodeError:
            raise unread from None
    ends = b"\0" if b"\0" in data else b"\n"
    pieces = (data if ends == b"\0" else data.removeprefix(codecs.BOM_UTF8)).split(ends)
    if b"\n" in pieces:  # it stands alone where the zero bytes are UTF-16's
        raise unread
    names = [os.fsdecode(name.removesuffix(b"\r") if ends == b"\n" else name) for name in pieces]
    names = [name for name in names if name.strip()]
    if not names:
        remedy = "Give it names of files or folders, one a line."
        raise VggnbError("The list holds no names.", "the standard input", remedy)
    return names


def files_of(path: Path) -> list[Path]:
    """The file itself, or every file in a folder at any depth, in order, without system files.

    Raises:
        VggnbError: it does not exist, is no regular file, or the folder holds no file, or one that
            cannot be listed.
    """
    if not os.path.lexists(path):
        raise VggnbError("There is no such file or folder.", path, "Check the name.")
    if not path.is_dir():
        if path.exists() and not path.is_file():  # reading from a pipe could wait for ever
            what = "This is not a regular file (a pipe, a socket or a device)."
            raise VggnbError(what, path, "Name a picture, or a folder of pictures.")
        return [path]
    root, strays, _ = walk(path)
    inside = [path / name for name in (*root.all_files(), *(stray.path for stray in strays))]
    if not (files := sorted(name for name in inside if name.is_file())):  # a link to a file is one
        raise VggnbError("There are no files in this folder.", path, "Name a folder that holds pictures.")
    return files


def to_csv(answers: Iterable[Prediction], classes: Sequence[str]) -> str:
    """One row a file: path, class, probability, out_of_distribution, error, and the probability of each class.

    In a cell that a spreadsheet would take for a formula, an apostrophe stands first; what is no text is escaped.
    """
    rows = [
        [
            "path",
            "class",
            "probability",
            "out_of_distribution",
            "error",
            *(plain_cell(f"p({name})") for name in classes),
        ]
    ]
    for one in answers:
        outside = {True: "yes", False: "no", None: ""}[one.out_of_distribution]
        cells = [one.path, one.class_name or "", _number(one.probability), outside, one.error or ""]
        rows.append([*map(plain_cell, cells), *(_number(one.probabilities.get(name)) for name in classes)])
    return csv_text(rows).encode("utf-8", "backslashreplace").decode()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _answer(bundle, sources: Sequence[tuple[str, Path | bytes | VggnbError]], progress: bool = False):
    """Decode in threads and predict, a batch at a time, in order."""
    answers: list[Prediction] = []
    with tqdm(total=len(sources), desc="Predicting", unit="image", disable=not progress) as bar:
        for batch, read in _decoded(bundle, sources):
            good = [index for index, pixels in enumerate(read) if isinstance(pixels, np.ndarray)]
            rows = dict(zip(good, _rows(bundle, [read[index] for index in good]), strict=True))
            for index, (name, _) in enumerate(batch):
                ranked, outside = rows.get(index, ({}, None))
                answers.append(Prediction(name, ranked, None if index in rows else read[index], outside))
            bar.update(len(batch))
    return answers


def _decoded(bundle, sources: Sequence) -> Iterator[tuple[Sequence, list[np.ndarray | str]]]:
    """Batches, and of each source its pixels or what is wrong; the next batch is decoded while one is predicted."""

    def read(source: Path | bytes | VggnbError) -> np.ndarray | str:
        try:
            if isinstance(source, VggnbError):
                raise source
            return read_image(source, size=bundle.recipe.image_size, resize=bundle.recipe.resize)
        except VggnbError as error:
            return f"{error.what} {error.remedy}"

    batches = [*(sources[at : at + BATCH] for at in range(0, len(sources), BATCH)), []]
    with ThreadPoolExecutor(max(2, cores())) as pool:
        ahead = [pool.submit(read, source) for _, source in batches[0]]
        for batch, after in itertools.pairwise(batches):
            jobs, ahead = ahead, [pool.submit(read, source) for _, source in after]
            yield batch, [job.result() for job in jobs]


def _rows(bundle, pictures: list[np.ndarray]) -> list[tuple[dict[str, float], bool | None]]:
    """Of each picture the classes, the most probable first, and whether it is out-of-distribution."""
    if not pictures:
        return []
    said, features = bundle.run(np.stack(pictures))
    outside = bundle.ranges.out_of_distribution(features) if bundle.ranges else [None] * len(said)
    return [(_ranked(bundle.classes, row), foreign) for row, foreign in zip(said, outside, strict=True)]


def _ranked(classes: tuple[str, ...], row: np.ndarray) -> dict[str, float]:
    """Class -> probability, most probable first."""
    return {classes[i]: float(row[i]) for i in np.argsort(-row, kind="stable")}
