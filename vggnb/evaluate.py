"""A run on a split of its dataset, or on another labelled folder -> a report.

The test split is used here and nowhere else. Predictions are kept in the run's folder, so that report, figures,
mistakes and comparison are made from the same numbers.
"""

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from vggnb.census import Census, Manifest, Row
from vggnb.census.splits import with_groups
from vggnb.device import batch_size
from vggnb.folders import shown
from vggnb.generators import readable_batches
from vggnb.machine import tqdm
from vggnb.metrics.calibration import choose_threshold
from vggnb.metrics.intervals import DRAWS
from vggnb.metrics.predictions import Predictions, positive_class
from vggnb.metrics.report import Comparison, Report, check_prevalence, compare_predictions, report_on
from vggnb.model import compiled
from vggnb.storage import VggnbError, read_json, storage_errors, write_bytes, write_json
from vggnb.train import Run

THRESHOLD = "threshold.json"  # in a run's folder: the operating point that was chosen on validation


def evaluate(
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
    """Evaluate a run on one split of its own dataset, with and without images that are in train or validation, too.

    The report is kept in the run's folder as `report-SPLIT.json`.

    Args:
        positive: two classes: the one whose probability is reported; default the last in alphabetical order.
        sensitivity, cost_ratio: two classes: choose the threshold for it on validation; see `choose_threshold`.
        prevalence: share of the positive class where the model will be used; default its share among the images.

    Raises:
        VggnbError: the run is not trained, the split holds no image that can be read, or an option does not fit.
    """
    options = _options(run, positive, sensitivity, cost_ratio, prevalence, progress) | {"draws": draws}
    predictions = predict_split(run, split, progress=progress)
    out_of_fold = split == "validation" and run.training()["validation"]["out_of_fold"]
    leaks = set() if out_of_fold else {row.path for row in run.manifest.leaking(split)}
    report = _with_and_without(predictions, leaks, run.classes, options)
    write_json(run.folder / f"report-{split}.json", report.to_dict())
    return report


def evaluate_folder(
    run: Run,
    census: Census,
    *,
    positive: str | None = None,
    sensitivity: float | None = None,
    cost_ratio: float | None = None,
    prevalence: float | None = None,
    progress: bool = True,
) -> Report:
    """Evaluate a run on another labelled folder: on its test split if it has one, else on all its images.

    Near-duplicates in it count as one group; images whose files the run was trained or chosen on are leaks. Classes
    that the folder lacks are not evaluated; those that the model does not know are counted. Names may differ from those
    in training in case, spaces at the ends and the composition of letters. For the options see `evaluate`.

    Raises:
        VggnbError: the folder has no image of a class that the model knows, or an option does not fit.
    """
    options = _options(run, positive, sensitivity, cost_ratio, prevalence, progress)
    rows = [row for row in census.rows if row.split == "test"] or list(census.rows)
    match = _matched(census.classes, run.classes)
    if not any(match[row.class_name] in run.classes for row in rows):
        known, found = (", ".join(map(shown, names)) for names in (run.classes, census.classes))
        what = f"The model knows the classes {known}; this folder has images of {found or 'none'}."
        remedy = "Name the class folders as in training. For images without a class: vggnb predict RUN FOLDER."
        raise VggnbError(what, census.dataset, remedy)
    names = (*run.classes, *(name for name in match.values() if name not in run.classes))
    rows = [
        replace(row, class_name=match[row.class_name], label=names.index(match[row.class_name]))
        for row in with_groups(rows, census)
    ]
    manifest = Manifest(census.dataset, names, tuple(rows), ())
    everything = predict_rows(run, manifest, rows, what=census.dataset.name, progress=progress)
    known = everything.take(np.flatnonzero(everything.labels < len(run.classes)))
    if not len(known.labels):
        raise VggnbError("No image of a class that the model knows can be read.", census.dataset, "Add some.")
    seen = {row.sha256 for row in run.manifest.rows if row.split != "test"}
    report = _with_and_without(known, {row.path for row in rows if row.sha256 in seen}, run.classes, options)
    predicted, unknown = everything.probabilities.argmax(axis=1), {}
    for label in range(len(run.classes), len(names)):
        if answers := Counter(names[k] for k in predicted[everything.labels == label]):
            unknown[names[label]] = {"n": answers.total(), "predicted": dict(answers.most_common())}
    return replace(report, unknown_classes=unknown)


def compare(
    first: Run, second: Run, split: str = "test", *, positive: str | None = None, draws: int = DRAWS, progress=True
) -> Comparison:
    """Two runs on the same split of the same dataset, by a paired bootstrap; see `compare_predictions`."""
    if first.classes != second.classes:
        what = f"The first run has the classes {list(first.classes)}, the second {list(second.classes)}."
        raise VggnbError(what, second.folder, "Compare runs on the same dataset.")
    parts = ("train", "validation") if split == "validation" else (split,)
    files = [{row.path: row.sha256 for part in parts for row in run.manifest.of(part)} for run in (first, second)]
    if other := [path for path in files[0].keys() & files[1].keys() if files[0][path] != files[1][path]]:
        what = f"The runs are of different images: {shown(min(other))} is another file in the second."
        raise VggnbError(what, second.folder, "Compare runs on the same dataset.")
    pair = [predict_split(run, split, progress=progress) for run in (first, second)]
    return compare_predictions(*pair, first.classes, positive=positive, draws=draws)


def predict_split(run: Run, split: str = "test", *, progress: bool = True) -> Predictions:
    """Predictions of the assembled model for a split: made once per trained model, then read from the run's folder.

    Those for validation were made in training; of a head that was fitted on train and validation they are out-of-fold
    predictions of all images of both.
    """
    if split == "validation":
        found = run.validation()
        if not len(found.labels):
            what, remedy = "There are no images to evaluate in validation.", "Put images in a folder 'validation'."
            raise VggnbError(what, run.manifest.dataset, remedy)
        return _grouped(found, run.manifest.rows)
    path, rows = run.folder / f"predictions-{split}-{run.model_sha256()[:12]}.csv", run.manifest.of(split)
    kept = None
    with storage_errors(path), contextlib.suppress(FileNotFoundError, ValueError):  # there is none, or a damaged one
        kept = Predictions.from_csv(path.read_bytes())
    if kept is None or kept.unreadable or not _fits(kept, rows, len(run.classes)):
        kept = predict_rows(run, run.manifest, rows, what=split, progress=progress)
        write_bytes(path, kept.to_csv(run.classes))
    return _grouped(kept, rows)


def predict_rows(run: Run, manifest: Manifest, rows: Sequence[Row], *, what: str, progress: bool = True) -> Predictions:
    """Predictions of the assembled model for rows of a manifest; files that cannot be read are named and left out."""
    unreadable: list[tuple[str, str]] = []
    kept, probabilities, size = [], [], batch_size(run.recipe.image_size)
    model = compiled(run.classifier()) if rows else None
    with tqdm(total=len(rows), desc=f"Predicting {what}", unit="image", disable=not progress) as bar:
        for batch, pixels in readable_batches(manifest, rows, run.recipe, batch=size, unreadable=unreadable):
            kept += batch
            probabilities.append(model(pixels))
            bar.update(len(batch))
    if not kept:
        remedy = f"Put images in a folder '{what}', or evaluate another folder with --dataset."
        if unreadable:
            path, reason = unreadable[0]
            what = f"{what}: none of {len(rows)} can be read (the first, {shown(path)}: {reason})"
        raise VggnbError(f"There are no images to evaluate in {what}.", manifest.dataset, remedy)
    labels, paths = np.array([row.label for row in kept]), tuple(row.path for row in kept)
    return _grouped(Predictions(paths, labels, np.concatenate(probabilities).astype(float), tuple(unreadable)), rows)


def _options(run: Run, positive, sensitivity, cost_ratio, prevalence, progress: bool) -> dict:
    """What `report_on` takes, checked before the model predicts anything."""
    positive = positive_class(run.classes, positive)
    if positive is None and (sensitivity, cost_ratio, prevalence) != (None, None, None):
        what = f"Thresholds and predictive values are for two classes; this run has {len(run.classes)}."
        raise VggnbError(what, "--sensitivity, --cost-ratio, --prevalence", "Leave them out.")
    check_prevalence(prevalence)
    point = None
    if sensitivity is not None or cost_ratio is not None:
        found, index = predict_split(run, "validation", progress=progress), run.classes.index(positive)
        point = choose_threshold(found, index, sensitivity=sensitivity, cost_ratio=cost_ratio)
        # The run keeps it, and its bundle uses it in prediction.
        document = {**asdict(point), "positive": positive, "model_sha256": run.model_sha256()}
        write_json(run.folder / THRESHOLD, document)
    return {"positive": positive, "operating_point": point, "prevalence": prevalence}


def chosen_threshold(run: Run) -> dict | None:
    """The operating point last chosen for this model: threshold, positive, aim, images; None if there is none."""
    path = run.folder / THRESHOLD
    found = read_json(path, "Choose it again: vggnb evaluate RUN --sensitivity S.") if path.is_file() else None
    is_of_this_model = isinstance(found, dict) and found.get("model_sha256") == run.model_sha256()
    return {name: found[name] for name in ("threshold", "positive", "aim", "images")} if is_of_this_model else None


def _with_and_without(predictions: Predictions, leaks: set[str], classes: tuple[str, ...], options: dict) -> Report:
    """The report on all images and, where some of them leak, on the others alone."""
    report = report_on(predictions, classes, **options)
    others = [k for k, path in enumerate(predictions.paths) if path not in leaks]
    if len(others) == report.n:
        return report
    alone = report_on(predictions.take(others), classes, **options) if others else None
    return replace(report, leaks=report.n - len(others), without_leaks=alone)


def _matched(found: tuple[str, ...], known: tuple[str, ...]) -> dict[str, str]:
    """Each class of a folder -> the model's class of this name, however it is written; itself where there is none."""

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold().strip()

    match = {}
    for name in found:
        close = [one for one in known if plain(one) == plain(name)]
        match[name] = close[0] if len(close) == 1 and name not in known else name
    return match


def _fits(predictions: Predictions, rows: Sequence[Row], classes: int) -> bool:
    """Whether these are predictions for exactly these rows: after images were renamed they are for others."""
    labels, paths = {row.path: row.label for row in rows}, predictions.paths
    everything = [*paths, *(path for path, _ in predictions.unreadable)]
    if sorted(everything) != sorted(labels) or [labels[path] for path in paths] != predictions.labels.tolist():
        return False
    return predictions.probabilities.shape == (len(paths), classes) and np.isfinite(predictions.probabilities).all()


def _grouped(predictions: Predictions, rows: Sequence[Row]) -> Predictions:
    """With the groups of the manifest, where at least two of the images are in one."""
    by_path = {row.path: row.group for row in rows}
    groups = tuple(by_path[path] for path in predictions.paths)
    named = [group for group in groups if group]
    return replace(predictions, groups=groups if len(set(named)) < len(named) else ())
