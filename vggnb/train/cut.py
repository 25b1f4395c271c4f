"""The network cut in two before a named convolution: a prefix that stays as it is, and a tail that learns."""

import keras
import numpy as np

from vggnb.model import CONVOLUTIONS, pool_columns
from vggnb.recipe import BLOCKS, Recipe
from vggnb.storage import VggnbError


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


def numbers(tail: keras.Model, head: keras.Model) -> dict[str, np.ndarray]:
    """All weights of a tail by name: "base/<layer>/kernel", "base/<layer>/bias", "head/<number>"."""
    named = {}
    for layer in tail.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            named |= {f"base/{layer.name}/kernel": kernel, f"base/{layer.name}/bias": bias}
    return named | {f"head/{number:03d}": weight for number, weight in enumerate(head.get_weights())}
