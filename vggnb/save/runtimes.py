"""Each export opened by the program it is made for, with that program's own loader and without vggnb.

As a program this is the fresh process of `exports.verify_exports`, in which importing vggnb is impossible. Its input is
JSON: {"kinds": [...], "files": {kind: path}, "architecture": the model's JSON, "check": path of images and
probabilities (.npz), "threads": number}; it prints {kind: largest difference in probability}.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

MODULES = {
    "savedmodel": "tensorflow",
    "json": "keras", "h5": "keras", "weights": "keras", "keras": "keras",
    "onnx": "onnxruntime",
    "litert": "ai_edge_litert",
}  # fmt: skip
Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def load(kind: str, path: Path, *, threads: int) -> Forward:
    """A function: pixels (b, size, size, 3), 0 to 255 -> probabilities, and in ONNX also what enters the head."""
    return {"savedmodel": _saved_model, "onnx": _onnx, "litert": _litert}[kind](Path(path), threads)


def _onnx(path: Path, threads: int) -> Forward:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads  # it would count those of the whole machine
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda images: tuple(session.run(None, {taken.name: np.asarray(images, np.float32)}))


def _litert(path: Path, threads: int) -> Forward:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images):
        images = np.asarray(images, np.float32)
        interpreter.resize_tensor_input(taken["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"]), None

    return run


def _saved_model(path: Path, threads: int) -> Forward:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))  # its numbers live as long as it does
    return lambda images: (model.serve(tf.constant(images, tf.float32)).numpy(), None)


def _keras(kind: str, files: dict[str, str], architecture: str) -> Callable:
    import keras

    if kind in ("h5", "keras"):
        return keras.models.load_model(files[kind], compile=False)
    model = keras.models.model_from_json(Path(files[kind]).read_text("utf-8") if kind == "json" else architecture)
    model.load_weights(files["weights"])
    return model


def compare(job: dict) -> dict[str, float]:
    """Of each kind of the job, the largest difference in probability."""
    files, check, found = job["files"], np.load(job["check"]), {}
    for kind in job["kinds"]:
        if MODULES[kind] == "keras":
            model = _keras(kind, files, job["architecture"])
            found[kind] = np.asarray(model(check["images"], training=False))
        else:
            found[kind] = load(kind, files[kind], threads=job["threads"])(check["images"])[0]
    return {kind: float(np.abs(one - check["probabilities"]).max()) for kind, one in found.items()}


if __name__ == "__main__":
    sys.modules["vggnb"] = None  # `import vggnb` fails from here on
    print(json.dumps(compare(json.load(sys.stdin))))
