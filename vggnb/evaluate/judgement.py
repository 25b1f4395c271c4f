"""The report of a run on its own test images, or on another labelled folder."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from sklearn import metrics as sk

from vggnb.census import Census, Manifest
from vggnb.census.splits import with_groups
from vggnb.evaluate.intervals import DRAWS, Interval
from vggnb.evaluate.metrics import baselines, honest_ece, measure, positive_class, said_classes, share_of
from vggnb.evaluate.operating import OperatingPoint, choose_threshold
from vggnb.evaluate.predictions import Predictions, predict_rows, predict_split
from vggnb.folders import counted, shown
from vggnb.storage import VggnbError, sealed, write_json
from vggnb.train import Run


@dataclass(frozen=True)
class Report:
    """The judgement of one model on one split.

    Attributes:
        confusion: int (classes, classes); rows are the true class, columns what the model said.
        threshold: two classes: the positive class is said from this probability on; None for more.
        baseline: share of the most frequent class: the accuracy of saying always that.
        baselines: the same for every metric that it has.
        per_class: for each class, precision (None: never said), recall and F1; recall with its interval.
        prevalence: share of the positive class that the predictive values (ppv, npv) are for; None for more classes.
        groups: how many groups the images fall into, if some belong together; the intervals then heed it.
        honest_ece: the calibration error that a wholly honest model would show on so few images.
        operating: how the threshold was chosen, unless it is the usual 0.5.
        leaks: images of the split that are in train (or validation), too.
        without_leaks: where there are leaks: the judgement of the others alone, if every class has some left.
    """

    n: int
    left_out: int
    classes: tuple[str, ...]
    positive: str | None
    threshold: float | None
    baseline: float
    confusion: np.ndarray
    metrics: dict[str, Interval]
    baselines: dict[str, float]
    per_class: dict[str, dict]
    prevalence: float | None = None
    groups: int | None = None
    honest_ece: float = 0.0
    operating: OperatingPoint | None = None
    leaks: int = 0
    without_leaks: "Report | None" = None

    def __str__(self) -> str:
        left_out = f" ({self.left_out} could not be read)" if self.left_out else ""
        grouped = f" in {self.groups} groups" if self.groups else ""
        lines = [
            f"{self.n} images{grouped}{left_out}; always saying the most frequent class would get "
            f"{self.baseline:.2f} right",
            "",
            f"{'':19}{'value (95 % interval)':26}always the most frequent class",
        ]
        for name, value in self.metrics.items():
            guess = f"{self.baselines[name]:.2f}" if name in self.baselines else "-"
            lines.append(f"{name.replace('_', ' '):19}{value!s:26}{guess}")
        if self.positive is not None:
            lines += ["", f"positive class: {shown(self.positive)}, said from probability {self.threshold:.2f} on"]
            lines.append(f"ppv and npv: for a share of {self.prevalence:.2f} of this class among those who are judged")
        if self.operating is not None:
            lines.append(str(self.operating))
        if self.leaks:
            lines += ["", f"! {self.leaking()}"]
        return "\n".join([*lines, "", *(f"- {sentence}" for sentence in self.cannot_be_said())])

    def leaking(self) -> str:
        """What the leaks are worth, in a sentence."""
        said, alone = f"{self.leaks} of these images are in train, too.", self.without_leaks
        if alone is None:
            return f"{said} Without them, too few are left to judge: these numbers say nothing about new images."
        names = ("accuracy", "auc" if self.positive is not None else "macro_f1")
        return f"{said} Without them: {', '.join(f'{name} {alone.metrics[name]}' for name in names)}"

    def cannot_be_said(self) -> list[str]:
        """What so few images do not tell, in sentences."""
        accuracy = self.metrics["accuracy"]
        half = round(50 * (accuracy.high - accuracy.low))
        said = [
            f"With {counted(self.n, 'image')} the accuracy is uncertain by about {counted(half, 'point')} either way: "
            "whether a model that differs by less is better or worse cannot be said from it alone."
        ]
        totals = self.confusion.sum(axis=1)
        small = int(totals.argmin())
        if totals[small] < 100:
            name, points = shown(self.classes[small]), f"{100 / totals[small]:.1f}".removesuffix(".0")
            said.append(f"Of {name} there are {totals[small]} images: one of them more or less is {points} points.")
        ece = self.metrics["ece"].value
        if ece <= 2 * self.honest_ece:
            text = f"A wholly honest model would show a calibration error of about {self.honest_ece:.2f} here"
            said.append(f"{text}: that this one ({ece:.2f}) promises too much or too little cannot be said.")
        return said

    def to_dict(self) -> dict:
        """The contract's JSON."""
        plain = {**asdict(self), "confusion": self.confusion.tolist(), "classes": list(self.classes)}
        plain["cannot_be_said"] = self.cannot_be_said()
        return {**plain, "without_leaks": self.without_leaks and self.without_leaks.to_dict()}


def judge(
    run: Run,
    split: str = "test",
    *,
    positive: str | None = None,
    sensitivity: float | None = None,
    cost_ratio: float | None = None,
    prevalence: float | None = None,
    draws: int = DRAWS,
    progress: bool = True,
) -> Report:
    """Judge a run on one split of its own dataset; where images of it are in train, too, both with and without them.

    Args:
        positive: two classes: the one whose probability is reported; default the alphabetically last.
        sensitivity, cost_ratio: two classes: choose the threshold for it on validation; see `choose_threshold`.
        prevalence: share of the positive class where the model will be used; default its share among the images.
        draws: bootstrap draws.
    """
    options = _options(run, positive, sensitivity, cost_ratio, prevalence, progress)
    predictions = predict_split(run, split, progress=progress)
    leaking = {row.path for row in run.manifest.leaking(split)}
    report = _both_ways(predictions, leaking, run.classes, **options, draws=draws)
    write_json(run.folder / f"report-{split}.json", sealed(report.to_dict()))
    return report


def judge_folder(
    run: Run,
    census: Census,
    *,
    positive: str | None = None,
    sensitivity: float | None = None,
    cost_ratio: float | None = None,
    prevalence: float | None = None,
    progress: bool = True,
) -> Report:
    """Judge a run on another labelled folder: its test split if it has one, else all its images.

    Twins in it count as one group; images that the run was trained or chosen on are leaks, if their files are the same.

    Raises:
        VggnbError: the folder's classes are not the run's, or one of them has no image.
    """
    if set(census.classes) != set(run.classes):
        what = f"The model knows {list(run.classes)}; this folder has {list(census.classes)}."
        raise VggnbError(what, census.dataset, "Name the class folders as in training.")
    options = _options(run, positive, sensitivity, cost_ratio, prevalence, progress)
    rows = [row for row in census.rows if row.split == "test"] or list(census.rows)
    if missing := set(run.classes) - {row.class_name for row in rows}:
        what = f"No image of class '{shown(min(missing))}' to judge."
        raise VggnbError(what, census.dataset, "Add images of this class to it.")
    rows = [replace(row, label=run.classes.index(row.class_name)) for row in with_groups(rows, census)]
    manifest = Manifest(census.dataset, run.classes, tuple(rows), ())
    predictions = predict_rows(run, manifest, rows, what=census.dataset.name, progress=progress)
    known = {row.sha256 for row in run.manifest.rows if row.split != "test"}
    return _both_ways(predictions, {row.path for row in rows if row.sha256 in known}, run.classes, **options)


def _both_ways(predictions: Predictions, leaking: set[str], classes: tuple[str, ...], **options) -> Report:
    """The judgement with the images that leak and, where that is possible, without."""
    report, others = judge_predictions(predictions, classes, **options), predictions.without(leaking)
    if len(others.paths) == report.n:
        return report
    whole = set(others.labels) == set(predictions.labels)
    alone = judge_predictions(others, classes, **options) if whole else None
    return replace(report, leaks=report.n - len(others.paths), without_leaks=alone)


def _options(run: Run, positive, sensitivity, cost_ratio, prevalence, progress) -> dict:
    """What `judge_predictions` takes, checked before the model is asked anything."""
    positive = positive_class(run.classes, positive)
    if positive is None and (sensitivity, cost_ratio, prevalence) != (None, None, None):
        what = f"Thresholds and predictive values are for two classes; here are {len(run.classes)}."
        raise VggnbError(what, "--sensitivity, --cost-ratio, --prevalence", "Leave them out.")
    _check_prevalence(prevalence)
    operating = None
    if sensitivity is not None or cost_ratio is not None:
        wishes = {"sensitivity": sensitivity, "cost_ratio": cost_ratio}
        if not run.manifest.of("validation"):
            raise VggnbError("There are no validation images to choose on.", run.folder, "Leave the threshold at 0.5.")
        watched = predict_split(run, "validation", progress=progress)
        operating = choose_threshold(watched, run.classes.index(positive), **wishes)
    return {"positive": positive, "operating": operating, "prevalence": prevalence}


def _check_prevalence(prevalence: float | None) -> None:
    if prevalence is not None and not 0 < prevalence < 1:
        remedy = "Use a share between 0 and 1, such as 0.05."
        raise VggnbError(f"A prevalence of {prevalence} is out of range.", "--prevalence", remedy)


def judge_predictions(
    predictions: Predictions,
    classes: tuple[str, ...],
    *,
    positive: str | None = None,
    operating: OperatingPoint | None = None,
    prevalence: float | None = None,
    draws: int = DRAWS,
) -> Report:
    """Numbers with intervals for what a model said.

    Proportions (accuracy, sensitivity, specificity) get Wilson's interval, balanced accuracy one made of these. For the
    others, images are drawn again, with replacement, within each class (whole groups where the manifest has some);
    see `intervals` for what becomes of the draws.

    Raises:
        VggnbError: `positive` is not a class, or a class has no image to judge.
    """
    labels = predictions.labels
    positive = positive_class(classes, positive)
    counts = np.bincount(labels, minlength=len(classes))
    if 0 in counts:
        empty = shown(classes[int(np.argmin(counts))])
        raise VggnbError(f"No image of class '{empty}' to judge.", "the split", "Add images of this class to it.")
    index = threshold = None
    if positive is not None:
        index, threshold = classes.index(positive), operating.threshold if operating else 0.5
        _check_prevalence(prevalence)
        prevalence = float(counts[index] / len(labels)) if prevalence is None else prevalence
    said = said_classes(predictions.probabilities, index, threshold)
    metrics = measure(predictions, positive=index, threshold=threshold, prevalence=prevalence, draws=draws)
    groups = predictions.groups
    return Report(
        n=len(labels),
        left_out=len(predictions.unreadable),
        classes=classes,
        positive=positive,
        threshold=threshold,
        baseline=float(counts.max() / len(labels)),
        confusion=sk.confusion_matrix(labels, said, labels=range(len(classes))),
        metrics=metrics,
        baselines=baselines(labels, list(metrics), index, prevalence),
        per_class=_per_class(labels, said, classes, groups),
        prevalence=prevalence,
        groups=len(set(groups) - {""}) + groups.count("") if groups else None,
        honest_ece=honest_ece(predictions.probabilities),
        operating=operating,
    )


def _per_class(labels: np.ndarray, said: np.ndarray, classes: tuple[str, ...], groups) -> dict[str, dict]:
    """Number of images, recall with interval, precision (None where it is never said) and F1 of each class."""
    table = {}
    for index, name in enumerate(classes):
        is_it, called = labels == index, said == index
        hits = int((is_it & called).sum())
        table[name] = {
            "n": int(is_it.sum()),
            "recall": asdict(share_of(said == labels, is_it, groups)),
            "precision": hits / int(called.sum()) if called.any() else None,
            "f1": 2 * hits / int(is_it.sum() + called.sum()),
        }
    return table
