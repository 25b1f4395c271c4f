"""Figures of results: learning curves, confusion matrix, ROC curve, intervals, reliability. Numbers in, drawing out."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vggnb.canvas import (
    COLOURS,
    FAINT,
    INK,
    LINES,
    MARKERS,
    WIDTH,
    Drawing,
    count_of,
    drawing,
    key,
    label,
    label_ends,
    named,
    new_axes,
    new_row,
    styled,
)
from vggnb.folders import shown
from vggnb.storage import VggnbError

SMALLER_IS_BETTER = ("ece",)
WORDS = {"auc": "AUC", "auc_ovr": "AUC, one against the rest", "macro_f1": "macro F1", "ece": "calibration error"}


def cue(index: int) -> dict:
    """Colour and marker of the index-th thing in a figure."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _columns(history) -> dict[str, list[float]]:
    """One list an epoch for each number, of our History or of Keras's."""
    if hasattr(history, "rows"):
        return {name: [row[name] for row in history.rows] for name in history.rows[0] if name != "epoch"}
    return history.history


@styled
def learning_curves(history) -> Drawing:
    """Loss and accuracy by epoch: training dashed with open marks, validation solid with filled ones.

    Args:
        history: what `train.fit` or Keras's `model.fit` returned, or {name: one of these}.
    """
    runs = {name: _columns(one) for name, one in named(history).items()}
    axes = new_row(2)
    for ax, number in zip(axes, ("loss", "accuracy"), strict=True):
        ends = []
        for index, (name, columns) in enumerate(runs.items()):
            for what, column in (("training", number), ("validation", f"val_{number}")):
                if column not in columns:
                    continue
                values, training = np.asarray(columns[column], float), what == "training"
                look = {"ls": "--", "lw": 1.2, "mfc": "white"} if training else {"ls": "-", "lw": 2}
                if len(runs) == 1 and not training:
                    index = 1
                every = max(1, len(values) // 8)
                ax.plot(np.arange(1, len(values) + 1), values, markevery=every, ms=5, **look, **cue(index))
                ends.append((values[-1], f"{label(name, 14)} {what}".strip(), cue(index)["color"]))
        top = ax.get_ylim()[1]
        ax.set_ylim(*((0, top) if number == "loss" else (min(0.5, ax.get_ylim()[0]), 1.0)))
        ax.set(xlabel="epoch", title=number)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        label_ends(ax, ends)
    return drawing(axes, "; ".join(_course(name, columns) for name, columns in runs.items()) + ".")


def _course(name: str, columns: dict[str, list[float]]) -> str:
    """What happened from the first epoch to the last."""
    parts = []
    for column, words in (("loss", "loss"), ("accuracy", "training accuracy"), ("val_loss", "validation loss")):
        if column in columns:
            parts.append(f"{words} {columns[column][0]:.2f} to {columns[column][-1]:.2f}")
    if "val_accuracy" in columns:
        values = columns["val_accuracy"]
        best = int(np.argmax(values))
        parts.append(f"validation accuracy {values[0]:.2f} to {values[-1]:.2f}, best {values[best]:.2f} in epoch {best + 1}")
    return f"{shown(name)}{': ' if name else ''}{count_of(len(columns['loss']), 'epoch')}: {', '.join(parts)}"


@styled
def confusion_matrix(report, *, ax: Axes | None = None) -> Drawing:
    """Rows are the true class, columns what the model said; each cell has its count and its share of the row.

    Args:
        report: anything with `confusion`, int (classes, classes), and `classes`.
    """
    counts, names = np.asarray(report.confusion), report.classes
    k, totals = len(names), counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = float(np.clip(0.62 * k + 2.2, 4.0, 11.0))
    ax = new_axes(ax, size=(min(WIDTH, side * 1.25), side))
    ax.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for i, j in np.ndindex(k, k):
        if k <= 15:
            share = "" if not totals[i] else f"{100 * shares[i, j]:.0f} %"
            text = f"{counts[i, j]}\n{share}" if k <= 9 else str(counts[i, j])
            size = 15 if k == 2 else 11 if k <= 6 else 9
            ax.text(j, i, text, ha="center", va="center", fontsize=size, color=_readable_on(shares[i, j]))
    ticks = [label(name, 16) for name in names]
    turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if k > 4 or max(map(len, ticks)) > 12 else {}
    ax.set_xticks(range(k), ticks, parse_math=False, **turn)
    ax.set_yticks(range(k), ticks, parse_math=False)
    ax.set(xlabel="the model said", ylabel="true class", title="count, and share of the true class")
    ax.spines[:].set_visible(False)
    return drawing(ax, _confusion_words(counts, names))


def _readable_on(share: float) -> str:
    """White on dark cells and black on light ones, by the luminance of the cell's colour (WCAG 2, relative luminance)."""
    rgb = np.array(colormaps["cividis"](float(share))[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.18 else "white"


def _confusion_words(counts: np.ndarray, names) -> str:
    n, right = int(counts.sum()), int(np.trace(counts))
    parts = [f"{shown(name)} {counts[i, i]} of {counts[i].sum()}" for i, name in enumerate(names)]
    text = f"{right} of {count_of(n, 'image')} right ({100 * right / max(n, 1):.0f} %): {', '.join(parts)}"
    wrong = counts - np.diag(np.diag(counts))
    if wrong.any():
        i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
        text += f"; most frequent mistake: {shown(names[i])} taken for {shown(names[j])}, {wrong[i, j]} times"
    return text.replace(", 1 times", ", once") + "."


@styled
def roc_curve(scored, *, threshold: float | None = 0.5, ax: Axes | None = None) -> Drawing:
    """Every threshold at once: how many positives are found against how many negatives are called positive.

    Args:
        scored: {name: (labels, scores)}; labels bool or 0 and 1 (n,), scores (n,) larger for positive.
        threshold: where to put a filled mark on each curve; None for nowhere.

    Raises:
        VggnbError: labels are not of two kinds.
    """
    ax = new_axes(ax, size=(6.4, 4.8))
    ax.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
    ax.text(0.52, 0.49, "guessing", color=FAINT, fontsize=10, rotation=45, rotation_mode="anchor", va="top")
    handles, labels, words = [], [], []
    for index, (name, (truth, scores)) in enumerate(scored.items()):
        truth, scores = np.asarray(truth).astype(bool), np.asarray(scores, float)
        false, true, cuts = roc_points(truth, scores)
        area, colour = float(np.trapezoid(true, false)), cue(index)["color"]
        line = ax.plot(false, true, lw=2, ls=LINES[index % len(LINES)], color=colour)[0]
        text = f"{shown(name)} AUC {area:.2f} ({truth.sum()} positive, {(~truth).sum()} negative)"
        if threshold is not None:
            at = int(np.searchsorted(-cuts, -threshold, side="right")) - 1
            ax.plot(false[at], true[at], ms=9, mec="white", clip_on=False, zorder=3, **cue(index))
            text += f", from {threshold:.2f} on: {true[at]:.2f} of positives, {false[at]:.2f} of negatives"
        handles.append(line)
        labels.append(f"{label(name)}  AUC {area:.2f}")
        words.append(text)
    key(ax, handles, labels, loc="lower right", handlelength=3.5)
    mark = "" if threshold is None else f" (mark: threshold {threshold:.2f})"
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=f"ROC curve{mark}")
    ax.set(xlabel="negatives called positive (1 - specificity)", ylabel="positives found (sensitivity)")
    return drawing(ax, "; ".join(words) + ".")


def roc_points(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold that matters, and the thresholds, falling from infinity.

    Args:
        truth: bool (n,). scores: float (n,).
    """
    if truth.all() or not truth.any():
        what = f"A ROC curve needs positive and negative images; here are {truth.sum()} and {(~truth).sum()}."
        raise VggnbError(what, "labels", "Pass labels as true for the positive class, and images of both classes.")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last image of each score
    true, false = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    return np.append(0, false / false[-1]), np.append(0, true / true[-1]), np.append(np.inf, scores[order][last])


@styled
def metric_intervals(reports, *, ax: Axes | None = None) -> Drawing:
    """Every metric as a dot with its 95 % interval, one above the other for several recipes, beside guessing.

    Args:
        reports: a report of `evaluate.judge`, or {name: report}; all of the same kind of task.
    """
    reports = named(reports)
    metrics = list(next(iter(reports.values())).metrics)
    spread = 0.0 if len(reports) == 1 else 0.22
    tall = 1.3 + len(metrics) * (0.45 + 0.22 * (len(reports) - 1))
    ax = new_axes(ax, size=(WIDTH, tall))
    handles, words = [], []
    for row, metric in enumerate(metrics):
        said = []
        for index, (name, report) in enumerate(reports.items()):
            value = report.metrics[metric]
            y, look = row + spread * (index - (len(reports) - 1) / 2) * 2 / max(1, len(reports) - 1), cue(index)
            ax.plot([value.low, value.high], [y, y], lw=2.5, color=look["color"], solid_capstyle="butt")
            handles += ax.plot(value.value, y, ms=8, mec="white", ls="", **look) if row == 0 else []
            ax.plot(value.value, y, ms=8, mec="white", **look)
            text = f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
            ax.text(1.03, y, text, va="center", fontsize=10, color=look["color"])
            said.append(f"{shown(name)} {text}".strip())
        words.append(f"{metric_name(metric)}: {', '.join(said)}")
    baseline = next(iter(reports.values())).baseline
    ax.plot([baseline, baseline], [-0.45, 0.45], color=INK, ls=":", lw=2)
    ax.annotate(f"always the most frequent class: {baseline:.2f}", (baseline, -0.45), (0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=9)  # fmt: skip
    smaller = [f"{metric_name(m)}\n(0 is best)" if m in SMALLER_IS_BETTER else metric_name(m) for m in metrics]
    ax.set_yticks(range(len(metrics)), smaller)
    ax.set(xlim=(0, 1.0), ylim=(len(metrics) - 0.4, -0.75), xlabel="value, with 95 % interval")
    ax.grid(axis="x", color="#DDDDDD", lw=0.8)
    ax.set_axisbelow(True)
    if len(reports) > 1:
        names = [label(name) for name in reports]
        key(ax, handles, names, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(names), borderaxespad=0)
    text = "; ".join(words) + f"; always saying the most frequent class would get {baseline:.2f} of images right."
    return drawing(ax, text)


def metric_name(metric: str) -> str:
    """A metric's name for people."""
    return WORDS.get(metric, metric.replace("_", " "))


@styled
def reliability_diagram(predictions, *, bins: int = 10, ax: Axes | None = None) -> Drawing:
    """Is it right as often as it says? Confidence against the share that is right, with the number of images at each.

    Args:
        predictions: anything with `labels` (n,) and `probabilities` (n, classes), or {name: one of these}.
        bins: of confidence, of equal width (Guo et al. 2017).
    """
    ax = new_axes(ax, size=(6.4, 4.8))
    ax.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
    handles, labels, words = [], [], []
    for index, (name, one) in enumerate(named(predictions).items()):
        confidence, share, count = reliability(one.labels, one.probabilities, bins)
        error = float(np.sum(count * np.abs(confidence - share)) / count.sum())
        handles += ax.plot(confidence, share, lw=1.5, ms=8, mec="white", ls=LINES[index % len(LINES)], **cue(index))
        for x, y, n in zip(confidence, share, count, strict=True):
            ax.annotate(str(n), (x, y), (7, -11 if index % 2 == 0 else 5), textcoords="offset points", fontsize=9,
                        color=cue(index)["color"])  # fmt: skip
        labels.append(f"{label(name)}  calibration error {error:.2f}".strip())
        steps = ", ".join(f"{x:.2f} said, {y:.2f} right (n={n})" for x, y, n in zip(confidence, share, count, strict=True))
        words.append(f"{shown(name)} calibration error {error:.2f} over {count.sum()} images: {steps}".strip())
    lowest = min(float(handle.get_xdata().min()) for handle in handles)
    ax.text(lowest - 0.02, lowest - 0.01, "as it says", color=FAINT, fontsize=10, ha="left", va="top")
    key(ax, handles, labels, loc="upper left", handlelength=3.5)
    ax.set(xlim=(lowest - 0.05, 1.03), ylim=(0, 1.03), title="number beside a mark: images")
    ax.set(xlabel="confidence: the probability of the class it says", ylabel="share that is right")
    return drawing(ax, "; ".join(words) + ".")


def reliability(labels, probabilities, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, share right and number of images in each bin of confidence that has any."""
    probabilities = np.asarray(probabilities)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == np.asarray(labels)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = np.unique(which)
    mean = [[values[which == b].mean() for b in filled] for values in (confidence, right)]
    return np.array(mean[0]), np.array(mean[1]), np.array([int((which == b).sum()) for b in filled])
