"""What a bundle says about itself, checked before anything heavy is imported or any number is read.

Nothing here needs TensorFlow: a damaged or hostile bundle is refused in a fraction of a second.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggnb.images import DECODER_VERSION
from vggnb.recipe import Recipe
from vggnb.save.guard import check_model_file
from vggnb.storage import VggnbError, read_json, recover_folder, sha256_file

FORMATS = {"json": ".json", "h5": ".h5", "weights": ".weights.h5", "keras": ".keras"}
EXPORTS = {"savedmodel": ".savedmodel", "onnx": ".onnx", "litert": ".tflite"}  # for other programs
ARTICLE = ("json", "h5", "weights")
NUMBERS = ("weights", "keras", "h5")  # where the numbers are taken from: the first of these that is there
MANIFEST = "manifest.json"
MOST_FACTS = 5_000_000  # bytes of a JSON file of a bundle
MOST_CLASSES = 1000
AGAIN = "Copy the whole folder again, or save the run again."


@dataclass(frozen=True)
class Spec:
    """The checked facts of a bundle; `model_file` is the one file whose numbers are to be read."""

    folder: Path
    name: str
    classes: tuple[str, ...]
    recipe: Recipe
    document: dict
    model_file: Path


def read_spec(folder: Path, kinds: tuple[str, ...] = NUMBERS) -> Spec:
    """Check a bundle's facts and the one model file that is needed.

    Args:
        kinds: formats to take the model from, in order; the first whose file is there is used. A file that is there but
            damaged is refused, never passed over.

    Raises:
        VggnbError: not a bundle; or a needed file is missing, damaged, of another model, or holds what it must not.
    """
    folder = Path(folder)
    recover_folder(folder)
    document = read_manifest(folder)
    for file in ("labels.json", "recipe.json"):
        _check_size(folder / file, MOST_FACTS)
    classes = _classes(folder, document)
    check_file(folder, document, "labels.json")
    check_file(folder, document, "recipe.json")
    facts = read_json(folder / "recipe.json")
    if not isinstance(facts, dict):
        raise VggnbError("This is not a bundle's recipe.", folder / "recipe.json", AGAIN)
    recipe = Recipe.from_dict(facts.get("recipe"))
    if document["decoder"] != DECODER_VERSION:
        what = f"Its pictures were decoded by rule {document['decoder']!r}; this vggnb decodes by {DECODER_VERSION!r}."
        raise VggnbError(what, folder, "Use the vggnb that saved it (manifest.json names it), or save the run again.")
    models = document["models"]
    kind = next((kind for kind in kinds if kind in models and (folder / models[kind]).is_file()), None)
    if kind is None:
        wanted = next((models[kind] for kind in kinds if kind in models), f"a file of format {kinds[0]}")
        raise VggnbError(f"The bundle lacks {wanted}.", folder, AGAIN)
    path = folder / models[kind]
    check_model_file(path, kind, recipe, len(classes))
    check_file(folder, document, models[kind])
    return Spec(folder, document["name"], classes, recipe, document, path)


def read_manifest(folder: Path) -> dict:
    """The manifest, its form checked.

    Raises:
        VggnbError: there is none, or it is none of ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise VggnbError("There is no bundle in this folder.", folder, "Save one first: vggnb save RUN --to DIR.")
    _check_size(path, MOST_FACTS)
    try:
        document = read_json(path)
    except RecursionError:
        document = None
    if not is_manifest(document):
        raise VggnbError("This is not a bundle's manifest.", path, "Name the folder of a bundle.")
    return document


def is_manifest(document: object) -> bool:
    """Whether a JSON document is what `save_bundle` writes, not another program's manifest.json."""
    if not isinstance(document, dict) or not {"name", "decoder", "files", "models", "check"} <= document.keys():
        return False
    files, models = document["files"], document["models"]
    if not isinstance(files, dict) or not isinstance(models, dict) or not isinstance(document["name"], str):
        return False
    if not all(_is_plain(name) and _is_about(about) for name, about in files.items()):
        return False
    endings = {**FORMATS, **EXPORTS}
    if not all(isinstance(file, str) and file.endswith(endings.get(kind, "\0")) for kind, file in models.items()):
        return False
    needed = {f"{file}/saved_model.pb" if kind == "savedmodel" else file for kind, file in models.items()}
    return {"labels.json", "recipe.json", *needed} <= files.keys() and "weights" in models


def _is_plain(name: str) -> bool:
    """Whether a name stays inside the folder, on every system; a SavedModel is a folder of its own."""
    if EXPORTS["savedmodel"] + "/" in name:
        return all(map(_is_plain, name.split("/")))
    return name == PurePosixPath(name).name and not set(name) & set("\\/:\0") and name not in ("", ".", "..")


def _is_about(about: object) -> bool:
    return isinstance(about, dict) and isinstance(about.get("sha256"), str) and isinstance(about.get("bytes"), int)


def check_file(folder: Path, document: dict, file: str) -> None:
    """Compare a file with its checksum.

    Raises:
        VggnbError: it is missing, a link, or differs.
    """
    path = folder / file
    if path.is_symlink() or not path.is_file():
        raise VggnbError(f"The bundle lacks {file}.", folder, AGAIN)
    if (
        path.stat().st_size != document["files"][file]["bytes"]
        or sha256_file(path) != document["files"][file]["sha256"]
    ):
        what = "The file is damaged, or of another model: its checksum differs."
        raise VggnbError(what, path, "Copy it again, or save the run again.")


def _check_size(path: Path, most: int) -> None:
    if path.is_file() and path.stat().st_size > most:
        raise VggnbError(f"The file is far too large ({path.stat().st_size / 1e6:.0f} MB).", path, AGAIN)


def _classes(folder: Path, document: dict) -> tuple[str, ...]:
    """The class names, in the order of the network's outputs, as the manifest has them, too."""
    path = folder / "labels.json"
    if path.is_symlink() or not path.is_file():
        raise VggnbError("The bundle lacks labels.json.", folder, AGAIN)
    try:
        labels = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise VggnbError("The file is damaged, or of another model: its checksum differs.", path, AGAIN)
    if not 2 <= len(labels) <= MOST_CLASSES or len(set(labels)) != len(labels):
        raise VggnbError("The class names are not two or more different words.", path, AGAIN)
    if "classes" in document and labels != document["classes"]:
        same = isinstance(document["classes"], list) and sorted(map(str, document["classes"])) == sorted(labels)
        words = "are in another order than" if same else "are others than"
        what = f"The class names {words} the network's outputs: its checksum differs."
        raise VggnbError(what, path, AGAIN)
    return tuple(labels)
