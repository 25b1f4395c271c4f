"""Every image that is used, with its split: the manifest, written to a file and read back."""

import contextlib
import csv
import io
import json
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggnb.census.rows import Row
from vggnb.folders import html_table, shown
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, csv_text, sha256_bytes, storage_errors, write_bytes

COLUMNS = ("path", "sha256", "width", "height", "format", "class", "label", "split", "group", "notes")
VERSION = 3
AGAIN = "Restore it from a copy, or create it again: vggnb train DATASET --out RUN writes it into a new folder."
LEAK = "leak: also in"  # begins the remark on a row whose image is in an earlier split too


@dataclass(frozen=True, repr=False)
class Manifest:
    """Every image that is used, with its split. The only source of labels.

    Attributes:
        classes: label -> class name.
        sentences: what was decided.
    """

    dataset: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    sentences: tuple[str, ...] = ()

    def of(self, split: str) -> tuple[Row, ...]:
        """The rows of one split."""
        return tuple(row for row in self.rows if row.split == split)

    def only(self, rows: Sequence[Row]) -> "Manifest":
        """The same manifest with only these rows."""
        return replace(self, rows=tuple(rows))

    def leaking(self, split: str) -> tuple[Row, ...]:
        """The rows of one split whose image is also in train, or in another split before this one."""
        return tuple(row for row in self.of(split) if LEAK in row.notes)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and class."""
        found = Counter((row.split, row.label) for row in self.rows)
        return {split: {name: found[split, k] for k, name in enumerate(self.classes)} for split in SPLITS}

    def __str__(self) -> str:
        lines = list(self.sentences)
        for split, row in self.counts().items():
            parts = ", ".join(f"{n} {shown(name)}" for name, n in row.items())
            lines.append(f"{split:<11}{sum(row.values())} images: {parts}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: images by class and split."""
        counts = self.counts()
        rows = [("total", *(sum(row.values()) for row in counts.values()))]
        rows += [(name, *(row[name] for row in counts.values())) for name in self.classes]
        return html_table(("class", *counts), rows, notes=self.sentences)

    def write(self, path: Path) -> None:
        """Write the manifest as CSV; its first line, a comment, holds the dataset, the classes and the rows' hash."""
        rows = csv_text([COLUMNS, *([getattr(row, name) for name in Row.__slots__] for row in self.rows)])
        try:
            body = rows.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:  # half of a letter, which Windows lets a name hold
            what = f"A name cannot be written in UTF-8: {ascii(rows[error.start - 30 : error.end + 10])}."
            raise VggnbError(what, path, "Rename this file.") from None
        header = {"vggnb_manifest": VERSION, "dataset": str(self.dataset), "classes": self.classes}
        header |= {"sentences": self.sentences, "sha256": sha256_bytes(body)}
        write_bytes(path, f"# {json.dumps(header)}\n".encode() + body)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read what `write` wrote.

        Raises:
            VggnbError: the file is missing, damaged, or was changed.
        """
        with storage_errors(path):
            first, _, body = Path(path).read_bytes().partition(b"\n")
        try:
            header = json.loads(first.removeprefix(b"# "))
            if header["vggnb_manifest"] != VERSION:
                raise ValueError("it was made by another version of vggnb")
            if header["sha256"] != sha256_bytes(body):
                raise ValueError("it is damaged or was changed, since its rows have another hash")
            classes = tuple(header["classes"])
            table = csv.reader(io.StringIO(body.decode("utf-8", "surrogateescape"), newline=""))
            if tuple(next(table, ())) != COLUMNS:
                raise ValueError("it has other columns")
            rows = tuple(
                Row(path, sha256, int(width), int(height), kind, name, int(label), split, group, notes)
                for path, sha256, width, height, kind, name, label, split, group, notes in table
            )
            if any(classes[row.label] != row.class_name for row in rows):
                raise ValueError("its rows contradict its first line")
            return cls(Path(header["dataset"]), classes, rows, tuple(header["sentences"]))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError, csv.Error) as error:
            raise VggnbError(f"Not a manifest that can be used: {error}.", path, AGAIN) from error


def is_manifest(path: Path) -> bool:
    """Whether a file begins as a manifest does; a user's own table does not."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(20).startswith(b'# {"vggnb_manifest')
    return False


def check_there(dataset: Path) -> None:
    """Refuse a manifest whose dataset was moved.

    Raises:
        VggnbError: its folder is gone, or the storage does not answer.
    """
    with storage_errors(dataset):
        try:
            there = stat.S_ISDIR(dataset.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: no name that a file can have
            there = False
    if not there:
        remedy = "Move it back. Or name its new place: vggnb train NEWPLACE --out RUN, with the options of "
        remedy += "that training; this is quick, since known images are not run through VGG-16 again."
        raise VggnbError("The dataset's folder is not there any more.", dataset, remedy)
