"""Files in, ranked class names out: the same decoder and the same pixels as in training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggnb.folders import is_system, shown
from vggnb.images import read_image
from vggnb.model import compiled
from vggnb.save import Bundle
from vggnb.storage import VggnbError

BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture: classes from most to least probable, or why there is none."""

    path: str
    probabilities: dict[str, float]
    error: str | None = None

    @property
    def class_name(self) -> str | None:
        """The most probable class."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """Of the most probable class, 0 to 1."""
        return next(iter(self.probabilities.values()), None)

    def __str__(self) -> str:
        name = shown(Path(self.path).name)
        if self.error:
            return f"{name}: {self.error}"
        return f"{name}: " + ", ".join(f"{kind} {p:.2f}" for kind, p in self.probabilities.items())

    def to_dict(self) -> dict:
        """The contract's JSON."""
        if self.error:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "class": self.class_name,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }


def predict_files(bundle: Bundle, paths: Path | Iterable[Path]) -> list[Prediction]:
    """Answer for files, and for every file in folders; a broken file gets its answer in its row.

    Raises:
        VggnbError: a path does not exist, or a folder holds no file.
    """
    return _answer(bundle, [(str(path), path) for path in _files(paths)])


def predict_images(bundle: Bundle, pictures: Iterable[tuple[str, bytes]]) -> list[Prediction]:
    """Answer for pictures in memory: (name, bytes) each; the name is a label and never used as a path."""
    return _answer(bundle, list(pictures))


def _files(paths: Path | Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in [Path(paths)] if isinstance(paths, str | Path) else map(Path, paths):
        if not path.exists():
            raise VggnbError("There is no such file or folder.", path, "Check the name.")
        inside = sorted(
            p for p in path.rglob("*") if p.is_file() and not any(map(is_system, p.relative_to(path).parts))
        )
        if path.is_dir() and not inside:
            raise VggnbError("There are no files in this folder.", path, "Name a folder that holds pictures.")
        files += inside if path.is_dir() else [path]
    return files


def _answer(bundle: Bundle, sources: Sequence[tuple[str, Path | bytes]]) -> list[Prediction]:
    """Decode and predict a batch at a time, in order."""
    answers, model = [], compiled(bundle.model)
    for at in range(0, len(sources), BATCH):
        pixels, errors = {}, {}
        for index, (_, source) in enumerate(sources[at : at + BATCH]):
            try:
                pixels[index] = read_image(source, size=bundle.recipe.image_size, resize=bundle.recipe.resize)
            except VggnbError as error:
                errors[index] = f"{error.what} {error.remedy}"
        said = model(np.stack(list(pixels.values()))) if pixels else []
        rows = dict(zip(pixels, said, strict=True))
        for index, (name, _) in enumerate(sources[at : at + BATCH]):
            ranked = _ranked(bundle.classes, rows[index]) if index in rows else {}
            answers.append(Prediction(name, ranked, errors.get(index)))
    return answers


def _ranked(classes: tuple[str, ...], row: np.ndarray) -> dict[str, float]:
    """Class -> probability, most probable first."""
    return {classes[i]: float(row[i]) for i in np.argsort(-row, kind="stable")}
