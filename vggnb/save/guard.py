"""What may be in a model file. Looked at with plain readers before Keras or a runtime opens it; nothing is run.

A Keras file is a program: it may name any function of Keras to call while it loads. So only the layers and functions
that this library itself builds are let through, as many of them and as wide as the recipe says.
"""

import contextlib
import json
import math
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO

from vggnb.recipe import BLOCKS, Recipe
from vggnb.storage import VggnbError

MOST_BYTES = 1_000_000_000  # of any file of a bundle
MOST_MORE = 1_000_000  # bytes of a model file that are no numbers: architecture, names, padding
MOST_NAMES = 64  # in one attribute of an HDF5 file
MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
CLASSES = (  # no sets: a hostile name may be anything, a dict too
    "Functional", "InputLayer", "Conv2D", "MaxPooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Concatenate",
    "Normalization", "Dense", "Dropout", "Rescaling", "vggnb>CaffePreprocessing", "CaffePreprocessing", "DTypePolicy",
    "GlorotUniform", "Zeros", "Ones", "L2", "__keras_tensor__", "__tuple__",
)  # fmt: skip
ACTIVATIONS = ("relu", "softmax", "linear")
CHOICES = (  # what a layer may be told; anything else must be null
    "activation", "autocast", "axis", "batch_shape", "bias_initializer", "data_format", "dilation_rate", "dtype",
    "filters", "groups", "invert", "keepdims", "kernel_initializer", "kernel_size", "name", "offset", "optional",
    "padding", "pool_size", "ragged", "rate", "scale", "seed", "sparse", "strides", "trainable", "units", "use_bias",
)  # fmt: skip
COUNTERS = ("seed", "shared_object_id")  # numbers that are no sizes
CONVOLUTIONS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}  # a block
AGAIN = "Copy it from where it was saved, or save the run again; do not open it with other programs."


def check_model_file(path: Path, kind: str, recipe: Recipe, classes: int) -> None:
    """Refuse a model file that holds anything else than what `save_bundle` writes.

    Raises:
        VggnbError: too large, cut, not of its format, of another network, or with a layer, function or link that is
            not allowed.
    """
    checks = {"json": _check_json, "keras": _check_keras, "weights": _check_hdf5, "h5": _check_h5}
    numbers = 0 if kind == "json" else 4 * sum(map(math.prod, shapes(recipe, classes)))
    most = numbers + MOST_MORE if kind in checks else MOST_BYTES
    if path.is_symlink() or path.stat().st_size > most:
        what = "The weights do not fit the recipe: the file is a link or larger than those of this network can be."
        raise VggnbError(what, path, AGAIN)
    try:
        if kind in checks:
            checks[kind](path, recipe, classes)
    except VggnbError:
        raise
    except Exception as error:  # zipfile, h5py and json raise many kinds; all mean the same to the reader
        raise VggnbError(f"The file is damaged, or not what its name says ({error}).", path, AGAIN) from None


def _refuse(what: str, path: Path) -> VggnbError:
    return VggnbError(f"The file is refused: {what}.", path, AGAIN)


def parse_json(data: bytes) -> object:
    """JSON as this library writes it: UTF-8, every name once, every number finite.

    Raises:
        ValueError: it is something else, or nested too deeply.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice in it")
        return found

    def infinite(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        text = data.decode("utf-8", "surrogateescape")
        return json.loads(text, object_pairs_hook=unique, parse_constant=infinite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_config(config: object, path: Path, recipe: Recipe, classes: int) -> None:
    """Walk an architecture: every class, function, registered name and size must be one of this network's."""
    widest = max(recipe.image_size, recipe.width, recipe.hidden, classes, 512)
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        if isinstance(node, int | float) and not 0 <= abs(node) <= widest:
            raise _refuse(f"it names a size of {node}", path)
        if isinstance(node, dict):
            _check_node(node, path)
            waiting += [value for name, value in node.items() if name not in COUNTERS or isinstance(value, dict | list)]
    _check_layers(config, path, recipe, classes)


def _check_node(node: dict, path: Path) -> None:
    """One object of an architecture: nothing is named that could run or change how numbers are kept."""
    name, module, registered = node.get("class_name"), node.get("module"), node.get("registered_name")
    if "class_name" in node and (not isinstance(name, str) or name not in CLASSES):
        raise _refuse(f"it names {name!r}, which is no layer of this network", path)
    if module is not None and str(module).partition(".")[0] not in ("keras", "builtins", "vggnb"):
        raise _refuse(f"it names the module {module!r}", path)
    if registered is not None and registered not in CLASSES:
        raise _refuse(f"it names {registered!r}", path)
    if "activation" in node and node["activation"] not in ACTIVATIONS:
        raise _refuse(f"it names the function {node['activation']!r}", path)
    policy = node.get("config", {}).get("name") if name == "DTypePolicy" else node.get("dtype", "float32")
    if not isinstance(policy, dict) and policy != "float32":
        raise _refuse(f"it names the data type {policy!r}", path)


def _check_layers(config: object, path: Path, recipe: Recipe, classes: int) -> None:
    """The layers are those of the recipe, each told only what is known, each fed by as many others as it should be."""
    try:
        layers = config["config"]["layers"]
        for layer in layers:
            told = [name for name, value in layer["config"].items() if name not in CHOICES and value is not None]
            if told:
                raise _refuse(f"it names {told[0]!r}, which no layer of this network is told", path)
            fed = {"InputLayer": 0, "Concatenate": len(recipe.pools)}.get(layer["class_name"], 1)
            if json.dumps(layer["inbound_nodes"]).count('"__keras_tensor__"') != fed:
                raise _refuse(f"its layer {layer['name']!r} has other inputs", path)
        found = Counter(_size(layer["class_name"], layer["config"]) for layer in layers)
        wanted = Counter(_layers(recipe, classes))
    except (KeyError, TypeError, AttributeError) as error:
        raise _refuse(f"it is no architecture of ours ({error!r})", path) from None
    if found != wanted:
        first = next(iter((found - wanted) or (wanted - found)))
        raise _refuse(f"its layers are not those of the recipe (see {first[0]})", path)


def _size(kind: str, told: dict) -> tuple:
    """What decides how many numbers a layer holds."""
    names = {"Conv2D": ("filters", "kernel_size", "groups"), "Dense": ("units",), "InputLayer": ("batch_shape",)}
    return kind.rpartition(">")[2], *(json.dumps(told[name]) for name in names.get(kind, ()))


def _layers(recipe: Recipe, classes: int) -> list[tuple]:
    """Of the whole classifier, as `_size` has them."""
    side, caffe = recipe.image_size, recipe.preprocessing == "caffe"
    found = [("InputLayer", f"[null, {side}, {side}, 3]"), ("CaffePreprocessing" if caffe else "Rescaling",)]
    for block, wide in BLOCKS.items():
        found += [("Conv2D", str(wide), "[3, 3]", "1")] * CONVOLUTIONS[block] + [("MaxPooling2D",)]
    found += [("GlobalAveragePooling2D" if kind == "average" else "GlobalMaxPooling2D",) for _, kind in recipe.pools]
    found += [("Concatenate",)] * (len(recipe.pools) > 1) + [("Normalization",)] * recipe.standardise
    found += [("Dense", str(recipe.hidden))] * bool(recipe.hidden) + [("Dropout",)] * bool(recipe.dropout)
    return [*found, ("Dense", str(classes))]


def _check_json(path: Path, recipe: Recipe, classes: int) -> None:
    check_config(parse_json(path.read_bytes()), path, recipe, classes)


def _check_keras(path: Path, recipe: Recipe, classes: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != len(MEMBERS) or {member.filename for member in members} != MEMBERS:
            raise _refuse("it holds other members than a Keras file", path)
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise _refuse(f"{member.filename} is packed or encrypted", path)
            if member.file_size > (MOST_BYTES if member.filename.endswith(".h5") else MOST_MORE):
                raise _refuse(f"{member.filename} is far too large", path)
        check_config(parse_json(archive.read("config.json")), path, recipe, classes)
        with archive.open("model.weights.h5") as file:
            _check_hdf5(path, recipe, classes, within=file)


def _check_h5(path: Path, recipe: Recipe, classes: int) -> None:
    _check_hdf5(path, recipe, classes)
    import h5py

    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
    text = config.decode() if isinstance(config, bytes) else config
    if not isinstance(text, str):
        raise _refuse("it holds no architecture", path)
    check_config(parse_json(text.encode("utf-8", "surrogateescape")), path, recipe, classes)


def _check_hdf5(path: Path, recipe: Recipe, classes: int, *, within: IO[bytes] | None = None) -> None:
    """Only plain arrays, without links to elsewhere, of exactly the shapes of this network.

    Args:
        within: the open part of the file that is HDF5; None for all of it.
    """
    import h5py

    found = []
    with contextlib.closing(h5py.File(within or path, "r")) as file:
        groups, seen = [file], 0
        while groups:
            group = groups.pop()
            _check_attributes(group, path)
            for name in group:
                seen += 1
                if seen > 5000:
                    raise _refuse("it holds far too many parts", path)
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise _refuse(f"{name!r} is a link to elsewhere", path)
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                else:
                    _check_array(item, path)
                    found.append(tuple(item.shape))
    if sorted(filter(len, found)) != sorted(shapes(recipe, classes)):
        heads = {shape[0] for shape in found if len(shape) == 1}
        words = "" if classes in heads else f" (there are {classes} class names)"
        what = f"The weights do not fit the recipe: they are of another network or number of classes{words}."
        raise VggnbError(what, path, "Save the run again.")


def _check_array(item, path: Path) -> None:
    """A part of an HDF5 file that is no group: its numbers lie in this file, as they are, all of them."""
    import h5py

    name = item.name
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise _refuse(f"{name!r} is no plain array of numbers", path)
    if item.dtype != "float32" and (item.shape or item.dtype.kind not in "iu"):  # one number is a counter
        raise _refuse(f"{name!r} holds {item.dtype}, not float32", path)
    if item.id.get_create_plist().get_nfilters():
        raise _refuse(f"{name!r} is packed", path)
    if item.id.get_storage_size() != item.nbytes:
        raise _refuse(f"{name!r} says that it is larger than it is", path)
    _check_attributes(item, path)


def _check_attributes(item, path: Path) -> None:
    """Few and short ones: reading a list of texts may take far more memory than the file has bytes."""
    names = list(item.attrs)
    if len(names) > MOST_NAMES or any(math.prod(item.attrs.get_id(name).shape or ()) > MOST_NAMES for name in names):
        raise _refuse(f"{item.name!r} has far too many attributes", path)


def shapes(recipe: Recipe, classes: int) -> list[tuple[int, ...]]:
    """Of every array of the network, VGG-16's and the head's, without single numbers."""
    found, channels = [], 3
    for block, wide in BLOCKS.items():
        for _ in range(CONVOLUTIONS[block]):
            found += [(3, 3, channels, wide), (wide,)]
            channels = wide
    width = recipe.width
    if recipe.standardise:
        found += [(width,), (width,)]
    for units in [recipe.hidden] * bool(recipe.hidden) + [classes]:
        found += [(width, units), (units,)]
        width = units
    return found
