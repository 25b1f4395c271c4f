"""The files of a run's folder: `run.json`, with the hash of every other file, is written last.

A folder without `run.json` is of an interrupted training, which is simply repeated: it takes seconds on stored
features and ends with the same numbers. A file whose hash differs is damaged or of another run.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from scipy.special import softmax

from vggnb.census import Row
from vggnb.device import keras
from vggnb.metrics.calibration import FeatureRanges, calibrate
from vggnb.metrics.predictions import Predictions
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError, read_json, sha256_bytes, sha256_file, storage_errors, write_bytes, write_json

RUN_FILE = "run.json"
HEAD, FINE_TUNED = "head.safetensors", "fine_tuned.safetensors"
VALIDATION = "validation.csv"
RUN_SCHEMA = 3
ANEW = "Train again into this folder or a new one: vggnb train DATASET --out RUN."
# What evaluate and report write about a model; when the model changes, these files go.
REPORTS = ("report.html", "report-card.json", "report-card.md", *(f"report-{split}.json" for split in SPLITS))


def read_run(folder: Path) -> dict:
    """What is in `run.json`."""
    path = folder / RUN_FILE
    with storage_errors(folder):
        if not path.is_file():
            if (folder / "recipe.json").is_file():
                remedy = "Run the training step again (notebook 05, or the same vggnb train)."
                raise VggnbError("This run is not trained: its training was not completed.", folder, remedy)
            raise VggnbError("There is no run in this folder.", folder, "Train first: vggnb train DATASET --out RUN.")
    document = read_json(path, ANEW)
    keys = {"weights", "source", "files", "training"}
    if not isinstance(document, dict) or document.get("schema") != RUN_SCHEMA or not keys <= document.keys():
        remedy = "Train again into a new folder: vggnb train DATASET --out RUN."
        raise VggnbError("This is not the run.json of this version of vggnb.", path, remedy)
    return document


def set_head(head: keras.Model, arrays: dict[str, np.ndarray]) -> keras.Model:
    """Put weights named "head/000", "head/001"... into a head; gives the head."""
    head.set_weights([arrays[f"head/{number:03d}"] for number in range(len(head.weights))])
    for layer in head.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return head


def head_arrays(head: keras.Model) -> dict[str, np.ndarray]:
    """A head's weights by name."""
    return {f"head/{number:03d}": weight for number, weight in enumerate(head.get_weights())}


def model_files(
    name: str,
    weights: dict[str, np.ndarray],
    ranges: FeatureRanges,
    rows: Sequence[Row],
    logits: np.ndarray,
    classes: Sequence[str],
) -> tuple[dict, dict[str, bytes]]:
    """What training a head and training convolutions have in common: calibration, and (facts, files) of the result.

    Args:
        name: HEAD or FINE_TUNED.
        rows: the images of `logits`, float64 (n, classes), by a model that was not fitted on them.
    """
    labels = np.array([row.label for row in rows], int)
    calibration = calibrate(logits, labels)
    probabilities = softmax(logits / calibration.temperature, axis=1)
    arrays = {**weights, "ranges/low": ranges.low, "ranges/high": ranges.high}
    files = {
        name: save({name: np.asarray(array) for name, array in arrays.items()}),
        VALIDATION: Predictions(tuple(row.path for row in rows), labels, probabilities).to_csv(classes),
    }
    about = {"limit": ranges.limit, "images": ranges.images, "reason": ranges.reason}
    return {"calibration": vars(calibration), "feature_ranges": about}, files


def checked_bytes(path: Path, sha256: str | None) -> bytes:
    """The bytes of a file whose hash is known."""
    if not path.is_file():
        raise VggnbError("A file of this run is missing.", path, ANEW)
    with storage_errors(path):
        data = path.read_bytes()
    if sha256_bytes(data) != sha256:
        raise VggnbError("This file is damaged or belongs to another run: its hash differs.", path, ANEW)
    return data


def record(run, facts: dict, files: dict[str, bytes], *, extend: bool = False) -> None:
    """Write files of a run, each whole or not at all, then `run.json` with their hashes and the facts of the training.

    Args:
        facts: plain values for JSON.
        files: name -> content.
        extend: keep what the run has besides, such as the head when it is fine-tuned; else the rest is removed.
    """
    path = run.folder / RUN_FILE
    before = read_run(run.folder) if path.is_file() else {"files": {}}
    with storage_errors(run.folder):
        for name, data in files.items():
            write_bytes(run.folder / name, data)
        hashes = (before["files"] if extend else {}) | {name: sha256_bytes(data) for name, data in files.items()}
        hashes |= {name: sha256_file(run.folder / name) for name in ("manifest.csv", "recipe.json")}
        document = {"schema": RUN_SCHEMA, "weights": run.weights, "source": asdict(run.source), "files": hashes}
        document["training"] = facts
        document["model_sha256"] = model_sha256(document)
        write_json(path, document)
        stale = [run.folder / name for name in before["files"].keys() - hashes.keys()]
        if HEAD in before["files"] and before["model_sha256"] != document["model_sha256"]:
            stale += [run.folder / name for name in REPORTS]
            stale += [path for split in SPLITS for path in run.folder.glob(f"predictions-{split}-*.csv")]
        for path in stale:
            path.unlink(missing_ok=True)


def model_sha256(document: dict) -> str:
    """The hash of the weights and the temperature that a `run.json` names."""
    tuned = document["training"].get("fine_tune")
    sha256 = document["files"][FINE_TUNED if tuned else HEAD]
    temperature = (tuned or document["training"])["calibration"]["temperature"]
    return sha256_bytes(f"{sha256} at {temperature!r}".encode())
