"""Reads that are tried again: Google Drive fails now and then and answers the next time."""

import errno
import time
from collections.abc import Callable
from pathlib import Path

from vggnb.storage import VggnbError

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
