"""Files that are written whole or not at all, hashes, and the one error that users see.

A file goes to a temporary neighbour first, is flushed to the disk, and takes its final name by one rename: a reader
finds the old file or the new one.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

TEMPORARY_PREFIX = ".vggnb-tmp-"
AGAIN = "Create it again with the step that writes it."


class VggnbError(Exception):
    """An error that the user can fix: the rule that was broken, the place, and what to do next."""

    def __init__(self, what: str, where: object, remedy: str):
        self.what, self.where, self.remedy = what, str(where), remedy
        super().__init__(f"{what}\n  where:      {where}\n  what to do: {remedy}")

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback."""
        return [f"VggnbError: {self}"]


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FULL = "Free some space or choose another folder; what was there before is untouched."
ELSEWHERE = (
    "You do not have permission; choose another folder. Folders that you did not name yourself are under VGGNB_HOME."
)
NO_FOLDER = "A file stands where a folder is needed: rename it or choose another place."
GONE = {errno.ENOTCONN, errno.ETIMEDOUT, errno.ESTALE}  # the mount itself has died: trying again is no use
REMOUNT = "The storage is disconnected. On Colab, run the mount cell again, then this cell; elsewhere, mount it again."
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ELSEWHERE),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), NO_FOLDER),
    **dict.fromkeys(GONE, REMOUNT),
    errno.EIO: "The storage did not answer: wait a minute and run this again; if it persists, copy the file again.",
}


def mendable(error: OSError, path: object) -> VggnbError:
    """An operating system's error as one that the user can act on."""
    remedy = REMEDIES.get(error.errno, "Check that the place exists and that you may use it, then run this again.")
    return VggnbError(f"Storage error: {error.strerror or error}.", path, remedy)


@contextlib.contextmanager
def storage_errors(path: object):
    """Turn every OSError inside into a VggnbError that names `path`."""
    try:
        yield
    except OSError as error:
        raise mendable(error, path) from error


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, and try at once, not after an hour, whether a file can be written in it."""
    path = Path(path)
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=TEMPORARY_PREFIX):
            pass
    return path


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made, or cannot be written to; it is not made."""
    folder = Path(folder).absolute()
    place = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    with storage_errors(place):
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            number = errno.EACCES if place.is_dir() else errno.ENOTDIR
            raise OSError(number, os.strerror(number))


def check_outside(path: Path, dataset: Path, what: str, option: str) -> None:
    """Refuse to write `what` among a dataset's images, where it would be taken for a class, or to an address."""
    check_no_address(path, what, option)
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(dataset)):
        raise VggnbError(f"{what} would lie inside the dataset.", path, f"Choose a location outside it with {option}.")


def check_no_address(path: Path | str, what: str, option: str) -> None:
    """Refuse an address such as s3://bucket or https://example.org/photos.zip where a file or folder is needed."""
    if re.match("https?:/", os.fspath(path), re.IGNORECASE):
        remedy = "Download it first and give the name of the file; an archive need not be unpacked."
        raise VggnbError(f"{what} must be on a disk; this is a web address.", path, remedy)
    if re.match("[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):  # a path has one slash of s3://; C:/ is a disk
        remedy = f"Mount the storage (gcsfuse, rclone mount) and name the folder where it is mounted with {option}."
        raise VggnbError(f"{what} must be on a disk; this is an address.", path, remedy)


@contextlib.contextmanager
def replacing(path: Path):
    """Yield a temporary path with the same ending; when the block ends well it becomes `path`, else it vanishes.

    For libraries that write files themselves (Keras truncates its target before it writes).
    """
    path = Path(path)
    # The original name comes last: Keras looks at how the name ends (".weights.h5").
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.urandom(4).hex()}-{path.name[-80:]}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: object) -> None:
    """Write JSON that any program can read: UTF-8, no NaN."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "surrogateescape"))


def read_json(path: Path, remedy: str = AGAIN) -> object:
    """Read a JSON file that this library wrote."""
    try:
        with storage_errors(path):
            return json.loads(Path(path).read_bytes().decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise VggnbError(f"This file is damaged: {error}.", path, remedy) from error


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV, with the line ends of that format: others would leave a carriage return in a name unquoted."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def temporary_of(name: str) -> int | None:
    """The process whose number is in the name of a temporary file or folder; None where there is no number."""
    pid = name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    return int(pid) if name.startswith(TEMPORARY_PREFIX) and pid.isdecimal() else None


def is_alive(pid: int) -> bool:
    """Whether a process of this computer exists; True on Windows, where asking would stop it."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # someone else's
        pass
    return True
