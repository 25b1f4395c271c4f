"""What lies on the disk under a dataset: the tree of regular files, and everything else accounted for.

Links are not followed, nothing is opened, and what operating systems and tools leave behind is counted apart.
"""

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vggnb.storage import VggnbError, mendable

SYSTEM_NAMES = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "__pycache__", "icon\r",
}  # fmt: skip
PICTURE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic")
TIMES = ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "min"), (1, "s"))
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is run by spreadsheets (OWASP, CSV injection)
LINK = "It is a link, and links are not followed. Put the file itself in its place, or leave it out."
SPECIAL = "It is not a regular file (a pipe, a socket or a device). Remove it."


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not used, and why, with what to do."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.reason}"


@dataclass(eq=False)
class Folder:
    """A folder in the tree; `path` is POSIX and relative to the dataset."""

    name: str
    path: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def all_folders(self) -> Iterator["Folder"]:
        """Itself and the folders at any depth, each before those in it."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting.extend(folder.folders.values())

    def all_files(self) -> Iterator[str]:
        """Relative paths of the regular files at any depth."""
        return (_join(folder.path, name) for folder in self.all_folders() for name in folder.files)

    def is_filled(self) -> bool:
        """Whether there is a file at any depth."""
        return next(self.all_files(), None) is not None

    def filled(self) -> list["Folder"]:
        """Sub-folders with a file at any depth."""
        return [folder for folder in self.folders.values() if folder.is_filled()]

    def pictures(self) -> int:
        """How many files directly in it are named like pictures."""
        return sum(map(is_named_like_a_picture, self.files))


def shown(name: str) -> str:
    """A name that is safe to print: line breaks, direction overrides and undecodable bytes are escaped."""
    return name if name.isprintable() else ascii(name)


def plain_cell(text: str) -> str:
    """A cell of a CSV file; an apostrophe stands before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) or text.startswith("'") else text


def user_table(data: bytes) -> tuple[Iterator[list[str]], str]:
    """A reader (`csv.reader`) of a user's table, and what divides its cells: semicolons where those are more."""
    text = data.decode("utf-8-sig", "surrogateescape")
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), delimiter


def counted(n: int, noun: str) -> str:
    """A number and its noun: '1 picture', '2 pictures'."""
    return f"{n} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: '8 s', '24 min', '1.7 days'."""
    length, unit = next((length, unit) for length, unit in TIMES if seconds >= 2 * length or length == 1)
    number = seconds / length
    return f"{math.ceil(number)} s" if length == 1 else f"{number:.{int(number < 10)}f} {unit}"


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is an operating system's or a tool's, not the user's."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_named_like_a_picture(name: str) -> bool:
    """A guess for messages only; what a file is, is decided by its content."""
    return name.lower().endswith(PICTURE_ENDINGS)


def walk(dataset: Path) -> tuple[Folder, list[Skipped], list[str]]:
    """The tree of regular files; what is no regular file; and the system files.

    Raises:
        VggnbError: a folder cannot be listed, so that its files cannot be accounted for.
    """
    root, strays, system = Folder("", ""), [], []
    waiting = [(root, False)]
    while waiting:
        folder, in_system = waiting.pop()
        for item in _listing(dataset / folder.path):
            path, theirs = _join(folder.path, item.name), in_system or is_system(item.name)
            if item.is_dir(follow_symlinks=False):
                child = Folder(item.name, path)
                waiting.append((child, theirs))
                if not theirs:
                    folder.folders[item.name] = child
            elif theirs:
                system.append(path)
            elif item.is_file(follow_symlinks=False):
                folder.files.append(item.name)
            else:
                strays.append(Skipped(path, LINK if item.is_symlink() else SPECIAL))
    return root, strays, sorted(system)


def _listing(folder: Path) -> list[os.DirEntry]:
    """A folder's entries by name."""
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda item: item.name)
    except PermissionError as error:
        remedy = "Change its permissions, or move it out of the dataset."
        raise VggnbError("You may not look into this folder.", folder, remedy) from error
    except OSError as error:
        raise mendable(error, folder) from error


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
