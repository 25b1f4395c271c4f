"""What was tried for `Recipe.best()`'s head, by cross-validation on a dataset's train images; test is never read.

    python benchmarks/heads.py [DATASET] [--repeats 4] [--store FOLDER] [--json]

Every line is one idea; each gets the ridge that suits it best. Score is the AUC for two classes and macro-F1 for more.
"exact" heads are solved to the end by scikit-learn; "Adam" heads are trained as `train.fit` does, on the first repeat
only.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from tell import document as print_document
from tell import with_json
from threadpoolctl import threadpool_limits

from vggnb.census import assign_splits, take_census
from vggnb.features import extract
from vggnb.model import ALL_POOLS, build_base, build_head, compile_head, pool_columns
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.train import ridge as cross_validation
from vggnb.train.head import ordered_batches

RIDGES = (1000.0, 500.0, 250.0, 120.0, 60.0, 30.0, 15.0, 8.0)
BLOCK = np.concatenate([np.full(len(pool_columns(Recipe(name="-", pools=(pool,)))), pool[0]) for pool in ALL_POOLS])
MAX = np.concatenate(
    [np.full(len(pool_columns(Recipe(name="-", pools=(pool,)))), pool[1] == "max") for pool in ALL_POOLS]
)
WIDTH = np.array([(BLOCK == block).sum() for block in range(6)])[BLOCK]  # of each column's block
Data = tuple[np.ndarray, np.ndarray, list]  # features, labels, (learn, held_out) of each repeat's folds


def out_of_fold(
    values: np.ndarray, labels: np.ndarray, folds, *, weigh=None, smooth=0.0, balanced=False, share=1.0, rare=1.0
) -> dict[float, np.ndarray]:
    """Probabilities of every image, (n, classes), from heads that did not see it, for each ridge.

    Args:
        weigh: a factor for each column, after standardising.
        smooth: share of each label that is spread over all classes.
        balanced: every class weighs the same.
        share: of the images to learn from that are used; `rare` of those of the last class.
    """
    classes = labels.max() + 1
    predicted = {ridge: np.zeros((len(labels), classes)) for ridge in RIDGES}
    for learn, held_out in folds:
        wanted = np.where(labels[learn] == classes - 1, share * rare, share)
        learn = learn[np.random.default_rng(0).random(len(learn)) < wanted]
        truth, rows = labels[learn], values[learn]
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        scale = (1 if weigh is None else weigh) / np.where(spread > 1e-7 * np.maximum(1, np.abs(mean)), spread, np.inf)
        rows, tests = (((part - mean) * scale).astype(np.float32) for part in (rows, values[held_out]))
        weights = np.ones(len(truth))
        if balanced:
            weights *= len(truth) / classes / np.bincount(truth)[truth]
        if smooth:  # an image with a soft label is one image of each class, weighted
            weights = np.concatenate(
                [weights * (smooth / classes + (1 - smooth) * (truth == c)) for c in range(classes)]
            )
            rows, truth = np.tile(rows, (classes, 1)), np.repeat(np.arange(classes), len(truth))
        model = LogisticRegression(warm_start=True, max_iter=300, tol=1e-3)
        for ridge in RIDGES:
            model.set_params(C=1 / ridge if classes == 2 else 1 / (2 * ridge)).fit(rows, truth, weights)
            predicted[ridge][held_out] = model.predict_proba(tests)
    return predicted


def scores_of(predicted: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """(score, loss, accuracy)."""
    calls = predicted.argmax(axis=1)
    score = (
        roc_auc_score(labels, predicted[:, 1]) if predicted.shape[1] == 2 else f1_score(labels, calls, average="macro")
    )
    return float(score), float(log_loss(labels, predicted)), float((calls == labels).mean())


def exact(data: Data, change: Callable = lambda x: x, columns=slice(None), **options) -> dict:
    """The line of one idea: its best ridge, and what it gives there."""
    values, labels, repeats = data
    values = change(values[:, columns])
    runs = [out_of_fold(values, labels, folds, **options) for folds in repeats]
    table = {ridge: np.mean([scores_of(run[ridge], labels) for run in runs], axis=0) for ridge in RIDGES}
    best = min(RIDGES, key=lambda ridge: table[ridge][1])
    return {"ridge": best, **dict(zip(("score", "loss", "accuracy"), map(float, table[best]), strict=True))}


def adam(data: Data, recipe: Recipe) -> dict:
    """The same for a head trained as in a run, on the first repeat."""
    values, labels, (folds, *_) = data
    values, classes = values.astype(np.float32), int(labels.max()) + 1
    predicted = np.zeros((len(labels), classes))
    for learn, held_out in folds:
        head = build_head(recipe, classes, images=len(learn))
        head.get_layer("standardise").adapt(values[learn])
        compile_head(head, recipe, images=len(learn))
        truth = labels[learn] if classes == 2 else np.eye(classes, dtype=np.float32)[labels[learn]]
        steps = -(-len(learn) // recipe.batch_size)
        batches = ordered_batches(values[learn], truth, recipe)
        head.fit(batches, epochs=recipe.epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
        predicted[held_out] = head.predict_on_batch(values[held_out])
    names = ("score", "loss", "accuracy")
    return {"ridge": recipe.ridge, **dict(zip(names, scores_of(predicted, labels), strict=True))}


def ideas(data: Data) -> Iterator[tuple[str, dict]]:
    """Every idea with its line."""
    now = exact(data)
    yield "best: all pools, standardised (exact)", now
    for name, keep in {"blocks 3-5": BLOCK >= 3, "blocks 4-5": BLOCK >= 4, "block 5": BLOCK == 5}.items():
        yield f"only {name}", exact(data, columns=keep)
    yield "only average pools", exact(data, columns=~MAX)
    yield "only max pools", exact(data, columns=MAX)
    yield "each block weighs the same", exact(data, weigh=np.sqrt(2944 / 5 / WIDTH))
    yield "late blocks weigh more", exact(data, weigh=np.array([0, 0.5, 0.7, 1, 1.4, 1.4])[BLOCK])
    yield "max pools weigh 0.6", exact(data, weigh=np.where(MAX, 0.6, 1))
    yield "square root of the features", exact(data, lambda x: np.sqrt(np.maximum(x, 0)))
    yield "logarithm of the features", exact(data, lambda x: np.log1p(np.maximum(x, 0)))
    for smooth in (0.05, 0.1):
        yield f"label smoothing {smooth}", exact(data, smooth=smooth)
    yield "classes weigh the same", exact(data, balanced=True)
    yield "four fifths of train (no validation rows)", exact(data, share=0.8)
    yield "a fifth of the last class", exact(data, rare=0.2)
    yield "a fifth of it, classes weigh the same", exact(data, rare=0.2, balanced=True)
    best = Recipe.best().with_(ridge=now["ridge"])
    yield "exact, first repeat only", exact((*data[:2], data[2][:1]))
    yield "Adam, rate falls to zero", adam(data, best.with_(decay=True))
    yield "Adam, constant rate", adam(data, best)


def load(options) -> Data:
    """Features of train and validation, labels, and the folds of each repeat."""
    recipe = Recipe.best()
    manifest = assign_splits(take_census(options.dataset, progress=False))
    base, source = build_base(recipe, options.weights)
    with tempfile.TemporaryDirectory() if options.store is None else nullcontext(options.store) as store:
        found = extract(manifest, recipe, base, source, store=Path(store), progress=not options.json)
    labels, groups = found.labels.astype(np.int64), cross_validation.group_numbers(found.rows)
    repeats = [cross_validation.make_folds(labels, groups, seed=seed) for seed in range(options.repeats)]
    return found.values.astype(np.float64), labels, repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, nargs="?", default=sample_folder(), help="default: the sample")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--store", type=Path, help="a feature store to use and keep")
    parser.add_argument("--weights", default="offline")
    options = with_json(parser).parse_args()
    data = load(options)
    lines = {}
    warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest ridges need not be solved to the last digit
    if not options.json:
        print(f"{len(data[1])} images, {options.repeats} x {len(data[2][0])} folds\n")
        print(f"{'':44}{'ridge':>7}{'score':>8}{'loss':>8}{'accuracy':>10}")
    with threadpool_limits(1, "blas"):
        for name, line in ideas(data):
            lines[name] = line
            if not options.json:
                numbers = f"{line['ridge']:7g}{line['score']:8.3f}{line['loss']:8.3f}{line['accuracy']:10.3f}"
                print(f"{name:44}{numbers}", flush=True)
    if options.json:
        print_document({"dataset": options.dataset.name, "images": len(data[1]), "ideas": lines})


if __name__ == "__main__":
    main()
