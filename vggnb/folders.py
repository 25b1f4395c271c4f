"""What lies on the disk under a dataset, words for people, and reading ahead.

`walk` lists the tree of regular files and accounts for everything else: links are not followed, nothing is opened, and
what operating systems and tools leave behind is counted apart.
"""

import csv
import io
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vggnb.storage import VggnbError, mendable

SYSTEM_NAMES = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "__pycache__", "icon\r",
}  # fmt: skip
IMAGE_ENDINGS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".png",
    ".gif",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".ppm",
    ".pgm",
)
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

    def images(self) -> int:
        """How many files directly in it are named like images."""
        return sum(map(is_named_like_an_image, self.files))


def shown(name: str) -> str:
    """A name that is safe to print: line breaks, direction overrides and undecodable bytes are escaped."""
    return name if name.isprintable() else ascii(name)


def plain_cell(text: str) -> str:
    """A cell of a CSV file; an apostrophe is put before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) or text.startswith("'") else text


def user_table(data: bytes) -> tuple[Iterator[list[str]], str]:
    """A reader (`csv.reader`) of a user's table, and its delimiter: semicolons where those are more than commas."""
    text = data.decode("utf-8-sig", "surrogateescape")
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), delimiter


def read_ahead(call: Callable, items: Iterable, *, workers: int | None = None, ahead: int = 64) -> Iterator:
    """Yield `call(item)` for each item, in order, while threads work on the next ones.

    Args:
        workers: threads; by default as many as ThreadPoolExecutor takes.
        ahead: calls under way or waiting to be taken; bounds the memory.
    """
    pending: deque = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(call, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def counted(n: int, noun: str) -> str:
    """A number and its noun: '1 image', '2 images'."""
    return f"{n} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Seconds in words: '8 s', '24 min', '1.7 days'."""
    length, unit = next((length, unit) for length, unit in TIMES if seconds >= 2 * length or length == 1)
    number = seconds / length
    return f"{math.ceil(number)} s" if length == 1 else f"{number:.{int(number < 10)}f} {unit}"


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is an operating system's or a tool's, not the user's."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_named_like_an_image(name: str) -> bool:
    """A guess for messages only; what a file is, is decided by its content."""
    return name.lower().endswith(IMAGE_ENDINGS)


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
