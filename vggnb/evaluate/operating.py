"""From which probability on the positive class is said: chosen on validation, then judged on test."""

from dataclasses import dataclass

import numpy as np

from vggnb.evaluate.intervals import Interval
from vggnb.evaluate.metrics import said_classes, share_of
from vggnb.evaluate.predictions import Predictions
from vggnb.storage import VggnbError


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, what it was chosen for, and what it does on the images it was chosen on (validation)."""

    threshold: float
    wanted: str
    sensitivity: Interval
    specificity: Interval
    images: int

    def __str__(self) -> str:
        text = f"threshold {self.threshold:.2f}, chosen on {self.images} validation images for {self.wanted}: "
        return text + f"there sensitivity {self.sensitivity}, specificity {self.specificity}"


def choose_threshold(
    predictions: Predictions, positive: int, *, sensitivity: float | None = None, cost_ratio: float | None = None
) -> OperatingPoint:
    """The threshold that reaches a sensitivity with the fewest false alarms, or that costs least.

    It lies half way between two probabilities that occurred, so that rounding cannot move it past one.

    Args:
        predictions: of validation images, never of test.
        positive: index of the positive class, of two.
        sensitivity: share of positives to find, above 0, up to 1.
        cost_ratio: how many false alarms are as bad as one missed positive, above 0; instead of `sensitivity`.

    Raises:
        VggnbError: not exactly one wish, one out of range, or images of one class only.
    """
    if (sensitivity is None) == (cost_ratio is None):
        raise VggnbError("Give either a sensitivity or a cost ratio.", "the threshold", "Give one of the two.")
    if sensitivity is not None and not 0 < sensitivity <= 1:
        remedy = "Use a share above 0 and up to 1, such as 0.9."
        raise VggnbError(f"A sensitivity of {sensitivity} cannot be reached.", "--sensitivity", remedy)
    if cost_ratio is not None and not 0 < cost_ratio < np.inf:
        remedy = "Say how many false alarms are as bad as one missed positive, such as 5."
        raise VggnbError(f"A cost ratio of {cost_ratio} is out of range.", "--cost-ratio", remedy)
    truth, scores = predictions.labels == positive, predictions.probabilities[:, positive]
    if truth.all() or not truth.any():
        what = "A threshold needs validation images of both classes."
        raise VggnbError(what, "validation", "Add some, or let the split cut them from train.")
    cuts = np.concatenate([[0.0], np.unique(scores)])  # said from here on
    found = (scores[truth, None] >= cuts).mean(axis=0)
    alarmed = (scores[~truth, None] >= cuts).sum(axis=0)
    if sensitivity is not None:
        best = int(np.flatnonzero(found >= sensitivity - 1e-12)[-1])
        wanted = f"a sensitivity of at least {sensitivity:g}"
    else:
        cost = cost_ratio * (1 - found) * truth.sum() + alarmed
        best = int(np.flatnonzero(cost == cost.min())[-1])
        wanted = f"the least cost, a missed positive being as bad as {cost_ratio:g} false alarms"
    threshold = float(cuts[max(best - 1, 0)] + cuts[best]) / 2
    right = said_classes(predictions.probabilities, positive, threshold) == predictions.labels
    shares = [share_of(right, members, predictions.groups) for members in (truth, ~truth)]
    return OperatingPoint(threshold, wanted, *shares, len(truth))
