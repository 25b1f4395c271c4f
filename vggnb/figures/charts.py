"""Figures of results: learning curves, the confusion matrix, metrics with their intervals."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from vggnb.figures.canvas import (
    INK,
    ORANGE,
    WIDTH,
    Drawing,
    cue,
    drawing,
    key,
    label,
    label_ends,
    named,
    new_axes,
    new_row,
    styled,
)
from vggnb.folders import counted, shown
from vggnb.metrics import LOWER_IS_BETTER, METRICS


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
                ends.append((len(values), values[-1], f"{label(name, 18)}\n{what}".strip(), cue(index)["color"]))
        low, high = ax.get_ylim()
        ax.set_ylim(*((0, high) if number == "loss" else (min(0.5, low), 1.02)))
        ax.set(xlim=(0.5, None), xlabel="epoch", title=number)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        label_ends(ax, ends, gap=0.06 if len(runs) == 1 else 0.12)
    return drawing(axes, "; ".join(_course(name, columns) for name, columns in runs.items()) + ".")


def _course(name: str, columns: dict[str, list[float]]) -> str:
    """What happened from the first epoch to the last."""
    parts = []
    for column, words in (("loss", "loss"), ("accuracy", "training accuracy"), ("val_loss", "validation loss")):
        if column in columns:
            parts.append(f"{words} {columns[column][0]:.2f} to {columns[column][-1]:.2f}")
    if "val_accuracy" in columns:
        values = columns["val_accuracy"]
        best = f"best {max(values):.2f} in epoch {int(np.argmax(values)) + 1}"
        parts.append(f"validation accuracy {values[0]:.2f} to {values[-1]:.2f}, {best}")
    return f"{shown(name)}{': ' if name else ''}{counted(len(columns['loss']), 'epoch')}: {', '.join(parts)}"


@styled
def confusion_matrix(report, *, ax: Axes | None = None) -> Drawing:
    """Rows are the true class, columns the predicted one; each cell has its count and its share of the row.

    Of more than two classes, the most frequent mistake is framed.

    Args:
        report: anything with `confusion`, int (classes, classes), and `classes`.
    """
    counts, names = np.asarray(report.confusion), report.classes
    k, totals = len(names), counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = float(np.clip(0.62 * k + 2.2, 4.0, 7.0))
    ax = new_axes(ax, size=(min(WIDTH, side * 1.25), side))
    ax.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    with_share = k <= 8
    for i, j in np.ndindex(k, k) if k <= 16 else ():
        text = str(counts[i, j]) + (f"\n{100 * shares[i, j]:.0f} %" if with_share and counts[i, j] else "")
        size = 15 if k == 2 else 11 if k <= 6 else 9
        ax.text(j, i, text, ha="center", va="center", fontsize=size, color=_readable_on(shares[i, j]))
    worst = _worst(counts) if k > 2 else None
    if worst:
        ax.add_patch(Rectangle((worst[1] - 0.5, worst[0] - 0.5), 1, 1, fc="none", ec=ORANGE, lw=4, clip_on=False))
    ticks = [label(name, 18) for name in names]
    turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if k > 4 or max(map(len, ticks)) > 12 else {}
    ax.set_xticks(range(k), ticks, parse_math=False, **turn)
    ax.set_yticks(range(k), ticks, parse_math=False)
    title = "images, and share of the true class" if with_share else "images; colour: share of the true class"
    framed = " (framed: the most frequent mistake)" if worst else ""
    ax.set(xlabel=f"predicted class{framed}", ylabel="true class", title=title)
    ax.spines[:].set_visible(False)
    return drawing(ax, _confusion_words(counts, names))


def _worst(counts: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the most frequent mistake, if there is one."""
    wrong = counts - np.diag(np.diag(counts))
    return tuple(int(k) for k in np.unravel_index(int(wrong.argmax()), wrong.shape)) if wrong.any() else None


def _readable_on(share: float) -> str:
    """White on dark cells, black on light ones, by the relative luminance of the cell's colour (WCAG 2)."""
    rgb = np.array(colormaps["cividis"](float(share))[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.18 else "white"


def _confusion_words(counts: np.ndarray, names) -> str:
    n, right = int(counts.sum()), int(np.trace(counts))
    parts = [f"{shown(name)} {counts[i, i]} of {counts[i].sum()}" for i, name in enumerate(names)]
    text = f"{right} of {counted(n, 'image')} right ({100 * right / max(n, 1):.0f} %): {', '.join(parts)}"
    if worst := _worst(counts):
        i, j = worst
        text += f"; most frequent mistake: {shown(names[i])} predicted as {shown(names[j])}, {counts[i, j]} times"
    return text.replace(", 1 times", ", once") + "."


@styled
def class_results(report) -> Drawing:
    """Recall of each class (a dot with its interval) and precision (a square).

    Args:
        report: anything with `per_class`, as a report of `evaluate` has.
    """
    table = report.per_class
    ax = new_axes(size=(WIDTH, 1.2 + 0.52 * len(table)))
    found, right = cue(0), {**cue(1), "mfc": "white", "mew": 2}
    handles, words = [], []
    for row, (name, one) in enumerate(table.items()):
        if not one["n"]:
            ax.text(1.03, row, "no images", va="center", fontsize=10)
            words.append(f"{shown(name)}: no images")
            continue
        recall, precision = one["recall"], one["precision"]
        y = row - 0.17
        ax.plot([recall["low"], recall["high"]], [y, y], lw=2.5, color=found["color"], solid_capstyle="butt")
        handles += ax.plot(recall["value"], y, ms=8, mec="white", ls="", **found)
        handles += ax.plot(np.nan if precision is None else precision, row + 0.17, ms=7, ls="", **right)
        ends = f"{recall['value']:.2f} ({recall['low']:.2f} to {recall['high']:.2f})"
        share = "- (never predicted)" if precision is None else f"{precision:.2f}"
        ax.text(1.03, y, f"recall {ends}", va="center", fontsize=10, color=found["color"])
        ax.text(1.03, row + 0.2, f"precision {share}", va="center", fontsize=10, color=right["color"])
        number = counted(one["n"], "image")
        words.append(f"{shown(name)} ({number}): recall {ends}, precision {share}, F1 {one['f1']:.2f}")
    ax.set_yticks(range(len(table)), [f"{label(name, 18)} ({one['n']})" for name, one in table.items()])
    ax.set(xlim=(0, 1.02), ylim=(len(table) - 0.5, -0.55), xlabel="share, with 95 % interval (images in brackets)")
    ax.grid(axis="x", color="#DDDDDD", lw=0.8)
    ax.set_axisbelow(True)
    what = ["recall: of this class, found", "precision: of those predicted, right"]
    key(ax, handles[:2], what, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0)
    return drawing(ax, "; ".join(words) + ".")


@styled
def metric_intervals(reports, *, ax: Axes | None = None) -> Drawing:
    """Every metric as a dot with its 95 % interval, several models one above the other, beside the baseline.

    Args:
        reports: a report of `evaluate`, or {name: report}; all of the same kind of task.
    """
    reports = named(reports)
    metrics = list(next(iter(reports.values())).metrics)
    spread = 0.0 if len(reports) == 1 else 0.22
    tall = 1.3 + len(metrics) * (0.45 + 0.22 * (len(reports) - 1))
    ax = new_axes(ax, size=(WIDTH, tall))
    handles, words = [], []
    for row, metric in enumerate(metrics):
        parts = []
        for index, (name, report) in enumerate(reports.items()):
            value = report.metrics[metric]
            y, look = row + spread * (index - (len(reports) - 1) / 2) * 2 / max(1, len(reports) - 1), cue(index)
            ax.plot([value.low, value.high], [y, y], lw=2.5, color=look["color"], solid_capstyle="butt")
            handles += ax.plot(value.value, y, ms=8, mec="white", ls="", **look) if row == 0 else []
            ax.plot(value.value, y, ms=8, mec="white", **look)
            text = f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
            ax.text(1.03, y, text, va="center", fontsize=10, color=look["color"])
            parts.append(f"{shown(name)} {text}".strip())
        words.append(f"{METRICS[metric]}: {', '.join(parts)}")
    first = next(iter(reports.values()))
    baseline, guesses = first.baseline, getattr(first, "baselines", {})
    if baseline is not None:
        for row, metric in enumerate(metrics):
            if metric in guesses or row == 0:
                guess = guesses.get(metric, baseline)
                ax.plot([guess, guess], [row - 0.45, row + 0.45], color=INK, ls=":", lw=2, clip_on=False)
        side = {"ha": "left", "x": baseline - 0.01} if baseline < 0.35 else {"ha": "center", "x": baseline}
        ax.text(y=-0.5, s="dotted: always the most frequent class", va="bottom", fontsize=9, **side)
    smaller = [f"{METRICS[m]}\n(0 is best)" if m in LOWER_IS_BETTER else METRICS[m] for m in metrics]
    ax.set_yticks(range(len(metrics)), smaller)
    ax.set(xlim=(0, 1.0), ylim=(len(metrics) - 0.4, -0.75), xlabel="value, with 95 % interval")
    ax.grid(axis="x", color="#DDDDDD", lw=0.8)
    ax.set_axisbelow(True)
    if len(reports) > 1:
        names = [label(name) for name in reports]
        key(ax, handles, names, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(names), borderaxespad=0)
    if baseline is not None:
        words.append(f"always predicting the most frequent class is right for {baseline:.2f} of the images")
    return drawing(ax, "; ".join(words) + ".")
