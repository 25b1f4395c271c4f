"""Large JPEGs: our decoder for training and prediction beside Pillow's full decode, and the difference it makes.

    python benchmarks/decode.py [PHOTO...] [--image-size 224] [--repeat 3] [--json]

Without photos, three generated ones of 24 million pixels. Ours reads the file, decodes at a reduced size, and resizes;
Pillow's reads and decodes every pixel, and is not charged for the resize. The differences compare ours with a full
decode resized the same way: pixels in levels of 255, features as the length of the difference of all pools by theirs.
"""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tell import main, parser, where

import vggnb.generators  # noqa: F401 - it gives TensorFlow the threads of VGGNB_THREADS
from vggnb.images import decode, read_image, resize_image
from vggnb.model import build_base, build_extractor, compiled
from vggnb.recipe import Recipe


def photos(folder: Path, *, width: int = 6000, height: int = 4000) -> list[Path]:
    """Pictures with detail at every scale, as a camera's."""
    paths = []
    for seed in range(3):
        random, total = np.random.default_rng(seed), np.zeros((height, width, 3), np.float32)
        for size in (4, 16, 64, 256, 1024):
            grid = random.normal(size=(size * 2 // 3 + 1, size, 3)) / size**0.5
            grid = np.clip(128 + 60 * grid, 0, 255).astype(np.uint8)
            total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) - 128.0
        paths.append(folder / f"{seed}.jpg")
        Image.fromarray(np.clip(128 + total, 0, 255).astype(np.uint8)).save(paths[-1], quality=92)
    return paths


def pillow(path: Path) -> None:
    """Every pixel, as anybody would."""
    Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def seconds(work, paths: list[Path], repeat: int) -> float:
    """The fastest of the repeats for all paths."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        for path in paths:
            work(path)
        times.append(time.perf_counter() - start)
    return min(times)


def measure(paths: list[Path], *, size: int, repeat: int, weights: str) -> dict:
    """The contract's numbers."""
    full_s = seconds(pillow, paths, repeat)
    ours_s = seconds(lambda path: read_image(path, size=size), paths, repeat)
    ours = np.stack([read_image(path, size=size) for path in paths]).astype(np.float32)
    full = np.stack([resize_image(decode(path).pixels, size, "bilinear") for path in paths]).astype(np.float32)
    recipe = Recipe.best().with_(image_size=size)
    run = compiled(build_extractor(build_base(recipe, weights)[0], recipe))
    a, b = run(ours), run(full)
    return {
        "photos": len(paths),
        "image_size": size,
        "pillow_ms": 1000 * full_s / len(paths),
        "ours_ms": 1000 * ours_s / len(paths),
        "over_pil_full_decode": full_s / ours_s,
        "pixel_difference": float(np.abs(ours - full).mean()),
        "largest_pixel_difference": float(np.abs(ours - full).max()),
        "feature_difference": float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max()),
        **where("pillow", "tensorflow"),
    }


def measured(options) -> dict:
    """For the photos that were named, or for generated ones."""
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        paths = options.photos or photos(Path(scratch))
        return measure(paths, size=options.image_size, repeat=options.repeat, weights=options.weights)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("photos", nargs="*", type=Path)
    arguments.add_argument("--repeat", type=int, default=3)
    main(measured, arguments)
