"""Probabilities -> judgement: each number with its 95 % interval, beside what guessing would get."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from sklearn import metrics as sk
from tqdm.auto import tqdm

from vggnb.census import Census, Row
from vggnb.census.splits import Manifest
from vggnb.features import BATCH
from vggnb.folders import shown
from vggnb.generators import readable_batches
from vggnb.model import compiled
from vggnb.storage import VggnbError, storage_errors, write_bytes, write_json
from vggnb.train import Run

DRAWS = 2000  # bootstrap draws: the ends of a 95 % interval then wobble by about a tenth of its width
BINS = 10  # of confidence, for the calibration error (Guo et al. 2017, doi 10.48550/arXiv.1706.04599)
Z = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Predictions:
    """What a model said about labelled images: probabilities float64 (n, classes), labels int64 (n,), same order."""

    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    unreadable: tuple[tuple[str, str], ...] = ()

    def without(self, paths: set[str]) -> "Predictions":
        """The same but for these paths."""
        keep = [index for index, path in enumerate(self.paths) if path not in paths]
        kept = tuple(self.paths[index] for index in keep)
        return Predictions(kept, self.labels[keep], self.probabilities[keep], self.unreadable)


@dataclass(frozen=True)
class Interval:
    """A measured value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}  ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Report:
    """The judgement of one model on one split.

    Attributes:
        confusion: int (classes, classes); rows are the true class, columns what the model said.
        threshold: two classes: the positive class is said from this probability on; None for more.
        baseline: share of the most frequent class: the accuracy of saying always that.
        without_leaks: where images of the split are in train, too: the judgement of the others alone.
    """

    n: int
    left_out: int
    classes: tuple[str, ...]
    positive: str | None
    threshold: float | None
    baseline: float
    confusion: np.ndarray
    metrics: dict[str, Interval]
    without_leaks: "Report | None" = None

    def __str__(self) -> str:
        left_out = f" ({self.left_out} could not be read)" if self.left_out else ""
        lines = [
            f"{self.n} images{left_out}; always saying the most frequent class would get {self.baseline:.2f} right",
            "",
        ]
        lines += [f"{'':18}value (95 % interval)"]
        lines += [f"{name.replace('_', ' '):18}{value}" for name, value in self.metrics.items()]
        if self.positive is not None:
            lines += ["", f"positive class: {self.positive}, said from probability {self.threshold:.2f} on"]
        if self.without_leaks is not None:
            leaks, name = self.n - self.without_leaks.n, "auc" if self.positive is not None else "macro_f1"
            both = ", ".join(f"{word} {self.without_leaks.metrics[word]}" for word in ("accuracy", name))
            lines += ["", f"! {leaks} of these images are in train, too. Without them: {both}"]
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """The contract's JSON."""
        values = {name: asdict(interval) for name, interval in self.metrics.items()}
        plain = {**asdict(self), "metrics": values, "confusion": self.confusion.tolist(), "classes": list(self.classes)}
        return {**plain, "without_leaks": self.without_leaks and self.without_leaks.to_dict()}


def judge(
    run: Run, split: str = "test", *, positive: str | None = None, draws: int = DRAWS, progress: bool = True
) -> Report:
    """Judge a run on one split of its own dataset; where images of it are in train, too, both with and without them.

    Args:
        positive: two classes: the one whose probability is reported; default the alphabetically last.
        draws: bootstrap draws.
    """
    positive_class(run.classes, positive)
    predictions = predict_split(run, split, progress=progress)
    report = judge_predictions(predictions, run.classes, positive=positive, draws=draws)
    others = predictions.without({row.path for row in run.manifest.leaking(split)})
    if len(others.paths) < report.n and set(others.labels) == set(predictions.labels):
        alone = judge_predictions(others, run.classes, positive=positive, draws=draws)
        report = replace(report, without_leaks=alone)
    write_json(run.folder / f"report-{split}.json", report.to_dict())
    return report


def judge_folder(run: Run, census: Census, *, positive: str | None = None, progress: bool = True) -> Report:
    """Judge a run on another labelled folder: its test split if it has one, else all its images.

    Raises:
        VggnbError: the folder's classes are not the run's.
    """
    if set(census.classes) != set(run.classes):
        what = f"The model knows {list(run.classes)}; this folder has {list(census.classes)}."
        raise VggnbError(what, census.dataset, "Name the class folders as in training.")
    positive_class(run.classes, positive)
    rows = [row for row in census.rows if row.split == "test"] or list(census.rows)
    rows = [replace(row, label=run.classes.index(row.class_name)) for row in rows]
    manifest = Manifest(census.dataset, run.classes, tuple(rows), ())
    predictions = predict_rows(run, manifest, rows, what=census.dataset.name, progress=progress)
    return judge_predictions(predictions, run.classes, positive=positive)


def predict_split(run: Run, split: str = "test", *, progress: bool = True) -> Predictions:
    """What the assembled model says about a split: asked once for each trained head, then read from the run's folder.

    Raises:
        VggnbError: the split has no images that can be read, or the run is not trained.
    """
    path = run.folder / f"predictions-{split}-{run.model_sha256()[:12]}.csv"
    if not path.is_file():
        rows = run.manifest.of(split)
        predictions = predict_rows(run, run.manifest, rows, what=split, progress=progress)
        write_bytes(path, _to_csv(predictions, run.classes))
    return _from_csv(path)


def predict_rows(run: Run, manifest: Manifest, rows: Sequence[Row], *, what: str, progress: bool = True) -> Predictions:
    """What the assembled model says about rows of a manifest; files that cannot be read are named and left out."""
    unreadable: list[tuple[str, str]] = []
    kept, probabilities = [], []
    model = compiled(run.classifier())
    bar = tqdm(total=len(rows), desc=f"Predicting {what}", unit="image", disable=not progress)
    for batch, pixels in readable_batches(manifest, rows, run.recipe, batch=BATCH, unreadable=unreadable):
        kept += batch
        probabilities.append(model(pixels))
        bar.update(len(batch))
    bar.close()
    if not kept:
        remedy = f"Put images in a folder '{what}', or judge another folder with --dataset."
        if unreadable:
            path, reason = unreadable[0]
            what = f"{what}: none of {len(rows)} can be read (the first, {shown(path)}: {reason})"
        raise VggnbError(f"There are no images to judge in {what}.", manifest.dataset, remedy)
    labels = np.array([row.label for row in kept])
    paths = tuple(row.path for row in kept)
    return Predictions(paths, labels, np.concatenate(probabilities).astype(np.float64), tuple(unreadable))


def judge_predictions(
    predictions: Predictions, classes: tuple[str, ...], *, positive: str | None = None, draws: int = DRAWS
) -> Report:
    """Numbers with intervals for what a model said.

    Proportions (accuracy, sensitivity, specificity) get Wilson's interval, the others a stratified bootstrap's: images
    are drawn again, with replacement, within each class; the middle 95 % of the values is the interval.

    Raises:
        VggnbError: `positive` is not a class, or a class has no image to judge.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    positive = positive_class(classes, positive)
    counts = np.bincount(labels, minlength=len(classes))
    if 0 in counts:
        empty = classes[int(np.argmin(counts))]
        raise VggnbError(f"No image of class '{empty}' to judge.", "the split", "Add images of this class to it.")
    threshold = None if positive is None else 0.5
    said = probabilities.argmax(axis=1)
    if positive is not None:
        index = classes.index(positive)
        said = np.where(probabilities[:, index] >= threshold, index, 1 - index)
    confusion = sk.confusion_matrix(labels, said, labels=range(len(classes)))
    weights = bootstrap_weights(labels, draws=draws, seed=0)
    return Report(
        n=len(labels),
        left_out=len(predictions.unreadable),
        classes=classes,
        positive=positive,
        threshold=threshold,
        baseline=counts.max() / len(labels),
        confusion=confusion,
        metrics=_metrics(labels, probabilities, said, confusion, weights, classes, positive),
    )


def positive_class(classes: tuple[str, ...], wanted: str | None) -> str | None:
    """The positive class of two: the one wanted, else the alphabetically last; None for more classes.

    Raises:
        VggnbError: `wanted` is not a class.
    """
    if wanted is not None and wanted not in classes:
        raise VggnbError(f"'{wanted}' is not a class.", "--positive", f"Use one of: {', '.join(classes)}.")
    return (wanted or sorted(classes)[-1]) if len(classes) == 2 else None


def bootstrap_weights(labels: np.ndarray, *, draws: int, seed: int) -> np.ndarray:
    """How often each image is in each draw, int64 (draws, n); every draw keeps each class's number of images."""
    random = np.random.default_rng(seed)
    weights = np.zeros((draws, len(labels)), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return weights


def wilson(hits: int, n: int) -> Interval:
    """A proportion and Wilson's 95 % interval (1927), which is honest near 0 and 1 and for few images."""
    share, spread = hits / n, Z**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z * np.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Interval(share, min(low, share), max(high, share))  # at 0 and 1, rounding would leave the share outside


def weighted_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each draw: the chance that a positive outranks a negative, ties half.

    Args:
        positive: bool (n,). scores: float (n,). weights: (draws, n).

    Returns:
        float64 (draws,).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ups = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    downs = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs / 2
    return (ups * below).sum(axis=1) / (ups.sum(axis=1) * downs.sum(axis=1))


def weighted_ece(probabilities: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error for each draw: |confidence - accuracy| by bins of confidence, averaged."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = weights * (confidence - right)
    return sum(np.abs(gaps[:, bins == b].sum(axis=1)) for b in np.unique(bins)) / weights.sum(axis=1)


def _metrics(labels, probabilities, said, confusion, weights, classes, positive) -> dict[str, Interval]:
    """The contract's metrics: of two classes, or of more."""
    once = np.ones((1, len(labels)), np.int64)
    one_hot = labels[:, None] == np.arange(len(classes))
    right = said == labels

    def spread(measure) -> Interval:
        low, high = np.quantile(measure(weights), [0.025, 0.975])
        return Interval(float(measure(once)[0]), float(low), float(high))

    def recalls(w):
        return np.stack([w[:, member] @ right[member] / w[:, member].sum(axis=1) for member in one_hot.T])

    def auc(w):
        return np.mean([weighted_auc(one_hot[:, c], probabilities[:, c], w) for c in range(len(classes))], axis=0)

    def macro_f1(w):
        hits = np.stack([w @ (right & (said == c)) for c in range(len(classes))])
        called = np.stack([w @ (said == c) for c in range(len(classes))])
        are = np.stack([w @ (labels == c) for c in range(len(classes))])
        return np.mean(2 * hits / np.maximum(called + are, 1), axis=0)

    values = {
        "accuracy": wilson(int(right.sum()), len(labels)),
        "balanced_accuracy": spread(lambda w: recalls(w).mean(axis=0)),
    }
    if positive is None:
        values["macro_f1"] = spread(macro_f1)
        values["auc_ovr"] = spread(auc)
    else:
        index = classes.index(positive)
        values["auc"] = spread(lambda w: weighted_auc(one_hot[:, index], probabilities[:, index], w))
        values["sensitivity"] = wilson(int(confusion[index, index]), int(confusion[index].sum()))
        values["specificity"] = wilson(int(confusion[1 - index, 1 - index]), int(confusion[1 - index].sum()))
    values["ece"] = spread(lambda w: weighted_ece(probabilities, right, w))
    return values


def _to_csv(predictions: Predictions, classes: tuple[str, ...]) -> bytes:
    """Path, label and one probability a class; unreadable files have a reason instead of a label."""
    text = io.StringIO()
    writer = csv.writer(text)  # with its own line ends: others would leave a "\r" in a name unquoted
    writer.writerow(["path", "label", *classes])
    for path, label, row in zip(predictions.paths, predictions.labels, predictions.probabilities, strict=True):
        writer.writerow([path, int(label), *(repr(float(p)) for p in row)])
    writer.writerows(predictions.unreadable)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _from_csv(path: Path) -> Predictions:
    """What `_to_csv` wrote."""
    with storage_errors(path), open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        _, *lines = csv.reader(file)
    rows = [line for line in lines if len(line) > 2]
    labels = np.array([int(row[1]) for row in rows])
    probabilities = np.array([[float(p) for p in row[2:]] for row in rows])
    unreadable = tuple((line[0], line[1]) for line in lines if len(line) == 2)
    return Predictions(tuple(row[0] for row in rows), labels, probabilities, unreadable)
