"""Reads that do not wait for ever: Google Drive may be slow, fail now and then, hang, or be gone.

A read that hangs cannot be stopped, only left behind: each runs in a thread of its own that dies with the program.
"""

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 30.0  # seconds for one read
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # before the second to the sixth try
AHEAD = 8  # reads under way at once; Drive answers slowly, but several at a time
_AHEAD_BYTES = 64_000_000  # and what they may hold together
GONE = {errno.ENOTCONN, errno.ETIMEDOUT, errno.ESTALE}  # the mount itself has died: trying again is no use
_FINAL = GONE | {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to be copied: `path` is POSIX and relative to the dataset."""

    path: str
    size: int
    mtime_ns: int


def read_patiently(path: Path, *, start: int = 0, size: int = -1, first: Future | None = None) -> bytes:
    """Read a file or a part of it, with a deadline for each try and some tries.

    Args:
        start: first byte.
        size: how many bytes; -1 for all.
        first: the first try, if it is under way already.

    Raises:
        OSError: ETIMEDOUT when a read hung, else what the last try said.
    """
    for pause in (*PAUSES, None):
        attempt, first = first or _begin(path, start, size), None
        try:
            return attempt.result(timeout=DEADLINE)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        except OSError as error:
            if error.errno in _FINAL or pause is None:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")


def read_ahead(root: Path, files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, bytes | OSError]]:
    """Yield each file's bytes, or why there are none, in the order given; the next few are being read meanwhile."""
    waiting: deque[tuple[SourceFile, Future]] = deque()

    def answer() -> tuple[SourceFile, bytes | OSError]:
        file, attempt = waiting.popleft()
        try:
            return file, read_patiently(root / file.path, first=attempt)
        except OSError as error:
            return file, error

    for file in files:
        waiting.append((file, _begin(root / file.path, 0, -1)))
        while len(waiting) >= AHEAD or len(waiting) > 1 and sum(file.size for file, _ in waiting) > _AHEAD_BYTES:
            yield answer()
    while waiting:
        yield answer()


def _begin(path: Path, start: int, size: int) -> Future:
    attempt: Future = Future()

    def work() -> None:
        try:
            with open(path, "rb") as file:
                file.seek(start)
                attempt.set_result(file.read(size))
        except BaseException as error:
            attempt.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return attempt
