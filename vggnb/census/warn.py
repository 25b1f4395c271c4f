"""What a person should look at before training, the worst first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vggnb.census.entries import UNSPLIT, listed
from vggnb.census.layout import OUTSIDE
from vggnb.census.rows import components
from vggnb.folders import counted, is_named_like_an_image, shown
from vggnb.paths import SPLITS

if TYPE_CHECKING:
    from vggnb.census.survey import Census

DARK, BRIGHT = 20, 250  # mean grey levels of 255
NO_COPY = (
    "It is in what looks like a second copy of the dataset, yet no used file has these bytes. Move it if it is new."
)
_FEW = 5  # classes that are named one by one


def warnings_of(census: Census) -> Iterator[str]:
    """The warnings of a census."""
    yield from _copied_splits(census)
    yield from _pairs(census)
    yield from _copied_classes(census)
    yield from _sizes(census)
    yield from _looks(census)
    yield from _files(census)


def _copied_splits(census: Census) -> Iterator[str]:
    """Splits of which most images are in an earlier split too."""
    order = (UNSPLIT, *SPLITS)
    again: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pair in census.leaks:
        first, last = sorted((pair.first, pair.second), key=lambda row: order.index(row.split))
        again[last.split, first.split].add(last.path)
    for (split, earlier), paths in sorted(again.items()):
        total = sum(row.split == split for row in census.rows)
        if len(paths) == total:
            yield f"{split} is a copy of {earlier}: all its {total} images are there too. Its scores mean nothing."
        elif len(paths) > total / 2:
            yield f"{split} is mostly a copy of {earlier}: {len(paths)} of its {total} images are there too."


def _pairs(census: Census) -> Iterator[str]:
    if census.leaks:
        yield f"Leak: {counted(len(census.leaks), 'pair')} of images in two splits; the score will be too good."
    if census.conflicts:
        yield f"Conflict: {counted(len(census.conflicts), 'pair')} of images under two classes; a label is wrong."
    within = len(set(census.pairs) - set(census.leaks) - set(census.conflicts))
    if within:
        yield f"Duplicates: {counted(within, 'pair')} of images in one class of one split."
    spread = defaultdict(set)
    for row in census.rows:
        spread[row.group].add(row.split)
    torn = [group for group, splits in spread.items() if group and len(splits) > 1]
    if torn:
        yield f"Leak: {counted(len(torn), 'group')} in more than one split, for example {shown(torn[0])}."


def _copied_classes(census: Census) -> Iterator[str]:
    """Few different images; classes that are one image, or that are in other classes too."""
    groups = components(pair.paths for pair in census.pairs)
    distinct = len(census.rows) - sum(len(group) - 1 for group in groups)
    if distinct <= len(census.rows) / 2:
        yield f"Only {distinct} of {len(census.rows)} images are different; the others are copies or near-duplicates."
    number = {path: k for k, group in enumerate(groups) for path in group}
    conflicting = {path for pair in census.conflicts for path in pair.paths}
    members = defaultdict(list)
    for row in census.rows:
        members["" if row.split == UNSPLIT else f"{row.split}/", row.class_name].append(row.path)
    members = {split + name: paths for (split, name), paths in members.items()}
    different = {name: len({number.get(path, path) for path in paths}) for name, paths in members.items()}
    same = [name for name, paths in members.items() if len(paths) > 2 and different[name] == 1]
    twice = [name for name, paths in members.items() if conflicting.issuperset(paths)]
    if same:
        yield f"Identical: all images of {listed(same, _FEW)} are one image."
    if twice:
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


def _looks(census: Census) -> Iterator[str]:
    """Images that are so dark, bright or flat that there is little to learn from."""
    if not census.rows:
        return
    enough = max(3, 0.1 * len(census.rows))
    dark, bright = int((census.brightness < DARK).sum()), int((census.brightness > BRIGHT).sum())
    flat = sum("too plain" in row.notes for row in census.rows)
    if dark >= enough:
        yield f"Very dark: {counted(dark, 'image')} with a mean below {DARK} of 255. See whether a viewer shows more."
    if bright >= enough:
        yield f"Very bright: {counted(bright, 'image')} with a mean above {BRIGHT} of 255."
    if flat >= enough:
        yield f"Almost without contrast: {counted(flat, 'image')}. See whether they are what you expect."
    tiny = sum("tiny (" in row.notes or "extreme shape (" in row.notes for row in census.rows)
    if tiny:
        yield f"Tiny or of extreme shape: {counted(tiny, 'image')}; resizing will distort."


def _files(census: Census) -> Iterator[str]:
    lost = sum(item.reason == NO_COPY for item in census.skipped)
    if lost:
        yield f"Second copy: {counted(lost, 'file')} in it with bytes that no used file has; skipped."
    loose = sum(item.reason == OUTSIDE and is_named_like_an_image(item.path) for item in census.skipped)
    if loose:
        yield f"Outside the class folders: {counted(loose, 'image')}, not used."
    masks = sum(row.path.rpartition(".")[0].casefold().endswith(("_mask", "_segmentation")) for row in census.rows)
    if masks:
        yield f"Named like masks: {counted(masks, 'file')}, used as images. Move them out if they are masks."
