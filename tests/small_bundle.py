"""Bundles of a VGG-16 with a hundredth of its channels: saved, loaded and refused in a fraction of a second."""

import contextlib
import io
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from vggnb.recipe import BLOCKS, Recipe
from vggnb.save import spec
from vggnb.storage import sha256_file

WIDTHS = {1: 4, 2: 6, 3: 6, 4: 8, 5: 8}
RECIPE = Recipe.best().with_(image_size=32, ridge=1.0)
CLASSES = ("cat", "dog")
NAME = "VGG_pets"


@contextlib.contextmanager
def small_vgg():
    """While the block runs, VGG-16 is small, and what `verify` does in a fresh process is done in this one."""
    from vggnb import model
    from vggnb.save import bundle, proof

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(BLOCKS, WIDTHS))
        small = tuple(layer._replace(filters=layer.filters and WIDTHS[layer.block]) for layer in model.LAYERS)
        stack.enter_context(mock.patch.object(model, "LAYERS", small))
        stack.enter_context(mock.patch.object(proof.subprocess, "run", in_this_process))
        stack.enter_context(mock.patch.object(bundle, "build_card", lambda run, name: {"name": name}))
        yield


def in_this_process(command, **_):
    """What `verify` does in a fresh process, done in this one."""
    from vggnb.save import proof, runtimes

    out = io.StringIO()
    module, *words, folder = command[3:]
    with contextlib.redirect_stdout(out):
        {"vggnb.save.proof": proof, "vggnb.save.runtimes": runtimes}[module]._main(*words, Path(folder))
    return subprocess.CompletedProcess(command, 0, out.getvalue(), "")


def small_base(*, include_top=False, weights=None, input_shape=(32, 32, 3), widths=WIDTHS, start="GlorotUniform"):
    """VGG-16's layers and names with these widths; takes what `keras.applications.VGG16` is told here."""
    import keras

    x = images = keras.Input(input_shape)
    for block, count in zip(widths, (2, 2, 3, 3, 3), strict=True):
        for number in range(1, count + 1):
            first = getattr(keras.initializers, start)(seed=10 * block + number)
            look = {"padding": "same", "activation": "relu", "kernel_initializer": first}
            x = keras.layers.Conv2D(widths[block], 3, name=f"block{block}_conv{number}", **look)(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return keras.Model(images, x, name="small_vgg")


def small_model(*, seed=0, classes=CLASSES, recipe=RECIPE):
    """A classifier with random numbers."""
    from vggnb.model import empty_base, empty_classifier

    model = empty_classifier(empty_base(recipe.image_size), recipe, len(classes))
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name != "preprocessing":
            layer.set_weights(
                [
                    random.standard_normal(np.shape(value), np.float32) / np.sqrt(np.prod(np.shape(value)[:-1]))
                    for value in layer.get_weights()
                ]
            )
    return model


def save_small(folder, *, model=None, classes=CLASSES, recipe=RECIPE, formats=tuple(spec.FORMATS)):
    """A whole bundle, as `save_bundle` writes it; inside `small_vgg`."""
    from vggnb.save import save_bundle

    dataset = Path(NAME.removeprefix("VGG_"))
    run = SimpleNamespace(
        classes=classes, recipe=recipe, manifest=SimpleNamespace(dataset=dataset), ranges=lambda: None
    )
    model = small_model(classes=classes, recipe=recipe) if model is None else model
    return save_bundle(run, folder, formats=formats, model=model)


def seal(folder, change=None):
    """Make every checksum right again, as someone would who knows how, and change what the manifest says."""
    document = json.loads((folder / "manifest.json").read_bytes())
    for file, about in document["files"].items():
        if (path := folder / file).is_file():
            about |= {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    spec.write_manifest(folder, document if change is None else change(document) or document)
