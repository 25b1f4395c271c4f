"""TensorFlow and Keras set up as vggnb needs them, and what the device decides: the precision and the batch size.

All other modules import `tf` and `keras` from here.
"""

import contextlib
import os
import sys
from pathlib import Path

from vggnb.machine import threads
from vggnb.paths import PRECISIONS
from vggnb.storage import VggnbError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # must be set before TensorFlow is first imported

# Keras's backend is TensorFlow, whatever an old keras.json says.
imported, named = sys.modules.get("keras"), os.environ.get("KERAS_BACKEND")
backend = imported.backend.backend() if hasattr(imported, "backend") else named or "tensorflow"
if backend != "tensorflow":
    by = "by KERAS_BACKEND" if named == backend else "in keras.json"
    remedy = "Set KERAS_BACKEND=tensorflow before Keras is first imported; in a notebook, restart the kernel first."
    raise VggnbError(f"Keras is set to the backend {backend} {by}; vggnb needs tensorflow.", "Keras", remedy)
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402, F401 - after the variables that they read
import tensorflow as tf  # noqa: E402

if wanted := threads():
    with contextlib.suppress(RuntimeError):  # TensorFlow is at work already: its threads cannot be changed any more
        tf.config.threading.set_intra_op_parallelism_threads(wanted)
        tf.config.threading.set_inter_op_parallelism_threads(wanted)


def decide_precision(choice: str = "auto") -> tuple[str, str]:
    """The precision of the convolutions, one of `paths.PRECISIONS`, and a line that says why.

    "auto" depends on the hardware's properties alone, so that two runs on one machine never differ.
    """
    if choice not in PRECISIONS:
        raise VggnbError(f"There is no precision '{choice}'.", "--precision", f"Use {', '.join(PRECISIONS)}.")
    if choice != "auto":
        return choice, f"Precision: {choice}, as requested."
    if gpus := tf.config.list_physical_devices("GPU"):
        capability = tuple(tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)))
        # Tensor cores take float16 from 7.0 on, and bfloat16, which cannot overflow, from 8.0 on.
        name = "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
        return name, f"Precision: {name}, for a GPU of compute capability {'.'.join(map(str, capability))}."
    units = cpu_flags() & {"amx_bf16", "avx512_bf16"}  # the names that Linux gives them
    name = "bfloat16" if units else "float32"
    return name, f"Precision: {name}, for a CPU with {', '.join(sorted(units)) or 'no 16-bit arithmetic'}."


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The units of the CPU; none where the system does not list them."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def batch_size(image_size: int) -> int:
    """Images in a forward pass: 32 on a CPU, where more is not faster; on a GPU what half of its memory holds."""
    if not tf.config.list_physical_devices("GPU"):
        return 32
    from tensorflow.python.client import device_lib  # only this gives how much TensorFlow may take

    memory = max(device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU")
    images = memory / 2 / (3 * 4 * 64 * image_size**2)  # block1's activations, in and out, and as much to work with
    return next((size for size in (256, 128, 64, 32) if size <= images), 16)
