"""Fit the head on stored features; the base is never touched."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vggnb.census import Manifest, Row
from vggnb.device import decide_precision, keras
from vggnb.features import Features, extract
from vggnb.metrics.calibration import fit_ranges
from vggnb.metrics.predictions import TINY
from vggnb.model import build_base, build_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, csv_text, make_folder, sha256_bytes
from vggnb.train.adam import train_with_adam
from vggnb.train.lock import run_lock
from vggnb.train.ridge import RidgeChoice, Solution, choose_ridge, out_of_fold, solve
from vggnb.train.run_files import HEAD, RUN_FILE, VALIDATION, head_arrays, model_files, record
from vggnb.train.runs import History, Run, check_same, open_run, start_run


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

    def facts(self) -> dict:
        """Plain values for `run.json`."""
        return {
            "fitted_on": self.fitted_on,
            "images": self.images,
            "validation": {"images": len(self.rows), "out_of_fold": self.fitted_on != "train"},
            "history": list(self.history),
            "best_epoch": self.best_epoch,
            "choice": self.choice and self.choice.to_dict(),
        }


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
        columns = pool_columns(run.recipe)
        ranges = fit_ranges(*(features.of(split).values[:, columns] for split in ("train", "validation")))
        found = fitted.rows, fitted.logits, run.classes
        facts, files = model_files(HEAD, head_arrays(fitted.head), ranges, *found)
        facts |= fitted.facts() | {
            "head_sha256": sha256_bytes(files[HEAD]),
            "timing": _timing(features, time.perf_counter() - start),
            "left_out": [list(pair) for pair in features.unreadable],
        }
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


def _timing(features: Features, seconds: float) -> dict[str, float]:
    return {
        "features_s": round(features.seconds, 3),
        "head_s": round(seconds, 3),
        "fine_tune_s": 0.0,
        "total_s": round(features.seconds + seconds, 3),
        "images_forwarded": features.images_forwarded,
        "features_from_cache": features.from_store,
    }


def fit_head(features: Features, recipe: Recipe, classes: int, *, progress: bool | Callable = True) -> Fitted:
    """Train a head on features of train, or of train and validation, as the recipe says."""
    train, validation = (_seen(features.of(split), recipe) for split in ("train", "validation"))
    if len(found := set(train.labels.tolist())) < classes:
        what = f"{classes - len(found)} of {classes} classes have no training image that can be read."
        raise VggnbError(what, "the features of train", "The census shows why they were skipped.")
    both = replace(train, rows=train.rows + validation.rows, values=np.concatenate([train.values, validation.values]))
    fitted, bar, choice = train if recipe.holds_out else both, bool(progress), None
    if recipe.is_open:
        choice = choose_ridge(fitted.values, fitted.rows, recipe, progress=bar)
        recipe = recipe.with_(ridge=choice.ridge)
    if not recipe.is_solved_exactly:
        pairs = ((part.values, part.labels) for part in (train, validation))
        head, history, best = train_with_adam(*pairs, recipe, classes, progress=progress)
        outputs = np.asarray(head(validation.values, training=False))
        logits = logits_of(outputs, recipe.activation(classes))
        return Fitted(head, "train", len(train.rows), validation.rows, logits, tuple(history), best, choice)
    logits = None if recipe.holds_out else out_of_fold(fitted.values, fitted.rows, recipe, progress=bar)
    if logits is None:  # held out, or too few images of a class for folds
        fitted = train
    (solution,) = solve(fitted.values, fitted.labels, recipe, ridges=[recipe.ridge])
    head = head_of(solution, fitted.values, recipe, classes)
    if logits is None:
        logits = solution.logits(validation.values).astype(np.float64)
        return Fitted(head, "train", len(train.rows), validation.rows, logits, choice=choice)
    return Fitted(head, "train and validation", len(both.rows), both.rows, logits, choice=choice)


def _seen(features: Features, recipe: Recipe) -> Features:
    """The same images with the columns that the recipe's head sees."""
    return replace(features, values=features.values[:, pool_columns(recipe)])


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
