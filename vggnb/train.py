"""A run: the folder of one training. Fit the head on stored features; the base is never touched."""

import csv
import io
import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from vggnb.census.splits import Manifest
from vggnb.choose import Choice, choose_ridge
from vggnb.features import Features, extract
from vggnb.generators import epoch_order
from vggnb.model import build_base, build_classifier, build_head, compile_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, make_folder, read_json, sha256_bytes, sha256_file, write_bytes, write_json
from vggnb.weights import WeightSource

TRAINING_FILE = "training.json"  # written last: it names the head that belongs to it
RUN_SCHEMA = 1


@dataclass(frozen=True)
class History:
    """One row an epoch: epoch, loss, accuracy, and with validation images val_loss, val_accuracy."""

    rows: tuple[dict[str, float], ...]

    def column(self, name: str) -> list[float]:
        """One value an epoch."""
        return [row[name] for row in self.rows]

    def __str__(self) -> str:
        first, last = self.rows[0], self.rows[-1]
        text = f"{len(self.rows)} epochs: loss {first['loss']:.2f} -> {last['loss']:.2f}"
        text += f", training accuracy {first['accuracy']:.2f} -> {last['accuracy']:.2f}"
        if "val_accuracy" in last:
            text += f", validation accuracy {first['val_accuracy']:.2f} -> {last['val_accuracy']:.2f}"
        return text


@dataclass(frozen=True)
class Run:
    """A training's folder and what was decided when it began."""

    folder: Path
    recipe: Recipe
    manifest: Manifest
    weights: str
    source: WeightSource

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.manifest.classes

    def head(self) -> keras.Model:
        """The trained head.

        Raises:
            VggnbError: the run is not trained, or its file is damaged.
        """
        training = self.training()
        path = self.folder / training["head"]
        if not path.is_file() or sha256_file(path) != training["head_sha256"]:
            raise VggnbError("The trained head is damaged or gone.", path, "Train again.")
        head = build_head(self.recipe, len(self.classes))
        head.load_weights(path)
        return head

    def training(self) -> dict:
        """What training wrote down: head, history, timing, images left out.

        Raises:
            VggnbError: the run is not trained.
        """
        if not (self.folder / TRAINING_FILE).is_file():
            raise VggnbError("This run is not trained yet.", self.folder, "Run the training step (notebook 05) first.")
        return _document(self.folder / TRAINING_FILE, {"head", "head_sha256", "history", "timing", "left_out"})

    def history(self) -> History:
        """The training's course, as `fit` returned it."""
        return History(tuple(self.training()["history"]))

    def classifier(self, base: keras.Model | None = None) -> keras.Model:
        """The assembled model: raw pixels in, probabilities out.

        Raises:
            VggnbError: the base's weights are not those the head was trained on.
        """
        if base is None:
            base, source = build_base(self.recipe, self.weights)
            if source.sha256 != self.source.sha256:
                remedy = "Name the same weights as in training with --weights or VGGNB_WEIGHTS."
                raise VggnbError("The base's weights are not those this run was trained on.", self.folder, remedy)
        return build_classifier(base, self.head(), self.recipe)


def start_run(folder: Path, manifest: Manifest, recipe: Recipe, *, weights: str, source: WeightSource) -> Run:
    """Make the folder of a run and write down what is decided before training; the same decisions again are welcome.

    Raises:
        VggnbError: the folder cannot be written to, or holds another run or something else.
    """
    folder = Path(folder)
    if (folder / "run.json").is_file():
        _check_same(open_run(folder), manifest, recipe, source)
    elif folder.is_dir() and any(folder.iterdir()):
        raise VggnbError("This folder holds something else than a run.", folder, "Name a new folder for the run.")
    make_folder(folder)
    manifest.write(folder / "manifest.csv")
    write_json(folder / "recipe.json", recipe.to_dict())
    write_json(folder / "run.json", {"schema": RUN_SCHEMA, "weights": weights, "source": asdict(source)})
    return Run(folder, recipe, manifest, weights, source)


def _check_same(run: Run, manifest: Manifest, recipe: Recipe, source: WeightSource | None = None) -> None:
    """Refuse to go on with a run for which something else was decided; the first three differences are told."""
    old, new = run.recipe.to_dict(), recipe.to_dict()
    found = [f"{choice} is {old[choice]} there and {new[choice]} here" for choice in new if old[choice] != new[choice]]
    if run.manifest.classes != manifest.classes:
        found.append(f"its classes are {list(run.classes)}, here {list(manifest.classes)}")
    elif _images(run.manifest) != _images(manifest):
        found.append(f"its {len(run.manifest.rows)} images or their splits are not these {len(manifest.rows)}")
    if source is not None and run.source.sha256 != source.sha256:
        found.append("the base's weights are not the same")
    if found:
        remedy = "Name a new folder for this run, or remove that one."
        raise VggnbError(f"This folder holds another run: {'; '.join(found[:3])}.", run.folder, remedy)


def _images(manifest: Manifest) -> set[tuple[str, str, int]]:
    """Which picture is in which split under which label, wherever the dataset lies."""
    return {(row.sha256, row.split, row.label) for row in manifest.rows}


def open_run(folder: Path, *, weights: str | None = None) -> Run:
    """Open a run that `start_run` made.

    Args:
        weights: where the base's weights are now, if not where they were.

    Raises:
        VggnbError: there is no run in this folder, or its files are damaged.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise VggnbError("There is no run in this folder.", folder, "Train first: vggnb train DATASET --out RUN.")
    about = _document(folder / "run.json", {"schema", "weights", "source"})
    if about["schema"] != RUN_SCHEMA:
        raise VggnbError("The run was made by another version of vggnb.", folder, "Train again into a new folder.")
    recipe = Recipe.from_dict(read_json(folder / "recipe.json"))
    manifest = Manifest.read(folder / "manifest.csv")
    return Run(folder, recipe, manifest, weights or about["weights"], WeightSource(**about["source"]))


def _document(path: Path, keys: set[str]) -> dict:
    """A JSON file of a run, which must have these keys."""
    document = read_json(path)
    if not isinstance(document, dict) or not keys <= document.keys():
        raise VggnbError(f"This file lacks {', '.join(sorted(keys))}.", path, "Train again into a new folder.")
    return document


class Progress(keras.callbacks.Callback):
    """One bar for all epochs, with the latest numbers beside it."""

    def __init__(self, epochs: int):
        super().__init__()
        self.bar = tqdm(total=epochs, desc="Head", unit="epoch")

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch's numbers."""
        shown = {name: f"{value:.2f}" for name, value in (logs or {}).items() if "crossentropy" not in name}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(1)

    def on_train_end(self, logs=None):
        """Leave the last line standing."""
        self.bar.close()


def fit(run: Run, features: Features, *, progress: bool = True) -> History:
    """Train the head on features of train, watch validation, and keep the result in the run's folder.

    The order of the images is a pure function of (seed, epoch); no batch is dropped.

    Returns:
        The history, one row an epoch.

    Raises:
        VggnbError: train has no images, or the loss stopped being a number.
    """
    recipe, classes, start = run.recipe, len(run.classes), time.perf_counter()
    train, validation = (_inputs(features.of(split), recipe, classes) for split in ("train", "validation"))
    count = len(train[0])
    if not count:
        remedy = "Look at the census for what became of them."
        raise VggnbError("There are no training images.", run.manifest.dataset, remedy)
    choice = None
    if recipe.is_open:
        choice = choose_ridge(train[0], features.of("train").rows, recipe, progress=progress)
        if progress:
            print(choice)
        recipe = recipe.with_(ridge=choice.ridge)
    head = build_head(recipe, classes, images=count)
    if recipe.standardise:
        head.get_layer("standardise").adapt(train[0])
    compile_head(head, recipe, images=count)
    callbacks = [keras.callbacks.TerminateOnNaN()] + ([Progress(recipe.epochs)] if progress else [])
    logs = head.fit(
        _ordered_batches(*train, recipe),
        epochs=recipe.epochs,
        steps_per_epoch=math.ceil(count / recipe.batch_size),
        validation_data=validation if len(validation[0]) else None,
        validation_batch_size=1024,
        callbacks=callbacks,
        shuffle=False,  # the order is ours; Keras would warn that it cannot shuffle a dataset
        verbose=0,
    ).history
    rows = tuple(_row(logs, epoch, penalised=recipe.loss(classes)) for epoch in range(len(logs["loss"])))
    if not all(math.isfinite(value) for row in rows for value in row.values()):
        remedy = f"Try a tenth of the learning rate ({recipe.learning_rate / 10:g})."
        raise VggnbError(f"The loss stopped being a number in epoch {len(rows)}.", run.folder, remedy)
    _keep(run, head, rows, features, time.perf_counter() - start, choice)
    return History(rows)


def _row(logs: dict[str, list[float]], epoch: int, *, penalised: str) -> dict[str, float]:
    """One epoch's numbers; where the loss holds a penalty, the metric of this name is the loss without it."""
    kept = {name: float(values[epoch]) for name, values in logs.items() if not name.endswith(penalised)}
    for name in ("loss", "val_loss"):
        if (alone := name.replace("loss", penalised)) in logs:
            kept[name] = float(logs[alone][epoch])
    return {"epoch": epoch + 1, **kept}


def _inputs(features: Features, recipe: Recipe, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What Keras wants: the recipe's columns, and labels as integers or one-hot, as its loss needs."""
    labels = features.labels
    if recipe.loss(classes) == "categorical_crossentropy":
        labels = keras.utils.to_categorical(labels, classes) if len(labels) else np.zeros((0, classes), np.float32)
    return features.values[:, pool_columns(recipe)], labels


def _ordered_batches(values: np.ndarray, labels: np.ndarray, recipe: Recipe) -> tf.data.Dataset:
    """All epochs' batches, one after the other; the last of each epoch is smaller, none is dropped."""
    orders = np.stack([epoch_order(len(values), seed=recipe.seed, epoch=epoch) for epoch in range(recipe.epochs)])
    values, labels = tf.constant(values), tf.constant(labels)

    def cut(order):
        return tf.data.Dataset.from_tensor_slices(order).batch(recipe.batch_size)

    def pick(indices):
        return tf.gather(values, indices), tf.gather(labels, indices)

    return tf.data.Dataset.from_tensor_slices(orders).flat_map(cut).map(pick).prefetch(8)


def _keep(
    run: Run, head: keras.Model, rows: tuple, features: Features, seconds: float, choice: Choice | None = None
) -> None:
    """Write the head under a name of its own, then the file that names it, then remove heads of earlier trainings."""
    with tempfile.TemporaryDirectory(prefix="vggnb-") as scratch:
        path = Path(scratch) / "head.weights.h5"
        head.save_weights(path)
        data = path.read_bytes()
    digest = sha256_bytes(data)
    name = f"head-{digest[:12]}.weights.h5"
    write_bytes(run.folder / name, data)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(run.folder / "history.csv", text.getvalue().encode())
    timing = {
        "features_s": round(features.seconds, 3),
        "head_s": round(seconds, 3),
        "fine_tune_s": 0.0,
        "total_s": round(features.seconds + seconds, 3),
        "images_forwarded": features.images_forwarded,
        "features_from_cache": features.from_store,
    }
    left_out = [list(pair) for pair in features.unreadable]
    document = {"head": name, "head_sha256": digest, "history": list(rows), "timing": timing, "left_out": left_out}
    document["choice"] = choice and choice.to_dict()
    write_json(run.folder / TRAINING_FILE, document)
    earlier = [*run.folder.glob("head-*.weights.h5"), *run.folder.glob("predictions-*.csv")]
    if stale := [path for path in earlier if digest[:12] not in path.name]:
        for path in [*stale, *run.folder.glob("report-*.json")]:
            path.unlink(missing_ok=True)


def train(
    manifest: Manifest, recipe: Recipe, folder: Path, *, weights: str, store: Path, progress: bool = True
) -> tuple[Run, Features]:
    """Everything from the manifest to a trained run: base, features, head."""
    base, source = build_base(recipe, weights)
    run = start_run(folder, manifest, recipe, weights=weights, source=source)
    features = extract(manifest, recipe, base, source, store=store, progress=progress)
    fit(run, features, progress=progress)
    return run, features


def open_or_train(manifest: Manifest, recipe: Recipe, folder: Path, *, weights: str, store: Path) -> Run:
    """The trained run in this folder; when there is none yet, it is trained first, and that is said.

    Raises:
        VggnbError: the folder holds a run with another recipe or other images.
    """
    if (Path(folder) / TRAINING_FILE).is_file():
        run = open_run(folder)
        _check_same(run, manifest, recipe)
        return run
    print(f"No trained run '{Path(folder).name}' yet: training it now.")
    return train(manifest, recipe, folder, weights=weights, store=store)[0]
