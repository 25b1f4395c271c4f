"""A VGG-16 with a hundredth of its channels: saved and loaded in a fraction of a second."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from vggnb.metrics.calibration import Calibration
from vggnb.recipe import BLOCKS, Recipe

WIDTHS = {1: 4, 2: 6, 3: 6, 4: 8, 5: 8}
RECIPE = Recipe.best().with_(image_size=32, ridge=1.0)


@contextlib.contextmanager
def small_vgg():
    """While the block runs, VGG-16 is small, and files are verified in this process."""
    from vggnb import model
    from vggnb.save import exports, runtimes, saving

    small = tuple(layer._replace(filters=layer.filters and WIDTHS[layer.block]) for layer in model.LAYERS)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(BLOCKS, WIDTHS))
        stack.enter_context(mock.patch.object(model, "LAYERS", small))
        stack.enter_context(mock.patch.object(exports, "_in_fresh_process", runtimes.compare))
        stack.enter_context(mock.patch.object(saving, "build_card", lambda run, name: {"name": name}))
        yield


def save_small(folder, *, seed=0, formats=("keras",), name=None):
    """A whole bundle with random numbers, as `save_bundle` writes it; inside `small_vgg`."""
    from vggnb.model import empty_base, empty_classifier
    from vggnb.save import save_bundle
    from vggnb.save.bundle import weighted

    model, random = empty_classifier(empty_base(RECIPE.image_size), RECIPE, 2), np.random.default_rng(seed)
    for weight in (weight for layer in weighted(model) for weight in layer.weights):
        fan_in = np.prod(weight.shape[:-1]) or 1
        weight.assign(random.standard_normal(weight.shape, np.float32) / np.sqrt(fan_in))
    run = SimpleNamespace(
        classes=("cat", "dog"),
        folder=Path(folder),
        source=SimpleNamespace(precision="float32"),
        recipe=RECIPE,
        manifest=SimpleNamespace(dataset=Path("pets")),
        ranges=lambda: None,
        calibration=Calibration,
        model_sha256=lambda: str(seed),
    )
    return save_bundle(run, folder, name=name, formats=formats, model=model)
