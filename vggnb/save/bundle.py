"""A bundle: the article's three files and the facts that must travel with them, proven to come back the same.

Class names, the recipe and a checksum of every file lie beside the weights. A bundle replaces another one as a whole
or not at all. Loading builds the network in our own code and reads numbers into it; no file is run.
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from vggnb import paths
from vggnb.card import NOT_A_DEVICE, build_card
from vggnb.generators import tf
from vggnb.images import DECODER_VERSION
from vggnb.metrics.ood import FeatureRanges
from vggnb.model import compiled, features_of
from vggnb.paths import versions
from vggnb.recipe import Recipe
from vggnb.save import exports
from vggnb.save.filling import read_numbers, rebuild
from vggnb.save.proof import SavedFile, verify
from vggnb.save.runtimes import RANGES, Forward, check_images, read_ranges
from vggnb.save.spec import ENDINGS, EXPORTS, FORMATS, MANIFEST, is_manifest, read_spec, write_manifest
from vggnb.staging import check_apart
from vggnb.storage import (
    VggnbError,
    recover_folder,
    replacing_folder,
    resolved,
    sha256_file,
    write_bytes,
    write_json,
)
from vggnb.train import Run

TOLERANCE = 1e-5  # between the probabilities of the saved and of the loaded model
LITTER = (".ds_store", "thumbs.db", "desktop.ini")  # what systems leave in any folder, and nobody misses
DECODING = (
    "Decode with Pillow, first frame, turn upright as EXIF orientation says, 16-bit channels >> 8, lay transparent "
    "parts on white, convert to RGB; resize to image_size x image_size without keeping the shape, with Pillow's filter "
    "named in recipe.resize; feed as float32, 0 to 255, channels last, RGB. For bilinear, a JPEG is first "
    "drafted: image.draft(None, (2 * image_size, 2 * image_size))."
)


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle."""

    folder: Path
    name: str
    classes: tuple[str, ...]
    recipe: Recipe
    model: keras.Model
    ranges: FeatureRanges | None = None

    @functools.cached_property
    def run(self) -> Forward:
        """Pixels (b, size, size, 3), 0 to 255 -> probabilities (b, classes) and what enters the head (b, d)."""
        both = keras.layers.Concatenate()([self.model.output, features_of(self.model, self.recipe)])
        run = compiled(keras.Model(self.model.input, both))
        return lambda pixels: np.split(run(pixels), [len(self.classes)], axis=1)

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
        formats: of "json" (architecture), "h5" (whole model), "weights", "keras"; the weights are always written. For
            other programs "savedmodel", "onnx", "litert" (extra: export).
        model: the assembled classifier, if it is at hand.

    Raises:
        VggnbError: unknown format, one whose extra is not installed, unwritable folder, or a file that does not come
            back the same.
    """
    formats = _known_formats(formats)
    check_apart(folder, run.manifest.dataset, "The bundle", "--to")
    folder, name = Path(folder), _safe_name(name or run.manifest.dataset.name)
    _check_only_a_bundle(folder)
    if os.path.ismount(folder):
        what = "This is where a disk is mounted, which cannot be replaced."
        raise VggnbError(what, folder, f"Name a folder in it: {folder / 'bundle'}.")
    if folder.exists() and resolved(Path()).is_relative_to(resolved(folder)):
        remedy = "Go to another folder (cd ..) and name this one with --to, or name a new folder."
        raise VggnbError("The bundle would replace the folder in which you are.", folder, remedy)
    model = run.classifier() if model is None else model
    with replacing_folder(folder) as temporary:
        names = {kind: f"VGG_{name}{ENDINGS[kind]}" for kind in formats}
        _check_space(model, len(names), temporary, folder)
        with _local_first(temporary) as place:
            _write_model(model, place, names, run.recipe)
            write_json(place / "labels.json", list(run.classes))
            write_json(place / "recipe.json", {"recipe": run.recipe.to_dict(), "decoding": DECODING})
            write_json(place / "card.json", build_card(run, name))
            if ranges := run.ranges():
                write_json(place / RANGES, ranges.to_dict())
            expected = model.predict(check_images(run.recipe.image_size), verbose=0)
            document = {
                "name": name,
                "classes": list(run.classes),
                "decoder": DECODER_VERSION,
                "versions": versions(),
                "files": _listed(place),
                "models": names,
                "check": np.asarray(expected, np.float64).round(9).tolist(),
            }
            write_manifest(place, document)
        files = _proven(temporary, folder)
        _check_only_a_bundle(folder)  # the user may have put something there meanwhile
        return files


@contextlib.contextmanager
def _local_first(target: Path) -> Iterator[Path]:
    """Yield where to write: `target`, or, for Google Drive, a local folder whose files are then copied and read back.

    Keras writes its files here and there, which Drive is not made for.
    """
    if not target.is_relative_to(resolved(paths.CONTENT / "drive")):
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="vggnb-") as scratch:
        yield Path(scratch)
        for path in sorted(Path(scratch).rglob("*")):
            if path.is_file():
                write_bytes(target / path.relative_to(scratch), path.read_bytes())


def _listed(folder: Path) -> dict[str, dict]:
    """What the manifest says of every file, those inside a SavedModel too."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    about = {path: {"sha256": sha256_file(path), "bytes": path.stat().st_size} for path in paths}
    return {path.relative_to(folder).as_posix(): facts for path, facts in about.items()}


def _proven(temporary: Path, folder: Path) -> list[SavedFile]:
    """The files, all of which come back the same; what is wrong is told of `folder`, where they were to go."""
    remedy = "Nothing was changed; please report it."
    try:
        files = verify(temporary, run_exports=True)
    except VggnbError as error:
        raise VggnbError(error.what, folder, remedy) from error
    for file in files:
        most = exports.TOLERANCE if file.format in EXPORTS else TOLERANCE
        if file.max_difference is not None and not file.max_difference <= most:  # nan is wrong, too
            raise VggnbError(f"{file.path} does not come back the same.", folder, remedy)
    return files


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
    model = rebuild(spec.recipe, len(spec.classes))
    read_numbers(model, spec, check_images(spec.recipe.image_size))
    return Bundle(spec.folder, spec.name, spec.classes, spec.recipe, model, read_ranges(spec))


def open_or_save(run: Run, folder: Path, *, name: str) -> Bundle:
    """The bundle in this folder; when there is none yet, or one of an earlier training, it is saved first, and said."""
    folder = Path(folder)
    recover_folder(folder)
    why = ""
    if not (folder / MANIFEST).is_file():
        why = f"No bundle '{folder.name}' yet: saving it now."
    elif _model_of(folder) not in (None, run.model_sha256()):
        why = f"The bundle '{folder.name}' is of an earlier training: saving it anew."
    if why:
        print(why)
        save_bundle(run, folder, name=name)
    return load_bundle(folder)


def _model_of(folder: Path) -> str | None:
    """Whose numbers are in a bundle (`Run.model_sha256`), as its card says; None where that cannot be known."""
    try:
        return json.loads((folder / "card.json").read_bytes())["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _known_formats(formats: Iterable[str]) -> list[str]:
    formats = list(dict.fromkeys([*formats, "weights"]))
    if unknown := [kind for kind in formats if kind not in ENDINGS]:
        remedy = f"Use article, all, or some of {', '.join(ENDINGS)}."
        raise VggnbError(f"There is no format '{unknown[0]}'.", "--formats", remedy)
    exports.check_writable([kind for kind in formats if kind in EXPORTS])
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


def _check_space(model: keras.Model, files: int, temporary: Path, folder: Path) -> None:
    """Refuse a disk that will be full before all is written: HDF5 does not survive that."""
    needed, free = 1.1 * files * 4 * model.count_params(), shutil.disk_usage(temporary).free
    if needed > free:
        what = f"The files need about {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free."
        raise VggnbError(what, folder, "Free some space, choose another folder, or ask for fewer --formats.")


def _write_model(model: keras.Model, folder: Path, names: dict[str, str], recipe: Recipe) -> None:
    """The model files, the article's under today's names."""
    writers: dict[str, Callable[[Path], object]] = {
        "json": lambda path: path.write_text(model.to_json(indent=1), encoding="utf-8"),
        "h5": lambda path: _save_h5(model, path),
        "weights": model.save_weights,  # Keras 3 insists on the ending .weights.h5
        "keras": model.save,
    }
    for kind in EXPORTS:
        writers[kind] = functools.partial(exports.write_export, model, kind, recipe=recipe)
    for kind, file in names.items():
        try:
            writers[kind](folder / file)
        except (RuntimeError, tf.errors.OpError) as error:  # what HDF5 and TensorFlow make of a full disk
            remedy = "Free some space or choose another folder; what was there before is untouched."
            raise VggnbError(f"{file} could not be written ({str(error)[:200]}).", folder.parent, remedy) from error


def _check_only_a_bundle(folder: Path) -> None:
    """Refuse to replace a folder in which there is anything that no bundle put there."""
    if others := _not_of_a_bundle(folder):
        what = f"This folder holds something else than a bundle: {others[0]}."
        raise VggnbError(what, folder, "Name a new folder with --to.")


def _not_of_a_bundle(folder: Path) -> list[str]:
    """Names in a folder that are not a bundle's."""
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir())
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    ours = {MANIFEST, *document["files"]} if is_manifest(document) else set()
    folders = {file.partition("/")[0] for file in ours if "/" in file}
    for name in folders.intersection(names):
        names += [path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if not path.is_dir()]
    return [name for name in names if name not in ours | folders and not _is_litter(name.rpartition("/")[2])]


def _is_litter(name: str) -> bool:
    return name.startswith("._") or name.lower() in LITTER
