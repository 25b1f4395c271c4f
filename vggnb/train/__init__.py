"""Fit the head on stored features, or fine-tune from a named layer.

- `runs`: the folder of a run; what was decided when a training began, what came out of it, and its lock
- `ridge`: cross-validation, out-of-fold predictions and the exact solution of a linear head
- `head`: `fit`: that head, or with Adam any other
- `finetune`: `fine_tune`: the last convolutions together with the head
- here: `train` and `open_or_train`, all of it in one call
"""

from pathlib import Path

from vggnb.census import Manifest
from vggnb.device import decide_precision
from vggnb.features import Features, extract
from vggnb.model import build_base
from vggnb.recipe import Recipe
from vggnb.storage import make_folder
from vggnb.train.finetune import fine_tune
from vggnb.train.head import fit
from vggnb.train.runs import RUN_FILE, History, Run, Stopped, check_same, in_place, open_run, run_lock, start_run

__all__ = ["History", "Run", "Stopped", "fine_tune", "fit", "open_or_train", "open_run", "start_run", "train"]


def train(
    manifest: Manifest,
    recipe: Recipe,
    folder: Path,
    *,
    weights: str,
    store: Path,
    precision: str = "float32",
    progress: bool = True,
    fresh: bool = False,
) -> tuple[Run, Features]:
    """Everything from the manifest to a trained run: base, features, head, and fine-tuning if the recipe has it.

    Args:
        precision: see `device.decide_precision`; "auto" is that of the run, where the folder holds one.
        fresh: repeat a fine-tuning, whether it is finished or not, instead of keeping or continuing it.
    """
    of_run = open_run(folder).source.precision if (Path(folder) / RUN_FILE).is_file() else None
    precision, why = decide_precision((precision == "auto" and of_run) or precision)
    if precision == of_run:
        why = f"Precision: {precision}, that of the run."
    if progress and precision != "float32":
        print(why)
    base, source = build_base(recipe, weights, precision=precision)
    with run_lock(make_folder(folder)):
        run = start_run(folder, manifest, recipe, weights=weights, source=source)
        features = extract(manifest, recipe, base, source, store=store, progress=progress)
        # On another machine the head would differ in its last bits, and fine-tuning would have to be repeated.
        if fresh or not (recipe.fine_tune and run.is_trained() and run.fine_tuned()):
            fit(run, features, progress=progress)
    if recipe.fine_tune:
        fine_tune(run, features, base=base, progress=progress, fresh=fresh)
    return run, features


def open_or_train(
    manifest: Manifest, recipe: Recipe, folder: Path, *, weights: str, store: Path, precision: str = "float32"
) -> Run:
    """The trained run in this folder; without one, it is trained first, or an interrupted fine-tuning is continued.

    Raises:
        VggnbError: the folder holds a run with another recipe or other images.
    """
    if (Path(folder) / RUN_FILE).is_file():
        run = open_run(folder)
        check_same(run, manifest, recipe)
        if run.is_trained() and (run.fine_tuned() or not recipe.fine_tune):
            return in_place(run, manifest)
    print(f"The run '{Path(folder).name}' is not trained yet: training it now.")
    return train(manifest, recipe, folder, weights=weights, store=store, precision=precision)[0]
