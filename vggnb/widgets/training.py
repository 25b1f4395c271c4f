"""Watch a training: a bar, the latest numbers, live learning curves and the time left."""

import time
from types import SimpleNamespace

import ipywidgets

from vggnb import figures
from vggnb.folders import duration
from vggnb.widgets.panel import display_view

CURVE_SHARE = 0.1  # drawing takes at most about this share of the training's time
SHOWN = {"loss": "loss", "accuracy": "accuracy", "val_accuracy": "validation accuracy"}


class TrainingProgress:
    """Live curves while Keras trains: `fit(run, features, progress=TrainingProgress)`.

    A Keras callback by its methods alone, so that this module does not need TensorFlow. The notebook's stop button
    (■) ends the training.
    """

    def __init__(self, epochs: int):
        self.epochs, self.done, self.line, self.rows = epochs, 0, "", []
        self.start, self.first, self.next_s = time.monotonic(), 0, 0.0
        self.bar, self.words = ipywidgets.IntProgress(max=epochs), ipywidgets.HTML()
        self.image = ipywidgets.Image(layout={"display": "none", "max_width": "100%"})
        self.view = ipywidgets.VBox([ipywidgets.HBox([self.bar, self.words]), self.image])

    def __str__(self) -> str:
        return f"Training for {self.epochs} epochs. The stop button of the notebook (■) ends it."

    def __getattr__(self, name: str):
        """Keras's other hooks do nothing."""
        if name.startswith("on_") or name in ("set_params", "set_model"):
            return lambda *arguments, **named: None
        raise AttributeError(name)

    def on_train_begin(self, logs=None) -> None:
        """Show the view."""
        self.start = time.monotonic()
        display_view(self.view, str(self))

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Show the epoch's numbers and the time left; from time to time, draw the curves."""
        self.first, self.done = self.first if self.rows else epoch, epoch + 1
        self.rows.append({"epoch": self.done, **(logs or {})})
        parts = [f"{words} {self.rows[-1][name]:.2f}" for name, words in SHOWN.items() if name in self.rows[-1]]
        self.line = ", ".join([f"epoch {self.done} of {self.epochs}", *parts])
        left = (time.monotonic() - self.start) / (self.done - self.first) * (self.epochs - self.done)
        self.bar.value, self.words.value = self.done, f"{self.line}, {duration(left)} left"
        if time.monotonic() >= self.next_s:
            self._draw()

    def on_train_end(self, logs=None) -> None:
        """Leave the last numbers and the whole curves."""
        self.bar.bar_style = "success" if self.done == self.epochs else "warning"
        self.words.value = f"{self.line}, {duration(time.monotonic() - self.start)} in all"
        self._draw()

    def _draw(self) -> None:
        """The curves so far."""
        if len(self.rows) > 1 and {"loss", "accuracy"} <= self.rows[0].keys():
            start = time.monotonic()
            self.image.value = figures.learning_curves(SimpleNamespace(rows=self.rows)).image()
            self.image.layout.display = None
            self.next_s = time.monotonic() + max(0.5, (time.monotonic() - start) / CURVE_SHARE)
