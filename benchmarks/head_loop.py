"""What the comforts of `fit` cost: 50 epochs of a head, beside the same epochs as a bare compiled TensorFlow loop.

    python benchmarks/head_loop.py [--images 2637] [--epochs 50] [--recipe article] [--repeats 3] [--json]

Made-up features of the recipe's width (512 for the article). The bare loop does nothing but steps: no validation, no
metrics, no history, no checkpoint, no file. Ours is the whole call of `fit`, with validation on a fifth more images,
the head written at the end. Both start from the same weights and take the same
batches; the time of each holds its own compiling. They are timed in turn, and the middle of the repeats counts.
`keras_over_bare` is Keras's `fit` as it comes: a call of TensorFlow for each batch, no validation.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tell import document as print_document
from tell import where, with_json

from vggnb.census import Manifest, Row
from vggnb.features import Features
from vggnb.generators import epoch_order
from vggnb.model import build_head, compile_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.train import Run, fit, start_run
from vggnb.train.head import ordered_batches
from vggnb.weights import WeightSource


def made_up(images: int) -> Features:
    """Features of two classes; a fifth more for validation."""
    splits = ["train"] * images + ["validation"] * (images // 5)
    rows = tuple(
        Row(f"{i}.png", f"{i:064x}", 96, 96, "PNG", "ab"[i % 2], i % 2, split) for i, split in enumerate(splits)
    )
    values = np.random.default_rng(0).standard_normal((len(rows), 2944), np.float32)
    values[:, -1] += [row.label for row in rows]
    return Features(rows, values, 0, len(rows), 0.0)


def head_for(recipe: Recipe, values: np.ndarray) -> keras.Model:
    """The recipe's head, compiled."""
    head = build_head(recipe, 2, images=len(values))
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    compile_head(head, recipe)
    return head


def bare(recipe: Recipe, values: np.ndarray, labels: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Seconds of nothing but steps, each epoch one call, and the weights at the end."""
    head = head_for(recipe, values)
    start, variables = time.perf_counter(), head.trainable_variables
    head.optimizer.build(variables)
    loss, count = keras.losses.get(recipe.loss(2)), len(values)
    values, labels = tf.constant(values), tf.constant(labels)

    @tf.function
    def epoch(order):
        for at in tf.range(0, count, recipe.batch_size):
            some = order[at : at + recipe.batch_size]
            with tf.GradientTape() as tape:
                outputs = head(tf.gather(values, some), training=True)
                total = tf.reduce_mean(loss(tf.gather(labels, some), outputs)) + sum(head.losses)
            head.optimizer.apply(tape.gradient(total, variables), variables)

    for number in range(recipe.epochs):
        epoch(tf.constant(epoch_order(count, seed=recipe.seed, epoch=number)))
    weights = head.get_weights()
    return time.perf_counter() - start, weights


def plain_keras(recipe: Recipe, values: np.ndarray, labels: np.ndarray) -> float:
    """Seconds of Keras's `fit` as it comes, on the same batches, without validation."""
    head, steps = head_for(recipe, values), -(-len(values) // recipe.batch_size)
    start = time.perf_counter()
    batches = ordered_batches(values, labels, recipe)
    head.fit(batches, epochs=recipe.epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
    return time.perf_counter() - start


def ours(recipe: Recipe, features: Features, folder: Path) -> tuple[float, Run]:
    """Seconds of the whole of `fit`, and the run."""
    manifest = Manifest(folder / "none", ("a", "b"), features.rows)
    source = WeightSource("made-up features", "0" * 64, False)
    run = start_run(folder / "run", manifest, recipe, weights="none", source=source)
    start = time.perf_counter()
    fit(run, features, progress=False)
    return time.perf_counter() - start, run


def measure(recipe: Recipe, images: int, repeats: int) -> dict:
    """All of it, in turn; the middle of the repeats."""
    features = made_up(images)
    train = features.of("train")
    values, labels = train.values[:, pool_columns(recipe)], train.labels
    seconds: dict[str, list[float]] = {"bare": [], "ours": [], "keras": []}
    for _ in range(repeats):
        took, expected = bare(recipe, values, labels)
        seconds["bare"].append(took)
        with tempfile.TemporaryDirectory() as folder:
            took, run = ours(recipe, features, Path(folder))
            found = run.head().get_weights()
        seconds["ours"].append(took)
        seconds["keras"].append(plain_keras(recipe, values, labels))
    middle = {name: statistics.median(took) for name, took in seconds.items()}
    return {
        "recipe": recipe.name,
        "images": images,
        "features": values.shape[1],
        "epochs": recipe.epochs,
        "bare_s": round(middle["bare"], 2),
        "ours_s": round(middle["ours"], 2),
        "keras_s": round(middle["keras"], 2),
        "ours_over_bare": round(middle["ours"] / middle["bare"], 2),
        "keras_over_bare": round(middle["keras"] / middle["bare"], 2),
        "largest_weight_difference": max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True)),
        "seconds": {name: [round(value, 2) for value in took] for name, took in seconds.items()},
        **where("tensorflow"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2637)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--recipe", default="article")
    parser.add_argument("--repeats", type=int, default=3)
    options = with_json(parser).parse_args()
    recipe = Recipe.named(options.recipe).with_(epochs=options.epochs)
    document = measure(recipe, options.images, options.repeats)
    if options.json:
        print_document(document)
        return
    print(f"{options.epochs} epochs on {options.images} x {document['features']} features ({document['machine']})")
    for name, words in (("bare", "bare loop"), ("ours", "fit"), ("keras", "Keras, a call a batch")):
        print(f"  {words:<24}{document[f'{name}_s']:7.2f} s")
    print(f"  fit over bare           {document['ours_over_bare']:7.2f}  (goal: at most 3)")


if __name__ == "__main__":
    main()
