"""How strong the penalty should be: asked of the training images themselves, by cross-validation on stored features.

The images are cut into folds; a head is fitted on all folds but one and judged on that one, for each candidate. What is
alike (twins, images of one group) stays in one fold, else the head would be examined on what it has seen.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits  # comes with scikit-learn
from tqdm.auto import tqdm

from vggnb.census.rows import Row
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError

FOLDS = 5
MOST_IMAGES = 2000  # the penalty is a belief about the weights, not about the number of images: 2000 are enough to ask
ITERATIONS = 200  # of the solver; the loss no longer moves in its fourth digit


@dataclass(frozen=True)
class Choice:
    """What cross-validation on train said about each candidate.

    Attributes:
        ridge: the chosen one.
        candidates: (ridge, loss, accuracy) of each, on images that the head had not seen; loss is the cross-entropy.
        images: how many were asked.
        folds: 0 when a class has too few images to be cut, and the middle candidate was taken.
    """

    ridge: float
    candidates: tuple[tuple[float, float, float], ...]
    images: int
    folds: int

    def __str__(self) -> str:
        if not self.folds:
            return f"Ridge {self.ridge:g}: the middle candidate; a class has too few images for cross-validation."
        tried = ", ".join(f"{ridge:g}: {loss:.3f}" for ridge, loss, _ in self.candidates)
        asked = f"chosen by cross-validation on {self.images} training images"
        return f"Ridge {self.ridge:g}, {asked} (loss by ridge: {tried})."

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        table = [{"ridge": r, "loss": round(loss, 6), "accuracy": round(a, 6)} for r, loss, a in self.candidates]
        return {"ridge": self.ridge, "candidates": table, "images": self.images, "folds": self.folds}


def choose_ridge(values: np.ndarray, rows: tuple[Row, ...], recipe: Recipe, *, progress: bool = True) -> Choice:
    """The candidate of `recipe.ridge` whose heads are least surprised by images that they have not seen.

    A pure function of its arguments: the folds come from the recipe's seed.

    Args:
        values: features of the training images, float32 (n, d), as the head sees them.
        rows: their rows, for labels and for what must stay together.

    Raises:
        VggnbError: a feature is not a number, or all images have the same features.
    """
    if not np.isfinite(values).all():
        path = rows[int(np.argmin(np.isfinite(values).all(axis=1)))].path
        raise VggnbError("The features of this image are not numbers.", path, "Check VGG-16's weights with --weights.")
    labels, groups = np.array([row.label for row in rows]), _groups(rows)
    keep = _sample(labels, seed=recipe.seed)
    values, labels, groups = values[keep], labels[keep], groups[keep]
    if len(values) and np.allclose(values, values[0]):
        what = f"All {len(values)} training images look the same to the network: there is nothing to learn from them."
        remedy = "Open this and some others: are they all black, or one picture? Put the right ones in their place."
        raise VggnbError(what, rows[0].path, remedy)
    folds = _folds(labels, groups, seed=recipe.seed)
    if not folds:
        return Choice(recipe.ridge[len(recipe.ridge) // 2], (), len(labels), 0)
    losses = np.zeros((len(recipe.ridge), len(labels)))
    right = np.zeros_like(losses)
    with threadpool_limits(1):  # the problems are small: threads would wait for each other (measured: 6 times slower)
        for learn, judge in tqdm(folds, desc="Cross-validation", unit="fold", disable=not progress):
            fits = _fits(values[learn], labels[learn], values[judge], recipe)
            for k, (said, classes) in enumerate(fits):
                truth = classes[None, :] == labels[judge][:, None]
                losses[k, judge] = -np.log(np.maximum((said * truth).sum(axis=1), 1e-7))
                right[k, judge] = classes[said.argmax(axis=1)] == labels[judge]
    candidates = tuple(zip(recipe.ridge, losses.mean(axis=1).tolist(), right.mean(axis=1).tolist(), strict=True))
    best = min(candidates, key=lambda candidate: candidate[1])
    return Choice(best[0], candidates, len(labels), len(folds))


def _groups(rows: tuple[Row, ...]) -> np.ndarray:
    """A number for each row, the same for rows that must stay together: one group, or the same file twice."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(row.group or row.sha256, len(numbers)) for row in rows])


def _folds(labels: np.ndarray, groups: np.ndarray, *, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(indices to learn from, indices to judge) of each fold; none where a class cannot be in all of them."""
    classes = set(labels.tolist())
    sizes = Counter(label for label, _ in set(zip(labels.tolist(), groups.tolist(), strict=True)))
    count = min(FOLDS, *sizes.values())
    if count < 2 or len(classes) < 2:
        return []
    cut = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, groups)
    folds = [(learn, judge) for learn, judge in cut if len(judge)]
    return folds if all(classes == set(labels[learn].tolist()) for learn, _ in folds) else []


def _sample(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Indices of at most MOST_IMAGES images, in order, each class as often as it is."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    step = max(1.0, len(labels) / MOST_IMAGES)
    return np.sort(by_class[np.arange(0, len(labels), step).astype(int)])


def _fits(
    learn: np.ndarray, labels: np.ndarray, judge: np.ndarray, recipe: Recipe
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each candidate: probabilities of the images to judge, (n, classes), and the classes' labels."""
    learn, judge = learn.astype(np.float64), judge.astype(np.float64)
    if recipe.standardise:
        mean, spread = learn.mean(axis=0), learn.std(axis=0)
        spread = np.where(spread > 1e-7 * np.maximum(1, np.abs(mean)), spread, np.inf)  # never varies: says nothing
        learn, judge = (learn - mean) / spread, (judge - mean) / spread
    learn, judge = _turned(learn, judge)
    model = LogisticRegression(warm_start=True, max_iter=ITERATIONS, tol=1e-3)
    for ridge in recipe.ridge:
        # Keras adds ridge / n times the squares of all weights to the mean loss. scikit-learn adds half the squares to
        # C times the summed loss, and for two classes it keeps the difference of two weights where Keras keeps both.
        strength = 1 / ridge if len(set(labels.tolist())) == 2 else 1 / (2 * ridge)
        model.set_params(C=strength).fit(learn, labels)
        yield model.predict_proba(judge), model.classes_


def _turned(learn: np.ndarray, judge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same points on axes of their own: n images span at most n of d directions, and a ridge fit uses no others."""
    if learn.shape[0] >= learn.shape[1]:
        return learn, judge
    if not learn.any():  # all the same: one direction is as good as all
        return learn[:, :1], judge[:, :1]
    squares, axes = np.linalg.eigh(learn @ learn.T)
    keep = squares > squares[-1] * 1e-10
    lengths, axes = np.sqrt(squares[keep]), axes[:, keep]
    return axes * lengths, (judge @ learn.T) @ axes / lengths
