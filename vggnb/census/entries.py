"""What a dataset was understood to be: its files with split and class."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vggnb.folders import Skipped, shown
from vggnb.storage import VggnbError

UNSPLIT = "unsplit"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that lies where an image of a class belongs; `path` is POSIX and relative to the dataset."""

    path: str
    split: str
    class_name: str
    group: str = ""


@dataclass(frozen=True)
class Layout:
    """How a dataset was understood.

    Attributes:
        sentences: the same as text for the user.
        classes: sorted by code point; a label is an index into it.
        entries: files in class folders, in order of their paths.
        strays: files that no class can claim: beside the class folders, links, pipes.
        copies: files of what looks like a second copy of the dataset; the census compares the bytes.
        system_files: what operating systems and tools leave behind; never opened.
        warnings: what to look at before training.
        obstacles: what stands in the way of training though not of a survey.
    """

    dataset: Path
    sentences: tuple[str, ...]
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    strays: tuple[Skipped, ...] = ()
    copies: tuple[str, ...] = ()
    system_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[VggnbError, ...] = ()

    def __str__(self) -> str:
        return "\n".join([shown(str(self.dataset)), *self.sentences])


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names that are safe to print, the first of many: 'cat, dog'."""
    names = [shown(name) for name in names]
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def check_names(names: set[str], where: object) -> None:
    """Refuse class names that people or programs cannot distinguish or write; all of them at once.

    Raises:
        VggnbError: names that differ only by case, spaces or the Unicode form of a letter, or are not text.
    """
    same = defaultdict(list)
    for name in sorted(names):
        same[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    alike = [
        " and ".join(f"{name!r} ({' '.join(f'U+{ord(char):04X}' for char in name)})" for name in group)
        for group in same.values()
        if len(group) > 1
    ]
    if alike:
        what = f"Class names that people cannot tell apart: {'; '.join(alike)}."
        raise VggnbError(what, where, "Rename one of the folders, or move its images into the other.")
    if no_text := sorted(name for name in names if any("\ud800" <= char <= "\udfff" for char in name)):
        raise VggnbError(f"Class names that are not UTF-8 text: {listed(no_text)}.", where, "Rename these folders.")
