"""What 5 and 50 epochs cost: the article's loop, the Keras guide's loop, and ours, beside one bare forward pass.

    python benchmarks/train_cost.py [DATASET] [--image-size 224] [--epochs 3] [--json]

All are measured in one process on the same images, one after the other; nothing else should run meanwhile. The two
loops are measured over a few epochs and extrapolated: the first epoch, which also compiles, plus the mean of the others
for each of the rest. The forward pass and both loops run in float32, as written; ours runs in the precision that "auto"
chooses here, and in float32 once more ("equal_precision"). Each image passes once: flips would cost a pass each.
Without DATASET, the sample.
"""

import shutil
import tempfile
import time
from pathlib import Path

import keras
import tensorflow as tf
from tell import main, parser, where

from vggnb.census import Manifest, assign_splits, take_census
from vggnb.device import decide_precision
from vggnb.features import extract
from vggnb.generators import make_dataset
from vggnb.model import build_base, build_classifier, build_head
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.train import fit, start_run

SPLITS = ("train", "validation")


class EpochTimes(keras.callbacks.Callback):
    """Seconds of each epoch, validation included."""

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.seconds, self.start = [], time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stop it and start it again."""
        now = time.perf_counter()
        self.seconds.append(now - self.start)
        self.start = now

    def mean(self) -> float:
        """Of the epochs after the first, which also compiles."""
        later = self.seconds[1:] or self.seconds
        return sum(later) / len(later)

    def of(self, epochs: int) -> float:
        """Seconds that so many epochs would take."""
        return self.seconds[0] + (epochs - 1) * self.mean()


def as_folders(manifest: Manifest, target: Path) -> Path:
    """Train and validation as folders, for loops that read nothing else."""
    for split in SPLITS:
        for row in manifest.of(split):
            folder = target / split / row.class_name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(manifest.dataset / row.path, folder / Path(row.path).name)
    return target


def forward(manifest: Manifest, recipe: Recipe, base: keras.Model) -> float:
    """Decode and run every image of train and validation through the bare base once."""
    run = tf.function(lambda x: base(x, training=False), reduce_retracing=True)
    run(tf.zeros((recipe.batch_size, recipe.image_size, recipe.image_size, 3)))
    start = time.perf_counter()
    for split in SPLITS:
        for images, _ in make_dataset(manifest, split, recipe):
            run(images)
    return time.perf_counter() - start


def article_loop(folder: Path, recipe: Recipe, weights: str, epochs: int) -> EpochTimes:
    """The article: ImageDataGenerator and `fit` through the whole network, validation after every epoch."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    size = (recipe.image_size, recipe.image_size)
    options = dict(target_size=size, batch_size=recipe.batch_size, class_mode="sparse")
    train, validation = (ImageDataGenerator(rescale=1 / 255).flow_from_directory(folder / s, **options) for s in SPLITS)
    base, _ = build_base(recipe, weights)
    x = keras.layers.GlobalMaxPooling2D()(base.output)
    x = keras.layers.Dense(512, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(base.input, keras.layers.Dense(train.num_classes, activation="sigmoid")(x))
    return timed_fit(model, train, validation, epochs)


def keras_guide_loop(folder: Path, recipe: Recipe, weights: str, epochs: int) -> EpochTimes:
    """The Keras transfer learning guide: `image_dataset_from_directory` and `fit` with a frozen base."""
    size = (recipe.image_size, recipe.image_size)
    read = keras.utils.image_dataset_from_directory
    train, validation = (
        read(folder / s, image_size=size, batch_size=recipe.batch_size, seed=0).prefetch(tf.data.AUTOTUNE)
        for s in SPLITS
    )
    base, _ = build_base(recipe, weights)
    classes = len(read(folder / "train", image_size=size, verbose=False).class_names)
    head = build_head(recipe.with_(two_class_activation="softmax"), classes)
    return timed_fit(build_classifier(base, head, recipe), train, validation, epochs)


def timed_fit(model: keras.Model, train, validation, epochs: int) -> EpochTimes:
    """Train with the article's optimiser and loss and time every epoch."""
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["acc"])
    times = EpochTimes()
    model.fit(train, validation_data=validation, epochs=epochs, verbose=0, callbacks=[times])
    return times


def ours(manifest: Manifest, recipe: Recipe, weights: str, precision: str, scratch: Path, name: str) -> tuple:
    """Our whole training of 50 epochs, and of it the features and the head, in seconds."""
    base, source = build_base(recipe, weights, precision=precision)
    start = time.perf_counter()
    features = extract(manifest, recipe, base, source, store=scratch / "features", progress=False)
    middle = time.perf_counter()
    run = start_run(scratch / f"{name}-{precision}", manifest, recipe, weights=weights, source=source)
    fit(run, features, progress=False)
    end = time.perf_counter()
    return end - start, middle - start, end - middle


def beside(whole: float, forward_s: float, article: EpochTimes, guide: EpochTimes, epochs: int) -> dict:
    """Our seconds for so many epochs beside the others'."""
    return {
        f"ours_{epochs}_s": whole,
        f"ours_{epochs}_over_forward": whole / forward_s,
        f"article_{epochs}_over_ours": article.of(epochs) / whole,
        f"keras_guide_{epochs}_over_ours": guide.of(epochs) / whole,
    }


def measure(options) -> dict:
    """All four, side by side."""
    recipe = Recipe.article().with_(image_size=options.image_size, epochs=50)
    manifest = assign_splits(take_census(options.dataset or sample_folder(), progress=False))
    base, _ = build_base(recipe, options.weights)
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        scratch = Path(scratch)
        folder = as_folders(manifest, scratch / "folders")
        forward_s = forward(manifest, recipe, base)
        auto, _ = decide_precision("auto")
        mine = [options.weights, auto, scratch]
        ours_s, features_s, head_s = ours(manifest, recipe, *mine, "first")
        second_s, _, _ = ours(manifest, recipe.with_(hidden=64), *mine, "second")
        _, _, head_5_s = ours(manifest, recipe.with_(epochs=5), *mine, "short")
        equal_s = ours_s
        if auto != "float32":
            equal_s, _, _ = ours(manifest, recipe, options.weights, "float32", scratch, "equal")
        article = article_loop(folder, recipe, options.weights, options.epochs)
        guide = keras_guide_loop(folder, recipe, options.weights, options.epochs)
    return {
        "images": sum(len(manifest.of(split)) for split in SPLITS),
        "image_size": options.image_size,
        "forward_s": forward_s,
        "features_s": features_s,
        "head_50_s": head_s,
        "head_50_over_forward": head_s / forward_s,
        "article_epoch_s": article.mean(),
        "keras_guide_epoch_s": guide.mean(),
        "epochs_measured": options.epochs,
        "precision": auto,
        **beside(features_s + head_5_s, forward_s, article, guide, 5),
        **beside(ours_s, forward_s, article, guide, 50),
        "equal_precision": beside(equal_s, forward_s, article, guide, 50),
        "second_run_speedup": ours_s / second_s,
        **where("tensorflow"),
    }


if __name__ == "__main__":
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--epochs", type=int, default=3, help="epochs of the two loops that are measured")
    main(measure, arguments)
