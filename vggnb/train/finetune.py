"""Fine-tuning: the last convolutions and the head are trained together, on augmented images, with small steps.

The schedule is fixed, so nothing has to be chosen by looking: 8 epochs of AdamW, the rate falling to zero along half a
cosine. It runs twice. First with validation held out, which gives the temperature, the decision threshold and the
learning curves; then on train and validation together, which gives the model.

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
from vggnb.folders import counted, duration, shown
from vggnb.generators import Images
from vggnb.metrics.calibration import fit_ranges
from vggnb.model import build_head, empty_base, empty_classifier, features_of, pool_columns, spread_of
from vggnb.recipe import CONVOLUTIONS, Recipe
from vggnb.storage import VggnbError, sha256_bytes, write_bytes
from vggnb.train.head import Progress, class_weight, fit_head, head_arrays, model_files, watch
from vggnb.train.runs import FINE_TUNED, History, Run, Stopped, record, run_lock

FIRST = "block3_conv1"  # where fine-tuning begins, unless the recipe says
WEIGHT_DECAY = 0.004  # Keras's default for AdamW
KEPT = 2  # checkpoints


def fine_tune(
    run: Run, features: Features, *, base: keras.Model | None = None, progress: Progress = True, fresh: bool = False
) -> History:
    """Train the convolutions from `recipe.fine_tune` on, and the head, from where the head's training ended.

    From then on `run.classifier()` is the fine-tuned model, until another head is trained. After a stop or a kill the
    next call continues after the last whole epoch and ends with the same weights.

    Args:
        base: what `run.base()` would give, if it is at hand; it is left as it is.
        progress: as in `fit`, for each of the two trainings.
        fresh: start again, whatever was done before.

    Returns:
        The first training's epochs; epoch 0 is the model before it.

    Raises:
        VggnbError: the run is not trained or in use, or the loss stopped being finite.
        Stopped: interrupted; calling it again continues.
    """
    start, before = time.perf_counter(), run.training()
    rows = sha256_bytes(repr([(row.sha256, row.label, row.split) for row in features.rows]).encode())
    card = {"head": before["head_sha256"], "rows": rows}  # only a fine-tuning of the same is continued
    with run_lock(run.folder):
        if not fresh and before.get("fine_tune", {}).get("card") == card and run.is_trained():
            print("This run is fine-tuned already; use fresh=True to repeat it.")
            shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)  # left by a kill
            return run.fine_tuning()
        checkpoints = Checkpoints(run.folder / "checkpoints", card)
        if fresh:
            shutil.rmtree(checkpoints.folder, ignore_errors=True)
        try:
            tuned, files = _trained(run, features, base or run.base(), progress, checkpoints)
        except KeyboardInterrupt:
            what = "Fine-tuning was stopped; run this again to continue after the last complete epoch."
            raise Stopped(what) from None
        seconds = time.perf_counter() - start
        timing = before["timing"] | {"fine_tune_s": round(seconds, 3)}
        timing["total_s"] = round(timing["features_s"] + timing["head_s"] + seconds, 3)
        facts = {"timing": timing, "validation": {"images": tuned.pop("held_out"), "out_of_fold": False}}
        record(run, before | facts | {"fine_tune": tuned | {"card": card}}, files, extend=True)
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return run.fine_tuning()


def _trained(
    run: Run, features: Features, base: keras.Model, progress: Progress, checkpoints: "Checkpoints"
) -> tuple[dict, dict[str, bytes]]:
    """Train the stages, from the newest checkpoint on: facts and files for the run."""
    recipe, precision = run.recipe.with_(fine_tune=run.recipe.fine_tune or FIRST), run.source.precision
    if recipe.is_open:
        recipe = recipe.with_(ridge=run.training()["choice"]["ridge"])
    images, stages, state = Images(run.manifest, features.rows, recipe), _stages(run, features), checkpoints.newest()
    before, epochs = _before(stages[0][2], features, recipe), recipe.fine_tune_epochs
    for number, (name, indices, head) in enumerate(stages, 1):
        begun = max(0, state.epochs - (number - 1) * epochs)
        if begun >= epochs and number < len(stages):
            continue
        network = build_network(base, head, recipe, images=len(indices), precision=precision)
        trainer = Trainer(network, images, features, checkpoints)
        if progress and (number == 1 or begun):
            print(_cost(trainer, stages, state, precision))
        steps = epochs * math.ceil(len(indices) / recipe.batch_size)
        watcher = watch(progress, epochs, steps, name=f"Fine-tuning on {name}", unit="step")
        state = trainer.run(indices, begun, state, watcher, evaluate=number == 1)
    facts, files, lost = _result(run, trainer, state)
    return facts | {
        "from_block": recipe.fine_tune,
        "epochs": epochs,
        "learning_rate": recipe.fine_tune_rate,
        "augment": list(recipe.augment),
        "precision": precision,
        "history": [before, *state.history],
        "fitted_on": name,
        "images": len(np.setdiff1d(indices, lost)),
    }, files


def build_network(
    base: keras.Model, head: keras.Model, recipe: Recipe, *, images: int = 1, precision: str = "float32"
) -> keras.Model:
    """The network that is trained, compiled: raw pixels float32 (b, size, size, 3) -> logits float32 (b, classes).

    The loss is that of the head's training: cross-entropy and the ridge penalty, shared among so many images.
    Convolutions compute in `precision`, but for the first, where it costs least and counts most; their weights, the
    pools, the head and the loss are float32. The layers of `base` and `head` are copied.
    """
    copy = empty_base(recipe.image_size, precision=precision)
    copy.set_weights(base.get_weights())
    for name in CONVOLUTIONS[CONVOLUTIONS.index(recipe.fine_tune) :]:
        copy.get_layer(name).trainable = True
    classifier = empty_classifier(copy, recipe, head.output_shape[-1])
    logits = _copied_head(head, recipe, images=images)(features_of(classifier, recipe))
    network = keras.Model(classifier.input, logits, name="fine_tuning")
    optimizer = keras.optimizers.AdamW(recipe.fine_tune_rate, weight_decay=WEIGHT_DECAY)
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # XLA compiles slowly and knows no fast convolution on a CPU.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = ["accuracy", keras.metrics.SparseCategoricalCrossentropy("crossentropy", from_logits=True)]
    network.compile(optimizer, loss, metrics=metrics, jit_compile=False)
    return network


def _copied_head(head: keras.Model, recipe: Recipe, *, images: int = 1) -> keras.Model:
    """The head once more, with dropout and without its last activation."""
    recipe = recipe.with_(dropout=recipe.dropout or recipe.fine_tune_dropout)
    copy = build_head(recipe, head.output_shape[-1], images=images)
    copy.set_weights(head.get_weights())
    if recipe.standardise:
        layer = copy.get_layer("standardise")
        mean, variance, count = layer.get_weights()
        # What did not vary while the base was frozen may begin to: without a scale for it, it stays left out.
        layer.set_weights([mean, spread_of(mean, variance) ** 2, count])
        layer.finalize_state()
    copy.get_layer("output").activation = keras.activations.linear
    return copy


def _stages(run: Run, features: Features) -> list[tuple[str, np.ndarray, keras.Model]]:
    """The trainings, as the head was fitted: on train; or first on train, with validation held out, then on both.

    Each has a name, the indices of its images, and the head that it starts from.
    """
    train = np.flatnonzero([row.split == "train" for row in features.rows])
    if run.training()["fitted_on"] == "train":
        return [("train", train, run.head())]
    held_out = fit_head(features, run.recipe.with_(hold_out=True), len(run.classes), progress=False).head
    return [("train", train, held_out), ("train and validation", np.arange(len(features.rows)), run.head())]


def _cost(trainer: "Trainer", stages: list[tuple], state: "State", precision: str) -> str:
    """A sentence on what is going to be done, and how long it takes, by steps on nothing that are then undone."""
    recipe, images, words = trainer.recipe, 0.0, []
    for number, (name, indices, _) in enumerate(stages):
        epochs = min(recipe.fine_tune_epochs, max(0, (number + 1) * recipe.fine_tune_epochs - state.epochs))
        # A forward pass is about a third of a step.
        images += epochs * (len(indices) + (number == 0) * len(trainer.validation) / 3)
        if epochs:
            words.append(f"{counted(epochs, 'epoch')} on {counted(len(indices), 'image')} of {name}")
    kept, network = trainer.taken(), trainer.network
    nothing = np.zeros((recipe.batch_size, *network.input_shape[1:]), np.float32)
    steps = []
    for _ in range(3):  # the first one compiles
        start = time.perf_counter()
        network.train_on_batch(nothing, np.zeros(len(nothing), np.int32))
        steps.append(time.perf_counter() - start)
    seconds = (images + len(trainer.images.rows) / 3) * min(steps) / len(nothing)
    trainer.put(kept)
    after = f", continuing after epoch {state.epochs}" if state.epochs else ""
    text = f"Fine-tuning {recipe.fine_tune} and all later layers in {precision}{after}: "
    text += ", then ".join(words) or "only the final predictions are left"
    return f"{text}; about {duration(seconds)}."


def _before(head: keras.Model, features: Features, recipe: Recipe) -> dict[str, float]:
    """Epoch 0 of the history: the head that the first stage begins with, on the stored features."""
    copy, row = _copied_head(head, recipe), {"epoch": 0}
    for split, name in (("train", ""), ("validation", "val_")):
        if len((part := features.of(split)).rows):
            logits = np.asarray(copy(part.values[:, pool_columns(recipe)], training=False))
            row |= {f"{name}{key}": value for key, value in numbers(logits, part.labels).items()}
    return row


def _result(run: Run, trainer: "Trainer", state: "State") -> tuple[dict, dict[str, bytes], np.ndarray]:
    """Facts and files (weights, ranges of the features, predictions for validation); indices of unreadable images."""
    network, rows = trainer.network, trainer.images.rows
    weights = {"/".join(w.path.split("/")[-2:]): np.array(w) for w in network.trainable_variables if "_conv" in w.path}
    weights = {f"base/{name}": weight for name, weight in weights.items()} | head_arrays(network.get_layer("head"))
    seen, values = trainer.outputs(keras.Model(network.input, features_of(network, trainer.recipe)), range(len(rows)))
    if len(lost := np.setdiff1d(np.arange(len(rows)), seen)):
        first = f"{shown(rows[lost[0]].path)}: {trainer.images.read(lost[0])}"
        print(f"Left out of fine-tuning: {counted(len(lost), 'image')} that can no longer be read ({first}).")
    split = np.array([rows[index].split for index in seen])
    ranges = fit_ranges(values[split == "train"], values[split == "validation"])
    logits = state.arrays.get("validation/logits", np.zeros((0, len(run.classes)))).astype(np.float64)
    held_out = [rows[index] for index in state.arrays.get("validation/indices", ())]
    facts, files = model_files(FINE_TUNED, weights, ranges, held_out, logits, run.classes)
    return facts | {"held_out": len(held_out)}, files, lost


@dataclass(frozen=True)
class State:
    """A fine-tuning after `epochs` epochs of all its stages: arrays by name, and the history of the first stage."""

    epochs: int
    arrays: dict[str, np.ndarray]
    history: tuple[dict, ...]


class Checkpoints:
    """The newest two states in a folder, one file each; those of another training have another card."""

    def __init__(self, folder: Path, card: dict):
        self.folder, self.card = Path(folder), json.dumps(card, sort_keys=True)

    def write(self, state: State) -> None:
        """Add a file, then remove all but the newest two."""
        about = {"card": self.card, "epochs": str(state.epochs), "history": json.dumps(state.history)}
        write_bytes(self.folder / f"epoch-{state.epochs:04d}.safetensors", save(state.arrays, metadata=about))
        for path in sorted(self.folder.glob("epoch-*.safetensors"))[:-KEPT]:
            path.unlink()

    def newest(self) -> State:
        """The newest state of this very training; without one, the state before the first epoch."""
        for path in sorted(self.folder.glob("epoch-*.safetensors"), reverse=True):
            try:
                with safetensors.safe_open(path, "numpy") as file:
                    about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
            except safetensors.SafetensorError:  # damaged: the one before it is as good, only older
                continue
            if about["card"] == self.card:
                return State(int(about["epochs"]), arrays, tuple(json.loads(about["history"])))
        return State(0, {}, ())


class Trainer:
    """Trains what `build_network` gives, epoch after epoch; the features are of the same images in the same order."""

    def __init__(self, network: keras.Model, images: Images, features: Features, checkpoints: Checkpoints):
        self.network, self.images, self.checkpoints, self.recipe = network, images, checkpoints, images.recipe
        self.labels = features.labels
        self.validation = np.flatnonzero([row.split == "validation" for row in features.rows])
        self.optimizer = network.optimizer
        self.optimizer.build(network.trainable_variables)
        parts = {"weights": network.trainable_variables, "optimizer": self.optimizer.variables}
        self.variables = {f"{part}/{i:03d}": one for part, some in parts.items() for i, one in enumerate(some)}

    def taken(self) -> dict[str, np.ndarray]:
        """Copies of the trainable weights and of the optimiser's."""
        return {name: np.array(variable) for name, variable in self.variables.items()}

    def put(self, arrays: dict[str, np.ndarray]) -> None:
        """The opposite of `taken`."""
        for name, variable in self.variables.items():
            variable.assign(arrays[name])

    def run(self, train: np.ndarray, done: int, state: State, watcher, *, evaluate: bool) -> State:
        """Train on these images, of which `state` holds `done` epochs, to the end; with the history, or without it."""
        if done:
            self.put(state.arrays)
        watcher.on_train_begin()
        try:
            for epoch in range(done, self.recipe.fine_tune_epochs):
                logs = self._epoch(train, epoch, watcher)
                arrays, history = self.taken(), state.history
                # On a CPU, relu makes a zero of NaN: the loss can look well when the weights do not.
                self._check_finite(sum(float(array.sum()) for array in arrays.values()), epoch)
                arrays |= {name: array for name, array in state.arrays.items() if name.startswith("validation/")}
                if evaluate:
                    if len(self.validation):
                        indices, logits = self.outputs(self.network, self.validation)
                        found = numbers(logits, self.labels[indices])
                        logs = logs | {f"val_{name}": value for name, value in found.items()}
                        arrays |= {"validation/indices": indices, "validation/logits": logits}
                    history = (*history, {"epoch": epoch + 1, **logs})
                state = State(state.epochs + 1, arrays, history)
                self.checkpoints.write(state)
                watcher.on_epoch_end(epoch, logs)
        finally:
            watcher.on_train_end()
        return state

    def _epoch(self, train: np.ndarray, epoch: int, watcher) -> dict[str, float]:
        """The steps of one epoch; mean loss and accuracy over its images."""
        recipe, steps = self.recipe, math.ceil(len(train) / self.recipe.batch_size)
        weights = class_weight(self.labels[train], recipe)
        sums, count, means = dict.fromkeys(("loss", "accuracy"), 0.0), 0, {}
        for layer in self.network.get_layer("head").layers:  # Keras would go on from where the process began
            if isinstance(layer, keras.layers.Dropout):
                seeds = np.random.default_rng([recipe.seed, epoch]).integers(1 << 32, size=2, dtype=np.uint32)
                layer.seed_generator.state.assign(seeds)
        for step, (some, pixels) in enumerate(self.images.batches(train, epoch)):
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

    def outputs(self, model: keras.Model, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Indices int64 (n,) of the images that can be read, and the outputs float32 (n, d) of a model for them."""
        # Not predict_on_batch: TensorFlow would take those of several models for one that is traced again, and warn.
        images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        run = tf.function(functools.partial(_forward, model), input_signature=[images])
        parts = [(some, run(pixels).numpy()) for some, pixels in self.images.batches(indices)]
        if not parts:
            raise VggnbError("None of the images can be read.", self.images.manifest.dataset, "Take the census again.")
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

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
