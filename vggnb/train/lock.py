"""One process at a time trains in a run's folder: the lock is a folder, which only one process can create.

`mkdir` is the one step that every file system does for one caller only; file locks are not supported everywhere.
"""

import contextlib
import os
import shutil
import socket
import time
from pathlib import Path

from vggnb import paths
from vggnb.storage import VggnbError, is_alive, read_json, sha256_bytes, storage_errors, write_json

LOCK = ".vggnb-lock"


@contextlib.contextmanager
def run_lock(folder: Path):
    """Hold the lock of a run's folder, which must exist, while the block runs; calls in one process may be nested.

    Raises:
        VggnbError: another process holds it; the message names the process and what to remove if it is gone.
    """
    folder = Path(folder).absolute()
    place = lock_place(folder)
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.strftime("%Y-%m-%d %H:%M")}
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mkdir(place)
        except FileExistsError:
            owner = _owner(place)
            if (owner.get("pid"), owner.get("host")) == (mine["pid"], mine["host"]):
                yield
                return
            if owner.get("host") != mine["host"] or is_alive(owner["pid"]):
                who = f"by process {owner['pid']} on {owner['host']} since {owner['time']}" if owner else "already"
                remedy = f"Wait until it is done, or name another folder. If that process is gone, remove {place}."
                raise VggnbError(f"The run '{folder.name}' is in use {who}.", folder, remedy) from None
    try:
        write_json(place / "owner.json", mine)
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)


def lock_place(folder: Path) -> Path:
    """The lock's place: the run's folder; for runs on Google Drive, Colab's own disk, which ends with the runtime."""
    if folder.is_relative_to(paths.CONTENT / "drive"):
        return paths.CONTENT / ".vggnb-locks" / sha256_bytes(os.fsencode(folder))[:16]
    return folder / LOCK


def _owner(place: Path) -> dict:
    """Who holds the lock; {} while that is not written."""
    try:
        return read_json(place / "owner.json")
    except VggnbError:
        return {}
