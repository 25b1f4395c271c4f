"""A model for other programs: SavedModel (TensorFlow), ONNX and LiteRT (telephones); preprocessing is inside.

Keras writes all three; what it needs for that is the extra `export`. ONNX has a second output, what enters the head, so
that `predict` can say in onnxruntime, too, whether a picture is like the training data.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from pathlib import Path

import keras
import numpy as np

from vggnb.model import features_of
from vggnb.recipe import Recipe
from vggnb.save.runtimes import INSTALL
from vggnb.save.spec import EXPORTS
from vggnb.storage import VggnbError

NEEDS = {"savedmodel": (), "onnx": ("tf2onnx", "onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}  # modules
TOLERANCE = 1e-4  # between the probabilities of the saved model and of an export in its own runtime


def missing(kind: str) -> list[str]:
    """The modules that writing and verifying this export needs and that are not installed."""
    return [name for name in NEEDS[kind] if importlib.util.find_spec(name) is None]


def here() -> tuple[list[str], dict[str, str]]:
    """The exports that can be written here, and of the others why not."""
    lacking = {kind: names for kind in EXPORTS if (names := missing(kind))}
    reasons = {kind: f"{', '.join(names)} not installed. {INSTALL}" for kind, names in lacking.items()}
    return [kind for kind in EXPORTS if kind not in lacking], reasons


def check_writable(kinds: list[str]) -> None:
    """Refuse exports that cannot be written here.

    Raises:
        VggnbError: it says which extra to install.
    """
    for kind in kinds:
        if names := missing(kind):
            raise VggnbError(f"The format {kind} needs {', '.join(names)}, not installed here.", "--formats", INSTALL)


def _for_onnx(model: keras.Model, recipe: Recipe) -> keras.Model:
    """The classifier with a second output, what enters the head."""
    return keras.Model(model.input, [model.output, features_of(model, recipe)], name=model.name)


def write_export(model: keras.Model, kind: str, path: Path, recipe: Recipe) -> None:
    """Write a classifier for other programs: raw RGB pixels 0 to 255, float32 (b, size, size, 3), to probabilities.

    Args:
        kind: "savedmodel" (a folder), "onnx" or "litert".
    """
    formats = {"savedmodel": "tf_saved_model", "onnx": "onnx", "litert": "litert"}
    if kind == "onnx":
        model = _for_onnx(model, recipe)
        model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only what was called
    with _silence():
        model.export(str(path), format=formats[kind], verbose=False)


@contextlib.contextmanager
def _silence():
    """The converters tell of every step, in Python's streams, in its log and, from C++, below both."""
    disabled, kept = logging.root.manager.disable, [os.dup(1), os.dup(2)]
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.callback(lambda: [(os.dup2(copy, number), os.close(copy)) for number, copy in enumerate(kept, start=1)])
        stack.callback(logging.disable, disabled)
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        logging.disable(logging.ERROR)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield
