"""Two models on the same images: is one really better, or only luckier?"""

from dataclasses import dataclass, replace

import numpy as np

from vggnb.evaluate.intervals import DRAWS, Interval, bootstrap_weights, percentiles, wilson
from vggnb.evaluate.metrics import SMALLER_IS_BETTER, positive_class, said_classes, values_of
from vggnb.evaluate.predictions import Predictions, predict_split
from vggnb.storage import VggnbError
from vggnb.train import Run


@dataclass(frozen=True)
class Comparison:
    """Second minus first, for each metric, with its 95 % interval; a difference of 0 inside it may be luck.

    Attributes:
        only_first, only_second: images that just one of the two got right; the others cannot tell them apart.
    """

    n: int
    only_first: int
    only_second: int
    differences: dict[str, Interval]

    def __str__(self) -> str:
        lines = [f"{self.n} images; right on one only: the first {self.only_first}, the second {self.only_second}"]
        lines += ["", f"{'second minus first':20}difference (95 % interval)"]
        for name, one in self.differences.items():
            sign = -1 if name in SMALLER_IS_BETTER else 1
            low, high = sorted((sign * one.low, sign * one.high))
            verdict = "the second is better" if low > 0 else "the first is better" if high < 0 else "may be luck"
            text = f"{one.value:+.2f}  ({one.low:+.2f} to {one.high:+.2f})"
            lines.append(f"{name.replace('_', ' '):20}{text}  {verdict}")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        differences = {name: vars(one) for name, one in self.differences.items()}
        return {**vars(self), "differences": differences}


def compare(
    first: Run, second: Run, split: str = "test", *, positive: str | None = None, draws: int = DRAWS, progress=True
) -> Comparison:
    """Two runs on the same split of the same dataset: a paired bootstrap, which draws the same images for both.

    Raises:
        VggnbError: the runs have other classes, or the split holds other images.
    """
    if first.classes != second.classes:
        what = f"The first run knows {list(first.classes)}, the second {list(second.classes)}."
        raise VggnbError(what, second.folder, "Compare runs on the same dataset.")
    pair = [predict_split(run, split, progress=progress) for run in (first, second)]
    return compare_predictions(*pair, first.classes, positive=positive, draws=draws)


def compare_predictions(
    first: Predictions, second: Predictions, classes: tuple[str, ...], *, positive: str | None = None, draws=DRAWS
) -> Comparison:
    """The same for what two models said; images that one of them could not read are left out of both."""
    shared = set(first.paths) & set(second.paths)
    first, second = (one.without(set(one.paths) - shared) for one in (first, second))
    second = _in_order(second, first.paths)
    if not shared or not np.array_equal(first.labels, second.labels):
        what = "The two models were not asked about the same images."
        raise VggnbError(what, "the comparison", "Compare runs on the same split of the same dataset.")
    name = positive_class(classes, positive)
    index, threshold = (None, None) if name is None else (classes.index(name), 0.5)
    weights = bootstrap_weights(first.labels, draws=draws, seed=0, groups=first.groups)
    once = np.ones((1, len(first.labels)), np.int64)
    values = [[values_of(one, index, threshold, w) for w in (once, weights)] for one in (first, second)]
    nothing = wilson(0, len(first.labels)).high
    differences = {}
    for metric in values[0][0]:
        value, drawn = (values[1][k][metric] - values[0][k][metric] for k in (0, 1))
        one = percentiles(float(value[0]), drawn)
        if one.high - one.low < 1e-12:  # no image tells the two apart: that so many did not, says this much
            one = replace(one, low=one.value - nothing, high=one.value + nothing)
        differences[metric] = one
    right = [said_classes(one.probabilities, index, threshold) == one.labels for one in (first, second)]
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    return Comparison(len(first.labels), *only, differences)


def _in_order(predictions: Predictions, paths: tuple[str, ...]) -> Predictions:
    """The same predictions in the order of these paths."""
    places = {path: index for index, path in enumerate(predictions.paths)}
    order = [places[path] for path in paths]
    groups = tuple(predictions.groups[k] for k in order) if predictions.groups else ()
    return replace(
        predictions,
        paths=paths,
        labels=predictions.labels[order],
        probabilities=predictions.probabilities[order],
        groups=groups,
    )
