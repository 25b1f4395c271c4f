"""Fit the head on stored features; the base is never touched. What is done is never lost."""

import contextlib
import hashlib
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from vggnb.census import Manifest
from vggnb.checkpoints import Checkpoints, State
from vggnb.choose import Choice, choose_ridge
from vggnb.features import Features, extract
from vggnb.generators import epoch_order
from vggnb.lock import Lock, held
from vggnb.metrics.ood import FeatureRanges, fit_ranges
from vggnb.metrics.temperature import TINY, Calibration, calibrate
from vggnb.model import build_base, build_head, compile_head, pool_columns
from vggnb.paths import SPLITS
from vggnb.recipe import Recipe
from vggnb.storage import (
    TEMPORARY_PREFIX,
    VggnbError,
    csv_text,
    sealed,
    sha256_bytes,
    storage_errors,
    write_bytes,
    write_json,
)
from vggnb.train.keeper import CHECKPOINT_S
from vggnb.train.loop import fit_on, in_graph
from vggnb.train.runs import TRAINING_FILE, History, Run, check_same, open_run, start_run

CHECKPOINTS = "checkpoints"  # in the run's folder, while a training is unfinished
HASH = "[0-9a-f]" * 12  # in a pattern of names: the beginning of a hash
# What `evaluate` and `report` say of a classifier. Whatever else lies in the folder is the user's, who may have worked
# on the relabel lists, too.
REPORTS = ("report.html", "report-card.json", "report-card.md", *(f"report-{split}.json" for split in SPLITS))


def fit(
    run: Run,
    features: Features,
    *,
    progress: bool | Callable[[int], keras.callbacks.Callback] = True,
    fresh: bool = False,
    checkpoint_s: float = CHECKPOINT_S,
    lock: Lock | None = None,
) -> History:
    """Train the head on features of train, watch validation, and keep the result in the run's folder.

    A training that was stopped or killed goes on from its newest checkpoint and ends with the same numbers, to the last
    bit on the same machine, as if nothing had happened. The order of the images is a pure function of (seed, epoch); no
    batch is dropped.

    Args:
        progress: a bar, nothing, or your own: a function from the number of epochs to a Keras callback, such as
            `widgets.TrainingProgress`.
        fresh: forget an unfinished training in this folder and begin anew.
        checkpoint_s: seconds from one checkpoint to the next; 0: after every epoch.
        lock: the run's, if the caller holds it already.

    Returns:
        The history, one row an epoch; with the recipe's patience also of those after the best one, which is kept.

    Raises:
        VggnbError: train has no images, the run is in use by another process, what is unfinished in its folder is of
            another kind or damaged, or the loss stopped being a number.
        keeper.Stopped: interrupted; running it again continues.
    """
    recipe, classes, start = run.recipe, len(run.classes), time.perf_counter()
    train, validation = (_inputs(features.of(split), recipe, classes) for split in ("train", "validation"))
    count = len(train[0])
    if not count:
        remedy = "Look at the census for what became of them."
        raise VggnbError("There are no training images.", run.manifest.dataset, remedy)
    choice = None
    if recipe.is_open:
        choice = choose_ridge(train[0], features.of("train").rows, recipe, progress=bool(progress))
        if progress:
            print(choice)
        recipe = recipe.with_(ridge=choice.ridge)
    head = _untrained(recipe, classes, train[0])
    with contextlib.nullcontext(lock) if lock else held(run.folder) as lock:
        remove_unfinished(run)
        checkpoints = Checkpoints(run.folder / CHECKPOINTS, "head")
        if fresh:
            checkpoints.clear()
        state = fit_on(
            head,
            lambda done: _ordered_batches(*train, recipe, first=done),
            card=training_card(run, features),
            epochs=recipe.epochs,
            steps=math.ceil(count / recipe.batch_size),
            penalised=recipe.loss(classes),
            checkpoints=checkpoints,
            lock=lock,
            validation=tf.data.Dataset.from_tensor_slices(validation).batch(1024).cache()
            if len(validation[0])
            else None,
            patience=recipe.patience if len(validation[0]) else None,
            class_weight=class_weight(features.of("train").labels, recipe),
            progress=progress,
            every_s=checkpoint_s,
        )
        lock.check()
        watched = features.of("validation").labels
        said = head.predict(validation[0], verbose=0) if len(watched) else np.zeros((0, classes))
        calibration = calibrated_on(said, watched, recipe.activation(classes))
        ranges = fit_ranges(train[0], validation[0])
        _keep(run, head, state, features, time.perf_counter() - start, choice, calibration, ranges)
        checkpoints.clear()
    return run.history()


def _untrained(recipe: Recipe, classes: int, values: np.ndarray) -> keras.Model:
    """A compiled head that does a whole epoch in one call; it has seen the training images' mean and spread only."""
    head = build_head(recipe, classes, images=len(values))
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    compile_head(head, recipe, images=len(values))
    in_graph(head, math.ceil(len(values) / recipe.batch_size))
    return head


def class_weight(labels: np.ndarray, recipe: Recipe) -> dict[int, float] | None:
    """Label -> what an image of it counts, 1 on average over the images; None where all count the same."""
    if not recipe.class_weights:
        return None
    found, counts = np.unique(labels, return_counts=True)
    return {int(k): len(labels) / (len(found) * int(n)) for k, n in zip(found, counts, strict=True)}


def calibrated_on(said: np.ndarray, labels: np.ndarray, activation: str) -> Calibration:
    """The temperature for a trained head, or tail, by what it says about the validation images.

    Args:
        said: float (n, classes). labels: int (n,).
        activation: of its output: "softmax" or "sigmoid", from which the numbers before it are found again.
    """
    said = said.astype(np.float64)
    logits = np.log(np.maximum(said, TINY))
    if activation == "sigmoid":  # float32 ends at 1 - 6e-8
        logits -= np.log(np.maximum(1 - said, 6e-8))
    return calibrate(logits, labels)


def training_card(run: Run, features: Features) -> dict:
    """What a training is of, besides versions and threads: only an unfinished one with an equal card is continued."""
    digest = hashlib.sha256(np.ascontiguousarray(features.values))
    digest.update(repr([(row.sha256, row.label, row.split) for row in features.rows]).encode())
    card = {**run.recipe.to_dict(), "classes": list(run.classes), "images": len(features.rows)}
    return {**card, "features": digest.hexdigest()}


def remove_unfinished(run: Run) -> None:
    """Remove what a killed training was just writing; whoever calls this holds the run's lock."""
    for name in ("head-*", "history.csv", TRAINING_FILE, "fine-tuned-*"):
        for path in run.folder.glob(f"{TEMPORARY_PREFIX}*-{name}"):
            path.unlink(missing_ok=True)


def _inputs(features: Features, recipe: Recipe, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What Keras wants: the recipe's columns, and labels as integers or one-hot, as its loss needs."""
    labels = features.labels
    if recipe.loss(classes) == "categorical_crossentropy":
        labels = keras.utils.to_categorical(labels, classes) if len(labels) else np.zeros((0, classes), np.float32)
    return features.values[:, pool_columns(recipe)], labels


def _ordered_batches(values: np.ndarray, labels: np.ndarray, recipe: Recipe, *, first: int = 0) -> tf.data.Dataset:
    """The batches of all epochs from `first` on; the last of each epoch is smaller, none is dropped."""
    epochs = range(first, recipe.epochs)
    orders = np.stack([epoch_order(len(values), seed=recipe.seed, epoch=epoch) for epoch in epochs])
    values, labels = tf.constant(values), tf.constant(labels)

    def cut(order):
        return tf.data.Dataset.from_tensor_slices(order).batch(recipe.batch_size)

    def pick(indices):
        return tf.gather(values, indices), tf.gather(labels, indices)

    return tf.data.Dataset.from_tensor_slices(orders).flat_map(cut).map(pick).prefetch(8)


def _keep(
    run: Run,
    head: keras.Model,
    state: State,
    features: Features,
    seconds: float,
    choice: Choice | None,
    calibration: Calibration,
    ranges: FeatureRanges,
) -> None:
    """Write the head under a name of its own, then the file that names it, then remove heads of earlier trainings."""
    with tempfile.TemporaryDirectory(prefix="vggnb-") as scratch:
        path = Path(scratch) / "head.weights.h5"
        head.save_weights(path)
        data = path.read_bytes()
    digest = sha256_bytes(data)
    name = f"head-{digest[:12]}.weights.h5"
    write_bytes(run.folder / name, data)
    rows = state.about["history"]
    write_bytes(run.folder / "history.csv", csv_text([rows[0], *(row.values() for row in rows)]).encode())
    timing = {
        "features_s": round(features.seconds, 3),
        "head_s": round(seconds, 3),
        "fine_tune_s": 0.0,
        "total_s": round(features.seconds + seconds, 3),
        "images_forwarded": features.images_forwarded,
        "features_from_cache": features.from_store,
    }
    left_out = [list(pair) for pair in features.unreadable]
    document = {"head": name, "head_sha256": digest, "history": rows, "timing": timing, "left_out": left_out}
    document["of"] = run.sha256
    document["choice"] = choice and choice.to_dict()
    if run.recipe.patience:
        document["best_epoch"] = state.about["best_epoch"]
    document["calibration"] = calibration.to_dict()
    document["feature_ranges"] = ranges.to_dict()
    # Evidence of the whole way here: numbers, optimiser and history of equal trainings have equal hashes.
    document["state_sha256"] = state.sha256("model/", "optimizer/")
    write_json(run.folder / TRAINING_FILE, sealed(document))
    remove_stale(run, f"head-{HASH}.weights.h5", kept=name)


def remove_stale(run: Run, pattern: str, *, kept: str) -> None:
    """Remove the numbers of earlier trainings, and what was said of another classifier than the present one.

    Args:
        pattern: of their names, in which HASH stands for what differs.
    """
    stale = [path for path in run.folder.glob(pattern) if path.name != kept]
    judged = [path for split in SPLITS for path in run.folder.glob(f"predictions-{split}-{HASH}.csv")]
    stale += [path for path in judged if not path.stem.endswith(run.model_sha256()[:12])]
    # What is said of a model goes before the model: a kill between them leaves what makes the next call go on here.
    for path in [*(run.folder / name for name in REPORTS), *stale] if stale else []:
        with storage_errors(path):
            path.unlink(missing_ok=True)


def train(
    manifest: Manifest,
    recipe: Recipe,
    folder: Path,
    *,
    weights: str,
    store: Path,
    progress: bool = True,
    fresh: bool = False,
) -> tuple[Run, Features]:
    """Everything from the manifest to a trained run: base, features, head.

    Raises:
        VggnbError: as for `start_run`, `extract` and `fit`; a second process is told at once that the first is at it.
    """
    base, source = build_base(recipe, weights)
    run = start_run(folder, manifest, recipe, weights=weights, source=source)
    with held(run.folder) as lock:
        features = extract(manifest, recipe, base, source, store=store, progress=progress)
        fit(run, features, progress=progress, fresh=fresh, lock=lock)
    return run, features


def open_or_train(manifest: Manifest, recipe: Recipe, folder: Path, *, weights: str, store: Path) -> Run:
    """The trained run in this folder; when there is none yet, it is trained first, and that is said.

    Raises:
        VggnbError: the folder holds a run with another recipe or other images.
    """
    if (Path(folder) / TRAINING_FILE).is_file():
        run = open_run(folder)
        check_same(run, manifest, recipe)
        return run
    print(f"No trained run '{Path(folder).name}' yet: training it now.")
    return train(manifest, recipe, folder, weights=weights, store=store)[0]
