"""What another software stack makes of a bundle, and of a run that it saves as the bundle NEW: one JSON document.

python tests/other_stack.py BUNDLE RUN NEW PHOTO...
"""

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from vggnb.machine import versions
from vggnb.predict import predict_files
from vggnb.save import load_bundle, save_bundle, verify
from vggnb.train import open_run

KERAS = ("json", "h5", "weights", "keras", "savedmodel")


def weights_sha256(model) -> str:
    """Of all numbers of a network, in its order."""
    return hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()


def answers(bundle, photos) -> list[list[float]]:
    """The probabilities of photos, in the order of the classes."""
    found = predict_files(bundle, photos)
    return [[answer.probabilities[name] for name in bundle.classes] for answer in found]


def plain(folder: Path) -> dict[str, float]:
    """Each file of Keras and TensorFlow, opened with its own loader: the largest difference in probability."""
    return {file.format: file.max_difference for file in verify(folder) if file.format in KERAS}


def main(folder: Path, run: Path, new: Path, photos: list[Path]) -> dict:
    bundle = load_bundle(folder)
    save_bundle(open_run(run), new, name="pets", formats=KERAS)
    return {
        "versions": versions(),
        "classes": bundle.classes,
        "probabilities": answers(bundle, photos),
        "weights_sha256": weights_sha256(bundle.model),
        "plain": plain(folder),
        "own": answers(load_bundle(new), photos),
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:4]), list(map(Path, sys.argv[4:])))))
