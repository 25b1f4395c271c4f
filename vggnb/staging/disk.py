"""What slow or different disks need: repeated reads (Google Drive fails now and then) and names that fit."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from vggnb.storage import VggnbError, sha256_bytes

LONGEST = 255  # bytes of a name on every usual disk
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the second to the sixth attempt
GONE = {errno.ENOTCONN, errno.ETIMEDOUT, errno.ESTALE}  # the mount itself has died: trying again is no use
_TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY}


def with_retries(call: Callable, *args):
    """`call(*args)`, tried again after a pause where the storage did not answer.

    Raises:
        OSError, VggnbError: what the last attempt raised.
    """
    for pause in (*PAUSES, None):
        try:
            return call(*args)
        except (OSError, VggnbError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if pause is None or getattr(cause, "errno", None) not in _TRANSIENT:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")


def read_patiently(path: Path) -> bytes:
    """The bytes of a file."""
    return with_retries(Path(path).read_bytes)


class Names:
    """Gives each source path its path in the copy, POSIX and relative.

    Args:
        new_folder: where the copy is made, if it begins empty: a name that is there already belongs to another source
            path, also on a disk that does not tell Cat from cat.

    Attributes:
        renamed: path in the copy -> path in the source, where the two differ.
    """

    def __init__(self, new_folder: Path | None = None):
        self.renamed: dict[str, str] = {}
        self._new_folder, self._folders, self._taken = new_folder, {"": ""}, set()

    def place(self, source: str, *, is_folder: bool = False) -> str:
        """The path for a source path; a file that comes twice gets two."""
        if is_folder and source in self._folders:
            return self._folders[source]
        parent, _, name = source.rpartition("/")
        within = PurePosixPath(self.place(parent, is_folder=True))
        plain = PurePosixPath(_writable(name))
        target, attempt = str(within / plain), 0
        while target in self._taken or (self._new_folder and os.path.lexists(self._new_folder / target)):
            mark = sha256_bytes(f"{source}\n{attempt}".encode("utf-8", "surrogateescape"))[:6]
            target, attempt = str(within / f"{plain.stem}~{mark}{plain.suffix}"), attempt + 1
        self._taken.add(target)
        if is_folder:
            self._folders[source] = target
        if target != str(within / name):
            self.renamed[target] = source
        return target


def _writable(name: str) -> str:
    """The name: bytes that are not UTF-8 are read as old Windows programs wrote them, and a long one is cut."""
    data = name.encode("utf-8", "surrogateescape")
    try:
        kept = data.decode("utf-8")
    except UnicodeDecodeError:
        kept = data.decode("cp1252", "replace")
    ending = PurePosixPath(kept).suffix[:10]
    return kept if len(kept.encode()) <= LONGEST else kept.encode()[:200].decode("utf-8", "ignore") + ending
