"""Kill the saving of a bundle over another one at each rename, and at random moments, and look at what is there.

    python tests/killed_saving.py FOLDER KILLS

This process only imports TensorFlow and never computes with it: a fork of one that has would hang. So it is a program
of its own, which prints one JSON document.
"""

import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from faults import killed, killed_at
from small_bundle import save_small, small_vgg

from vggnb.save.bundle import read_checked, read_manifest
from vggnb.storage import VggnbError


def save(folder: Path, seed: int, begun: Path) -> None:
    """Save a bundle with numbers of its own."""
    tf.config.run_functions_eagerly(True)  # nothing is compiled
    with small_vgg():
        begun.touch()
        save_small(folder, seed=seed)


def whole(folder: Path, seed: int, begun: Path) -> None:
    """Save in peace: whatever was there, it succeeds."""
    killed(lambda: save(folder, seed, begun), after_s=None)
    assert state(folder) == str(seed)


def state(folder: Path) -> str | None:
    """Whose bundle is there, all of whose files are whole; None where it says that it is not whole."""
    try:
        document = read_manifest(folder)
        for file in document["files"]:
            read_checked(folder, document, file)
    except VggnbError as error:
        assert "hash" in error.what or "no bundle" in error.what or "not those of" in error.what, error
        return None
    return document["model_sha256"]


def main(parent: Path, kills: int) -> dict:
    """Each new bundle has other numbers than the one before; after a kill the next saving must succeed."""
    parent.mkdir()
    folder, begun, seeds = parent / "pets", parent.with_name("begun"), itertools.count()
    start = time.time()
    whole(folder, next(seeds), begun)
    needed_s, random = time.time() - start, np.random.default_rng(11)
    found: list[str] = []

    def look(before: str, seed: int) -> None:
        now = state(folder)
        found.append("old" if now == before else "new" if now == str(seed) else "refused")
        whole(folder, next(seeds), begun)

    for nth in itertools.count(1):
        before, seed = state(folder), next(seeds)
        hit = killed_at(lambda seed=seed: save(folder, seed, begun), "rename", nth, under=folder)
        look(before, seed)
        if not hit:
            break
    for _ in range(kills):
        before, seed = state(folder), next(seeds)
        killed(lambda seed=seed: save(folder, seed, begun), after_s=random.uniform(0, needed_s), sign=begun)
        look(before, seed)
    names = sorted(path.name for path in folder.iterdir())
    return {"renames": nth - 1, "states": found, "names": names}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
