"""What the models are worth: the article's recipe, 50 epochs, beside ours, on the same test images.

    python benchmarks/quality.py [DATASET] [--seeds 1] [--image-size 224] [--json]

Each seed cuts off its own validation images and, where the dataset is not split, its own test images. Printed are
the means over the seeds, for how many of them ours was greater, and of the first seed ours less the article's with the
95 % interval of a paired bootstrap. Without DATASET, the sample.
"""

import tempfile
from pathlib import Path

import numpy as np
from tell import main, parser, where

from vggnb.census import assign_splits, take_census
from vggnb.evaluate import compare, evaluate
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.train import train

SHOWN = ("accuracy", "sensitivity", "auc", "macro_f1", "ece")


def measure(options) -> dict:
    """Both recipes for every seed; the test images choose nothing."""
    census = take_census(options.dataset or sample_folder(), progress=False)
    recipes = [Recipe.article().with_(epochs=50), Recipe.best()]
    reports, comparisons = [], []
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        for seed in range(options.seeds):
            manifest, runs = assign_splits(census, seed=seed), []
            for recipe in recipes:
                recipe = recipe.with_(seed=seed, image_size=options.image_size)
                out, store = Path(scratch) / f"{recipe.name}-{seed}", Path(scratch) / "features"
                run, _ = train(manifest, recipe, out, weights=options.weights, store=store, progress=False)
                runs.append(run)
            reports.append([evaluate(run, progress=False).metrics for run in runs])
            comparisons.append(compare(*runs, progress=False).differences)
    names = [name for name in SHOWN if name in comparisons[0]]
    values = {name: np.array([[one[name].value for one in pair] for pair in reports]) for name in names}
    return {
        "train": len(manifest.of("train")),
        "test": len(manifest.of("test")),
        "image_size": options.image_size,
        "seeds": options.seeds,
        "article": {name: float(found[:, 0].mean()) for name, found in values.items()},
        "ours": {name: float(found[:, 1].mean()) for name, found in values.items()},
        "ours_greater": {name: int((found[:, 1] > found[:, 0]).sum()) for name, found in values.items()},
        "first_seed": {name: str(comparisons[0][name]) for name in names},
        "first_seed_article": {name: str(reports[0][0][name]) for name in names},
        "first_seed_ours": {name: str(reports[0][1][name]) for name in names},
        **where("tensorflow"),
    }


if __name__ == "__main__":
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--seeds", type=int, default=1)
    main(measure, arguments)
