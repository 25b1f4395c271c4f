"""An export in its own runtime, as another program would run it: without Keras, and only SavedModel with TensorFlow.

    python -m vggnb.save.runtimes KIND FOLDER

is the fresh process in which `verify` compares an export of a bundle with the saved model.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggnb.images import resize_image
from vggnb.metrics.ood import FeatureRanges
from vggnb.paths import cores, threads
from vggnb.recipe import Recipe
from vggnb.save.spec import CHECK_IMAGES, MOST_FACTS, Spec, check_file, read_manifest, read_spec
from vggnb.storage import VggnbError, read_json

RANGES = "feature_ranges.json"
INSTALL = 'Install the extra: pip install "vggnb[export]".'
RUNTIMES = {"savedmodel": "tensorflow", "onnx": "onnxruntime", "litert": "ai_edge_litert"}  # modules
Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class OnnxBundle:
    """A bundle whose model runs in onnxruntime: all that `predict` needs, without TensorFlow and Keras.

    Attributes:
        run: pixels (b, size, size, 3), 0 to 255 -> probabilities (b, classes) and what enters the head (b, d).
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    recipe: Recipe
    ranges: FeatureRanges | None
    run: Forward


def open_onnx(folder: Path) -> OnnxBundle:
    """Open a bundle's ONNX file in onnxruntime, after its checksum and its contents were looked at.

    Raises:
        VggnbError: not a bundle, no ONNX file in it, damaged or hostile; or onnxruntime is not installed.
    """
    if "onnx" not in read_manifest(Path(folder))["models"]:
        remedy = "Save the run again with --formats all, or predict with --engine tensorflow."
        raise VggnbError("This bundle holds no ONNX file.", folder, remedy)
    spec = read_spec(folder, kinds=("onnx",))
    run = load_export("onnx", spec.model_file)
    return OnnxBundle(spec.folder, spec.name, spec.classes, spec.recipe, read_ranges(spec), run)


def read_ranges(spec: Spec) -> FeatureRanges | None:
    """What a bundle knows of pictures like its training data; None where the file is not there.

    Raises:
        VggnbError: the file is damaged.
    """
    path = spec.folder / RANGES
    if RANGES not in spec.document["files"] or not path.exists():
        return None
    if path.stat().st_size > MOST_FACTS:
        raise VggnbError("The file is far too large.", path, "Copy it again, or save the run again.")
    check_file(spec.folder, spec.document, RANGES)
    return FeatureRanges.from_dict(read_json(path), width=spec.recipe.width, where=path)


def load_export(kind: str, path: Path) -> Forward:
    """An export as a function: pixels (b, size, size, 3), 0 to 255 -> probabilities, and in ONNX what enters the head.

    Raises:
        VggnbError: its runtime is not installed, or refuses the file; or VGGNB_THREADS is no number.
    """
    if importlib.util.find_spec(RUNTIMES[kind]) is None:
        raise VggnbError(f"{RUNTIMES[kind]} is not installed.", path, INSTALL)
    load = {"savedmodel": _saved_model, "onnx": _onnx, "litert": _litert}[kind]
    try:
        return load(path)
    except VggnbError:
        raise
    except Exception as error:  # each runtime raises its own kinds; all mean the same to the reader
        what = f"{RUNTIMES[kind]} refuses the file: {str(error).splitlines()[0][:300] if str(error) else error!r}"
        raise VggnbError(what, path, "Save the run again.") from None


def time_export(kind: str, path: Path, size: int, *, repeat: int = 3) -> tuple[float, float]:
    """Seconds to import an export's runtime (unless that was done before) and to load the file; and images a second.

    Args:
        size: pixels a side; the images are in memory already, 32 at a time, and the fastest of `repeat` times counts.
    """
    start = time.perf_counter()
    run = load_export(kind, path)
    loading, seconds = time.perf_counter() - start, []
    images = check_images(size).repeat(4, axis=0)
    run(images)
    for _ in range(repeat):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return loading, len(images) / min(seconds)


def _onnx(path: Path) -> Forward:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads() or cores()  # it would count those of the whole machine
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()

    def run(images):
        probabilities, features = session.run(None, {taken.name: np.asarray(images, np.float32)})
        return probabilities, features

    return run


def _litert(path: Path) -> Forward:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads() or cores())
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images):
        images = np.asarray(images, np.float32)
        interpreter.resize_tensor_input(taken["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"]), None

    return run


def _saved_model(path: Path) -> Forward:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))  # its numbers live as long as it does
    return lambda images: (model.serve(tf.constant(images, tf.float32)).numpy(), None)


def check_images(size: int) -> np.ndarray:
    """The same soft random pictures everywhere, float32 (8, size, size, 3), 0 to 255: for comparing models."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (CHECK_IMAGES, 8, 8, 3), np.uint8)
    return np.stack([resize_image(picture, size, "bilinear") for picture in small]).astype(np.float32)


def _main(kind: str, folder: Path) -> None:
    """The fresh process: print the largest difference of one export as one JSON line."""
    document = read_manifest(folder)
    recipe, file = Recipe.from_dict(read_json(folder / "recipe.json")["recipe"]), document["models"][kind]
    said, _ = load_export(kind, folder / file)(check_images(recipe.image_size))
    print(json.dumps({file: float(np.abs(said - np.array(document["check"])).max())}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
