"""What folder the user has, and where its class folders are.

Accepted: train / validation / test folders (or some of them) of class folders, class folders that are not split,
either of them inside wrapper folders, split folders inside class folders, and the same data twice. A table instead of
a folder is `tables.read_table`. Nothing here opens a image.
"""

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from vggnb.folders import Folder, Skipped, counted, shown, walk
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError

UNSPLIT = "unsplit"
_SPLIT_WORD = re.compile(r"(?:(train(?:ing)?)|(val|valid|validation)|(test(?:ing)?))(?:[ _-]?set)?", re.IGNORECASE)
OUTSIDE = "It lies outside the class folders. Move it into one if it is a image to use; else leave it."


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that lies where a image of a class belongs; `path` is POSIX and relative to the dataset."""

    path: str
    split: str
    class_name: str
    group: str = ""


@dataclass(frozen=True)
class Layout:
    """What was understood of a dataset.

    Attributes:
        sentences: the same for people.
        classes: sorted by code point; a label is an index into it.
        entries: files in class folders, in order of their paths.
        strays: files that no class can claim: beside the class folders, links, pipes.
        copies: files of what looks like a second copy of the dataset; the census compares the bytes.
        system_files: what operating systems and tools leave behind; never opened.
        obstacles: what stands in the way of training though not of a survey.
    """

    dataset: Path
    sentences: tuple[str, ...]
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    strays: tuple[Skipped, ...] = ()
    copies: tuple[str, ...] = ()
    system_files: tuple[str, ...] = ()
    obstacles: tuple[VggnbError, ...] = ()

    def __str__(self) -> str:
        return "\n".join([shown(str(self.dataset)), *self.sentences])


def split_word(name: str) -> str | None:
    """The split that a folder's name, or a table's cell, means: 'train', 'validation', 'test' or None."""
    match = _SPLIT_WORD.fullmatch(name.strip())
    return None if match is None else SPLITS[match.lastindex - 1]


def read_layout(dataset: Path) -> Layout:
    """Find the class folders of a dataset.

    Raises:
        VggnbError: no such folder, not a folder, nothing in it, images directly in a split folder, two folders for one
            split, class lists that differ between splits, class names that only look different to a computer.
    """
    dataset = Path(os.path.abspath(dataset))
    _check_folder(dataset)
    root, strays, system = walk(dataset)
    if not root.is_filled():
        raise VggnbError("The dataset folder is empty.", dataset, "Put one folder of images for each class in it.")
    notes, obstacles = [], []
    top = _unwrap(root, notes)
    split_folders = _split_folders(top)
    copies = _second_copies(top, split_folders)
    table = _split_table(split_folders, notes) if split_folders else _unsplit_table(top, copies, notes)
    if table == {UNSPLIT: {}}:
        table, obstacles = {UNSPLIT: {dataset.name: top}}, [_flat(top, dataset)]
    classes = _agreed_classes(table, dataset)
    notes = [*_understood(table, classes), *notes, *_remarks(top, table, copies)]
    entries = [
        Entry(path, split, name)
        for split, folders in table.items()
        for name, folder in folders.items()
        for path in folder.all_files()
    ]
    inner = [path for copy in copies for path in copy.all_files()]
    claimed = {entry.path for entry in entries}.union(inner)
    strays += [Skipped(path, OUTSIDE) for path in root.all_files() if path not in claimed]
    entries.sort(key=lambda entry: entry.path)
    strays.sort(key=lambda stray: stray.path)
    parts = (notes, classes, entries, strays, sorted(inner), system, obstacles)
    return Layout(dataset, *map(tuple, parts))


def _check_folder(dataset: Path) -> None:
    if not dataset.exists():
        raise VggnbError("There is no such dataset folder.", dataset, "Check the path; on Colab, mount Drive first.")
    if not dataset.is_dir():
        remedy = "Name the folder that holds the class folders, or a .csv table of path,label."
        raise VggnbError("The dataset is a file, not a folder.", dataset, remedy)


def _unwrap(folder: Folder, notes: list[str], *, split: str | None = None) -> Folder:
    """Go down while there is nothing but one folder of folders; in the folder of a split also through its namesake."""
    while not folder.images() and len(filled := folder.filled()) == 1:
        if split_word(filled[0].name) not in (None, split) or not filled[0].filled():
            break
        folder = filled[0]
        notes.append(f"The folders lie one level deeper, in {shown(folder.path)}/.")
    return folder


def _split_folders(top: Folder) -> dict[str, Folder]:
    """Folders by split, in order; {} where there are none, or where the word is a class's name (car, bus, train)."""
    filled = top.filled()
    named = [folder for folder in filled if split_word(folder.name)]
    if len(named) == 1 and named[0].images() and any(other.images() for other in filled if other is not named[0]):
        return {}
    found: dict[str, Folder] = {}
    for folder in named:
        split = split_word(folder.name)
        if split in found:
            both = f"{shown(found[split].path)}/ and {shown(folder.path)}/"
            raise VggnbError(f"Two folders mean {split}: {both}.", both, "Keep one of them, or merge them into one.")
        found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def _second_copies(top: Folder, split_folders: dict[str, Folder]) -> list[Folder]:
    """Folders beside the splits or classes that hold the same splits or classes once more."""
    beside = [folder for folder in top.folders.values() if folder not in split_folders.values()]
    copies = []
    for folder in beside:
        inner = _unwrap(folder, [])
        if split_folders:
            if _split_folders(inner).keys() & split_folders.keys():
                copies.append(folder)
        elif not inner.files and len(inner.folders) > 1:
            if set(inner.folders) == {other.name for other in beside if other is not folder}:
                copies.append(folder)
    return copies


def _split_table(split_folders: dict[str, Folder], notes: list[str]) -> dict[str, dict[str, Folder]]:
    """Class folders by split and name, for a dataset that is split."""
    table = {}
    for split, folder in split_folders.items():
        inside = _unwrap(folder, notes, split=split)
        if not inside.filled():
            raise _flat(inside, folder.path)
        table[split] = inside.folders
    return table


def _unsplit_table(top: Folder, copies: list[Folder], notes: list[str]) -> dict[str, dict[str, Folder]]:
    """Class folders by split and name, where the outer folders are classes: not split, or each split inside."""
    classes = {name: folder for name, folder in top.folders.items() if folder not in copies}
    parts = {name: _split_folders(folder) for name, folder in classes.items()}
    if not any(parts.values()):
        return {UNSPLIT: classes}
    for name, folder in classes.items():
        odd = sorted(other.name for other in folder.filled() if other not in parts[name].values())
        if folder.is_filled() and (folder.images() or odd or not parts[name]):
            what = f"Some class folders hold split folders (train, test); {shown(name)}/ holds something else too."
            raise VggnbError(what, folder.path, "Give every class folder the same split folders, or none.")
    notes.append("Each class folder holds its own split folders.")
    present = [split for split in SPLITS if any(split in found for found in parts.values())]
    return {split: {name: found.get(split, Folder("", "")) for name, found in parts.items()} for split in present}


def _flat(folder: Folder, where: object) -> VggnbError:
    count, name = folder.images() or len(folder.files), f"{shown(folder.name)}/" if folder.name else "the dataset"
    what = f"{count} image{'s lie' if count != 1 else ' lies'} directly in {name}, in no class folder."
    return VggnbError(what, where, "Move them into one folder for each class, for example cat/ and dog/.")


def _understood(table: dict, classes: tuple[str, ...]) -> list[str]:
    names = f"{counted(len(classes), 'class folder')} ({', '.join(map(shown, classes))})"
    if UNSPLIT in table:
        return [f"Found {names}, not split."]
    notes = [f"Found {' and '.join(table)}, {'each ' * (len(table) > 1)}with {names}."]
    return notes + [f"There is no {split} split." for split in SPLITS if split not in table]


def _remarks(top: Folder, table: dict, copies: list[Folder]) -> list[str]:
    notes = [f"{shown(copy.path)}/ looks like a second copy of the dataset; the outer one is used." for copy in copies]
    for folder in top.folders.values():
        if split_word(folder.name) and not folder.is_filled():
            notes.append(f"{shown(folder.path)}/ is empty and counts as absent.")
    deep = [folder for classes in table.values() for folder in classes.values() if folder.filled()]
    if deep:
        notes.append(f"Sub-folders of a class folder count as that class, for example in {shown(deep[0].path)}/.")
    inside = [frozenset(_unwrap(folder, []).folders) for folder in deep]
    if UNSPLIT in table and len(inside) > 1 and len(set(inside)) == 1 and len(inside[0]) > 1:
        names = ", ".join(map(shown, sorted(inside[0])))
        notes.append(
            f"All hold the same sub-folders ({names}): if these are the classes, name the outer ones train, test."
        )
    return notes


def _agreed_classes(table: dict[str, dict[str, Folder]], dataset: Path) -> tuple[str, ...]:
    """The one class list of all splits."""
    check_names({name for folders in table.values() for name in folders}, dataset)
    first = next(iter(table))
    classes = sorted(table[first])
    for split, folders in table.items():
        lacks, extra = sorted(set(classes) - set(folders)), sorted(set(folders) - set(classes))
        if lacks or extra:
            parts = [f"{split} lacks: {', '.join(map(shown, lacks))}"] * bool(lacks)
            parts += [f"{split} has extra: {', '.join(map(shown, extra))}"] * bool(extra)
            lists = f"{first} has {classes}, {split} has {sorted(folders)}"
            what = f"The class folders differ between the splits: {'; '.join(parts)} ({lists})."
            raise VggnbError(what, dataset, "Give every split the same class folders; in test one may be empty.")
    return tuple(classes)


def check_names(names: set[str], where: object) -> None:
    """Refuse class names that differ only by case, spaces or the Unicode form of a letter."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if key in seen:
            pair = " and ".join(f"{n!r} ({' '.join(f'U+{ord(c):04X}' for c in n)})" for n in (seen[key], name))
            what = f"Two class names that people cannot tell apart: {pair}."
            raise VggnbError(what, where, "Rename one of the folders, or move its images into the other.")
        seen[key] = name
