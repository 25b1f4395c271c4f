"""A linear head with a ridge penalty: choose the penalty by cross-validation, predict out of fold, and solve it.

The problem is convex, so it has one solution, which scikit-learn's L-BFGS finds on stored features in seconds.
Duplicates, near-duplicates and images of one group always stay in the same fold, so that no prediction is made by a
model that has seen a copy of the image.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from vggnb.census import Row
from vggnb.machine import tqdm
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError

FOLDS = 5
MOST_IMAGES = 2000  # for choosing the penalty; it does not depend on the number of images, so a sample is enough
ROUGH, EXACT = 1e-3, 1e-5  # the solver's tolerance on the gradient: to choose a penalty, to predict


@dataclass(frozen=True)
class RidgeChoice:
    """What cross-validation found: the candidate with the least cross-entropy, from so many images.

    Attributes:
        candidates: (ridge, cross-entropy, accuracy) of each, on images outside the training folds.
        folds: 0 when a class has too few images for cross-validation; the middle candidate is taken then.
    """

    ridge: float
    candidates: tuple[tuple[float, float, float], ...]
    images: int
    folds: int

    def __str__(self) -> str:
        if not self.folds:
            return f"Ridge {self.ridge:g}: the middle candidate; a class has too few images for cross-validation."
        return f"Ridge {self.ridge:g}, chosen by cross-validation on {self.images} images."

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        table = [{"ridge": r, "loss": round(loss, 6), "accuracy": round(a, 6)} for r, loss, a in self.candidates]
        return {"ridge": self.ridge, "candidates": table, "images": self.images, "folds": self.folds}


def choose_ridge(values: np.ndarray, rows: Sequence[Row], recipe: Recipe, *, progress: bool = True) -> RidgeChoice:
    """Choose among the candidates of `recipe.ridge` by 5-fold cross-validation on about 2,000 images, or all.

    Args:
        values: features of the rows, float32 (n, d), as the head sees them.
    """
    if not np.isfinite(values).all():
        path = rows[int(np.argmin(np.isfinite(values).all(axis=1)))].path
        raise VggnbError("The features of this image are not finite.", path, "Check VGG-16's weights with --weights.")
    if len(values) and np.allclose(values, values[0]):
        what = f"All {len(values)} training images look the same to the network: there is nothing to learn from them."
        raise VggnbError(what, rows[0].path, "Open this one and some others: are they all black, or copies of one?")
    labels, groups = np.array([row.label for row in rows]), group_numbers(rows)
    order = np.random.default_rng(recipe.seed).permutation(len(labels))
    by_class, step = order[np.argsort(labels[order], kind="stable")], max(1.0, len(labels) / MOST_IMAGES)
    keep = by_class[np.arange(0, len(labels), step).astype(int)[:MOST_IMAGES]]  # each class in proportion,
    few = [label for label in set(labels.tolist()) if np.sum(labels[keep] == label) < FOLDS]
    more = [by_class[labels[by_class] == label][:FOLDS] for label in few]  # and one of it for each fold
    keep = np.unique(np.concatenate([keep, *more]))
    values, labels, groups = values[keep], labels[keep], groups[keep]
    folds = make_folds(labels, groups, seed=recipe.seed)
    if not folds:
        return RidgeChoice(recipe.ridge[len(recipe.ridge) // 2], (), len(labels), 0)
    bar = tqdm(folds, desc="Cross-validation", unit="fold", disable=not progress)
    logits = _fold_logits(values, labels, bar, recipe, ridges=recipe.ridge, tolerance=ROUGH)
    losses = -log_softmax(logits, axis=2)[:, np.arange(len(labels)), labels]
    correct, weights = logits.argmax(axis=2) == labels, sample_weights(labels, recipe)
    means = (np.average(table, axis=1, weights=weights).tolist() for table in (losses, correct))
    candidates = tuple(zip(recipe.ridge, *means, strict=True))
    return RidgeChoice(min(candidates, key=lambda one: one[1])[0], candidates, len(labels), len(folds))


def out_of_fold(values: np.ndarray, rows: Sequence[Row], recipe: Recipe, *, progress: bool = True) -> np.ndarray | None:
    """Logits float64 (n, classes) of every row, from a head that was fitted on the other folds; see `choose_ridge`.

    None when a class has too few images for cross-validation.
    """
    labels = np.array([row.label for row in rows])
    folds = make_folds(labels, group_numbers(rows), seed=recipe.seed)
    if not folds:
        return None
    bar = tqdm(folds, desc="Out-of-fold predictions", unit="fold", disable=not progress)
    return _fold_logits(values, labels, bar, recipe, ridges=[recipe.ridge])[0].astype(np.float64)


def _fold_logits(values, labels, folds, recipe: Recipe, *, ridges: Sequence[float], tolerance=None) -> np.ndarray:
    """Logits float32 (ridges, n, classes) of every image, by heads that were fitted on the other folds."""
    logits = np.zeros((len(ridges), len(labels), labels.max() + 1), np.float32)
    for fit, predict in folds:
        solutions = solve(values[fit], labels[fit], recipe, ridges=ridges, tolerance=tolerance or EXACT)
        for k, solution in enumerate(solutions):
            logits[k, predict] = solution.logits(values[predict])
    return logits


@dataclass(frozen=True)
class Solution:
    """A solved head: standardise by mean and scale (both (d,)), then a linear layer, kernel (d, classes), bias."""

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, values: np.ndarray) -> np.ndarray:
        """What enters the softmax, (n, classes)."""
        return ((values - self.mean) / self.scale) @ self.kernel + self.bias


def solve(
    values: np.ndarray, labels: np.ndarray, recipe: Recipe, *, ridges: Sequence[float], tolerance: float = EXACT
) -> Iterator[Solution]:
    """Fit the head for each ridge; each starts where the one before ended, so begin with the strongest.

    Args:
        tolerance: largest component of the gradient of the mean loss.
    """
    mean, scale = np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    if recipe.standardise:
        mean, scale = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        scale[scale <= 1e-7 * np.maximum(1, np.abs(mean))] = np.inf  # a feature that never varies gets no weight
        mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    inputs, weights = (values - mean) / scale, sample_weights(labels, recipe)
    model = LogisticRegression(warm_start=True, max_iter=5000, tol=tolerance)
    with threadpool_limits(1):  # the products are small: with two threads it was 20 times slower
        for ridge in ridges:
            # Keras adds ridge / n times the squares of all weights to the mean loss. scikit-learn adds half the squares
            # to C times the summed loss, and for two classes it fits the difference of two columns.
            binary = labels.max() == 1
            model.set_params(C=1 / ridge if binary else 1 / (2 * ridge)).fit(inputs, labels, weights)
            kernel, bias = model.coef_.T, model.intercept_
            if binary:
                kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.concatenate([-bias / 2, bias / 2])
            yield Solution(mean, scale, kernel.astype(np.float32), bias.astype(np.float32))


def sample_weights(labels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The weight of each image, 1 on average; with `class_weights` every class has the same total weight."""
    if not recipe.class_weights:
        return np.ones(len(labels))
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return len(labels) / (len(counts) * counts[place])


def group_numbers(rows: Sequence[Row]) -> np.ndarray:
    """A number for each row, equal for rows that stay together: one group (or near-duplicates), or the same file."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(row.group or row.sha256, len(numbers)) for row in rows])


def make_folds(labels: np.ndarray, groups: np.ndarray, *, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(indices to fit on, indices to predict) of each fold; empty where a class cannot be in all training parts."""
    classes = set(labels.tolist())
    sizes = Counter(label for label, _ in set(zip(labels.tolist(), groups.tolist(), strict=True)))
    count = min(FOLDS, *sizes.values())
    if count < 2 or len(classes) < 2:
        return []
    cut = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, groups)
    folds = [(fit, predict) for fit, predict in cut if len(predict)]
    return folds if all(classes == set(labels[fit].tolist()) for fit, _ in folds) else []
