"""Fine-tuning: the last convolutions and the head are trained together, on augmented images, with small steps.

The schedule is fixed, so nothing has to be chosen by looking: 8 epochs of AdamW, the rate falling to zero along half a
cosine. It runs twice. First with validation held out, which gives the temperature, the decision threshold and the
learning curves; then on train and validation together, which gives the model.
"""

import math
import time
from collections.abc import Callable

import numpy as np

from vggnb.device import keras
from vggnb.features import Features
from vggnb.folders import counted, duration
from vggnb.metrics.calibration import fit_ranges
from vggnb.model import build_head, empty_base, empty_classifier, features_of, pool_columns, spread_of
from vggnb.recipe import CONVOLUTIONS, Recipe
from vggnb.storage import sha256_bytes
from vggnb.train.adam import watch
from vggnb.train.augment import Images
from vggnb.train.epochs import Checkpoints, Stage, State, Trainer, numbers
from vggnb.train.head import fit_head
from vggnb.train.lock import run_lock
from vggnb.train.run_files import FINE_TUNED, head_arrays, model_files, record
from vggnb.train.runs import History, Run, Stopped

FIRST = "block3_conv1"  # where fine-tuning begins, unless the recipe says
WEIGHT_DECAY = 0.004  # Keras's default for AdamW


def fine_tune(
    run: Run,
    features: Features,
    *,
    base: keras.Model | None = None,
    progress: bool | Callable[[int], keras.callbacks.Callback] = True,
    fresh: bool = False,
) -> History:
    """Train the convolutions from `recipe.fine_tune` on, and the head, from where the head's training ended.

    From then on `run.classifier()` is the fine-tuned model, until another head is trained. After a stop or a kill the
    next call continues after the last whole epoch and ends with the same weights (to the bit on a CPU with the same
    number of threads).

    Args:
        features: what the head was trained on.
        base: what `run.base()` would give, if it is at hand; it is left as it is.
        progress: a bar, nothing, or a function from the number of epochs to a Keras callback, called for each training.
        fresh: start again, whatever was done before.

    Returns:
        epoch, loss, accuracy, val_loss and val_accuracy of the first training; epoch 0 is the model before it.

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
            return run.fine_tuning()
        checkpoints = Checkpoints(run.folder / "checkpoints", card)
        if fresh:
            checkpoints.clear()
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
        checkpoints.clear()
    return run.fine_tuning()


def _trained(
    run: Run, features: Features, base: keras.Model, progress: bool | Callable, checkpoints: Checkpoints
) -> tuple[dict, dict[str, bytes]]:
    """Train the stages, from the newest checkpoint on: facts and files for the run."""
    recipe, precision = run.recipe.with_(fine_tune=run.recipe.fine_tune or FIRST), run.source.precision
    if recipe.is_open:
        recipe = recipe.with_(ridge=run.training()["choice"]["ridge"])
    images, stages, state = Images(run.manifest, features.rows, recipe), _stages(run, features), checkpoints.newest()
    before, epochs = _before(stages[0].head, features, recipe), recipe.fine_tune_epochs
    for number, stage in enumerate(stages):
        begun = max(0, state.epochs - number * epochs)
        if begun >= epochs and stage is not stages[-1]:
            continue
        network = build_network(base, stage.head, recipe, images=len(stage.indices), precision=precision)
        trainer = Trainer(network, images, features, checkpoints)
        if progress and (number == 0 or begun):
            print(_cost(trainer, stages, state, precision))
        steps = epochs * math.ceil(len(stage.indices) / recipe.batch_size)
        watcher = watch(progress, epochs, steps, name=f"Fine-tuning on {stage.name}", unit="step")
        state = trainer.run(stage, begun, state, watcher, evaluate=number == 0)
    facts, files = _result(run, trainer, state)
    return facts | {
        "from_block": recipe.fine_tune,
        "epochs": epochs,
        "learning_rate": recipe.fine_tune_rate,
        "augment": list(recipe.augment),
        "precision": precision,
        "history": [before, *state.history],
        "fitted_on": stage.name,
        "images": len(stage.indices),
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
    """The head once more, with dropout, and with logits as its outputs."""
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


def _stages(run: Run, features: Features) -> list[Stage]:
    """As the head was fitted: on train; or first on train, with validation held out, then on both."""
    train = np.flatnonzero([row.split == "train" for row in features.rows])
    if run.training()["fitted_on"] == "train":
        return [Stage("train", train, run.head())]
    held_out = fit_head(features, run.recipe.with_(hold_out=True), len(run.classes), progress=False).head
    return [Stage("train", train, held_out), Stage("train and validation", np.arange(len(features.rows)), run.head())]


def _cost(trainer: Trainer, stages: list[Stage], state: State, precision: str) -> str:
    """A sentence on what is going to be done, and how long it takes."""
    recipe, images = trainer.recipe, 0.0
    words = []
    for number, stage in enumerate(stages):
        epochs = min(recipe.fine_tune_epochs, max(0, (number + 1) * recipe.fine_tune_epochs - state.epochs))
        # A forward pass is about a third of a step.
        images += epochs * (len(stage.indices) + (number == 0) * len(trainer.validation) / 3)
        if epochs:
            words.append(f"{counted(epochs, 'epoch')} on {counted(len(stage.indices), 'image')} of {stage.name}")
    seconds = (images + len(trainer.images.rows) / 3) * trainer.seconds_an_image()
    after = f", going on after epoch {state.epochs}" if state.epochs else ""
    text = f"Fine-tuning from {recipe.fine_tune} on in {precision}{after}: {', then '.join(words) or 'only the end'}"
    return f"{text}; about {duration(seconds)}."


def _before(head: keras.Model, features: Features, recipe: Recipe) -> dict[str, float]:
    """Epoch 0 of the history: the head that the first stage begins with, on the stored features."""
    copy, row = _copied_head(head, recipe), {"epoch": 0}
    for split, name in (("train", ""), ("validation", "val_")):
        if len((part := features.of(split)).rows):
            logits = np.asarray(copy(part.values[:, pool_columns(recipe)], training=False))
            row |= {f"{name}{key}": value for key, value in numbers(logits, part.labels).items()}
    return row


def _result(run: Run, trainer: Trainer, state: State) -> tuple[dict, dict[str, bytes]]:
    """Facts and files: the weights, the ranges of the features, and the predictions for validation."""
    network, rows = trainer.network, trainer.images.rows
    weights = {"/".join(w.path.split("/")[-2:]): np.array(w) for w in network.trainable_variables if "_conv" in w.path}
    weights = {f"base/{name}": weight for name, weight in weights.items()} | head_arrays(network.get_layer("head"))
    seen, values = trainer.outputs(keras.Model(network.input, features_of(network, trainer.recipe)), range(len(rows)))
    split = np.array([rows[index].split for index in seen])
    ranges = fit_ranges(values[split == "train"], values[split == "validation"])
    logits = state.arrays.get("validation/logits", np.zeros((0, len(run.classes)))).astype(np.float64)
    held_out = [rows[index] for index in state.arrays.get("validation/indices", ())]
    facts, files = model_files(FINE_TUNED, weights, ranges, held_out, logits, run.classes)
    return facts | {"held_out": len(held_out)}, files
