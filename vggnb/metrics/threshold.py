"""The decision threshold: the positive class is predicted from this probability on. Chosen on validation images."""

from dataclasses import dataclass

import numpy as np

from vggnb.metrics.intervals import Interval, share_right
from vggnb.metrics.predictions import Predictions, predicted_classes
from vggnb.storage import VggnbError


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, the aim it was chosen for, and what it achieves on the images it was chosen on."""

    threshold: float
    aim: str
    sensitivity: Interval
    specificity: Interval
    images: int

    def __str__(self) -> str:
        text = f"threshold {self.threshold:.3f} was chosen on {self.images} validation images for {self.aim}: "
        return text + f"sensitivity {self.sensitivity}, specificity {self.specificity} on them"


def choose_threshold(
    predictions: Predictions, positive: int, *, sensitivity: float | None = None, cost_ratio: float | None = None
) -> OperatingPoint:
    """The threshold that reaches a sensitivity with the fewest false positives, or that costs least.

    It lies half way between two probabilities that occurred, so that rounding cannot move it past one.

    Args:
        predictions: of validation images, never of test.
        positive: index of the positive class, of two.
        sensitivity: share of positives to find, above 0, up to 1.
        cost_ratio: number of false positives that cost as much as one missed positive, above 0; instead of
            `sensitivity`.

    Raises:
        VggnbError: not exactly one aim, one out of range, or images of one class only.
    """
    from sklearn.metrics import roc_curve  # takes a second to import

    if (sensitivity is None) == (cost_ratio is None):
        raise VggnbError("Give either a sensitivity or a cost ratio.", "the threshold", "Give one of the two.")
    if sensitivity is not None and not 0 < sensitivity <= 1:
        remedy = "Use a share above 0 and up to 1, such as 0.9."
        raise VggnbError(f"A sensitivity of {sensitivity} cannot be reached.", "--sensitivity", remedy)
    if cost_ratio is not None and not 0 < cost_ratio < np.inf:
        remedy = "Give the number of false positives that cost as much as one missed positive, such as 5."
        raise VggnbError(f"A cost ratio of {cost_ratio} is out of range.", "--cost-ratio", remedy)
    truth, scores = predictions.labels == positive, predictions.probabilities[:, positive]
    if truth.all() or not truth.any():
        what = "A threshold needs validation images of both classes."
        raise VggnbError(what, "validation", "Add some, or let the split take them from train.")
    alarms, found, cuts = (column[1:] for column in roc_curve(truth, scores, drop_intermediate=False))
    if sensitivity is not None:
        best = int(np.flatnonzero(found >= sensitivity - 1e-12)[0])
        aim = f"a sensitivity of at least {sensitivity:g}"
    else:
        cost = cost_ratio * (1 - found) * truth.sum() + alarms * (~truth).sum()
        best = int(np.flatnonzero(cost <= cost.min() + 1e-9)[0])
        aim = f"the least cost if a missed positive costs as much as {cost_ratio:g} false positives"
    threshold = float(cuts[best] + np.append(cuts, 0.0)[best + 1]) / 2
    right = predicted_classes(predictions.probabilities, positive, threshold) == predictions.labels
    shares = [share_right(right, members, predictions.codes) for members in (truth, ~truth)]
    return OperatingPoint(threshold, aim, *shares, len(truth))
