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
    ("files", "your images", "1"),
    ("census", "usable images,\nsplits", "2"),
    ("batches", "square,\n32 at a time", "3"),
    ("VGG-16", "frozen: images\nto features", "4"),
    ("head", "trained: features\nto classes", "4, 5"),
    ("report", "test images,\nonce", "6"),
    ("bundle", "saved model,\npredictions", "7, 8"),
)
USES = {
    "train": "the head learns from these",
    "validation": "decisions: recipe, epochs, threshold",
    "test": "used once, at the end",
}


def _box(ax: Axes, place: tuple[float, float, float, float], colour: str) -> None:
    """A box with round corners at (left, bottom, width, height)."""
    left, bottom, width, height = place
    ax.add_patch(
        FancyBboxPatch((left, bottom), width, height, "round,pad=0,rounding_size=0.06", fc=colour, ec=INK, lw=1.2)
    )


def _arrow(ax: Axes, start: float, end: float, y: float) -> None:
    ax.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})


def _canvas(width: float, height: float) -> Axes:
    """Axes without frame, measured in inches."""
    ax = new_ax(size=(width, height))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.set_axis_off()
    return ax


def _pages(numbers: str) -> str:
    return f"page{'s' * (',' in numbers)} {numbers}"


@styled
def pipeline() -> Drawing:
    """The steps of the series, and the page that explains each."""
    ax = _canvas(WIDTH, 1.45)
    wide, step = 1.02, WIDTH / len(STEPS)
    for place, (what, detail, page) in enumerate(STEPS):
        left = place * step + (step - wide) / 2
        _box(ax, (left, 0.3, wide, 1.0), {"VGG-16": FROZEN, "head": TRAINED}.get(what, "white"))
        ax.text(left + wide / 2, 1.1, what, ha="center", va="center", fontsize=11, fontweight="bold")
        ax.text(left + wide / 2, 0.68, detail, ha="center", va="center", fontsize=7.5, linespacing=1.3)
        ax.text(left + wide / 2, 0.12, _pages(page), ha="center", va="center", fontsize=9, color=FAINT)
        if place:
            _arrow(ax, left - (step - wide), left, 0.8)
    words = "; ".join(f"{what} ({_pages(page)}): {detail}" for what, detail, page in STEPS).replace("\n", " ")
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
    ax = _canvas(WIDTH, 0.1 + 0.62 * len(totals))
    longest = max(totals.values())
    for place, (split, total) in enumerate(totals.items()):
        y = 0.62 * (len(totals) - 1 - place) + 0.1
        width = max(0.05, 3.6 * total / longest)
        ax.add_patch(Rectangle((1.1, y), width, 0.46, fc=SPLIT_COLOURS[split], ec="none"))
        ax.text(1.0, y + 0.23, split, ha="right", va="center", fontsize=11)
        ax.text(1.2 + width, y + 0.23, f"{counted(total, 'image')}: {USES[split]}", va="center", fontsize=10)
    parts = [f"{split}, {counted(total, 'image')}: {USES[split]}" for split, total in totals.items()]
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
    ax = _canvas(WIDTH, 3.3)
    first, left, ends, words = next(iter(sizes.values()))[1], 0.8, [], []
    for name, (convolutions, side, channels) in sizes.items():
        height, width = 0.5 + 1.5 * side / first, 0.3 + 0.1 * np.log2(channels / 32)
        ax.add_patch(Rectangle((left, 1.75 - height / 2), width, height, fc=FROZEN, ec=INK, lw=1.2))
        ax.text(left + width / 2, 1.75, f"{convolutions} conv", ha="center", va="center", fontsize=8, rotation=90)
        text = f"{name[:5]} {name[5:]}\n{side} x {side}\nx {channels}"
        ax.text(left + width / 2, 0.65, text, ha="center", va="top", fontsize=8)
        words.append(f"block {name[5:]}, {convolutions} convolutions, {side} x {side} x {channels}")
        ends.append((left, left + width))
        left += width + 0.3
    units = [(layer.name, layer.output.shape[-1]) for layer in head.layers[1:] if layer.count_params()]
    units = [("features", head.input_shape[-1]), *units]
    for name, number in units:
        _box(ax, (left, 0.95, 0.44, 1.6), TRAINED if name != "features" else FROZEN)
        ax.text(left + 0.22, 1.75, f"{name}\n{number:,}", ha="center", va="center", fontsize=8.5, rotation=90)
        ends.append((left, left + 0.44))
        left += 0.7
    for (_, start), (end, _) in zip([(0, 0.55), *ends], ends, strict=False):
        _arrow(ax, start, end, 1.75)
    ax.text(0.27, 1.75, "image", ha="center", va="center", fontsize=10)
    ax.text(left - 0.18, 1.75, "\n".join(label(name, 12) for name in classes[:4]), va="center", fontsize=9)
    ax.text(ends[0][0], 3.1, "grey: VGG-16, frozen", fontsize=10, va="center")
    middle = ends[len(sizes)][0] + 0.1
    ax.text(middle, 3.1, "yellow: new head, trained", fontsize=10, va="center")
    parts = ", ".join(f"{name} {number:,}" for name, number in units)
    names = ", ".join(map(shown, classes[:10]))
    return drawing(ax, f"Frozen: {'; '.join(words)}. Then, new: {parts}. Output: probabilities of {names}.")


@styled
def three_squares(image: np.ndarray, *, size: int) -> Drawing:
    """Three ways to make an image square: squash it (as here), cut its middle out, or pad it.

    Args:
        image: uint8 (h, w, 3).
    """
    original = Image.fromarray(image)
    made = {
        "squash (here)": original.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None),
        "crop": ImageOps.fit(original, (size, size), Image.Resampling.BILINEAR),
        "pad": ImageOps.pad(original, (size, size), Image.Resampling.BILINEAR),
    }
    axes = new_axes(1, 4, size=(WIDTH, 2.3))[0]
    height, width = image.shape[:2]
    for ax, (name, pixels) in zip(axes, {f"{width} x {height}": original, **made}.items(), strict=True):
        ax.imshow(np.asarray(pixels))
        ax.set_title(name, loc="center")
        ax.set_axis_off()
    text = f"An image of {width} x {height} pixels as a square of {size}"
    if width == height:
        return drawing(axes, f"{text}: it is square already, so all three are the same.", photos=True)
    lost, scale = 100 * (1 - min(width, height) / max(width, height)), max(width, height) / min(width, height)
    text += (
        f": squashed, one side shrinks {scale:.2f} times as much as the other; cropped, {lost:.0f} % of it are lost; "
    )
    return drawing(axes, f"{text}padded, {lost:.0f} % of the square are black.", photos=True)
