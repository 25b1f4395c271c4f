"""Every number of a judgement: the value is scikit-learn's, the interval honest, guessing stands beside it."""

from collections.abc import Sequence

import numpy as np

from vggnb.evaluate.intervals import (
    Interval,
    auc_ends,
    bootstrap_weights,
    group_codes,
    mean_of,
    on_logit_scale,
    percentiles,
    predictive_value,
    proportion,
    wilson,
)
from vggnb.evaluate.predictions import Predictions
from vggnb.storage import VggnbError

BINS = 10  # of confidence, for the calibration error (Guo et al. 2017, doi 10.48550/arXiv.1706.04599)
HONEST_DRAWS = 500
SMALLER_IS_BETTER = ("ece", "brier")


def positive_class(classes: tuple[str, ...], wanted: str | None) -> str | None:
    """The positive class of two: the one wanted, else the alphabetically last; None for more classes.

    Raises:
        VggnbError: `wanted` is not a class.
    """
    if wanted is not None and wanted not in classes:
        raise VggnbError(f"'{wanted}' is not a class.", "--positive", f"Use one of: {', '.join(classes)}.")
    return (wanted or sorted(classes)[-1]) if len(classes) == 2 else None


def said_classes(probabilities: np.ndarray, positive: int | None, threshold: float | None) -> np.ndarray:
    """What the model says, int (n,): the positive class from the threshold on, of more classes the most probable."""
    if positive is None:
        return probabilities.argmax(axis=1)
    return np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)


def weighted_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each draw: the chance that a positive outranks a negative, ties half.

    Args:
        positive: bool (n,). scores: float (n,). weights: (draws, n).

    Returns:
        float64 (draws,).
    """
    ups, downs = _steps(positive, scores, weights)
    below = np.cumsum(downs, axis=1) - downs / 2
    return (ups * below).sum(axis=1) / (ups.sum(axis=1) * downs.sum(axis=1))


def weighted_ap(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision for each draw: the precision at each threshold, weighted by the positives gained there."""
    ups, downs = (steps[:, ::-1] for steps in _steps(positive, scores, weights))
    found, called = np.cumsum(ups, axis=1), np.cumsum(ups + downs, axis=1)
    return (ups * found / np.maximum(called, 1)).sum(axis=1) / ups.sum(axis=1)


def _steps(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives of each draw at each different score, from the lowest: two of (draws, scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ups = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    return ups, np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)


def weighted_ece(probabilities: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error for each draw: |confidence - accuracy| by bins of confidence, averaged."""
    confidence = probabilities.max(axis=1)
    return _binned_gaps(confidence, weights * (confidence - right)) / weights.sum(axis=1)


def _binned_gaps(confidence: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """The gaps (draws, n) of each bin of confidence, as far as they do not cancel out, all bins together: (draws,)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return sum(np.abs(gaps[:, bins == b].sum(axis=1)) for b in np.unique(bins))


def honest_ece(probabilities: np.ndarray) -> float:
    """The calibration error that a model which is exactly as often right as it says would show, on average.

    It is not 0: few images in a bin are never right exactly as often as expected.
    """
    confidence = probabilities.max(axis=1)
    right = np.random.default_rng(0).random((HONEST_DRAWS, len(confidence))) < confidence
    return float(np.mean(_binned_gaps(confidence, confidence - right)) / len(confidence))


def values_of(
    predictions: Predictions, positive: int | None, threshold: float | None, weights
) -> dict[str, np.ndarray]:
    """The metrics that need draws, and those of two models that are to be compared: float64 (draws,) each."""
    labels, probabilities = predictions.labels, predictions.probabilities
    said = said_classes(probabilities, positive, threshold)
    right, classes = said == labels, range(probabilities.shape[1])
    called = np.stack([weights @ (said == c) for c in classes])
    hits = np.stack([weights @ (right & (said == c)) for c in classes])
    are = np.stack([weights @ (labels == c) for c in classes])
    values = {"accuracy": weights @ right / weights.sum(axis=1), "balanced_accuracy": (hits / are).mean(axis=0)}
    areas = [weighted_auc(labels == c, probabilities[:, c], weights) for c in classes if positive in (None, c)]
    if positive is None:
        values["macro_f1"] = np.mean(2 * hits / np.maximum(called + are, 1), axis=0)
        values["auc_ovr"] = np.mean(areas, axis=0)
    else:
        values["auc"] = areas[0]
        values["average_precision"] = weighted_ap(labels == positive, probabilities[:, positive], weights)
        values["sensitivity"], values["specificity"] = (hits / are)[[positive, 1 - positive]]
    half = said_classes(probabilities, positive, 0.5)  # confidence is of the more probable class, whatever is said
    values["ece"] = weighted_ece(probabilities, half == labels, weights)
    off = ((probabilities - (labels[:, None] == np.arange(len(classes)))) ** 2).sum(axis=1) / 2
    values["brier"] = weights @ off / weights.sum(axis=1)
    return values


def measure(
    predictions: Predictions, *, positive: int | None, threshold: float | None, prevalence: float | None, draws: int
) -> dict[str, Interval]:
    """All metrics of two classes, or of more, with their intervals.

    Args:
        positive: index of the positive class, None for more than two classes.
        prevalence: share of the positive class that the predictive values are for.
    """
    labels, groups = predictions.labels, predictions.groups
    once = values_of(predictions, positive, threshold, np.ones((1, len(labels)), np.int64))
    weights = bootstrap_weights(labels, draws=draws, seed=0, groups=groups)
    drawn = values_of(predictions, positive, threshold, weights)
    right = said_classes(predictions.probabilities, positive, threshold) == labels
    recalls = [share_of(right, labels == c, groups) for c in range(predictions.probabilities.shape[1])]
    sizes = [_independent(labels == c, groups) for c in range(len(recalls))]
    metrics = {}
    for name, (value,) in once.items():
        value = float(value)
        if name == "accuracy":
            metrics[name] = proportion(right, groups)
        elif name == "balanced_accuracy":
            metrics[name] = mean_of(recalls)
        elif name in ("sensitivity", "specificity"):
            metrics[name] = recalls[positive if name == "sensitivity" else 1 - positive]
        elif name in SMALLER_IS_BETTER:
            metrics[name] = percentiles(value, drawn[name])
        else:
            metrics[name] = on_logit_scale(value, drawn[name], _ends(name, value, sizes, positive))
        if name == "specificity":
            metrics |= _predictive_values(recalls, sizes, positive, prevalence)
    return metrics


def share_of(right: np.ndarray, members: np.ndarray, groups: Sequence[str] = ()) -> Interval:
    """How many of some images are right."""
    return proportion(right[members], [groups[k] for k in np.flatnonzero(members)] if groups else ())


def _independent(members: np.ndarray, groups: Sequence[str]) -> int:
    """How many images, or groups of images, there are of some kind."""
    return len(np.unique(group_codes(groups)[members])) if groups else int(members.sum())


def _ends(name: str, value: float, sizes: list[int], positive: int | None) -> tuple[float, float]:
    """An interval's ends where no draw differs: the classes are wholly apart, or there is no mistake to draw again."""
    if name == "auc":
        return auc_ends(value, sizes[positive], sizes[1 - positive])
    if name == "auc_ovr":
        ends = [auc_ends(value, size, sum(sizes) - size) for size in sizes]
        return min(low for low, _ in ends), max(high for _, high in ends)
    n = sizes[positive] if name == "average_precision" else sum(sizes)
    interval = wilson(round(value * n), n)
    return interval.low, interval.high


def _predictive_values(recalls, sizes, positive: int, prevalence: float) -> dict[str, Interval]:
    """What a "yes" and a "no" are worth at a prevalence; left out where nobody gets one."""
    yes, no = recalls[positive], recalls[1 - positive]
    pair, values = (sizes[positive], sizes[1 - positive]), {}
    values["ppv"] = predictive_value(yes, _rest(no), prevalence, pair)
    values["npv"] = predictive_value(no, _rest(yes), 1 - prevalence, pair[::-1])
    return {name: value for name, value in values.items() if value is not None}


def _rest(share: Interval) -> Interval:
    """1 minus a share."""
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def baselines(labels: np.ndarray, metrics: Sequence[str], positive: int | None, prevalence: float | None) -> dict:
    """What each metric would be for a model that always says the most frequent class.

    Its probabilities are then the classes' shares. A predictive value that nobody gets is left out.
    """
    shares = np.bincount(labels) / len(labels)
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
        says_yes = int(shares.argmax()) == positive
        values |= {"average_precision": float(shares[positive]), "sensitivity": float(says_yes)}
        values["specificity"] = 1 - values["sensitivity"]
        values |= {"ppv": prevalence} if says_yes else {"npv": 1 - prevalence}
    return {name: values[name] for name in metrics if name in values}
