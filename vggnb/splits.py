"""Which image is for training, which for choosing, which for judging: the manifest."""

import csv
import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vggnb.census import Census, Pair, Row
from vggnb.folders import shown
from vggnb.layout import SPLITS, UNSPLIT
from vggnb.storage import VggnbError, storage_errors, write_bytes

COLUMNS = ("path", "sha256", "width", "height", "format", "class", "label", "split", "group", "notes")


@dataclass(frozen=True)
class Manifest:
    """Every image that is used, with its split. The only source of labels.

    Attributes:
        classes: label -> class name.
        sentences: what was decided, for people.
    """

    dataset: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    sentences: tuple[str, ...] = ()

    def of(self, split: str) -> tuple[Row, ...]:
        """The rows of one split."""
        return tuple(row for row in self.rows if row.split == split)

    def counts(self) -> dict[str, dict[str, int]]:
        """split -> class -> images."""
        found = Counter((row.split, row.class_name) for row in self.rows)
        return {split: {name: found[split, name] for name in self.classes} for split in SPLITS}

    def __str__(self) -> str:
        parts = [f"{split}: {sum(row.values())} {row}" for split, row in self.counts().items()]
        return "\n".join([*self.sentences, *parts])

    def write(self, path: Path) -> None:
        """Write the manifest as CSV; its first line, a comment, holds the class list and the dataset's place."""
        header = {"vggnb_manifest": 1, "dataset": str(self.dataset), "classes": self.classes, "said": self.sentences}
        text = io.StringIO()
        text.write(f"# {json.dumps(header)}\n")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([getattr(row, name) for name in Row.__slots__] for row in self.rows)
        write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read what `write` wrote.

        Raises:
            VggnbError: the file is missing or was changed so that it contradicts itself.
        """
        with storage_errors(path):
            text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
        try:
            first, body = text.split("\n", 1)
            header = json.loads(first.removeprefix("# "))
            table = csv.reader(io.StringIO(body, newline=""))
            if tuple(next(table)) != COLUMNS:
                raise ValueError("other columns")
            rows = tuple(_row(cells) for cells in table)
            classes = tuple(header["classes"])
            for row in rows:
                if classes[row.label] != row.class_name:
                    raise ValueError(f"label {row.label} is not class {row.class_name}")
            return cls(Path(header["dataset"]), classes, rows, tuple(header["said"]))
        except (ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
            raise VggnbError(f"Not a manifest: {error}.", path, "Make it again with a census.") from error


def _row(cells: list[str]) -> Row:
    path, sha256, width, height, kind, name, label, split, group, notes = cells
    return Row(path, sha256, int(width), int(height), kind, name, int(label), split, group, notes)


def assign_splits(
    census: Census, *, validation_share: float = 0.2, test_share: float = 0.2, seed: int = 0, drop_leaks: bool = False
) -> Manifest:
    """Give every image a split. A pure function of (rows, shares, seed).

    The user's own validation and test folders stay as they are. What is missing is cut from train (or from the unsplit
    folders): `test_share` of each class for test, `validation_share` of what is left for validation.

    Raises:
        VggnbError: nothing to train on, or a class too small to be cut.
    """
    census.check_trainable()
    rows = {row.path: row for row in census.rows}
    said: list[str] = []
    have = set(census.counts())
    missing = [split for split in ("test", "validation") if split not in have]
    pool = [row for row in census.rows if row.split in ("train", UNSPLIT)]
    blocks = _blocks(pool, census.pairs)
    order = np.random.default_rng(seed).permutation(len(blocks))
    blocks = [blocks[k] for k in order]
    for name in census.classes:
        n = sum(any(row.class_name == name for row in block) for block in blocks)
        if n < 1 + len(missing):
            what = f"Class '{shown(name)}' has {n} distinct image{'s' * (n != 1)}: too few to cut {' and '.join(missing)} from."
            raise VggnbError(what, census.dataset, "Add pictures of it, remove the class, or bring your own splits.")
    for split, share in (("test", test_share), ("validation", validation_share)):
        if split in missing:
            blocks, cut = _cut(blocks, share)
            rows.update((row.path, replace(row, split=split)) for block in cut for row in block)
            said.append(f"{split}: {sum(map(len, cut))} of {len(pool)} train images, cut by class with seed {seed}.")
    rows.update((row.path, replace(row, split="train")) for block in blocks for row in block)
    return Manifest(census.dataset, census.classes, tuple(rows[row.path] for row in census.rows), tuple(said))


def _blocks(pool: list[Row], pairs: tuple[Pair, ...]) -> list[list[Row]]:
    """Rows that must stay together, in an order that depends on the paths alone."""
    root = {row.path: row.path for row in pool}

    def top(path: str) -> str:
        while root[path] != path:
            root[path] = path = root[root[path]]
        return path

    def tie(a: str, b: str) -> None:
        a, b = top(a), top(b)
        root[max(a, b)] = min(a, b)

    firsts: dict[str, str] = {}
    for row in pool:
        if row.group:
            tie(row.path, firsts.setdefault(row.group, row.path))
    for pair in pairs:
        if all(path in root for path in pair.paths):
            tie(*pair.paths)
    blocks = defaultdict(list)
    for row in sorted(pool, key=lambda row: row.path):
        blocks[top(row.path)].append(row)
    return list(blocks.values())


def _cut(blocks: list[list[Row]], share: float) -> tuple[list[list[Row]], list[list[Row]]]:
    """Split blocks into (kept, cut) so that about `share` of each class is cut."""
    sizes = Counter(row.label for block in blocks for row in block)
    wanted = {label: max(1, round(share * n)) for label, n in sizes.items()}
    kept, cut, got = [], [], Counter()
    for block in blocks:
        adds = Counter(row.label for row in block)
        if all(got[label] + n <= wanted[label] for label, n in adds.items()):
            got += adds
            cut.append(block)
        else:
            kept.append(block)
    return kept, cut
