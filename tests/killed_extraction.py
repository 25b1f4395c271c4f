"""Extract features of a photo folder with random weights, killed three times at random moments, then once in peace.

    python tests/killed_extraction.py PHOTOS STORE

Each try is a fork of this process, which has imported TensorFlow but not used it. Prints one JSON line: what each try
left in the store, how many images the last one ran, and whether what it got is what a fresh store gives.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np

from vggnb import device
from vggnb.census import assign_splits, take_census
from vggnb.features import extraction as module
from vggnb.model import build_base
from vggnb.recipe import Recipe

device.batch_size, module.SHARD_BATCHES = (lambda size: 1), 1


def extracted(manifest, store: Path, most: int | None = None):
    """Features; after `most` images it waits to be killed: however late that comes, some are left for the next one."""
    parent = os.getppid()

    class Slow(module.VGG16):
        calls = 0

        def __call__(self, pixels):
            while most and Slow.calls >= most and os.getppid() == parent:
                time.sleep(0.01)
            Slow.calls += 1
            return super().__call__(pixels)

    module.VGG16, network = Slow, module.VGG16
    recipe = Recipe.best().with_(image_size=32)
    features = module.extract(manifest, recipe, *build_base(recipe, "none"), store=store, progress=False)
    module.VGG16 = network
    return features


def shards(store: Path) -> int:
    return len(list(store.rglob("[!.]*.npy")))


def in_a_fork(work, *, store: Path, kill_after: float | None = None) -> None:
    """Do this in a child; kill it so many seconds after it wrote its first shard."""
    before = shards(store)
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    if kill_after is not None:
        while shards(store) == before and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.01)
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(photos: Path, store: Path) -> None:
    manifest = assign_splits(take_census(photos, progress=False))
    random, left = np.random.default_rng(0), []

    def last():
        served, fresh = extracted(manifest, store), extracted(manifest, store.with_name("fresh"))
        same = bool(np.array_equal(served.values, fresh.values)) and served.rows == fresh.rows
        told = {"left": left, "run": served.images_forwarded, "of": len(fresh.rows), "same": same}
        print(json.dumps(told), flush=True)

    for _ in range(3):
        in_a_fork(lambda: extracted(manifest, store, 4), store=store, kill_after=random.uniform(0, 0.08))
        left.append(shards(store))
    in_a_fork(last, store=store)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
