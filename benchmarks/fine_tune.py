"""What fine-tuning gains and costs: the head alone beside head and convolutions, on the same images.

    python benchmarks/fine_tune.py [DATASET] [--image-size 96] [--from-block block3_conv1] [--epochs 8] [--precision P]

Trains `Recipe.best()`, then fine-tunes it with validation held out, and evaluates both on test. Without DATASET, the
sample.
"""

import tempfile
import time
from pathlib import Path

from tell import main, parser, where

from vggnb.census import assign_splits, take_census
from vggnb.evaluate import evaluate
from vggnb.features import extract
from vggnb.model import build_base
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.train import fine_tune, fit, start_run


def scores(run) -> dict[str, float]:
    """Accuracy and AUC on test."""
    metrics = evaluate(run, progress=False).metrics
    return {name: round(metrics[name].value, 4) for name in ("accuracy", "auc") if name in metrics}


def measure(options) -> dict:
    """Both, one after the other."""
    recipe = Recipe.best().with_(image_size=options.image_size, hold_out=True)
    recipe = recipe.with_(fine_tune=options.from_block, fine_tune_epochs=options.epochs)
    manifest = assign_splits(take_census(options.dataset or sample_folder(), progress=False))
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        base, source = build_base(recipe, options.weights, precision=options.precision)
        start = time.perf_counter()
        run = start_run(Path(scratch) / "run", manifest, recipe, weights=options.weights, source=source)
        features = extract(manifest, recipe, base, source, store=Path(scratch) / "features", progress=False)
        fit(run, features, progress=False)
        head_s, head = time.perf_counter() - start, scores(run)
        start = time.perf_counter()
        history = fine_tune(run, features, base=base, progress=False)
        fine_s, fine = time.perf_counter() - start, scores(run)
    count = len(manifest.of("train"))
    return {
        "images": count,
        "image_size": options.image_size,
        "from_block": options.from_block,
        "precision": options.precision,
        "head": {**head, "seconds": head_s},
        "fine_tuned": {**fine, "seconds": fine_s},
        "images_per_s": count * options.epochs / fine_s,
        "validation_loss": [round(row["val_loss"], 4) for row in history.rows],
        **where("tensorflow"),
    }


if __name__ == "__main__":
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--from-block", default="block3_conv1")
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--precision", default="float32", help="float32, bfloat16 or float16")
    main(measure, arguments)
