"""Fine-tune: train the last convolutions together with the head, gently, on activations of the part that stays frozen.

What comes before the first trainable layer is a pure function of the picture. It runs once for each picture; every
epoch then starts from its result and costs only the layers that learn.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from vggnb.census.rows import Row
from vggnb.checkpoints import Checkpoints, State
from vggnb.features import Features, extract
from vggnb.generators import epoch_order
from vggnb.metrics.ood import FeatureRanges, fit_ranges
from vggnb.metrics.temperature import calibrate
from vggnb.model import compile_head, features_of, pool_columns
from vggnb.recipe import Recipe
from vggnb.train.adam import Progress, class_weight
from vggnb.train.cut import build_tail, check_block, frozen_columns, numbers
from vggnb.train.head import fit_head, logits_of
from vggnb.train.keeper import CHECKPOINT_S
from vggnb.train.lock import run_lock
from vggnb.train.loop import fit_on
from vggnb.train.run_files import FINE_TUNED, VALIDATION, record, validation_bytes, weights_bytes
from vggnb.train.runs import History, Run


def fine_tune(
    run: Run,
    features: Features,
    *,
    store: Path,
    from_block: str = "block5_conv1",
    epochs: int = 10,
    learning_rate: float = 1e-5,
    patience: int = 3,
    base: keras.Model | None = None,
    progress: bool | Callable[[int], keras.callbacks.Callback] = True,
    fresh: bool = False,
    checkpoint_s: float = CHECKPOINT_S,
) -> History:
    """Train the convolutions from a named one on, and the head, from where the head's training ended.

    From then on `run.classifier()` is the fine-tuned one, until the head is trained again. With validation images the
    epoch with the lowest validation loss is kept, the untrained beginning included; the rate is halved after each epoch
    that is no better, and after `patience` of them in a row training ends. Stopped or killed, it goes on like `fit`.

    Args:
        features: what the head was trained on.
        store: folder of the feature store; the activations are kept there, 400 KB an image before block5_conv1 at 224
            pixels, so that a second call does not compute them again.
        from_block: the first layer that learns: one of cut.CONVOLUTIONS.
        epochs: at most so many.
        learning_rate: Adam's; a hundredth of the head's, since the layers already know much.
        base: what `run.base()` would give, if it is at hand; it is left as it is.
        progress, fresh, checkpoint_s: as for `fit`.

    Raises:
        VggnbError: unknown layer, the run is not trained or in use, or the loss stopped being a number.
        keeper.Stopped: interrupted; running it again continues.
    """
    check_block(from_block)
    start = time.perf_counter()
    choices = {"from_block": from_block, "epochs": epochs, "learning_rate": learning_rate, "patience": patience}
    with run_lock(run.folder):
        card = {**training_card(run, features), **choices, "head": run.training()["head_sha256"]}
        done = run.fine_tuned()
        if done and not fresh and done["card"] == card:
            print("This was fine-tuned before; fresh=True does it again.")
            return History(tuple(done["history"]))
        checkpoints = Checkpoints(run.folder / "checkpoints", "fine-tune")
        if fresh:
            checkpoints.clear()
        state, ranges, validation = _tuned(
            run, features, card, base or run.base(), checkpoints, store, progress, checkpoint_s
        )
        _keep(run, state, ranges, validation, choices, time.perf_counter() - start)
        checkpoints.clear()
    return History(tuple(state.about["history"]))


def training_card(run: Run, features: Features) -> dict:
    """What a training is of, besides versions and threads: only an unfinished one with an equal card is continued."""
    digest = hashlib.sha256(np.ascontiguousarray(features.values))
    digest.update(repr([(row.sha256, row.label, row.split) for row in features.rows]).encode())
    card = {**run.recipe.to_dict(), "classes": list(run.classes), "images": len(features.rows)}
    return {**card, "features": digest.hexdigest()}


def _tuned(run, features, card, base, checkpoints, store, progress, every_s) -> tuple[State, FeatureRanges, bytes]:
    """The training itself; returns names and numbers of what learnt."""
    recipe, block = run.recipe.with_(decay=False), card["from_block"]  # the rate falls where validation says so
    if recipe.is_open:
        recipe = recipe.with_(ridge=run.training()["choice"]["ridge"])
    part = extract(run.manifest, recipe, base, run.source, store=store, cut=block, progress=bool(progress))
    places = {row.path: index for index, row in enumerate(features.rows)}
    keep = [index for index, row in enumerate(part.rows) if row.path in places]
    rows = [part.rows[index] for index in keep]
    columns = features.values[[places[row.path] for row in rows]]
    head = fit_head(features, run.recipe.with_(hold_out=True), len(run.classes), progress=False).head
    tail = build_tail(base, head, recipe, from_block=block)
    inputs = [part.values.rows(keep), columns[:, frozen_columns(recipe, block)]][: len(tail.inputs)]
    labels = _labels(rows, recipe, len(run.classes))
    split = np.array([row.split for row in rows])
    chosen = {name: np.flatnonzero(split == name) for name in ("train", "validation")}
    compile_head(tail, recipe.with_(learning_rate=card["learning_rate"]))
    state = tune(tail, inputs, labels, **chosen, recipe=recipe, card=card, checkpoints=checkpoints,
                 progress=progress, every_s=every_s)  # fmt: skip
    some = chosen["validation"]
    said = _seen(tail, inputs, some)
    logits = logits_of(said, recipe.activation(len(run.classes)))
    calibration = calibrate(logits, _integers(rows)[some])
    seen = columns[:, pool_columns(recipe)]
    if len(frozen_columns(recipe, block)) < seen.shape[1]:  # what enters the head has changed
        seen = _seen(keras.Model(tail.inputs, features_of(tail, recipe)), inputs, np.arange(len(rows)))
    ranges = fit_ranges(seen[chosen["train"]], seen[some])
    about = {**state.about, "calibration": calibration.to_dict()}
    probabilities = softmax(logits / calibration.temperature, axis=1)
    kept = validation_bytes([rows[index] for index in some], probabilities, run.classes)
    return State(state.epoch, numbers(tail, head), about), ranges, kept


def _seen(part: keras.Model, inputs: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """What the tail, or a part of it, gives for some activations, a batch at a time from the disk."""
    if not len(rows):
        return np.zeros((0, part.output_shape[-1]), np.float32)
    pieces = np.split(rows, range(32, len(rows), 32))
    return np.concatenate([part.predict_on_batch([np.asarray(values[some]) for values in inputs]) for some in pieces])


def tune(
    tail: keras.Model, inputs: Sequence[np.ndarray], labels: np.ndarray, *, train: np.ndarray, validation: np.ndarray,
    recipe: Recipe, card: dict, checkpoints: Checkpoints, progress=False, every_s: float = CHECKPOINT_S,
) -> State:  # fmt: skip
    """Train a compiled tail on some of the activations.

    Args:
        inputs: one array (n, ...) for each input of the tail, which may lie on disk. labels: (n,) or (n, classes).
        train: indices of the rows to train on; `validation` of those to watch.
        card: with epochs, patience and the rest of what the training is of.
    """
    size, count, classes = recipe.batch_size, len(train), tail.output_shape[-1]

    def cut(indices):
        for at in range(0, len(indices), size):
            some = indices[at : at + size]
            yield tuple(np.asarray(values[some]) for values in inputs), labels[some]

    def epochs(done):
        for epoch in range(done, card["epochs"]):
            yield from cut(train[epoch_order(count, seed=recipe.seed, epoch=epoch)])

    specs = tuple(tf.TensorSpec((None, *values.shape[1:]), values.dtype) for values in inputs)
    signature = (specs, tf.TensorSpec((None, *labels.shape[1:]), labels.dtype))

    def batches(generate):
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)

    watched = batches(lambda: cut(validation)).apply(
        tf.data.experimental.assert_cardinality(math.ceil(len(validation) / size))
    )
    return fit_on(
        tail,
        lambda done: batches(lambda: epochs(done)),
        card=card,
        epochs=card["epochs"],
        steps=math.ceil(count / size),
        penalised=recipe.loss(classes),
        checkpoints=checkpoints,
        validation=watched if len(validation) else None,
        patience=card["patience"] if len(validation) else None,
        class_weight=class_weight(labels[train] if labels.ndim == 1 else labels[train].argmax(1), recipe),
        progress=(lambda epochs: Progress(epochs, "Fine-tuning")) if progress is True else progress,
        every_s=every_s,
    )


def _labels(rows: Sequence[Row], recipe: Recipe, classes: int) -> np.ndarray:
    """Integers, or one-hot, as the recipe's loss needs."""
    labels = _integers(rows)
    return keras.utils.to_categorical(labels, classes) if recipe.loss(classes).startswith("cat") else labels


def _integers(rows: Sequence[Row]) -> np.ndarray:
    """int32 (n,)."""
    return np.array([row.label for row in rows], np.int32)


def _keep(run: Run, state: State, ranges: FeatureRanges, validation: bytes, choices: dict, seconds: float) -> None:
    """Write the weights and the facts."""
    facts = run.training()
    timing = facts["timing"] | {"fine_tune_s": round(seconds, 3)}
    timing["total_s"] = round(timing["features_s"] + timing["head_s"] + seconds, 3)
    names = ("best_epoch", "calibration", "history", "card")
    facts["fine_tune"] = {**choices, **{name: state.about[name] for name in names}}
    facts["fine_tune"]["feature_ranges"] = {"limit": ranges.limit, "images": ranges.images, "reason": ranges.reason}
    facts["validation"] = {"images": validation.count(b"\n") - 1, "out_of_fold": False}
    files = {FINE_TUNED: weights_bytes(state.arrays, ranges), VALIDATION: validation}
    record(run, facts | {"timing": timing}, files, extend=True)
