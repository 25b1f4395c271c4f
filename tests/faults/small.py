"""Trainings that cost nothing: a run on made-up features, and a VGG-shaped net of a few thousand weights."""

import time

import numpy as np
import small_bundle

from vggnb.census import Manifest
from vggnb.census.rows import Row
from vggnb.features import Features
from vggnb.recipe import BLOCKS, Recipe

SMALL = Recipe(
    name="small", image_size=32, batch_size=8, pools=((1, "average"),), standardise=True, hidden=16, epochs=12, seed=5
)
SPLITS = {"train": 44, "validation": 20}  # 44: the last batch is smaller


def rows():
    """Made-up images of two classes."""
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    names = ("cat", "dog")
    return tuple(
        Row(f"{split}/{names[i % 2]}/{i}.png", f"{i:064x}", 40, 40, "PNG", names[i % 2], i % 2, split)
        for i, split in enumerate(splits)
    )


def features():
    """Made-up features of these images, of which the first 64 are all that `SMALL` looks at."""
    values = np.random.default_rng(0).standard_normal((len(rows()), 2944), np.float32)
    values[:, 0] += [row.label for row in rows()]
    return Features(rows(), values, 0, len(values), 0.0)


def start_small(folder, recipe=SMALL):
    """A run in this folder."""
    from vggnb.train.start import start_run
    from vggnb.weights import WeightSource

    manifest = Manifest(folder.parent / "pets", ("cat", "dog"), rows())
    return start_run(folder, manifest, recipe, weights="none", source=WeightSource("none at all", "0" * 64, False))


def small_base():
    """A net with VGG-16's layer names and a hundredth of its channels, 32 pixels a side."""
    return small_bundle.small_base(widths={block: 4 + block for block in BLOCKS}, start="HeNormal")


def small_tail():
    """What learns in fine-tuning this net from `block4_conv1`, compiled, and its inputs: (tail, inputs, labels)."""
    import keras

    from vggnb.model import compile_head
    from vggnb.train.cut import build_tail

    recipe = SMALL.with_(pools=((5, "max"),), standardise=False)
    pooled = keras.Input((9,))
    x = keras.layers.Dropout(0.3, seed=1)(pooled)
    x = keras.layers.Dense(2, "softmax", kernel_initializer=keras.initializers.GlorotUniform(seed=2), name="output")(x)
    tail = build_tail(small_base(), keras.Model(pooled, x), recipe, from_block="block4_conv1")
    compile_head(tail, recipe)
    inputs = [np.random.default_rng(3).random((64, 4, 4, 7), np.float32)]
    labels = np.arange(64, dtype=np.int32) % 2
    inputs[0][labels == 1] *= 1.5
    return tail, inputs, labels, recipe


class Slowly:
    """A progress that waits after each epoch, so that a kill has something to hit; the nth makes the file `begun`."""

    def __init__(self, begun, wait_s, nth=1):
        self.begun, self.wait_s, self.left = begun, wait_s, nth

    def __getattr__(self, name):
        if name.startswith("on_") or name in ("set_params", "set_model"):
            return lambda *arguments, **named: self.wait() if name == "on_epoch_end" else None
        raise AttributeError(name)

    def wait(self):
        self.left -= 1
        if not self.left:
            self.begun.touch()
        time.sleep(self.wait_s)
