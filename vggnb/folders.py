"""The files and folders of a dataset, text for messages, and reading ahead."""

import heapq
import math
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vggnb.storage import storage_errors

SYSTEM_NAMES = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "__pycache__", "icon\r",
}  # fmt: skip
IMAGE_FORMATS = {  # by ending; '' where this library reads no such file
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".apng": "PNG", ".gif": "GIF",
    ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".ppm": "PPM", ".pgm": "PPM",
    ".pbm": "PPM", ".pnm": "PPM", ".heic": "HEIF", ".heif": "HEIF", ".jp2": "", ".dng": "",
}  # fmt: skip
IMAGE_ENDINGS = tuple(IMAGE_FORMATS)
TIMES = ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "min"))
HTML_ROWS = 50
HTML_TABLE = """<div style="line-height: 1.4; overflow-x: auto">{% if title %}<p>{{ title }}</p>{% endif %}
<table style="white-space: nowrap; text-align: left"><thead><tr>
{% for cell in header %}<th style="text-align: left; padding: 0 1em 0 0">{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr>
{% for cell in row %}<td style="text-align: left; padding: 0 1em 0 0">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% if notes %}<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}</div>"""
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is run by spreadsheets (OWASP, CSV injection)
INSTEAD = "Put the files themselves in its place, or remove it."
REPEATED = f"The link leads back to a folder above it, or to files that are already counted. {INSTEAD}"
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
    """A folder in the tree; `path` is POSIX and relative to the dataset, as those of its `links` to files are."""

    name: str
    path: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

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
        return any(folder.files for folder in self.all_folders())

    def filled(self) -> list["Folder"]:
        """Sub-folders with a file at any depth."""
        return [folder for folder in self.folders.values() if folder.is_filled()]

    def holds_images(self) -> bool:
        """Whether a file at any depth is named like an image."""
        return any(map(is_named_like_an_image, self.all_files()))

    def images(self) -> int:
        """How many files directly in it are named like images."""
        return sum(map(is_named_like_an_image, self.files))


def shown(name: str) -> str:
    """A name that is safe to print: line breaks, direction overrides and undecodable bytes are escaped."""
    return name if name.isprintable() else ascii(name)


def plain_cell(text: str) -> str:
    """A cell of a CSV file; an apostrophe is put before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) or text.startswith("'") else text


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


def html_table(header: Sequence[str], rows: Sequence[Sequence], *, title: str = "", notes: Sequence[str] = ()) -> str:
    """The first rows of a table as a notebook shows it, with a title and notes; everything but `Markup` is escaped."""
    from jinja2 import Environment
    from markupsafe import Markup

    def plain(value: object) -> object:
        return value if isinstance(value, Markup) else shown(str(value))

    template = Environment(autoescape=True, finalize=plain).from_string(HTML_TABLE)
    more = [f"and {len(rows) - HTML_ROWS} more rows"] * (len(rows) > HTML_ROWS)
    return template.render(header=header, rows=rows[:HTML_ROWS], title=title, notes=[*more, *notes])


def counted(n: int, noun: str) -> str:
    """A number and its noun: '1 image', '2 images'."""
    return f"{n} {noun}{'s' * (n != 1)}"


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names that are safe to print, the first of many: 'cat, dog'."""
    names = [shown(name) for name in names]
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def duration(seconds: float) -> str:
    """Seconds in words: '8 s', '24 min', '1.7 days'."""
    for length, unit in TIMES:
        if (number := seconds / length) >= 2:
            return f"{number:.{int(number < 10)}f} {unit}"
    return f"{math.ceil(seconds)} s"


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is an operating system's or a tool's, not the user's."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_named_like_an_image(name: str) -> bool:
    """A guess for messages only; what a file is, is decided by its content."""
    return name.lower().endswith(IMAGE_ENDINGS)


def walk(dataset: Path) -> tuple[Folder, list[Skipped], list[str]]:
    """The tree of regular files; what is not a regular file; and the system files. Nothing is opened.

    Links are followed to files, and to folders of images that lie elsewhere (Drive shortcuts, another disk); not to
    what is in the tree already, which would count it twice or never end. All others are listed.

    Raises:
        VggnbError: a folder cannot be listed, so that its files cannot be accounted for.
    """
    root, strays, system = Folder("", ""), [], []
    known = {_identity(place) for place in (dataset, *Path(os.path.realpath(dataset)).parents)}
    waiting, links = [(root, False)], []
    while waiting or links:
        if not waiting:  # what is really there comes before what links lead to
            path, folder = heapq.heappop(links)
            found = _follow(dataset, path, folder, known)
            if isinstance(found, Folder):
                waiting.append((found, False))
            elif found:
                strays.append(Skipped(path, found))
            continue
        folder, in_system = waiting.pop()
        with storage_errors(dataset / folder.path), os.scandir(dataset / folder.path) as listing:
            items = sorted(listing, key=lambda item: item.name)
        for item in items:
            path, theirs = _join(folder.path, item.name), in_system or is_system(item.name)
            if item.is_symlink() and not theirs:
                heapq.heappush(links, (path, folder))
            elif item.is_dir(follow_symlinks=False):
                if (identity := _identity(dataset / path)) in known:
                    strays.append(Skipped(path, REPEATED))
                    continue
                known.add(identity)
                child = Folder(item.name, path)
                waiting.append((child, theirs))
                if not theirs:
                    folder.folders[item.name] = child
            elif theirs:
                system.append(path)
            elif item.is_file(follow_symlinks=False):
                folder.files.append(item.name)
            else:
                strays.append(Skipped(path, SPECIAL))
    return root, strays, sorted(system)


def _follow(dataset: Path, path: str, folder: Folder, known: set[tuple[int, int]]) -> Folder | str:
    """Add what a link leads to; gives a folder that is to be listed, or why nothing was added ('' for a file)."""
    name, place = path.rpartition("/")[2], dataset / path
    try:
        mode = os.stat(place).st_mode
        if stat.S_ISREG(mode):
            folder.files.append(name)
            folder.links.append(path)
            return ""
        if not stat.S_ISDIR(mode):
            return SPECIAL
        if (identity := _identity(place)) in known:
            return REPEATED
        os.listdir(place)
    except OSError as error:
        return f"It is a link that cannot be followed ({error.strerror}). {INSTEAD}"
    if not any(is_named_like_an_image(file) for _, _, files in os.walk(place) for file in files):
        return f"It is a link to a folder without images. {INSTEAD}"
    known.add(identity)
    folder.folders[name] = Folder(name, path)
    return folder.folders[name]


def _identity(folder: Path) -> tuple[int, int]:
    """What a folder is, whatever path leads to it."""
    with storage_errors(folder):
        status = os.stat(folder)
    return status.st_dev, status.st_ino


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
