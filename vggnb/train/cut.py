"""The network cut in two before a named convolution: a prefix that stays as it is, and a tail that learns."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm.auto import tqdm

from vggnb.census.rows import Row
from vggnb.census.splits import Manifest
from vggnb.features import BATCH
from vggnb.generators import readable_batches
from vggnb.model import compiled, pool_columns, preprocessing_layer
from vggnb.recipe import BLOCKS, Recipe
from vggnb.storage import VggnbError, make_folder

DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block (Simonyan and Zisserman 2014, configuration D)
CONVOLUTIONS = tuple(f"block{b}_conv{c}" for b, n in zip(BLOCKS, DEPTHS, strict=True) for c in range(1, n + 1))
IN_MEMORY = 1 << 29  # bytes of activations; more of them lie in a file without a name, gone when the process ends


@dataclass(frozen=True)
class Activations:
    """What the frozen part gives for some rows.

    Attributes:
        values: float32 (n, h, w, c), the input of the first layer that learns; in memory or memory-mapped.
        kept: indices of the rows that could be read, in the order of `values`.
    """

    values: np.ndarray
    kept: np.ndarray


def check_block(name: str) -> None:
    """Refuse a name that is no convolution of VGG-16.

    Raises:
        VggnbError: it names all 13.
    """
    if name not in CONVOLUTIONS:
        remedy = f"Use one of: {', '.join(CONVOLUTIONS)}."
        raise VggnbError(f"VGG-16 has no layer '{name}' to fine-tune from.", "fine-tuning", remedy)


def build_tail(base: keras.Model, head: keras.Model, recipe: Recipe, *, from_block: str) -> keras.Model:
    """The part that learns: activations before `from_block`, and the pools of blocks before it -> the head's outputs.

    The base's layers are copied; the head's are the head's own.
    """
    names = [layer.name for layer in base.layers]
    first = base.get_layer(from_block)
    activations = x = keras.Input(first.input.shape[1:], name="activations")
    ends = {}
    for layer in base.layers[names.index(from_block) :]:
        copy = type(layer).from_config({**layer.get_config(), "trainable": True})
        ends[layer.name] = x = copy(x)
        copy.set_weights(layer.get_weights())
    width = len(frozen_columns(recipe, from_block))
    frozen = keras.Input((width,), name="frozen_features")
    pools, at = [], 0
    kinds = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    for block, kind in recipe.pools:
        if f"block{block}_pool" in ends:
            pools.append(kinds[kind](name=f"block{block}_{kind}")(ends[f"block{block}_pool"]))
        else:
            pools.append(frozen[:, at : at + BLOCKS[block]])
            at += BLOCKS[block]
    features = pools[0] if len(pools) == 1 else keras.layers.Concatenate(name="features")(pools)
    return keras.Model([activations, frozen] if width else [activations], head(features), name="tail")


def frozen_columns(recipe: Recipe, from_block: str) -> np.ndarray:
    """Which of the extractor's columns the head sees and fine-tuning from there on does not change, in its order."""
    pools = tuple(pool for pool in recipe.pools if pool[0] < int(from_block[5]))
    return pool_columns(recipe.with_(pools=pools)) if pools else np.zeros(0, int)


def prefix_activations(
    base: keras.Model,
    manifest: Manifest,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    from_block: str,
    scratch: Path,
    progress: bool = True,
) -> Activations:
    """What goes into the layer `from_block`, for each of the rows that can be read.

    Raises:
        VggnbError: none can be read, or the scratch folder has no room for them.
    """
    images = x = keras.Input((recipe.image_size, recipe.image_size, 3), name="raw_rgb")
    x = preprocessing_layer(recipe)(x)
    names = [layer.name for layer in base.layers]
    for layer in base.layers[1 : names.index(from_block)]:
        x = layer(x)
    run = compiled(keras.Model(images, x, name="prefix"))
    values = _room((len(rows), *x.shape[1:]), scratch)
    places = {row.path: index for index, row in enumerate(rows)}
    kept: list[int] = []
    unreadable: list[tuple[str, str]] = []
    with tqdm(total=len(rows), desc=f"VGG-16 up to {from_block}", unit="image", disable=not progress) as bar:
        for batch, pixels in readable_batches(manifest, rows, recipe, batch=BATCH, unreadable=unreadable):
            values[len(kept) : len(kept) + len(batch)] = run(pixels)
            kept += [places[row.path] for row in batch]
            bar.update(len(batch))
    if not kept:
        raise VggnbError("None of the images can be read.", manifest.dataset, "Look at the census for the reasons.")
    return Activations(values[: len(kept)], np.array(kept))


def _room(shape: tuple[int, ...], scratch: Path) -> np.ndarray:
    """Space for activations: float32 of this shape, in memory, or in a file that vanishes with the process."""
    wanted = 4 * math.prod(shape)
    if wanted <= IN_MEMORY:
        return np.zeros(shape, np.float32)
    free = shutil.disk_usage(make_folder(scratch)).free
    if wanted > free:
        what = f"The activations need {wanted / 1e9:.1f} GB; {free / 1e9:.1f} GB are free."
        raise VggnbError(
            what, scratch, "Free some space, or fine-tune from a later layer: its activations are smaller."
        )
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def numbers(tail: keras.Model, head: keras.Model) -> dict[str, np.ndarray]:
    """All weights of a tail by name: "base/<layer>/kernel", "base/<layer>/bias", "head/<number>"."""
    named = {}
    for layer in tail.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            named |= {f"base/{layer.name}/kernel": kernel, f"base/{layer.name}/bias": bias}
    return named | {f"head/{number:03d}": weight for number, weight in enumerate(head.get_weights())}
