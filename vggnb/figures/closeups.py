"""Figures of single pictures: made small in two ways, what was said about them, and where a model looked."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vggnb.figures.canvas import BLUE, INK, SKY, WIDTH, Drawing, drawing, label, new_row, styled
from vggnb.figures.charts import confusion_matrix
from vggnb.figures.curves import roc_curve
from vggnb.figures.galleries import thumbnail
from vggnb.folders import shown
from vggnb.images import read_image, resize_image

MOST_BARS = 8  # classes with a bar
MOST_PICTURES = 4  # with bars


@styled
def resize_comparison(image: np.ndarray, *, size: int = 96) -> Drawing:
    """One picture made small in the article's way and in ours, enlarged where they differ most.

    Args:
        image: uint8 (h, w, 3), larger than `size`.
    """
    small = {kind: resize_image(image, size, kind) for kind in ("nearest", "bilinear")}
    difference = np.abs(small["nearest"].astype(int) - small["bilinear"].astype(int)).mean(axis=2)
    side = max(8, size // 4)
    sums = np.lib.stride_tricks.sliding_window_view(difference, (side, side)).sum(axis=(2, 3))
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    axes = new_row(3, size=(WIDTH, 2.6))
    for ax, (kind, pixels) in zip(axes, small.items(), strict=False):
        ax.imshow(pixels[y : y + side, x : x + side], interpolation="nearest")
        ax.set_title(kind)
    drawn = axes[2].imshow(difference, cmap="cividis", vmin=0)
    axes[2].add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fc="none", ec="white", lw=2))
    axes[2].set_title("difference; framed: left")
    axes[2].figure.colorbar(drawn, ax=axes[2], shrink=0.8).set_label("levels of 255", fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    text = f"{image.shape[1]} x {image.shape[0]} pixels made {size} x {size}: nearest and bilinear differ by "
    text += f"{difference.mean():.1f} of 255 levels on average and {difference.max():.0f} at most; "
    text += f"{100 * (difference > 10).mean():.0f} % of the pixels differ by more than 10."
    return drawing(axes, text, photos=True)


@styled
def heatmap_overlay(image: np.ndarray, heat) -> Drawing:
    """A picture and, beside it, where a model looked; the line encloses what is at least half as hot as the hottest.

    Args:
        image: uint8 (h, w, 3).
        heat: float (h, w), larger is hotter and below 0 counts as 0; or {name: such a map}.
    """
    maps = heat if isinstance(heat, dict) else {"heat": heat}
    side = WIDTH / max(3, len(maps) + 1)
    axes = new_row(len(maps) + 1, size=(side * (len(maps) + 1), 0.3 + side))
    axes[0].imshow(image)
    size = 12 if len(axes) <= 4 else 10
    limit = int(WIDTH / len(axes) / (0.0088 * size))  # letters above a picture
    axes[0].set_title("picture", fontsize=size)
    grey, words = np.asarray(image).mean(axis=2), []
    for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
        values = np.maximum(np.asarray(values, float), 0)
        hottest = values.max()
        ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
        ax.set_title(label(name, limit), fontsize=size, parse_math=False)
        if not hottest:
            words.append(f"{shown(name)}: no heat anywhere")
            continue
        values = values / hottest
        ax.imshow(values, cmap="cividis", alpha=0.8 * values, vmin=0, vmax=1)
        ax.contour(values, [0.5], colors="white", linewidths=1.5)
        y, x = np.argwhere(values > 0.999).mean(axis=0)
        ax.plot(x, y, "+", color="black", ms=12, mew=2)
        place = f"{100 * x / values.shape[1]:.0f} % from the left, {100 * y / values.shape[0]:.0f} % from the top"
        share = f"{100 * (values >= 0.5).mean():.0f} % of the picture is at least half as hot"
        words.append(f"{shown(name)}: hottest ({hottest:.2f}, +) {place}; {share}")
    for ax in axes:
        ax.set_axis_off()
    return drawing(axes, ". ".join(words) + ".", photos=True)


@styled
def operating_point(report, scored, *, threshold: float) -> Drawing:
    """The confusion matrix at a threshold and, beside it, the threshold's place on the ROC curve.

    Args:
        report: anything with `confusion`, int (2, 2), and `classes`.
        scored: labels (bool) and scores (float) of the images, (n,) each.
    """
    left, right = new_row(2, size=(WIDTH, 4.0))
    parts = [confusion_matrix(report, ax=left)]
    if 0 < np.sum(scored[0]) < len(scored[0]):
        parts.append(roc_curve({"": scored}, threshold=threshold, ax=right))
    else:
        right.set_axis_off()
    return drawing((left, right), " ".join(part.sentence for part in parts))


@styled
def probability_bars(predictions: Sequence, *, truths: Sequence[str] = ()) -> Drawing:
    """Pictures, and under each a bar for every class: what a model of many classes hesitates between.

    Args:
        predictions: what `predict.predict_files` gave; those without an answer are left out.
        truths: the true class of each, where it is known: its bar says so.
    """
    truth = dict(zip((one.path for one in predictions), truths, strict=bool(truths)))
    drawn = [one for one in predictions if not one.error][:MOST_PICTURES]
    highest: dict[str, float] = {}
    for one in drawn:
        highest |= {name: max(p, highest.get(name, 0.0)) for name, p in one.probabilities.items()}
    names = sorted(sorted(highest, key=highest.get)[-MOST_BARS:])
    figure = Figure(figsize=(WIDTH, 2.1 + 0.27 * len(names)), dpi=144, layout="constrained")
    axes = figure.subplots(2, max(1, len(drawn)), squeeze=False, sharey="row", height_ratios=(1.5, 0.27 * len(names)))
    words = []
    for (above, below), one in zip(axes.T, drawn, strict=False):
        pixels = thumbnail(lambda one=one: read_image(one.path))
        if pixels is not None:
            above.imshow(pixels, extent=(0, pixels.shape[1] / pixels.shape[0], 1, 0))
        above.set_title(label(PurePosixPath(one.path).name, 20), fontsize=10, loc="center")
        _bars(below, one, names, truth.get(one.path))
        said = ", ".join(f"{shown(name)} {p:.2f}" for name, p in list(one.probabilities.items())[:3])
        known = f" (it is {shown(truth[one.path])})" if one.path in truth else ""
        words.append(f"{shown(PurePosixPath(one.path).name)}{known}: {said}")
    axes[1, 0].set_yticks(range(len(names)), [label(name, 16) for name in names])
    for ax in axes[0]:
        ax.set_axis_off()
    more = " and less for the others" if len(highest) > 3 else ""
    return drawing([*axes.flat], "; ".join(words) + f"{more}." if words else "No answer to show.", photos=True)


def _bars(ax: Axes, answer, names: Sequence[str], truth: str | None) -> None:
    """One answer's probabilities; which class was said (a dark bar) and which is true stands beside the numbers."""
    for row, name in enumerate(names):
        p = answer.probabilities.get(name, 0.0)
        said, right = name == answer.class_name, name == truth
        ax.barh(row, p, 0.72, color=BLUE if said else SKY)
        text = f"{p:.2f} {', '.join(word for word, so in (('said', said), ('true', right)) if so)}".rstrip()
        ax.text(p + 0.03, row, text, va="center", fontsize=9, color=INK, fontweight="bold" if right else "normal")
    ax.set(xlim=(0, 1.9), ylim=(len(names) - 0.5, -0.5), xticks=[])
    ax.spines[["bottom"]].set_visible(False)
    ax.tick_params(left=False)
