"""Figures of results: the confusion matrix, metrics with their intervals, differences."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from vggnb.figures.canvas import (
    FAINT,
    INK,
    PALE,
    WIDTH,
    WRONG,
    Drawing,
    drawing,
    key,
    label,
    model_look,
    named,
    new_ax,
    styled,
)
from vggnb.folders import counted, shown
from vggnb.metrics import LOWER_IS_BETTER, METRICS

SHARES = "Blues"  # white to blue
DARK = 0.715  # share above which white text is readable on its colour (contrast of WCAG 2, AA)
GRID = {"color": "#E4E4E4", "lw": 0.8}


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
    ax = new_ax(size=(min(WIDTH, side * 1.25), side)) if ax is None else ax
    ax.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    with_share = k <= 8
    for i, j in np.ndindex(k, k) if k <= 16 else ():
        text = str(counts[i, j]) + (f"\n{100 * shares[i, j]:.0f} %" if with_share and counts[i, j] else "")
        size = 15 if k == 2 else 11 if k <= 6 else 9
        colour = "white" if shares[i, j] > DARK else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    ax.set_xticks(np.arange(-0.5, k), minor=True)
    ax.set_yticks(np.arange(-0.5, k), minor=True)
    ax.grid(which="minor", color=PALE, lw=1)
    ax.tick_params(which="minor", length=0)
    worst = _worst(counts)
    if framed := " (framed: the most frequent mistake)" if worst and k > 2 else "":
        ax.add_patch(Rectangle((worst[1] - 0.5, worst[0] - 0.5), 1, 1, fc="none", ec=WRONG, lw=3, clip_on=False))
    ticks = [label(name, 18) for name in names]
    turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if k > 4 or max(map(len, ticks)) > 12 else {}
    ax.set_xticks(range(k), ticks, parse_math=False, **turn)
    ax.set_yticks(range(k), ticks, parse_math=False)
    title = "images, and share of the true class" if with_share else "images; colour: share of the true class"
    ax.set(xlabel=f"predicted class{framed}", ylabel="true class", title=title)
    ax.spines[:].set_visible(False)
    return drawing(ax, _confusion_sentence(counts, names, worst))


def _worst(counts: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the most frequent mistake, if there is one."""
    wrong = counts - np.diag(np.diag(counts))
    return tuple(int(k) for k in np.unravel_index(int(wrong.argmax()), wrong.shape)) if wrong.any() else None


def _confusion_sentence(counts: np.ndarray, names, worst: tuple[int, int] | None) -> str:
    n, right = int(counts.sum()), int(np.trace(counts))
    parts = [f"{shown(name)} {counts[i, i]} of {counts[i].sum()}" for i, name in enumerate(names)]
    text = f"{right} of {counted(n, 'image')} right ({100 * right / max(n, 1):.0f} %): {', '.join(parts)}"
    if worst:
        i, j = worst
        text += f"; most frequent mistake: {shown(names[i])} predicted as {shown(names[j])}, {counts[i, j]} times"
    return text.replace(", 1 times", ", once") + "."


@styled
def class_results(report) -> Drawing:
    """Recall of each class (a dot with its interval) and precision (an open square).

    Args:
        report: anything with `per_class`, as a report of `evaluate` has.
    """
    table = report.per_class
    ax = new_ax(size=(WIDTH, 1.2 + 0.52 * len(table)))
    handles, words = {}, []
    for row, (name, one) in enumerate(table.items()):
        if not one["n"]:
            ax.text(1.03, row, "not evaluated: no images", va="center", fontsize=10, color=FAINT)
            words.append(f"{shown(name)}: no images")
            continue
        recall, precision, y = one["recall"], one["precision"], row - 0.17
        ax.plot([recall["low"], recall["high"]], [y, y], lw=2.5, color=INK, solid_capstyle="butt")
        look = {"ls": "", "color": INK, "clip_on": False}
        (dot,) = ax.plot(recall["value"], y, "o", ms=8, mec="white", **look)
        (square,) = ax.plot(
            np.nan if precision is None else precision, row + 0.17, "s", ms=7, mfc="white", mew=2, **look
        )
        handles = {"recall: of this class, found": dot, "precision: of those predicted, right": square}
        ends = f"{recall['value']:.2f} ({recall['low']:.2f} to {recall['high']:.2f})"
        share = "- (never predicted)" if precision is None else f"{precision:.2f}"
        ax.text(1.03, y, f"recall {ends}", va="center", fontsize=10)
        ax.text(1.03, row + 0.2, f"precision {share}", va="center", fontsize=10)
        number = counted(one["n"], "image")
        words.append(f"{shown(name)} ({number}): recall {ends}, precision {share}, F1 {one['f1']:.2f}")
    ax.set_yticks(range(len(table)), [f"{label(name, 18)} ({one['n']})" for name, one in table.items()])
    ax.set(xlim=(0, 1.0), ylim=(len(table) - 0.5, -0.55), xlabel="share, with 95 % interval (images in brackets)")
    _row_grid(ax)
    key(ax, [*handles.values()], [*handles], above=True, ncols=2)
    return drawing(ax, "; ".join(words) + ".")


@styled
def metric_intervals(reports) -> Drawing:
    """Every metric as a dot with its 95 % interval, several models one above the other, beside the baseline.

    Args:
        reports: a report of `evaluate`, or {name: report}; all of the same kind of task.
    """
    reports = named(reports)
    metrics = list(next(iter(reports.values())).metrics)
    count = len(reports)
    ax = new_ax(size=(WIDTH, 1.3 + len(metrics) * (0.42 + 0.2 * (count - 1))))
    handles, words = [], []
    for row, metric in enumerate(metrics):
        parts = []
        for index, (name, report) in enumerate(reports.items()):
            value, (colour, marker, _) = report.metrics[metric], model_look(index, count)
            y = row + 0.72 * ((index + 0.5) / count - 0.5)
            ax.plot([value.low, value.high], [y, y], lw=2.5, color=colour, solid_capstyle="butt")
            dot = ax.plot(value.value, y, marker, color=colour, ms=8, mec="white", clip_on=False, zorder=3)
            handles += dot if row == 0 else []
            text = f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
            ax.text(1.03, y, text, va="center", fontsize=10)
            parts.append(f"{shown(name)} {text}".strip())
        words.append(f"{METRICS[metric]}: {', '.join(parts)}")
    words += _draw_baselines(ax, metrics, next(iter(reports.values())))
    ax.set_yticks(range(len(metrics)), [_metric_label(name, "0 is best") for name in metrics])
    ax.set(xlim=(0, 1.0), ylim=(len(metrics) - 0.4, -0.75), xlabel="value, with 95 % interval")
    _row_grid(ax)
    if count > 1:
        names = [label(name) for name in reports]
        key(ax, handles, names, above=True, ncols=len(names))
    return drawing(ax, "; ".join(words) + ".")


def _draw_baselines(ax: Axes, metrics: list[str], report) -> list[str]:
    """What always predicting the most frequent class would get, as dotted lines; and its words."""
    baseline, guesses = report.baseline, getattr(report, "baselines", {})
    if baseline is None:
        return []
    for row, metric in enumerate(metrics):
        if metric in guesses or row == 0:
            guess = guesses.get(metric, baseline)
            ax.plot([guess, guess], [row - 0.45, row + 0.45], color=INK, ls=":", lw=2, clip_on=False)
    side = {"ha": "left", "x": baseline - 0.01} if baseline < 0.35 else {"ha": "center", "x": baseline}
    ax.text(y=-0.5, s="dotted: always the most frequent class", va="bottom", fontsize=9, **side)
    return [f"always predicting the most frequent class is right for {baseline:.2f} of the images"]


@styled
def differences(comparison, *, names: tuple[str, str] = ("first", "second")) -> Drawing:
    """Second minus first for every metric, with its interval; one that holds 0 is not significant.

    Args:
        comparison: of `evaluate.compare`.
        names: of the two models.
    """
    values, words = comparison.differences, []
    ax = new_ax(size=(WIDTH, 1.3 + 0.42 * len(values)))
    for row, (metric, one) in enumerate(values.items()):
        significant = one.low > 0 or one.high < 0
        look = {"color": INK} if significant else {"color": FAINT}
        ax.plot([one.low, one.high], [row, row], lw=2.5, solid_capstyle="butt", **look)
        ax.plot(one.value, row, "D" if significant else "o", ms=8, mfc=INK if significant else "white", mew=2, **look)
        text = f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
        verdict = "significant" if significant else "not significant"
        ax.text(1.03, row, f"{text}\n{verdict}", transform=ax.get_yaxis_transform(), va="center", fontsize=9, **look)
        words.append(f"{METRICS[metric]} {text}, {verdict}")
    ax.axvline(0, color=FAINT, ls=":", lw=1.5)
    ax.set_yticks(range(len(values)), [_metric_label(name, "lower is better") for name in values])
    reach = max(max(abs(one.low), abs(one.high)) for one in values.values()) * 1.1
    first, second = (label(name) for name in names)
    ax.set(xlim=(-reach, reach), ylim=(len(values) - 0.4, -0.6))
    ax.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 5, 10)))
    ax.set_xlabel(f"{second} minus {first}, with 95 % interval", parse_math=False)
    _row_grid(ax)
    text = f"{shown(names[1])} minus {shown(names[0])} on {comparison.n} images: {'; '.join(words)}."
    return drawing(ax, text)


def _metric_label(metric: str, remark: str) -> str:
    return f"{METRICS[metric]}\n({remark})" if metric in LOWER_IS_BETTER else METRICS[metric]


def _row_grid(ax: Axes) -> None:
    ax.grid(axis="x", **GRID)
    ax.set_axisbelow(True)
