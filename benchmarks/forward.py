"""How much of the machine the frozen network uses: its floating-point operations a second beside a matrix product's.

    python benchmarks/forward.py [--image-size 224] [--batches 6] [--batch 32] [--json]

Once by TensorFlow, and once by ONNX Runtime where the extra export is installed, with the difference of their features.
The images are in memory already: decoding is not measured here. sgemm is the faster of numpy's and TensorFlow's product
of two float32 matrices of 4096 x 4096. Nothing else should run meanwhile.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tell import main, parser, where

import vggnb.generators  # noqa: F401 - it gives TensorFlow the threads of VGGNB_THREADS
from vggnb.machine import cores, threads
from vggnb.model import build_base, build_extractor, compiled
from vggnb.recipe import Recipe

SIDE = 4096


def fastest(work: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest call, after one that warms up."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def sgemm_gflops(repeat: int = 3) -> float:
    """Of the machine, for this number of threads."""
    a = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    there, product = tf.constant(a), tf.function(lambda x: tf.reduce_sum(x @ x))
    seconds = min(fastest(lambda: a @ a, repeat), fastest(lambda: product(there).numpy(), repeat))
    return 2 * SIDE**3 / seconds / 1e9


def gflop_an_image(base) -> float:
    """Of the 13 convolutions: a multiplication and an addition for each weight at each place; the rest is nothing."""
    convolutions = [layer for layer in base.layers if "_conv" in layer.name]
    places = [layer.output.shape[1] * layer.output.shape[2] for layer in convolutions]
    weights = [int(np.prod(layer.kernel.shape)) for layer in convolutions]
    return sum(2 * p * w for p, w in zip(places, weights, strict=True)) / 1e9


def in_onnxruntime(extractor) -> Callable[[np.ndarray], np.ndarray]:
    """The same network, run by ONNX Runtime on as many threads."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads() or cores()
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        path = Path(scratch) / "extractor.onnx"
        extractor(np.zeros((1, *extractor.input_shape[1:]), np.float32))  # Keras exports what was called
        extractor.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def measure(options) -> dict:
    """The contract's numbers."""
    recipe = Recipe.best().with_(image_size=options.image_size)
    base, _ = build_base(recipe, options.weights)
    shape = (options.batch, options.image_size, options.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    sgemm, extractor = sgemm_gflops(), build_extractor(base, recipe)
    runs = {"tensorflow": compiled(extractor)}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tf2onnx"):
        runs["onnxruntime"] = in_onnxruntime(extractor)
    expected, engines = runs["tensorflow"](images), {}
    for name, run in runs.items():
        images_per_s = options.batch / fastest(lambda run=run: run(images), options.batches)
        gflops = images_per_s * gflop_an_image(base)
        apart = float(np.abs(run(images) - expected).max() / np.abs(expected).max())
        engines[name] = {"images_per_s": images_per_s, "gflops": gflops, "over_sgemm": gflops / sgemm, "apart": apart}
    return {
        "sgemm_gflops": sgemm,
        "engines": engines,
        "image_size": options.image_size,
        "gflop_an_image": gflop_an_image(base),
        **where("tensorflow"),
    }


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--batches", type=int, default=6, help="the fastest of so many counts")
    arguments.add_argument("--batch", type=int, default=32)
    main(measure, arguments)
