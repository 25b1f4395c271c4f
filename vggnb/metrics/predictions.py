"""Probabilities for labelled images, and what is wrong among them: mistakes, top losses."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from vggnb.folders import plain_cell, shown
from vggnb.metrics.intervals import group_codes
from vggnb.storage import VggnbError, csv_text

TINY = 1e-30  # in place of a probability that came out as 0


@dataclass(frozen=True)
class Predictions:
    """Probabilities float64 (n, classes) for labelled images, labels int64 (n,), in the same order.

    Attributes:
        unreadable: (path, reason) of each image that is left out.
        groups: what each image belongs to (a lesion, a patient, its duplicates), "" for nothing; empty: no groups.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    unreadable: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def codes(self) -> np.ndarray | None:
        """The number of each image's group; None: no groups."""
        return group_codes(self.groups)

    def take(self, indices: Sequence[int]) -> "Predictions":
        """Some of the images, in this order."""
        indices = np.asarray(indices, int)
        paths, groups = (tuple(names[k] for k in indices) if names else () for names in (self.paths, self.groups))
        labels, probabilities = self.labels[indices], self.probabilities[indices]
        return replace(self, paths=paths, labels=labels, probabilities=probabilities, groups=groups)

    def to_csv(self, classes: Sequence[str]) -> bytes:
        """Path, label and one probability per class; an unreadable file has a reason instead."""
        images = zip(self.paths, self.labels, self.probabilities, strict=True)
        rows = ([path, int(label), *map(repr, row.tolist())] for path, label, row in images)
        return csv_text([["path", "label", *classes], *rows, *self.unreadable]).encode("utf-8", "surrogateescape")

    @classmethod
    def from_csv(cls, data: bytes) -> "Predictions":
        """The predictions that `to_csv` gave, without groups; anything else is a ValueError."""
        try:
            header, *lines = csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))
        except csv.Error as error:
            raise ValueError(str(error)) from error
        if len(header) < 4 or any(len(line) not in (2, len(header)) for line in lines):
            raise ValueError("its lines are of another length")
        rows, unreadable = ([line for line in lines if (len(line) == 2) == short] for short in (False, True))
        labels = np.array([int(row[1]) for row in rows], int)
        probabilities = np.array([[float(p) for p in row[2:]] for row in rows]).reshape(len(rows), len(header) - 2)
        return cls(tuple(row[0] for row in rows), labels, probabilities, tuple(map(tuple, unreadable)))

    def binary(self, positive: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Of two classes, as curves take it: which images are positive, bool (n,), and their probabilities."""
        return self.labels == positive, self.probabilities[:, positive]

    def uncalibrated(self, temperature: float) -> "Predictions":
        """The same without temperature scaling by this temperature (`run.calibration().temperature`)."""
        return replace(self, probabilities=at_temperature(self.probabilities, 1 / temperature))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, classes) with their logits divided by `temperature`; by 1 / T undoes a temperature T."""
    return softmax(np.log(np.maximum(probabilities, TINY)) / temperature, axis=1)


def positive_class(classes: Sequence[str], wanted: str | None = None) -> str | None:
    """The positive class of two: the one wanted, else the last in alphabetical order; None for more classes.

    Raises:
        VggnbError: `wanted` is not a class.
    """
    if wanted is not None and wanted not in classes:
        raise VggnbError(f"'{wanted}' is not a class.", "--positive", f"Use one of: {', '.join(classes)}.")
    return (wanted or sorted(classes)[-1]) if len(classes) == 2 else None


def predicted_classes(probabilities: np.ndarray, positive: int | None, threshold: float | None) -> np.ndarray:
    """The predicted class, int (n,): the positive one from the threshold on; of more than two, the most probable."""
    if positive is None:
        return probabilities.argmax(axis=1)
    return np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)


@dataclass(frozen=True)
class Mistake:
    """An image, its class, the most probable class, and its probability."""

    path: str
    class_name: str
    predicted: str
    probability: float

    def __str__(self) -> str:
        names = shown(self.class_name), shown(self.predicted)
        return f"{shown(self.path)}: {names[0]}, predicted {names[1]} {self.probability:.2f}"


def find_mistakes(predictions: Predictions, classes: Sequence[str]) -> list[Mistake]:
    """Images whose most probable class is not the true one, the most confident first (top losses)."""
    return [one for one in _by_confidence(predictions, classes, -1) if one.predicted != one.class_name]


def least_confident(predictions: Predictions, classes: Sequence[str], *, most: int = 12) -> list[Mistake]:
    """The images with the lowest confidence, right or wrong, the lowest first."""
    return _by_confidence(predictions, classes, 1)[:most]


def _by_confidence(predictions: Predictions, classes: Sequence[str], sign: int) -> list[Mistake]:
    confidence, best = predictions.probabilities.max(axis=1), predictions.probabilities.argmax(axis=1)
    return [
        Mistake(predictions.paths[k], classes[predictions.labels[k]], classes[best[k]], float(confidence[k]))
        for k in np.argsort(sign * confidence, kind="stable")
    ]


def relabel_list(predictions: Predictions, classes: Sequence[str]) -> bytes:
    """Labels to check, as CSV (path, class, predicted, probability), the most confident mistakes first.

    It changes nothing. A cell that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    rows = [
        [*map(plain_cell, (one.path, one.class_name, one.predicted)), f"{one.probability:.4f}"]
        for one in find_mistakes(predictions, classes)
    ]
    return csv_text([["path", "class", "predicted", "probability"], *rows]).encode("utf-8", "surrogateescape")
