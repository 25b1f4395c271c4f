"""Keras's `fit`, made so that it can be stopped at any moment and goes on as if it had not been.

All that a step depends on is either in a checkpoint (numbers of model and optimiser, dropout's random state, history, best
numbers so far) or a pure function of (seed, epoch): the order of the images. Keras's own BackupAndRestore keeps neither
dropout's state nor the history, and repeats or skips steps when it is killed between its two files.
"""

import math
import os
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from vggnb.checkpoints import Checkpoints, State
from vggnb.lock import Lock
from vggnb.machine import versions
from vggnb.storage import VggnbError

CHECKPOINT_S = 5.0  # a kill loses at most this much training...
CHECKPOINT_SHARE = 0.05  # ... or, on a slow storage, so much that writing takes at most this share of the time


class Stopped(KeyboardInterrupt):
    """Training was interrupted and can be continued; its text says so."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [str(self)]


class Progress(keras.callbacks.Callback):
    """One bar for all epochs, with the latest numbers beside it."""

    def __init__(self, epochs: int, name: str = "Head"):
        super().__init__()
        self.bar = tqdm(total=epochs, desc=name, unit="epoch")

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch's numbers."""
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in (logs or {}).items()}, refresh=False)
        self.bar.update(epoch + 1 - self.bar.n)

    def on_train_end(self, logs=None):
        """Leave the last line standing."""
        self.bar.close()


def fit_on(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    *,
    card: dict,
    epochs: int,
    steps: int,
    penalised: str,
    checkpoints: Checkpoints,
    lock: Lock,
    validation=None,
    patience: int | None = None,
    progress: bool | Callable = False,
    every_s: float = CHECKPOINT_S,
) -> State:
    """Train a compiled model, from its newest checkpoint if it has one.

    Args:
        batches: number of epochs done -> the batches of all epochs still to come, `steps` for each.
        card: what the training is of; only a checkpoint with an equal card is continued.
        penalised: the loss's name; with a penalty, the metric of this name is the loss without it.
        validation: (inputs, labels), or a dataset of batches; looked at after each epoch.
        patience: stop when the validation loss has not improved for so many epochs, halving the learning rate at each
            of them, and return to the best epoch, the untrained beginning included; None: all epochs, no return.
        progress: True for a bar, False for none, or a function from the number of epochs to a Keras callback.

    Returns:
        the state at the end; the model has the same numbers.

    Raises:
        VggnbError: the checkpoints are of another training or damaged, or the loss stopped being a number.
        Stopped: interrupted; the last whole epoch is kept.
    """
    model.optimizer.build(model.trainable_variables)
    keeper = _Keeper(model, card, penalised, checkpoints, lock, patience, every_s)
    if state := checkpoints.newest():
        _check_card(state, card, checkpoints)
        keeper.go_on_from(state)
    elif patience and validation is not None:
        logs = model.evaluate(*_unpacked(validation), return_dict=True, verbose=0)
        keeper.begin_with(_row({f"val_{name}": value for name, value in logs.items()}, penalised)["val_loss"])
    if keeper.state.epoch < epochs and not keeper.has_stopped:
        bars = [(Progress if progress is True else progress)(epochs)] if progress else []
        try:
            model.fit(
                batches(keeper.state.epoch),
                initial_epoch=keeper.state.epoch,
                epochs=epochs,
                steps_per_epoch=steps,
                validation_data=validation,
                validation_batch_size=1024,
                callbacks=[keeper, *bars],
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


def in_graph(model: keras.Model, steps: int) -> None:
    """Let a compiled model do a whole epoch in one call of TensorFlow: on small heads the calls cost more than the sums."""
    model.steps_per_execution = steps


class _Keeper(keras.callbacks.Callback):
    """After each epoch: the history's row, the best numbers, and from time to time a checkpoint."""

    def __init__(self, model, card, penalised, checkpoints, lock, patience, every_s):
        super().__init__()
        self.variables = {"model": model.variables, "optimizer": model.optimizer.variables}
        self.optimizer, self.setting = model.optimizer, setting()
        self.card, self.penalised, self.patience, self.every_s = card, penalised, patience, every_s
        self.checkpoints, self.lock = checkpoints, lock
        self.rows: list[dict] = []
        self.best: dict[str, np.ndarray] = {}
        self.best_loss, self.best_epoch, self.wait = math.inf, 0, 0
        self.state, self.written, self.next_s = self._taken(0), 0, time.monotonic() + every_s

    @property
    def has_stopped(self) -> bool:
        """Whether patience is at its end."""
        return bool(self.patience) and self.wait >= self.patience

    def begin_with(self, loss: float) -> None:
        """The validation loss before any training is the first to beat."""
        if math.isfinite(loss):
            self.best_loss, self.best = loss, self._copies("model", "best")
        self.state = self._taken(0)

    def go_on_from(self, state: State) -> None:
        """Put a checkpoint's numbers back."""
        for part, variables in self.variables.items():
            for number, variable in enumerate(variables):
                variable.assign(state.arrays[f"{part}/{number:03d}"])
        self.best = {name: array for name, array in state.arrays.items() if name.startswith("best/")}
        self.rows = list(state.about["history"])
        self.best_epoch, self.wait = state.about["best_epoch"], state.about["wait"]
        loss = state.about["best_loss"]
        self.best_loss = math.inf if loss is None else loss
        self.state, self.written = self._taken(state.epoch), state.epoch
        print(f"Going on after epoch {state.epoch}.")
        if changed := differences(state.about["setting"], self.setting):
            print(f"The result will not be the same to the last bit: {'; '.join(changed)}.")

    def on_train_batch_end(self, batch, logs=None):
        """Stop at once when the loss is no number."""
        self._check_finite(logs or {}, len(self.rows) + 1)

    def on_epoch_end(self, epoch, logs=None):
        """Keep what this epoch brought."""
        row = {"epoch": epoch + 1, **_row(logs, self.penalised)}
        self._check_finite(row, epoch + 1)
        self.rows.append(row)
        if self.patience and "val_loss" in row:
            self._compare(row["val_loss"], epoch + 1)
        self.state = self._taken(epoch + 1)
        if time.monotonic() >= self.next_s:
            self._write()
        self.model.stop_training = self.has_stopped

    def stopped(self) -> Stopped:
        """What an interruption is told as, after the last whole epoch was kept."""
        if self.state.epoch > self.written:
            self._write()
        if not self.state.epoch:
            return Stopped("Stopped before the first epoch was done; run this again to start over.")
        return Stopped(f"Stopped at epoch {self.state.epoch}; run this again to continue.")

    def finish(self) -> State:
        """The end; with patience, back to the best numbers."""
        if self.best:
            for number, variable in enumerate(self.variables["model"]):
                variable.assign(self.best[f"best/{number:03d}"])
        return self._taken(self.state.epoch)

    def _compare(self, loss: float, epoch: int) -> None:
        """Note the best epoch; where none is in sight, take smaller steps."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.wait = loss, epoch, 0
            self.best = self._copies("model", "best")
        else:
            self.wait += 1
            self.optimizer.learning_rate = float(self.optimizer.learning_rate) / 2

    def _check_finite(self, numbers: dict, epoch: int) -> None:
        if not all(math.isfinite(value) for value in numbers.values()):
            remedy = f"Try a tenth of the learning rate ({float(self.optimizer.learning_rate) / 10:g}), in a new folder."
            raise VggnbError(f"The loss stopped being a number in epoch {epoch}.", self.checkpoints.folder.parent, remedy)

    def _taken(self, epoch: int) -> State:
        """Everything as it is now, in copies."""
        arrays = {**self._copies("model", "model"), **self._copies("optimizer", "optimizer"), **self.best}
        about = {
            "card": self.card,
            "history": list(self.rows),
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "wait": self.wait,
            "setting": self.setting,
        }
        return State(epoch, arrays, about)

    def _copies(self, part: str, name: str) -> dict[str, np.ndarray]:
        return {f"{name}/{i:03d}": np.array(variable) for i, variable in enumerate(self.variables[part])}

    def _write(self) -> None:
        """Write the newest state, and say when the next is due."""
        self.lock.check()
        start = time.monotonic()
        self.checkpoints.write(self.state)
        took = time.monotonic() - start
        self.written = self.state.epoch
        self.next_s = time.monotonic() + (max(self.every_s, took / CHECKPOINT_SHARE) if self.every_s else 0)


def setting() -> dict:
    """What must be the same, besides the card, for the same bits: versions, threads, device."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = (tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
    made = {name: version for name, version in versions().items() if name in ("vggnb", "numpy", "tensorflow", "keras")}
    gpus = len(tf.config.list_physical_devices("GPU"))
    return {**made, "threads": [count or cores for count in wanted], "GPUs": gpus}


def differences(there: dict, here: dict) -> list[str]:
    """Sentences on what two descriptions differ in."""
    keys = dict.fromkeys([*here, *there])
    return [f"{key} is {there.get(key)} there and {here.get(key)} here" for key in keys if there.get(key) != here.get(key)]


def _check_card(state: State, card: dict, checkpoints: Checkpoints) -> None:
    """Refuse to go on with another training; the first three differences are told."""
    if found := differences(state.about["card"], card):
        what = f"Here is an unfinished training, after epoch {state.epoch}, of another kind: {'; '.join(found[:3])}."
        remedy = "Continue that one, or start again from nothing with fresh=True (--fresh), or name a new folder."
        raise VggnbError(what, checkpoints.folder.parent, remedy)


def _unpacked(validation) -> Sequence:
    """Validation data as the first arguments of `evaluate`."""
    return validation if isinstance(validation, tuple) else (validation,)


def _row(logs: dict, penalised: str) -> dict[str, float]:
    """One epoch's numbers; where the loss holds a penalty, the metric of this name is the loss without it."""
    row = {name: float(value) for name, value in logs.items() if not name.endswith(penalised)}
    for name in ("loss", "val_loss"):
        if (alone := name.replace("loss", penalised)) in logs:
            row[name] = float(logs[alone])
    return row
