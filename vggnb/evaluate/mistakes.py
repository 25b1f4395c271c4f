"""What a model got wrong, the surest first, and a list of labels to look at again. Nothing is ever deleted."""

from dataclasses import dataclass

import numpy as np

from vggnb.evaluate.predictions import Predictions
from vggnb.folders import plain_cell, shown
from vggnb.storage import csv_text


@dataclass(frozen=True)
class Mistake:
    """An image, its class, the class the model finds most probable, and that one's probability."""

    path: str
    class_name: str
    predicted: str
    probability: float

    def __str__(self) -> str:
        names = shown(self.class_name), shown(self.predicted)
        return f"{shown(self.path)}: is {names[0]}, said {names[1]} {self.probability:.2f}"


def find_mistakes(predictions: Predictions, classes: tuple[str, ...]) -> list[Mistake]:
    """Where the most probable class is not the true one, the surest first."""
    return [one for one in _told(predictions, classes, surest=True) if one.predicted != one.class_name]


def least_certain(predictions: Predictions, classes: tuple[str, ...], *, most: int = 12) -> list[Mistake]:
    """The images about which the model is least sure, right or wrong, the least sure first."""
    return _told(predictions, classes, surest=False)[:most]


def confused_pairs(report) -> list[tuple[str, str, int]]:
    """Which two classes are taken for each other, and how often, either way; the most frequent first.

    Args:
        report: anything with `confusion`, int (classes, classes), and `classes`.
    """
    both = np.triu(report.confusion + report.confusion.T, k=1)
    pairs = sorted(np.argwhere(both).tolist(), key=lambda pair: -both[tuple(pair)])
    return [(report.classes[i], report.classes[j], int(both[i, j])) for i, j in pairs]


def relabel_list(predictions: Predictions, classes: tuple[str, ...]) -> bytes:
    """Labels to look at again, as CSV (path, class, predicted, probability), the surest mistakes first.

    It proposes; nothing is changed. A cell that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    rows = (
        [*map(plain_cell, (one.path, one.class_name, one.predicted)), f"{one.probability:.4f}"]
        for one in find_mistakes(predictions, classes)
    )
    text = csv_text([["path", "class", "predicted", "probability"], *rows])
    return text.encode("utf-8", "surrogateescape")


def _told(predictions: Predictions, classes: tuple[str, ...], *, surest: bool) -> list[Mistake]:
    """All images by confidence."""
    said, sure = predictions.probabilities.argmax(axis=1), predictions.probabilities.max(axis=1)
    order = np.argsort(-sure if surest else sure, kind="stable")
    labels = predictions.labels
    return [Mistake(predictions.paths[k], classes[labels[k]], classes[said[k]], float(sure[k])) for k in order]
