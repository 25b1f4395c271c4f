"""A bundle comes back the same: each of its model files loaded in a fresh process, its answers beside the saved ones.

    python -m vggnb.save.proof FOLDER

is that process; an export's is `python -m vggnb.save.runtimes`.
"""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import vggnb.generators  # noqa: F401 - it gives TensorFlow the threads of VGGNB_THREADS
from vggnb.paths import python_path
from vggnb.recipe import Recipe
from vggnb.save.filling import rebuild
from vggnb.save.runtimes import check_images
from vggnb.save.spec import EXPORTS, MANIFEST, check_file, read_spec
from vggnb.storage import VggnbError, read_json


@dataclass(frozen=True)
class SavedFile:
    """One file of a bundle; `max_difference` compares its probabilities with the saved model's, None for no model."""

    path: str
    format: str
    sha256: str
    bytes: int
    max_difference: float | None


def verify(folder: Path, *, run_exports: bool = False) -> list[SavedFile]:
    """Load every model file of a bundle in a fresh process and compare its probabilities with those of the saved model.

    Args:
        run_exports: run the exports, too, each in its own runtime. They are programs: only for a bundle of your own.

    Raises:
        VggnbError: not a bundle, a checksum that differs, or a file that does not load.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    document = spec.document
    for file in document["files"]:
        check_file(folder, document, file)
    differences = _in_fresh_process(folder, "vggnb.save.proof")
    for kind in EXPORTS if run_exports else ():
        if kind in document["models"]:
            differences |= _in_fresh_process(folder, "vggnb.save.runtimes", kind)
    kinds = {file: kind for kind, file in document["models"].items()}
    saved = []
    for file, about in document["files"].items():
        model = next((name for name in kinds if file == name or file.startswith(f"{name}/")), None)
        kind = kinds.get(model, "facts")
        saved.append(SavedFile(file, kind, about["sha256"], about["bytes"], differences.get(model)))
    return saved


def _in_fresh_process(folder: Path, module: str, *words: str) -> dict[str, float]:
    """What `python -m module WORDS FOLDER` says: the largest difference of each model file that it loaded."""
    # -P: a random.py in the current folder is nobody's module
    command = [sys.executable, "-P", "-m", module, *words, str(folder.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": python_path()})
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        # Our own errors say what is wrong in the line before the place, all others in the last.
        why = next((line for line, after in itertools.pairwise(lines) if after.startswith("  where:")), lines[-1])
        raise VggnbError(f"A saved file cannot be loaded again: {why}", folder, "Save again; please report it.")
    return json.loads(done.stdout.splitlines()[-1])


def _load(folder: Path, kind: str, names: dict[str, str], recipe: Recipe, classes: int) -> keras.Model:
    """One format the way a user of that format would load it."""
    if kind in ("h5", "keras"):
        return keras.models.load_model(folder / names[kind], compile=False)
    if kind == "json":
        model = keras.models.model_from_json((folder / names["json"]).read_text(encoding="utf-8"))
    else:
        model = rebuild(recipe, classes)
    model.load_weights(folder / names["weights"])
    return model


def _main(folder: Path) -> None:
    """The fresh process of `verify`: print the maximum difference of each model file as one JSON line."""
    document = read_json(folder / MANIFEST)
    recipe = Recipe.from_dict(read_json(folder / "recipe.json")["recipe"])
    images, expected = check_images(recipe.image_size), np.array(document["check"])
    differences = {}
    for kind, file in document["models"].items():
        if kind in EXPORTS:
            continue
        model = _load(folder, kind, document["models"], recipe, expected.shape[1])
        differences[file] = float(np.abs(model.predict(images, verbose=0) - expected).max())
    print(json.dumps(differences))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
