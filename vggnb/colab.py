"""What only Google Colab has: Drive, uploads from and downloads to the user's computer, a choice of GPUs."""

import errno
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from vggnb.storage import VggnbError, make_folder

WITHOUT_DRIVE = "To work without Drive, choose another SOURCE in the setup cell, such as 'upload a zip'."
GPU = "In Colab, a GPU is much faster: Runtime > Change runtime type > T4 GPU."
FAILURES = {  # part of the error's text -> what happened, what to do
    "credential propagation was unsuccessful": (
        "Access to Drive was not granted.",
        "Run the cell again, choose the account whose Drive holds your images and tick every box; allow pop-ups and "
        "third-party cookies for colab.research.google.com."),
    "must not already contain files": (
        "The mount folder holds files, so Drive cannot be mounted on it.",
        "Runtime > Disconnect and delete runtime, then run the pages from the top; nothing on Drive is lost."),
    "timeout": (
        "Drive did not answer in time.",
        "Run the cell again. If it persists, My Drive may hold too many files at its top level: move them into "
        "folders."),
    "NotImplementedError": ("This runtime cannot mount Drive.", "Use a hosted Colab runtime in the browser."),
    **dict.fromkeys(("ImportError", "ModuleNotFoundError"),
                    ("This is not a Colab kernel.", "Mount Drive in a notebook cell: mount_drive().")),
    "": ("Drive could not be mounted ({text}).", "Run the cell again and allow access in its window."),
}  # fmt: skip


def mount_state(mountpoint: Path) -> str:
    """Of Google Drive: "mounted", "dropped" (it was mounted and its connection died) or "absent"."""
    try:
        os.stat(mountpoint / "MyDrive")
    except OSError as error:
        return "dropped" if error.errno in (errno.ENOTCONN, errno.EIO) else "absent"
    return "mounted"


def mount(mountpoint: Path) -> None:
    """Mount Google Drive, unless it is mounted."""
    if (state := mount_state(mountpoint)) == "mounted":
        return
    print("Choose the Google account whose Drive holds your images.")
    try:
        from google.colab import drive

        drive.mount(str(mountpoint), force_remount=state == "dropped", timeout_ms=120_000)
    except Exception as error:  # Colab's own MessageError has no public name
        text = f"{type(error).__name__}: {error}"
        what, remedy = next(words for part, words in FAILURES.items() if part.lower() in text.lower())
        raise VggnbError(what.format(text=text), mountpoint, f"{remedy} {WITHOUT_DRIVE}") from error
    if mount_state(mountpoint) != "mounted":
        remedy = f"Runtime > Restart session, then mount again. {WITHOUT_DRIVE}"
        raise VggnbError("Drive was mounted but its MyDrive folder is not there.", mountpoint, remedy)


def upload(folder: Path) -> Path:
    """Upload a file from the user's computer into a folder."""
    from google.colab import files

    print("Choose a .zip with one folder for each class.")
    if not (names := list(files.upload(target_dir=str(make_folder(folder))))):
        raise VggnbError("Nothing was uploaded.", "SOURCE", "Run the cell again and choose a file, or another SOURCE.")
    return folder / Path(names[0]).name


def download(path: Path) -> None:
    """Send a file to the user's computer through the browser."""
    from google.colab import files

    files.download(str(path))


def install(package: str) -> None:
    """Install one package of PyPI, and nothing that it depends on, unless it is installed."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        print(f"Installing {package} ...")
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", package], check=False)
        importlib.invalidate_caches()
