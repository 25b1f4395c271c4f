"""What the other software stack makes of a bundle and of a run; started by `test_stacks.py` with that stack's Python.

    python tests/other_stack.py BUNDLE RUN NEW PHOTO...

Opens the bundle, saves the run as the bundle NEW, and prints one JSON document.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from vggnb.paths import versions
from vggnb.predict import predict_files
from vggnb.save import load_bundle, save_bundle
from vggnb.save.spec import NUMBERS
from vggnb.train import open_run


def weights_sha256(model) -> str:
    """Of all numbers of a network, in its order."""
    return hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()


def answers(bundle, photos) -> list[list[float]]:
    """The probabilities of photos, in the order of the classes."""
    found = predict_files(bundle, photos)
    return [[answer.probabilities[name] for name in bundle.classes] for answer in found]


def each_alone(folder: Path) -> dict[str, str]:
    """The hash of the numbers when only one of the files that hold them is there."""
    models, found = json.loads((folder / "manifest.json").read_bytes())["models"], {}
    for kind in NUMBERS:
        with tempfile.TemporaryDirectory() as place:
            others = [models[other] for other in NUMBERS if other != kind]
            copy = shutil.copytree(
                folder, Path(place) / "bundle", copy_function=os.link, ignore=shutil.ignore_patterns(*others)
            )
            found[kind] = weights_sha256(load_bundle(copy).model)
    return found


def main(folder: Path, run: Path, new: Path, photos: list[Path]) -> dict:
    """Both ways at once."""
    bundle = load_bundle(folder)
    save_bundle(open_run(run), new, name="pets")
    return {
        "versions": versions(),
        "classes": bundle.classes,
        "probabilities": answers(bundle, photos),
        "weights_sha256": weights_sha256(bundle.model),
        "each_alone": each_alone(folder),
        "own": answers(load_bundle(new), photos),
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:4]), list(map(Path, sys.argv[4:])))))
