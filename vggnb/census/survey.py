"""Every file under the dataset: used or skipped (why), twice, under two classes, leaking.

`census = take_census(dataset)`, then `print(census)`. What is usable becomes a row; `splits` gives each row its split.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vggnb.census.entries import UNSPLIT
from vggnb.census.layout import read_layout
from vggnb.census.rows import Pair, Row, components, find_pairs
from vggnb.census.scan import scan_files
from vggnb.census.warn import NO_COPY, warnings_of
from vggnb.folders import Skipped, counted, html_table, is_named_like_an_image, shown
from vggnb.paths import SPLITS
from vggnb.staging import name_source
from vggnb.storage import VggnbError

MOST_COLUMNS = 12  # classes that are printed in a column each
SKIPPED_SHOWN = 10  # in a notebook
_COPY = "It is in a second copy of the dataset: the same bytes as {}. Nothing to do."


@dataclass(frozen=True, repr=False)
class Census:
    """What a dataset holds. Prints as a table.

    Attributes:
        classes: label -> class name.
        rows: usable images, in order of their paths.
        pairs: every image that is there twice.
        brightness: mean grey level of each row's image, 0 to 255; float32 (n,).
        obstacles: what stands in the way of training; `check_trainable` raises the first.
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
        found = Counter((row.split, row.label) for row in self.rows)
        present = [split for split in (*SPLITS, UNSPLIT) if any(key[0] == split for key in found)]
        return {split: {name: found[split, k] for k, name in enumerate(self.classes)} for split in present}

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
            what = f"Only {', '.join(map(repr, self.classes))} found; a classifier needs at least 2 class folders."
            remedy = "Put each class's images in a folder of its own; all class folders must lie at the same depth."
            yield VggnbError(what, where, remedy)
        elif self.rows and not pools:
            what = f"There is nothing to train on, only {' and '.join(counts)}."
            yield VggnbError(what, where, "Add a train folder with the same class folders.")
        elif len(self.classes) > 1:
            parts = []
            for name in (name for name in self.classes if not any(counts[split][name] for split in pools)):
                reasons = Counter(s.reason.partition(". ")[0] for s in self.skipped if name in s.path.split("/")[:-1])
                why = f"{reasons.total()} skipped: {reasons.most_common(1)[0][0].rstrip('.')}" if reasons else ""
                prefix = "train/" * (pools == ["train"])
                parts.append(f"{prefix}{shown(name)} has 0 usable images" + f" ({why})" * bool(why))
            if parts:
                more = f" and {len(parts) - 10} more classes" * (len(parts) > 10)
                remedy = "Put images in each class, or remove the class from every split."
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
                    "paths": list(pair.paths),
                    "splits": [pair.first.split, pair.second.split],
                    "kind": pair.kind,
                    "distance": pair.distance,
                }
                for pair in self.leaks
            ],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        warnings = (f"! {warning}" for warning in self.warnings)
        return "\n".join([*self.sentences, *self._table(), self._files(), *warnings])

    __repr__ = __str__

    def _files(self) -> str:
        """Where every file is accounted for."""
        used, skipped, system = len(self.rows), len(self.skipped), len(self.system_files)
        return f"{self.total_files} files = {used} used + {skipped} skipped + {system} system files"

    def _repr_html_(self) -> str:
        """What a notebook shows: images by class and split, warnings, the first skipped files."""
        counts = self.counts()
        rows = [("total", *(sum(row.values()) for row in counts.values()))]
        rows += [(name, *(row[name] for row in counts.values())) for name in self.classes]
        notes = [*self.warnings, *(f"skipped: {item}" for item in self.skipped[:SKIPPED_SHOWN])]
        more = len(self.skipped) - SKIPPED_SHOWN
        notes += [f"and {counted(more, 'more skipped file')}"] * (more > 0)
        return html_table(("class", *counts), rows, title=" ".join([*self.sentences, f"{self._files()}."]), notes=notes)

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
        Skipped(path, _COPY.format(shown(first[scan.sha256])) if scan.sha256 in first else NO_COPY)
        for path, scan in zip(layout.copies, scans[len(paths) :], strict=True)
    ]
    labels = {name: label for label, name in enumerate(layout.classes)}
    rows = tuple(
        Row(
            entry.path, scan.sha256, scan.width, scan.height, scan.format, entry.class_name,
            labels[entry.class_name], entry.split, entry.group, scan.notes,
        )
        for entry, scan in good
    )  # fmt: skip
    obstacles, others = list(layout.obstacles), [item.path for item in copies if item.reason == NO_COPY]
    others = list(filter(is_named_like_an_image, others))
    if len(others) > len(copies) / 2:
        top = shown(others[0].split("/")[0])
        what = f"{top}/ looks like a second copy of the dataset, but {len(others)} of its {len(copies)} files are new."
        remedy = "Merge its folders into the others, rename them if it is a class, or move it out of the dataset."
        obstacles.append(VggnbError(what, layout.dataset, remedy))
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
    return replace(census, warnings=(*problems, *layout.warnings, *warnings_of(census)))
