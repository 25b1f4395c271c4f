"""Things to touch in a notebook: training progress, a dataset browser, a threshold explorer.

Each is a class with a plain-Python core (call its methods), a `view` of core ipywidgets controls (7.7 and 8), and words
that stand in where there is no kernel or no ipywidgets. All text from data is escaped.
"""

import math
import time
from collections.abc import Callable, Sequence
from html import escape
from types import SimpleNamespace

import numpy as np

from vggnb import figures
from vggnb.census.layout import SPLITS, UNSPLIT
from vggnb.folders import shown
from vggnb.storage import VggnbError
from vggnb.widgets.panels import Panel, ipywidgets

PAGE = 12  # pictures


class TrainingProgress(Panel):
    """A bar and the latest numbers while Keras trains: `fit(run, features, progress=TrainingProgress)`.

    A Keras callback by its methods alone, so that this module does not need TensorFlow.
    """

    def __init__(self, epochs: int):
        self.epochs, self.done, self.line = epochs, 0, ""
        self.start = time.monotonic()
        if ipywidgets:
            self.bar = ipywidgets.IntProgress(max=epochs)
            self.words = ipywidgets.HTML()
            self.view = ipywidgets.HBox([self.bar, self.words])

    def __str__(self) -> str:
        return f"Training for {self.epochs} epochs."

    def __getattr__(self, name: str):
        """Keras's other hooks: nothing happens in them."""
        if name.startswith("on_") or name in ("set_params", "set_model"):
            return lambda *arguments, **named: None
        raise AttributeError(name)

    def on_train_begin(self, logs=None) -> None:
        """Show the view."""
        self.start = time.monotonic()
        self._ipython_display_()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Say the epoch's numbers and the time that is left."""
        self.done = epoch + 1
        numbers = [f"epoch {self.done} of {self.epochs}"]
        for name, words in (("loss", "loss"), ("accuracy", "accuracy"), ("val_accuracy", "validation accuracy")):
            numbers += [f"{words} {logs[name]:.2f}"] if name in (logs or {}) else []
        self.line = ", ".join(numbers)
        left = (time.monotonic() - self.start) / self.done * (self.epochs - self.done)
        if self.view is not None:
            self.bar.value = self.done
            self.words.value = f"{self.line}, {math.ceil(left)} s left"

    def on_train_end(self, logs=None) -> None:
        """Leave the last numbers standing."""
        if self.view is None:
            print(self.line)
        else:
            self.bar.bar_style = "success" if self.done == self.epochs else "warning"
            self.words.value = f"{self.line}, {time.monotonic() - self.start:.0f} s in all"


class DatasetBrowser(Panel):
    """The pictures of a census or a manifest, by split and class, a page at a time.

    Args:
        read: path in the dataset -> uint8 (h, w, 3); default the library's decoder.
    """

    def __init__(self, data, *, read: Callable[[str], np.ndarray] | None = None):
        self.data, self.read = data, read
        self.splits = sorted({row.split for row in data.rows}, key=(*SPLITS, UNSPLIT).index)
        if not self.splits:
            raise VggnbError("There are no images to show.", data.dataset, "Look at the census for the reasons.")
        self.split, self.class_name, self.page = self.splits[0], None, 0
        if ipywidgets:
            classes = [("all classes", None)] + [(shown(name), name) for name in data.classes]
            self.split_choice = ipywidgets.Dropdown(options=self.splits, description="split")
            self.class_choice = ipywidgets.Dropdown(options=classes, description="class")
            self.back, self.forward = (ipywidgets.Button(description=text) for text in ("previous", "next"))
            self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(format="jpeg")
            controls = ipywidgets.HBox([self.split_choice, self.class_choice, self.back, self.forward])
            self.view = ipywidgets.VBox([controls, self.words, self.image])
            self.split_choice.observe(lambda change: self.show(split=change["new"]), names="value")
            self.class_choice.observe(lambda change: self.show(class_name=change["new"]), names="value")
            self.back.on_click(lambda button: self.show(page=self.page - 1))
            self.forward.on_click(lambda button: self.show(page=self.page + 1))
            self._draw()

    def rows(self) -> list:
        """The rows of the chosen split and class."""
        rows = [row for row in self.data.rows if row.split == self.split]
        return [row for row in rows if self.class_name in (None, row.class_name)]

    def show(self, **choice) -> None:
        """Show another `split`, `class_name` (None: all), or `page` (from 0); a new choice begins at its first page."""
        self.page = 0
        for name, value in choice.items():
            setattr(self, name, value)
        last = max(0, math.ceil(len(self.rows()) / PAGE) - 1)
        self.page = min(max(self.page, 0), last)
        self._draw()

    def __str__(self) -> str:
        rows, kind = self.rows(), "all classes" if self.class_name is None else shown(self.class_name)
        first = self.page * PAGE
        span = f"{first + 1} to {min(first + PAGE, len(rows))} of " if rows else ""
        return f"{self.split}, {kind}: images {span}{len(rows)}"

    def _draw(self) -> None:
        if self.view is None:
            return
        rows = self.rows()
        some = rows[self.page * PAGE : (self.page + 1) * PAGE]
        self.words.value = escape(str(self))
        self.image.value = figures.pictures(self.data, some, read=self.read).image() if some else b""
        self.back.disabled, self.forward.disabled = self.page == 0, (self.page + 1) * PAGE >= len(rows)


class ThresholdExplorer(Panel):
    """From which probability on should the positive class be said? Move the slider: who is found, who is alarmed.

    Choose on validation images; a threshold chosen on test images flatters itself.

    Args:
        predictions: anything with `labels` (n,) and `probabilities` (n, 2), such as `evaluate.predict_split` gives.
        positive: the class to find; default the alphabetically last.
    """

    def __init__(self, predictions, classes: Sequence[str], positive: str | None = None):
        if len(classes) != 2:
            remedy = "For more classes look at figures.confusion_matrix(report)."
            raise VggnbError(f"A threshold divides two classes; here are {len(classes)}.", "classes", remedy)
        self.classes, self.positive = tuple(classes), positive or sorted(classes)[-1]
        if self.positive not in classes:
            raise VggnbError(f"'{self.positive}' is not a class.", "positive", f"Use one of: {', '.join(classes)}.")
        self.index = self.classes.index(self.positive)
        self.is_positive = np.asarray(predictions.labels) == self.index
        self.scores = np.asarray(predictions.probabilities)[:, self.index]
        self.threshold = 0.5
        if ipywidgets:
            style = {"min": 0.0, "max": 1.0, "step": 0.01, "continuous_update": False, "description": "threshold"}
            self.slider = ipywidgets.FloatSlider(value=self.threshold, **style)
            self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(format="png")
            self.view = ipywidgets.VBox([self.slider, self.words, self.image])
            self.slider.observe(lambda change: self.show(change["new"]), names="value")
            self._draw()

    def counts(self) -> np.ndarray:
        """The confusion matrix at the threshold, int (2, 2); rows are the true class, in the order of `classes`."""
        said = np.where(self.scores >= self.threshold, self.index, 1 - self.index)
        truth = np.where(self.is_positive, self.index, 1 - self.index)
        return np.array([[((truth == i) & (said == j)).sum() for j in (0, 1)] for i in (0, 1)])

    def show(self, threshold: float) -> None:
        """Go to another threshold, 0 to 1."""
        self.threshold = float(threshold)
        self._draw()

    def __str__(self) -> str:
        counts, p, n = self.counts(), self.index, 1 - self.index
        positive, negative = (shown(self.classes[k]) for k in (p, n))
        parts = [f"{positive} is said from probability {self.threshold:.2f} on"]
        for words, i, name in (("sensitivity", p, positive), ("specificity", n, negative)):
            hits, all_of = int(counts[i, i]), int(counts[i].sum())
            share = f"{hits / all_of:.2f}" if all_of else "-"
            parts.append(f"{words} {share} ({hits} of {all_of} {name} told right)")
        return "; ".join(parts) + "."

    def _draw(self) -> None:
        if self.view is not None:
            self.words.value = escape(str(self))
            report = SimpleNamespace(confusion=self.counts(), classes=self.classes)
            self.image.value = figures.confusion_matrix(report).image()
