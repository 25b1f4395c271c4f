"""A network that needs no TensorFlow, for workers of a cluster, and a dataset of tiny images.

The file that STANDIN_LOG names gets a line for each batch; the file STANDIN_LOG.pace holds the seconds of a batch.
"""

import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vggnb.census import Manifest, Row
from vggnb.recipe import Recipe
from vggnb.storage import sha256_bytes

LOG = os.environ.get("STANDIN_LOG")
RECIPE = Recipe.best().with_(image_size=32)


class Standin:
    """Features are some of an image's own pixels."""

    key, precision, batch = "standin", "float32", 32

    def __init__(self, job):
        pass

    def __call__(self, pixels):
        if LOG:
            time.sleep(float(Path(f"{LOG}.pace").read_text()))
            with open(LOG, "a") as file:
                file.write(f"{os.getpid()} {len(pixels)}\n")
        return pixels.reshape(len(pixels), -1)[:, ::48].astype(np.float32)


class Other(Standin):
    """With weights of its own in every process."""

    def __init__(self, job):
        self.key = f"other-{os.getpid()}"


def many_images(folder: Path, count: int) -> Manifest:
    """A manifest of so many images, which differ in brightness and in what follows them in the file."""
    folder.mkdir(parents=True)
    rows = []
    for k in range(count):
        path = folder / f"{k}.png"
        Image.new("RGB", (32, 32), (k % 256, k // 256, 0)).save(path)
        path.write_bytes(path.read_bytes() + str(k).encode())
        rows.append(Row(path.name, sha256_bytes(path.read_bytes()), 32, 32, "PNG", "a", 0, "train"))
    return Manifest(folder, ("a",), tuple(rows))
