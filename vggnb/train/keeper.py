"""What a training remembers: the history, its best numbers, and every few seconds a checkpoint of everything."""

import math
import time
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from vggnb.checkpoints import Checkpoints, State
from vggnb.paths import cores, versions
from vggnb.storage import VggnbError
from vggnb.train.runs import Stopped

CHECKPOINT_S = 5.0  # a kill loses at most this much training...
PARTS = ("vggnb", "numpy", "tensorflow", "keras")
CHECKPOINT_SHARE = 0.05  # ... or, on a slow storage, so much that writing takes at most this share of the time


class Keeper(keras.callbacks.Callback):
    """After each epoch: the history's row, the best numbers, and from time to time a checkpoint."""

    def __init__(
        self,
        model: keras.Model,
        *,
        card: dict,
        penalised: str,
        checkpoints: Checkpoints,
        patience: int | None = None,
        every_s: float = CHECKPOINT_S,
    ):
        super().__init__()
        self.variables = {"model": model.variables, "optimizer": model.optimizer.variables}
        self.optimizer, self.setting = model.optimizer, setting()
        self.card, self.penalised, self.patience, self.every_s = card, penalised, patience, every_s
        self.checkpoints = checkpoints
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
        self._check_finite((logs or {}).values(), len(self.rows) + 1)

    def on_epoch_end(self, epoch, logs=None):
        """Keep what this epoch brought."""
        row = {"epoch": epoch + 1, **row_of(logs, self.penalised)}
        # On a CPU, relu makes a zero of what is no number: the loss can look well when the weights do not.
        sums = [float(np.sum(np.array(variable))) for variable in self.variables["model"]]
        self._check_finite([*row.values(), *sums], epoch + 1)
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

    def _check_finite(self, numbers: Iterable[float], epoch: int) -> None:
        if not all(map(math.isfinite, numbers)):
            tenth = float(self.optimizer.learning_rate) / 10
            remedy = f"Try a tenth of the learning rate ({tenth:g}), in a new folder."
            what = f"The loss stopped being a number in epoch {epoch}."
            raise VggnbError(what, self.checkpoints.folder.parent, remedy)

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
        start = time.monotonic()
        self.checkpoints.write(self.state)
        took = time.monotonic() - start
        self.written = self.state.epoch
        self.next_s = time.monotonic() + (max(self.every_s, took / CHECKPOINT_SHARE) if self.every_s else 0)


def setting() -> dict:
    """What must be the same, besides the card, for the same bits: versions, threads, device."""
    threading = tf.config.threading
    wanted = [threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()]
    made = {name: version for name, version in versions().items() if name in PARTS}
    gpus = len(tf.config.list_physical_devices("GPU"))
    return {**made, "threads": [count or cores() for count in wanted], "GPUs": gpus}


def differences(there: dict, here: dict) -> list[str]:
    """Sentences on what two descriptions differ in."""
    keys = dict.fromkeys([*here, *there])
    return [
        f"{key} is {there.get(key)} there and {here.get(key)} here" for key in keys if there.get(key) != here.get(key)
    ]


def row_of(logs: dict, penalised: str) -> dict[str, float]:
    """One epoch's numbers; where the loss holds a penalty, the metric of this name is the loss without it."""
    row = {name: float(value) for name, value in logs.items() if not name.endswith(penalised)}
    for name in ("loss", "val_loss"):
        if (alone := name.replace("loss", penalised)) in logs:
            row[name] = float(logs[alone])
    return row
