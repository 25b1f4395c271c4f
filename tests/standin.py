"""A network that is quick and needs no TensorFlow, for workers of a cluster; and a manifest of tiny pictures.

What it did is written into the file that STANDIN_LOG names, a line before and after each unit, with the process's id.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vggnb.census import Manifest
from vggnb.census.rows import Row
from vggnb.recipe import Recipe
from vggnb.shards import write_shard
from vggnb.storage import sha256_bytes

LOG = os.environ.get("STANDIN_LOG")
SIZE = 96
RECIPE = Recipe.best().with_(image_size=SIZE)


class Standin:
    """Features are what a picture's own pixels give; a unit takes the seconds that STANDIN_LOG.pace says."""

    key = "standin"

    def __init__(self, job):
        told("made", ())

    def forward(self, folder, hashes, pixels):
        told("begin", hashes)
        if LOG:
            time.sleep(float(Path(f"{LOG}.pace").read_text()))
        values = pixels.reshape(len(pixels), -1)[:, ::300].astype(np.float32)
        shard = write_shard(folder, hashes, values)
        told("end", hashes)
        return [shard.path.name]


class Together(Standin):
    """No unit begins before a second process was given one, too, however slowly it starts.

    A worker holds two units at most, so there are some for the second one, and the first waits for it.
    """

    def forward(self, folder, hashes, pixels):
        given, end = f"given-{type(self).__name__}", time.monotonic() + 300
        told(given, ())
        while len({line for line in Path(LOG).read_text().splitlines() if line.startswith(f"{given} ")}) < 2:
            if time.monotonic() > end:
                raise TimeoutError("no second process")
            time.sleep(0.02)
        return super().forward(folder, hashes, pixels)


class Other(Together):
    """With weights of its own in every process."""

    def __init__(self, job):
        super().__init__(job)
        self.key = f"other-{os.getpid()}"


class Elsewhere(Standin):
    """On a machine whose store is another folder."""

    def forward(self, folder, hashes, pixels):
        return super().forward(Path(tempfile.mkdtemp()), hashes, pixels)


def told(what, hashes):
    if LOG:
        with open(LOG, "a") as file:
            file.write(f"{what} {os.getpid()} {' '.join(hashes)}\n")


def pictures(folder: Path, count: int) -> Path:
    """A manifest file of so many pictures, which differ in their brightness and in what follows them."""
    folder.mkdir(parents=True)
    rows = []
    for k in range(count):
        path = folder / f"{k}.png"
        Image.new("RGB", (SIZE, SIZE), (k % 256, k // 256, 0)).save(path)
        path.write_bytes(path.read_bytes() + str(k).encode())
        rows.append(Row(path.name, sha256_bytes(path.read_bytes()), SIZE, SIZE, "PNG", "a", 0, "train"))
    manifest = folder.with_suffix(".csv")
    Manifest(folder, ("a",), tuple(rows)).write(manifest)
    return manifest
