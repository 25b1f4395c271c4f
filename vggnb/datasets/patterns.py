"""Six classes of patterns, drawn by a program, in one folder that is not split: many classes for the quick pages.

Three pairs are hard to tell apart on purpose: bricks have shifted rows and a grid has none, but some walls are hardly
shifted; a ring is a dot with a hole, but some holes are small; waves are bent stripes, but some hardly bend. Colour,
size, direction, light and sharpness are drawn from the same ranges for every class and tell nothing.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from vggnb.datasets.samples import made_once
from vggnb.storage import VggnbError, make_folder

CLASSES = ("bricks", "dots", "grid", "rings", "stripes", "waves")
SIZE = (200, 150)  # saved image, width x height in pixels
FINE = 2  # drawn at twice that size, so that edges are smooth
W, H = FINE * SIZE[0], FINE * SIZE[1]
YY, XX = np.mgrid[0:H, 0:W].astype(np.float32)


def textures(folder: Path, *, each: int = 50, seed: int = 0) -> Path:
    """Draw the images and return the dataset folder: six class folders, JPEG of 200 x 150 pixels.

    The same seed gives the same images. A second call with the same arguments reuses them; other textures are replaced.

    Args:
        each: images of each class.

    Raises:
        VggnbError: fewer than one image, or the folder holds something else.
    """
    if each < 1:
        raise VggnbError(f"{each} images of each class cannot be drawn.", "each", "Use 1 or more.")

    def make(new: Path) -> None:
        names = [name for name in CLASSES for _ in range(each)]
        for number, k in enumerate(np.random.default_rng(seed).permutation(len(names))):
            path = make_folder(new / names[k]) / f"texture_{number:04d}.jpg"
            draw_texture(np.random.default_rng([seed, number]), names[k]).save(path, quality=90)

    return made_once(folder, {"textures": 1, "each": each, "seed": seed}, make)


def draw_texture(random: np.random.Generator, name: str) -> Image.Image:
    """One image of a class."""
    pattern = _pattern(random, name)
    light, dark = random.uniform(0.55, 0.95, 3), random.uniform(0.05, 0.40, 3)
    ground, ink = np.stack([light, dark])[:: random.choice([-1, 1])]  # either may be the lighter one
    pixels = ground + pattern[..., None] * (ink - ground)
    way = random.uniform(0, 2 * np.pi)
    light = (np.cos(way) * (XX / W - 0.5) + np.sin(way) * (YY / H - 0.5)) * random.uniform(0, 0.5)
    pixels = pixels * (1 + light)[..., None] + 0.06 * _bumps(random, 5)[..., None]
    image = Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 4.0))).resize(SIZE, Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32) + random.normal(0, random.uniform(2, 12), (SIZE[1], SIZE[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _pattern(random: np.random.Generator, name: str) -> np.ndarray:
    """How much ink each pixel has, float (H, W), 0 to 1."""
    pitch, turn, thick = random.uniform(32, 64), random.uniform(0, np.pi), random.uniform(0.12, 0.22)
    marked = random.beta(1.2, 1.4) if name in ("bricks", "rings", "waves") else 0.0  # how much of what it is named for

    def drawn(depth: np.ndarray) -> np.ndarray:
        """1 where a depth, in pitches, is above 0, else 0; the edge is two pixels wide."""
        return np.clip(0.5 + depth * pitch / 2, 0, 1)

    x = (np.cos(turn) * XX + np.sin(turn) * YY) / pitch + 0.15 * _bumps(random, 3) + random.uniform(0, 1)
    y = (np.cos(turn) * YY - np.sin(turn) * XX) / pitch + 0.15 * _bumps(random, 3) + random.uniform(0, 1)
    if name in ("stripes", "waves"):
        bent = x + 0.4 * marked * np.sin(2 * np.pi * y / random.uniform(1.2, 2.4))
        return drawn(2 * thick - np.abs(bent - np.round(bent)))
    if name in ("grid", "bricks"):
        shifted = x + 0.5 * marked * (np.floor(y) % 2)
        mortar = np.minimum(np.abs(y - np.round(y)), np.abs(shifted - np.round(shifted)))
        return drawn(0.6 * thick - mortar)
    x = x + 0.5 * (np.floor(y) % 2)
    middle = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    outer = 0.2 + thick
    return drawn(outer - middle) * drawn(middle - 0.7 * marked * outer)


def _bumps(random: np.random.Generator, cells: int) -> np.ndarray:
    """Soft noise, float32 (H, W), about -1 to 1, with so many bumps down the image."""
    coarse = random.normal(0, 0.6, (cells + 2, cells * 4 // 3 + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((W, H), Image.Resampling.BICUBIC))
