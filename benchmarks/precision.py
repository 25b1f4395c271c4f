"""What 16 bits cost and bring: speed of the frozen network, features, decisions and AUC beside float32.

    python benchmarks/precision.py [DATASET] [--precisions bfloat16 float16] [--images 0] [--image-size 224] [--json]

For each precision `Recipe.best()` is trained and its test images are predicted, both in this precision. Speed is that
of the fastest of some batches that are in memory already. "feature_difference" is the mean difference of the test
images' features as a part of their mean. Without --precisions, what "auto" decides here; --images takes so many of
each split. Nothing else should run meanwhile.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from tell import main, parser, where

from vggnb.census import Manifest, assign_splits, take_census
from vggnb.device import decide_precision
from vggnb.evaluate import predict_split
from vggnb.features import extract
from vggnb.model import build_base, build_extractor, compiled
from vggnb.paths import SPLITS, sample_folder
from vggnb.recipe import Recipe
from vggnb.train import train


def images_per_s(extractor, size: int, *, batches: int, batch: int = 32) -> float:
    """Of the fastest batch, after one that compiles."""
    run = compiled(extractor)
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
    times = []
    for _ in range(batches + 1):
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return batch / min(times[1:])


def area(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """AUC; of each class against the others where there are more than two."""
    scores = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return float(roc_auc_score(labels, scores, multi_class="ovr"))


def outcome(manifest: Manifest, recipe: Recipe, precision: str, folder: Path, options) -> dict:
    """Speed, features and predictions of one precision."""
    base, source = build_base(recipe, options.weights, precision=precision)
    how = {"store": folder / "store", "progress": False}
    run, _ = train(manifest, recipe, folder / precision, weights=options.weights, precision=precision, **how)
    test = extract(manifest, recipe, base, source, splits=("test",), **how)
    predictions = predict_split(run, "test", progress=False)
    speed = images_per_s(build_extractor(base, recipe), recipe.image_size, batches=options.batches)
    return {"images_per_s": speed, "features": test.values, "predictions": predictions}


def measure(options) -> dict:
    """The contract's numbers."""
    recipe = Recipe.best().with_(image_size=options.image_size)
    manifest = assign_splits(take_census(options.dataset or sample_folder(), progress=False))
    if options.images:
        chosen = np.random.default_rng(0)
        rows = [chosen.permutation(np.array(manifest.of(split), object))[: options.images] for split in SPLITS]
        manifest = replace(manifest, rows=tuple(np.concatenate(rows)))
    auto, why = decide_precision("auto")
    names = ["float32", *(name for name in options.precisions or [auto] if name != "float32")]
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        found = {name: outcome(manifest, recipe, name, Path(scratch), options) for name in names}
    exact, result = found["float32"], {}
    for name, one in found.items():
        p, truth = one["predictions"].probabilities, one["predictions"].labels
        changed = p.argmax(axis=1) != exact["predictions"].probabilities.argmax(axis=1)
        result[name] = {
            "images_per_s": one["images_per_s"],
            "over_float32": one["images_per_s"] / exact["images_per_s"],
            "feature_difference": float(np.abs(one["features"] - exact["features"]).mean() / exact["features"].mean()),
            "decisions_changed": float(changed.mean()),
            "auc_difference": area(p, truth) - area(exact["predictions"].probabilities, truth),
        }
    counts = {split: len(manifest.of(split)) for split in SPLITS}
    return {"precisions": result, "auto": auto, "why": why, "images": counts, **where("tensorflow", "keras")}


if __name__ == "__main__":
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--precisions", nargs="*", help="besides float32")
    arguments.add_argument("--images", type=int, default=0, help="of each split, at most (0: all)")
    arguments.add_argument("--batches", type=int, default=4)
    main(measure, arguments)
