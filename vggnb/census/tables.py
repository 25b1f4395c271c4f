"""A dataset given as a table: a .csv file of path,label[,split][,group], with paths relative to the file."""

import csv
import os
import stat
from pathlib import Path, PurePosixPath

from vggnb.census.layout import UNSPLIT, Entry, Layout, check_names, split_word
from vggnb.folders import LINK, SPECIAL, Skipped, counted, shown, user_table
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, storage_errors


def read_table(file: Path) -> Layout:
    """Read a table of images. Only the files that it names belong to the dataset.

    Raises:
        VggnbError: the file cannot be read, lacks a column, or has a word for a split that is none.
    """
    file = Path(os.path.abspath(file))
    entries: dict[str, Entry] = {}
    strays: list[Skipped] = []
    for line, cells in _lines(file):
        path = _local(file.parent, cells["path"])
        trouble = _trouble(file.parent, path)
        if not trouble and not cells["label"]:
            trouble = f"No label in line {line} of the table. Write one in it."
        elif path in entries:
            trouble = f"Line {line} names it again; the first line counts. Remove one of the two."
        if trouble:
            strays.append(Skipped(path, trouble))
        else:
            entries[path] = Entry(path, _split(cells["split"], file, line), cells["label"], cells["group"])
    if not entries:
        remedy = "Check that the paths are relative to the folder of the table."
        raise VggnbError("The table names no file that is there.", file, remedy)
    classes = tuple(sorted({entry.class_name for entry in entries.values()}))
    check_names(set(classes), file)
    files, labels = counted(len(entries) + len(strays), "file"), counted(len(classes), "label")
    notes = [f"Read a table of {files} with {labels} ({', '.join(map(shown, classes))})."]
    present = [split for split in (*SPLITS, UNSPLIT) if any(entry.split == split for entry in entries.values())]
    notes += [f"Its splits: {', '.join(present)}.", "Files that the table does not name are not looked at."]
    ordered = tuple(entries[path] for path in sorted(entries))
    return Layout(file.parent, tuple(notes), classes, ordered, tuple(strays))


def _lines(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and the four cells of each row; absent cells are ''."""
    with storage_errors(file):
        reader, _ = user_table(file.read_bytes())
    try:
        head = [name.strip().lower() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise VggnbError(f"Not a table: {error}.", file, "Save it again as CSV with UTF-8 text.") from error
    if not {"path", "label"} <= set(head):
        remedy = "Name the columns path,label and, if you have them, split and group."
        raise VggnbError(f"The table needs the columns path and label; it has {head}.", file, remedy)
    empty = dict.fromkeys(("path", "label", "split", "group"), "")
    named = [(n, empty | dict(zip(head, cells, strict=False))) for n, cells in lines]
    return [(n, {key: cell if key == "path" else cell.strip() for key, cell in row.items()}) for n, row in named]


def _local(folder: Path, path: str) -> str:
    """A path as written, or with the slashes turned if it was written on Windows."""
    turned = path.replace("\\", "/")
    return turned if not os.path.lexists(folder / path) else path


def _trouble(folder: Path, path: str) -> str:
    """Why a named file cannot be used, as far as its name and kind tell; '' if it can."""
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return "It does not lie beneath the table's folder. Move it there, and name it by a relative path."
    try:
        mode = os.lstat(folder / path).st_mode
    except (OSError, ValueError):
        return "There is no such file. Check the name and that it is relative to the table's folder."
    if stat.S_ISLNK(mode):
        return LINK
    return "" if stat.S_ISREG(mode) else SPECIAL


def _split(word: str, file: Path, line: int) -> str:
    split = split_word(word) if word else UNSPLIT
    if split is None:
        what = f"'{shown(word)}' in line {line} is no split."
        raise VggnbError(what, file, "Write train, validation or test, or leave the cell empty.")
    return split
