"""The images of an epoch, decoded once, read ahead, and augmented: changed at random in ways that keep their class."""

from collections.abc import Iterator, Sequence

import numpy as np

from vggnb.census import Manifest, Row
from vggnb.census.manifest import check_there
from vggnb.folders import read_ahead
from vggnb.generators import epoch_order
from vggnb.images import read_unchanged
from vggnb.machine import cores
from vggnb.recipe import Recipe

MEMORY = 2_000_000_000  # bytes of pixels that are kept decoded; more are read from the files in every epoch
STRENGTH = 0.2  # brightness and contrast change by a factor between 0.8 and 1.2


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
    """An image, and how the recipe changes it in each of the first epochs.

    Args:
        image: uint8 or float32 (size, size, 3), RGB, 0 to 255.

    Returns:
        float32 (1 + epochs, size, size, 3), 0 to 255; the unchanged image first.
    """
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
        found = [(index, self._read(index)) for index in indices]
        good = [(index, pixels) for index, pixels in found if not isinstance(pixels, str)]
        some = np.array([index for index, _ in good], np.int64)
        images = np.array([pixels for _, pixels in good], np.float32)
        if not good or epoch is None:
            return some, images
        return some, augment(images, some, self.recipe.augment, seed=self.recipe.seed, epoch=epoch)

    def _read(self, index: int) -> np.ndarray | str:
        """The pixels, uint8, or why there are none."""
        if (pixels := self.pixels.get(index)) is None:
            row, recipe = self.rows[index], self.recipe
            path = self.manifest.dataset / row.path
            pixels = read_unchanged(path, row.sha256, size=recipe.image_size, resize=recipe.resize)
            if self.keep:
                self.pixels[index] = pixels
        return pixels
