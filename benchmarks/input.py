"""How many images a second the input side delivers, and how well it overlaps with the network.

    python benchmarks/input.py [--image-size 224] [--batches 4] [--json]

For JPEGs of 224 x 224 pixels, photos of 3 and of 24 million pixels: the rate of reading, decoding and resizing alone
(the network does nothing), the rate of the network alone (its images are in memory), and the rate of `extract`.
"over_ideal" is the last as a part of what is possible: 1 / (1/a + 1/b) where both share the cores of a CPU, min(a, b)
with a GPU. Nothing else should run meanwhile.
"""

import tempfile
from pathlib import Path

import numpy as np
from decode import photos
from precision import images_per_s
from tell import main, parser, where

from vggnb.census import Manifest, Row
from vggnb.device import batch_size, decide_precision, tf
from vggnb.features import VGG16, fill_store
from vggnb.model import build_base, build_extractor
from vggnb.recipe import Recipe
from vggnb.storage import sha256_bytes

SIZES = {"224 x 224": (224, 224), "3 megapixels": (2048, 1536), "24 megapixels": (6000, 4000)}


class Nothing:
    """A network that takes no time."""

    key, precision = "nothing", "float32"

    def __init__(self, job):
        self.batch = batch_size(job.recipe.image_size)

    def __call__(self, pixels):
        """See `features.Job`."""
        return np.zeros((len(pixels), 1), np.float32)


def manifest_of(folder: Path, size: tuple[int, int], count: int) -> Manifest:
    """So many JPEGs of three photos, each with its own bytes."""
    folder.mkdir()
    sources = [path.read_bytes() for path in photos(folder, width=size[0], height=size[1])]
    rows = []
    for k in range(count):
        data = sources[k % 3] + b"\0" * k
        (folder / f"image{k}.jpg").write_bytes(data)
        rows.append(Row(f"image{k}.jpg", sha256_bytes(data), *size, "JPEG", "a", 0, "train"))
    return Manifest(folder, ("a",), tuple(rows))


def rate(manifest: Manifest, recipe: Recipe, network, store: Path) -> float:
    """Images a second of a whole extraction."""
    found = fill_store(manifest, recipe, weights="none", store=store, network=network, progress=False)
    return found.images_forwarded / found.seconds


def measure(options) -> dict:
    """The rates for each size of file."""
    recipe, (precision, _) = Recipe.best().with_(image_size=options.image_size), decide_precision(options.precision)
    base, source = build_base(recipe, options.weights, precision=precision)
    shared = VGG16(base, source, recipe)
    shared(np.zeros((shared.batch, options.image_size, options.image_size, 3), np.uint8))  # compiles
    network = images_per_s(build_extractor(base, recipe), recipe.image_size, batches=3)
    gpu, found = bool(tf.config.list_physical_devices("GPU")), {}
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
            manifest = manifest_of(Path(scratch) / "images", size, options.batches * shared.batch)
            alone = rate(manifest, recipe, Nothing, Path(scratch) / "nothing")
            both = rate(manifest, recipe, lambda job: shared, Path(scratch) / "store")
        ideal = min(alone, network) if gpu else 1 / (1 / alone + 1 / network)
        found[name] = {"input": alone, "extract": both, "over_ideal": both / ideal}
    return {"network": network, "precision": precision, "files": found, **where("tensorflow", "pillow")}


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--batches", type=int, default=4)
    arguments.add_argument("--precision", default="auto")
    main(measure, arguments)
