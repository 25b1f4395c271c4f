"""Controls in a notebook: dataset browser, batch preview, threshold explorer, and the progress of a training."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from types import SimpleNamespace

import ipywidgets
import numpy as np
from ipywidgets import BoundedIntText, Dropdown, FloatSlider

from vggnb import figures
from vggnb.census.layout import UNSPLIT
from vggnb.folders import counted, duration, shown
from vggnb.metrics import positive_class, predicted_classes
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError

VIEW = "application/vnd.jupyter.widget-view+json"
PAGE = 12  # images
ROTATIONS = ("no rotation", "rotated 90° left", "rotated 180°", "rotated 90° right")
TRANSFORMS = (
    *ROTATIONS,
    *(f"mirrored, {rotation}" for rotation in ROTATIONS),
)
RANDOM = len(TRANSFORMS)  # a random transform for each image, another one in each epoch
FLAGS = {"duplicate": "pairs", "leak": "leaks", "conflict": "conflicts"}  # word -> attribute of a census
CURVE_SHARE = 0.1  # drawing takes at most about this share of the training's time
SHOWN = {"loss": "loss", "accuracy": "accuracy", "val_accuracy": "validation accuracy"}


@dataclass(frozen=True)
class View:
    """What a panel shows for the values of its controls.

    Attributes:
        text: plain text; a saved page shows it in place of the controls.
        image: PNG or JPEG bytes; empty for none.
        html: instead of the text, while the page is running; whoever makes it escapes what comes from data.
    """

    text: str
    image: bytes = b""
    html: str | None = None


class Panel:
    """Controls, and below them what `draw` returns for their values. Core controls only (ipywidgets 7.7 and 8).

    Args:
        draw: gets the value of each control under its name.
        controls: ipywidgets.
    """

    def __init__(self, draw: Callable[..., View], **controls):
        self.draw, self.controls = draw, controls
        self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(layout={"max_width": "100%"})
        row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
        self.view = ipywidgets.VBox([row, self.words, self.image])
        for control in controls.values():
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def set(self, **values) -> None:
        """Move controls from code."""
        for name, value in values.items():
            self.controls[name].value = value

    def refresh(self) -> None:
        """Draw for the present values."""
        self.shown = self.draw(**{name: control.value for name, control in self.controls.items()})
        self.image.value = self.shown.image  # first: it takes longest to arrive
        self.image.layout.display = None if self.shown.image else "none"
        self.words.value = escape(self.shown.text) if self.shown.html is None else self.shown.html

    def __str__(self) -> str:
        return self.shown.text

    def _ipython_display_(self) -> None:
        _display(self.view, str(self))


def _display(view, text: str) -> None:
    """Show controls in a notebook, with a text for the saved page; where there is no notebook, print the text."""
    from IPython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        print(text)
    else:
        live = {"version_major": 2, "version_minor": 0, "model_id": view.model_id}
        display({VIEW: live, "text/plain": text}, raw=True)


def dataset_browser(data) -> Panel:
    """The images of a census or a manifest by split, class and what the census found, twelve at a time.

    Raises:
        VggnbError: there are none.
    """
    splits = sorted({row.split for row in data.rows}, key=(*SPLITS, UNSPLIT).index)
    if not splits:
        raise VggnbError("There are no images to show.", data.dataset, "See the census for the reasons.")
    flags = {flag: {path for pair in getattr(data, name, ()) for path in pair.paths} for flag, name in FLAGS.items()}
    flags["note"] = {row.path for row in data.rows if getattr(row, "notes", "")}

    def draw(split: str, class_name: str | None, flag: str | None, page: int) -> View:
        rows = [row for row in data.rows if row.split == split and class_name in (None, row.class_name)]
        rows = [row for row in rows if flag is None or row.path in flags[flag]]
        first = PAGE * (min(page, max(1, math.ceil(len(rows) / PAGE))) - 1)
        some = rows[first : first + PAGE]
        kind = "all classes" if class_name is None else shown(class_name)
        span = f"{first + 1} to {first + len(some)} of " if some else ""
        text = f"{split}, {kind}{f', {flag}' if flag else ''}: images {span}{len(rows)}"
        return View(text, figures.images(data, some).image() if some else b"")

    classes = [("all classes", None), *((shown(name), name) for name in data.classes)]
    found = [("all images", None), *((f"{flag} ({len(paths)})", flag) for flag, paths in flags.items() if paths)]
    return Panel(
        draw,
        split=Dropdown(options=splits, description="split"),
        class_name=Dropdown(options=classes, description="class"),
        flag=Dropdown(options=found, description="flag"),
        page=BoundedIntText(value=1, min=1, max=math.ceil(len(data.rows) / PAGE), description="page"),
    )


def batch_preview(manifest, recipe, *, split: str = "train") -> Panel:
    """The batches of an epoch in the order of training, with or without flips and rotations (augmentation).

    Raises:
        VggnbError: the split has no images.
    """
    from vggnb.generators import epoch_order, read_row  # TensorFlow: not before it is needed

    members, size = manifest.of(split), recipe.batch_size
    if not members:
        raise VggnbError(f"There are no images in {split}.", manifest.dataset, "See the census for the reasons.")
    batches, choices = math.ceil(len(members) / size), (*TRANSFORMS, "random flips and rotations")

    def draw(epoch: int, batch: int, transform: int) -> View:
        order = epoch_order(len(members), seed=recipe.seed, epoch=epoch - 1)
        rows = [members[k] for k in order[(batch - 1) * size : batch * size]]
        random = np.random.default_rng([recipe.seed, epoch, batch]).integers(RANDOM, size=len(rows))
        images, labels = [], []
        for row, by_chance in zip(rows, random.tolist(), strict=True):
            try:
                pixels = read_row(manifest, row, recipe)
            except (VggnbError, OSError):
                continue
            turns = by_chance if transform == RANDOM else transform
            images.append(np.rot90(pixels[:, ::-1] if turns >= 4 else pixels, turns % 4))
            labels.append(row.label)
        counts = ", ".join(f"{shown(name)} {labels.count(label)}" for label, name in enumerate(manifest.classes))
        text = f"epoch {epoch}, batch {batch} of {batches}, {choices[transform]}: "
        text += f"{counted(len(images), 'image')}, {counts}"
        text += f"; {len(rows) - len(images)} cannot be read" if len(rows) > len(images) else ""
        grid = figures.batch_grid(np.stack(images), np.array(labels), manifest.classes).image() if images else b""
        return View(text, grid)

    return Panel(
        draw,
        epoch=BoundedIntText(value=1, min=1, max=9999, description="epoch"),
        batch=BoundedIntText(value=1, min=1, max=batches, description="batch"),
        transform=Dropdown(options=[(name, k) for k, name in enumerate(choices)], value=0, description="transform"),
    )


def threshold_explorer(predictions, classes: Sequence[str], positive: str | None = None) -> Panel:
    """Move the decision threshold: sensitivity, specificity and cost follow.

    Choose on validation images; a threshold chosen on test images looks better than it is.

    Args:
        predictions: anything with `labels` (n,) and `probabilities` (n, 2), such as `evaluate.predict_split` returns.
        positive: the class to find; default the last in alphabetical order.

    Raises:
        VggnbError: not two classes, or no such class.
    """
    if (positive := positive_class(classes, positive)) is None:
        remedy = "For more classes see figures.confusion_matrix(report)."
        raise VggnbError(f"A decision threshold needs two classes; there are {len(classes)}.", "classes", remedy)
    p, labels, probabilities = list(classes).index(positive), predictions.labels, predictions.probabilities

    def draw(threshold: float, cost: float) -> View:
        confusion = np.zeros((2, 2), int)
        np.add.at(confusion, (labels, predicted_classes(probabilities, p, threshold)), 1)
        (tn, fp), (fn, tp) = (confusion if p else confusion[::-1, ::-1]).tolist()
        parts = [f"{shown(positive)} is predicted from probability {threshold:.2f}"]
        for name, hits, total in (("sensitivity", tp, fn + tp), ("specificity", tn, tn + fp)):
            parts.append(f"{name} {f'{hits / total:.2f}' if total else '-'} ({hits} of {total})")
        parts.append(f"{fn} missed, {counted(fp, 'false alarm')}")
        parts.append(f"cost {cost * fn + fp:g} if a miss costs {cost:g} times a false alarm")
        report = SimpleNamespace(confusion=confusion, classes=tuple(classes))
        image = figures.operating_point(report, (labels == p, probabilities[:, p]), threshold=threshold).image()
        first, *others = map(escape, parts)
        return View("; ".join(parts) + ".", image, "<br>".join((f"<b>{first}</b>", *others)))

    slider = {"continuous_update": False}
    return Panel(
        draw,
        threshold=FloatSlider(value=0.5, min=0.0, max=1.0, step=0.01, description="threshold", **slider),
        cost=FloatSlider(value=1.0, min=1.0, max=50.0, step=1.0, description="cost of a miss", **slider),
    )


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
        _display(self.view, str(self))

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
        self.words.value = ", ".join(filter(None, [self.line, f"{duration(time.monotonic() - self.start)} in all"]))
        self._draw()

    def _draw(self) -> None:
        if len(self.rows) > 1 and {"loss", "accuracy"} <= self.rows[0].keys():
            start = time.monotonic()
            self.image.value = figures.learning_curves(SimpleNamespace(rows=self.rows)).image()
            self.image.layout.display = None
            self.next_s = time.monotonic() + max(0.5, (time.monotonic() - start) / CURVE_SHARE)
