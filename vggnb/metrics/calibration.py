"""What validation images decide: the decision threshold, the temperature, and what is out-of-distribution."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from vggnb.metrics.intervals import Interval, proportion
from vggnb.metrics.predictions import Predictions, predicted_classes
from vggnb.storage import VggnbError

FEWEST_FOR_TEMPERATURE = 30  # validation images; what is fitted on fewer is mostly noise
FEWEST_FOR_LIMIT = 20
LOWEST, HIGHEST = 0.05, 20.0  # temperature
FALSE_ALARMS = 0.02  # share of images like the training data that may be flagged
TOLERANCE = 1e-3  # of a range's width: engines round differently


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
    truth, scores = predictions.binary(positive)
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
    shares = [proportion(right, predictions.codes, among=members) for members in (truth, ~truth)]
    return OperatingPoint(threshold, aim, *shares, len(truth))


@dataclass(frozen=True)
class Calibration:
    """A temperature, the number of images that it was fitted on, and their mean log loss before and after."""

    temperature: float = 1.0
    images: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    reason: str = ""  # why the temperature is 1 and was not fitted

    def __str__(self) -> str:
        if self.reason:
            return f"not calibrated (temperature 1): {self.reason}"
        text = f"temperature {self.temperature:.2f}, fitted on {self.images} validation images: "
        return text + f"their log loss {self.loss_before:.3f} -> {self.loss_after:.3f}"


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Temperature scaling: one number, fitted on images that the model was not trained on, divides the logits.

    After Guo et al. 2017 (doi 10.48550/arXiv.1706.04599). A temperature above 1 makes an overconfident model less
    confident; the most probable class stays the same. It stays 1 where there are fewer than 30 images, or none of some
    class. Logits are float (n, classes), labels int (n,).
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    n = len(labels)
    if n < FEWEST_FOR_TEMPERATURE:
        reason = f"{n} validation images are too few; at least {FEWEST_FOR_TEMPERATURE} are needed"
        return Calibration(images=n, reason=reason)
    if len(np.unique(labels)) < logits.shape[1]:
        return Calibration(images=n, reason="a class has no validation image")
    temperature = fit_temperature(logits, labels)
    before, after = (-log_softmax(logits / t, axis=1)[np.arange(n), labels].mean() for t in (1.0, temperature))
    return Calibration(temperature, n, round(float(before), 6), round(float(after), 6))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 0.05 and 20 with the least log loss, to four digits.

    Targets are 1 - 1 / (n + 2) instead of 1, after Platt (1999), so that a model without errors does not become
    infinitely confident.
    """
    n, classes = logits.shape
    targets = np.full((n, classes), 1 / (n + 2) / (classes - 1))
    targets[np.arange(n), labels] = 1 - 1 / (n + 2)

    def loss(log_temperature: float) -> float:
        return -(targets * log_softmax(logits / np.exp(log_temperature), axis=1)).sum()

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.4g}")


@dataclass(frozen=True)
class FeatureRanges:
    """The range of each feature in training, and the largest share of features outside that is still accepted.

    An image with a larger share is out-of-distribution. A probability does not show this: a network without a class
    "none of these" is as confident about a shoe. The test is a hint and no guarantee: a model of skin lesions flagged
    330 of 330 photographs of waste, a model of waste only a third of the lesions.

    """

    low: np.ndarray  # float32 (d,), of the features that enter the head
    high: np.ndarray
    limit: float | None  # share of features, 0 to 1
    images: int  # of validation, that the limit comes from
    reason: str = ""  # why there is no limit

    def __str__(self) -> str:
        if self.limit is None:
            return f"out-of-distribution images are not detected: {self.reason}"
        text = f"out-of-distribution: more than {100 * self.limit:.0f} % of {len(self.low)} features outside their "
        return text + f"range in training (limit from {self.images} validation images)"

    def out_of_distribution(self, features: np.ndarray) -> list[bool | None]:
        """For features (n, d), one answer per image; None where there is no limit."""
        if self.limit is None:
            return [None] * len(features)
        return [bool(share > self.limit) for share in share_outside(features, self.low, self.high)]


def fit_ranges(train: np.ndarray, validation: np.ndarray) -> FeatureRanges:
    """Ranges from training images, the limit from validation images; both float32 (n, d), features for the head.

    The limit is such that about 2 % of images from the same source are flagged (split conformal prediction, Vovk et al.
    2005): the ceil(0.98 (n + 1))-th smallest of the n shares, or the largest where there are fewer than 49.
    """
    low, high = train.min(axis=0).astype(np.float32), train.max(axis=0).astype(np.float32)
    n = len(validation)
    if n < FEWEST_FOR_LIMIT:
        reason = f"{n} validation images are too few; at least {FEWEST_FOR_LIMIT} are needed."
        return FeatureRanges(low, high, None, n, reason)
    rank = min(math.ceil((1 - FALSE_ALARMS) * (n + 1)), n)
    limit = float(np.sort(share_outside(validation, low, high))[rank - 1])
    return FeatureRanges(low, high, limit, n)


def share_outside(features: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The share of each image's features that lie outside their range, float64 (n,); NaN counts as outside."""
    slack = TOLERANCE * (high - low)
    return 1 - ((features >= low - slack) & (features <= high + slack)).mean(axis=1)
