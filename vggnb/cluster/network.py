"""VGG-16's frozen part as a worker has it."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vggnb.cluster.work import Job
from vggnb.features import BATCH, store_key, write_shards
from vggnb.generators import turned
from vggnb.model import build_base, build_extractor, compiled
from vggnb.recipe import Recipe


class VGG16:
    """The network of a job, its weights checked by their hash: it is part of the key."""

    def __init__(self, job: Job):
        base, source = build_base(job.recipe, job.weights)
        self.key = store_key(job.recipe, source, cut=job.cut, view=job.view)
        self._run, self._job = compiled(build_extractor(base, job.recipe, cut=job.cut)), job

    def forward(self, folder: Path, hashes: Sequence[str], pixels: np.ndarray) -> list[str]:
        """See `work.Network`."""
        starts = range(0, len(hashes), BATCH)
        batches = ((list(hashes[at : at + BATCH]), self._batch(pixels[at : at + BATCH])) for at in starts)
        return [shard.path.name for _, shard in write_shards(folder, batches)]

    def _batch(self, pixels: np.ndarray) -> np.ndarray:
        return self._run(turned(pixels.astype(np.float32), self._job.view))


def forward_speed(recipe: Recipe, weights: str, *, images: int = 8) -> float:
    """Images a second that the frozen part manages here, measured on random pixels that are in memory already."""
    base, _ = build_base(recipe, weights)
    run, shape = compiled(build_extractor(base, recipe)), (images, recipe.image_size, recipe.image_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    run(pixels)  # the first one also compiles
    start = time.perf_counter()
    run(pixels)
    return images / (time.perf_counter() - start)
