"""Every score of a classifier: the values of scikit-learn, for one sample or for many resampled ones at once."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from vggnb.metrics.intervals import (
    DRAWS,
    Interval,
    bootstrap,
    independent,
    logit_interval,
    mean_of,
    percentile_interval,
    predictive_value,
    proportion,
    share_right,
)
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
    positive, scores = np.asarray(labels).astype(bool), np.asarray(scores, float)
    value = float(auc(positive, scores)[0])
    drawn = bootstrap(
        positive.astype(int), lambda w: {"auc": auc(positive, scores, w)}, draws=draws, seed=seed, groups=groups
    )
    sizes = [independent(positive == kind, groups) for kind in (False, True)]
    return logit_interval(value, drawn["auc"], n=min(sizes))


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve of each draw: the chance that a positive outranks a negative, ties half.

    Args:
        positive: bool (n,).
        scores: float (n,).
        weights: (draws, n); None: each image once.

    Returns:
        float64 (draws,).
    """
    gained, alarms = _steps(positive, scores, weights)
    below = np.cumsum(alarms, axis=1) - alarms / 2
    return (gained * below).sum(axis=1) / (gained.sum(axis=1) * alarms.sum(axis=1))


def average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision of each draw: the precision at each threshold, weighted by the positives gained there."""
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
    """Expected calibration error of each draw: |confidence - accuracy| in 10 bins of confidence, averaged by images.

    Args:
        labels: int (n,).
        probabilities: float (n, classes).
        weights: (draws, n); None: each image once.

    Returns:
        float64 (draws,).
    """
    confidence, bins = _confidence(probabilities)
    weights = np.ones((1, len(bins))) if weights is None else weights
    return _binned_gaps(confidence - (probabilities.argmax(axis=1) == labels), bins, weights)


def reliability(labels, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and number of images of each bin of `calibration_error` that holds any."""
    confidence, bins = _confidence(probabilities)
    right, n = probabilities.argmax(axis=1) == labels, np.bincount(bins, minlength=BINS)
    mean, share = (np.bincount(bins, values, minlength=BINS) / np.maximum(n, 1) for values in (confidence, right))
    return mean[n > 0], share[n > 0], n[n > 0]


def expected_calibration_error(probabilities: np.ndarray, *, draws: int = 200) -> float:
    """The calibration error that a perfectly calibrated model would show on these images, on average; it is not 0."""
    confidence, bins = _confidence(probabilities)
    random = np.random.default_rng(0)
    once = np.ones((1, len(bins)))
    return float(np.mean([
        _binned_gaps(confidence - (random.random(len(bins)) < confidence), bins, once)[0] for _ in range(draws)
    ]))  # fmt: skip


def _confidence(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the most probable class, and the bin that it falls into."""
    confidence = probabilities.max(axis=1)
    return confidence, np.minimum((confidence * BINS).astype(int), BINS - 1)


def _binned_gaps(gaps: np.ndarray, bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Gaps (n,) summed within bins, their absolute values over all bins, per image: (draws,)."""
    return np.abs(_by_code(weights, bins, BINS, gaps)).sum(axis=1) / weights.sum(axis=1)


def _by_code(weights: np.ndarray, codes: np.ndarray, number: int, values: np.ndarray | None = None) -> np.ndarray:
    """Sums of weights, or of weighted values, of the images with each code: (draws, number)."""
    n = len(codes)
    values = np.ones(n) if values is None else values.astype(float)
    return weights @ csr_array((values, (np.arange(n), codes)), shape=(n, number))


def scores_of(
    predictions: Predictions, positive: int | None, threshold: float | None, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every score that comes from the images alone, float64 (draws,) each; means are over the classes with images.

    With images of one class only, that is the accuracy and, of two classes, sensitivity or specificity.

    Args:
        positive: index of the positive class, None for more than two classes.
        weights: (draws, n); None: each image once.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    weights = np.ones((1, len(labels))) if weights is None else weights
    predicted, k, present = (
        predicted_classes(probabilities, positive, threshold),
        len(probabilities.T),
        np.unique(labels),
    )
    right, total = predicted == labels, weights.sum(axis=1)
    are, hits = (_by_code(weights, labels, k, values)[:, present] for values in (None, right))
    recalls = hits / are
    values = {"accuracy": weights @ right / total}
    if positive is not None:
        names = {positive: "sensitivity", 1 - positive: "specificity"}
        values |= {names[c]: recalls[:, at] for at, c in enumerate(present)}
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
        values["brier"] = weights @ _squared_errors(labels, probabilities) / total
    return {name: values[name] for name in METRICS if name in values}


def _squared_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Half the squared distance of each image's probabilities from its class; their mean is the Brier score."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return ((probabilities**2).sum(axis=1) - 2 * of_truth + 1) / 2


def measure(
    predictions: Predictions,
    *,
    positive: int | None,
    threshold: float | None,
    prevalence: float | None,
    draws: int = DRAWS,
) -> dict[str, Interval]:
    """All metrics of two classes, or of more, with their intervals.

    Proportions get Wilson's interval, balanced accuracy one made of these, the others a bootstrap within each class.

    Args:
        positive: index of the positive class, None for more than two classes.
        prevalence: share of the positive class that the predictive values are for.
    """
    labels, groups, (n, k) = predictions.labels, predictions.groups, predictions.probabilities.shape
    present = np.unique(labels)
    once = scores_of(predictions, positive, threshold)
    draws = max(min(draws, FEWEST_DRAWS), min(draws, WORK // (n * k)))
    drawn = bootstrap(labels, lambda w: scores_of(predictions, positive, threshold, w), draws=draws, groups=groups)
    right = predicted_classes(predictions.probabilities, positive, threshold) == labels
    recalls = {c: share_right(right, labels == c, groups) for c in present}
    sizes = {c: independent(labels == c, groups) for c in present}
    smallest, total = min(sizes.values()), sum(sizes.values())
    exact = {"accuracy": proportion(right, groups), "balanced_accuracy": mean_of(list(recalls.values()))}
    if positive is not None:
        exact |= {"sensitivity": recalls.get(positive), "specificity": recalls.get(1 - positive)}
    metrics = {}
    for name, (value,) in once.items():
        if name in exact:
            metrics[name] = exact[name]
        elif name in LOWER_IS_BETTER:
            metrics[name] = percentile_interval(float(value), drawn[name])
        else:
            images = {"macro_f1": total, "average_precision": sizes.get(positive)}.get(name, smallest)
            metrics[name] = logit_interval(float(value), drawn[name], n=images)
    if positive is not None and len(present) == 2:
        metrics |= _predictive_values(recalls, sizes, positive, prevalence)
    return {name: metrics[name] for name in METRICS if name in metrics}


def _predictive_values(recalls: dict, sizes: dict, positive: int, prevalence: float) -> dict[str, Interval]:
    """PPV and NPV at a prevalence; without the one of a class that is never predicted."""
    yes, no, pair = recalls[positive], recalls[1 - positive], (sizes[positive], sizes[1 - positive])
    values = {
        "ppv": predictive_value(yes, no.complement(), prevalence, pair),
        "npv": predictive_value(no, yes.complement(), 1 - prevalence, pair[::-1]),
    }
    return {name: value for name, value in values.items() if value is not None}


def baselines(labels: np.ndarray, metrics: Sequence[str], positive: int | None, prevalence: float | None) -> dict:
    """Each metric of a model that always predicts the most frequent class, with the classes' shares as probabilities.

    Empty where all images are of one class: such a model is then always right.
    """
    counts = np.bincount(labels)
    shares = counts[counts > 0] / len(labels)
    if len(shares) < 2:
        return {}
    top, classes = float(shares.max()), len(shares)
    values = {
        "accuracy": top,
        "balanced_accuracy": 1 / classes,
        "macro_f1": 2 * top / (1 + top) / classes,
        "auc": 0.5,
        "auc_ovr": 0.5,
        "ece": 0.0,
        "brier": float(1 - (shares**2).sum()) / 2,
    }
    if positive is not None:
        always_yes = int(shares.argmax()) == positive
        values |= {"average_precision": float(shares[positive]), "sensitivity": float(always_yes)}
        values["specificity"] = 1 - values["sensitivity"]
        values |= {"ppv": prevalence} if always_yes else {"npv": 1 - prevalence}
    return {name: values[name] for name in metrics if name in values}
