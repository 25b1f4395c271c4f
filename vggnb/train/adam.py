"""Train a head with Adam on features in memory, for recipes that have no exact solution."""

import math
from collections.abc import Callable

import numpy as np

from vggnb.device import keras, tf
from vggnb.generators import epoch_order
from vggnb.machine import tqdm
from vggnb.model import build_head, compile_head
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError
from vggnb.train.ridge import sample_weights
from vggnb.train.runs import Stopped


class Bar(keras.callbacks.Callback):
    """One bar for all calls of Keras, with the numbers of the latest epoch beside it."""

    def __init__(self, total: int, name: str, unit: str):
        super().__init__()
        self.bar = tqdm(total=total, desc=name, unit=unit)

    def on_train_batch_end(self, batch, logs=None):
        """One step more; where Keras takes a whole epoch in one call, one epoch."""
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch's numbers."""
        shown = {name: f"{value:.2f}" for name, value in (logs or {}).items() if "crossentropy" not in name}
        self.bar.set_postfix(shown)

    def on_train_end(self, logs=None):
        """Leave the last line standing."""
        self.bar.close()


def watch(progress: bool | Callable, epochs: int, total: int, *, name: str, unit: str) -> keras.callbacks.Callback:
    """The Keras callback that follows steps and epochs: a bar, the user's own, or one that does nothing."""
    if progress is True:
        return Bar(total, name, unit)
    return progress(epochs) if progress else keras.callbacks.Callback()


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
    """
    (values, labels), count = train, len(train[0])
    head = build_head(recipe, classes, images=count)
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    compile_head(head, recipe, images=count)
    steps = math.ceil(count / recipe.batch_size)
    head.steps_per_execution = steps  # a whole epoch in one call: small heads cost less than the calls
    early, held_out, penalised = None, None, recipe.loss(classes)
    watcher = watch(progress, recipe.epochs, recipe.epochs, name="Head", unit="epoch")
    callbacks = [keras.callbacks.TerminateOnNaN(), watcher]
    if len(validation[0]):
        pair = validation[0], targets(validation[1], penalised, classes)
        held_out = tf.data.Dataset.from_tensor_slices(pair).batch(1024).cache()
    if held_out and recipe.patience:
        monitor = {"monitor": f"val_{penalised if recipe.ridge else 'loss'}", "mode": "min"}
        early = keras.callbacks.EarlyStopping(patience=recipe.patience, restore_best_weights=True, **monitor)
        callbacks += [keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0, **monitor), early]
    try:
        found = head.fit(
            ordered_batches(values, targets(labels, penalised, classes), recipe),
            validation_data=held_out,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            class_weight=class_weight(labels, recipe),
            callbacks=callbacks,
            shuffle=False,  # the order is ours; Keras would warn that it cannot shuffle a dataset
            verbose=0,
        )
    except KeyboardInterrupt:
        raise Stopped("Stopped; nothing was changed. Run this again to train from the start.") from None
    rows = [epoch_numbers(epoch, found.history, penalised) for epoch in range(len(found.epoch))]
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


def targets(labels: np.ndarray, loss: str, classes: int) -> np.ndarray:
    """Labels as the loss needs them: integers, or one-hot."""
    return keras.utils.to_categorical(labels, classes) if loss == "categorical_crossentropy" else labels


def class_weight(labels: np.ndarray, recipe: Recipe) -> dict[int, float] | None:
    """Label -> weight of one of its images in the loss, 1 on average; None where all count the same."""
    return dict(zip(labels.tolist(), sample_weights(labels, recipe), strict=True)) if recipe.class_weights else None


def epoch_numbers(epoch: int, history: dict[str, list], penalised: str) -> dict[str, float]:
    """One epoch's row; where the loss includes a penalty, the metric named `penalised` is the loss without it."""
    names = [name for name in history if not name.endswith(penalised) and name != "learning_rate"]
    alone = {name: name.replace("loss", penalised) for name in names}
    return {"epoch": epoch + 1} | {
        name: float(history[alone[name] if alone[name] in history else name][epoch]) for name in names
    }
