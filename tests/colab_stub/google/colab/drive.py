"""Stub of google.colab.drive with the failures that people meet (texts from colabtools, 2026-04)."""

import os

behaviour = None  # a test may set it; else the environment variable decides
calls = []


class MessageError(Exception):
    """What the real shell raises; it has no public name there either."""


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    """Make `MyDrive` under the mountpoint as a real mount would show it, or fail as a real mount does."""
    mode = behaviour or os.environ.get("VGGNB_STUB_DRIVE", "ok")
    calls.append({"mountpoint": mountpoint, "force_remount": force_remount, "timeout_ms": timeout_ms})
    failures = {
        "refused": ValueError("mount failed"),
        "credential": MessageError("Error: credential propagation was unsuccessful"),
        "files": ValueError("Mountpoint must not already contain files"),
        "timeout": ValueError("mount failed: timeout during initial read of root folder; for more info: https://..."),
        "not_implemented": NotImplementedError("google.colab.drive is unsupported in this environment"),
    }
    if mode in failures:
        raise failures[mode]
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space")
    if os.path.isdir(os.path.join(mountpoint, "MyDrive")) and not force_remount:
        print(f"Drive already mounted at {mountpoint}; to attempt to forcibly remount, call drive.mount(...)")
        return
    if os.path.isdir(mountpoint) and os.listdir(mountpoint) and not force_remount:
        raise ValueError("Mountpoint must not already contain files")
    if folder := os.environ.get("VGGNB_STUB_MYDRIVE"):
        os.makedirs(mountpoint, exist_ok=True)
        os.symlink(folder, os.path.join(mountpoint, "MyDrive"))
    elif mode != "empty":
        os.makedirs(os.path.join(mountpoint, "MyDrive"), exist_ok=True)
    print(f"Mounted at {mountpoint}")
