"""A dataset given as a table: a file of path,label[,split][,group], with paths relative to the file.

What spreadsheets, pandas and other computers make of such a file is understood where it can mean one thing only.
"""

import codecs
import csv
import io
import os
import stat
import unicodedata
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from vggnb.census.entries import UNSPLIT, Entry, Layout, check_names, listed, split_word
from vggnb.folders import (
    IMAGE_ENDINGS,
    SPECIAL,
    Skipped,
    counted,
    shown,
    walk,
)  # fmt: skip
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, storage_errors

COLUMNS = ("path", "label", "split", "group")
MISSING = "There is no such file. Check the name and that it is relative to the table's folder."
AMBIGUOUS = "Several files could be meant ({}). Write the path from the table's folder."
OUTSIDE = "It does not lie beneath the table's folder. Move it there, and name it by a relative path."
_FEW = 10  # different numbers that may be anything
_MANY = 20  # labels; more, and more than half as many as images, are measurements or names


def read_table(file: Path) -> Layout:
    """Read a table of images. Only the files that it names belong to the dataset.

    Raises:
        VggnbError: it is no table, or it does not say one label for each image; the text names all that is wrong.
    """
    file = Path(os.path.abspath(file))
    lines = _lines(file)
    _check_labels([cells["label"] for _, cells in lines], file)
    _check_splits(lines, file)
    files = _Files(file.parent, [cells["path"] for _, cells in lines])
    entries: dict[str, Entry] = {}
    strays: list[Skipped] = []
    others: dict[str, set[str]] = defaultdict(set)
    missing: list[str] = []
    for line, cells in lines:
        path, trouble = files.find(cells["path"])
        missing += [path] if trouble == MISSING else []
        if not trouble and not cells["label"]:
            trouble = f"No label in line {line} of the table. Write one in it."
        elif path in entries:
            others[path] |= {entries[path].class_name, cells["label"]} - {""}
            trouble = f"Line {line} names it again; the first line counts. Remove one of the two."
        if trouble:
            strays.append(Skipped(path, trouble))
        else:
            split = split_word(cells["split"]) if cells["split"] else UNSPLIT
            entries[path] = Entry(path, split, cells["label"], cells["group"])
    if not entries:
        first = f" The first line: {strays[0]}" if strays else " It has no lines."
        remedy = f"Check that the paths are relative to the folder of the table, {shown(str(file.parent))}."
        raise VggnbError(f"The table names no file that is there and has a label.{first}", file, remedy)
    classes = tuple(sorted({cells["label"] for _, cells in lines} - {""}))
    check_names(set(classes), file)
    ordered = tuple(entries[path] for path in sorted(entries))
    sentences = tuple(_sentences(ordered, strays, classes))
    warnings, obstacles = [], []
    if missing:
        n = counted(len(missing), "line")
        warnings.append(f"{n} of the table name files that are not there; the first: {shown(missing[0])}.")
    if unlabelled := sum(not cells["label"] for _, cells in lines):
        n = counted(unlabelled, "line")
        warnings.append(f"{n} of the table without a label, not used. After training: vggnb predict RUN FILE...")
    if several := [f"{shown(path)} ({listed(sorted(labels))})" for path, labels in others.items() if len(labels) > 1]:
        what = f"{counted(len(several), 'image')} with more than one label: {'; '.join(several[:5])}."
        remedy = "Give each image one line with one label: vggnb chooses one class for each image."
        obstacles.append(VggnbError(what, file, remedy))
    lists = {"strays": strays, "warnings": warnings, "obstacles": obstacles}
    return Layout(files.folder, sentences, classes, ordered, **{name: tuple(items) for name, items in lists.items()})


def _sentences(entries: tuple[Entry, ...], strays: list[Skipped], classes: tuple[str, ...]) -> list[str]:
    files, labels = counted(len(entries) + len(strays), "file"), counted(len(classes), "label")
    present = [split for split in (*SPLITS, UNSPLIT) if any(entry.split == split for entry in entries)]
    return [
        f"Read a table of {files} with {labels} ({listed(classes)}).",
        f"Its splits: {', '.join(present)}.",
        "Files that the table does not name are not looked at.",
    ]


def _lines(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and the four cells of each row; absent cells are ''.

    Raises:
        VggnbError: the file is no table of text, or lacks a column.
    """
    text = _text(file)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    if head.lower().startswith("sep="):  # Excel's own first line
        delimiter, text = head[4:5], text.partition("\n")[2]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or ",")
    try:
        names = [name.strip().casefold() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise VggnbError(f"Not a table: {error}.", file, "Save it again as CSV UTF-8.") from error
    if twice := sorted({name for name in COLUMNS if names.count(name) > 1}):
        raise VggnbError(f"The table has several columns {listed(twice)}.", file, "Keep one, and rename the others.")
    if not {"path", "label"} <= set(names):
        raise _other_columns(names, [cells for _, cells in lines], file)
    empty = dict.fromkeys(COLUMNS, "")
    named = [(n, empty | dict(zip(names, cells, strict=False))) for n, cells in lines]
    return [(n, {key: row[key] if key == "path" else row[key].strip() for key in COLUMNS}) for n, row in named]


def _text(file: Path) -> str:
    """The text of a table: UTF-8 with or without a mark, or UTF-16 with one."""
    with storage_errors(file):
        data = file.read_bytes()
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        remedy = "Save it as CSV UTF-8 (comma delimited) with the columns path,label."
        raise VggnbError("This is a spreadsheet, not a table of text.", file, remedy)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not wide and b"\0" in data:
        raise VggnbError("The file is not a table of text.", file, "Save it as CSV UTF-8 with the columns path,label.")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"Line {line} of the table is not UTF-8 text (a letter such as é was saved in another code)."
        remedy = "Save it as CSV UTF-8 (Excel: Save as, CSV UTF-8; LibreOffice: Text CSV, character set UTF-8)."
        raise VggnbError(what, file, remedy) from None


def _other_columns(names: list[str], rows: list[list[str]], file: Path) -> VggnbError:
    """The error for a table without path and label, in words that fit what it has."""
    what = f"The table needs the columns path and label; it has {names[:20]}."
    remedy = "Name the columns path,label and, if you have them, split and group."
    columns = list(zip(*(row for row in rows if len(row) == len(names)), strict=True))
    flags = [
        n for n, c in zip(names, columns, strict=False) if set(c) <= {"0", "1", "0.0", "1.0"} and "1" in "".join(c)
    ]
    if {"xmin", "xmax"} <= set(names) or {"x", "y", "w", "h"} <= set(names):
        what += " It looks like a table of boxes for object detection; vggnb names the class of a whole image."
    elif len(flags) > 1:
        what += f" {listed(flags)} look like one column for each class."
        remedy = "Write into one column, label, the name of the class whose column is 1, and call the other one path."
    return VggnbError(what, file, remedy)


def _check_labels(labels: list[str], file: Path) -> None:
    """Refuse labels that are measurements, names of single images, or several in one cell."""
    counts = Counter(filter(None, labels))
    n = sum(counts.values())
    numbers = [_number(label) for label in counts]
    kind = "measurements" if None not in numbers else "names of single images"
    if len(counts) > max(_MANY, n / 2) or kind == "measurements" and len(counts) > _FEW and not _are_codes(numbers):
        what = f"The column label has {len(counts)} different values for {n} images ({listed(counts, 3)}): these look "
        what += f"like {kind}, not like classes."
        raise VggnbError(what, file, "Write a class into label, with several images each; group measurements first.")
    same = defaultdict(list)
    for label, number in zip(counts, numbers, strict=True):
        same[label if number is None else number].append(label)
    if twice := [labels for labels in same.values() if len(labels) > 1]:
        what = f"The column label writes one number in several ways: {'; '.join(map(listed, twice))}."
        raise VggnbError(what, file, "Write each label in one way only.")
    for separator in "|;,":
        several = [label for label in counts if separator in label]
        parts = Counter(part.strip() for label in several for part in label.split(separator))
        if any(part in counts or count > 1 and separator != "," for part, count in parts.items()):
            what = f"The column label holds several labels in one cell, such as {shown(several[0])!r}."
            raise VggnbError(what, file, "Give each image one label: vggnb chooses one class for each image.")


def _check_splits(lines: list[tuple[int, dict[str, str]]], file: Path) -> None:
    unknown = {cells["split"]: n for n, cells in reversed(lines) if cells["split"] and not split_word(cells["split"])}
    if unknown:
        words = [f"'{shown(word)}' in line {n}" for word, n in sorted(unknown.items(), key=lambda item: item[1])]
        what = f"{', '.join(words[:5])} {'is not a split' if len(words) == 1 else 'are not splits'}."
        raise VggnbError(what, file, "Write train, validation or test, or leave the cell empty.")


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _are_codes(numbers: list[float]) -> bool:
    """Whether numbers are the codes of classes, counted from 0 or 1, and not measurements."""
    return min(numbers) in (0, 1) and max(numbers) - min(numbers) == len(numbers) - 1


class _Files:
    """Finds the file that a cell of a table means.

    `folder` is the dataset's: that of the table or, where all paths lead out of it, the common one of what they name.
    """

    def __init__(self, home: Path, paths: list[str]):
        self.folder, self._home = home, home
        places = [Path(os.path.normpath(home / path)) for path in paths if "\0" not in path]
        if not any(place.is_relative_to(home) for place in places):
            there = [place.parent for place in places if place.is_file()]
            self.folder = Path(os.path.commonpath(there)) if there else home

    def find(self, cell: str) -> tuple[str, str]:
        """A path relative to the folder, and why it cannot be used ('' if it can)."""
        written = cell.strip() if cell != cell.strip() and not self._is_there(cell) else cell
        path = written
        if not path or "\0" in path:
            return path, MISSING
        if not self._is_there(path) and "\\" in path:
            path = PureWindowsPath(path).as_posix()
        place = Path(os.path.normpath(self._home / path))
        if place.is_relative_to(self.folder):
            path = place.relative_to(self.folder).as_posix()
        if not place.is_relative_to(self.folder) or not self._is_there(path):
            found = self._matching(path)
            if not found and not place.is_relative_to(self.folder) and (place.exists() or not os.path.isabs(path)):
                return path, OUTSIDE
            if len(found) != 1:
                return path, AMBIGUOUS.format(listed(found, 3)) if found else MISSING
            path = found[0]
        mode = os.stat(self.folder / path).st_mode
        return str(PurePosixPath(path)), "" if stat.S_ISREG(mode) else SPECIAL

    def _is_there(self, path: str) -> bool:
        try:
            return os.path.exists(self.folder / path)
        except ValueError:
            return False

    def _matching(self, path: str) -> list[str]:
        """Files that a path can mean: the same but for case, Unicode form, ending, or folders before it."""
        wanted = _key(path)
        candidates = self._by_name.get(wanted[-1], []) or self._by_stem.get(wanted[-1], [])
        keys = {other: _key(other) for other in candidates}
        if PurePosixPath(path).suffix.lower() not in IMAGE_ENDINGS:
            keys = {other: (*key[:-1], _stem(key[-1])) if key[-1] != wanted[-1] else key for other, key in keys.items()}
        same = [other for other, key in keys.items() if key == wanted]
        return same or [other for other, key in keys.items() if _ends_alike(key, wanted)]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for path in walk(self.folder)[0].all_files():
            found[_key(path)[-1]].append(path)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for name, paths in self._by_name.items():
            if name.endswith(IMAGE_ENDINGS):
                found[_stem(name)] += paths
        return found


def _key(path: str) -> tuple[str, ...]:
    """The parts of a path without what differs between computers."""
    return tuple(
        part for part in unicodedata.normalize("NFC", path).casefold().split("/") if part not in ("", ".", "..")
    )


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the longer one ends with the shorter one."""
    n = min(len(one), len(other))
    return one[-n:] == other[-n:]
