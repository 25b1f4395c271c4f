"""Diagrams of pipeline, splits and network, and single images: three ways to a square, two to resize, heat maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image, ImageOps

from vggnb.figures import canvas
from vggnb.figures.canvas import FAINT, INK, PALE, WIDTH, Drawing, drawing, empty, label, new_axes, styled
from vggnb.folders import counted, shown
from vggnb.images import resize_image

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
    ax = new_axes(size=(WIDTH, height))[0, 0]
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
        ax.add_patch(Rectangle((1.1, y), width, 0.46, fc=canvas.SPLIT_COLOURS[split], ec="none"))
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
    text += f"squashed, one side shrinks {long / short:.2f} times as much as the other; cropped, {lost} of it is lost; "
    return drawing(axes, f"{text}padded, {lost} of the square is black.", photos=True)


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
