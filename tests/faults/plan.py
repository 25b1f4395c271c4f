"""The injector: it stands between the library and the operating system, below `open` and `os`."""

import builtins
import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

OPERATIONS = ("open", "read", "write", "fsync", "rename", "unlink", "mkdir", "listdir", "stat")
_OS_FUNCTIONS = {
    "fsync": ("fsync",),
    "rename": ("replace", "rename"),
    "unlink": ("unlink", "remove"),
    "mkdir": ("mkdir",),
    "listdir": ("scandir", "listdir"),
    "stat": ("stat", "lstat"),
}


@dataclass
class Plan:
    """Which operation fails, when and how; and whether it came to that.

    Attributes:
        operation: one of OPERATIONS.
        nth: the first one is 1.
        error: errno; or "kill" (SIGKILL to this process), "hang" (sleep), "short" (write half, then ENOSPC).
        forever: every one from the nth on, as a dead mount does.
        under: only what happens below this folder counts.
    """

    operation: str
    nth: int
    error: int | str
    under: Path
    forever: bool = False
    hang_s: float = 60.0
    count: int = 0
    fired: bool = False
    armed: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, operation: str, path: object) -> bool:
        """Count an operation; fail if its turn has come; True asks the caller to do half and fail."""
        if not self.armed or operation != self.operation or not self._is_under(path):
            return False
        with self.lock:
            self.count += 1
            if self.count != self.nth and not (self.forever and self.count > self.nth):
                return False
            self.fired = True
        if self.error == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.error == "short":
            return True
        if self.error == "hang":
            time.sleep(self.hang_s)
            return False
        raise OSError(self.error, os.strerror(self.error), str(path))

    def disarm(self) -> None:
        """From here on everything works, so that a test can look at the result."""
        self.armed = False

    def _is_under(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return text == str(self.under) or text.startswith(str(self.under) + os.sep)


class _File:
    """An open file whose reads and writes can fail."""

    def __init__(self, file, path, plan: Plan):
        self._file, self._path, self._plan = file, path, plan

    def read(self, *args):
        self._plan.strike("read", self._path)
        return self._file.read(*args)

    def readinto(self, buffer):
        self._plan.strike("read", self._path)
        return self._file.readinto(buffer)

    def write(self, data):
        if self._plan.strike("write", self._path):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise OSError(28, os.strerror(28), str(self._path))
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *exception):
        return self._file.__exit__(*exception)

    def __iter__(self):
        return iter(self._file)

    def __next__(self):
        return next(self._file)


@contextlib.contextmanager
def inject(operation: str, nth: int, error: int | str, *, under: Path, **options) -> Iterator[Plan]:
    """Fail the nth operation of a kind below a folder, while the block runs."""
    assert operation in OPERATIONS
    plan = Plan(operation, nth, error, Path(under), **options)
    handles: dict[int, object] = {}
    real_open, real_os_open = io.open, os.open

    def open_(path, *args, **kwargs):
        plan.strike("open", path)
        file = real_open(path, *args, **kwargs)
        return _File(file, path, plan) if plan._is_under(path) else file

    def os_open(path, *args, **kwargs):
        handle = real_os_open(path, *args, **kwargs)
        handles[handle] = path
        return handle

    def wrapped(real):
        def call(path, *args, **kwargs):
            plan.strike(
                operation, getattr(path, "_path", None) or handles.get(path, path) if operation == "fsync" else path
            )
            return real(path, *args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(io, "open", open_))
        stack.enter_context(mock.patch.object(builtins, "open", open_))
        stack.enter_context(mock.patch.object(os, "open", os_open))
        for name in _OS_FUNCTIONS.get(operation, ()):
            stack.enter_context(mock.patch.object(os, name, wrapped(getattr(os, name))))
        yield plan


def every(operation: str, error: int | str, *, under: Path, most: int = 2000, **options) -> Iterator[Plan]:
    """SQLite's loop: yield inside an injection of the 1st, 2nd, 3rd... operation, until one is never reached.

    The body of the loop runs with the fault in place; it calls `plan.disarm()` before it looks at the result.
    """
    for nth in range(1, most):
        with inject(operation, nth, error, under=under, **options) as plan:
            yield plan
        if not plan.fired:
            return
    raise AssertionError(f"still failing after {most} faults")
