"""Things to touch in a notebook: a dataset browser and a threshold explorer.

Each is a class with a plain-Python core (call its methods), a `view` of core ipywidgets controls (7.7 and 8), and words
that stand in where there is no kernel or no ipywidgets. All text from data is escaped.
"""

import math
from collections.abc import Sequence
from html import escape
from types import SimpleNamespace

import numpy as np

from vggnb import figures
from vggnb.census.layout import UNSPLIT
from vggnb.folders import shown
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError
from vggnb.widgets.panels import Panel, ipywidgets, side_by_side

PAGE = 12  # pictures


class DatasetBrowser(Panel):
    """The pictures of a census or a manifest, by split and class, a page at a time."""

    def __init__(self, data):
        self.data = data
        self.splits = sorted({row.split for row in data.rows}, key=(*SPLITS, UNSPLIT).index)
        if not self.splits:
            raise VggnbError("There are no images to show.", data.dataset, "Look at the census for the reasons.")
        self.split, self.class_name, self.page, self.flag = self.splits[0], None, 0, None
        self.flags = _flags(data)
        if ipywidgets:
            classes = [("all classes", None)] + [(shown(name), name) for name in data.classes]
            self.split_choice = ipywidgets.Dropdown(options=self.splits, description="split")
            self.class_choice = ipywidgets.Dropdown(options=classes, description="class")
            flags = [("all images", None)] + [(f"{flag} ({len(found)})", flag) for flag, found in self.flags.items()]
            self.flag_choice = ipywidgets.Dropdown(options=flags, description="flag")
            self.back, self.forward = (ipywidgets.Button(description=text) for text in ("previous", "next"))
            self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(format="jpeg")
            choices = side_by_side(self.split_choice, self.class_choice, self.flag_choice)
            self.view = ipywidgets.VBox([choices, side_by_side(self.back, self.forward), self.words, self.image])
            self.split_choice.observe(lambda change: self.show(split=change["new"]), names="value")
            self.class_choice.observe(lambda change: self.show(class_name=change["new"]), names="value")
            self.flag_choice.observe(lambda change: self.show(flag=change["new"]), names="value")
            self.back.on_click(lambda button: self.show(page=self.page - 1))
            self.forward.on_click(lambda button: self.show(page=self.page + 1))
            self._draw()

    def rows(self) -> list:
        """The rows of the chosen split, class and flag."""
        rows = [row for row in self.data.rows if row.split == self.split]
        rows = [row for row in rows if self.flag is None or row.path in self.flags[self.flag]]
        return [row for row in rows if self.class_name in (None, row.class_name)]

    def show(self, **choice) -> None:
        """Show another `split`, `class_name` or `flag` (None: all), from its first page; or another `page`, from 0."""
        if all(getattr(self, name) == value for name, value in choice.items()):
            return
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
        flag = "" if self.flag is None else f", {self.flag}"
        return f"{self.split}, {kind}{flag}: images {span}{len(rows)}"

    def _draw(self) -> None:
        if self.view is None:
            return
        self.split_choice.value, self.class_choice.value = self.split, self.class_name
        self.flag_choice.value = self.flag
        rows = self.rows()
        some = rows[self.page * PAGE : (self.page + 1) * PAGE]
        picture = figures.pictures(self.data, some).image() if some else b""
        self.image.value, self.words.value = picture, escape(str(self))
        self.back.disabled, self.forward.disabled = self.page == 0, (self.page + 1) * PAGE >= len(rows)


def _flags(data) -> dict[str, set[str]]:
    """What the census says of single images: flag -> paths; a manifest has remarks only."""
    pairs = {"there twice": "pairs", "leak": "leaks", "conflict": "conflicts"}
    found = {flag: {path for pair in getattr(data, name, ()) for path in pair.paths} for flag, name in pairs.items()}
    found["remark"] = {row.path for row in data.rows if getattr(row, "notes", "")}
    return {flag: paths for flag, paths in found.items() if paths}


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
        self.threshold, self.cost_ratio = 0.5, 1.0
        if ipywidgets:
            style = {"min": 0.0, "max": 1.0, "step": 0.01, "continuous_update": False, "description": "threshold"}
            self.slider = ipywidgets.FloatSlider(value=self.threshold, **style)
            cost = {"min": 1.0, "max": 20.0, "step": 1.0, "continuous_update": False, "description": "a miss costs"}
            self.cost_slider = ipywidgets.FloatSlider(value=1.0, **cost)
            self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(format="png")
            controls = side_by_side(self.slider, self.cost_slider, ipywidgets.Label("false alarms"))
            self.view = ipywidgets.VBox([controls, self.words, self.image])
            self.slider.observe(lambda change: self.show(change["new"]), names="value")
            self.cost_slider.observe(lambda change: self.show(cost_ratio=change["new"]), names="value")
            self._draw()

    def counts(self) -> np.ndarray:
        """The confusion matrix at the threshold, int (2, 2); rows are the true class, in the order of `classes`."""
        said = np.where(self.scores >= self.threshold, self.index, 1 - self.index)
        truth = np.where(self.is_positive, self.index, 1 - self.index)
        return np.array([[((truth == i) & (said == j)).sum() for j in (0, 1)] for i in (0, 1)])

    @property
    def cost(self) -> float:
        """Of all mistakes at this threshold, in false alarms."""
        counts, p = self.counts(), self.index
        return float(self.cost_ratio * counts[p, 1 - p] + counts[1 - p, p])

    def show(self, threshold: float | None = None, *, cost_ratio: float | None = None) -> None:
        """Go to another threshold, 0 to 1, or say how many false alarms one miss costs, 1 or more."""
        before = self.threshold, self.cost_ratio
        self.threshold = self.threshold if threshold is None else float(threshold)
        self.cost_ratio = self.cost_ratio if cost_ratio is None else float(cost_ratio)
        if (self.threshold, self.cost_ratio) != before:
            self._draw()

    def __str__(self) -> str:
        return "; ".join(self._parts()) + "."

    def _parts(self) -> list[str]:
        """What is so at this threshold, a part of a sentence each."""
        counts, p, n = self.counts(), self.index, 1 - self.index
        positive, negative = (shown(self.classes[k]) for k in (p, n))
        parts = [f"{positive} is said from probability {self.threshold:.2f} on"]
        for words, i, name in (("sensitivity", p, positive), ("specificity", n, negative)):
            hits, all_of = int(counts[i, i]), int(counts[i].sum())
            share = f"{hits / all_of:.2f}" if all_of else "-"
            parts.append(f"{words} {share} ({hits} of {all_of} {name} told right)")
        misses, alarms = int(counts[p, n]), int(counts[n, p])
        parts.append(f"misses {misses}, false alarms {alarms}: cost {self.cost:g} at {self.cost_ratio:g} for a miss")
        return parts

    def _draw(self) -> None:
        if self.view is not None:
            self.cost_slider.max = max(self.cost_slider.max, self.cost_ratio)
            self.slider.value, self.cost_slider.value = self.threshold, self.cost_ratio
            report = SimpleNamespace(confusion=self.counts(), classes=self.classes)
            scored = (self.is_positive, self.scores)
            picture = figures.operating_point(report, scored, threshold=self.threshold).image()
            first, *others = map(escape, self._parts())
            words = f'<div style="line-height:1.4">{"<br>".join((f"<b>{first}</b>", *others))}</div>'
            self.image.value, self.words.value = picture, words
