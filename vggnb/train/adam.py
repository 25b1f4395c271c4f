"""Train a head with Adam on features in memory, for recipes that have no exact solution."""

import math
from collections.abc import Callable

import numpy as np

from vggnb.device import keras, tf
from vggnb.generators import epoch_order
from vggnb.model import build_head, compile_head
from vggnb.progress import tqdm
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError
from vggnb.train.ridge import sample_weights
from vggnb.train.runs import Stopped


class Progress(keras.callbacks.Callback):
    """One bar for all epochs, with the latest numbers beside it."""

    def __init__(self, epochs: int, name: str = "Head"):
        super().__init__()
        self.bar = tqdm(total=epochs, desc=name, unit="epoch")

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch's numbers."""
        shown = {name: f"{value:.2f}" for name, value in (logs or {}).items() if "crossentropy" not in name}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(epoch + 1 - self.bar.n)

    def on_train_end(self, logs=None):
        """Leave the last line standing."""
        self.bar.close()


def train_with_adam(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    classes: int,
    *,
    progress: bool | Callable[[int], keras.callbacks.Callback],
) -> tuple[keras.Model, list[dict[str, float]], int]:
    """The head, one row of numbers for each epoch, and the epoch whose weights were kept.

    With the recipe's patience, training stops when the validation loss has not improved for so many epochs, the rate is
    halved at each of them, and the weights of the best epoch are kept.

    Args:
        train: features float32 (n, d) and labels int (n,).
        validation: the same; may be empty.
        progress: a bar, nothing, or a function from the number of epochs to a Keras callback.

    Raises:
        VggnbError: the loss is not finite.
        Stopped: interrupted.
    """
    (values, labels), count = train, len(train[0])
    head = build_head(recipe, classes, images=count)
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    compile_head(head, recipe, images=count)
    steps, penalised = math.ceil(count / recipe.batch_size), recipe.loss(classes)
    head.steps_per_execution = steps  # a whole epoch in one call: small heads cost less than the calls
    callbacks = [keras.callbacks.TerminateOnNaN()]
    if early := recipe.patience and len(validation[0]):
        monitor = {"monitor": f"val_{penalised if recipe.ridge else 'loss'}", "mode": "min"}
        early = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True, **monitor)
        callbacks += [keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0, **monitor), early]
    if progress:
        callbacks.append((Progress if progress is True else progress)(recipe.epochs))
    data = {"validation_data": validation_batches(*validation, penalised, classes)} if len(validation[0]) else {}
    try:
        found = head.fit(
            ordered_batches(values, targets(labels, penalised, classes), recipe),
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            class_weight=class_weight(labels, recipe),
            callbacks=callbacks,
            shuffle=False,  # the order is ours; Keras would warn that it cannot shuffle a dataset
            verbose=0,
            **data,
        )
    except KeyboardInterrupt:
        raise Stopped("Stopped; nothing was changed. Run this again to train from the start.") from None
    rows = [dict(zip(found.history, numbers, strict=True)) for numbers in zip(*found.history.values(), strict=True)]
    rows = [{"epoch": epoch, **epoch_numbers(row, penalised)} for epoch, row in enumerate(rows, 1)]
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


def validation_batches(values: np.ndarray, labels: np.ndarray, loss: str, classes: int) -> tf.data.Dataset:
    """Batches to evaluate after each epoch."""
    return tf.data.Dataset.from_tensor_slices((values, targets(labels, loss, classes))).batch(1024).cache()


def targets(labels: np.ndarray, loss: str, classes: int) -> np.ndarray:
    """Labels as the loss needs them: integers, or one-hot."""
    return keras.utils.to_categorical(labels, classes) if loss == "categorical_crossentropy" else labels


def class_weight(labels: np.ndarray, recipe: Recipe) -> dict[int, float] | None:
    """Label -> weight of one of its images in the loss, 1 on average; None where all count the same."""
    return dict(zip(labels.tolist(), sample_weights(labels, recipe), strict=True)) if recipe.class_weights else None


def epoch_numbers(logs: dict, penalised: str) -> dict[str, float]:
    """One epoch's numbers; where the loss includes a penalty, the metric named `penalised` is the loss without it."""
    row = {name: float(value) for name, value in logs.items() if not name.endswith(penalised)}
    row.pop("learning_rate", None)
    for name in ("loss", "val_loss"):
        if (alone := name.replace("loss", penalised)) in logs:
            row[name] = float(logs[alone])
    return row
