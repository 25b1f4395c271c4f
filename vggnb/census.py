"""Every file under the dataset, judged: used, skipped (why), twice, leaking.

    census = take_census(dataset)
    print(census)
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vggnb import twins
from vggnb.folders import Skipped, shown
from vggnb.layout import SPLITS, UNSPLIT, Layout, read_layout
from vggnb.storage import VggnbError
from vggnb.verdicts import Verdict, judge_files


@dataclass(frozen=True, slots=True)
class Row:
    """One usable image.

    Attributes:
        path: POSIX, relative to the dataset; undecodable bytes as surrogates (`os.fsencode` gives them back).
        width, height: upright pixels.
        label: index of `class_name` in the class list.
        split: 'train', 'validation', 'test' or, before `assign_splits`, 'unsplit'.
        group: rows with the same non-empty group stay in one split.
        notes: remarks, joined by '; '.
    """

    path: str
    sha256: str
    width: int
    height: int
    format: str
    class_name: str
    label: int
    split: str
    group: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same picture twice: equal bytes ('exact', distance 0) or nearly equal hashes ('near', bits that differ)."""

    first: Row
    second: Row
    kind: str
    distance: int

    @property
    def paths(self) -> tuple[str, str]:
        return self.first.path, self.second.path

    @property
    def splits(self) -> tuple[str, str]:
        return self.first.split, self.second.split

    def __str__(self) -> str:
        sides = [f"{shown(row.path)} [{row.split}/{shown(row.class_name)}]" for row in (self.first, self.second)]
        return f"{' = ' if self.kind == 'exact' else ' ~ '}".join(sides) + f" (distance {self.distance})"


@dataclass(frozen=True)
class Census:
    """What a dataset holds. Prints as a table.

    Attributes:
        rows: usable images in order of their paths.
        pairs: every image that is there twice.
        brightness, sharpness: float32 (n,), aligned with the rows; see `verdicts.Verdict`.
    """

    dataset: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    system_files: tuple[str, ...]
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...]
    sentences: tuple[str, ...]
    brightness: np.ndarray = field(repr=False)
    sharpness: np.ndarray = field(repr=False)
    obstacles: tuple[VggnbError, ...] = ()

    @property
    def total_files(self) -> int:
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
    def splits(self) -> tuple[str, ...]:
        """The splits that are there, in order."""
        return tuple(split for split in (*SPLITS, UNSPLIT) if any(row.split == split for row in self.rows))

    def counts(self) -> dict[str, dict[str, int]]:
        """split -> class -> usable images."""
        table = {split: dict.fromkeys(self.classes, 0) for split in self.splits}
        for row in self.rows:
            table[row.split][row.class_name] += 1
        return table

    def check_trainable(self) -> None:
        """Raise what stands in the way of training on this dataset.

        Raises:
            VggnbError: no class folders, fewer than two classes, no train images, a class without any.
        """
        for obstacle in self.obstacles:
            raise obstacle
        if len(self.classes) < 2:
            remedy = "Put each class's pictures in a folder of its own, all at the same depth."
            raise VggnbError(f"Only {list(self.classes)} found; a classifier needs 2 classes.", self.dataset, remedy)
        counts = self.counts()
        source = "train" if "train" in counts else UNSPLIT
        for name in self.classes:
            if not counts.get(source, {}).get(name):
                where = shown(name if source == UNSPLIT else f"train/{name}")
                raise VggnbError(f"{where} has 0 usable images.", self.dataset, "Add pictures, or remove the class.")

    def to_dict(self) -> dict:
        """The document that `vggnb census --json` prints."""
        exact, near = groups(self.pairs, "exact"), groups(self.pairs, "exact", "near")
        near = [group for group in near if group not in exact]
        keys = ("paths", "splits", "kind", "distance")
        return {
            "dataset": str(self.dataset),
            "splits": self.counts(),
            "classes": list(self.classes),
            "total_files": self.total_files,
            "used": len(self.rows),
            "skipped": [{"path": item.path, "reason": item.reason} for item in self.skipped],
            "system_files": len(self.system_files),
            "duplicates": {"exact": exact, "near": near},
            "conflicts": [list(pair.paths) for pair in self.conflicts],
            "leaks": [{key: getattr(pair, key) for key in keys} for pair in self.leaks],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        counts = self.counts()
        width = max([10, *(len(shown(name)) for name in self.classes)])
        head = f"{'':<11}" + "".join(f"{shown(name):>{width + 2}}" for name in self.classes) + f"{'total':>{width + 2}}"
        lines = [*self.sentences, head]
        for split, row in counts.items():
            cells = [*row.values(), sum(row.values())]
            lines.append(f"{split:<11}" + "".join(f"{n:>{width + 2}}" for n in cells))
        used, skipped, system = len(self.rows), len(self.skipped), len(self.system_files)
        lines.append(f"{self.total_files} files = {used} used + {skipped} skipped + {system} system files")
        return "\n".join(lines + [f"! {warning}" for warning in self.warnings])


def groups(pairs: tuple[Pair, ...], *kinds: str) -> list[list[str]]:
    """Paths that pairs of these kinds tie together, each group sorted."""
    root: dict[str, str] = {}

    def top(path: str) -> str:
        root.setdefault(path, path)
        while root[path] != path:
            root[path] = path = root[root[path]]
        return path

    for pair in pairs:
        if pair.kind in kinds:
            first, second = map(top, pair.paths)
            root[max(first, second)] = min(first, second)
    members = defaultdict(list)
    for path in sorted(root):
        members[top(path)].append(path)
    return list(members.values())


def take_census(dataset: Path, *, cache: Path | None = None, progress: bool = True, near: bool = True) -> Census:
    """Judge every file under a dataset. Nothing is written there.

    Args:
        dataset: a folder, or a .csv table of path,label[,split][,group].
        cache: an sqlite3 file, made if absent; with it, a second census opens only the files that changed.
        near: look for near duplicates too.
    """
    layout = read_layout(dataset)
    paths = [entry.path for entry in layout.entries]
    verdicts = list(judge_files(layout.dataset, paths, cache=cache, progress=progress))
    rows, good, skipped = [], [], list(layout.strays)
    for entry, verdict in zip(layout.entries, verdicts, strict=True):
        if verdict.reason:
            skipped.append(Skipped(entry.path, verdict.reason))
            continue
        label, v = layout.classes.index(entry.class_name), verdict
        facts = (v.sha256, v.width, v.height, v.format, entry.class_name, label, entry.split, entry.group, v.notes)
        rows.append(Row(entry.path, *facts))
        good.append(verdict)
    pairs = find_pairs(rows, good, near=near)
    return Census(
        layout.dataset, layout.classes, tuple(rows), tuple(sorted(skipped, key=lambda item: item.path)),
        layout.system_files, pairs, (), layout.sentences,
        np.array([v.brightness for v in good], np.float32), np.array([v.sharpness for v in good], np.float32),
        layout.obstacles,
    )  # fmt: skip


def find_pairs(rows: list[Row], verdicts: list[Verdict], *, near: bool) -> tuple[Pair, ...]:
    """Exact pairs (each copy with the first of its kind in every split) and near pairs."""
    same = defaultdict(list)
    for row in rows:
        same[row.sha256].append(row)
    pairs = [Pair(a, b, "exact", 0) for copies in same.values() for a, b in zip(copies, copies[1:], strict=False)]
    if near:
        known = {v.sha256: v.hash for v in verdicts if v.hash}
        digests = list(known)
        hashes = np.frombuffer(b"".join(known.values()), np.uint64).reshape(-1, 2, 4)
        for i, j, distance in twins.near_pairs(hashes).tolist():
            pairs += [Pair(a, b, "near", distance) for a in same[digests[i]] for b in same[digests[j]]]
    return tuple(pairs)
