"""The files that other programs open: Keras's own formats, SavedModel, ONNX and LiteRT; and that they do.

All layers are Keras's own, preprocessing included, so that no file needs vggnb. ONNX has a second output, what enters
the head: `predict` finds out-of-distribution images in onnxruntime, too.
"""

import contextlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vggnb.device import keras
from vggnb.machine import cores, threads
from vggnb.model import features_of
from vggnb.recipe import Recipe
from vggnb.save import runtimes
from vggnb.save.bundle import INSTALL
from vggnb.storage import VggnbError

FORMATS = {"json": ".json", "h5": ".h5", "weights": ".weights.h5", "keras": ".keras"}  # Keras's
EXPORTS = {"savedmodel": ".savedmodel", "onnx": ".onnx", "litert": ".tflite"}
ENDINGS = FORMATS | EXPORTS
KERAS_NAMES = {"savedmodel": "tf_saved_model", "litert": "litert"}
ARTICLE = ("json", "h5", "weights")
ALIASES = {"weights.h5": "weights", "tflite": "litert", "tf": "savedmodel", "hdf5": "h5", "safetensors": ""}
NEEDS = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}  # modules, of the extra `export`
TOLERANCE = dict.fromkeys(FORMATS, 1e-5) | dict.fromkeys(EXPORTS, 1e-4)  # between probabilities


def available() -> tuple[list[str], dict[str, str]]:
    """The formats that can be written here, and why the others cannot."""
    reasons = {}
    for kind, modules in NEEDS.items():
        if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
            reasons[kind] = f"not installed: {', '.join(missing)}. {INSTALL}"
    return [kind for kind in ENDINGS if kind not in reasons], reasons


def choose_formats(formats: str | Iterable[str]) -> list[str]:
    """Formats by name, "article", or "all" that can be written here; weights go with an architecture."""
    words = formats.split(",") if isinstance(formats, str) else list(formats)
    here, reasons = available()
    chosen: list[str] = []
    for word in words:
        plain = re.sub(r"^\.|[-_\s]", "", word.strip().lower())
        kind = ALIASES.get(plain, plain or "none")
        if kind in reasons:
            raise VggnbError(f"The format {kind} cannot be written: {reasons[kind]}", "--formats", INSTALL)
        if kind not in (*ENDINGS, "article", "all", ""):  # "": what is always written
            remedy = f"Use article, all, or some of {', '.join(ENDINGS)}, with commas between them."
            raise VggnbError(f"There is no format '{word}'.", "--formats", remedy)
        chosen += {"article": ARTICLE, "all": here, "json": ("json", "weights"), "": ()}.get(kind, (kind,))
    return list(dict.fromkeys(chosen))


def write_exports(model: keras.Model, recipe: Recipe, folder: Path, name: str, kinds: Iterable[str]) -> dict[str, Path]:
    """Write a classifier as `VGG_<name>` with each format's ending: raw RGB pixels 0 to 255 in, probabilities out."""
    paths = {kind: folder / f"VGG_{name}{ENDINGS[kind]}" for kind in kinds}
    for kind, path in paths.items():
        if kind == "json":
            path.write_text(model.to_json(indent=1), "utf-8")
        elif kind == "weights":
            model.save_weights(path)
        else:
            with _silence():
                if kind in FORMATS:
                    model.save(path)
                elif kind == "onnx":
                    both = keras.Model(model.input, [model.output, features_of(model, recipe)], name=model.name)
                    both(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only what was called
                    both.export(str(path), format="onnx", verbose=False)
                else:
                    model.export(str(path), format=KERAS_NAMES[kind], verbose=False)
    return paths


@contextlib.contextmanager
def _silence():
    """Without what the converters print: to Python's streams, to its log and, from C++, below both."""
    disabled, kept = logging.root.manager.disable, [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            logging.disable(logging.ERROR)
            with warnings.catch_warnings(action="ignore"):
                yield
    finally:
        logging.disable(disabled)
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


def verify_exports(files: dict[str, Path], model: keras.Model, images: np.ndarray, probabilities: np.ndarray) -> dict:
    """Open each file with its own plain loader in a fresh process in which vggnb cannot be imported.

    Returns kind -> the largest difference from `probabilities`, the model's own for `images`.
    """
    differences: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="vggnb-") as scratch:
        np.savez(check := Path(scratch) / "check.npz", images=images, probabilities=probabilities)
        job = {"files": {kind: str(path) for kind, path in files.items()}, "architecture": model.to_json()}
        job |= {"check": str(check), "threads": threads() or cores()}
        for module in dict.fromkeys(runtimes.MODULES.values()):
            if kinds := [kind for kind in files if runtimes.MODULES[kind] == module]:
                differences |= _in_fresh_process({**job, "kinds": kinds})
    for kind, difference in differences.items():
        if not difference <= TOLERANCE[kind]:  # nan is wrong, too
            what = f"Its probabilities differ from the model's by up to {difference:.1g}."
            raise VggnbError(what, files[kind], "Save the run again; if that changes nothing, please report it.")
    return differences


def _in_fresh_process(job: dict) -> dict[str, float]:
    command = [sys.executable, "-P", runtimes.__file__]  # -P: a random.py beside the script is nobody's module
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        what = f"A saved file cannot be opened again ({', '.join(job['kinds'])}): {last}"
        remedy = "Save the run again; if that changes nothing, please report it."
        raise VggnbError(what, Path(job["files"][job["kinds"][0]]).parent, remedy)
    return json.loads(done.stdout.splitlines()[-1])
