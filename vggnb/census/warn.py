"""What to look at before training, the worst first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vggnb.census.entries import UNSPLIT, listed
from vggnb.census.layout import OUTSIDE
from vggnb.census.rows import components
from vggnb.folders import counted, is_named_like_an_image, shown

if TYPE_CHECKING:
    from vggnb.census.survey import Census

DARK, BRIGHT = 20, 250  # mean grey levels of 255
NO_COPY = (
    "It is in what looks like a second copy of the dataset, yet no used file has these bytes. Move it if it is new."
)
Number = tuple[int, float, str, str]  # how many; from how many on it is a warning; a noun; the sentence
_FEW = 5  # classes that are named one by one


def warnings_of(census: Census) -> Iterator[str]:
    """The warnings of a census."""
    yield from _copied_splits(census)
    yield from _enough(_pairs(census))
    yield from _copied_classes(census)
    yield from _sizes(census)
    yield from _enough(_looks(census))


def _enough(numbers: list[Number]) -> Iterator[str]:
    """A sentence for each number that is large enough."""
    return (text.format(counted(n, noun)) for n, least, noun, text in numbers if n >= least)


def _copied_splits(census: Census) -> Iterator[str]:
    """Splits of which most images are in an earlier split too."""
    again: dict[tuple[str, str], set[str]] = defaultdict(set)
    for first, last in census.leaks_in_order():
        again[last.split, first.split].add(last.path)
    for (split, earlier), paths in sorted(again.items()):
        total = sum(row.split == split for row in census.rows)
        if len(paths) == total:
            yield f"{split} is a copy of {earlier}: all its {total} images are there too. Its scores mean nothing."
        elif len(paths) > total / 2:
            yield f"{split} is mostly a copy of {earlier}: {len(paths)} of its {total} images are there too."


def _pairs(census: Census) -> list[Number]:
    """How many pairs there are of each kind."""
    spread = defaultdict(set)
    for row in census.rows:
        spread[row.group].add(row.split)
    torn = [group for group, splits in spread.items() if group and len(splits) > 1]
    within = len(set(census.pairs) - set(census.leaks) - set(census.conflicts))
    example = shown(next(iter(torn), "")).replace("{", "{{").replace("}", "}}")
    return [
        (len(census.leaks), 1, "pair", "Leak: {} of images in two splits; the score will be too good."),
        (len(census.conflicts), 1, "pair", "Conflict: {} of images under two classes; a label is wrong."),
        (within, 1, "pair", "Duplicates: {} of images in one class of one split."),
        (len(torn), 1, "group", f"Leak: {{}} in more than one split, for example {example}."),
    ]


def _copied_classes(census: Census) -> Iterator[str]:
    """Few different images; classes that are one image, or that are in other classes too."""
    groups = components(pair.paths for pair in census.pairs)
    distinct = len(census.rows) - sum(len(group) - 1 for group in groups)
    if 0 < 2 * distinct <= len(census.rows):
        yield f"Only {distinct} of {len(census.rows)} images are different; the others are copies or near-duplicates."
    number = {path: k for k, group in enumerate(groups) for path in group}
    conflicting = {path for pair in census.conflicts for path in pair.paths}
    members = defaultdict(list)
    for row in census.rows:
        members[("" if row.split == UNSPLIT else f"{row.split}/") + row.class_name].append(row.path)
    different = {name: len({number.get(path, path) for path in paths}) for name, paths in members.items()}
    if same := [name for name, paths in members.items() if len(paths) > 2 and different[name] == 1]:
        yield f"Identical: all images of {listed(same, _FEW)} are one image."
    if twice := [name for name, paths in members.items() if conflicting.issuperset(paths)]:
        yield f"All images of {listed(twice, _FEW)} are in other classes, too."


def _sizes(census: Census) -> Iterator[str]:
    for split, row in census.counts().items():
        small = {name: n for name, n in row.items() if n < 2}
        if len(small) <= _FEW:
            inside = "" if split == UNSPLIT else f"{split}/"
            yield from (f"{inside}{shown(name)} has {counted(n, 'usable image')}." for name, n in small.items())
        else:
            yield f"{len(small)} classes have fewer than 2 usable images in {split}: {listed(small, _FEW)}."
        few, many = min(row, key=row.get), max(row, key=row.get)
        if split != "test" and row[many] > 3 * row[few] > 0:
            words = f"{row[many]} of {shown(many)}, {row[few]} of {shown(few)}"
            where = "" if split == UNSPLIT else f" in {split}"
            yield f"Imbalance{where}: {words}; --class-weights lets each class count the same."


def _looks(census: Census) -> list[Number]:
    """How many images look odd or are left out."""
    enough, rows, skipped = max(3, 0.1 * len(census.rows)), census.rows, census.skipped
    dark, bright = int((census.brightness < DARK).sum()), int((census.brightness > BRIGHT).sum())
    flat = sum("too plain" in row.notes for row in rows)
    tiny = sum("tiny (" in row.notes or "extreme shape (" in row.notes for row in rows)
    loose = sum(item.reason == OUTSIDE and is_named_like_an_image(item.path) for item in skipped)
    masks = sum(row.path.rpartition(".")[0].casefold().endswith(("_mask", "_segmentation")) for row in rows)
    lost = sum(item.reason == NO_COPY for item in skipped)
    dim = f"Very dark: {{}} with a mean below {DARK} of 255. See whether a viewer shows more."
    return [
        (dark, enough, "image", dim),
        (bright, enough, "image", f"Very bright: {{}} with a mean above {BRIGHT} of 255."),
        (flat, enough, "image", "Almost without contrast: {}. See whether they are what you expect."),
        (tiny, 1, "image", "Tiny or of extreme shape: {}; resizing will distort."),
        (lost, 1, "file", "Second copy: {} in it with bytes that no used file has; skipped."),
        (loose, 1, "image", "Outside the class folders: {}, not used."),
        (masks, 1, "file", "Named like masks: {}, used as images. Move them out if they are masks."),
    ]
