"""Defective solar cells: article, best and fine on several random splits of a real dataset with a published task.

    python benchmarks/solar_cells.py --json > benchmarks/results/solar_cells.json
    python benchmarks/solar_cells.py [--seeds 3] [--recipes article,best,fine] [--size 224] [--limit N] [--json]

Needs `pip install "vggnb[solar]"` (2,624 images). Each seed draws its own quarter of them for test. Accuracy and AUC
are means over the seeds, on all test images and without those that have a near-duplicate in train (neighbouring wafers
of one ingot); seconds are those of the first seed, with every image forwarded. With --limit, only N images. Page 11
shows the results of the first command, which are committed.
"""

import contextlib
import csv
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from tell import main, parser, where

from vggnb import cli
from vggnb.datasets import solar_cells
from vggnb.storage import csv_text


def measure(options) -> dict:
    """Every recipe on every seed, through the command line as anybody runs it."""
    names, seeds = options.recipes.split(","), list(range(options.seeds))
    found = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        for seed in seeds:
            with contextlib.redirect_stdout(io.StringIO()):
                table = solar_cells(Path(scratch) / str(seed), seed=seed)
            if options.limit:
                shorten(table, options.limit, seed)
            for name in names:
                found[name].append(one(table, name, seed, Path(scratch), options))
    means = ("accuracy", "auc", "accuracy_without_leaks", "auc_without_leaks")
    recipes = {
        name: {key: float(np.mean([each[key] for each in runs])) for key in means}
        | {"seconds": runs[0]["seconds"], "each": runs}
        for name, runs in found.items()
    }
    return {"seeds": seeds, "recipes": recipes, "image_size": options.image_size, **where()}


def one(table: Path, name: str, seed: int, scratch: Path, options) -> dict:
    """Train and evaluate one recipe on one split; the features are stored for the next seed."""
    out, store = scratch / f"{name}-{seed}", scratch / f"features-{name}"
    arguments = ["--recipe", name, "--seed", seed, "--image-size", options.image_size, "--weights", options.weights]
    start = time.perf_counter()
    vggnb("train", table, "--out", out, "--store", store, *arguments)
    seconds = time.perf_counter() - start
    report = vggnb("evaluate", out, "--positive", "defective")
    without = report["without_leaks"] or report
    numbers = {key: report["metrics"][key]["value"] for key in ("accuracy", "auc")}
    numbers |= {f"{key}_without_leaks": without["metrics"][key]["value"] for key in ("accuracy", "auc")}
    return {"seed": seed, "n": report["n"], "leaks": report["leaks"], **numbers, "seconds": round(seconds, 1)}


def vggnb(*arguments) -> dict:
    """What a verb prints with --json."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main([*map(str, arguments), "--json", "--quiet"])
    if code:
        raise SystemExit(code)  # the reason is printed
    return json.loads(printed.getvalue())


def shorten(table: Path, limit: int, seed: int) -> None:
    """Keep `limit` rows of a table, drawn at random."""
    head, *rows = csv.reader(table.read_text("utf-8").splitlines())
    kept = sorted(np.random.default_rng(seed).permutation(len(rows))[:limit])
    table.write_text(csv_text([head, *(rows[k] for k in kept)]), "utf-8")


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--size", dest="image_size", type=int, default=224)
    arguments.add_argument("--limit", type=int)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--recipes", default="article,best,fine")
    main(measure, arguments)
