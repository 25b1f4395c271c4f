"""Every file under the dataset, judged: used, skipped (why), twice, under two classes, leaking.

    census = take_census(dataset)
    print(census)
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vggnb.folders import Skipped, is_named_like_a_picture, shown
from vggnb.layout import SPLITS, UNSPLIT, Layout, read_layout
from vggnb.rows import Pair, Row, find_pairs, tied_together
from vggnb.storage import VggnbError
from vggnb.tables import read_table
from vggnb.verdicts import Verdict, VerdictCache, judge_files


@dataclass(frozen=True)
class Profile:
    """What the pictures of one class in one split look like; every array has one number for each picture.

    Attributes:
        brightness: mean grey level, 0 to 255.
        sharpness: standard deviation of the Laplacian, in grey levels.
    """

    split: str
    class_name: str
    widths: np.ndarray
    heights: np.ndarray
    brightness: np.ndarray
    sharpness: np.ndarray

    @property
    def aspects(self) -> np.ndarray:
        """Width over height."""
        return self.widths / self.heights

    def __str__(self) -> str:
        medians = [float(np.median(v)) for v in (self.widths, self.heights, self.brightness, self.sharpness)]
        width, height, brightness, sharpness = medians
        return (
            f"{self.split:<11}{shown(self.class_name)}: {len(self.widths)} images, median {width:.0f} x {height:.0f}, "
            f"brightness {brightness:.0f}, sharpness {sharpness:.1f}"
        )


@dataclass(frozen=True)
class Census:
    """What a dataset holds. Prints as a table.

    Attributes:
        classes: label -> class name.
        rows: usable images, in order of their paths.
        pairs: every image that is there twice.
        brightness: float32 (n,), aligned with the rows, as is `sharpness`; see `Profile`.
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
    sharpness: np.ndarray = field(default=None, repr=False, compare=False)
    obstacles: tuple[VggnbError, ...] = ()

    @property
    def total_files(self) -> int:
        """Every file under the dataset: used + skipped + system files."""
        return len(self.rows) + len(self.skipped) + len(self.system_files)

    @property
    def leaks(self) -> tuple[Pair, ...]:
        """Pairs that lie in two splits."""
        return tuple(pair for pair in self.pairs if pair.first.split != pair.second.split)

    @property
    def conflicts(self) -> tuple[Pair, ...]:
        """Pairs that lie under two classes."""
        return tuple(pair for pair in self.pairs if pair.first.label != pair.second.label)

    @property
    def duplicates(self) -> dict[str, list[list[str]]]:
        """Paths of the same bytes ('exact'), and of pictures that look the same ('near', with their exact copies)."""
        exact = tied_together(pair.paths for pair in self.pairs if pair.kind == "exact")
        near = {path for pair in self.pairs if pair.kind == "near" for path in pair.paths}
        alike = tied_together(pair.paths for pair in self.pairs)
        return {"exact": exact, "near": [group for group in alike if not near.isdisjoint(group)]}

    def counts(self) -> dict[str, dict[str, int]]:
        """split -> class -> usable images; the splits that hold any."""
        found = Counter((row.split, row.label) for row in self.rows)
        present = [split for split in (*SPLITS, UNSPLIT) if any(key[0] == split for key in found)]
        return {split: {name: found[split, k] for k, name in enumerate(self.classes)} for split in present}

    def profiles(self) -> list[Profile]:
        """The look of each class in each split, without those that are empty."""
        if not self.rows:
            return []
        splits, labels = np.array([row.split for row in self.rows]), np.array([row.label for row in self.rows])
        sides = np.array([(row.width, row.height) for row in self.rows])
        profiles = []
        for split, counts in self.counts().items():
            for label, name in enumerate(self.classes):
                if counts[name]:
                    at = (splits == split) & (labels == label)
                    profiles.append(Profile(split, name, *sides[at].T, self.brightness[at], self.sharpness[at]))
        return profiles

    def check_trainable(self) -> None:
        """Raise what stands in the way of training on this dataset.

        Raises:
            VggnbError: no class folders, fewer than two classes, nothing to train on, a class without a usable image.
        """
        for obstacle in self.obstacles:
            raise obstacle
        if len(self.classes) < 2:
            what = f"Only {', '.join(map(repr, self.classes))} found; a classifier needs at least 2 class folders."
            remedy = "Put each class's pictures in a folder of its own; all class folders must lie at the same depth."
            raise VggnbError(what, self.dataset, remedy)
        counts = self.counts()
        pools = [split for split in ("train", UNSPLIT) if split in counts]
        if self.rows and not pools:
            what = f"There is nothing to train on, only {' and '.join(counts)}."
            raise VggnbError(what, self.dataset, "Add a train folder with the same class folders.")
        for name in self.classes:
            if not any(counts[split][name] for split in pools):
                what = f"{'train/' * (pools == ['train'])}{shown(name)} has 0 usable images."
                raise VggnbError(what, self.dataset, "Put pictures in it, or remove the class from every split.")

    def leak_report(self) -> str:
        """What is there twice, in words and with paths."""
        duplicates = self.duplicates
        parts = [f"Same bytes: {len(duplicates['exact'])} groups. Look the same: {len(duplicates['near'])} groups."]
        for title, pairs in (("Under two classes", self.conflicts), ("In two splits", self.leaks)):
            parts += [f"{title}: {len(pairs)} pair{'s' * (len(pairs) != 1)}.", *(f"  {pair}" for pair in pairs)]
        return "\n".join(parts)

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
                {"paths": list(pair.paths), "splits": list(pair.splits), "kind": pair.kind, "distance": pair.distance}
                for pair in self.leaks
            ],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        counts, names = self.counts(), [shown(name) for name in self.classes]
        widths = [max(6, len(name)) + 2 for name in (*names, "total")]

        def line(title: str, *cells: object) -> str:
            return f"{title:<11}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))

        table = [line(split, *row.values(), sum(row.values())) for split, row in counts.items()]
        used, skipped, system = len(self.rows), len(self.skipped), len(self.system_files)
        total = f"{self.total_files} files = {used} used + {skipped} skipped + {system} system files"
        return "\n".join([*self.sentences, line("", *names, "total"), *table, total, *(f"! {w}" for w in self.warnings)])


def take_census(dataset: Path, *, cache: Path | None = None, progress: bool = True, near: bool = True) -> Census:
    """Judge every file under a dataset. Nothing is written there.

    Args:
        dataset: a folder, or a .csv table of path,label[,split][,group].
        cache: an sqlite3 file, made if absent; with it, a second census opens only the files that changed.
        near: look for near duplicates too.

    Raises:
        VggnbError: see `read_layout` and `read_table`; one bad file raises nothing.
    """
    dataset = Path(dataset)
    layout = read_table(dataset) if dataset.suffix.lower() == ".csv" and dataset.is_file() else read_layout(dataset)
    paths = [entry.path for entry in layout.entries]
    with VerdictCache(cache) as kept:
        verdicts = list(judge_files(layout.dataset, [*paths, *layout.copies], kept, progress=progress))
    second = _judge_copies(layout, verdicts)
    good = [(entry, v) for entry, v in zip(layout.entries, verdicts, strict=False) if not v.reason]
    bad = [Skipped(entry.path, v.reason) for entry, v in zip(layout.entries, verdicts, strict=False) if v.reason]
    rows = tuple(_row(entry, verdict, layout.classes) for entry, verdict in good)
    census = Census(
        dataset=layout.dataset,
        classes=layout.classes,
        rows=rows,
        skipped=tuple(sorted([*layout.strays, *bad, *second], key=lambda item: item.path)),
        system_files=layout.system_files,
        pairs=find_pairs(rows, {v.sha256: v.hash for _, v in good if v.hash} if near else {}),
        sentences=layout.sentences,
        brightness=np.array([v.brightness for _, v in good], np.float32),
        sharpness=np.array([v.sharpness for _, v in good], np.float32),
        obstacles=layout.obstacles,
    )
    return census
