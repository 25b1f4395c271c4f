"""One page for a run: what was found, with its figures, in a single HTML file that needs no network; and the card.

Every name is escaped, the figures are inside the file, and a policy in its head forbids scripts and any loading.
"""

import base64
import itertools
from html import escape
from pathlib import Path

from vggnb import figures
from vggnb.card import NOT_A_DEVICE, build_card, card_markdown
from vggnb.evaluate import Report, find_mistakes, judge, predict_split, relabel_list
from vggnb.explain import grad_cam
from vggnb.folders import counted, shown
from vggnb.images import read_image
from vggnb.staging import check_apart
from vggnb.storage import VggnbError, resolved, storage_errors, write_bytes, write_json
from vggnb.train import Run

HEATMAPS = 4  # of the surest mistakes
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto }
figcaption, .note { color: #444; font-size: .9rem } table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ccc; overflow-wrap: anywhere }
td + td, th + th { text-align: right } .device { border: 2px solid #D55E00; padding: .5rem 1rem; font-weight: bold }
@media print { body { margin: 0 } figure, tr { break-inside: avoid } }
"""
BEGINNING = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(run: Run, path: Path | None = None, *, progress: bool = True, **wishes) -> tuple[Path, Report]:
    """Judge a run on its test images and write the page; beside it the card and the list of labels to look at again.

    Args:
        path: the page, a name that ends in .html; default report.html in the run's folder. An earlier report there is
            replaced; a list of labels that somebody has changed since keeps its rows under another name.
        wishes: what `evaluate.judge` takes: positive, sensitivity, cost_ratio, prevalence.

    Returns:
        where the page is, and the judgement.

    Raises:
        VggnbError: the path is a folder, something else than a report or cannot be written to, or the run cannot be
            judged.
    """
    path = run.folder / "report.html" if path is None else Path(path)
    with storage_errors(path):
        _check_place(path, run)
    report = judge(run, progress=progress, **wishes)
    card = build_card(run, run.folder.name)
    write_bytes(path, build_page(run, report, card, progress=progress).encode("utf-8"))
    write_json(path.with_name(f"{path.stem}-card.json"), card)
    write_bytes(path.with_name(f"{path.stem}-card.md"), card_markdown(card).encode("utf-8", "backslashreplace"))
    watched = [split for split in ("validation", "test") if run.manifest.of(split)]
    for split in watched:
        said = predict_split(run, split, progress=progress)
        _write_list(path.with_name(f"{path.stem}-relabel-{split}.csv"), relabel_list(said, run.classes))
    return path, report


def _check_place(path: Path, run: Run) -> None:
    """Refuse what would take the place of anything but an earlier report."""
    if path.is_dir():
        raise VggnbError("There is a folder of this name.", path, "Name a file, such as report.html.")
    if path.suffix.lower() not in (".html", ".htm"):
        raise VggnbError("The page is an HTML file.", path, "Give it a name that ends in .html, such as report.html.")
    check_apart(path, run.manifest.dataset, "The page", "--to")
    ours = resolved(path) == resolved(run.folder / "report.html")  # whatever has these names in a run is its own
    if path.exists():
        with open(path, "rb") as file:
            ours = file.read(len(BEGINNING)) == BEGINNING.encode()
    for one in (path, *(path.with_name(f"{path.stem}-card{ending}") for ending in (".json", ".md"))):
        if one.exists() and not ours:
            raise VggnbError("This file is there, and is not of a report.", one, "Choose another name with --to.")


def _write_list(path: Path, data: bytes) -> None:
    """Write a list that people may work on: one that differs keeps its rows under a name with a number."""
    with storage_errors(path):
        if path.exists() and path.read_bytes() != data:
            numbers = (path.with_name(f"{path.stem}-{number}.csv") for number in itertools.count(1))
            path.rename(next(name for name in numbers if not name.exists()))
    write_bytes(path, data)


def build_page(run: Run, report: Report, card: dict, *, progress: bool = True) -> str:
    """The page as text.

    Args:
        card: what `card.build_card` gave.
    """
    title = f"Report of the run {text(run.folder.name)}"
    parts = [f"<h1>{title}</h1>", f'<p class="device">{text(NOT_A_DEVICE)}</p>']
    parts += [f"<p>{text(card['network'])}. {text(card['weights'])}</p>", *_numbers(report)]
    parts += ["<h2>What cannot be said</h2>", _list([*report.cannot_be_said(), card["limits"][0]])]
    parts += _curves(run, report, progress)
    parts += _mistakes(run, progress)
    parts += _making(run, card)
    head = f'content="{POLICY}"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{title}</title><style>{STYLE}</style>"
    body = "\n".join(parts)
    return f"{BEGINNING}{head}</head>\n<body>\n{body}\n</body></html>\n"


def text(value: object) -> str:
    """Anything as text of the page: tags, line breaks, direction overrides and undecodable bytes are only shown."""
    return escape(shown(str(value)), quote=True)


def figure(drawing: figures.Drawing, title: str) -> str:
    """A figure with its title, its numbers under it, and the same numbers for a screen reader."""
    data, words = base64.b64encode(drawing.image()).decode(), text(drawing.sentence)
    image = f'<img alt="{words}" src="data:{drawing.mime};base64,{data}">'
    return f"<figure><h3>{text(title)}</h3>{image}<figcaption>{words}</figcaption></figure>"


def _table(header: list, rows: list[list]) -> str:
    cells = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def _list(sentences) -> str:
    return f"<ul>{''.join(f'<li>{text(sentence)}</li>' for sentence in sentences)}</ul>"


def _numbers(report: Report) -> list[str]:
    """The results, beside guessing, and class by class."""
    left_out = f"; {report.left_out} could not be read" if report.left_out else ""
    groups = f" in {report.groups} groups" if report.groups else ""
    parts = [f"<h2>Results on {counted(report.n, 'test image')}{groups}{left_out}</h2>"]
    rows = []
    for name, one in report.metrics.items():
        guess = f"{report.baselines[name]:.2f}" if name in report.baselines else "-"
        words = figures.metric_name(name)
        rows.append([words, f"{one.value:.2f}", f"{one.low:.2f} to {one.high:.2f}", guess])
    parts.append(_table(["metric", "value", "95 % interval", "always the most frequent class"], rows))
    if report.positive is not None:
        said = f"The positive class is {report.positive}; it is said from probability {report.threshold:.3f} on. The "
        said += f"worth of a yes and of a no is for a share of {report.prevalence:.2f} of this class."
        parts.append(f'<p class="note">{text(said)}</p>')
    if report.operating is not None:
        parts.append(f"<p>{text(report.operating)}.</p>")
    if report.leaks:
        parts.append(f"<p><strong>{text(report.leaking())}</strong></p>")
    rows = []
    for name, one in report.per_class.items():
        ends = f"{one['recall']['value']:.2f} ({one['recall']['low']:.2f} to {one['recall']['high']:.2f})"
        precision = "-" if one["precision"] is None else f"{one['precision']:.2f}"
        rows.append([name, one["n"], ends, precision, f"{one['f1']:.2f}"])
    parts.append(_table(["class", "images", "found (recall)", "right when said (precision)", "F1"], rows))
    parts.append(figure(figures.metric_intervals(report), "Every number with its interval"))
    parts.append(figure(figures.confusion_matrix(report), "What was taken for what"))
    return parts


def _curves(run: Run, report: Report, progress: bool) -> list[str]:
    """Thresholds and probabilities."""
    said, parts = predict_split(run, "test", progress=progress), []
    if report.positive is not None:
        index = run.classes.index(report.positive)
        truth, scores = said.labels == index, said.probabilities[:, index]
        parts = [
            "<h2>Where the line is drawn</h2>",
            figure(figures.threshold_curves(truth, scores, threshold=report.threshold), "Moving the threshold"),
            figure(figures.roc_curve({"": (truth, scores)}, threshold=report.threshold), "All thresholds at once"),
            figure(figures.precision_recall_curve({"": (truth, scores)}), "Found, and right when said"),
        ]
    calibration = run.calibration()
    before = {} if calibration.temperature == 1 else {"before": said.uncalibrated(calibration.temperature)}
    parts += ["<h2>Do the probabilities keep their word?</h2>", f"<p>{text(calibration)}.</p>"]
    drawn = before | {"calibrated": said} if before else said
    parts.append(figure(figures.reliability_diagram(drawn), "Said, and right"))
    return parts


def _mistakes(run: Run, progress: bool) -> list[str]:
    """The surest mistakes, and where the model looked."""
    said = predict_split(run, "test", progress=progress)
    found = find_mistakes(said, run.classes)
    parts = ["<h2>Mistakes</h2>"]
    try:
        parts.append(figure(figures.prediction_gallery(said, run.manifest), "The surest mistakes, then the least sure"))
        parts += _heatmaps(run, found[:HEATMAPS])
    except VggnbError as error:  # the dataset is elsewhere now; the numbers are kept in the run
        parts.append(f'<p class="note">The pictures cannot be shown: {text(error.what)}</p>')
    rows = [[one.path, one.class_name, one.predicted, f"{one.probability:.2f}"] for one in found[:50]]
    if rows:
        parts.append(_table(["image", "class", "said", "probability"], rows))
    if len(found) > len(rows):
        parts.append(f"<p>and {len(found) - len(rows)} more, in the list of labels to look at again.</p>")
    return parts


def _heatmaps(run: Run, found) -> list[str]:
    """Grad-CAM of mistakes: what spoke for the class that was said, and for the true one."""
    if not found:
        return []
    model, parts = run.classifier(), []
    for one in found:
        pixels = read_image(run.manifest.dataset / one.path, size=run.recipe.image_size, resize=run.recipe.resize)
        maps = {
            f"{words} {name}": grad_cam(model, pixels, class_index=run.classes.index(name))
            for words, name in (("for", one.predicted), ("for true", one.class_name))
        }
        parts.append(figure(figures.heatmap_overlay(pixels, maps), f"Where it looked (Grad-CAM): {shown(str(one))}"))
    return parts


def _making(run: Run, card: dict) -> list[str]:
    """Data, course of the training, recipe, versions."""
    parts = ["<h2>How it was made</h2>"]
    rows = [[split, *(row[name] for name in run.classes)] for split, row in card["images"].items()]
    parts += [_table(["images", *run.classes], rows), _list(card["data"]["splits"])]
    parts.append(figure(figures.learning_curves(run.history()), "The training of the head"))
    facts = {**card["recipe"], "model": card["model_sha256"], "images, splits, labels": card["data"]["sha256"]}
    parts.append(_table(["choice, hash or version", "value"], [[*pair] for pair in (facts | card["versions"]).items()]))
    return parts
