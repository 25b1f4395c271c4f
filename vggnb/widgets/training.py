"""Watch a training: a bar, the latest numbers, live curves, the time left, and a stop button that keeps the state."""

import math
import time
from types import SimpleNamespace

from vggnb import figures
from vggnb.folders import duration
from vggnb.widgets.panels import Panel, ipywidgets

CURVE_SHARE = 0.1  # drawing takes at most about this share of the training's time


class TrainingProgress(Panel):
    """A dashboard while Keras trains: `fit(run, features, progress=TrainingProgress)`.

    A Keras callback by its methods alone, so that this module does not need TensorFlow. The stop button needs a front
    end that delivers presses while a cell runs (JupyterLab 4.4 and later with ipykernel 7); elsewhere the notebook's
    own stop button does the same. Either way the last whole epoch is kept, and running the cell again continues.
    """

    def __init__(self, epochs: int):
        self.epochs, self.done, self.line, self.rows = epochs, 0, "", []
        self.start, self.first, self.next_s, self.stopping = time.monotonic(), 0, 0.0, False
        if ipywidgets:
            self.bar = ipywidgets.IntProgress(max=epochs)
            self.button = ipywidgets.Button(description="stop", tooltip="Stop; what was learnt is kept")
            self.button.on_click(lambda button: self.stop())
            self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(format="png", layout={"display": "none"})
            self.view = ipywidgets.VBox([ipywidgets.HBox([self.bar, self.button, self.words]), self.image])

    def __str__(self) -> str:
        return f"Training for {self.epochs} epochs."

    def __getattr__(self, name: str):
        """Keras's other hooks: nothing happens in them."""
        if name.startswith("on_") or name in ("set_params", "set_model"):
            return lambda *arguments, **named: None
        raise AttributeError(name)

    def stop(self) -> None:
        """Let the training end after the present step; it can be continued."""
        self.stopping = True
        if self.view is not None:
            self.button.disabled, self.button.description = True, "stopping"

    def on_train_begin(self, logs=None) -> None:
        """Show the view."""
        self.start = time.monotonic()
        self._ipython_display_()
        if self.view is not None:
            _hear_at_once(self.button)

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Stop if that was asked for: `fit` keeps the last whole epoch and says how to go on."""
        if self.stopping and logs is not None and self.done:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Say the epoch's numbers and the time that is left; from time to time, draw the curves."""
        self.first = epoch if not self.rows else self.first
        self.done = epoch + 1
        numbers = [f"epoch {self.done} of {self.epochs}"]
        for name, words in (("loss", "loss"), ("accuracy", "accuracy"), ("val_accuracy", "validation accuracy")):
            numbers += [f"{words} {logs[name]:.2f}"] if name in (logs or {}) else []
        self.line = ", ".join(numbers)
        self.rows.append({"epoch": self.done, **(logs or {})})
        left = (time.monotonic() - self.start) / (self.done - self.first) * (self.epochs - self.done)
        if self.view is not None:
            self.bar.value = self.done
            self.words.value = f"{self.line}, {duration(left)} left"
            if time.monotonic() >= self.next_s:
                self._draw()
        if self.stopping:
            raise KeyboardInterrupt

    def on_train_end(self, logs=None) -> None:
        """Leave the last numbers and the whole curves standing."""
        if self.view is None:
            print(self.line)
            return
        self.bar.bar_style = "success" if self.done == self.epochs else "warning"
        self.button.layout.display = "none"
        on = "; run the cell again to go on" if self.stopping else ""
        self.words.value = f"{self.line}, {duration(time.monotonic() - self.start)} in all{on}"
        self._draw()

    def _draw(self) -> None:
        """The curves so far."""
        if len(self.rows) < 2 or not {"loss", "accuracy"} <= self.rows[0].keys():
            return
        start = time.monotonic()
        before = [dict.fromkeys(self.rows[0], math.nan)] * self.first  # epochs of an earlier training, now continued
        self.image.value = figures.learning_curves(SimpleNamespace(rows=[*before, *self.rows])).image()
        self.image.layout.display = None
        self.next_s = time.monotonic() + max(0.5, (time.monotonic() - start) / CURVE_SHARE)


def _hear_at_once(control) -> None:
    """Let presses come in while the cell is busy.

    ipykernel 7.4 gives what a control says to the thread that last wrote to it, here the one that trains; having
    forgotten that, it takes the thread that JupyterLab names. Elsewhere there is nothing to forget.
    """
    getattr(control.comm, "__dict__", {}).pop("_reply_subshell_id", None)
