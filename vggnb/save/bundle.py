"""A bundle: the article's three files and the facts that must travel with them, proven to come back the same.

Class names, the recipe and a checksum of every file lie beside the weights. A bundle replaces another one as a whole
or not at all. Loading builds the network in our own code and reads numbers into it; no file is run.
"""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

import vggnb
from vggnb.card import NOT_A_DEVICE, build_card
from vggnb.folders import is_system
from vggnb.images import DECODER_VERSION, resize_image
from vggnb.machine import versions
from vggnb.model import build_classifier, build_head
from vggnb.recipe import Recipe
from vggnb.save.guard import check_model_file
from vggnb.save.numbers import read_numbers
from vggnb.save.spec import CHECK_IMAGES, FORMATS, MANIFEST, check_file, is_manifest, read_spec, write_manifest
from vggnb.storage import VggnbError, read_json, recover_folder, replacing_folder, sha256_file, write_json
from vggnb.train import Run

TOLERANCE = 1e-5  # between the probabilities of the saved and of the loaded model
DECODING = (
    "Decode with Pillow, first frame, turn upright as EXIF orientation says, 16-bit channels >> 8, lay transparent "
    "parts on white, convert to RGB; resize to image_size x image_size without keeping the shape, with Pillow's filter "
    "named in recipe.resize; feed as float32, 0 to 255, channels last, RGB. For bilinear, a JPEG is first "
    "drafted: image.draft(None, (2 * image_size, 2 * image_size))."
)


@dataclass(frozen=True)
class SavedFile:
    """One file of a bundle; `max_difference` compares its probabilities with the saved model's, None for no model."""

    path: str
    format: str
    sha256: str
    bytes: int
    max_difference: float | None


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle."""

    folder: Path
    name: str
    classes: tuple[str, ...]
    recipe: Recipe
    model: keras.Model

    def __str__(self) -> str:
        size = self.recipe.image_size
        return f"VGG_{self.name}: pictures of {size} x {size} pixels -> {', '.join(self.classes)} ({NOT_A_DEVICE})"


def save_bundle(
    run: Run,
    folder: Path,
    *,
    name: str | None = None,
    formats: Iterable[str] = tuple(FORMATS),
    model: keras.Model | None = None,
) -> list[SavedFile]:
    """Save a run's classifier and load each file again in a fresh process.

    Args:
        name: the article's `VGG_<name>`; default the dataset folder's name.
        formats: of "json" (architecture), "h5" (whole model), "weights", "keras"; the weights are always written.
        model: the assembled classifier, if it is at hand.

    Raises:
        VggnbError: unknown format, unwritable folder, or a file that does not come back the same.
    """
    formats = _known_formats(formats)
    folder, name = Path(folder), _safe_name(name or run.manifest.dataset.name)
    if others := _not_of_a_bundle(folder):
        what = f"This folder holds something else than a bundle: {others[0]}."
        raise VggnbError(what, folder, "Name a new folder with --to.")
    model = run.classifier() if model is None else model
    with replacing_folder(folder) as temporary:
        names = {kind: f"VGG_{name}{FORMATS[kind]}" for kind in formats}
        _write_model(model, temporary, names)
        write_json(temporary / "labels.json", list(run.classes))
        write_json(temporary / "recipe.json", {"recipe": run.recipe.to_dict(), "decoding": DECODING})
        write_json(temporary / "card.json", build_card(run, name))
        expected = model.predict(check_images(run.recipe.image_size), verbose=0)
        document = {
            "name": name,
            "classes": list(run.classes),
            "decoder": DECODER_VERSION,
            "versions": versions(),
            "files": {
                path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
                for path in sorted(temporary.iterdir())
            },
            "models": names,
            "check": np.asarray(expected, np.float64).round(9).tolist(),
        }
        write_manifest(temporary, document)
        files = verify(temporary)
        differences = {file.path: file.max_difference for file in files if file.max_difference is not None}
        wrong = [path for path, difference in differences.items() if not difference <= TOLERANCE]  # nan is wrong, too
        if wrong:
            raise VggnbError(
                f"{wrong[0]} does not come back the same.", folder, "Nothing was changed; please report it."
            )
    return files


def verify(folder: Path) -> list[SavedFile]:
    """Load every model file of a bundle in a fresh process and compare its probabilities with those of the saved model.

    Raises:
        VggnbError: not a bundle, a checksum that differs, or a file that does not load.
    """
    spec = read_spec(Path(folder))
    recipe, document = spec.recipe, spec.document
    for file in document["files"]:
        check_file(Path(folder), document, file)
    for kind, file in document["models"].items():
        check_model_file(Path(folder) / file, kind, recipe, len(document["check"][0]))
    # The fresh process must find this same library, wherever the notebook was started.
    home = str(Path(vggnb.__file__).resolve().parent.parent)
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "vggnb.save.bundle", str(Path(folder).resolve())]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise VggnbError(f"A saved file cannot be loaded again: {last}", folder, "Save again; please report it.")
    differences = json.loads(done.stdout.splitlines()[-1])
    kinds = {file: kind for kind, file in document["models"].items()}
    return [
        SavedFile(file, kinds.get(file, "facts"), about["sha256"], about["bytes"], differences.get(file))
        for file, about in document["files"].items()
    ]


def load_bundle(folder: Path) -> Bundle:
    """Open a bundle: the network is built here from the recipe, the numbers come from one of its files.

    The numbers are taken from `.weights.h5`; when that file is gone, from `.keras`, else from `.h5`. When a file is
    whole but another Keras wrote it and this one cannot read it, that is said and the next one is taken. No
    architecture that lies in a file is ever used. A file that is there but damaged is refused, not passed over. Then
    the model must say of two check pictures what the saved one said.

    Raises:
        VggnbError: not a bundle, or one of the files it needs is damaged, missing or of another network or model.
    """
    spec = read_spec(folder)
    model = _rebuild(spec.recipe, len(spec.classes))
    read_numbers(model, spec, check_images(spec.recipe.image_size))
    return Bundle(spec.folder, spec.name, spec.classes, spec.recipe, model)


def open_or_save(run: Run, folder: Path, *, name: str) -> Bundle:
    """The bundle in this folder; when there is none yet, it is saved first, and that is said."""
    recover_folder(folder)
    if not (Path(folder) / MANIFEST).is_file():
        print(f"No bundle '{Path(folder).name}' yet: saving it now.")
        save_bundle(run, folder, name=name)
    return load_bundle(folder)


def check_images(size: int) -> np.ndarray:
    """The same soft random pictures everywhere, float32 (8, size, size, 3), 0 to 255: for comparing models."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (CHECK_IMAGES, 8, 8, 3), np.uint8)
    return np.stack([resize_image(picture, size, "bilinear") for picture in small]).astype(np.float32)


def _known_formats(formats: Iterable[str]) -> list[str]:
    formats = list(dict.fromkeys([*formats, "weights"]))
    if unknown := [kind for kind in formats if kind not in FORMATS]:
        remedy = f"Use article, all, or some of {', '.join(FORMATS)}."
        raise VggnbError(f"There is no format '{unknown[0]}'.", "--formats", remedy)
    return formats


def _safe_name(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_")[:40] or "model"


def _save_h5(model: keras.Model, path: Path) -> None:
    """The article's whole-model file; Keras's advice to use another format is given on the page instead."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.save(path)
    finally:
        logger.setLevel(level)


def _write_model(model: keras.Model, folder: Path, names: dict[str, str]) -> None:
    """The model files, the article's under today's names."""
    writers = {
        "json": lambda path: path.write_text(model.to_json(indent=1), encoding="utf-8"),
        "h5": lambda path: _save_h5(model, path),
        "weights": model.save_weights,  # Keras 3 insists on the ending .weights.h5
        "keras": model.save,
    }
    for kind, file in names.items():
        try:
            writers[kind](folder / file)
        except RuntimeError as error:  # what HDF5 makes of a full disk
            remedy = "Free some space or choose another folder; what was there before is untouched."
            raise VggnbError(f"{file} could not be written ({error}).", folder.parent, remedy) from error


def _not_of_a_bundle(folder: Path) -> list[str]:
    """Names in a folder that no bundle put there: replacing the folder would lose them."""
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir() if not is_system(path.name))
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return names
    ours = {MANIFEST, *document["files"]} if is_manifest(document) else set()
    return [name for name in names if name not in ours]


def _rebuild(recipe: Recipe, classes: int) -> keras.Model:
    """The classifier with numbers still to come."""
    shape = (recipe.image_size, recipe.image_size, 3)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=shape)
    return build_classifier(base, build_head(recipe, classes), recipe)


def _load(folder: Path, kind: str, names: dict[str, str], recipe: Recipe, classes: int) -> keras.Model:
    """One format the way a user of that format would load it."""
    if kind in ("h5", "keras"):
        return keras.models.load_model(folder / names[kind], compile=False)
    if kind == "json":
        model = keras.models.model_from_json((folder / names["json"]).read_text(encoding="utf-8"))
    else:
        model = _rebuild(recipe, classes)
    model.load_weights(folder / names["weights"])
    return model


def _main(folder: Path) -> None:
    """The fresh process of `verify`: print the maximum difference of each model file as one JSON line."""
    document = read_json(folder / MANIFEST)
    recipe = Recipe.from_dict(read_json(folder / "recipe.json")["recipe"])
    images, expected = check_images(recipe.image_size), np.array(document["check"])
    differences = {}
    for kind, file in document["models"].items():
        model = _load(folder, kind, document["models"], recipe, expected.shape[1])
        differences[file] = float(np.abs(model.predict(images, verbose=0) - expected).max())
    print(json.dumps(differences))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
