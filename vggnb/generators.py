"""Manifest rows -> batches of raw pixels, in a known order, and augmented: changed in ways that keep their class.

Scaling is not done here: it lives inside the model, once.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from vggnb.census import Manifest, Row
from vggnb.census.manifest import check_there
from vggnb.device import tf
from vggnb.folders import read_ahead
from vggnb.images import read_image, read_unchanged
from vggnb.machine import cores
from vggnb.recipe import Recipe

MEMORY = 2_000_000_000  # bytes of pixels that are kept decoded; more are read from the files in every epoch
STRENGTH = 0.2  # brightness and contrast change by a factor between 0.8 and 1.2


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch, int64 (count,): a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def read_row(manifest: Manifest, row: Row, recipe: Recipe) -> np.ndarray:
    """The pixels of one row as the network takes them: uint8 (size, size, 3), RGB, 0 to 255."""
    return read_image(manifest.dataset / row.path, size=recipe.image_size, resize=recipe.resize)


def _read_unchanged(manifest: Manifest, row: Row, recipe: Recipe) -> np.ndarray | str:
    """The pixels of one row, or the reason why there are none."""
    path = manifest.dataset / row.path
    return read_unchanged(path, row.sha256, size=recipe.image_size, resize=recipe.resize)


def read_rows(manifest: Manifest, rows: Sequence[Row], recipe: Recipe) -> np.ndarray:
    """The pixels of several rows: uint8 (n, size, size, 3)."""
    return np.stack([read_row(manifest, row, recipe) for row in rows])


def make_dataset(manifest: Manifest, split: str, recipe: Recipe, *, training: bool = False) -> tf.data.Dataset:
    """Batches of one split; the last batch is smaller, never dropped.

    Args:
        training: a new order each time the dataset is gone through; otherwise the manifest's order.

    Returns:
        images float32 (b, size, size, 3), raw RGB 0 to 255; labels int32 (b,).
    """
    rows = manifest.of(split)
    labels = np.array([row.label for row in rows], np.int32)
    epochs = iter(range(1 << 30))

    def order():
        return epoch_order(len(rows), seed=recipe.seed, epoch=next(epochs)) if training else np.arange(len(rows))

    def read(index):
        return read_row(manifest, rows[index], recipe).astype(np.float32), labels[index]

    def load(index):
        image, label = tf.numpy_function(read, [index], (tf.float32, tf.int32))
        return tf.ensure_shape(image, (recipe.image_size, recipe.image_size, 3)), tf.ensure_shape(label, ())

    indices = tf.data.Dataset.from_generator(order, output_signature=tf.TensorSpec((), tf.int64))
    batches = indices.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(recipe.batch_size)
    steps = -(-len(rows) // recipe.batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def readable_batches(
    manifest: Manifest, rows: Sequence[Row], recipe: Recipe, *, batch: int, unreadable: list[tuple[str, str]]
) -> Iterator[tuple[list[Row], np.ndarray]]:
    """Batches of the rows that can be read, in order, with their raw pixels, uint8 (b, size, size, 3).

    The next ones are decoded in threads meanwhile. (path, reason) of each row that cannot be read is added to
    `unreadable`.
    """
    if rows:
        check_there(manifest.dataset)
    read = functools.partial(_read_unchanged, manifest, recipe=recipe)
    found = zip(rows, read_ahead(read, rows, workers=max(2, cores()), ahead=2 * batch), strict=True)
    while some := list(itertools.islice(found, batch)):
        unreadable += [(row.path, reason) for row, reason in some if isinstance(reason, str)]
        if good := [(row, pixels) for row, pixels in some if not isinstance(pixels, str)]:
            yield [row for row, _ in good], np.stack([pixels for _, pixels in good])


def augment(images: np.ndarray, indices: Sequence[int], kinds: Sequence[str], *, seed: int, epoch: int) -> np.ndarray:
    """Change each image at random, as a pure function of (seed, epoch, index of the image).

    Args:
        images: uint8 or float32 (b, size, size, 3), RGB, 0 to 255.
        indices: one number for each image, the same in every epoch.
        kinds: any of recipe.AUGMENTATIONS: "flips" (left to right, one image in two), "rotations" (by 0, 90, 180 or
            270 degrees), "brightness" (times 0.8 to 1.2), "contrast" (differences from the mean times 0.8 to 1.2).

    Returns:
        float32 (b, size, size, 3), 0 to 255.
    """
    changed = np.array(images, np.float32)
    for image, index in zip(changed, indices, strict=True):
        random = np.random.default_rng([seed, epoch, index])
        # All numbers are drawn whatever the kinds are: one kind more does not change the others.
        flip, turns = random.integers(2), random.integers(4)
        brightness, contrast = random.uniform(1 - STRENGTH, 1 + STRENGTH, 2)
        if flip and "flips" in kinds:
            image[:] = image[:, ::-1].copy()
        if turns and "rotations" in kinds:
            image[:] = np.rot90(image, turns).copy()
        if "brightness" in kinds:
            image *= brightness
        if "contrast" in kinds:
            mean = image.mean()
            image[:] = mean + contrast * (image - mean)
    return np.clip(changed, 0, 255, out=changed)


def augmented_versions(image: np.ndarray, recipe: Recipe, *, epochs: int) -> np.ndarray:
    """An image (size, size, 3), RGB, 0 to 255, and how the recipe changes it in each of the first epochs: float32."""
    changed = (augment(image[None], [0], recipe.augment, seed=recipe.seed, epoch=epoch) for epoch in range(epochs))
    return np.concatenate([image[None].astype(np.float32), *changed])


class Images:
    """Batches of a dataset's images: each file is decoded once, where memory holds them all."""

    def __init__(self, manifest: Manifest, rows: Sequence[Row], recipe: Recipe):
        check_there(manifest.dataset)
        self.manifest, self.rows, self.recipe = manifest, tuple(rows), recipe
        self.keep = len(self.rows) * 3 * recipe.image_size**2 <= MEMORY
        self.pixels: dict[int, np.ndarray | str] = {}

    def batches(self, indices: Sequence[int], epoch: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices int64 (b,) and pixels float32 (b, size, size, 3) of the images that can be read, read ahead.

        Args:
            epoch: with one, the images come in its order and augmented; without, as they are.
        """
        size = self.recipe.batch_size
        if epoch is not None:
            indices = np.asarray(indices)[epoch_order(len(indices), seed=self.recipe.seed, epoch=epoch)]
        parts = [indices[at : at + size] for at in range(0, len(indices), size)]
        for some, images in read_ahead(lambda part: self._batch(part, epoch), parts, workers=cores(), ahead=2):
            if len(some):
                yield some, images

    def _batch(self, indices: Sequence[int], epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
        found = [(index, self.read(index)) for index in indices]
        good = [(index, pixels) for index, pixels in found if not isinstance(pixels, str)]
        some = np.array([index for index, _ in good], np.int64)
        images = np.array([pixels for _, pixels in good], np.float32)
        if not good or epoch is None:
            return some, images
        return some, augment(images, some, self.recipe.augment, seed=self.recipe.seed, epoch=epoch)

    def read(self, index: int) -> np.ndarray | str:
        """The pixels of one image, or the reason why there are none."""
        if (pixels := self.pixels.get(index)) is None:
            pixels = _read_unchanged(self.manifest, self.rows[index], self.recipe)
            if self.keep:
                self.pixels[index] = pixels
        return pixels
