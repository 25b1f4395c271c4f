"""The report of a run: one HTML page that holds its figures and needs no network; beside it the card and relabel lists.

The template is `page.html`. Every name is escaped, and a policy in the page's head forbids scripts and any loading.
"""

import base64
import itertools
import os
from pathlib import Path

import jinja2
from markupsafe import Markup

from vggnb import figures
from vggnb.evaluate import evaluate, predict_split
from vggnb.explain import grad_cam
from vggnb.folders import shown
from vggnb.images import read_image
from vggnb.metrics import METRICS, Predictions, Report, find_mistakes, relabel_list
from vggnb.save.card import build_card, card_markdown
from vggnb.save.saving import check_place
from vggnb.storage import VggnbError, storage_errors, write_bytes, write_json
from vggnb.train import Run

HEATMAPS = 4  # of the most confident mistakes
MISTAKES = 50  # in the table; the relabel list holds all
# How every page begins, so that nothing but a page is ever replaced by one.
BEGINNING = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '


def write_report(run: Run, path: Path | None = None, *, progress: bool = True, **options) -> tuple[Path, Report]:
    """Evaluate a run on its test images and write the page; beside it the card and the relabel lists.

    Args:
        path: the page, a name that ends in .html; default report.html in the run's folder. An earlier report there is
            replaced; a relabel list that somebody has changed since keeps its rows under another name.
        options: those of `evaluate`: positive, sensitivity, cost_ratio, prevalence.

    Returns:
        where the page is, and the report.

    Raises:
        VggnbError: the path is not that of a report or cannot be written to, or the run cannot be evaluated.
    """
    path = run.folder / "report.html" if path is None else Path(path)
    with storage_errors(path):
        _check_place(path, run)
    report = evaluate(run, progress=progress, **options)
    card = build_card(run, run.folder.name)
    write_bytes(path, build_page(run, report, card, progress=progress).encode("utf-8"))
    write_json(path.with_name(f"{path.stem}-card.json"), card)
    write_bytes(path.with_name(f"{path.stem}-card.md"), card_markdown(card).encode("utf-8", "backslashreplace"))
    for split in ("validation", "test"):
        if run.manifest.of(split):
            listed = relabel_list(predict_split(run, split, progress=progress), run.classes)
            _write_list(path.with_name(f"{path.stem}-relabel-{split}.csv"), listed)
    return path, report


def _check_place(path: Path, run: Run) -> None:
    """Refuse what would take the place of anything but an earlier report."""
    if path.is_dir():
        raise VggnbError("There is a folder of this name.", path, "Name a file, such as report.html.")
    if path.suffix.lower() not in (".html", ".htm"):
        raise VggnbError("A report is an HTML file.", path, "Give it a name that ends in .html, such as report.html.")
    check_place(path, run, "The report")
    ours = os.path.realpath(path) == os.path.realpath(
        run.folder / "report.html"
    )  # whatever has these names in a run is its own
    if path.exists():
        with open(path, "rb") as file:
            ours = file.read(len(BEGINNING)) == BEGINNING.encode()
    for one in (path, *(path.with_name(f"{path.stem}-card{ending}") for ending in (".json", ".md"))):
        if one.exists() and not ours:
            raise VggnbError("This file exists and is not part of a report.", one, "Choose another name with --to.")


def _write_list(path: Path, data: bytes) -> None:
    """Write a list that people may work on: one that differs keeps its rows under a name with a number."""
    with storage_errors(path):
        if path.exists() and path.read_bytes() != data:
            numbers = (path.with_name(f"{path.stem}-{number}.csv") for number in itertools.count(1))
            path.rename(next(name for name in numbers if not name.exists()))
    write_bytes(path, data)


def build_page(run: Run, report: Report, card: dict, *, progress: bool = True) -> str:
    """The page as text; `card` is what `build_card` returns."""
    predictions = predict_split(run, "test", progress=progress)
    mistakes = find_mistakes(predictions, run.classes)
    drawings, unseen = [], ""
    try:
        gallery = figures.prediction_gallery(predictions, run.manifest)
        drawings = [("The most confident mistakes, then the least confident of the others", gallery)]
        model = run.classifier() if mistakes else None
        for one in mistakes[:HEATMAPS]:
            pixels = read_image(run.manifest.dataset / one.path, size=run.recipe.image_size, resize=run.recipe.resize)
            maps = {
                f"{words} {name}": grad_cam(model, pixels, class_index=run.classes.index(name))
                for words, name in (("for", one.predicted), ("for true", one.class_name))
            }
            drawings.append((f"Grad-CAM of {one}", figures.heatmap_overlay(pixels, maps)))
    except VggnbError as error:  # the dataset is elsewhere now; the predictions are kept in the run
        unseen = error.what
    calibrated, temperature = predictions, run.calibration().temperature
    if temperature != 1:
        calibrated = {"before": predictions.uncalibrated(temperature), "calibrated": predictions}
    facts = {**card["recipe"], "model": card["model_sha256"], "images, splits, labels": card["data"]["sha256"]}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vggnb", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else shown(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        name=run.folder.name,
        run=run,
        report=report,
        card=card,
        metric_names=METRICS,
        decisions=_decisions(report, predictions, run.classes),
        reliability=figures.reliability_diagram(calibrated),
        intervals=figures.metric_intervals(report),
        confusion=figures.confusion_matrix(report),
        learning=figures.learning_curves(run.history()) if run.history().rows else None,
        drawings=drawings,
        unseen=unseen,
        mistakes=mistakes,
        listed=MISTAKES,
        facts=(facts | card["versions"]).items(),
        base64=lambda data: base64.b64encode(data).decode(),
    )


def _decisions(report: Report, predictions: Predictions, classes: tuple[str, ...]) -> list:
    """Of two classes: what moving the threshold does, with titles."""
    if "auc" not in report.metrics:
        return []
    index = classes.index(report.positive)
    truth, scores = predictions.labels == index, predictions.probabilities[:, index]
    return [
        ("Sensitivity and specificity", figures.threshold_curves(truth, scores, threshold=report.threshold)),
        ("ROC curve", figures.roc_curve({"": (truth, scores)}, threshold=report.threshold)),
        ("Precision and recall", figures.precision_recall_curve(truth, scores)),
    ]
