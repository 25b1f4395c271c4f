"""The report on a model's predictions: every metric with its interval and baseline, and what cannot be concluded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from vggnb.folders import counted, html_table, shown
from vggnb.metrics.intervals import DRAWS, Interval, share_right
from vggnb.metrics.predictions import Predictions, positive_class, predicted_classes
from vggnb.metrics.scores import METRICS, baselines, expected_calibration_error, measure
from vggnb.metrics.threshold import OperatingPoint
from vggnb.storage import VggnbError

FEW = 100  # images of a class; with fewer, one image is more than a point


def number(value: float | None) -> str:
    """Two decimals; "-" where there is no value."""
    return "-" if value is None else f"{value:.2f}"


@dataclass(frozen=True, repr=False)
class Report:
    """How well one model does on some labelled images.

    Attributes:
        left_out: number of images that could not be read.
        confusion: int (classes, classes); rows are the true class, columns the predicted one.
        threshold: two classes: the positive class is predicted from this probability on; None for more.
        baseline: accuracy of always predicting the most frequent class; None where all images are of one class.
        baselines: the same for each metric that has one.
        per_class: for each class, n, precision (None: never predicted), recall and F1 (None: no images).
        prevalence: share of the positive class that the predictive values (ppv, npv) are for; None for more classes.
        groups: number of groups, if some images belong together; the intervals then take it into account.
        expected_ece: the calibration error that a perfectly calibrated model would show on these images.
        operating_point: how the threshold was chosen, unless it is the usual 0.5.
        leaks: images that are in train (or validation), too.
        without_leaks: where there are leaks: the report on the other images, if any are left.
        unknown_classes: for each class that the model does not know, its number of images and as what they were
            predicted; they count in no metric.
    """

    n: int
    left_out: int
    classes: tuple[str, ...]
    positive: str | None
    threshold: float | None
    baseline: float | None
    confusion: np.ndarray
    metrics: dict[str, Interval]
    baselines: dict[str, float]
    per_class: dict[str, dict]
    prevalence: float | None = None
    groups: int | None = None
    expected_ece: float = 0.0
    operating_point: OperatingPoint | None = None
    leaks: int = 0
    without_leaks: "Report | None" = None
    unknown_classes: dict[str, dict] = field(default_factory=dict)

    @property
    def not_evaluated(self) -> tuple[str, ...]:
        """The classes without images."""
        return tuple(name for name, one in self.per_class.items() if not one["n"])

    def __str__(self) -> str:
        lines = [self.summary(), "", f"{'':28}{'value (95 % interval)':26}most frequent class"]
        for name, value in self.metrics.items():
            lines.append(f"{METRICS[name]:28}{value!s:26}{number(self.baselines.get(name))}")
        if self.not_evaluated:
            lines.append("")
        for name, one in self.per_class.items() if self.not_evaluated else ():
            if one["n"]:
                lines.append(f"{f'recall of {shown(name)}':28}{Interval(**one['recall'])} of {one['n']}")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows; with more than two classes, a table of the classes, too."""
        rows = [
            (METRICS[name], number(one.value), f"{one.low:.2f} to {one.high:.2f}", number(self.baselines.get(name)))
            for name, one in self.metrics.items()
        ]
        header = ("metric", "value", "95 % interval", "most frequent class")
        table = html_table(header, rows, title=self.summary(), notes=self.notes())
        if len(self.classes) == 2 and not self.not_evaluated:
            return table
        rows = [
            (
                name,
                one["n"],
                Interval(**one["recall"]) if one["n"] else "-",
                number(one["precision"]),
                number(one["f1"]),
            )
            for name, one in self.per_class.items()
        ]
        return html_table(("class", "images", "recall (95 % interval)", "precision", "F1"), rows) + table

    def summary(self) -> str:
        """What was evaluated, in a sentence."""
        left_out = f" ({self.left_out} could not be read)" if self.left_out else ""
        groups = f" in {counted(self.groups, 'group')}" if self.groups else ""
        text = f"{counted(self.n, 'image')}{groups}{left_out}"
        if self.baseline is None:
            return f"{text}."
        return f"{text}; always predicting the most frequent class is right for {self.baseline:.2f} of them."

    def notes(self) -> list[str]:
        """How to read the numbers and what they do not show, in sentences."""
        notes = []
        if self.threshold is not None:
            name, cut = shown(self.positive), f"{self.threshold:.3f}"
            notes.append(f"{name} (the positive class) is predicted from probability {cut} on.")
        if self.prevalence is not None and {"ppv", "npv"} & set(self.metrics):
            notes.append(f"Predictive values are for a prevalence of {self.prevalence:.2f}.")
        if self.operating_point is not None:
            notes.append(f"The {self.operating_point}.")
        if self.leaks:
            notes.append(f"Leak: {self.leaks} of these images are in train, too. {self._leak_effect()}")
        return [*notes, *self.limits()]

    def _leak_effect(self) -> str:
        if self.without_leaks is None:
            return "Without them no image is left: these numbers say nothing about new images."
        found = self.without_leaks.metrics
        parts = [f"{METRICS[name]} {found[name]}" for name in ("accuracy", "auc", "macro_f1") if name in found]
        return f"Without them: {', '.join(parts)}."

    def limits(self) -> list[str]:
        """What is not evaluated, and what so few images cannot show, in sentences."""
        limits = []
        if absent := self.not_evaluated:
            means = " Means are over the other classes." if len(absent) < len(self.classes) - 1 else ""
            names = ", ".join(map(shown, absent))
            limits.append(f"Not evaluated, since there are no images of it: {names}.{means}")
        for name, one in self.unknown_classes.items():
            parts = ", ".join(f"{shown(answer)} {n}" for answer, n in one["predicted"].items())
            images = counted(one["n"], "image")
            limits.append(f"The model does not know the class {shown(name)}: its {images} are predicted as {parts}.")
        half = round(50 * (self.metrics["accuracy"].high - self.metrics["accuracy"].low))
        limits.append(
            f"With {counted(self.n, 'image')} the accuracy is uncertain by about {counted(half, 'point')} either way: "
            "a smaller difference between two models is not significant on them."
        )
        sizes = {name: one["n"] for name, one in self.per_class.items() if one["n"]}
        name = min(sizes, key=sizes.get)
        if (n := sizes[name]) < FEW:
            points, images = f"{100 / n:.1f}".removesuffix(".0"), counted(n, "image")
            limits.append(f"There are {images} of {shown(name)}: one more or less is {points} points of recall.")
        if "ece" in self.metrics and (error := self.metrics["ece"].value) <= 2 * self.expected_ece:
            chance = f"A perfectly calibrated model would show a calibration error of about {self.expected_ece:.2f}"
            limits.append(f"{chance} here: {error:.2f} does not show over- or under-confidence.")
        return limits

    def to_dict(self) -> dict:
        """The contract's JSON."""
        plain = {**asdict(self), "confusion": self.confusion.tolist(), "classes": list(self.classes)}
        alone = self.without_leaks and self.without_leaks.to_dict()
        return {**plain, "without_leaks": alone, "not_evaluated": list(self.not_evaluated), "limits": self.limits()}


def report_on(
    predictions: Predictions,
    classes: Sequence[str],
    *,
    positive: str | None = None,
    operating_point: OperatingPoint | None = None,
    prevalence: float | None = None,
    draws: int = DRAWS,
) -> Report:
    """The report on predictions; classes without images are not evaluated, everything else is.

    Args:
        positive: two classes: the one whose probability is reported; default the last in alphabetical order.
        operating_point: of `choose_threshold`; None: predict the positive class from 0.5 on.
        prevalence: share of the positive class where the model will be used; default its share among the images.
        draws: bootstrap draws.

    Raises:
        VggnbError: `positive` is not a class, the prevalence is out of range, or there is no image.
    """
    labels, positive, codes = predictions.labels, positive_class(classes, positive), predictions.codes
    check_prevalence(prevalence)
    if not len(labels):
        raise VggnbError("There is no image to evaluate.", "the predictions", "Add images of the model's classes.")
    index = threshold = None
    if positive is not None:
        index, threshold = classes.index(positive), operating_point.threshold if operating_point else 0.5
        prevalence = float(np.mean(labels == index)) if prevalence is None else prevalence
    predicted = predicted_classes(predictions.probabilities, index, threshold)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (labels, predicted), 1)
    metrics = measure(predictions, positive=index, threshold=threshold, prevalence=prevalence, draws=draws)
    guesses, per_class = baselines(labels, list(metrics), index, prevalence), {}
    for k, name in enumerate(classes):
        n, hits, called = int(confusion[k].sum()), int(confusion[k, k]), int(confusion[:, k].sum())
        recall = asdict(share_right(predicted == labels, labels == k, codes)) if n else None
        precision, f1 = hits / called if called else None, 2 * hits / (n + called) if n else None
        per_class[name] = {"n": n, "recall": recall, "precision": precision, "f1": f1}
    return Report(
        n=len(labels),
        left_out=len(predictions.unreadable),
        classes=tuple(classes),
        positive=positive,
        threshold=threshold,
        baseline=guesses.get("accuracy"),
        confusion=confusion,
        metrics=metrics,
        baselines=guesses,
        per_class=per_class,
        prevalence=prevalence,
        groups=None if codes is None else len(np.unique(codes)),
        expected_ece=expected_calibration_error(predictions.probabilities),
        operating_point=operating_point,
    )


def check_prevalence(prevalence: float | None) -> None:
    """Refuse a prevalence that is out of range.

    Raises:
        VggnbError: it is not between 0 and 1.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        remedy = "Use a share between 0 and 1, such as 0.05."
        raise VggnbError(f"A prevalence of {prevalence} is out of range.", "--prevalence", remedy)
