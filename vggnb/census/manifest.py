"""One usable image (a row), and all of them with their splits: the manifest, written to a file and read back."""

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggnb.folders import html_table, shown
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, csv_text, sha256_bytes, storage_errors, write_bytes

COLUMNS = ("path", "sha256", "width", "height", "format", "class", "label", "split", "group", "notes")
VERSION = 3
AGAIN = "Restore it from a copy, or create it again: vggnb train DATASET --out RUN writes it into a new folder."
LEAK = "leak: also in"  # begins the remark on a row whose image is in an earlier split too


@dataclass(frozen=True, slots=True)
class Row:
    """One usable image."""

    path: str  # POSIX, relative to the dataset; undecodable bytes as surrogates (`os.fsencode` gives them back)
    sha256: str
    width: int  # pixels of the upright image
    height: int
    format: str  # by content: 'JPEG', 'PNG', ...
    class_name: str
    label: int  # index of `class_name` in the class list
    split: str  # 'train', 'validation', 'test' or, before `assign_splits`, 'unsplit'
    group: str = ""  # rows with the same group, if not '', stay in one split
    notes: str = ""  # remarks, joined by '; '


def count_rows(rows: Iterable[Row], classes: Sequence[str], splits: Iterable[str]) -> dict[str, dict[str, int]]:
    """Images by split and class."""
    found = Counter((row.split, row.label) for row in rows)
    return {split: {name: found[split, k] for k, name in enumerate(classes)} for split in splits}


def html_counts(counts: dict[str, dict[str, int]], classes: Sequence[str], **texts) -> str:
    """A table of images by class and split; `texts` are those of `html_table`."""
    rows = [("total", *(sum(row.values()) for row in counts.values()))]
    rows += [(name, *(row[name] for row in counts.values())) for name in classes]
    return html_table(("class", *counts), rows, **texts)


@dataclass(frozen=True, repr=False)
class Manifest:
    """Every image that is used, with its split. The only source of labels.

    Attributes:
        classes: label -> class name.
        sentences: how the splits were made.
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
        return count_rows(self.rows, self.classes, SPLITS)

    def __str__(self) -> str:
        lines = list(self.sentences)
        for split, row in self.counts().items():
            parts = ", ".join(f"{n} {shown(name)}" for name, n in row.items())
            lines.append(f"{split:<11}{sum(row.values())} images: {parts}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_counts(self.counts(), self.classes, notes=self.sentences)

    def write(self, path: Path) -> None:
        """Write the manifest as CSV; its first line, a comment, holds the dataset, the classes and the rows' hash."""
        rows = csv_text([COLUMNS, *([getattr(row, name) for name in Row.__slots__] for row in self.rows)])
        body = rows.encode("utf-8", "surrogateescape")
        header = {"vggnb_manifest": VERSION, "dataset": str(self.dataset), "classes": self.classes}
        header |= {"sentences": self.sentences, "sha256": sha256_bytes(body)}
        write_bytes(path, f"# {json.dumps(header)}\n".encode() + body)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read what `write` wrote; a file that is missing, damaged or was changed is refused."""
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
            next(table, None)  # COLUMNS
            rows = tuple(
                Row(path, sha256, int(width), int(height), kind, name, int(label), *others)
                for path, sha256, width, height, kind, name, label, *others in table
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
    """Refuse a manifest whose dataset was moved, or whose storage does not answer."""
    with storage_errors(dataset):
        there = dataset.is_dir()
    if not there:
        remedy = "Move it back, or train again from its new place with the same options: vggnb train NEWPLACE --out "
        remedy += "RUN. This is quick: known images are not run through VGG-16 again."
        raise VggnbError("The dataset folder no longer exists.", dataset, remedy)
