"""Two models on the same images: is the difference significant?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vggnb.folders import html_table
from vggnb.metrics.intervals import DRAWS, Interval, bootstrap, percentile_interval, wilson
from vggnb.metrics.predictions import Predictions, positive_class, predicted_classes
from vggnb.metrics.scores import LOWER_IS_BETTER, METRICS, scores_of
from vggnb.storage import VggnbError


@dataclass(frozen=True, repr=False)
class Comparison:
    """Second minus first for each metric, with its 95 % interval; where that holds 0, it is not significant.

    Attributes:
        only_first, only_second: images that only this one of the two predicted correctly.
    """

    n: int
    only_first: int
    only_second: int
    differences: dict[str, Interval]

    def verdict(self, metric: str, names: tuple[str, str] = ("the first", "the second")) -> str:
        """Which of the two is better, if the difference is significant."""
        one, sign = self.differences[metric], -1 if metric in LOWER_IS_BETTER else 1
        if one.low <= 0 <= one.high:
            return "not significant"
        return f"{names[sign * one.value > 0]} is better"

    def summary(self) -> str:
        """The number of images on which the two differ."""
        text = f"{self.n} images; right with the first alone {self.only_first}"
        return f"{text}, with the second alone {self.only_second}"

    def rows(self) -> list[tuple[str, str, str, str]]:
        """For each metric its name, the difference, its interval and the verdict, as text."""
        return [
            (METRICS[name], f"{one.value:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}", self.verdict(name))
            for name, one in self.differences.items()
        ]

    def __str__(self) -> str:
        lines = [f"{name:28}{value} ({ends})  {verdict}" for name, value, ends, verdict in self.rows()]
        return "\n".join([self.summary(), "", f"{'second minus first':28}difference (95 % interval)", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_table(("metric", "second minus first", "95 % interval", ""), self.rows(), title=self.summary())

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {**vars(self), "differences": {name: vars(one) for name, one in self.differences.items()}}


def compare_predictions(
    first: Predictions, second: Predictions, classes: Sequence[str], *, positive: str | None = None, draws: int = DRAWS
) -> Comparison:
    """A paired bootstrap, which draws the same images for both; images that one of them lacks are left out.

    Raises:
        VggnbError: the two have no image in common, or not the same labels.
    """
    places = {path: index for index, path in enumerate(second.paths)}
    shared = [index for index, path in enumerate(first.paths) if path in places]
    first, second = first.take(shared), second.take([places[first.paths[index]] for index in shared])
    if not shared or not np.array_equal(first.labels, second.labels):
        what = "The two models did not predict the same images."
        raise VggnbError(what, "the comparison", "Compare runs on the same split of the same dataset.")
    name = positive_class(classes, positive)
    index, threshold = (None, None) if name is None else (classes.index(name), 0.5)

    def difference(weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        old, new = (scores_of(one, index, threshold, weights) for one in (first, second))
        return {metric: new[metric] - old[metric] for metric in new}

    drawn = bootstrap(first.labels, difference, draws=draws, codes=first.codes)
    # Where no image tells the two apart, their number still limits how far apart they may be.
    least = wilson(0, len(first.labels)).high
    differences = {}
    for metric, (value,) in difference().items():
        one = percentile_interval(float(value), drawn[metric])
        known = one.high - one.low > 1e-12
        differences[metric] = one if known else Interval(one.value, one.value - least, one.value + least)
    old, new = (predicted_classes(one.probabilities, index, threshold) == one.labels for one in (first, second))
    return Comparison(len(shared), int((old & ~new).sum()), int((new & ~old).sum()), differences)
