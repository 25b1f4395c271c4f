"""Fit the head on stored features; the base is never touched."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from vggnb.census import Manifest
from vggnb.census.rows import Row
from vggnb.device import decide_precision, keras
from vggnb.features import Features, extract
from vggnb.metrics.ood import fit_ranges
from vggnb.metrics.temperature import TINY, calibrate
from vggnb.model import build_base, build_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, csv_text, make_folder, sha256_bytes
from vggnb.train.adam import train_with_adam
from vggnb.train.lock import run_lock
from vggnb.train.ridge import RidgeChoice, Solution, choose_ridge, out_of_fold, solve
from vggnb.train.run_files import HEAD, RUN_FILE, VALIDATION, head_arrays, record, validation_bytes, weights_bytes
from vggnb.train.runs import History, Run, open_run
from vggnb.train.start import check_same, start_run


@dataclass(frozen=True)
class Fitted:
    """A head, and its predictions for images that the predicting model was not fitted on.

    Attributes:
        fitted_on: "train", or "train and validation".
        images: how many images it was fitted on.
        rows: the images of `logits`, float (n, classes): all of train and validation, out of fold, or validation.
    """

    head: keras.Model
    fitted_on: str
    images: int
    rows: tuple[Row, ...]
    logits: np.ndarray
    history: tuple[dict[str, float], ...] = ()
    best_epoch: int | None = None
    choice: RidgeChoice | None = None


def fit(run: Run, features: Features, *, progress: bool | Callable[[int], keras.callbacks.Callback] = True) -> History:
    """Train the head and write it, its calibration and its validation predictions into the run's folder.

    A linear head with a ridge penalty (`Recipe.best`) is solved exactly on train and validation together; what later
    steps call validation are its out-of-fold predictions. With `hold_out`, and for any other head, it is trained on
    train alone and validation is held out. Same features, recipe and seed give the same weights, so that an interrupted
    training is simply run again; a fine-tuning that started from the same head stays.

    Args:
        progress: bars, nothing, or a function from the number of epochs to a Keras callback such as
            `widgets.TrainingProgress`.

    Returns:
        One row an epoch; empty for a head that was solved exactly.

    Raises:
        VggnbError: train has no images, the run is in use by another process, or the loss is not finite.
        Stopped: interrupted.
    """
    start = time.perf_counter()
    with run_lock(run.folder):
        fitted = fit_head(features, run.recipe, len(run.classes), progress=progress)
        if fitted.choice and progress:
            print(fitted.choice)
        labels = np.array([row.label for row in fitted.rows], np.int64)
        calibration = calibrate(fitted.logits, labels)
        columns = pool_columns(run.recipe)
        seen, unseen = (features.of(split).values[:, columns] for split in ("train", "validation"))
        ranges = fit_ranges(seen, unseen)
        timing = {
            "features_s": round(features.seconds, 3),
            "head_s": round(seconds := time.perf_counter() - start, 3),
            "fine_tune_s": 0.0,
            "total_s": round(features.seconds + seconds, 3),
            "images_forwarded": features.images_forwarded,
            "features_from_cache": features.from_store,
        }
        facts = {
            "fitted_on": fitted.fitted_on,
            "images": fitted.images,
            "validation": {"images": len(fitted.rows), "out_of_fold": fitted.fitted_on != "train"},
            "head_sha256": sha256_bytes(data := weights_bytes(head_arrays(fitted.head), ranges)),
            "history": list(fitted.history),
            "best_epoch": fitted.best_epoch,
            "choice": fitted.choice and fitted.choice.to_dict(),
            "calibration": calibration.to_dict(),
            "feature_ranges": {"limit": ranges.limit, "images": ranges.images, "reason": ranges.reason},
            "timing": timing,
            "left_out": [list(pair) for pair in features.unreadable],
        }
        probabilities = softmax(fitted.logits / calibration.temperature, axis=1)
        files = {HEAD: data, VALIDATION: validation_bytes(fitted.rows, probabilities, run.classes)}
        if fitted.history:
            table = [fitted.history[0], *(row.values() for row in fitted.history)]
            files["history.csv"] = csv_text(table).encode()
        before = run.training() if run.is_trained() else {}
        same = before.get("head_sha256") == facts["head_sha256"]
        if same and "fine_tune" in before:  # what started from the same head stays
            facts |= {name: before[name] for name in ("fine_tune", "validation")}
            files.pop(VALIDATION)
        record(run, facts, files, extend=same)
    return History(fitted.history)


def fit_head(features: Features, recipe: Recipe, classes: int, *, progress: bool | Callable = True) -> Fitted:
    """Train a head on features of train, or of train and validation, as the recipe says."""
    columns, train, validation = pool_columns(recipe), features.of("train"), features.of("validation")
    _check_classes(train, classes)
    choice, rows = None, train.rows if recipe.holds_out else (*train.rows, *validation.rows)
    values = train.values if recipe.holds_out else np.concatenate([train.values, validation.values])
    values, bar = values[:, columns], bool(progress)
    if recipe.is_open:
        choice = choose_ridge(values, rows, recipe, progress=bar)
        recipe = recipe.with_(ridge=choice.ridge)
    if not recipe.is_solved_exactly:
        held_out = (validation.values[:, columns], validation.labels)
        inputs = (train.values[:, columns], train.labels)
        head, history, best = train_with_adam(inputs, held_out, recipe, classes, progress=progress)
        outputs = np.asarray(head(held_out[0], training=False))
        logits = logits_of(outputs, recipe.activation(classes))
        return Fitted(head, "train", len(train.rows), validation.rows, logits, tuple(history), best, choice)
    logits = None if recipe.holds_out else out_of_fold(values, rows, recipe, progress=bar)
    if logits is None:  # held out, or too few images of a class for folds
        values, rows = train.values[:, columns], train.rows
    labels = np.array([row.label for row in rows])
    (solution,) = solve(values, labels, recipe, ridges=[recipe.ridge])
    head = head_of(solution, values, recipe, classes)
    if logits is None:
        logits = solution.logits(validation.values[:, columns]).astype(np.float64)
        return Fitted(head, "train", len(rows), validation.rows, logits, choice=choice)
    return Fitted(head, "train and validation", len(rows), rows, logits, choice=choice)


def head_of(solution: Solution, values: np.ndarray, recipe: Recipe, classes: int) -> keras.Model:
    """A solved head as a Keras model; `values` are the features that it was fitted on, (n, d)."""
    head = build_head(recipe, classes, images=len(values))
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    head.get_layer("output").set_weights([solution.kernel, solution.bias])
    return head


def logits_of(outputs: np.ndarray, activation: str) -> np.ndarray:
    """What entered the last activation, float64, up to a constant for softmax.

    Args:
        outputs: float (n, classes).
        activation: "softmax" or "sigmoid".
    """
    outputs = outputs.astype(np.float64)
    logits = np.log(np.maximum(outputs, TINY))
    if activation == "sigmoid":  # float32 ends at 1 - 6e-8
        logits -= np.log(np.maximum(1 - outputs, 6e-8))
    return logits


def _check_classes(train: Features, classes: int) -> None:
    """Refuse to train without images of every class."""
    found = {row.label for row in train.rows}
    if len(found) < classes:
        what = f"{classes - len(found)} of {classes} classes have no training image that can be read."
        raise VggnbError(what, "the features of train", "Look at the census for what became of them.")


def train(
    manifest: Manifest,
    recipe: Recipe,
    folder: Path,
    *,
    weights: str,
    store: Path,
    precision: str = "float32",
    progress: bool = True,
    fresh: bool = False,
) -> tuple[Run, Features]:
    """Everything from the manifest to a trained run: base, features, head, and fine-tuning if the recipe has it.

    Args:
        precision: see `device.decide_precision`; "auto" is that of the run, where the folder holds one.
        fresh: start an unfinished fine-tuning again instead of continuing it.

    Raises:
        VggnbError: as for `start_run`, `extract`, `fit` and `fine_tune`.
    """
    if precision == "auto" and (Path(folder) / RUN_FILE).is_file():
        precision = open_run(folder).source.precision
    precision, why = decide_precision(precision)
    if progress and precision != "float32":
        print(why)
    base, source = build_base(recipe, weights, precision=precision)
    with run_lock(make_folder(folder)):
        run = start_run(folder, manifest, recipe, weights=weights, source=source)
        features = extract(manifest, recipe, base, source, store=store, progress=progress)
        fit(run, features, progress=progress)
    if recipe.fine_tune:
        from vggnb.train.finetune import fine_tune  # which needs this module

        fine_tune(run, features, base=base, progress=progress, fresh=fresh)
    return run, features


def open_or_train(
    manifest: Manifest, recipe: Recipe, folder: Path, *, weights: str, store: Path, precision: str = "float32"
) -> Run:
    """The trained run in this folder; without one, it is trained first, or an interrupted fine-tuning is continued.

    Raises:
        VggnbError: the folder holds a run with another recipe or other images.
    """
    if (Path(folder) / "run.json").is_file():
        run = open_run(folder)
        check_same(run, manifest, recipe)
        if run.is_trained() and (run.fine_tuned() or not recipe.fine_tune):
            return run
    print(f"No trained run '{Path(folder).name}' yet: training it now.")
    return train(manifest, recipe, folder, weights=weights, store=store, precision=precision)[0]
