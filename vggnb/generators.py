"""Manifest rows -> batches of raw pixels. Scaling is not done here: it lives inside the model, once."""

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


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch, int64 (count,): a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def read_row(manifest: Manifest, row: Row, recipe: Recipe) -> np.ndarray:
    """The pixels of one row as the network takes them: uint8 (size, size, 3), RGB, 0 to 255."""
    return read_image(manifest.dataset / row.path, size=recipe.image_size, resize=recipe.resize)


def read_rows(manifest: Manifest, rows: Sequence[Row], recipe: Recipe) -> np.ndarray:
    """The pixels of several rows: uint8 (n, size, size, 3)."""
    return np.stack([read_row(manifest, row, recipe) for row in rows])


def flip_rotate(images: np.ndarray, k: int) -> np.ndarray:
    """One of the eight flips and rotations of square images, which are equal for what has no "up", such as a lesion.

    Args:
        images: (b, size, size, channels).
        k: 0 to 7: this many quarter turns counter-clockwise; from 4 on, flipped left to right first.

    Returns:
        The same shape and dtype.
    """
    if k >= 4:
        images = images[:, :, ::-1]
    return np.ascontiguousarray(np.rot90(images, k % 4, axes=(1, 2)))


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
    """Batches of the rows that can be read, in order; the next ones are decoded in threads meanwhile.

    Args:
        unreadable: (path, reason) of each row that could not be read is appended here.

    Yields:
        the batch's rows, and their pixels, uint8 (b, size, size, 3), raw RGB.

    Raises:
        VggnbError: the dataset's folder is gone, or the storage is.
    """
    if rows:
        check_there(manifest.dataset)

    def read(row: Row) -> np.ndarray | str:
        path = manifest.dataset / row.path
        return read_unchanged(path, row.sha256, size=recipe.image_size, resize=recipe.resize)

    found = zip(rows, read_ahead(read, rows, workers=max(2, cores()), ahead=2 * batch), strict=True)
    while some := list(itertools.islice(found, batch)):
        unreadable += [(row.path, reason) for row, reason in some if isinstance(reason, str)]
        if good := [(row, pixels) for row, pixels in some if not isinstance(pixels, str)]:
            yield [row for row, _ in good], np.stack([pixels for _, pixels in good])
