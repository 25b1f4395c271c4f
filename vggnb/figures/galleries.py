"""Figures made of many images: contact sheet, duplicates, batches, predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vggnb.figures.canvas import FAINT, INK, PALE, WIDTH, WRONG, Drawing, drawing, empty, label, new_axes, styled
from vggnb.folders import counted, shown
from vggnb.images import read_image
from vggnb.storage import VggnbError

THUMBNAIL = 200  # pixels of a tile's longer side
LARGEST_TILE = 2.0  # inches
LINE = 0.155  # inches of a line of caption
MOST_GROUPS = 12
MOST_PAIRS = 6
MOST_BARS, MOST_IMAGES = 8, 4  # classes with a bar, and images with bars
NOTHING = "There are no images to show."


@dataclass(frozen=True)
class Tile:
    """An image with a caption of one or more lines; `right` puts a tick or a cross on it."""

    pixels: np.ndarray | None
    caption: str = ""
    right: bool | None = None

    @property
    def sides(self) -> tuple[float, float]:
        """Height and width, the longer of them 1."""
        height, width = (3, 4) if self.pixels is None else self.pixels.shape[:2]
        return height / max(height, width), width / max(height, width)


def draw_tiles(rows: Sequence[Sequence[Tile]], *, names: Sequence[str] = (), pairs: Sequence[str] = ()) -> Axes:
    """Lay tiles out in rows.

    Args:
        names: what stands at the left of each row.
        pairs: what stands above every two tiles, which get a frame.
    """
    tiles = [tile for row in rows for tile in row]
    margin, head = 1.3 if names else 0.1 if pairs else 0.04, 0.3 if pairs else 0.0  # inches
    columns = max(map(len, rows))
    places = [1.06 * column + 0.15 * (column // 2) * bool(pairs) for column in range(columns)]
    inch = min(LARGEST_TILE, (WIDTH - margin - 0.04) / (places[-1] + 1.06))
    lines = max(tile.caption.count("\n") + 1 for tile in tiles)
    tall = max(tile.sides[0] for tile in tiles)  # of the tallest image: landscapes need less room
    step = tall + 0.06 + (lines * LINE + 0.08 + 1.4 * head) / inch
    figure = Figure(figsize=(WIDTH, len(rows) * step * inch + 0.05), dpi=110)
    ax, above = figure.add_axes((0, 0, 1, 1)), iter(pairs)
    for i, row in enumerate(rows):
        top = i * step + head / inch
        if names:
            ax.text(0.02 - margin / inch, top + tall / 2, names[i], va="center", fontsize=10)
        for column, (place, tile) in enumerate(zip(places, row, strict=False)):
            _draw_tile(ax, tile, place, top, tall)
            if pairs and not column % 2:
                box = (place - 0.03, i * step), 2.12, step - 0.3 * head / inch
                ax.add_patch(Rectangle(*box, fc="none", ec=FAINT, lw=1))
                ax.text(place, top - 0.06 / inch, next(above), fontsize=10, va="bottom", fontweight="bold")
    ax.set(xlim=(-margin / inch, (WIDTH - margin) / inch), ylim=(len(rows) * step, -0.05 / inch), aspect="equal")
    ax.set_axis_off()
    return ax


def _draw_tile(ax: Axes, tile: Tile, x: float, y: float, tall: float) -> None:
    """One image in the middle of the box at (x, y), 1 wide and `tall` high; its shape is kept."""
    height, width = tile.sides
    left, top = x + (1 - width) / 2, y + (tall - height) / 2
    if tile.pixels is None:
        ax.add_patch(Rectangle((left, top), width, height, fc="#EEEEEE", ec="#CCCCCC", hatch="//"))
        box = {"boxstyle": "round", "fc": "white", "ec": "none"}
        ax.text(x + 0.5, y + tall / 2, "cannot\nbe read", ha="center", va="center", fontsize=9, bbox=box)
    else:
        ax.imshow(tile.pixels, extent=(left, left + width, top + height, top), aspect="auto")
    if tile.right is not None:
        colour = FAINT if tile.right else WRONG
        ax.add_patch(Rectangle((left, top), width, height, fc="none", ec=colour, lw=1.5 if tile.right else 4))
        box = {"boxstyle": "round,pad=0.2", "fc": colour, "ec": "none"}
        mark = "✓ right" if tile.right else "✗ wrong"
        ax.text(left + 0.04, top + 0.05, mark, color="white", fontsize=9, va="top", bbox=box)
    ax.text(x + 0.5, y + tall + 0.04, tile.caption, ha="center", va="top", fontsize=8, linespacing=1.15)


def _thumbnail(read: Callable[[], np.ndarray]) -> np.ndarray | None:
    """A small copy of an image, its shape kept, uint8; None if it cannot be read."""
    try:
        image = Image.fromarray(np.asarray(read()))
    except (VggnbError, OSError):
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def _tile(file: Path, *lines: str, right: bool | None = None, limit: int = 20) -> Tile:
    """The image in a file with its name and these lines under it."""
    return Tile(_thumbnail(lambda: read_image(file)), "\n".join([label(file.name, limit), *lines]), right)


def _gallery(tiles: list[Tile], columns: int, sentence: str, **layout) -> Drawing:
    rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    return drawing(draw_tiles(rows, **layout), sentence, photos=True)


@styled
def contact_sheet(data, *, examples: int = 6) -> Drawing:
    """Some images of each class in each split, spread evenly over the list of names.

    Args:
        data: a census or a manifest.
    """
    groups, order = {}, [*data.counts()]
    for row in sorted(data.rows, key=lambda row: (order.index(row.split), row.label)):
        groups.setdefault((row.split, row.class_name), []).append(row)
    if not groups:
        return empty(NOTHING)
    rows, names, words = [], [], []
    for (split, kind), members in list(groups.items())[:MOST_GROUPS]:
        chosen = np.unique(np.linspace(0, len(members) - 1, min(examples, len(members))).round().astype(int))
        some = [members[k] for k in chosen]
        rows.append([_tile(data.dataset / row.path, limit=15) for row in some])
        names.append(f"{split}\n{label(kind, 16)}\n{counted(len(members), 'image')}")
        words.append(f"{split}/{shown(kind)} {len(some)} of {len(members)}")
    more = f"; {len(groups) - len(rows)} more groups are not drawn" if len(groups) > len(rows) else ""
    return drawing(draw_tiles(rows, names=names), f"Examples of images: {', '.join(words)}{more}.", photos=True)


@styled
def images(data, rows: Sequence) -> Drawing:
    """The images of these rows of a census or a manifest, with name and class."""
    if not rows:
        return empty(NOTHING)
    tiles = [_tile(data.dataset / row.path, row.split, label(row.class_name, 18)) for row in rows]
    text = f"{counted(len(rows), 'image')}: {', '.join(shown(row.path) for row in rows)}."
    return _gallery(tiles, 6, text)


@styled
def duplicate_pairs(census) -> Drawing:
    """Duplicates and near-duplicates side by side: leaks (in two splits) first, then conflicts (under two classes).

    Args:
        census: anything with `pairs` (first, second, kind, distance) and `dataset`.
    """
    found = []
    for pair in census.pairs:
        leak, conflict = pair.first.split != pair.second.split, pair.first.class_name != pair.second.class_name
        kind = "duplicate" if pair.kind == "exact" else f"near-duplicate ({pair.distance} bits)"
        flags = ", ".join([*["leak"] * leak, *["conflict"] * conflict, kind])
        found.append((not leak, not conflict, pair.distance, len(found), flags, (pair.first, pair.second)))
    if not found:
        return empty(f"There are no duplicates among {counted(len(census.rows), 'image')}.")
    tiles, above, words = [], [], []
    for number, (*_, flags, both) in enumerate(sorted(found)[:MOST_PAIRS], 1):
        above.append(f"{number}. {flags}")
        tiles += [_tile(census.dataset / row.path, f"{row.split}/{label(row.class_name, 14)}") for row in both]
        words.append(f"{' and '.join(shown(row.path) for row in both)} ({flags})")
    text = f"{len(words)} of {counted(len(found), 'pair')}: {'; '.join(words)}."
    return _gallery(tiles, 4, text, pairs=above)


@styled
def batch_grid(images, labels, classes: Sequence[str], *, most: int = 32) -> Drawing:
    """A batch as the generator returns it.

    Args:
        images: (b, h, w, 3), 0 to 255 or 0 to 1.
        labels: int (b,), or one-hot (b, classes).
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if not len(images):
        return empty(NOTHING)
    labels = labels.argmax(axis=1) if labels.ndim == 2 else labels.astype(int)
    pixels = np.clip(images * (255 if images.max() <= 1 else 1), 0, 255).round().astype(np.uint8)
    pairs = list(zip(pixels, labels, strict=True))[:most]
    tiles = [Tile(_thumbnail(lambda one=one: one), label(classes[k], 14)) for one, k in pairs]
    number = ", ".join(f"{shown(name)} {(labels == k).sum()}" for k, name in enumerate(classes))
    span = f"{images.shape[2]} x {images.shape[1]} pixels, values {images.min():.3g} to {images.max():.3g}"
    return _gallery(tiles, 8, f"{counted(len(labels), 'image')} of {span}: {number}.")


@styled
def prediction_gallery(predictions, data, *, most: int = 12) -> Drawing:
    """Labelled images with their predictions: the most confident mistakes, then the least confident of the others.

    Args:
        predictions: of `evaluate.predict_split`.
        data: the manifest (its classes, and its dataset for reading).
    """
    classes = data.classes
    if not len(predictions.labels):
        return empty(NOTHING)
    predicted, confidence = predictions.probabilities.argmax(axis=1), predictions.probabilities.max(axis=1)
    right = predicted == predictions.labels
    order = np.lexsort((np.where(right, confidence, -confidence), right))
    wrong = order[: (~right).sum()]
    order = [*wrong[: max(most // 2, most - right.sum())], *order[len(wrong) :]][:most]
    tiles = []
    for k in order:
        truth = f"true: {label(classes[predictions.labels[k]], 16)}"
        answer = f"predicted: {label(classes[predicted[k]], 12)} {confidence[k]:.2f}"
        tiles.append(_tile(data.dataset / predictions.paths[k], truth, answer, right=bool(right[k])))
    text = f"{counted(len(wrong), 'mistake')} among {counted(len(right), 'image')}"
    text += "; the most confident: " * bool(len(wrong)) + ", ".join(
        f"{shown(predictions.paths[k])} (predicted {shown(classes[predicted[k]])} {confidence[k]:.2f})"
        for k in wrong[:3]
    )
    return _gallery(tiles, 4, f"{text}.")


@styled
def predictions(predictions, *, most: int = 12) -> Drawing:
    """Images without labels, with their predictions; for those that could not be read, the reason.

    Args:
        predictions: of `predict.predict_files`.
    """
    if not predictions:
        return empty(NOTHING)
    tiles, words = [], []
    for one in predictions:
        text = "no prediction" if one.error else f"{label(one.class_name, 14)} {one.probability:.2f}"
        warning = "(out-of-distribution)" if getattr(one, "out_of_distribution", None) else ""
        if len(tiles) < most:
            tiles.append(_tile(Path(one.path), text, *[warning] * bool(warning)))
        answer = one.error or f"{shown(one.class_name)} {one.probability:.2f} {warning}".rstrip()
        words.append(f"{shown(PurePosixPath(one.path).name)}: {answer}")
    return _gallery(tiles, 4, "; ".join(words).rstrip(".") + ".")


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
        pixels = _thumbnail(lambda one=one: read_image(one.path))
        if pixels is not None:
            above.imshow(pixels, extent=(0, pixels.shape[1] / pixels.shape[0], 1, 0))
        above.set_title(label(PurePosixPath(one.path).name, 20), fontsize=10, loc="center")
        for row, name in enumerate(names):  # the predicted class has a dark bar, the true one is named
            p, true = one.probabilities.get(name, 0.0), name == truth.get(one.path)
            below.barh(row, p, 0.72, color=INK if name == one.class_name else PALE)
            text, weight = (f"{p:.2f} true", "bold") if true else (f"{p:.2f}", "normal")
            below.text(p + 0.03, row, text, va="center", fontsize=9, fontweight=weight)
        below.set(xlim=(0, 1.75), ylim=(len(names) - 0.5, -0.5), xticks=[])
        below.spines[["bottom"]].set_visible(False)
        below.tick_params(left=False)
        ranked = ", ".join(f"{shown(name)} {p:.2f}" for name, p in list(one.probabilities.items())[:3])
        known = f" (true: {shown(truth[one.path])})" if one.path in truth else ""
        words.append(f"{shown(PurePosixPath(one.path).name)}{known}: {ranked}")
    axes[1, 0].set_yticks(range(len(names)), [label(name, 16) for name in names])
    for ax in axes[0]:
        ax.set_axis_off()
    more = " and less for the others" if len(highest) > 3 else ""
    return drawing([*axes.flat], "; ".join(words) + f"{more}.", photos=True)
