"""Keras's `fit`, made so that it can be stopped at any moment and goes on as if it had not been.

All that a step depends on is either in a checkpoint (numbers of model and optimiser, dropout's random state, history,
best numbers so far) or a pure function of (seed, epoch): the order of the images. Keras's own BackupAndRestore keeps
neither dropout's state nor the history, and repeats or skips steps when it is killed between its two files.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from vggnb.checkpoints import Checkpoints, State
from vggnb.storage import VggnbError
from vggnb.train.adam import Progress
from vggnb.train.keeper import CHECKPOINT_S, Keeper, differences, row_of


def fit_on(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    *,
    card: dict,
    epochs: int,
    steps: int,
    penalised: str,
    checkpoints: Checkpoints,
    validation: tf.data.Dataset | None = None,
    patience: int | None = None,
    class_weight: dict[int, float] | None = None,
    progress: bool | Callable = False,
    every_s: float = CHECKPOINT_S,
) -> State:
    """Train a compiled model, from its newest checkpoint if it has one.

    Args:
        batches: number of epochs done -> the batches of all epochs still to come, `steps` for each.
        card: what the training is of; only a checkpoint with an equal card is continued.
        penalised: the loss's name; with a penalty, the metric of this name is the loss without it.
        validation: batches to look at after each epoch.
        patience: stop when the validation loss has not improved for so many epochs, halving the learning rate at each
            of them, and return to the best epoch, the untrained beginning included; None: all epochs, no return.
        class_weight: label -> what an image of it counts in the loss; None: all the same.
        progress: True for a bar, False for none, or a function from the number of epochs to a Keras callback.

    Returns:
        the state at the end; the model has the same numbers.

    Raises:
        VggnbError: the checkpoints are of another training or damaged, or the loss stopped being a number.
        Stopped: interrupted; the last whole epoch is kept.
    """
    model.optimizer.build(model.trainable_variables)
    keeper = Keeper(
        model,
        card=card,
        penalised=penalised,
        checkpoints=checkpoints,
        patience=patience,
        every_s=every_s,
    )
    if state := checkpoints.newest():
        _check_card(state, card, checkpoints)
        keeper.go_on_from(state)
    elif patience and validation is not None:
        logs = model.evaluate(validation, return_dict=True, verbose=0)
        keeper.begin_with(row_of({f"val_{name}": value for name, value in logs.items()}, penalised)["val_loss"])
    if keeper.state.epoch < epochs and not keeper.has_stopped:
        bars = [(Progress if progress is True else progress)(epochs)] if progress else []
        try:
            model.fit(
                batches(keeper.state.epoch),
                initial_epoch=keeper.state.epoch,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                callbacks=[keeper, *bars],
                class_weight=class_weight,
                shuffle=False,  # the order is ours; Keras would warn that it cannot shuffle a dataset
                verbose=0,
            )
        except BaseException as error:
            for bar in bars:
                bar.on_train_end()
            if isinstance(error, KeyboardInterrupt):
                raise keeper.stopped() from None
            raise
    return keeper.finish()


def _check_card(state: State, card: dict, checkpoints: Checkpoints) -> None:
    """Refuse to go on with another training; the first three differences are told."""
    if found := differences(state.about["card"], card):
        what = f"Here is an unfinished training, after epoch {state.epoch}, of another kind: {'; '.join(found[:3])}."
        remedy = "Continue that one, or start again from nothing with fresh=True (--fresh), or name a new folder."
        raise VggnbError(what, checkpoints.folder.parent, remedy)
