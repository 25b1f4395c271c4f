"""What a model's predictions show, and what they do not: the report on one model, the comparison of two."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from vggnb.folders import counted, html_table, shown
from vggnb.metrics.calibration import OperatingPoint
from vggnb.metrics.intervals import DRAWS, Interval, bootstrap, percentile_interval, proportion, wilson
from vggnb.metrics.predictions import Predictions, positive_class, predicted_classes
from vggnb.metrics.scores import LOWER_IS_BETTER, METRICS, baselines, expected_calibration_error, measure, scores_of
from vggnb.storage import VggnbError

FEW = 100  # images of a class; with fewer, one image is more than a point


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


@dataclass(frozen=True, repr=False)
class Report:
    """How well one model does on some labelled images.

    Attributes:
        confusion: int (classes, classes); rows are the true class, columns the predicted one.
        per_class: for each class, n, precision (None: never predicted), recall and F1 (None: no images).
        leaks: images that are in train (or validation), too.
        unknown_classes: for each class that the model does not know, its number of images and as what they were
            predicted; they count in no metric.
    """

    n: int
    left_out: int  # could not be read
    classes: tuple[str, ...]
    positive: str | None  # two classes: predicted from the threshold on
    threshold: float | None
    baseline: float | None  # accuracy of always predicting the most frequent class
    confusion: np.ndarray
    metrics: dict[str, Interval]
    baselines: dict[str, float]
    per_class: dict[str, dict]
    prevalence: float | None = None  # that the predictive values (ppv, npv) are for
    groups: int | None = None  # their number, if some images belong together
    expected_ece: float = 0.0  # the calibration error that a perfectly calibrated model would show on these images
    operating_point: OperatingPoint | None = None  # how the threshold was chosen
    leaks: int = 0
    without_leaks: "Report | None" = None  # the report on the other images, if there are leaks
    unknown_classes: dict[str, dict] = field(default_factory=dict)

    @property
    def not_evaluated(self) -> tuple[str, ...]:
        """The classes without images."""
        return tuple(name for name, one in self.per_class.items() if not one["n"])

    def __str__(self) -> str:
        lines = [self.summary(), "", f"{'':28}{'value (95 % interval)':26}most frequent class"]
        for name, value in self.metrics.items():
            lines.append(f"{METRICS[name]:28}{value!s:26}{_number(self.baselines.get(name))}")
        if self.not_evaluated:
            found = {name: one for name, one in self.per_class.items() if one["n"]}
            recalls = {name: f"{Interval(**one['recall'])} of {one['n']}" for name, one in found.items()}
            lines += ["", *(f"{f'recall of {shown(name)}':28}{recall}" for name, recall in recalls.items())]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [
            (METRICS[name], _number(one.value), f"{one.low:.2f} to {one.high:.2f}", _number(self.baselines.get(name)))
            for name, one in self.metrics.items()
        ]
        header = ("metric", "value", "95 % interval", "most frequent class")
        table = html_table(header, rows, title=self.summary(), notes=self.notes())
        if len(self.classes) == 2 and not self.not_evaluated:
            return table
        rows = []
        for name, one in self.per_class.items():
            recall = Interval(**one["recall"]) if one["n"] else "-"
            rows.append((name, one["n"], recall, _number(one["precision"]), _number(one["f1"])))
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
            effect = "Without them no image is left: these numbers say nothing about new images."
            if self.without_leaks:
                found = self.without_leaks.metrics
                parts = [f"{METRICS[name]} {found[name]}" for name in ("accuracy", "auc", "macro_f1") if name in found]
                effect = f"Without them: {', '.join(parts)}."
            notes.append(f"Leak: {self.leaks} of {self.n} images also occur in train or validation. {effect}")
        return [*notes, *self.limits()]

    def limits(self) -> list[str]:
        """What is not evaluated, and what so few images cannot show, in sentences."""
        limits = []
        if absent := self.not_evaluated:
            means = " Means are over the other classes." if len(absent) < len(self.classes) - 1 else ""
            names = ", ".join(map(shown, absent))
            limits.append(f"Not evaluated, because there are no images: {names}.{means}")
        for name, one in self.unknown_classes.items():
            parts = ", ".join(f"{shown(answer)} {n}" for answer, n in one["predicted"].items())
            images = counted(one["n"], "image")
            limits.append(f"The model does not know the class {shown(name)}: its {images} are predicted as {parts}.")
        half = round(50 * (self.metrics["accuracy"].high - self.metrics["accuracy"].low))
        limits.append(
            f"With {counted(self.n, 'image')} the accuracy is uncertain by about {counted(half, 'point')} either way: "
            "to tell whether two models differ, compare them on the same images."
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
    metrics = measure(predictions, index, threshold, prevalence, draws)
    guesses, per_class = baselines(labels, list(metrics), index, prevalence), {}
    for k, name in enumerate(classes):
        n, hits, called = int(confusion[k].sum()), int(confusion[k, k]), int(confusion[:, k].sum())
        recall = asdict(proportion(predicted == labels, codes, among=labels == k)) if n else None
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
    """Refuse a prevalence that is not between 0 and 1."""
    if prevalence is not None and not 0 < prevalence < 1:
        remedy = "Use a share between 0 and 1, such as 0.05."
        raise VggnbError(f"A prevalence of {prevalence} is out of range.", "--prevalence", remedy)


@dataclass(frozen=True, repr=False)
class Comparison:
    """Second minus first for each metric, with its 95 % interval; where that holds 0, it is not significant."""

    n: int
    only_first: int  # images that only this one of the two predicted correctly
    only_second: int
    differences: dict[str, Interval]

    def verdict(self, metric: str, names: tuple[str, str] = ("the first", "the second")) -> str:
        """Which of the two is better, if the difference is significant."""
        one, sign = self.differences[metric], -1 if metric in LOWER_IS_BETTER else 1
        if one.low <= 0 <= one.high:
            return "not significant"
        return f"{names[sign * one.value > 0]} is better"

    def _summary(self) -> str:
        text = f"{self.n} images; only the first was right on {self.only_first}"
        return f"{text}, only the second on {self.only_second}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (METRICS[name], f"{one.value:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}", self.verdict(name))
            for name, one in self.differences.items()
        ]

    def __str__(self) -> str:
        lines = [f"{name:28}{value} ({ends})  {verdict}" for name, value, ends, verdict in self._rows()]
        return "\n".join([self._summary(), "", f"{'second minus first':28}difference (95 % interval)", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(("metric", "second minus first", "95 % interval", ""), self._rows(), title=self._summary())

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {**vars(self), "differences": {name: vars(one) for name, one in self.differences.items()}}


def compare_predictions(
    first: Predictions, second: Predictions, classes: Sequence[str], *, positive: str | None = None, draws: int = DRAWS
) -> Comparison:
    """A paired bootstrap, which draws the same images for both; images that one of them lacks are left out.

    Raises:
        VggnbError: the two have no image in common, or not the same labels.
    """
    places = {path: index for index, path in enumerate(second.paths)}
    shared = [index for index, path in enumerate(first.paths) if path in places]
    first, second = first.take(shared), second.take([places[first.paths[index]] for index in shared])
    if not shared or not np.array_equal(first.labels, second.labels):
        what = "The two models did not predict the same images."
        raise VggnbError(what, "the comparison", "Compare runs on the same split of the same dataset.")
    name = positive_class(classes, positive)
    index, threshold = (None, None) if name is None else (classes.index(name), 0.5)

    def difference(weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        old, new = (scores_of(one, index, threshold, weights) for one in (first, second))
        return {metric: new[metric] - old[metric] for metric in new}

    drawn = bootstrap(first.labels, difference, draws=draws, codes=first.codes)
    # Where no image tells the two apart, their number still limits how far apart they may be.
    least = wilson(0, len(first.labels)).high
    differences = {}
    for metric, (value,) in difference().items():
        one = percentile_interval(float(value), drawn[metric])
        known = one.high - one.low > 1e-12
        differences[metric] = one if known else Interval(one.value, one.value - least, one.value + least)
    old, new = (predicted_classes(one.probabilities, index, threshold) == one.labels for one in (first, second))
    return Comparison(len(shared), int((old & ~new).sum()), int((new & ~old).sum()), differences)
