"""Kill the saving of a bundle over another one at random moments, and at each rename, and look at what is there.

    python -m faults.saves FOLDER KILLS

This process only imports TensorFlow and never computes with it: a fork of one that has would hang. So it is a program
of its own, which prints one JSON document.
"""

import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf
from small_bundle import save_small, small_model, small_vgg

from faults import killed, killed_at
from vggnb import storage
from vggnb.save.spec import check_file, read_manifest, read_spec


def save(folder: Path, seed: int, begun: Path) -> None:
    """Save a bundle with numbers of its own."""
    tf.config.run_functions_eagerly(True)  # nothing is compiled
    with small_vgg():
        model = small_model(seed=seed)
        begun.touch()
        save_small(folder, model=model, formats=["keras"])


def state(folder: Path) -> str:
    """The answers of the bundle that is there, after every one of its files was looked at."""
    with small_vgg():
        read_spec(folder, ("weights",))
        document = read_manifest(folder)
        for file in document["files"]:
            check_file(folder, document, file)
        if {path.name for path in folder.iterdir()} != {*document["files"], "manifest.json"}:
            raise AssertionError(f"something else is there: {list(folder.iterdir())}")
    return json.dumps(document["check"])


def can_swap(parent: Path) -> bool:
    """Whether this place can exchange two names in one step."""
    one, other = tempfile.mkdtemp(dir=parent), tempfile.mkdtemp(dir=parent)
    swapped = storage._swapped(Path(one), Path(other))
    os.rmdir(one)
    os.rmdir(other)
    return swapped


def main(parent: Path, kills: int) -> dict:
    """Save in peace, then with kills; each new bundle has other numbers than the one before."""
    parent.mkdir()
    folder, begun, seeds = parent / "pets", parent.with_name("begun"), itertools.count()
    killed(lambda: save(folder, next(seeds), begun), after_s=None)
    needed_s = time.time() - begun.stat().st_mtime
    was, found, left, hits, neither = state(folder), [], 0, 0, 0
    random = np.random.default_rng(11)

    def look() -> None:
        nonlocal was, left, neither
        left += len(list(parent.glob(".vggnb-tmp-*")))
        neither += not folder.is_dir()  # before `state`, which puts the old one back
        now = state(folder)
        found.append("old" if now == was else "new")
        was = now

    while hits < kills:
        begun.unlink(missing_ok=True)
        seed = next(seeds)
        hits += killed(lambda seed=seed: save(folder, seed, begun), after_s=random.uniform(0, needed_s), sign=begun)
        look()
    for nth in itertools.count(1):
        seed = next(seeds)
        if not killed_at(lambda seed=seed: save(folder, seed, begun), "rename", nth, under=parent):
            break
        look()
    look()
    names = sorted(path.name for path in parent.iterdir())
    told = {"kills": hits, "renames": nth - 1, "neither": neither, "swaps": can_swap(parent), "states": found}
    return told | {"left_by_kills": left, "left_at_the_end": names}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
