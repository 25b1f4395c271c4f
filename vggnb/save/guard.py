"""What may be in a model file. Looked at with plain readers before Keras or a runtime opens it; nothing is run.

A Keras file is a program: it may name any function of Keras to call while it loads. So only the layers and functions
that this library itself builds are let through.
"""

import contextlib
import json
import zipfile
from pathlib import Path

from vggnb.recipe import BLOCKS, Recipe
from vggnb.storage import VggnbError

MOST_BYTES = 1_000_000_000
MOST_CONFIG = 5_000_000
MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
CLASSES = (  # no sets: a hostile name may be anything, a dict too
    "Functional", "InputLayer", "Conv2D", "MaxPooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Concatenate",
    "Normalization", "Dense", "Dropout", "Rescaling", "vggnb>CaffePreprocessing", "CaffePreprocessing", "DTypePolicy",
    "GlorotUniform", "Zeros", "Ones", "L2", "__keras_tensor__", "__numpy__", "__tuple__",
)  # fmt: skip
ACTIVATIONS = ("relu", "softmax", "linear")
CONVOLUTIONS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}  # a block
AGAIN = "Copy it from where it was saved, or save the run again; do not open it with other programs."


def check_model_file(path: Path, kind: str, recipe: Recipe, classes: int) -> None:
    """Refuse a model file that holds anything else than what `save_bundle` writes.

    Raises:
        VggnbError: too large, cut, not of its format, of another network, or with a layer, function or link that is
            not allowed.
    """
    if path.is_symlink() or path.stat().st_size > MOST_BYTES:
        raise VggnbError("The file is a link or far too large.", path, AGAIN)
    checks = {"json": _check_json, "keras": _check_keras, "weights": _check_weights, "h5": _check_h5}
    try:
        if kind in checks:
            checks[kind](path, recipe, classes)
    except VggnbError:
        raise
    except Exception as error:  # zipfile, h5py and json raise many kinds; all mean the same to the reader
        raise VggnbError(f"The file is damaged, its checksum differs ({error}).", path, AGAIN) from None


def _refuse(what: str, path: Path) -> VggnbError:
    return VggnbError(f"The file is refused: {what}.", path, AGAIN)


def check_config(config: object, path: Path) -> None:
    """Walk an architecture: every class, function and registered name must be on the list."""
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        if not isinstance(node, dict):
            continue
        waiting += node.values()
        name = node.get("class_name")
        if "class_name" in node and (not isinstance(name, str) or name not in CLASSES):
            raise _refuse(f"it names {name!r}, which is no layer of this network", path)
        module, registered = node.get("module"), node.get("registered_name")
        if module is not None and str(module).partition(".")[0] not in ("keras", "builtins", "vggnb"):
            raise _refuse(f"it names the module {module!r}", path)
        if registered is not None and registered not in CLASSES:
            raise _refuse(f"it names {registered!r}", path)
        if "activation" in node and node["activation"] not in ACTIVATIONS:
            raise _refuse(f"it names the function {node['activation']!r}", path)


def _check_json(path: Path, recipe: Recipe, classes: int) -> None:
    if path.stat().st_size > MOST_CONFIG:
        raise _refuse("the architecture is far too large", path)
    check_config(json.loads(path.read_bytes()), path)


def _check_keras(path: Path, recipe: Recipe, classes: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != len(MEMBERS) or {member.filename for member in members} != MEMBERS:
            raise _refuse("it holds other members than a Keras file", path)
        for member in members:
            most = MOST_BYTES if member.filename.endswith(".h5") else MOST_CONFIG
            if member.file_size > most or member.flag_bits & 1 or member.file_size > 100 * member.compress_size + 1000:
                raise _refuse(f"{member.filename} is encrypted or unpacks to far too much", path)
        check_config(json.loads(archive.read("config.json")), path)
        with archive.open("model.weights.h5") as file:
            _check_hdf5(file, path, recipe, classes)


def _check_weights(path: Path, recipe: Recipe, classes: int) -> None:
    _check_hdf5(path, path, recipe, classes)


def _check_h5(path: Path, recipe: Recipe, classes: int) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        text = config.decode() if isinstance(config, bytes) else config
        if not isinstance(text, str) or len(text) > MOST_CONFIG:
            raise _refuse("it holds no architecture, or a far too large one", path)
        check_config(json.loads(text), path)
    _check_hdf5(path, path, recipe, classes)


def _check_hdf5(source, path: Path, recipe: Recipe, classes: int) -> None:
    """Only plain arrays, without links to elsewhere, of exactly the shapes of this network."""
    import h5py

    found = []
    with contextlib.closing(h5py.File(source, "r")) as file:
        groups, seen = [file], 0
        while groups:
            group = groups.pop()
            for name in group:
                seen += 1
                if seen > 5000:
                    raise _refuse("it holds far too many parts", path)
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise _refuse(f"{name!r} is a link to elsewhere", path)
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                    continue
                if item.is_virtual or item.external or item.dtype.kind not in "fiu":
                    raise _refuse(f"{name!r} is no plain array of numbers", path)
                if item.id.get_create_plist().get_nfilters():
                    raise _refuse(f"{name!r} is packed", path)
                found.append(tuple(item.shape))
    if sorted(filter(len, found)) != sorted(shapes(recipe, classes)):
        heads = {shape[0] for shape in found if len(shape) == 1}
        words = "" if classes in heads else f" (there are {classes} class names)"
        what = f"The weights do not fit the recipe: they are of another network or number of classes{words}."
        raise VggnbError(what, path, "Save the run again.")


def shapes(recipe: Recipe, classes: int) -> list[tuple[int, ...]]:
    """Of every array of the network, VGG-16's and the head's, without single numbers."""
    found, channels = [], 3
    for block, wide in BLOCKS.items():
        for _ in range(CONVOLUTIONS[block]):
            found += [(3, 3, channels, wide), (wide,)]
            channels = wide
    width = sum(BLOCKS[block] for block, _ in recipe.pools)
    if recipe.standardise:
        found += [(width,), (width,)]
    for units in [recipe.hidden] * bool(recipe.hidden) + [classes]:
        found += [(width, units), (units,)]
        width = units
    return found
