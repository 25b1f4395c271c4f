"""What this code runs on: Colab or a laptop, a notebook or a terminal, cores and versions; and the progress bar."""

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

from tqdm import std

import vggnb
from vggnb.storage import VggnbError

KAGGLE_WORKING = Path("/kaggle/working")  # what Kaggle keeps of a session


def environment() -> str:
    """Where this code runs: "colab", "kaggle", "binder" or "local"."""
    # Kaggle first: its machines are built on Colab's and carry Colab's variables.
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ or os.path.exists(KAGGLE_WORKING):
        return "kaggle"
    if "google.colab" in str(running_shell()) or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "binder" if "BINDER_SERVICE_HOST" in os.environ else "local"


def running_shell() -> object | None:
    """The IPython shell that this runs in, if there is one; IPython is not imported to find out."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def python_path() -> str:
    """PYTHONPATH with which a fresh process finds this same library."""
    home = str(Path(vggnb.__file__).resolve().parent.parent)
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def versions() -> dict[str, str | None]:
    """Version of each package that matters, None where it is not installed; nothing is imported."""
    found = {"python": platform.python_version(), "vggnb": vggnb.__version__}
    for name in ("numpy", "pillow", "matplotlib", "tensorflow", "keras", "onnxruntime", "ipywidgets"):
        found[name] = None
        for distribution in (name, f"{name}-cpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = found[name] or importlib.metadata.version(distribution)
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_words() -> str:
    """The processor cores and the graphics card that can be seen without starting TensorFlow."""
    devices = os.listdir("/dev") if os.path.isdir("/dev") else []
    gpus = sum(name.startswith("nvidia") and name[6:].isdigit() for name in devices)
    return f"{cores()} CPU cores, " + (f"{gpus} NVIDIA GPU" if gpus else "no GPU seen")


def threads() -> int | None:
    """Threads for TensorFlow, from VGGNB_THREADS; None leaves it to TensorFlow."""
    text = os.environ.get("VGGNB_THREADS", "")
    if text and not re.fullmatch("0*[1-9][0-9]*", text):
        what = f"Not a number of threads: '{text}'."
        raise VggnbError(what, "VGGNB_THREADS", "Set it to a whole number, 1 or greater.")
    return int(text) if text else None


class tqdm(std.tqdm):  # noqa: N801
    """tqdm's bar. In a notebook it is text that clears itself at the end, so that a saved page holds no stale bar."""

    def __init__(self, *args, **options):
        in_notebook = "IPKernelApp" in getattr(running_shell(), "config", {})
        super().__init__(*args, **({"file": sys.stdout, "leave": False} if in_notebook else {}) | options)
