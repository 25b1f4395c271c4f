"""Fit the head on stored features; the base is never touched."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from safetensors.numpy import save
from scipy.special import softmax

from vggnb.census import Row
from vggnb.device import keras, tf
from vggnb.features import Features
from vggnb.generators import epoch_order
from vggnb.machine import tqdm
from vggnb.metrics.calibration import FeatureRanges, calibrate, fit_ranges
from vggnb.metrics.predictions import TINY, Predictions
from vggnb.model import build_head, compile_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, csv_text, sha256_bytes
from vggnb.train.ridge import RidgeChoice, Solution, choose_ridge, out_of_fold, sample_weights, solve
from vggnb.train.runs import HEAD, VALIDATION, History, Run, Stopped, record, run_lock

Progress = bool | Callable[[int], keras.callbacks.Callback]  # bars, nothing, or epochs -> a callback


@dataclass(frozen=True)
class Fitted:
    """A head that was fitted on so many images of train, or of train and validation.

    Attributes:
        rows: images that the predicting model was not fitted on: all of both, out of fold, or validation.
        logits: for them, float (n, classes).
    """

    head: keras.Model
    fitted_on: str
    images: int
    rows: tuple[Row, ...]
    logits: np.ndarray
    history: tuple[dict[str, float], ...] = ()
    best_epoch: int | None = None
    choice: RidgeChoice | None = None


def fit(run: Run, features: Features, *, progress: Progress = True) -> History:
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
        try:
            fitted = fit_head(features, run.recipe, len(run.classes), progress=progress)
        except KeyboardInterrupt:
            raise Stopped("Stopped; nothing was changed. Run this again to train from the start.") from None
        if fitted.choice and progress:
            print(fitted.choice)
        columns = pool_columns(run.recipe)
        ranges = fit_ranges(*(features.of(split).values[:, columns] for split in ("train", "validation")))
        facts, files = model_files(HEAD, head_arrays(fitted.head), ranges, fitted.rows, fitted.logits, run.classes)
        seconds = time.perf_counter() - start
        facts |= {
            "fitted_on": fitted.fitted_on,
            "images": fitted.images,
            "validation": {"images": len(fitted.rows), "out_of_fold": fitted.fitted_on != "train"},
            "history": list(fitted.history),
            "best_epoch": fitted.best_epoch,
            "choice": fitted.choice and fitted.choice.to_dict(),
            "head_sha256": sha256_bytes(files[HEAD]),
            "timing": {
                "features_s": round(features.seconds, 3),
                "head_s": round(seconds, 3),
                "fine_tune_s": 0.0,
                "total_s": round(features.seconds + seconds, 3),
                "images_forwarded": features.images_forwarded,
                "features_from_cache": features.from_store,
            },
            "left_out": [list(pair) for pair in features.unreadable],
        }
        if fitted.history:
            table = [fitted.history[0], *(row.values() for row in fitted.history)]
            files["history.csv"] = csv_text(table).encode()
        before = run.training() if run.is_trained() else {}
        same = before.get("head_sha256") == facts["head_sha256"]
        if same and "fine_tune" in before:  # what started from the same head stays
            facts |= {name: before[name] for name in ("fine_tune", "validation", "timing")}
            files.pop(VALIDATION)
        record(run, facts, files, extend=same)
    return History(fitted.history)


def fit_head(features: Features, recipe: Recipe, classes: int, *, progress: Progress = True) -> Fitted:
    """Train a head on features of train, or of train and validation, as the recipe says."""
    parts, columns = (features.of(split) for split in ("train", "validation")), pool_columns(recipe)
    # The split first, then the columns: the order in memory decides the last bits of the means.
    train, validation = (replace(part, values=part.values[:, columns]) for part in parts)
    if len(found := set(train.labels.tolist())) < classes:
        what = f"Classes without a readable training image: {classes - len(found)} of {classes}."
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


def model_files(
    name: str,
    weights: dict[str, np.ndarray],
    ranges: FeatureRanges,
    rows: Sequence[Row],
    logits: np.ndarray,
    classes: Sequence[str],
) -> tuple[dict, dict[str, bytes]]:
    """The facts and the files of a trained model, calibrated by logits for rows that it was not fitted on."""
    labels = np.array([row.label for row in rows], int)
    calibration = calibrate(logits, labels)
    probabilities = softmax(logits / calibration.temperature, axis=1)
    arrays = {**weights, "ranges/low": ranges.low, "ranges/high": ranges.high}
    files = {
        name: save({name: np.asarray(array) for name, array in arrays.items()}),
        VALIDATION: Predictions(tuple(row.path for row in rows), labels, probabilities).to_csv(classes),
    }
    about = {"limit": ranges.limit, "images": ranges.images, "reason": ranges.reason}
    return {"calibration": vars(calibration), "feature_ranges": about}, files


def head_arrays(head: keras.Model) -> dict[str, np.ndarray]:
    """A head's weights by name."""
    return {f"head/{number:03d}": weight for number, weight in enumerate(head.get_weights())}


def head_of(solution: Solution, values: np.ndarray, recipe: Recipe, classes: int) -> keras.Model:
    """A solved head as a Keras model; `values` are the features that it was fitted on, (n, d)."""
    head = build_head(recipe, classes, images=len(values))
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    head.get_layer("output").set_weights([solution.kernel, solution.bias])
    return head


def logits_of(outputs: np.ndarray, activation: str) -> np.ndarray:
    """What entered the last activation, "softmax" or "sigmoid", float64, up to a constant for softmax."""
    outputs = outputs.astype(np.float64)
    logits = np.log(np.maximum(outputs, TINY))
    if activation == "sigmoid":  # float32 ends at 1 - 6e-8
        logits -= np.log(np.maximum(1 - outputs, 6e-8))
    return logits


def watch(progress: Progress, epochs: int, total: int, *, name: str, unit: str) -> keras.callbacks.Callback:
    """The Keras callback that follows steps and epochs: one bar for all, the user's own, or one that does nothing."""
    if progress is not True:
        return progress(epochs) if progress else keras.callbacks.Callback()
    bar = tqdm(total=total, desc=name, unit=unit)

    def show(epoch, logs):
        bar.set_postfix({name: f"{value:.2f}" for name, value in logs.items() if "crossentropy" not in name})

    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: bar.update(),  # where Keras takes a whole epoch in one call, one epoch
        on_epoch_end=show,
        on_train_end=lambda logs=None: bar.close(),
    )


def train_with_adam(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    classes: int,
    *,
    progress: Progress,
) -> tuple[keras.Model, list[dict[str, float]], int]:
    """The head, one row of numbers for each epoch, and the epoch whose weights were kept.

    With the recipe's patience, training stops when the validation loss has not improved for so many epochs, the rate is
    halved at each of them, and the weights of the best epoch are kept.

    Args:
        train, validation: features float32 (n, d) and labels int (n,); validation may be empty.
    """
    (values, labels), count = train, len(train[0])
    head = build_head(recipe, classes, images=count)
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    compile_head(head, recipe, images=count)
    steps = math.ceil(count / recipe.batch_size)
    head.steps_per_execution = steps  # a whole epoch in one call: small heads cost less than the calls
    early, held_out, penalised = None, None, recipe.loss(classes)

    def targets(labels):
        return keras.utils.to_categorical(labels, classes) if penalised == "categorical_crossentropy" else labels

    watcher = watch(progress, recipe.epochs, recipe.epochs, name="Head", unit="epoch")
    callbacks = [keras.callbacks.TerminateOnNaN(), watcher]
    if len(validation[0]):
        pair = validation[0], targets(validation[1])
        held_out = tf.data.Dataset.from_tensor_slices(pair).batch(1024).cache()
    if held_out and recipe.patience:
        monitor = {"monitor": f"val_{penalised if recipe.ridge else 'loss'}", "mode": "min"}
        early = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True, **monitor)
        callbacks += [keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0, **monitor), early]
    found = head.fit(
        ordered_batches(values, targets(labels), recipe),
        validation_data=held_out,
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        class_weight=class_weight(labels, recipe),
        callbacks=callbacks,
        shuffle=False,  # the order is ours; Keras would warn that it cannot shuffle a dataset
        verbose=0,
    )
    # Where Keras's loss includes a penalty, the metric named after the loss is the one without it.
    names = [name for name in found.history if not name.endswith(penalised) and name != "learning_rate"]
    columns = {name: found.history.get(name.replace("loss", penalised), found.history[name]) for name in names}
    rows = [{"epoch": k + 1} | {name: float(columns[name][k]) for name in names} for k in range(len(found.epoch))]
    sums = [float(np.sum(weights)) for weights in head.get_weights()]  # relu turns what is not a number into zero
    if not all(map(math.isfinite, [*sums, *(number for row in rows for number in row.values())])):
        what = f"The loss is no longer finite in epoch {len(rows)}."
        raise VggnbError(what, "training", f"Try a tenth of the learning rate ({recipe.learning_rate / 10:g}).")
    return head, rows, early.best_epoch + 1 if early else len(rows)


def ordered_batches(values: np.ndarray, labels: np.ndarray, recipe: Recipe) -> tf.data.Dataset:
    """The batches of all epochs; the order is a function of (seed, epoch), the last of each epoch may be smaller."""
    orders = np.stack([epoch_order(len(values), seed=recipe.seed, epoch=epoch) for epoch in range(recipe.epochs)])
    values, labels = tf.constant(values), tf.constant(labels)

    def cut(order):
        return tf.data.Dataset.from_tensor_slices(order).batch(recipe.batch_size)

    def pick(indices):
        return tf.gather(values, indices), tf.gather(labels, indices)

    return tf.data.Dataset.from_tensor_slices(orders).flat_map(cut).map(pick).prefetch(8)


def class_weight(labels: np.ndarray, recipe: Recipe) -> dict[int, float] | None:
    """Label -> weight of one of its images in the loss, 1 on average; None where all count the same."""
    return dict(zip(labels.tolist(), sample_weights(labels, recipe), strict=True)) if recipe.class_weights else None
