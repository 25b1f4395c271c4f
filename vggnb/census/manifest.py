"""Every image that is used, with its split: the manifest, written to a file and read back."""

import contextlib
import csv
import hashlib
import io
import json
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vggnb.census.rows import Row
from vggnb.folders import shown
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, csv_text, sha256_bytes, storage_errors, write_bytes

COLUMNS = ("path", "sha256", "width", "height", "format", "class", "label", "split", "group", "notes")
_SHA256 = re.compile("[0-9a-f]{64}")
AGAIN = "Put it back from a copy, or make it again: vggnb train DATASET --out RUN writes it into a new folder."
LEAK = "leak: also in"  # begins the remark on a row whose picture is in an earlier split too


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

    def leaking(self, split: str) -> tuple[Row, ...]:
        """The rows of one split whose picture is in train, or in another split before this one, too."""
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

    def write(self, path: Path) -> None:
        """Write the manifest as CSV; its first line, a comment, holds classes, dataset and the hash of all the rest."""
        header = {"vggnb_manifest": 2, "dataset": str(self.dataset), "classes": self.classes, "said": self.sentences}
        body = csv_text([COLUMNS, *([getattr(row, name) for name in Row.__slots__] for row in self.rows)])
        body = body.encode("utf-8", "surrogateescape")
        header["sha256"] = sha256_bytes(_hashed(header) + body)
        write_bytes(path, f"# {json.dumps(header)}\n".encode() + body)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read what `write` wrote.

        Raises:
            VggnbError: the file is missing, damaged, or was changed.
        """
        dataset, classes, said = read_header(path)
        return cls(dataset, classes, tuple(stream_rows(path, SPLITS)), said)


def read_header(path: Path) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """The dataset, the classes and the sentences that a manifest's first line holds.

    Raises:
        VggnbError: it is missing, or not a manifest.
    """
    with storage_errors(path), _text(path) as file, _refusing(path):
        header = _header(file.readline())
        return Path(header["dataset"]), tuple(header["classes"]), tuple(header["said"])


def stream_rows(path: Path, splits: Collection[str]) -> Iterator[Row]:
    """The rows of some splits of a manifest file, one after the other; a changed file is told at the end of them.

    Raises:
        VggnbError: not a manifest, or one that contradicts itself or its hash.
    """
    with storage_errors(path), _text(path) as file, _refusing(path):
        header = _header(file.readline())
        wanted, classes = header.pop("sha256"), header["classes"]
        digest = hashlib.sha256(_hashed(header))
        table = csv.reader(_told(file, digest))
        if tuple(next(table, ())) != COLUMNS:
            raise ValueError("other columns")
        for cells in table:
            if (row := read_cells(cells, classes)).split in splits:
                yield row
        if digest.hexdigest() != wanted:
            raise ValueError("its hash is another: it is damaged or was changed")


def _text(path: Path) -> io.TextIOBase:
    return open(path, encoding="utf-8", errors="surrogateescape", newline="")


@contextlib.contextmanager
def _refusing(path: Path):
    """Whatever a file holds that `write` does not write, it is told as no manifest."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, csv.Error) as error:
        raise VggnbError(f"Not a manifest: {error}.", path, AGAIN) from error


def _header(line: str) -> dict:
    header = json.loads(line.removeprefix("# "))
    if header["vggnb_manifest"] != 2:
        raise ValueError("another version of vggnb made it")
    return header


def _hashed(header: dict) -> bytes:
    """The first line as it is hashed: without the hash."""
    return f"# {json.dumps(header)}\n".encode()


def _told(lines: Iterable[str], digest) -> Iterator[str]:
    """The lines, each told to a hash."""
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape"))
        yield line


def read_cells(cells: Sequence[str], classes: Sequence[str]) -> Row:
    """One line of a manifest.

    Raises:
        ValueError, IndexError: it is no row, or contradicts the class list.
    """
    path, sha256, width, height, kind, name, label, split, group, notes = cells
    row = Row(path, sha256, int(width), int(height), kind, name, int(label), split, group, notes)
    if classes[row.label] != row.class_name or row.label < 0 or row.split not in SPLITS:
        raise ValueError(f"the row of {row.path!r} contradicts the first line")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256[:70]!r} of {row.path!r} is no SHA-256 in 64 hexadecimal digits")
    parts = PurePath(path)
    if not path or "\0" in path or parts.anchor or ".." in parts.parts:
        raise ValueError(f"the path {path!r} does not lead to a file beneath the dataset")
    return row


def check_there(dataset: Path) -> None:
    """Refuse to look for the pictures of a manifest whose dataset was moved.

    Raises:
        VggnbError: its folder is gone, or the storage does not answer.
    """
    with storage_errors(dataset):
        try:
            there = stat.S_ISDIR(dataset.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: no name that a file can have
            there = False
    if not there:
        remedy = "Move it back. Or tell the run where it is now: vggnb train NEWPLACE --out RUN, with the options of "
        remedy += "that training; this is quick, since known pictures are not run through VGG-16 again."
        raise VggnbError("The dataset's folder is not there any more.", dataset, remedy)
