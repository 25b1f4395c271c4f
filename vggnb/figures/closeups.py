"""Figures of single images: two ways to resize, probabilities of many classes, heat maps."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from vggnb.figures.canvas import INK, PALE, WIDTH, Drawing, drawing, empty, label, new_axes, styled
from vggnb.figures.charts import confusion_matrix
from vggnb.figures.curves import score_histogram
from vggnb.figures.galleries import NOTHING, thumbnail
from vggnb.folders import shown
from vggnb.images import read_image, resize_image

MOST_BARS = 8  # classes with a bar
MOST_IMAGES = 4  # with bars


@styled
def resize_comparison(image: np.ndarray, *, size: int = 96) -> Drawing:
    """One image resized in the article's way and in ours, enlarged where they differ most.

    Args:
        image: uint8 (h, w, 3), larger than `size`.
    """
    small = {kind: resize_image(image, size, kind) for kind in ("nearest", "bilinear")}
    difference = np.abs(small["nearest"].astype(int) - small["bilinear"].astype(int)).mean(axis=2)
    side = max(8, size // 4)
    sums = np.lib.stride_tricks.sliding_window_view(difference, (side, side)).sum(axis=(2, 3))
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    axes = new_axes(1, 3, size=(WIDTH, 2.6))[0]
    for ax, (kind, pixels) in zip(axes, small.items(), strict=False):
        ax.imshow(pixels[y : y + side, x : x + side], interpolation="nearest")
        ax.set_title(kind)
    drawn = axes[2].imshow(difference, cmap="cividis", vmin=0)
    axes[2].add_patch(Rectangle((x - 0.5, y - 0.5), side, side, fc="none", ec="white", lw=2))
    axes[2].set_title("difference; framed: left")
    axes[2].figure.colorbar(drawn, ax=axes[2], shrink=0.8).set_label("levels of 255", fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    text = f"{image.shape[1]} x {image.shape[0]} pixels resized to {size} x {size}: nearest and bilinear differ by "
    text += f"{difference.mean():.1f} of 255 levels on average and {difference.max():.0f} at most; "
    text += f"{100 * (difference > 10).mean():.0f} % of the pixels differ by more than 10."
    return drawing(axes, text, photos=True)


@styled
def heatmap_overlay(image: np.ndarray, heat) -> Drawing:
    """An image and, beside it, heat maps; the line encloses what is at least half as hot as the hottest place.

    Args:
        image: uint8 (h, w, 3).
        heat: float (h, w), larger is hotter and below 0 counts as 0; or {name: such a map}.
    """
    maps = heat if isinstance(heat, dict) else {"heat": heat}
    side = (WIDTH - 0.8) / max(3, len(maps) + 1)
    shape = np.shape(image)[0] / np.shape(image)[1]
    size = (side * (len(maps) + 1) + 0.8, 0.4 + side * min(shape, 1.5))
    axes = new_axes(1, len(maps) + 1, size=size)[0]
    axes[0].imshow(image)
    size = 12 if len(axes) <= 4 else 10
    limit = int(WIDTH / len(axes) / (0.0088 * size))  # letters above an image
    axes[0].set_title("image", fontsize=size)
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
        share = f"{100 * (values >= 0.5).mean():.0f} % of the image is at least half as hot"
        words.append(f"{shown(name)}: hottest ({hottest:.2f}, +) {place}; {share}")
    for ax in axes:
        ax.set_axis_off()
    bar = axes[0].figure.colorbar(ScalarMappable(Normalize(0, 1), "cividis"), ax=list(axes), shrink=0.8, pad=0.01)
    bar.set_label("heat (1: hottest)", fontsize=9)
    bar.set_ticks([0, 0.5, 1])
    return drawing(axes, ". ".join(words) + ".", photos=True)


@styled
def operating_point(report, scored, *, threshold: float) -> Drawing:
    """The confusion matrix at a threshold and, beside it, the probabilities of both classes and the threshold.

    Args:
        report: anything with `confusion`, int (2, 2), and `classes`.
        scored: labels (bool) and scores (float) of the images, (n,) each.
    """
    left, right = new_axes(1, 2, size=(WIDTH, 3.6))[0]
    sentence = confusion_matrix(report, ax=left).sentence
    score_histogram(right, *map(np.asarray, scored), threshold, fontsize=9, ncols=2)
    right.set_xlabel("probability of the positive class")
    return drawing((left, right), sentence)


@styled
def probability_bars(predictions: Sequence, *, truths: Sequence[str] = ()) -> Drawing:
    """Images, and under each a bar for every class.

    Args:
        predictions: of `predict.predict_files`; files that could not be read are left out.
        truths: the true class of each, where it is known; its bar is marked.
    """
    truth = dict(zip((one.path for one in predictions), truths, strict=bool(truths)))
    drawn = [one for one in predictions if not one.error][:MOST_IMAGES]
    if not drawn:
        return empty(NOTHING)
    highest: dict[str, float] = {}
    for one in drawn:
        highest |= {name: max(p, highest.get(name, 0.0)) for name, p in one.probabilities.items()}
    names = sorted(sorted(highest, key=highest.get)[-MOST_BARS:])
    heights = (1.5, 0.27 * len(names))
    axes = new_axes(2, len(drawn), size=(WIDTH, 0.6 + sum(heights)), sharey="row", height_ratios=heights)
    words = []
    for (above, below), one in zip(axes.T, drawn, strict=False):
        pixels = thumbnail(lambda one=one: read_image(one.path))
        if pixels is not None:
            above.imshow(pixels, extent=(0, pixels.shape[1] / pixels.shape[0], 1, 0))
        above.set_title(label(PurePosixPath(one.path).name, 20), fontsize=10, loc="center")
        _bars(below, one, names, truth.get(one.path))
        ranked = ", ".join(f"{shown(name)} {p:.2f}" for name, p in list(one.probabilities.items())[:3])
        known = f" (true: {shown(truth[one.path])})" if one.path in truth else ""
        words.append(f"{shown(PurePosixPath(one.path).name)}{known}: {ranked}")
    axes[1, 0].set_yticks(range(len(names)), [label(name, 16) for name in names])
    for ax in axes[0]:
        ax.set_axis_off()
    more = " and less for the others" if len(highest) > 3 else ""
    return drawing([*axes.flat], "; ".join(words) + f"{more}.", photos=True)


def _bars(ax: Axes, answer, names: Sequence[str], truth: str | None) -> None:
    """Probabilities of one image: the predicted class has a dark bar, the true one is named beside its number."""
    for row, name in enumerate(names):
        p = answer.probabilities.get(name, 0.0)
        predicted, true = name == answer.class_name, name == truth
        ax.barh(row, p, 0.72, color=INK if predicted else PALE)
        text = f"{p:.2f} true" if true else f"{p:.2f}"
        ax.text(p + 0.03, row, text, va="center", fontsize=9, fontweight="bold" if true else "normal")
    ax.set(xlim=(0, 1.75), ylim=(len(names) - 0.5, -0.5), xticks=[])
    ax.spines[["bottom"]].set_visible(False)
    ax.tick_params(left=False)
