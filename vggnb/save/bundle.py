"""What is in a bundle and what it states about itself; `load_bundle`.

The network is built here; read are only numbers, `model.safetensors` (weights and out-of-distribution ranges) and
`bundle.json`, which is written last and holds the hash of every file. All other files are exports for other programs.
With the engine onnxruntime neither TensorFlow nor Keras is imported.
"""

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load as load_tensors

from vggnb.folders import shown
from vggnb.images import DECODER_VERSION, resize_image
from vggnb.machine import cores, threads
from vggnb.metrics.calibration import FeatureRanges
from vggnb.recipe import Recipe
from vggnb.save import runtimes
from vggnb.storage import VggnbError, read_json, sha256_bytes, storage_errors

if TYPE_CHECKING:
    from vggnb.device import keras

FORMAT = 1  # of bundle.json and of the names in model.safetensors
MANIFEST, NUMBERS, LABELS, CARD = "bundle.json", "model.safetensors", "labels.json", "card.json"
KEYS = {"format", "name", "classes", "recipe", "decoder", "precision", "threshold", "model_sha256", "files"}
RANGES = "out_of_distribution"
MEDICAL = re.compile(
    r"isic|ham.?10000|skin|derm|melano|malignan|benign|naev|nevus|nevi|lesion|tumou?r|cancer|carcino", re.IGNORECASE
)
NOT_A_DEVICE = "This teaches a method. It is not a diagnostic device; it must not be used to assess anyone's health."
NOT_TESTED = "This teaches a method. Evaluate the model on images from where you will use it before you rely on it."
INSTALL = 'Install the extra: pip install "vggnb[export]".'
AGAIN = "Copy the whole folder again, or save the run again."
ENGINES = ("tensorflow", "onnxruntime")


@dataclass(frozen=True)
class Bundle:
    """A trained model that is ready to predict.

    Attributes:
        forward: pixels (b, size, size, 3), RGB 0 to 255 -> calibrated probabilities (b, classes), and the features that
            enter the head (b, d).
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    recipe: Recipe
    forward: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    ranges: FeatureRanges | None = None  # of the features in training, to detect out-of-distribution images
    model: "keras.Model | None" = None  # None in onnxruntime
    threshold: dict | None = None  # threshold, positive, aim and images of the operating point chosen on validation

    def __str__(self) -> str:
        size, classes = self.recipe.image_size, ", ".join(map(shown, self.classes))
        return f"VGG_{self.name}: images of {size} x {size} pixels -> {classes} ({self.purpose})"

    @property
    def purpose(self) -> str:
        """What the model is for."""
        return purpose_of(self.name, *self.classes)


def purpose_of(*names: str) -> str:
    """What a model is for: not for diagnosis, where the name of its dataset or of a class is a medical one."""
    return NOT_A_DEVICE if any(map(MEDICAL.search, names)) else NOT_TESTED


def load_bundle(folder: Path, *, engine: str = "tensorflow", precision: str | None = None) -> Bundle:
    """Open a bundle.

    Args:
        engine: "tensorflow", or "onnxruntime", which needs the bundle's ONNX file.
        precision: of the arithmetic in TensorFlow, "float32", "bfloat16" or "float16"; default that of the training.
    """
    if engine not in ENGINES:
        raise VggnbError(f"There is no engine '{engine}'.", "--engine", f"Use {' or '.join(ENGINES)}.")
    folder = Path(folder)
    document = read_manifest(folder)
    classes, recipe = tuple(document["classes"]), Recipe.from_dict(document["recipe"])
    # "<layer>/kernel", "<layer>/bias", "out_of_distribution/low" and "/high"
    tensors = load_tensors(read_checked(folder, document, NUMBERS))
    ranges = model = None
    if facts := document.get(RANGES):
        try:
            ranges = FeatureRanges(*(tensors.pop(f"{RANGES}/{end}") for end in ("low", "high")), **facts)
        except (KeyError, TypeError) as error:
            what = f"The facts on out-of-distribution images are incomplete: {error}."
            raise VggnbError(what, folder / MANIFEST, AGAIN) from error
    if engine == "onnxruntime":
        file = next((file for file, about in document["files"].items() if about["format"] == "onnx"), None)
        if file is None:
            remedy = "Save the run again with --formats all, or predict with --engine tensorflow."
            raise VggnbError("This bundle holds no ONNX file.", folder, remedy)
        read_checked(folder, document, file)
        forward = load_export("onnx", folder / file)
    else:
        model = _filled(tensors, recipe, len(classes), precision or document["precision"], folder)
        forward = forward_of(model, recipe)
    return Bundle(folder, document["name"], classes, recipe, forward, ranges, model, document["threshold"])


def read_manifest(folder: Path) -> dict:
    """What `bundle.json` states, checked against `labels.json`."""
    folder, path = Path(folder), Path(folder) / MANIFEST
    with storage_errors(folder):
        if folder.is_file():
            raise VggnbError("This is a file; a bundle is a folder.", folder, f"Name its folder: {folder.parent}")
        if not path.is_file() and (folder / "manifest.json").is_file():
            what = "The files in this folder were written by vggnb 0.1; this version cannot read them."
            raise VggnbError(what, folder, "Train and save again, or use vggnb 0.1.")
        if not path.is_file():
            raise VggnbError("There is no bundle in this folder.", folder, "Save one: vggnb save RUN --to DIR.")
    document = read_json(path, AGAIN)
    is_ours = isinstance(document, dict) and document.keys() >= KEYS and isinstance(document["files"], dict)
    if not is_ours or not all(isinstance(document.get(key) or {}, dict) for key in (RANGES, "versions")):
        raise VggnbError("This file does not describe a bundle.", path, "Name the folder of a bundle.")
    if document["format"] != FORMAT or document["decoder"] != DECODER_VERSION:
        maker = (document.get("versions") or {}).get("vggnb")
        what = "The bundle was written by another version of vggnb."
        raise VggnbError(what, path, f"Use vggnb {maker}, or save again.")
    if json.loads(read_checked(folder, document, LABELS)) != document["classes"]:
        what = f"The classes are not those of {LABELS}, so the outputs may be in another order."
        raise VggnbError(what, path, AGAIN)
    return document


def read_checked(folder: Path, document: dict, file: str) -> bytes:
    """A file's bytes, which must have the hash that `bundle.json` states."""
    path = folder / file
    with storage_errors(path):
        if not path.is_file():
            raise VggnbError(f"The bundle lacks {file}.", folder, AGAIN)
        data = path.read_bytes()
    if sha256_bytes(data) != document["files"].get(file, {}).get("sha256"):
        what = "The file is damaged or comes from another save: its hash does not match bundle.json."
        raise VggnbError(what, path, AGAIN)
    return data


def _filled(tensors: dict, recipe: Recipe, classes: int, precision: str, folder: Path) -> "keras.Model":
    from vggnb.device import decide_precision
    from vggnb.model import empty_base, empty_classifier

    base = empty_base(recipe.image_size, precision=decide_precision(precision)[0])
    model = empty_classifier(base, recipe, classes)
    wanted = {f"{layer.name}/{weight.name}": weight for layer in weighted(model) for weight in layer.weights}
    shapes = ({name: tuple(one.shape) for name, one in some.items()} for some in (wanted, tensors))
    if next(shapes) != next(shapes):
        raise VggnbError("The weights do not fit the recipe in bundle.json.", folder / NUMBERS, AGAIN)
    for name, weight in wanted.items():
        weight.assign(tensors[name])
    return model


def weighted(model: "keras.Model") -> list:
    """The layers of a classifier whose weights are saved: preprocessing is built."""
    return [layer for layer in model.layers if layer.weights and layer.name != "preprocessing"]


def forward_of(model: "keras.Model", recipe: Recipe) -> Callable:
    """A classifier as `Bundle.forward`."""
    from vggnb.device import keras
    from vggnb.model import compiled, features_of

    both = keras.layers.Concatenate(dtype="float32")([model.output, features_of(model, recipe)])
    run, classes = compiled(keras.Model(model.input, both)), model.output_shape[-1]
    return lambda pixels: tuple(np.split(run(pixels), [classes], axis=1))


def load_export(kind: str, path: Path) -> Callable:
    """An export in its own runtime, as a function; see `runtimes.load`."""
    module = runtimes.MODULES[kind]
    if importlib.util.find_spec(module) is None:
        raise VggnbError(f"{module} is not installed.", path, INSTALL)
    try:
        return runtimes.load(kind, path, threads=threads() or cores())
    except Exception as error:  # each runtime raises its own kinds; all mean the same to the reader
        first = (str(error).strip() or repr(error)).splitlines()[0][:300]
        raise VggnbError(f"{module} cannot open the file: {first}", path, "Save the run again.") from error


def check_images(size: int) -> np.ndarray:
    """The same smooth random images everywhere, float32 (8, size, size, 3), 0 to 255: for comparing models."""
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    return np.stack([resize_image(image, size, "bilinear") for image in small]).astype(np.float32)
