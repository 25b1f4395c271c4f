"""An epoch of fine-tuning: the whole network with its first layers frozen, beside ours on stored activations.

    python benchmarks/fine_tune.py [DATASET] [--image-size 224] [--from-block block5_conv1] [--epochs 3] [--json]

Both train the same layers on the same pictures, one after the other in one process; the first epoch, which also
compiles, is not counted. Ours runs the frozen layers once for each picture beforehand, which is told apart. Nothing
else should run meanwhile. Without DATASET, the sample.
"""

import tempfile
import time
from pathlib import Path

import keras
from tell import main, parser, where
from train_cost import EpochTimes

from vggnb.census import Manifest, assign_splits, take_census
from vggnb.generators import make_dataset
from vggnb.model import build_classifier
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.train import Run, fine_tune, train


def whole(run: Run, manifest: Manifest, base: keras.Model, block: str, epochs: int) -> float:
    """Seconds of an epoch through the whole network, of which the layers from `block` on learn."""
    names = [layer.name for layer in base.layers]
    base.trainable = True
    for layer in base.layers[: names.index(block)]:
        layer.trainable = False
    model, times = build_classifier(base, run.head(), run.recipe), EpochTimes()
    model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = [make_dataset(manifest, split, run.recipe, training=split == "train") for split in ("train", "validation")]
    model.fit(data[0], validation_data=data[1], epochs=epochs, callbacks=[times], verbose=0)
    return times.mean()


def measure(options) -> dict:
    """Both, side by side."""
    recipe = Recipe.article().with_(image_size=options.image_size)
    manifest = assign_splits(take_census(options.dataset or sample_folder(), progress=False))
    clock = EpochTimes()
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        store, source = Path(scratch) / "features", options.weights
        run, features = train(manifest, recipe, Path(scratch) / "run", weights=source, store=store, progress=False)
        base, start = run.base(), time.perf_counter()
        fine_tune(
            run, features, store=store, from_block=options.from_block, epochs=options.epochs,
            patience=options.epochs, base=base, progress=lambda _: clock,
        )  # fmt: skip
        ours_s = time.perf_counter() - start
        whole_epoch_s = whole(run, manifest, base, options.from_block, options.epochs)
    ours_epoch_s = clock.mean()
    return {
        "images": len(manifest.of("train")) + len(manifest.of("validation")),
        "image_size": options.image_size,
        "from_block": options.from_block,
        "whole_epoch_s": whole_epoch_s,
        "ours_epoch_s": ours_epoch_s,
        "whole_over_ours": whole_epoch_s / ours_epoch_s,
        "ours_beforehand_s": ours_s - sum(clock.seconds),
        **where("tensorflow"),
    }


if __name__ == "__main__":
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--from-block", default="block5_conv1")
    arguments.add_argument("--epochs", type=int, default=3, help="2 or more; the first is not counted")
    main(measure, arguments)
