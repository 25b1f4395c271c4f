"""Diagrams: the pipeline, the three splits, VGG-16 with its head, three ways to a square."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image, ImageOps

from vggnb.figures.canvas import (
    FAINT,
    INK,
    PALE,
    SPLIT_COLOURS,
    WIDTH,
    Drawing,
    drawing,
    empty,
    label,
    new_ax,
    new_axes,
    styled,
)
from vggnb.folders import counted, shown

FROZEN, TRAINED = PALE, "#F0E442"  # weights that training leaves alone, and those that it changes
STEPS = (  # what, detail, page
    ("files", "your images", "page 1"),
    ("census", "usable images,\nsplits", "page 2"),
    ("batches", "square,\n32 at a time", "page 3"),
    ("VGG-16", "frozen: images\nto features", "page 4"),
    ("head", "trained: features\nto classes", "pages 4, 5"),
    ("report", "test images,\nonce", "page 6"),
    ("bundle", "saved model,\npredictions", "pages 7, 8"),
)
USES = {
    "train": "the head learns from these",
    "validation": "decisions: recipe, epochs, threshold",
    "test": "used once, at the end",
}
CENTRED = {"ha": "center", "va": "center"}


def _box(ax: Axes, corner: tuple[float, float], width: float, height: float, colour: str) -> None:
    shape = "round,pad=0,rounding_size=0.06"
    ax.add_patch(FancyBboxPatch(corner, width, height, shape, fc=colour, ec=INK, lw=1.2))


def _arrow(ax: Axes, start: float, end: float, y: float) -> None:
    ax.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})


def _sheet(height: float) -> Axes:
    """Axes without frame, measured in inches."""
    ax = new_ax((WIDTH, height))
    ax.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    return ax


@styled
def pipeline() -> Drawing:
    """The steps of the series, and the page that explains each."""
    ax = _sheet(1.45)
    wide, step = 1.02, WIDTH / len(STEPS)
    for place, (what, detail, page) in enumerate(STEPS):
        left = place * step + (step - wide) / 2
        _box(ax, (left, 0.3), wide, 1.0, {"VGG-16": FROZEN, "head": TRAINED}.get(what, "white"))
        ax.text(left + wide / 2, 1.1, what, fontsize=11, fontweight="bold", **CENTRED)
        ax.text(left + wide / 2, 0.68, detail, fontsize=7.5, linespacing=1.3, **CENTRED)
        ax.text(left + wide / 2, 0.12, page, fontsize=9, color=FAINT, **CENTRED)
        if place:
            _arrow(ax, left - (step - wide), left, 0.8)
    words = "; ".join(f"{what} ({page}): {detail}" for what, detail, page in STEPS).replace("\n", " ")
    return drawing(ax, f"From left to right: {words}.")


@styled
def three_splits(data) -> Drawing:
    """How many images are in each split, and what they are used for.

    Args:
        data: a manifest or a census.
    """
    totals = {split: sum(row.values()) for split, row in data.counts().items() if split in USES and any(row.values())}
    if not totals:
        return empty("The images are not split.")
    ax, parts = _sheet(0.1 + 0.62 * len(totals)), []
    for place, (split, total) in enumerate(totals.items()):
        y, text = 0.62 * (len(totals) - 1 - place) + 0.1, f"{counted(total, 'image')}: {USES[split]}"
        width = max(0.05, 3.6 * total / max(totals.values()))
        ax.add_patch(Rectangle((1.1, y), width, 0.46, fc=SPLIT_COLOURS[split], ec="none"))
        ax.text(1.0, y + 0.23, split, ha="right", va="center", fontsize=11)
        ax.text(1.2 + width, y + 0.23, text, va="center", fontsize=10)
        parts.append(f"{split}, {text}")
    return drawing(ax, f"{'; '.join(parts)}.")


@styled
def vgg16_with_head(base, head, classes: Sequence[str]) -> Drawing:
    """VGG-16's blocks, smaller and with more channels from left to right, and the new head after them.

    Args:
        base: of `model.build_base`.
        head: of `model.build_head`.
        classes: names of the classes.
    """
    sizes = {}
    for layer in base.layers[1:]:
        convolutions, _, channels = sizes.get(layer.name[:6], (-1, 0, 0))
        side = layer.input.shape[1] if convolutions < 0 else sizes[layer.name[:6]][1]
        sizes[layer.name[:6]] = (convolutions + 1, side, max(channels, layer.output.shape[-1]))
    ax = _sheet(3.3)
    first, left, ends, words = next(iter(sizes.values()))[1], 0.8, [], []
    for name, (convolutions, side, channels) in sizes.items():
        height, width = 0.5 + 1.5 * side / first, 0.3 + 0.1 * np.log2(channels / 32)
        ax.add_patch(Rectangle((left, 1.75 - height / 2), width, height, fc=FROZEN, ec=INK, lw=1.2))
        ax.text(left + width / 2, 1.75, f"{convolutions} conv", fontsize=8, rotation=90, **CENTRED)
        text = f"{name[:5]} {name[5:]}\n{side} x {side}\nx {channels}"
        ax.text(left + width / 2, 0.65, text, ha="center", va="top", fontsize=8)
        words.append(f"block {name[5:]}, {convolutions} convolutions, {side} x {side} x {channels}")
        ends.append((left, left + width))
        left += width + 0.3
    units = [(layer.name, layer.output.shape[-1]) for layer in head.layers[1:] if layer.count_params()]
    units = [("features", head.input_shape[-1]), *units]
    for name, number in units:
        _box(ax, (left, 0.95), 0.44, 1.6, TRAINED if name != "features" else FROZEN)
        ax.text(left + 0.22, 1.75, f"{name}\n{number:,}", fontsize=8.5, rotation=90, **CENTRED)
        ends.append((left, left + 0.44))
        left += 0.7
    for (_, start), (end, _) in zip([(0, 0.55), *ends], ends, strict=False):
        _arrow(ax, start, end, 1.75)
    ax.text(0.27, 1.75, "image", fontsize=10, **CENTRED)
    ax.text(left - 0.18, 1.75, "\n".join(label(name, 12) for name in classes[:4]), va="center", fontsize=9)
    ax.text(ends[0][0], 3.1, "grey: VGG-16, frozen", fontsize=10, va="center")
    ax.text(ends[len(sizes)][0] + 0.1, 3.1, "yellow: new head, trained", fontsize=10, va="center")
    parts = ", ".join(f"{name} {number:,}" for name, number in units)
    names = ", ".join(map(shown, classes[:10]))
    return drawing(ax, f"Frozen: {'; '.join(words)}. Then, new: {parts}. Output: probabilities of {names}.")


@styled
def three_squares(image: np.ndarray, *, size: int) -> Drawing:
    """Three ways to make an image square: squash it (as here), cut its middle out, or pad it.

    Args:
        image: uint8 (h, w, 3).
    """
    original, (height, width) = Image.fromarray(image), image.shape[:2]
    made = {
        f"{width} x {height}": original,
        "squash (here)": original.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None),
        "crop": ImageOps.fit(original, (size, size), Image.Resampling.BILINEAR),
        "pad": ImageOps.pad(original, (size, size), Image.Resampling.BILINEAR),
    }
    axes = new_axes(1, 4, size=(WIDTH, 2.3))[0]
    for ax, (name, pixels) in zip(axes, made.items(), strict=True):
        ax.imshow(np.asarray(pixels))
        ax.set_title(name, loc="center")
        ax.set_axis_off()
    text = f"An image of {width} x {height} pixels as a square of {size}: "
    if width == height:
        return drawing(axes, f"{text}it is square already, so all three are the same.", photos=True)
    long, short = max(width, height), min(width, height)
    lost = f"{100 * (1 - short / long):.0f} %"
    text += (
        f"squashed, one side shrinks {long / short:.2f} times as much as the other; cropped, {lost} of it are lost; "
    )
    return drawing(axes, f"{text}padded, {lost} of the square are black.", photos=True)
