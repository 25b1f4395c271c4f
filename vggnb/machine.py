"""What this runs on: Colab, Kaggle, Binder or a laptop; Google Drive; cores, versions. Nothing heavy is imported."""

import errno
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import vggnb
from vggnb.storage import VggnbError

CONTENT = Path("/content")  # Colab's fast local disk; what is on it is lost with the machine
KAGGLE_WORKING = Path("/kaggle/working")  # what Kaggle keeps of a session
MOUNT_S = 120  # patience with Drive
WITHOUT_DRIVE = "To work without Drive, set VGGNB_HOME=/content/vggnb and VGGNB_DATASET, and download what you make."


def environment() -> str:
    """Say where this code runs: "colab", "kaggle", "binder" or "local"."""
    # Kaggle first: its machines are built on Colab's and carry Colab's variables.
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ or os.path.exists(KAGGLE_WORKING):
        return "kaggle"
    if "google.colab" in _running_shell() or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "binder" if "BINDER_SERVICE_HOST" in os.environ else "local"


def _running_shell() -> str:
    """The repr of the IPython shell we run under, "" for none, found without importing IPython."""
    return str(sys.modules["IPython"].get_ipython() or "") if "IPython" in sys.modules else ""


def mount_drive(*, quiet: bool = False) -> Path | None:
    """Mount Google Drive on Colab and give its MyDrive folder; elsewhere say so and give None (article step 5).

    Raises:
        VggnbError: Drive could not be mounted; the text says what to do.
    """
    if environment() != "colab":
        print("Not on Colab: there is no Drive to mount.")
        return None
    mountpoint = CONTENT / "drive"
    mounted = _mount_state(mountpoint)
    if mounted != "alive":
        print("Mount with the account whose Drive holds your pictures.")
        try:
            from google.colab import drive

            drive.mount(str(mountpoint), force_remount=mounted == "dropped", timeout_ms=MOUNT_S * 1000)
        except Exception as error:  # the shell's own MessageError has no public name
            raise _mount_error(error, mountpoint) from error
        if _mount_state(mountpoint) != "alive":
            remedy = f"Runtime > Restart session, then mount again. {WITHOUT_DRIVE}"
            raise VggnbError("Drive was mounted but its MyDrive folder is not there.", mountpoint, remedy)
    if not quiet or mounted != "alive":
        print("Drive is mounted: your files are in MyDrive.")
    return mountpoint / "MyDrive"


def _mount_state(mountpoint: Path) -> str:
    """Of a mount: "alive", "dropped" (it was there and its connection died) or "absent"."""
    try:
        os.stat(mountpoint / "MyDrive")
    except OSError as error:
        return "dropped" if error.errno in (errno.ENOTCONN, errno.EIO) else "absent"
    return "alive"


def _mount_error(error: Exception, mountpoint: Path) -> VggnbError:
    """Put what Colab says about a failed mount in words a learner can act on."""
    text = f"{type(error).__name__}: {error}"
    known = {
        "credential propagation was unsuccessful": (
            "Drive refused: the permission was not given.",
            "Run the cell again, choose the account whose Drive holds your pictures and tick every box; allow pop-ups "
            "and third-party cookies for colab.research.google.com.",
        ),
        "must not already contain files": (
            "The mount folder holds files, so Drive cannot be mounted on it.",
            "Runtime > Disconnect and delete runtime, then run the pages from the top; nothing on Drive is lost.",
        ),
        "timeout": (
            "Drive did not answer in time.",
            "Run the cell again. If it persists, My Drive holds too many files at its top: move them into folders.",
        ),
        "NotImplementedError": ("This runtime cannot mount Drive.", "Use a hosted Colab runtime in the browser."),
        "ImportError": ("This is not a Colab kernel.", "Mount Drive in a notebook cell: mount_drive()."),
        "ModuleNotFoundError": ("This is not a Colab kernel.", "Mount Drive in a notebook cell: mount_drive()."),
    }
    default = (f"Drive could not be mounted ({text}).", "Run the cell again and allow access in the window that opens.")
    what, remedy = next((words for key, words in known.items() if key.lower() in text.lower()), default)
    return VggnbError(what, mountpoint, f"{remedy} {WITHOUT_DRIVE}")


def python_path() -> str:
    """PYTHONPATH for a fresh process that must find this same library, wherever this one was started."""
    home = str(Path(vggnb.__file__).resolve().parent.parent)
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def versions() -> dict[str, str | None]:
    """Version of each part that matters, None where it is not installed; nothing is imported."""
    found = {"python": platform.python_version(), "vggnb": vggnb.__version__}
    for name in ("numpy", "pillow", "matplotlib", "tensorflow", "keras", "onnxruntime", "ipywidgets"):
        found[name] = _version(name)
    found["tensorflow"] = found["tensorflow"] or _version("tensorflow-cpu")
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_words() -> str:
    """The processor cores and the graphics card that can be seen without starting TensorFlow."""
    devices = os.listdir("/dev") if os.path.isdir("/dev") else []
    gpus = sum(name.startswith("nvidia") and name[6:].isdigit() for name in devices)
    return f"{cores()} CPU cores, " + (f"{gpus} NVIDIA GPU" if gpus else "no GPU seen")


def threads() -> int | None:
    """Threads for TensorFlow that VGGNB_THREADS asks for; None leaves it to TensorFlow."""
    text = os.environ.get("VGGNB_THREADS")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise VggnbError(f"Not a number of threads: '{text}'.", "VGGNB_THREADS", "Set it to a whole number from 1.")
    return int(text)
