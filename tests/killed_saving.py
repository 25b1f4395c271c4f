"""Kill the saving of a bundle over another one at each rename, and look at what is there.

    python tests/killed_saving.py FOLDER

This process only imports TensorFlow and never computes with it: a fork of one that has would hang. So it is a program
of its own, which prints one JSON document.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from faults import killed, killed_at
from small_bundle import save_small, small_vgg

from vggnb.save.bundle import read_checked, read_manifest
from vggnb.storage import VggnbError


def save(folder: Path, seed: int) -> None:
    """Save a bundle with numbers of its own."""
    tf.config.run_functions_eagerly(True)  # nothing is compiled
    with small_vgg():
        save_small(folder, seed=seed)


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


def main(folder: Path) -> dict:
    """Each new bundle has other numbers than the one before; after a kill the next saving must succeed."""
    states, nth, hit = [], 0, True
    while hit:
        nth += 1
        killed(partial(save, folder, 2 * nth), after_s=None)  # in peace: whatever was there, it succeeds
        assert state(folder) == str(2 * nth)
        hit = killed_at(partial(save, folder, 2 * nth + 1), "rename", nth, under=folder)
        states.append({str(2 * nth): "old", str(2 * nth + 1): "new"}.get(state(folder), "refused"))
    return {"renames": nth - 1, "states": states, "names": sorted(path.name for path in folder.iterdir())}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
