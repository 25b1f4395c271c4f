"""Run a function in a forked child and kill the child: after a while, or at its nth operation."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tqdm.std import tqdm

from faults.plan import inject


def killed(function: Callable[[], object], *, after_s: float | None, sign: Path | None = None) -> bool:
    """Whether the child had to be killed; False: it was done before.

    Args:
        after_s: seconds from the start to the kill; None: the child is left in peace.
        sign: count from the moment that this file is there.
    """
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
    child = os.fork()
    if child == 0:
        try:
            tqdm.set_lock(threading.RLock())  # tqdm's own is shared with the parent: dying with it would block that
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child
