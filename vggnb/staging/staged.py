"""The list of a staged copy: which of its files is which of the source's, and whether each is still whole.

One line a file, added as it arrives, so that a killed copy goes on where it stopped.
"""

import csv
import io
import json
import posixpath
from dataclasses import asdict, dataclass
from pathlib import Path

from vggnb.folders import user_table
from vggnb.paths import check_outside
from vggnb.staging.reading import SourceFile
from vggnb.storage import sha256_file, write_bytes

LIST = ".vggnb-staged.jsonl"  # hidden: a census counts it as a system file


@dataclass(frozen=True, slots=True)
class Staged:
    """Which file, as it was, and what it is called here (POSIX, relative)."""

    source: str
    size: int
    mtime_ns: int
    staged: str
    sha256: str

    def line(self) -> bytes:
        """As it stands in the list."""
        return (json.dumps(asdict(self)) + "\n").encode()


def staged_files(folder: Path) -> list[Staged]:
    """Which of the source's files each file of a staged folder is."""
    return list(read_list(folder)[1].values())


def read_list(folder: Path) -> tuple[str, dict[str, Staged]]:
    """Where the copy comes from, and the rows by source path; a last line that a kill cut short is left out."""
    rows, origin = {}, ""
    try:
        lines = (folder / LIST).read_bytes().split(b"\n")
        origin = json.loads(lines[0])["origin"]
        for line in lines[1:]:
            row = Staged(**json.loads(line))
            rows[row.source] = row
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return origin, rows


def check_apart(path: Path, dataset: Path, what: str, option: str) -> None:
    """`paths.check_outside` for a dataset and, if it is a staged copy, for the folder that was copied, too."""
    origin, _ = read_list(dataset)
    for pictures in (dataset, Path(origin)) if origin else (dataset,):
        check_outside(path, pictures, what, option)


def write_list(folder: Path, origin: str, rows: dict[str, Staged]) -> None:
    """Write the whole list anew."""
    lines = [(json.dumps({"origin": origin}) + "\n").encode(), *(row.line() for row in rows.values())]
    write_bytes(folder / LIST, b"".join(lines))


def whole_rows(folder: Path, origin: str, files: list[SourceFile] | None) -> dict[str, Staged]:
    """The rows whose source has not changed and whose bytes here are whole; `files` None: the source is not asked."""
    told, rows = read_list(folder)
    if told != origin:
        return {}
    if files is not None:
        now = {file.path: (file.size, file.mtime_ns) for file in files}
        rows = {name: row for name, row in rows.items() if now.get(name) == (row.size, row.mtime_ns)}
    return {name: row for name, row in rows.items() if _is_whole(folder / row.staged, row.sha256)}


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except OSError:
        return False


def is_complete(target: Path, origin: str, files: list[SourceFile] | None) -> bool:
    """Whether `target` is the whole copy of what the source holds now."""
    told, rows = read_list(target)
    wanted = rows.keys() if files is None else {file.path for file in files}
    return told == origin and rows.keys() == wanted and whole_rows(target, origin, files).keys() == wanted


def translate_tables(folder: Path, rows: dict[str, Staged]) -> None:
    """Put each table of the source that has a column `path` beside its pictures, with the names that they have here."""
    for name, row in rows.items():
        if not name.lower().endswith(".csv"):
            continue
        reader, delimiter = user_table((folder / row.staged).read_bytes())
        try:
            lines = list(reader)
        except csv.Error:  # no table, only named like one
            continue
        head = [cell.strip().lower() for cell in lines[0]] if lines else []
        if "path" not in head:
            continue
        at, here = head.index("path"), posixpath.dirname(name)
        for cells in lines[1:]:
            if len(cells) > at:
                found = rows.get(posixpath.normpath(posixpath.join(here, cells[at].replace("\\", "/"))))
                cells[at] = posixpath.relpath(found.staged, here or ".") if found else cells[at]
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=delimiter).writerows(lines)
        write_bytes(folder / name, buffer.getvalue().encode("utf-8", "surrogateescape"))
