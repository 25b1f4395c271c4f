"""What a bundle says about itself, checked before anything heavy is imported or any number is read.

Nothing here needs TensorFlow: a damaged or hostile bundle is refused in a fraction of a second. The checksums detect
damage and mix-ups. They are no signature: whoever rewrites all of them has made another bundle.
"""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from vggnb.images import DECODER_VERSION
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, recover_folder, sha256_bytes, sha256_file, write_bytes

FORMATS = {"json": ".json", "h5": ".h5", "weights": ".weights.h5", "keras": ".keras"}
EXPORTS = {"savedmodel": ".savedmodel", "onnx": ".onnx", "litert": ".tflite"}  # for other programs
ENDINGS = FORMATS | EXPORTS
ARTICLE = ("json", "h5", "weights")
NUMBERS = ("weights", "keras", "h5")  # where the numbers are taken from: the first of these that is there
MANIFEST = "manifest.json"
FACTS = ("labels.json", "recipe.json", "card.json", "feature_ranges.json")
MOST_FACTS = 1_000_000  # bytes of a JSON file of a bundle
MOST_BYTES = 1_000_000_000  # of any file of a bundle
MOST_CLASSES = 1000
CHECK_IMAGES = 8
BLANK = "0" * 64  # stands for the manifest's own checksum while that is computed
SAME = 1e-4  # between probabilities that a bundle promises and those that its numbers give on another machine
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
    classes = _classes(folder, document)
    check_file(folder, document, "labels.json")
    check_file(folder, document, "recipe.json")
    recipe = _recipe(folder)
    if document["decoder"] != DECODER_VERSION:
        what = f"Its pictures were decoded by rule {document['decoder']!r}; this vggnb decodes by {DECODER_VERSION!r}."
        raise VggnbError(what, folder, "Use the vggnb that saved it (manifest.json names it), or save the run again.")
    models = document["models"]
    kind = next((kind for kind in kinds if kind in models and os.path.lexists(folder / models[kind])), None)
    if kind is None:
        wanted = next((models[kind] for kind in kinds if kind in models), f"a file of format {kinds[0]}")
        raise VggnbError(f"The bundle lacks {wanted}.", folder, AGAIN)
    path = folder / models[kind]
    check_file(folder, document, models[kind])
    return Spec(folder, document["name"], classes, recipe, document, path)


def write_manifest(folder: Path, document: dict) -> None:
    """Write the manifest and, as its last entry, its own checksum: SHA-256 of the file with 64 zeros in that place."""
    text = json.dumps({**document, "sha256": BLANK}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode("utf-8", "surrogateescape")
    write_bytes(folder / MANIFEST, sha256_bytes(data).encode().join(data.rsplit(BLANK.encode(), 1)))


def read_manifest(folder: Path) -> dict:
    """The manifest, its checksum and its form checked.

    Raises:
        VggnbError: there is none, or it is none of ours, or damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise VggnbError("There is no bundle in this folder.", folder, "Save one first: vggnb save RUN --to DIR.")
    data = _read(path)
    try:
        document = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        document = None
    if not is_manifest(document):
        raise VggnbError("This is not a bundle's manifest.", path, "Name the folder of a bundle.")
    seal = str(document.get("sha256")).encode("utf-8", "surrogateescape")
    if sha256_bytes(BLANK.encode().join(data.rsplit(seal, 1))).encode() != seal:
        raise VggnbError("The manifest is damaged, or of another vggnb: its checksum differs.", path, AGAIN)
    if wrong := _wrong(document):
        raise VggnbError(f"The manifest is refused: {wrong}.", path, AGAIN)
    return document


def _wrong(document: dict) -> str | None:
    """What a manifest of the right form says that `save_bundle` never does."""
    files, models = document["files"], document["models"].values()
    if strange := [file for file in files if file not in FACTS and file.partition("/")[0] not in models]:
        return f"it lists {strange[0]!r}, which is no file of a bundle"
    if not re.fullmatch(r"[\w-]{1,40}", document["name"], re.ASCII):
        return f"{document['name'][:80]!r} is no bundle's name"
    classes, check = document.get("classes"), document["check"]
    if not isinstance(classes, list) or not isinstance(document.get("versions"), dict):
        return "it holds no class names, or no versions"
    if not isinstance(check, list) or len(check) != CHECK_IMAGES:
        return f"it does not hold the answers for {CHECK_IMAGES} check pictures"
    for row in check:
        numbers = isinstance(row, list) and len(row) == len(classes) and all(type(p) in (int, float) for p in row)
        if not numbers or not all(0 <= p <= 1 for p in row) or not math.isclose(sum(row), 1, abs_tol=1e-3):
            return "what it says of the check pictures are no probabilities"
    return None


def check_answers(spec: Spec, images: np.ndarray, answer: Callable[[np.ndarray], np.ndarray]) -> None:
    """See that a loaded model says what the saved one said of the two pictures about which that was least sure.

    Args:
        images: the check pictures, float32 (8, size, size, 3), 0 to 255.
        answer: the loaded model: pictures -> probabilities (b, classes), computed in float32.

    Raises:
        VggnbError: it does not: the numbers are of another model, although the checksums fit.
    """
    expected = np.array(spec.document["check"])
    unsure = np.argsort(expected.max(1), kind="stable")[:2]  # there models differ most; far away all may say 0 or 1
    if not np.abs(answer(images[unsure]) - expected[unsure]).max() <= SAME:  # nan is wrong, too
        what = "The weights are of another model: its answers differ from those that the manifest promises."
        raise VggnbError(what, spec.model_file, AGAIN)


def is_manifest(document: object) -> bool:
    """Whether a JSON document is what `save_bundle` writes, not another program's manifest.json."""
    if not isinstance(document, dict) or not {"name", "decoder", "files", "models", "check"} <= document.keys():
        return False
    files, models = document["files"], document["models"]
    if not isinstance(files, dict) or not isinstance(models, dict) or not isinstance(document["name"], str):
        return False
    if not all(_is_plain(name) and _is_about(about) for name, about in files.items()):
        return False
    if not all(isinstance(file, str) and file.endswith(ENDINGS.get(kind, "\0")) for kind, file in models.items()):
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
    about, size = document["files"][file], path.stat().st_size
    if size > MOST_BYTES:
        raise VggnbError("The file is far too large.", path, AGAIN)
    if size != about["bytes"] or sha256_file(path) != about["sha256"]:
        what = "The file is damaged, or of another model: its checksum differs."
        raise VggnbError(what, path, "Copy it again, or save the run again.")


def _read(path: Path) -> bytes:
    """A small file that is no link."""
    if path.is_symlink() or path.stat().st_size > MOST_FACTS:
        raise VggnbError("The file is a link, or far too large.", path, AGAIN)
    return path.read_bytes()


def _facts(path: Path) -> object:
    """What is in a JSON file of a bundle."""
    if not path.is_file():
        raise VggnbError(f"The bundle lacks {path.name}.", path.parent, AGAIN)
    try:
        return json.loads(_read(path).decode("utf-8", "surrogateescape"))
    except ValueError as error:
        what = f"The file is damaged, or of another model: its checksum differs, or {error}."
        raise VggnbError(what, path, AGAIN) from None


def _recipe(folder: Path) -> Recipe:
    """The recipe, every choice of the kind that it should be."""
    facts = _facts(folder / "recipe.json")
    if not isinstance(facts, dict):
        raise VggnbError("This is not a bundle's recipe.", folder / "recipe.json", AGAIN)
    recipe = Recipe.from_dict(facts.get("recipe"))
    for choice, value in Recipe.best().with_(ridge=recipe.ridge).to_dict().items():
        kinds = (int, float) if isinstance(value, float) else (type(value),)
        if type(facts["recipe"][choice]) not in kinds:
            what = f"The recipe's {choice} is {facts['recipe'][choice]!r}, of another kind than it should be."
            raise VggnbError(what, folder / "recipe.json", AGAIN)
    return recipe


def _classes(folder: Path, document: dict) -> tuple[str, ...]:
    """The class names, in the order of the network's outputs, as the manifest has them, too."""
    path = folder / "labels.json"
    labels = _facts(path)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise VggnbError("The file is damaged, or of another model: its checksum differs.", path, AGAIN)
    if not 2 <= len(labels) <= MOST_CLASSES or len(set(labels)) != len(labels):
        raise VggnbError("The class names are not two or more different words.", path, AGAIN)
    if labels != document["classes"]:
        same = sorted(map(str, document["classes"])) == sorted(labels)
        words = "are in another order than" if same else "are others than"
        what = f"The class names {words} the network's outputs: its checksum differs."
        raise VggnbError(what, path, AGAIN)
    return tuple(labels)
