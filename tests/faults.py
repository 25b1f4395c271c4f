"""Make storage fail, or the program die, at any chosen operation below a folder.

with inject("write", 3, errno.ENOSPC, under=folder) as plan: ...      # the third write fails
for plan in every("rename", errno.EIO, under=folder): ...             # SQLite's loop: fail the 1st, 2nd, 3rd, ...
killed_at(function, "rename", 2, under=folder)                        # run it in a child, which dies at the 2nd rename
killed(function, after_s=0.02)                                        # the same, after a while
"""

import builtins
import contextlib
import io
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tqdm.std import tqdm

FUNCTIONS = {  # of `os`, for each operation besides open, read and write
    "fsync": ("fsync",),
    "rename": ("replace", "rename"),
    "unlink": ("unlink", "remove"),
    "mkdir": ("mkdir",),
    "listdir": ("scandir", "listdir"),
    "stat": ("stat", "lstat"),
}


@dataclass
class Plan:
    """Which operation fails, when and how; and whether it came to that."""

    operation: str  # "open", "read", "write", or a key of FUNCTIONS
    nth: int  # the first one is 1
    error: int | str  # errno; or "kill" (SIGKILL to this process), "short" (write half, then ENOSPC)
    under: Path  # only what happens below this folder counts
    forever: bool = False  # every one from the nth on, as a dead mount does
    count: int = 0
    fired: bool = False
    armed: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, operation: str, path: object) -> bool:
        """Count an operation; fail if its turn has come; True asks the caller to do half and fail."""
        if not self.armed or operation != self.operation or not self.covers(path):
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
        raise OSError(self.error, os.strerror(self.error), str(path))

    def disarm(self) -> None:
        """From here on everything works, so that a test can look at the result."""
        self.armed = False

    def covers(self, path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return text == str(self.under) or text.startswith(str(self.under) + os.sep)


def failing(file, path: object, plan: Plan):
    """The open file, whose reads and writes can fail."""
    read, readinto, write = (getattr(file, name, None) for name in ("read", "readinto", "write"))

    def write_or_half(data):
        if plan.strike("write", path):
            write(data[: len(data) // 2])
            file.flush()
            raise OSError(28, os.strerror(28), str(path))
        return write(data)

    file.read = lambda *args: (plan.strike("read", path), read(*args))[1]
    file.write = write_or_half
    if readinto:
        file.readinto = lambda buffer: (plan.strike("read", path), readinto(buffer))[1]
    return file


@contextlib.contextmanager
def inject(operation: str, nth: int, error: int | str, *, under: Path, forever: bool = False) -> Iterator[Plan]:
    """Fail the nth operation of a kind below a folder, while the block runs."""
    plan, handles = Plan(operation, nth, error, Path(under), forever), {}
    real_open, real_os_open = io.open, os.open

    def open_(path, *args, **kwargs):
        plan.strike("open", path)
        file = real_open(path, *args, **kwargs)
        return failing(file, path, plan) if plan.covers(path) else file

    def os_open(path, *args, **kwargs):
        handle = real_os_open(path, *args, **kwargs)
        handles[handle] = path
        return handle

    def wrapped(real):
        def call(path, *args, **kwargs):
            plan.strike(operation, handles.get(path, getattr(path, "name", path)) if operation == "fsync" else path)
            return real(path, *args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for module, name, new in ((io, "open", open_), (builtins, "open", open_), (os, "open", os_open)):
            stack.enter_context(mock.patch.object(module, name, new))
        for name in FUNCTIONS.get(operation, ()):
            stack.enter_context(mock.patch.object(os, name, wrapped(getattr(os, name))))
        yield plan


def every(operation: str, error: int | str, *, under: Path, most: int = 2000) -> Iterator[Plan]:
    """SQLite's loop: yield inside an injection of the 1st, 2nd, 3rd... operation, until one is never reached."""
    for nth in range(1, most):
        with inject(operation, nth, error, under=under) as plan:
            yield plan
        if not plan.fired:
            return
    raise AssertionError(f"still failing after {most} faults")


def killed(function: Callable[[], object], *, after_s: float | None, sign: Path | None = None) -> bool:
    """Whether the child had to be killed `after_s` seconds (None: never) after its start, or after `sign` is there."""
    child = _fork(function)
    if after_s is not None:
        while sign and not sign.exists() and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.002)
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def killed_at(function: Callable[[], object], operation: str, nth: int, *, under: Path) -> bool:
    """Whether the child reached its nth operation and died there."""

    def body() -> None:
        with inject(operation, nth, "kill", under=under):
            function()

    return os.WIFSIGNALED(os.waitpid(_fork(body), 0)[1])


def _fork(function: Callable[[], object]) -> int:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of Python 3.12: there are threads
        child = os.fork()
    if child == 0:
        try:
            tqdm.set_lock(threading.RLock())  # tqdm's own is shared with the parent: dying with it would block that
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child
