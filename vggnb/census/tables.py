"""A dataset given as a table: a file of path,label[,split][,group], with paths relative to the file.

What spreadsheets, pandas and other computers make of such a file is understood where it can mean one thing only.
"""

import codecs
import contextlib
import csv
import io
import os
import unicodedata
from collections import Counter, defaultdict, namedtuple
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from vggnb.census.rules import UNSPLIT, Entry, Layout, check_names, split_word
from vggnb.folders import IMAGE_ENDINGS, SPECIAL, Skipped, counted, listed, shown, walk
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, storage_errors

COLUMNS = ("path", "label", "split", "group")
Line = namedtuple("Line", ("number", *COLUMNS))
MISSING = "There is no such file. Check the name and that it is relative to the table's folder."
AMBIGUOUS = "Several files could be meant ({}). Write the path from the table's folder."
A_FOLDER = "It is a folder. Name a file in it."
OUTSIDE = "It is not below the table's folder. Move it there, and give its relative path."
_FEW = 10  # different numbers that may be anything
_MANY = 20  # labels; more, and more than half as many as images, are measurements or names
_AS_UTF8 = "Save it as CSV UTF-8 (Excel: Save as, CSV UTF-8; LibreOffice: Text CSV, character set UTF-8)."


def read_table(file: Path) -> Layout:
    """Read a table of images, or refuse what does not state one label for each; only its files are the dataset's."""
    file = Path(os.path.abspath(file))
    lines = _lines(file)
    labels = Counter(line.label for line in lines)
    unlabelled = labels.pop("", 0)
    _check_labels(labels, file)
    unknown = {line.split: line.number for line in reversed(lines) if line.split and not split_word(line.split)}
    if unknown:
        words = [f"'{shown(word)}' in line {unknown[word]}" for word in sorted(unknown, key=unknown.get)]
        what = f"{', '.join(words[:5])} {'is not a split' if len(words) == 1 else 'are not splits'}."
        raise VggnbError(what, file, "Write train, validation or test, or leave the cell empty.")
    files = _Files(file.parent, [line.path for line in lines])
    entries: dict[str, Entry] = {}
    strays, missing, others = [], [], defaultdict(set)
    for line in lines:
        path, trouble = files.find(line.path)
        missing += [path] * (trouble == MISSING)
        if not trouble and not line.label:
            trouble = f"No label in line {line.number} of the table. Write one in it."
        elif path in entries:
            others[path] |= {entries[path].class_name, line.label} - {""}
            trouble = f"Line {line.number} names it again; the first line counts. Remove one of the two."
        if trouble:
            strays.append(Skipped(path, trouble))
        else:
            entries[path] = Entry(path, split_word(line.split) or UNSPLIT, line.label, line.group)
    if not entries:
        first = f" The first line: {strays[0]}" if strays else " It has no lines."
        remedy = f"Check that the paths are relative to the folder of the table, {shown(str(file.parent))}."
        raise VggnbError(f"No file in the table both exists and has a label.{first}", file, remedy)
    check_names(labels, file)
    named = f"{counted(len(entries) + len(strays), 'file')} with {counted(len(labels), 'label')}"
    sentences = (
        f"Read a table of {named} ({listed(sorted(labels))}).",
        f"Its splits: {', '.join(sorted({entry.split for entry in entries.values()}, key=(*SPLITS, UNSPLIT).index))}.",
        "Files that the table does not name are not looked at.",
    )
    warnings, obstacles = [], []
    if missing:
        what = f"{counted(len(missing), 'line')} of the table: file{'s' * (len(missing) > 1)} not found"
        warnings.append(f"{what}; the first: {shown(missing[0])}.")
    if unlabelled:
        what = f"Not used: {counted(unlabelled, 'line')} of the table without a label."
        warnings.append(f"{what} After training: vggnb predict RUN FILE...")
    if several := [f"{shown(path)} ({listed(sorted(names))})" for path, names in others.items() if len(names) > 1]:
        what = f"{counted(len(several), 'image')} with more than one label: {'; '.join(several[:5])}."
        remedy = "Give each image one line with one label: vggnb predicts one class for each image."
        obstacles.append(VggnbError(what, file, remedy))
    ordered = tuple(entries[path] for path in sorted(entries))
    return Layout(
        files.folder, sentences, tuple(sorted(labels)), ordered, tuple(strays),
        warnings=tuple(warnings), obstacles=tuple(obstacles),
    )  # fmt: skip


def _lines(file: Path) -> list[Line]:
    """The rows of a table in UTF-8 with or without a mark, or UTF-16 with one; absent cells are ''."""
    with storage_errors(file):
        data = file.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise VggnbError("This is a spreadsheet, not a table of text.", file, _AS_UTF8)
    if not wide and b"\0" in data:
        raise VggnbError("The file is not a table of text.", file, _AS_UTF8)
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"Line {line} of the table is not UTF-8 text (a letter such as é was saved in another encoding)."
        raise VggnbError(what, file, _AS_UTF8) from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    if head.lower().startswith("sep="):  # Excel's own first line
        delimiter, text = head[4:5], text.partition("\n")[2]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or ",")
    try:
        names = [name.strip().casefold() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise VggnbError(f"Not a table: {error}.", file, _AS_UTF8) from error
    if twice := sorted({name for name in COLUMNS if names.count(name) > 1}):
        raise VggnbError(f"The table has several columns {listed(twice)}.", file, "Keep one, and rename the others.")
    if not {"path", "label"} <= set(names):
        remedy = "Name the columns path,label and, if you have them, split and group. If the table has one column per "
        remedy += "class, write the name of the class whose column is 1 into label. Bounding boxes are not supported: "
        remedy += "each image has one class."
        raise VggnbError(f"The table needs the columns path and label; it has {names[:20]}.", file, remedy)
    rows = [(number, dict(zip(names, cells, strict=False))) for number, cells in lines]
    return [Line(n, row.get("path", ""), *(row.get(key, "").strip() for key in COLUMNS[1:])) for n, row in rows]


def _check_labels(counts: Counter[str], file: Path) -> None:
    """Refuse labels that are measurements, names of single images, or several in one cell."""
    same, numbers = defaultdict(list), set()
    for label in counts:
        key = label
        with contextlib.suppress(ValueError):
            key = float(label.replace(",", "."))
            numbers.add(key)
        same[key].append(label)
    n, kind = counts.total(), "measurements" if same.keys() == numbers else "names of single images"
    codes = kind == "measurements" and min(numbers, default=0) in (0, 1) and max(numbers, default=0) <= len(numbers)
    if len(counts) > max(_MANY, n / 2) or kind == "measurements" and len(counts) > _FEW and not codes:
        what = f"The column label has {len(counts)} different values for {n} images ({listed(counts, 3)}): these look "
        what += f"like {kind}, not like classes."
        raise VggnbError(what, file, "Write a class into label, with several images each; group measurements first.")
    if twice := [labels for labels in same.values() if len(labels) > 1]:
        what = f"The column label writes one number in several ways: {'; '.join(map(listed, twice))}."
        raise VggnbError(what, file, "Write each label in one way only.")
    for separator in "|;,":
        several = [label for label in counts if separator in label]
        parts = Counter(part.strip() for label in several for part in label.split(separator))
        if any(part in counts or count > 1 and separator != "," for part, count in parts.items()):
            what = f"The column label holds several labels in one cell, such as {shown(several[0])!r}."
            raise VggnbError(what, file, "Give each image one label: vggnb predicts one class for each image.")


class _Files:
    """Finds the file that a cell of a table means.

    `folder` is that of the table or, where all paths lead out of it, the common one of what they name.
    """

    def __init__(self, home: Path, paths: list[str]):
        self.folder, self._home = home, home
        cells = [path.strip().replace("\\", "/") for path in paths]
        places = [Path(os.path.normpath(home / cell)) for cell in cells if cell]
        if not any(place.is_relative_to(home) for place in places):
            there = [place.parent for place in places if place.is_file()]
            self.folder = Path(os.path.commonpath(there)) if there else home

    def find(self, cell: str) -> tuple[str, str]:
        """A path relative to the folder, and why it cannot be used ('' if it can)."""
        path = cell if self._is_there(cell) else cell.strip()
        if not path:
            return path, MISSING
        if "\\" in path and not self._is_there(path):
            path = PureWindowsPath(path).as_posix()
        place = Path(os.path.normpath(self._home / path))
        is_inside = place.is_relative_to(self.folder)
        if is_inside:
            path = place.relative_to(self.folder).as_posix()
        if not is_inside or not self._is_there(path):
            found = self._matching(path)
            if not found and not is_inside and (place.exists() or not os.path.isabs(path)):
                return path, OUTSIDE
            if len(found) != 1:
                return path, AMBIGUOUS.format(listed(found, 3)) if found else MISSING
            path = found[0]
        place = self.folder / path
        return str(PurePosixPath(path)), "" if place.is_file() else A_FOLDER if place.is_dir() else SPECIAL

    def _is_there(self, path: str) -> bool:
        return os.path.exists(self.folder / path)

    def _matching(self, path: str) -> list[str]:
        """Files that a path can mean: the same but for case, Unicode form, ending, or folders before it."""
        *before, name = _parts(path) or ("",)
        by_name, by_stem = self._listing
        found = by_name.get(name) or by_stem.get(name) or []
        return [p for p in found if _parts(p)[:-1] == before] or [
            p for p in found if all(a == b for a, b in zip(reversed(_parts(p)[:-1]), reversed(before), strict=False))
        ]

    @cached_property
    def _listing(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The files of the folder by name, and the images by name without ending."""
        by_name, by_stem = defaultdict(list), defaultdict(list)
        for path in walk(self.folder)[0].all_files():
            name = _parts(path)[-1]
            by_name[name].append(path)
            if name.endswith(IMAGE_ENDINGS):
                by_stem[name.rpartition(".")[0]].append(path)
        return by_name, by_stem


def _parts(path: str) -> list[str]:
    """The parts of a path without what differs between computers."""
    parts = unicodedata.normalize("NFC", path).casefold().split("/")
    return [part for part in parts if part not in ("", ".", "..")]
