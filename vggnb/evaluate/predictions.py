"""What a model said about labelled images: asked once for each trained model, then read from the run's folder."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm.auto import tqdm

from vggnb.census import Manifest, Row
from vggnb.features import BATCH
from vggnb.folders import shown
from vggnb.generators import readable_batches
from vggnb.metrics.temperature import at_temperature
from vggnb.model import compiled
from vggnb.storage import VggnbError, csv_text, sha256_bytes, storage_errors, write_bytes
from vggnb.train import Run
from vggnb.train.head import HASH


@dataclass(frozen=True)
class Predictions:
    """What a model said about labelled images: probabilities float64 (n, classes), labels int64 (n,), same order.

    Attributes:
        groups: what each image belongs to (a lesion, a patient, its twins), "" for nothing; empty: no image has one.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    unreadable: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()

    def without(self, paths: set[str]) -> "Predictions":
        """The same but for these paths."""
        keep = [index for index, path in enumerate(self.paths) if path not in paths]
        kept, groups = (tuple(names[index] for index in keep) if names else () for names in (self.paths, self.groups))
        return Predictions(kept, self.labels[keep], self.probabilities[keep], self.unreadable, groups)

    def uncalibrated(self, temperature: float) -> "Predictions":
        """What the model would have said without its calibration (`run.calibration().temperature`)."""
        return replace(self, probabilities=at_temperature(self.probabilities, 1 / temperature))


def predict_split(run: Run, split: str = "test", *, progress: bool = True) -> Predictions:
    """What the assembled model says about a split: asked once for each trained model, then read from the run's folder.

    Raises:
        VggnbError: the split has no images that can be read, or the run is not trained.
    """
    name, rows = f"predictions-{split}-{run.model_sha256()[:12]}", run.manifest.of(split)
    with storage_errors(run.folder):
        kept = sorted(run.folder.glob(f"{name}-{HASH}.csv"))
    for path in kept:
        with storage_errors(path):
            data = path.read_bytes()
        if path.stem.endswith(sha256_bytes(data)[:12]) and _is_whole(found := _from_csv(data), rows, len(run.classes)):
            return _grouped(found, rows)
    data = _to_csv(predict_rows(run, run.manifest, rows, what=split, progress=progress), run.classes)
    write_bytes(new := run.folder / f"{name}-{sha256_bytes(data)[:12]}.csv", data)
    for path in set(kept) - {new}:  # damaged, or from before a renaming
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return _grouped(_from_csv(data), rows)


def predict_rows(run: Run, manifest: Manifest, rows: Sequence[Row], *, what: str, progress: bool = True) -> Predictions:
    """What the assembled model says about rows of a manifest; files that cannot be read are named and left out."""
    unreadable: list[tuple[str, str]] = []
    kept, probabilities = [], []
    model = compiled(run.classifier())
    bar = tqdm(total=len(rows), desc=f"Predicting {what}", unit="image", disable=not progress)
    for batch, pixels in readable_batches(manifest, rows, run.recipe, batch=BATCH, unreadable=unreadable):
        kept += batch
        probabilities.append(model(pixels))
        bar.update(len(batch))
    bar.close()
    if not kept:
        remedy = f"Put images in a folder '{what}', or judge another folder with --dataset."
        if unreadable:
            path, reason = unreadable[0]
            what = f"{what}: none of {len(rows)} can be read (the first, {shown(path)}: {reason})"
        raise VggnbError(f"There are no images to judge in {what}.", manifest.dataset, remedy)
    labels = np.array([row.label for row in kept])
    paths = tuple(row.path for row in kept)
    said = np.concatenate(probabilities).astype(np.float64)
    return _grouped(Predictions(paths, labels, said, tuple(unreadable)), rows)


def _is_whole(predictions: Predictions, rows: Sequence[Row], classes: int) -> bool:
    """Whether these are answers for exactly these rows; those from before a renaming of pictures have others."""
    labels = {row.path: row.label for row in rows}
    paths, said = predictions.paths, predictions.probabilities
    told = [*paths, *(path for path, _ in predictions.unreadable)]
    if sorted(told) != sorted(labels) or [labels[path] for path in paths] != predictions.labels.tolist():
        return False
    return said.shape == (len(paths), classes) and bool(np.isfinite(said).all())


def _grouped(predictions: Predictions, rows: Sequence[Row]) -> Predictions:
    """With the groups of the manifest, where at least two of the images are in one."""
    by_path = {row.path: row.group for row in rows}
    groups = tuple(by_path.get(path, "") for path in predictions.paths)
    named = [group for group in groups if group]
    return replace(predictions, groups=groups if len(set(named)) < len(named) else ())


def _to_csv(predictions: Predictions, classes: tuple[str, ...]) -> bytes:
    """Path, label and one probability a class; unreadable files have a reason instead of a label."""
    images = zip(predictions.paths, predictions.labels, predictions.probabilities, strict=True)
    rows = ([path, int(label), *(repr(float(p)) for p in row)] for path, label, row in images)
    text = csv_text([["path", "label", *classes], *rows, *predictions.unreadable])
    return text.encode("utf-8", "surrogateescape")


def _from_csv(data: bytes) -> Predictions:
    """What `_to_csv` wrote."""
    _, *lines = csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))
    rows = [line for line in lines if len(line) > 2]
    labels = np.array([int(row[1]) for row in rows])
    probabilities = np.array([[float(p) for p in row[2:]] for row in rows])
    unreadable = tuple((line[0], line[1]) for line in lines if len(line) == 2)
    return Predictions(tuple(row[0] for row in rows), labels, probabilities, unreadable)
