"""What lies on the disk under a dataset: the tree of regular files, and everything else accounted for.

Links are not followed, nothing is opened, and what operating systems and tools leave behind is counted apart.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vggnb.storage import mendable

_SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
                 "lost+found", "@eadir", "__pycache__", "icon\r"}  # fmt: skip
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic")
_LINK = "It is a link, and links are not followed. Put the file itself in its place, or leave it out."
_SPECIAL = "It is not a regular file (a pipe, a socket or a device). Remove it."


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not used, and why, with what to do."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.reason}"


@dataclass
class Folder:
    """A folder in the tree; `path` is POSIX and relative to the dataset."""

    name: str
    path: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def all_files(self) -> Iterator[str]:
        """Relative paths of the regular files at any depth."""
        for name in self.files:
            yield _join(self.path, name)
        for folder in self.folders.values():
            yield from folder.all_files()

    def filled(self) -> list["Folder"]:
        """Sub-folders with a file at any depth."""
        return [folder for folder in self.folders.values() if next(folder.all_files(), None) is not None]

    def pictures(self) -> int:
        """How many files directly in it are named like pictures."""
        return sum(name.lower().endswith(_PICTURE_ENDINGS) for name in self.files)


def shown(name: str) -> str:
    """A name that is safe to print: line breaks, direction overrides and undecodable bytes are escaped."""
    return name if name.isprintable() else ascii(name)


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is an operating system's or a tool's, not the user's."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def walk(dataset: Path) -> tuple[Folder, list[Skipped], list[str]]:
    """The tree of regular files; what is no regular file; and the system files."""
    root, strays, system = Folder("", ""), [], []
    waiting = [(root, False)]
    while waiting:
        folder, in_system = waiting.pop()
        try:
            with os.scandir(dataset / folder.path) as listing:
                found = sorted(listing, key=lambda item: item.name)
        except OSError as error:
            raise mendable(error, dataset / folder.path) from error
        for item in found:
            path, theirs = _join(folder.path, item.name), in_system or is_system(item.name)
            if item.is_dir(follow_symlinks=False):
                child = Folder(item.name, path)
                waiting.append((child, theirs))
                if not theirs:
                    folder.folders[item.name] = child
            elif theirs:
                system.append(path)
            elif item.is_symlink():
                strays.append(Skipped(path, _LINK))
            elif not stat.S_ISREG(item.stat(follow_symlinks=False).st_mode):
                strays.append(Skipped(path, _SPECIAL))
            else:
                folder.files.append(item.name)
    return root, strays, sorted(system)
