"""One process at a time on a run: a folder that only one can make, and in it a heartbeat. Works on any storage.

`mkdir` is the one step that every file system, Google Drive's included, does for one caller only; file locks are not
supported everywhere. A lock whose holder died is taken over: at once on the same computer, else when its heart has not
beaten for 90 seconds. Who takes over holds a second folder meanwhile, so that two cannot do it at the same time.
"""

import contextlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vggnb.storage import VggnbError, is_alive, storage_errors

LOCK = ".vggnb-lock"
OWNER = "owner.json"
BEAT_S = 30.0
STALE_S = 90.0  # three beats missed
UNSIGNED_S = 10.0  # a lock folder without an owner: its maker died between two steps
PATIENCE_S = 5.0  # for another process that is just signing or taking over


@contextlib.contextmanager
def held(folder: Path) -> Iterator["Lock"]:
    """Hold the lock of a run's folder, which must exist, while the block runs.

    Raises:
        VggnbError: another process holds it; the message says which one and since when.
    """
    lock = Lock(Path(folder))
    with storage_errors(lock.path):
        lock.take()
    try:
        yield lock
    finally:
        lock.release()


class Lock:
    """The lock of one folder, held by this process from `take` to `release`."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / LOCK
        self.owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": os.urandom(8).hex()}
        self.done = threading.Event()

    def take(self) -> None:
        """Make the lock's folder, or take over one whose holder is dead."""
        patience = time.monotonic() + PATIENCE_S
        while True:
            try:
                os.mkdir(self.path)
            except FileExistsError:
                other = self._read()
                if other is None and time.monotonic() > patience:
                    what = "Something stands where this run's lock would be."
                    raise VggnbError(what, self.path, "Remove it.") from None
                if other is None or (_stale(other) and self._clear(other)):
                    time.sleep(0.001)
                    continue
                # Another process may be just about to sign a new lock, or to take over an old one.
                if time.monotonic() > patience or not ("made" in other or _stale(other)):
                    raise self._in_use(other) from None
                time.sleep(0.05)
                continue
            self.owner["since"] = self.owner["heartbeat"] = time.time()
            with contextlib.suppress(FileNotFoundError):  # so slow that it was taken over
                self._write()
                if self.is_ours():
                    threading.Thread(target=self._beat, daemon=True).start()
                    return

    def release(self) -> None:
        """Open the lock, if it is still ours."""
        self.done.set()
        with contextlib.suppress(OSError):  # else it opens by itself: this process ends, or its heart stops beating
            if self.is_ours():
                shutil.rmtree(self.path)

    def is_ours(self) -> bool:
        """Whether no other process took the lock over, for instance while this computer slept."""
        return (self._read() or {}).get("token") == self.owner["token"]

    def check(self) -> None:
        """Call before writing what another process could be writing too.

        Raises:
            VggnbError: the lock was taken over.
        """
        with storage_errors(self.folder):
            if not self.is_ours():
                what = "Another process has taken over this run, because this one did not answer for a while."
                raise VggnbError(what, self.folder, "Wait until the other one is done, then run this again.")

    def _beat(self) -> None:
        """The thread that says every 30 seconds that this process is alive."""
        while not self.done.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a storage that stumbles; two more tries are left
                if not self.is_ours():
                    return
                self.owner["heartbeat"] = time.time()
                self._write()

    def _write(self) -> None:
        """Our name, in one rename; fails when the lock's folder is gone."""
        temporary = self.path / self.owner["token"]
        temporary.write_text(json.dumps(self.owner), encoding="utf-8")
        os.replace(temporary, self.path / OWNER)

    def _read(self) -> dict | None:
        """Who holds the lock; {"made": seconds} when that is not written yet or damaged, None when it is open."""
        # A storage that does not keep its promises cuts a file short.
        with contextlib.suppress(FileNotFoundError, ValueError, RecursionError):
            if _is_owner(owner := json.loads((self.path / OWNER).read_bytes())):
                return owner
        with contextlib.suppress(FileNotFoundError):
            return {"made": self.path.stat().st_mtime}
        return None

    def _clear(self, dead: dict) -> bool:
        """Remove a dead holder's lock, unless another process is just doing that; whether it was our turn."""
        guard = self.folder / f"{LOCK}-takeover"
        try:
            os.mkdir(guard)
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - guard.stat().st_mtime > STALE_S:  # its maker died in these few milliseconds
                    os.rmdir(guard)
            return False
        try:
            if self._read() == dead:
                aside = self.path.with_name(f"{LOCK}-{self.owner['token']}")
                os.rename(self.path, aside)
                shutil.rmtree(aside, ignore_errors=True)
        finally:
            os.rmdir(guard)
        return True

    def _in_use(self, other: dict) -> VggnbError:
        if "made" in other:
            who = "another process that has just begun"
        else:
            since = time.strftime("%H:%M", time.localtime(other["since"]))
            beat = round(time.time() - other["heartbeat"])
            when = f"{max(0, beat)} s ago" if beat >= -STALE_S else f"{-beat} s ahead of this computer's clock"
            who = f"pid {other['pid']} on {other['host']} since {since} (heartbeat {when})"
        remedy = "Wait until it is done or stop it; or name another folder for this run. If you are sure that no"
        remedy += f" process uses it, remove the folder {self.path}."
        return VggnbError(f"Run '{self.folder.name}' is in use by {who}.", self.folder, remedy)


def _is_owner(found: object) -> bool:
    """Whether this is what `_write` writes."""
    kinds = {"host": str, "pid": int, "token": str, "since": float, "heartbeat": float}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        return False
    return all(0 <= found[key] < 1e10 for key in ("since", "heartbeat"))  # what `localtime` takes anywhere


def _stale(owner: dict) -> bool:
    """Whether a lock's holder is surely, or to all appearances, dead.

    A time ahead of ours says nothing: a living holder's clock may go wrong as well as a dead one's.
    """
    if "made" in owner:
        return time.time() - owner["made"] > UNSIGNED_S
    if owner["host"] == socket.gethostname() and not is_alive(owner["pid"]):
        return True
    return time.time() - owner["heartbeat"] > STALE_S
