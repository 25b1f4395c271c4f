"""The epochs of fine-tuning: batches read ahead, a checkpoint after each epoch, and an exact continuation.

What a step depends on is in the checkpoint (trainable weights, optimiser) or a pure function of (seed, epoch): order of
the images, augmentation, dropout. So a training that was killed ends with the weights of one that was not: to the bit,
on a CPU with the same number of threads.
"""

import functools
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save
from scipy.special import log_softmax

from vggnb.device import keras, tf
from vggnb.features import Features
from vggnb.storage import VggnbError, write_bytes
from vggnb.train.adam import class_weight
from vggnb.train.augment import Images

KEPT = 2  # checkpoints


@dataclass(frozen=True)
class State:
    """A fine-tuning after `epochs` epochs of all its stages: arrays by name, and the history of the first stage."""

    epochs: int
    arrays: dict[str, np.ndarray]
    history: tuple[dict, ...]


@dataclass(frozen=True)
class Stage:
    """One training: its name, the indices of its images, and the head that it starts from."""

    name: str
    indices: np.ndarray
    head: keras.Model


class Checkpoints:
    """The newest two states in a folder, one file each.

    Args:
        card: what the training is of; files with another card are not continued.
    """

    def __init__(self, folder: Path, card: dict):
        self.folder, self.card = Path(folder), json.dumps(card, sort_keys=True)

    def paths(self) -> list[Path]:
        """The newest first."""
        return sorted(self.folder.glob("epoch-*.safetensors"), reverse=True)

    def write(self, state: State) -> None:
        """Add a file, then remove all but the newest two."""
        about = {"card": self.card, "epochs": str(state.epochs), "history": json.dumps(state.history)}
        write_bytes(self.folder / f"epoch-{state.epochs:04d}.safetensors", save(state.arrays, metadata=about))
        for path in self.paths()[KEPT:]:
            path.unlink()

    def newest(self) -> State:
        """The newest state of this very training; without one, the state before the first epoch."""
        for path in self.paths():
            try:
                with safetensors.safe_open(path, "numpy") as file:
                    about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
            except safetensors.SafetensorError:  # damaged: the one before it is as good, only older
                continue
            if about["card"] == self.card:
                return State(int(about["epochs"]), arrays, tuple(json.loads(about["history"])))
        return State(0, {}, ())

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Trainer:
    """Trains a compiled network on images, epoch after epoch.

    Args:
        network: raw pixels -> logits; see `finetune.build_network`.
        features: of the same images in the same order, for their labels and splits.
    """

    def __init__(self, network: keras.Model, images: Images, features: Features, checkpoints: Checkpoints):
        self.network, self.images, self.checkpoints, self.recipe = network, images, checkpoints, images.recipe
        self.labels = features.labels
        self.validation = np.flatnonzero([row.split == "validation" for row in features.rows])
        self.optimizer = network.optimizer
        self.optimizer.build(network.trainable_variables)
        self.variables = {"weights": network.trainable_variables, "optimizer": self.optimizer.variables}

    def taken(self) -> dict[str, np.ndarray]:
        """Trainable weights and optimiser, in copies."""
        parts = self.variables.items()
        return {f"{part}/{i:03d}": np.array(variable) for part, some in parts for i, variable in enumerate(some)}

    def put(self, arrays: dict[str, np.ndarray]) -> None:
        """The opposite of `taken`."""
        for part, variables in self.variables.items():
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{part}/{i:03d}"])

    def seconds_an_image(self) -> float:
        """How long a training step takes for each image of its batch, measured on one; nothing is changed by it."""
        before, shape = self.taken(), (self.recipe.batch_size, *self.network.input_shape[1:])
        for _ in range(2):  # the first one compiles
            start = time.perf_counter()
            self.network.train_on_batch(np.zeros(shape, np.float32), np.zeros(shape[0], np.int32))
        seconds = time.perf_counter() - start
        self.put(before)
        return seconds / shape[0]

    def run(self, stage: Stage, done: int, state: State, watcher: keras.callbacks.Callback, *, evaluate: bool) -> State:
        """Train a stage to its end.

        Args:
            done: epochs of this stage that `state` holds.
            evaluate: on validation after each epoch, for the history.
        """
        if done:
            self.put(state.arrays)
        watcher.on_train_begin()
        try:
            for epoch in range(done, self.recipe.fine_tune_epochs):
                logs = self._train(stage, epoch, watcher)
                arrays, history = self.taken(), state.history
                # On a CPU, relu makes a zero of NaN: the loss can look well when the weights do not.
                self._check_finite(sum(float(array.sum()) for array in arrays.values()), epoch)
                arrays |= {name: array for name, array in state.arrays.items() if name.startswith("validation/")}
                if evaluate:
                    found, held_out = self.evaluated()
                    logs, arrays = logs | found, arrays | held_out
                    history = (*history, {"epoch": epoch + 1, **logs})
                state = State(state.epochs + 1, arrays, history)
                self.checkpoints.write(state)
                watcher.on_epoch_end(epoch, logs)
        finally:
            watcher.on_train_end()
        return state

    def _train(self, stage: Stage, epoch: int, watcher) -> dict[str, float]:
        """The steps of one epoch; mean loss and accuracy over its images."""
        recipe, steps = self.recipe, math.ceil(len(stage.indices) / self.recipe.batch_size)
        weights = class_weight(self.labels[stage.indices], recipe)
        sums, count, means = dict.fromkeys(("loss", "accuracy"), 0.0), 0, {}
        self._seed_dropout(epoch)
        for step, (some, pixels) in enumerate(self.images.batches(stage.indices, epoch)):
            done = (epoch * steps + step) / (recipe.fine_tune_epochs * steps)
            self.optimizer.learning_rate = recipe.fine_tune_rate * (1 + math.cos(math.pi * done)) / 2
            self.network.reset_metrics()  # up to Keras 3.13 they are means over all batches before
            logs = self.network.train_on_batch(pixels, self.labels[some], class_weight=weights, return_dict=True)
            self._check_finite(float(logs["loss"]), epoch)
            count += len(some)
            sums["loss"] += len(some) * float(logs["crossentropy"])  # without the penalty, as on validation
            sums["accuracy"] += len(some) * float(logs["accuracy"])
            means = {name: total / count for name, total in sums.items()}
            watcher.on_train_batch_end(step, means)
        if not means:
            raise VggnbError("None of the images can be read.", self.images.manifest.dataset, "Take the census again.")
        return means

    def evaluated(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Loss and accuracy on validation, and the logits that they come from; nothing where there is none."""
        if not len(self.validation):
            return {}, {}
        indices, logits = self.outputs(self.network, self.validation)
        found = {f"val_{name}": value for name, value in numbers(logits, self.labels[indices]).items()}
        return found, {"validation/indices": indices, "validation/logits": logits}

    def outputs(self, model: keras.Model, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Indices int64 (n,) of the images that can be read, and the outputs float32 (n, d) of a model for them."""
        # Not predict_on_batch: TensorFlow would take those of several models for one that is traced again, and warn.
        images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        run = tf.function(functools.partial(_forward, model), input_signature=[images])
        parts = [(some, run(pixels).numpy()) for some, pixels in self.images.batches(indices)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _seed_dropout(self, epoch: int) -> None:
        """Dropout as a function of (seed, epoch): Keras would go on from where the process began."""
        for layer in self.network.get_layer("head").layers:
            if isinstance(layer, keras.layers.Dropout):
                state = np.random.default_rng([self.recipe.seed, epoch]).integers(1 << 32, size=2, dtype=np.uint32)
                layer.seed_generator.state.assign(state)

    def _check_finite(self, value: float, epoch: int) -> None:
        if not math.isfinite(value):
            remedy = f"Try a tenth of the learning rate ({self.recipe.fine_tune_rate / 10:g})."
            raise VggnbError(f"The loss became infinite or NaN in epoch {epoch + 1}.", "fine-tuning", remedy)


def _forward(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    return model(images, training=False)


def numbers(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy and accuracy of logits (n, classes)."""
    loss = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean()
    return {"loss": float(loss), "accuracy": float((logits.argmax(axis=1) == labels).mean())}
