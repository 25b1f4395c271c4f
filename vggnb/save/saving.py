"""Save a run as a bundle: every file is written and verified elsewhere first, then put in its place.

`bundle.json` is put there last: without it, a saving was interrupted. Other files in the folder are never touched.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vggnb.device import decide_precision, keras, tf
from vggnb.evaluate import chosen_threshold
from vggnb.folders import html_table, is_system, shown
from vggnb.images import DECODER_VERSION
from vggnb.machine import versions
from vggnb.model import empty_base, empty_classifier, in_float32, precision_of
from vggnb.save.bundle import (
    CARD,
    FORMAT,
    KEYS,
    LABELS,
    MANIFEST,
    NUMBERS,
    RANGES,
    Bundle,
    check_images,
    forward_of,
    load_bundle,
    read_checked,
    read_manifest,
    weighted,
)
from vggnb.save.card import build_card
from vggnb.save.exports import FORMATS, available, choose_formats, verify_exports, write_exports
from vggnb.staging import check_apart
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, read_json, replacing, sha256_file, storage_errors, write_json
from vggnb.train import Run

DECODING = (
    "Decode with Pillow, first frame, turn upright as EXIF orientation says, 16-bit channels >> 8, lay transparent "
    "parts on white, convert to RGB; resize to image_size x image_size without keeping the aspect ratio, with Pillow's "
    "filter named in recipe.resize; feed as float32, 0 to 255, channels last, RGB. For bilinear, a JPEG is first "
    "drafted: image.draft(None, (2 * image_size, 2 * image_size))."
)
TITLE = "Saved, and verified in a fresh process"
EXPORT = re.compile(r"VGG_[\w-]+\.[\w.]+")  # what a saving writes under other names than the next one


@dataclass(frozen=True)
class SavedFile:
    """One file of a bundle."""

    path: str
    format: str  # of `exports.ENDINGS`; "safetensors" for what `load_bundle` reads, "facts" for texts
    sha256: str
    bytes: int
    max_difference: float | None  # the largest, of its probabilities from the model's; None: it is no model


class SavedFiles(list):
    """The files of a bundle; shown with a line for each format."""

    def _rows(self) -> list[tuple[str, str, str]]:
        table = []
        for kind in dict.fromkeys(file.format for file in self if file.max_difference is not None):
            group = [file for file in self if file.format == kind]  # a SavedModel is several files
            size = f"{sum(file.bytes for file in group) / 1e6:.2f} MB"
            table.append((group[0].path.partition("/")[0], size, f"{group[0].max_difference:.1e}"))
        return table

    def __repr__(self) -> str:
        lines = [f"  {name:32} {size:>10}  largest difference {difference}" for name, size, difference in self._rows()]
        return "\n".join([f"{TITLE}:", *lines])

    def _repr_html_(self) -> str:
        return html_table(("file", "size", "largest difference in probability"), self._rows(), title=TITLE)


def save_bundle(
    run: Run,
    folder: Path,
    *,
    name: str | None = None,
    formats: str | Iterable[str] = tuple(FORMATS),
    model: keras.Model | None = None,
) -> SavedFiles:
    """Save a run's classifier, and open each file again with its own plain loader in a fresh process.

    Args:
        folder: new, empty, or a bundle, which is replaced.
        name: the article's `VGG_<name>`; default the dataset's.
        formats: see `exports.choose_formats`.
        model: `run.classifier()`, if it is at hand. All files are in float32, whatever its precision.

    Raises:
        VggnbError: a format that is unknown or not installed, a folder that cannot be written or holds something else,
            or a file that does not open again or gives other probabilities.
    """
    kinds = choose_formats(formats)
    check_place(folder, run, "The bundle")
    name = re.sub(r"[^A-Za-z0-9-]+", "_", name or run.manifest.dataset.name).strip("_")[:40] or "model"
    folder = Path(folder)
    old = _exports_in(folder)
    model = in_float32(run.classifier() if model is None else model)  # so are all files, whatever it was trained in
    with storage_errors(folder), tempfile.TemporaryDirectory(prefix="vggnb-") as scratch:
        place = Path(scratch)
        document = _facts(run, name, model, place)
        try:
            paths = write_exports(model, run.recipe, place, name, kinds)
        except (RuntimeError, tf.errors.OpError) as error:  # what HDF5 and TensorFlow make of a full disk
            what = f"The model could not be written: {(str(error).splitlines() or [''])[0][:200]}"
            raise VggnbError(what, place, "Free some space; what was there before is untouched.") from error
        about, formats = {}, {path.name: kind for kind, path in paths.items()} | {NUMBERS: "safetensors"}
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            file = path.relative_to(place)
            kind = formats.get(file.parts[0], "facts")
            about[file.as_posix()] = {"format": kind, "sha256": sha256_file(path), "bytes": path.stat().st_size}
        write_json(place / MANIFEST, document | {"files": about})
        differences = _verified(place, model, paths, run.recipe.image_size)
        with contextlib.ExitStack() as stack:  # copies all, then renames in reverse: weights first, bundle.json last
            for file in (MANIFEST, *(file for file in about if file != NUMBERS), NUMBERS):
                shutil.copyfile(place / file, stack.enter_context(replacing(folder / file)))
        killed = folder.rglob(f"{TEMPORARY_PREFIX}*")  # what a saving that was killed left
        for path in [*killed, *(folder / file for file in old - about.keys())]:
            path.unlink(missing_ok=True)
        for parent in sorted({parent for file in old for parent in PurePath(file).parents}, reverse=True):
            with contextlib.suppress(OSError):  # it is not empty
                (folder / parent).rmdir()
    return _saved(about, differences)


def check_place(path: Path, run: Run, what: str) -> None:
    """Refuse to write among a run's images; the run's own folder may lie among them if a table names the images."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(run.folder)):
        check_apart(path, run.manifest.dataset, what, "--to")


def _saved(files: dict[str, dict], differences: dict[str, float]) -> SavedFiles:
    return SavedFiles(
        SavedFile(file, **about, max_difference=differences.get(about["format"])) for file, about in files.items()
    )


def _facts(run: Run, name: str, model: keras.Model, place: Path) -> dict:
    """Write the numbers and the texts; give what `bundle.json` states."""
    tensors = {f"{layer.name}/{weight.name}": np.array(weight) for layer in weighted(model) for weight in layer.weights}
    ranges = run.ranges()
    if ranges is not None:
        tensors |= {f"{RANGES}/low": ranges.low, f"{RANGES}/high": ranges.high}
    save_file(tensors, place / NUMBERS, {"made_by": "vggnb"})
    write_json(place / LABELS, list(run.classes))
    write_json(place / CARD, build_card(run, name))
    return {
        "format": FORMAT,
        "name": name,
        "classes": list(run.classes),
        "recipe": run.recipe.to_dict(),
        "decoder": DECODER_VERSION,
        "decoding": DECODING,
        "temperature": run.calibration().temperature,
        "threshold": chosen_threshold(run),
        "precision": run.source.precision,
        RANGES: ranges and {name: getattr(ranges, name) for name in ("limit", "images", "reason")},
        "model_sha256": run.model_sha256(),
        "versions": versions(),
    }


def _verified(place: Path, model: keras.Model, paths: dict[str, Path], size: int) -> dict[str, float]:
    """Format -> the largest difference in probability; all of them are small."""
    images, ours = check_images(size), load_bundle(place, precision="float32").model
    probabilities, again = (np.array(one(images, training=False)) for one in (model, ours))
    difference = float(np.abs(again - probabilities).max())
    return {"safetensors": difference} | verify_exports(paths, model, images, probabilities)


def _exports_in(folder: Path) -> set[str]:
    """The exported files of the bundle in this folder; none in a new or empty one, or of an interrupted saving."""
    with storage_errors(folder):
        names = [path.name for path in folder.iterdir() if not is_system(path.name)] if folder.exists() else []
    with contextlib.suppress(VggnbError):
        document = read_json(folder / MANIFEST)
        if isinstance(document, dict) and document.keys() >= KEYS and isinstance(document["files"], dict):
            return {file for file in document["files"] if EXPORT.match(file) and ".." not in file}
    with contextlib.suppress(OSError, SafetensorError), safe_open(folder / NUMBERS, "np") as numbers:
        if (numbers.metadata() or {}).get("made_by") == "vggnb":
            return set()
    if names:
        what = f"This folder holds something other than a bundle: {shown(min(names))}."
        raise VggnbError(what, folder, f"Name a new folder, such as --to {folder / 'bundle'}.")
    return set()


def open_or_save(run: Run, folder: Path | None = None, *, name: str | None = None) -> Bundle:
    """The bundle in this folder, `bundle` in the run's; if there is none of the present model, it is saved first."""
    folder = run.folder / "bundle" if folder is None else Path(folder)
    if not update_threshold(run, folder):
        if (folder / MANIFEST).is_file():
            print(f"The bundle '{folder.name}' is from an earlier training: saving it again.")
        else:
            print(f"No bundle '{folder.name}' yet: saving it now.")
        save_bundle(run, folder, name=name)
    return load_bundle(folder)


def update_threshold(run: Run, folder: Path) -> bool:
    """Write the threshold that was last chosen for the run into its bundle; False where no bundle is of this model."""
    try:
        document = read_manifest(folder)
    except VggnbError:  # there is none
        return False
    if document["model_sha256"] != run.model_sha256():
        return False
    if document["threshold"] != (threshold := chosen_threshold(run)):
        write_json(Path(folder) / MANIFEST, document | {"threshold": threshold})
    return True


def bundle_of(run: Run, *, precision: str | None = None) -> Bundle:
    """A run, ready to predict without having been saved; for the precision see `load_bundle`."""
    model, recipe = run.classifier(), run.recipe
    precision, _ = decide_precision(precision or run.source.precision)
    if precision_of(model) != precision:
        other = empty_classifier(empty_base(recipe.image_size, precision=precision), recipe, len(run.classes))
        other.set_weights(model.get_weights())
        model = other
    ranges, threshold = run.ranges(), chosen_threshold(run)
    return Bundle(run.folder, run.folder.name, run.classes, recipe, forward_of(model, recipe), ranges, model, threshold)


def verify(folder: Path) -> SavedFiles:
    """Compare every file of a bundle with its hash, and open each export as `save_bundle` does.

    An export whose runtime is not installed is not opened. An export is a program: only for bundles from people whom
    you trust.
    """
    folder, document, (here, _), paths = Path(folder), read_manifest(folder), available(), {}
    for file, about in document["files"].items():
        read_checked(folder, document, file)
        if about["format"] in here:
            paths[about["format"]] = folder / file.partition("/")[0]
    bundle = load_bundle(folder, precision="float32")
    differences = _verified(folder, bundle.model, paths, bundle.recipe.image_size)
    return _saved(document["files"], differences)
