"""Figures of data and results in numbers: sizes and brightness, pixel values, confusion matrix, metrics."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from vggnb.figures import canvas
from vggnb.figures.canvas import FAINT, INK, PALE, WIDTH, Drawing, drawing, empty, key, label, named, new_axes, styled
from vggnb.folders import counted, shown
from vggnb.metrics import LOWER_IS_BETTER, METRICS

MOST_CLASSES = 24  # with a box; the sentence names the same
CHANNELS = {"red": ("#CC0000", "-"), "green": ("#00A000", "--"), "blue": ("#0000CC", ":")}
DARK = 0.715  # share above which white text is readable on its colour (contrast of WCAG 2, AA)


@styled
def sizes_and_brightness(census) -> Drawing:
    """Sizes of the images and brightness by class: a difference in brightness is a shortcut that a model may take.

    Args:
        census: anything with `rows` (width, height, label), `classes` and `brightness`, float (n,), 0 to 255.
    """
    if not census.rows:
        return empty("There are no usable images.")
    labels, brightness = np.array([row.label for row in census.rows]), np.asarray(census.brightness, float)
    sides = np.array([[row.width, row.height] for row in census.rows])
    drawn = [k for k in range(len(census.classes)) if (labels == k).any()][:MOST_CLASSES]
    left, right = new_axes(1, 2, size=(WIDTH, max(3.2, 1.2 + 0.3 * len(drawn))))[0]
    number = counted(len({*map(tuple, sides.tolist())}), "size")
    edges, lines = np.linspace(0, 1.05 * sides.max(), 30), []
    for side, look in enumerate(({"color": INK, "ls": "-"}, {"color": FAINT, "ls": "--"})):
        lines.append(left.stairs(np.histogram(sides[:, side], edges)[0], edges, lw=2, **look))
    key(left, lines, ["width", "height"], above=True, ncols=2)
    left.set(xlim=(0, edges[-1]), ylim=(0, None), xlabel=f"pixels ({number})", ylabel="images")
    words = []
    for place, k in enumerate(drawn):
        low, first, middle, third, high = np.quantile(brightness[labels == k], [0.05, 0.25, 0.5, 0.75, 0.95])
        right.plot([low, high], [place, place], color=INK, lw=1.2, zorder=1)
        colour = (canvas.NEGATIVE, canvas.POSITIVE)[k] if len(census.classes) == 2 else FAINT
        right.barh(place, third - first, 0.5, first, color=colour, edgecolor=INK, linewidth=1.2)
        right.plot([middle, middle], [place - 0.25, place + 0.25], color=INK, lw=2.5, solid_capstyle="butt")
        right.text(258, place, f"{middle:.0f}", va="center", fontsize=10)
        words.append(f"{shown(census.classes[k])} {middle:.0f}")
    right.set_yticks(range(len(drawn)), [label(census.classes[k], 16) for k in drawn], parse_math=False)
    right.set(xlim=(0, 255), ylim=(len(drawn) - 0.5, -0.5), xlabel="mean grey level (0 black, 255 white)")
    right.set_title("brightness: box 50 %, line 90 %, median", fontsize=11, loc="right")
    (w0, h0), (w1, h1), (w, h) = sides.min(axis=0), sides.max(axis=0), np.median(sides, axis=0)
    span = f"width {w0} to {w1} (median {w:.0f}), height {h0} to {h1} (median {h:.0f}) pixels"
    text = f"{counted(len(sides), 'image')} of {number}: {span}; median brightness of 255: {', '.join(words)}."
    return drawing([left, right], text)


@styled
def preprocessing_histograms(values) -> Drawing:
    """The values that reach the network, by channel, after each kind of preprocessing.

    Args:
        values: {"rescale" or "caffe": what that layer made of the same images, (b, h, w, 3)}.
    """
    axes, words = new_axes(1, len(values), size=(WIDTH, 3.4))[0], []
    for ax, (kind, pixels) in zip(axes, values.items(), strict=True):
        pixels = np.asarray(pixels, float)
        edges = np.linspace(pixels.min(), pixels.max() + 1e-9, 52)
        lines, means = [], []
        for place, name in enumerate(reversed(CHANNELS) if kind == "caffe" else CHANNELS):  # caffe: BGR
            colour, line = CHANNELS[name]
            share, _ = np.histogram(pixels[..., place], edges)
            lines.append(ax.stairs(100 * share / share.sum(), edges, color=colour, ls=line, lw=1.8))
            means.append(f"{name} {pixels[..., place].mean():.2f}")
        ax.axvline(0, color=FAINT, lw=1)
        key(ax, lines, [f"{place + 1}. {text}" for place, text in enumerate(means)], fontsize=9, title="channel, mean")
        ax.set(ylim=(0, 1.35 * ax.get_ylim()[1]), title=kind)
        ax.set(xlabel="value that the network sees", ylabel="% of pixels")
        words.append(f"{kind}: {pixels.min():.2f} to {pixels.max():.2f}, mean of {', '.join(means)}")
    return drawing(axes, "; ".join(words) + ".")


@styled
def confusion_matrix(report, *, ax: Axes | None = None) -> Drawing:
    """Rows are the true class, columns the predicted one; each cell has its count and its share of the row.

    Of more than two classes, the most frequent mistake is framed.

    Args:
        report: anything with `confusion`, int (classes, classes), and `classes`.
    """
    counts, names = np.asarray(report.confusion), report.classes
    k, n, right = len(names), int(counts.sum()), np.trace(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.62 * k + 2.2, 4.0, 7.0))
    ax = new_axes(size=(min(WIDTH, side * 1.25), side))[0, 0] if ax is None else ax
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
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
    parts = [f"{shown(name)} {counts[i, i]} of {counts[i].sum()}" for i, name in enumerate(names)]
    sentence = f"{right} of {counted(n, 'image')} right ({100 * right / max(n, 1):.0f} %): {', '.join(parts)}"
    wrong, framed = counts - np.diag(np.diag(counts)), ""
    if wrong.any():
        i, j = np.unravel_index(wrong.argmax(), wrong.shape)
        times = "once" if wrong[i, j] == 1 else f"{wrong[i, j]} times"
        sentence += f"; most frequent mistake: {shown(names[i])} predicted as {shown(names[j])}, {times}"
        if k > 2:
            framed = " (framed: the most frequent mistake)"
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc="none", ec=canvas.WRONG, lw=3, clip_on=False))
    ticks = [label(name, 18) for name in names]
    turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if k > 4 or max(map(len, ticks)) > 12 else {}
    ax.set_xticks(range(k), ticks, parse_math=False, **turn)
    ax.set_yticks(range(k), ticks, parse_math=False)
    title = "images, and share of the true class" if with_share else "images; colour: share of the true class"
    ax.set(xlabel=f"predicted class{framed}", ylabel="true class", title=title)
    ax.spines[:].set_visible(False)
    return drawing(ax, f"{sentence}.")


def _interval(ax: Axes, y: float, ends: tuple[float, float], **look) -> None:
    ax.plot(ends, [y, y], lw=2.5, solid_capstyle="butt", **look)


def _row_grid(ax: Axes) -> None:
    ax.grid(axis="x", color="#E4E4E4", lw=0.8)
    ax.set_axisbelow(True)


def _metric_label(metric: str, remark: str) -> str:
    return f"{METRICS[metric]}\n({remark})" if metric in LOWER_IS_BETTER else METRICS[metric]


@styled
def class_results(report) -> Drawing:
    """Recall of each class (a dot with its interval) and precision (an open square).

    Args:
        report: anything with `per_class`, as a report of `evaluate` has.
    """
    table = report.per_class
    ax = new_axes(size=(WIDTH, 1.2 + 0.52 * len(table)))[0, 0]
    handles, words, look = {}, [], {"ls": "", "color": INK, "clip_on": False}
    for row, (name, one) in enumerate(table.items()):
        if not one["n"]:
            ax.text(1.03, row, "not evaluated: no images", va="center", fontsize=10, color=FAINT)
            words.append(f"{shown(name)}: no images")
            continue
        recall, precision, y = one["recall"], one["precision"], row - 0.17
        _interval(ax, y, (recall["low"], recall["high"]), color=INK)
        (dot,) = ax.plot(recall["value"], y, "o", ms=8, mec="white", **look)
        place = np.nan if precision is None else precision
        (square,) = ax.plot(place, row + 0.17, "s", ms=7, mfc="white", mew=2, **look)
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
    first, count = next(iter(reports.values())), len(reports)
    ax = new_axes(size=(WIDTH, 1.3 + len(first.metrics) * (0.42 + 0.2 * (count - 1))))[0, 0]
    handles, words = [], []
    for row, metric in enumerate(first.metrics):
        parts = []
        for index, (name, report) in enumerate(reports.items()):
            value, (colour, marker, _) = report.metrics[metric], canvas.model_look(index, count)
            y = row + 0.72 * ((index + 0.5) / count - 0.5)
            _interval(ax, y, (value.low, value.high), color=colour)
            dot = ax.plot(value.value, y, marker, color=colour, ms=8, mec="white", clip_on=False, zorder=3)
            handles += dot if row == 0 else []
            text = f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
            ax.text(1.03, y, text, va="center", fontsize=10)
            parts.append(f"{shown(name)} {text}".strip())
        words.append(f"{METRICS[metric]}: {', '.join(parts)}")
    if (baseline := first.baseline) is not None:
        for row, metric in enumerate(first.metrics):
            if row == 0 or metric in first.baselines:
                guess = first.baselines.get(metric, baseline)
                ax.plot([guess, guess], [row - 0.45, row + 0.45], color=INK, ls=":", lw=2, clip_on=False)
        side = {"ha": "left", "x": baseline - 0.01} if baseline < 0.35 else {"ha": "center", "x": baseline}
        ax.text(y=-0.5, s="dotted: always the most frequent class", va="bottom", fontsize=9, **side)
        words.append(f"always predicting the most frequent class is right for {baseline:.2f} of the images")
    ax.set_yticks(range(len(first.metrics)), [_metric_label(name, "0 is best") for name in first.metrics])
    ax.set(xlim=(0, 1.0), ylim=(len(first.metrics) - 0.4, -0.75), xlabel="value, with 95 % interval")
    _row_grid(ax)
    if count > 1:
        key(ax, handles, [label(name) for name in reports], above=True, ncols=count)
    return drawing(ax, "; ".join(words) + ".")


@styled
def differences(comparison, *, names: tuple[str, str] = ("first", "second")) -> Drawing:
    """Second minus first for every metric, with its interval; one that holds 0 is not significant.

    Args:
        comparison: of `evaluate.compare`.
        names: of the two models.
    """
    values, words = comparison.differences, []
    ax = new_axes(size=(WIDTH, 1.3 + 0.42 * len(values)))[0, 0]
    for row, (metric, one) in enumerate(values.items()):
        significant = one.low > 0 or one.high < 0
        look = {"color": INK if significant else FAINT}
        _interval(ax, row, (one.low, one.high), **look)
        ax.plot(one.value, row, "D" if significant else "o", ms=8, mfc=INK if significant else "white", mew=2, **look)
        text = f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
        verdict = "significant" if significant else "not significant"
        ax.text(1.03, row, f"{text}\n{verdict}", transform=ax.get_yaxis_transform(), va="center", fontsize=9, **look)
        words.append(f"{METRICS[metric]} {text}, {verdict}")
    ax.axvline(0, color=FAINT, ls=":", lw=1.5)
    ax.set_yticks(range(len(values)), [_metric_label(name, "lower is better") for name in values])
    reach = max(max(abs(one.low), abs(one.high)) for one in values.values()) * 1.1
    first, second = map(label, names)
    ax.set(xlim=(-reach, reach), ylim=(len(values) - 0.4, -0.6))
    ax.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 5, 10)))
    ax.set_xlabel(f"{second} minus {first}, with 95 % interval", parse_math=False)
    _row_grid(ax)
    return drawing(ax, f"{shown(names[1])} minus {shown(names[0])} on {comparison.n} images: {'; '.join(words)}.")
