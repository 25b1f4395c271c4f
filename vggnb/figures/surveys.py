"""Figures of the data before any model: how big, how bright, and what preprocessing makes of the pixels."""

import numpy as np

from vggnb.figures.canvas import (
    FAINT,
    INK,
    WIDTH,
    Drawing,
    class_colour,
    drawing,
    empty,
    key,
    label,
    new_axes,
    styled,
)
from vggnb.folders import counted, shown

MOST_CLASSES = 24  # drawn; the sentence says how many there are besides
ORDER = {"caffe": "BGR"}  # of the channels after a preprocessing; the others keep RGB
CHANNEL = {"R": ("red", "#CC0000", "-"), "G": ("green", "#00A000", "--"), "B": ("blue", "#0000CC", ":")}


@styled
def sizes_and_brightness(census) -> Drawing:
    """Sizes of the images and brightness by class: a difference in brightness is a shortcut that a model may take.

    Args:
        census: anything with `rows` (width, height, label), `classes` and `brightness`, float (n,), 0 to 255.
    """
    if not census.rows:
        return empty("There is no usable image.")
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
        colour = class_colour(k, len(census.classes))
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
        for place, letter in enumerate(ORDER.get(kind, "RGB")):
            name, colour, line = CHANNEL[letter]
            share, _ = np.histogram(pixels[..., place], edges)
            lines.append(ax.stairs(100 * share / share.sum(), edges, color=colour, ls=line, lw=1.8))
            means.append(f"{name} {pixels[..., place].mean():.2f}")
        ax.axvline(0, color=FAINT, lw=1)
        key(ax, lines, [f"{place + 1}. {text}" for place, text in enumerate(means)], fontsize=9, title="channel, mean")
        ax.set(ylim=(0, 1.35 * ax.get_ylim()[1]), title=kind)
        ax.set(xlabel="value that the network sees", ylabel="% of pixels")
        words.append(f"{kind}: {pixels.min():.2f} to {pixels.max():.2f}, mean of {', '.join(means)}")
    return drawing(axes, "; ".join(words) + ".")
