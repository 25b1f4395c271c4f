"""What several verbs share: output, TensorFlow's start, census, split, training."""

import contextlib
import itertools
import json
import os
import sys
from datetime import datetime
from pathlib import Path

from vggnb.archives import TABLES
from vggnb.paths import WEIGHTS, Workspace, check_outside, check_writable, open_workspace
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, make_folder, mendable
from vggnb.workflow import Dataset, is_same, open_dataset, train

CHOICES = "image_size batch_size seed epochs learning_rate class_weights patience hold_out fine_tune".split()


def show(options, document: object, text: object) -> None:
    """Write the result to stdout: the JSON document, or the text."""
    write(json.dumps(document, allow_nan=False) if options.json else text, options.stdout)


def note(options, text: object) -> None:
    """Write a note: to stderr if stdout is for a document."""
    write(text, sys.stderr if options.json or getattr(options, "csv", False) else sys.stdout)


def write(text: object, file, end: str = "\n") -> None:
    """Write and flush; a closed pipe (`| head`) ends the program silently."""
    try:
        print(text, file=file, end=end, flush=True)
    except OSError as error:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), file.fileno())  # Python flushes again at its exit, and would fail again
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        raise mendable(error, "the standard output") from None


def start_tensorflow() -> None:
    """Import TensorFlow without the messages of its start; VGGNB_THREADS is its number of threads.

    Raises:
        VggnbError: it is not installed.
    """
    sys.stderr.flush()
    kept = os.dup(2)  # the messages come from C++, below Python's sys.stderr
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        from vggnb.generators import tf

        tf.constant(0)
    except ModuleNotFoundError as error:
        remedy = 'Install it: pip install "vggnb[cpu]", or [gpu]. To predict without it: --engine onnxruntime.'
        raise VggnbError(f"TensorFlow is not installed ({error}).", sys.executable, remedy) from None
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def run_folder(path: Path) -> Path:
    """The folder of a run; where the bundle in it is named, the run's."""
    is_bundle = (path / "bundle.json").is_file() and not (path / "run.json").is_file()
    if is_bundle and not (path.parent / "run.json").is_file():
        remedy = "Name the folder of the run from which it was saved: its run.json, manifest.csv and images are needed."
        raise VggnbError("This is a bundle, not a run.", path, remedy)
    return path.parent if is_bundle else path


def opened_run(path: Path, weights: str | None = None):
    """The run in a folder, with TensorFlow started."""
    start_tensorflow()
    from vggnb.train import open_run

    return open_run(run_folder(path), weights=weights)


def opened(options, workspace: Workspace, recipe: Recipe) -> Dataset:
    """The dataset; census and split are shown."""
    dataset = open_dataset(workspace, recipe, max_files=options.max_archive_files, progress=not options.quiet)
    note(options, dataset)
    return dataset


def recipe_of(options, workspace: Workspace, sample: bool) -> Recipe:
    """The chosen recipe, with the choices that were given."""
    changes = {name: getattr(options, name, None) for name in CHOICES}
    changes = {name: value for name, value in changes.items() if value is not None and value is not False}
    if sample:
        changes.setdefault("image_size", workspace.image_size)
    if "patience" in changes:
        changes["decay"] = False  # the validation loss lowers the learning rate instead
    if getattr(options, "augment", None):
        changes["augment"] = tuple(options.augment.split(",")) if options.augment != "none" else ()
    recipe = Recipe.named(options.recipe)
    if recipe.fine_tune or "fine_tune" in changes:  # then it is fine-tuning that takes the time
        for name, fine in (("epochs", "fine_tune_epochs"), ("learning_rate", "fine_tune_rate")):
            if name in changes:
                changes[fine] = changes.pop(name)
    return recipe.with_(**changes)


def _check_outside(options, workspace: Workspace, out: Path | None) -> None:
    """Refuse to write where the images are, or where nothing can be written, before the census."""
    table = workspace.dataset.suffix.lower() in TABLES
    images = workspace.dataset.parent if table else workspace.dataset
    check_outside(out or workspace.runs, images, "The run's folder", "--out")
    check_outside(options.store or workspace.features, images, "The feature store", "--store")
    check_writable(out or workspace.runs)
    check_writable(options.store or workspace.features)


def weights_of(options, workspace: Workspace) -> str:
    """The chosen weights; a file by its absolute path, so that the run can be opened from anywhere."""
    weights = options.weights or workspace.weights
    return weights if weights in WEIGHTS else str(Path(os.path.expanduser(weights)).absolute())


def _unfinished_run(runs: Path, dataset: Dataset, weights: str) -> Path | None:
    """The newest run of the same images and choices that has no bundle and is not locked by a process."""
    from vggnb.train.lock import run_lock

    for folder in sorted(runs.glob(f"{dataset.recipe.name}-*"), reverse=True):
        has_bundle = (folder / "bundle" / "bundle.json").is_file()
        with contextlib.suppress(VggnbError):
            if not has_bundle and is_same(folder, dataset.manifest, dataset.recipe, weights):
                with run_lock(folder):
                    return folder
    return None


def _new_run_folder(runs: Path, name: str) -> Path:
    """Make a folder named by recipe and time; runs that start in the same second get one each."""
    make_folder(runs)
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for folder in (runs / (f"{stem}-{number}" if number > 1 else stem) for number in itertools.count(1)):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def trained(options):
    """Census, split and training: (run, the JSON keys of train)."""
    workspace = open_workspace(dataset=options.dataset)
    recipe = recipe_of(options, workspace, options.dataset in (None, "sample"))
    _check_outside(options, workspace, options.out)
    start_tensorflow()
    from vggnb.metrics import positive_class
    from vggnb.train import History

    unused = [f"--{name.replace('_', '-')}" for name in ("epochs", "learning_rate") if getattr(options, name)]
    if unused and recipe.is_solved_exactly and not recipe.fine_tune:
        note(options, f"{' and '.join(unused)}: no effect, since the head of this recipe is solved exactly.")
    dataset = opened(options, workspace, recipe)
    positive_class(dataset.manifest.classes, options.positive)  # wrong? better now than after an hour
    weights, out = weights_of(options, workspace), options.out
    if out is None and not options.fresh and (out := _unfinished_run(workspace.runs, dataset, weights)):
        note(options, f"Continuing the unfinished run in {out}")
    out = make_folder(out) if out else _new_run_folder(workspace.runs, recipe.name)
    settings = {"precision": options.precision, "fresh": options.fresh, "progress": not options.quiet}
    run = train(dataset, out, weights=weights, store=options.store, **settings)
    history = run.history()
    note(options, run)
    document = {"run": str(out), "epochs": len(history.rows), "history": list(history.rows)}
    if tuned := run.fine_tuned():
        note(options, f"Fine-tuning: {History(tuple(tuned['history']))}")
        keys = ("from_block", "epochs", "learning_rate", "augment", "precision", "fitted_on", "history")
        document["fine_tune"] = {key: tuned[key] for key in keys}
    return run, document | {"timing": run.training()["timing"], "precision": run.source.precision}
