"""Figures made of many images: contact sheet, duplicates, batches, predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vggnb.figures.canvas import FAINT, WIDTH, WRONG, Drawing, drawing, empty, label, styled
from vggnb.folders import counted, shown
from vggnb.images import read_image
from vggnb.storage import VggnbError

THUMBNAIL = 200  # pixels of a tile's longer side
LARGEST_TILE = 2.0  # inches
LINE = 0.155  # inches of a line of caption
MOST_GROUPS = 12
MOST_PAIRS = 6
NOTHING = "There is no image to show."


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


def thumbnail(read: Callable[[], np.ndarray]) -> np.ndarray | None:
    """A small copy of an image, its shape kept, uint8; None if it cannot be read."""
    try:
        image = Image.fromarray(np.asarray(read()))
    except (VggnbError, OSError):
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def _tile(file: Path, *lines: str, right: bool | None = None, limit: int = 20) -> Tile:
    """The image in a file with its name and these lines under it."""
    return Tile(thumbnail(lambda: read_image(file)), "\n".join([label(file.name, limit), *lines]), right)


def _wrap(tiles: list[Tile], columns: int) -> list[list[Tile]]:
    return [tiles[at : at + columns] for at in range(0, len(tiles), columns)]


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
    return drawing(draw_tiles(_wrap(tiles, 6)), text, photos=True)


@styled
def duplicate_pairs(census) -> Drawing:
    """Duplicates and near-duplicates side by side: leaks (in two splits) first, then conflicts (under two classes).

    Args:
        census: anything with `pairs` (first, second, kind, distance) and `dataset`.
    """
    pairs = sorted(census.pairs, key=lambda pair: (not _is_leak(pair), not _is_conflict(pair), pair.distance))
    if not pairs:
        return empty(f"There are no duplicates among {counted(len(census.rows), 'image')}.")
    tiles, above, words = [], [], []
    for number, pair in enumerate(pairs[:MOST_PAIRS], 1):
        both = (pair.first, pair.second)
        kind = "duplicate" if pair.kind == "exact" else f"near-duplicate ({pair.distance} bits)"
        flags = [*["leak"] * _is_leak(pair), *["conflict"] * _is_conflict(pair), kind]
        above.append(f"{number}. {', '.join(flags)}")
        tiles += [_tile(census.dataset / row.path, f"{row.split}/{label(row.class_name, 14)}") for row in both]
        words.append(f"{shown(pair.first.path)} and {shown(pair.second.path)} ({', '.join(flags)})")
    text = f"{len(words)} of {counted(len(pairs), 'pair')}: {'; '.join(words)}."
    return drawing(draw_tiles(_wrap(tiles, 4), pairs=above), text, photos=True)


def _is_leak(pair) -> bool:
    """Whether an image is in two splits."""
    return pair.first.split != pair.second.split


def _is_conflict(pair) -> bool:
    """Whether an image has two labels."""
    return pair.first.class_name != pair.second.class_name


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
    tiles = [Tile(thumbnail(lambda one=one: one), label(classes[k], 14)) for one, k in pairs]
    number = ", ".join(f"{shown(name)} {(labels == k).sum()}" for k, name in enumerate(classes))
    span = f"{images.shape[2]} x {images.shape[1]} pixels, values {images.min():.3g} to {images.max():.3g}"
    return drawing(draw_tiles(_wrap(tiles, 8)), f"{counted(len(labels), 'image')} of {span}: {number}.", photos=True)


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
    names = [
        f"{shown(predictions.paths[k])} (predicted {shown(classes[predicted[k]])} {confidence[k]:.2f})"
        for k in wrong[:3]
    ]
    text += f"; the most confident: {', '.join(names)}." if names else "."
    return drawing(draw_tiles(_wrap(tiles, 4)), text, photos=True)


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
    return drawing(draw_tiles(_wrap(tiles, 4)), "; ".join(words).rstrip(".") + ".", photos=True)
