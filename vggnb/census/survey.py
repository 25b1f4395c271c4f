"""Every file under the dataset: used or skipped (why), twice, under two classes, leaking; what to look at first.

`census = take_census(dataset)`, then `print(census)`. What is usable becomes a row; `splits` gives each row its split.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vggnb.census.layout import OUTSIDE, read_layout
from vggnb.census.manifest import Row, count_rows, html_counts
from vggnb.census.near_duplicates import Pair, components, find_pairs
from vggnb.census.rules import UNSPLIT
from vggnb.census.scan import scan_files
from vggnb.folders import Skipped, counted, is_named_like_an_image, listed, shown
from vggnb.paths import SPLITS
from vggnb.staging import name_source
from vggnb.storage import VggnbError

DARK, BRIGHT = 20, 250  # mean grey levels of 255
MOST_COLUMNS = 12  # classes that are printed in a column each
SKIPPED_SHOWN = 10  # in a notebook
_FEW = 5  # classes that a warning names one by one
_COPY = "It is in a second copy of the dataset: the same bytes as {}. Nothing to do."
_NO_COPY = (
    "It is in what looks like a second copy of the dataset, but no used file has the same content. "
    "If it is a new image, move it into a class folder."
)


@dataclass(frozen=True, repr=False)
class Census:
    """What a dataset holds. Prints as a table.

    Attributes:
        classes: label -> class name.
        rows: usable images, in order of their paths.
        pairs: every image that is there twice.
        brightness: mean grey level of each row's image, 0 to 255; float32 (n,).
        obstacles: what stands in the way of training; `check_trainable` raises them.
    """

    dataset: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...] = ()
    system_files: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    warnings: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    brightness: np.ndarray = field(default=None, repr=False, compare=False)
    obstacles: tuple[VggnbError, ...] = ()

    @property
    def total_files(self) -> int:
        """Every file under the dataset: used + skipped + system files."""
        return len(self.rows) + len(self.skipped) + len(self.system_files)

    @property
    def leaks(self) -> tuple[Pair, ...]:
        """Pairs in two splits."""
        return tuple(pair for pair in self.pairs if pair.first.split != pair.second.split)

    def leaks_in_order(self) -> list[tuple[Row, Row]]:
        """The rows of each leak, that of the earlier split first."""
        order = (UNSPLIT, *SPLITS)
        return [sorted((pair.first, pair.second), key=lambda row: order.index(row.split)) for pair in self.leaks]

    @property
    def conflicts(self) -> tuple[Pair, ...]:
        """Pairs under two classes."""
        return tuple(pair for pair in self.pairs if pair.first.label != pair.second.label)

    @property
    def duplicates(self) -> dict[str, list[list[str]]]:
        """Groups of paths of the same bytes ('exact') and of images that look the same ('near', with exact copies)."""
        exact = components(pair.paths for pair in self.pairs if pair.kind == "exact")
        near = {path for pair in self.pairs if pair.kind == "near" for path in pair.paths}
        alike = components(pair.paths for pair in self.pairs)
        return {"exact": exact, "near": [group for group in alike if not near.isdisjoint(group)]}

    def counts(self) -> dict[str, dict[str, int]]:
        """Usable images by split and class; only splits that hold any."""
        found = {row.split for row in self.rows}
        return count_rows(self.rows, self.classes, [split for split in (*SPLITS, UNSPLIT) if split in found])

    def check_trainable(self) -> None:
        """Raise all that stands in the way of training on this dataset, in one error.

        Raises:
            VggnbError: no class folders, fewer than two classes, nothing to train on, classes without a usable image.
        """
        problems = [*self.obstacles, *self._lacking()]
        if problems:
            remedies = dict.fromkeys(problem.remedy for problem in problems)
            error = VggnbError(" ".join(problem.what for problem in problems), problems[0].where, " ".join(remedies))
            raise name_source(error, self.dataset)

    def _lacking(self) -> Iterator[VggnbError]:
        """Too few classes, no split to train on, classes without images."""
        counts, where = self.counts(), self.dataset
        pools = [split for split in ("train", UNSPLIT) if split in counts]
        if len(self.classes) < 2 and not self.obstacles:
            what = f"Only {', '.join(map(repr, self.classes))} found; a classifier needs at least 2 classes."
            remedy = "Put each class's images in a folder of its own, at the same depth; in a table, use at least two "
            remedy += "labels."
            yield VggnbError(what, where, remedy)
        elif self.rows and not pools:
            what = f"There is nothing to train on, only {' and '.join(counts)}."
            yield VggnbError(what, where, "Add a train folder with the same class folders.")
        elif len(self.classes) > 1:
            parts = []
            for name in (name for name in self.classes if not any(counts[split][name] for split in pools)):
                reasons = Counter(s.reason.partition(". ")[0] for s in self.skipped if name in s.path.split("/")[:-1])
                why = f" ({reasons.total()} skipped: {max(reasons, key=reasons.get).rstrip('.')})" if reasons else ""
                parts.append(f"{'train/' * (pools == ['train'])}{shown(name)} has 0 usable images{why}")
            if parts:
                more = f" and {len(parts) - 10} more classes" * (len(parts) > 10)
                remedy = "Put images in each class, or remove the class from every split; in a table, correct its "
                remedy += "paths or labels."
                yield VggnbError(f"{'; '.join(parts[:10])}{more}.", where, remedy)

    def to_dict(self) -> dict:
        """The document that `vggnb census --json` prints."""
        return {
            "dataset": str(self.dataset),
            "splits": self.counts(),
            "classes": list(self.classes),
            "total_files": self.total_files,
            "used": len(self.rows),
            "skipped": [{"path": item.path, "reason": item.reason} for item in self.skipped],
            "system_files": len(self.system_files),
            "duplicates": self.duplicates,
            "conflicts": [list(pair.paths) for pair in self.conflicts],
            "leaks": [
                {
                    "paths": list(p.paths),
                    "splits": [p.first.split, p.second.split],
                    "kind": p.kind,
                    "distance": p.distance,
                }
                for p in self.leaks
            ],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        warnings = (f"! {warning}" for warning in self.warnings)
        return "\n".join([*self.sentences, *self._table(), self._files(), *warnings])

    __repr__ = __str__

    def _files(self) -> str:
        used, skipped, system = len(self.rows), len(self.skipped), len(self.system_files)
        return f"{self.total_files} files = {used} used + {skipped} skipped + {system} system files"

    def _table(self) -> list[str]:
        """Images by split and class; where there are many classes, the smallest and the largest of them."""
        many = len(self.classes) > MOST_COLUMNS
        names = ["classes", "smallest", "largest"] if many else [shown(name) for name in self.classes]
        widths = [max(6, len(name)) + 2 for name in (*names, "total")]
        lines = [("", *names, "total")]
        for split, row in self.counts().items():
            cells = (sum(n > 0 for n in row.values()), min(row.values()), max(row.values())) if many else row.values()
            lines.append((split, *cells, sum(row.values())))
        return [
            f"{title:<11}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            for title, *cells in lines
        ]

    def _repr_html_(self) -> str:
        notes = [*self.warnings, *(f"skipped: {item}" for item in self.skipped[:SKIPPED_SHOWN])]
        more = len(self.skipped) - SKIPPED_SHOWN
        notes += [f"and {counted(more, 'more skipped file')}"] * (more > 0)
        title = " ".join([*self.sentences, f"{self._files()}."])
        return html_counts(self.counts(), self.classes, title=title, notes=notes)


def take_census(dataset: Path, *, cache: Path | None = None, progress: bool = True) -> Census:
    """Scan every file under a dataset. Nothing is written there.

    Args:
        dataset: a folder, or a .csv table of path,label[,split][,group].
        cache: a file, made if absent; with it, a second census opens only the files that changed.

    Raises:
        VggnbError: see `read_layout`; one bad file raises nothing.
    """
    layout = read_layout(dataset)
    paths = [entry.path for entry in layout.entries]
    scans = scan_files(layout.dataset, [*paths, *layout.copies], cache=cache, progress=progress)
    scanned = list(zip(layout.entries, scans, strict=False))
    good = [(entry, scan) for entry, scan in scanned if not scan.reason]
    bad = [Skipped(entry.path, scan.reason) for entry, scan in scanned if scan.reason]
    first = {scan.sha256: entry.path for entry, scan in scanned if scan.sha256}
    copies = [
        Skipped(path, _COPY.format(shown(first[scan.sha256])) if scan.sha256 in first else _NO_COPY)
        for path, scan in zip(layout.copies, scans[len(paths) :], strict=True)
    ]
    obstacles = list(layout.obstacles)
    new = [item.path for item in copies if item.reason == _NO_COPY and is_named_like_an_image(item.path)]
    if len(new) > len(copies) / 2:
        top = shown(new[0].split("/")[0])
        what = f"{top}/ looks like a second copy of the dataset, but {len(new)} of its {len(copies)} files are new."
        remedy = "Merge its folders into the others, or move it out of the dataset. If it is a class, rename the "
        remedy += "folders in it."
        obstacles.append(VggnbError(what, layout.dataset, remedy))
    labels = {name: label for label, name in enumerate(layout.classes)}
    rows = tuple(
        Row(
            entry.path, scan.sha256, scan.width, scan.height, scan.format, entry.class_name,
            labels[entry.class_name], entry.split, entry.group, scan.notes,
        )
        for entry, scan in good
    )  # fmt: skip
    census = Census(
        dataset=layout.dataset,
        classes=layout.classes,
        rows=rows,
        skipped=tuple(sorted([*layout.strays, *bad, *copies], key=lambda item: item.path)),
        system_files=layout.system_files,
        pairs=find_pairs(rows, {scan.sha256: bytes.fromhex(scan.hash) for _, scan in good if scan.hash}),
        sentences=layout.sentences,
        brightness=np.array([scan.brightness for _, scan in good], np.float32),
        obstacles=tuple(obstacles),
    )
    problems = [obstacle.what for obstacle in obstacles]
    return replace(census, warnings=(*problems, *layout.warnings, *_warnings(census)))


def _warnings(census: Census) -> Iterator[str]:
    """What to look at before training, the worst first."""
    for kind in (_copied_splits, _pairs, _copied_classes, _sizes, _looks):
        yield from kind(census)


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


def _pairs(census: Census) -> Iterator[str]:
    """How many pairs there are of each kind."""
    if n := len(census.leaks):
        yield f"Leak: {counted(n, 'pair')} of images in two splits; the score will be too good."
    if n := len(census.conflicts):
        yield f"Conflict: {counted(n, 'pair')} of images under two classes; a label is wrong."
    if n := len(set(census.pairs) - set(census.leaks) - set(census.conflicts)):
        yield f"Duplicates: {counted(n, 'pair')} of images in one class of one split."
    spread = defaultdict(set)
    for row in census.rows:
        spread[row.group].add(row.split)
    if torn := [group for group, splits in spread.items() if group and len(splits) > 1]:
        yield f"Leak: {counted(len(torn), 'group')} in more than one split, for example {shown(torn[0])}."


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
            yield f"Imbalance{where}: {words}; --class-weights gives each the same total weight."


def _looks(census: Census) -> Iterator[str]:
    """How many images look odd or are left out."""
    enough, rows, skipped = max(3, 0.1 * len(census.rows)), census.rows, census.skipped
    dark, bright = int((census.brightness < DARK).sum()), int((census.brightness > BRIGHT).sum())
    flat = sum("too plain" in row.notes for row in rows)
    odd = sum("tiny (" in row.notes or "extreme shape (" in row.notes for row in rows)
    new = sum(item.reason == _NO_COPY for item in skipped)
    loose = sum(item.reason == OUTSIDE and is_named_like_an_image(item.path) for item in skipped)
    masks = sum(row.path.rpartition(".")[0].casefold().endswith(("_mask", "_segmentation")) for row in rows)
    for n, least, noun, text in (
        (dark, enough, "image", f"Very dark: {{}} with a mean below {DARK} of 255. See whether a viewer shows more."),
        (bright, enough, "image", f"Very bright: {{}} with a mean above {BRIGHT} of 255."),
        (flat, enough, "image", "Almost without contrast: {}. See whether they are what you expect."),
        (odd, 1, "image", "Tiny or of extreme shape: {}; resizing will distort."),
        (new, 1, "file", "Second copy: {} in it whose content matches no used file; skipped."),
        (loose, 1, "image", "Outside the class folders: {}, not used."),
        (masks, 1, "file", "Named like masks: {}, used as images. Move them out if they are masks."),
    ):
        if n >= least:
            yield text.format(counted(n, noun))
