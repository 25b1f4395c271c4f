"""Every score of a classifier: the values of scikit-learn, for one sample or for many resampled ones at once."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from vggnb.metrics import intervals
from vggnb.metrics.intervals import DRAWS, Interval, group_codes, independent, proportion
from vggnb.metrics.predictions import Predictions, predicted_classes

METRICS = {  # name in JSON -> name for people, in the order of every table
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc_ovr": "AUC, one against the rest",
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "ece": "calibration error",
    "brier": "Brier score",
}
LOWER_IS_BETTER = ("ece", "brier")
RECALLS = {True: "sensitivity", False: "specificity"}  # of the positive class, of the other
BINS = 10  # of confidence, of equal width (Guo et al. 2017, doi 10.48550/arXiv.1706.04599)
WORK = 100_000_000  # images x classes x draws; many classes on many images get fewer draws
FEWEST_DRAWS = 100


def bootstrap_auc(labels, scores, *, draws: int = DRAWS, seed: int = 0, groups: Sequence[str] = ()) -> Interval:
    """Area under the ROC curve with its 95 % interval.

    Args:
        labels: bool or 0 and 1 (n,), of both kinds.
        scores: float (n,), larger for positive.
        groups: n names of what belongs together (a patient, a lesion), "" for an image alone; empty: no groups.
    """
    positive, scores, codes = np.asarray(labels).astype(bool), np.asarray(scores, float), group_codes(groups)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"auc": auc(positive, scores, weights)}

    drawn = intervals.bootstrap(positive.astype(int), score, draws=draws, seed=seed, codes=codes)["auc"]
    smallest = min(independent(positive == kind, codes) for kind in (False, True))
    return intervals.logit_interval(float(auc(positive, scores)[0]), drawn, n=smallest)


# Of each draw: weights (draws, n) in, how often each image is in each draw (None: each once); float64 (draws,) out.


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties half."""
    gained, alarms = _steps(positive, scores, weights)
    below = np.cumsum(alarms, axis=1) - alarms / 2
    return (gained * below).sum(axis=1) / (gained.sum(axis=1) * alarms.sum(axis=1))


def average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision: the precision at each threshold, weighted by the positives gained there."""
    gained, alarms = (steps[:, ::-1] for steps in _steps(positive, scores, weights))
    found, predicted = np.cumsum(gained, axis=1), np.cumsum(gained + alarms, axis=1)
    return (gained * found / np.maximum(predicted, 1)).sum(axis=1) / gained.sum(axis=1)


def _steps(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives of each draw at each different score, from the lowest: two of (draws, scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered = (np.ones((1, len(scores))) if weights is None else weights)[:, order]
    return tuple(np.add.reduceat(ordered * kind, starts, axis=1) for kind in (positive[order], ~positive[order]))


def calibration_error(labels, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Expected calibration error: distance of confidence and accuracy in 10 bins of confidence, averaged by images."""
    confidence, bins = _confidence(probabilities)
    weights = np.ones((1, len(bins))) if weights is None else weights
    gaps = _by_code(weights, bins, BINS, confidence - (probabilities.argmax(axis=1) == labels))
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


def reliability(labels, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and number of images of each bin of `calibration_error` that holds any."""
    confidence, bins = _confidence(probabilities)
    right, n = probabilities.argmax(axis=1) == labels, np.bincount(bins, minlength=BINS)
    mean, share = (np.bincount(bins, values, minlength=BINS) / np.maximum(n, 1) for values in (confidence, right))
    return mean[n > 0], share[n > 0], n[n > 0]


def expected_calibration_error(probabilities: np.ndarray, *, draws: int = 200) -> float:
    """The calibration error that a perfectly calibrated model would show on these images, on average; it is not 0."""
    confidence, bins = _confidence(probabilities)
    n, random = len(bins), np.random.default_rng(0)
    drawn = (np.bincount(bins, confidence - (random.random(n) < confidence)) for _ in range(draws))
    return float(np.mean([np.abs(gaps).sum() / n for gaps in drawn]))


def _confidence(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the most probable class, and the bin that it falls into."""
    confidence = probabilities.max(axis=1)
    return confidence, np.minimum((confidence * BINS).astype(int), BINS - 1)


def _by_code(weights: np.ndarray, codes: np.ndarray, number: int, values: np.ndarray | None = None) -> np.ndarray:
    """Sums of weights, or of weighted values, of the images with each code: (draws, number)."""
    n = len(codes)
    values = np.ones(n) if values is None else values.astype(float)
    return weights @ csr_array((values, (np.arange(n), codes)), shape=(n, number))


def scores_of(
    predictions: Predictions, positive: int | None, threshold: float | None, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every score that comes from the images alone; means are over the classes with images.

    With images of one class only, that is the accuracy and, of two classes, sensitivity or specificity. `positive` is
    the index of the positive class, None for more than two classes.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    weights = np.ones((1, len(labels))) if weights is None else weights
    predicted = predicted_classes(probabilities, positive, threshold)
    k, present, right, total = probabilities.shape[1], np.unique(labels), predicted == labels, weights.sum(axis=1)
    are, hits = (_by_code(weights, labels, k, values)[:, present] for values in (None, right))
    recalls = hits / are
    values = {"accuracy": weights @ right / total}
    if positive is not None:
        values |= {RECALLS[c == positive]: recalls[:, at] for at, c in enumerate(present)}
    if len(present) > 1:
        values["balanced_accuracy"] = recalls.mean(axis=1)
        if positive is None:
            called = _by_code(weights, predicted, k)[:, present]
            values["macro_f1"] = (2 * hits / np.maximum(called + are, 1)).mean(axis=1)
            values["auc_ovr"] = np.mean([auc(labels == c, probabilities[:, c], weights) for c in present], axis=0)
        else:
            ranked = labels == positive, probabilities[:, positive], weights
            values |= {"auc": auc(*ranked), "average_precision": average_precision(*ranked)}
        values["ece"] = calibration_error(labels, probabilities, weights)
        # Half the squared distance of an image's probabilities from its class: of two classes scikit-learn's score.
        errors = (probabilities**2).sum(axis=1) - 2 * probabilities[np.arange(len(labels)), labels] + 1
        values["brier"] = weights @ (errors / 2) / total
    return {name: values[name] for name in METRICS if name in values}


def measure(
    predictions: Predictions, positive: int | None, threshold: float | None, prevalence: float | None, draws: int
) -> dict[str, Interval]:
    """All metrics with their intervals.

    Proportions get Wilson's interval, balanced accuracy one made of these, the others a bootstrap within each class.
    """
    labels, codes, (n, k) = predictions.labels, predictions.codes, predictions.probabilities.shape
    draws = max(min(draws, FEWEST_DRAWS), min(draws, WORK // (n * k)))
    options = positive, threshold
    drawn = intervals.bootstrap(labels, lambda w: scores_of(predictions, *options, w), draws=draws, codes=codes)
    right = predicted_classes(predictions.probabilities, *options) == labels
    recalls = {c: proportion(right, codes, among=labels == c) for c in np.unique(labels)}
    sizes = {c: independent(labels == c, codes) for c in recalls}
    metrics = {"accuracy": proportion(right, codes)}
    if len(recalls) > 1:
        metrics["balanced_accuracy"] = intervals.mean_of(list(recalls.values()))
    if positive is not None:
        metrics |= {RECALLS[c == positive]: one for c, one in recalls.items()}
    images = {"macro_f1": sum(sizes.values()), "average_precision": sizes.get(positive)}
    for name, (value,) in scores_of(predictions, *options).items():
        if name in LOWER_IS_BETTER:
            metrics[name] = intervals.percentile_interval(float(value), drawn[name])
        elif name not in metrics:
            n = images.get(name, min(sizes.values()))
            metrics[name] = intervals.logit_interval(float(value), drawn[name], n=n)
    if positive is not None and len(recalls) > 1:
        for name, c, share in (("ppv", positive, prevalence), ("npv", 1 - positive, 1 - prevalence)):
            pair = (sizes[c], sizes[1 - c])
            metrics[name] = intervals.predictive_value(recalls[c].value, 1 - recalls[1 - c].value, share, pair)
    return {name: metrics[name] for name in METRICS if metrics.get(name) is not None}


def baselines(labels: np.ndarray, metrics: Sequence[str], positive: int | None, prevalence: float | None) -> dict:
    """Each metric of a model that always predicts the most frequent class, with the classes' shares as probabilities.

    Empty where all images are of one class: such a model is then always right.
    """
    counts = np.bincount(labels)
    shares = counts[counts > 0] / len(labels)
    if len(shares) < 2:
        return {}
    top, classes = float(shares.max()), len(shares)
    values = {"accuracy": top, "balanced_accuracy": 1 / classes, "macro_f1": 2 * top / (1 + top) / classes}
    values |= {"auc": 0.5, "auc_ovr": 0.5, "ece": 0.0, "brier": float(1 - (shares**2).sum()) / 2}
    if positive is not None:
        always = int(shares.argmax()) == positive
        values |= {"average_precision": float(shares[positive]), "sensitivity": float(always)}
        values |= {"specificity": 1.0 - always, **({"ppv": prevalence} if always else {"npv": 1 - prevalence})}
    return {name: values[name] for name in metrics if name in values}
