"""What figures share: colours, names that are safe to draw, a drawing that shows itself and states its numbers.

Figures are made without pyplot, so nothing stays open and every front end gets the same pixels. A colour has one
meaning in every figure: a split, a class, a model or a mistake. Colours are Okabe and Ito's (2008) and Paul Tol's,
which colour-blind readers can tell apart, each joined by a second cue (marker, line, hatch, words); maps are white to
blue, and cividis for heat.
"""

import functools
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

from vggnb.folders import shown

INK, FAINT, PALE = "#222222", "#6E6E6E", "#D0D0D0"
SPLIT_COLOURS = {"train": "#0072B2", "validation": "#E69F00", "test": "#009E73"}
NEGATIVE, POSITIVE = "#56B4E9", "#AA3377"  # the first and the second of two classes; of more: FAINT
MODEL_COLOURS = (FAINT, INK, "#882255", "#999933")  # the first is the one to compare with
WRONG = "#D55E00"
LETTERS = 90  # of a printed line, which a notebook would else break in the middle of a word
WIDTH = 8.0  # inches: the width of a notebook's page at 100 pixels an inch
FONT = "DejaVu Sans"  # comes with matplotlib
STYLE = {
    "font.family": FONT, "font.size": 11, "axes.titlesize": 12, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "axes.facecolor": "white",
    "figure.facecolor": "white", "savefig.facecolor": "white", "savefig.dpi": "figure", "savefig.bbox": None,
    "hatch.linewidth": 0.8, "text.usetex": False, "text.color": INK,
    "text.parse_math": False,  # a file may be called cost_$5_and_$6.jpg
}  # fmt: skip
styled = mpl.rc_context(STYLE)  # a decorator: the function draws in this style and leaves the reader's settings alone


@dataclass(frozen=True, repr=False)
class Drawing:
    """A figure and the sentence that states its numbers; the last line of a cell shows both.

    Attributes:
        photos: whether it holds photographs and is shown as JPEG: a tenth of the size of PNG.
    """

    figure: Figure
    axes: tuple[Axes, ...]
    sentence: str
    photos: bool = False

    @property
    def mime(self) -> str:
        """Media type of `image()`."""
        return "image/jpeg" if self.photos else "image/png"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at which it is shown, in pixels."""
        return tuple(round(100 * inches) for inches in self.figure.get_size_inches())

    def image(self) -> bytes:
        """The figure as a file: JPEG for photographs, else PNG of 256 colours, which saves 60 % of its bytes."""
        drawn, data = io.BytesIO(), io.BytesIO()
        with mpl.rc_context(STYLE):
            self.figure.savefig(drawn, format="png", pil_kwargs={"compress_level": 1})
        image = Image.open(drawn).convert("RGB")
        if self.photos:
            image.save(data, "JPEG", quality=80)
        else:
            image.quantize(256, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
        return data.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        about = {self.mime: {"alt": self.sentence, "width": self.size[0], "height": self.size[1]}}
        if self.axes:
            display({self.mime: self.image(), "text/plain": "[figure]"}, raw=True, metadata=about)
        print(textwrap.fill(self.sentence, LETTERS, break_long_words=False, break_on_hyphens=False))

    def __str__(self) -> str:
        return self.sentence

    __repr__ = __str__


def drawing(axes: Axes | Sequence[Axes], sentence: str, *, photos: bool = False) -> Drawing:
    """What a figure function returns."""
    axes = (axes,) if isinstance(axes, Axes) else tuple(axes)
    return Drawing(axes[0].get_figure(root=True), axes, sentence, photos)


def empty(sentence: str) -> Drawing:
    """A figure if there is nothing to draw: only a sentence."""
    ax = Figure(figsize=(WIDTH, 0.5), dpi=144).add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.text(0.01, 0.5, sentence, va="center")
    return Drawing(ax.get_figure(), (), sentence)


def new_axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (WIDTH, 4.0), **options) -> np.ndarray:
    """Axes (rows, columns) of a new figure; at 144 pixels an inch it is sharp on a fine screen too."""
    return Figure(figsize=size, dpi=144, layout="constrained").subplots(rows, columns, squeeze=False, **options)


@functools.cache
def _letters() -> frozenset[int]:
    """The code points that the font can draw."""
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())


def label(name: object, limit: int = 24) -> str:
    """A name as it may stand in a figure.

    Line breaks, direction overrides and letters that the font lacks are escaped; a long name loses its middle.
    """
    letters = (c if ord(c) in _letters() else c.encode("ascii", "backslashreplace").decode() for c in shown(str(name)))
    text = "".join(letters)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def named(data: object) -> dict[str, object]:
    """Data for several things by name; a single thing has no name."""
    return dict(data) if isinstance(data, Mapping) else {"": data}


def key(ax: Axes, handles: Sequence, labels: Sequence[str], *, above: bool = False, **place) -> None:
    """A key whose labels are drawn as they are: also those that begin with '_', which matplotlib would leave out.

    Args:
        above: put it above the axes, where no line can cross it.
    """
    place |= {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0} if above else {}
    legend = ax.legend(handles, ["x"] * len(labels), frameon=False, **place)
    for text, words in zip(legend.get_texts(), labels, strict=True):
        text.set_text(words)


def model_look(index: int, count: int) -> tuple[str, str, str]:
    """Colour, marker and line style of the index-th of `count` models; a single one looks like the second of two."""
    place = (index + (count == 1)) % len(MODEL_COLOURS)
    return MODEL_COLOURS[place], "osD^"[place], ("-", "--", "-.", ":")[index % 4]
