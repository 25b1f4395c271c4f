"""What several verbs share: output, TensorFlow's start, census, split, training."""

import contextlib
import itertools
import json
import os
import sys
from datetime import datetime
from pathlib import Path

from vggnb.paths import WEIGHTS, Workspace, open_workspace
from vggnb.recipe import Recipe
from vggnb.staging import archive_in
from vggnb.storage import VggnbError, check_outside, check_writable, make_folder, mendable
from vggnb.workflow import Dataset, is_same, open_dataset, train

CHOICES = "image_size batch_size seed epochs learning_rate class_weights patience hold_out fine_tune augment".split()


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
    """Import TensorFlow without the messages of its start; VGGNB_THREADS is its number of threads."""
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
    if (path / "run.json").is_file() or not (path / "bundle.json").is_file():
        return path
    if not (path.parent / "run.json").is_file():
        remedy = "Name the folder of the run from which it was saved: its run.json, manifest.csv and images are needed."
        raise VggnbError("This is a bundle, not a run.", path, remedy)
    return path.parent


def opened_run(path: Path, weights: str | None = None):
    """The run in a folder, with TensorFlow started."""
    start_tensorflow()
    from vggnb.train import open_run

    return open_run(run_folder(path), weights=weights and weights_of(weights))


def opened(options, workspace: Workspace, recipe: Recipe) -> Dataset:
    """The dataset; census and split are shown."""
    dataset = open_dataset(workspace, recipe, max_files=options.max_archive_files, progress=not options.quiet)
    note(options, dataset)
    return dataset


def recipe_of(options, workspace: Workspace, sample: bool) -> Recipe:
    """The chosen recipe, with the choices that were given.

    Raises:
        VggnbError: one of them is out of range; its option is named.
    """
    recipe = Recipe.named(options.recipe)
    if sample:
        recipe = recipe.with_(image_size=workspace.image_size)
    if getattr(options, "patience", None):
        recipe = recipe.with_(decay=False)  # the validation loss lowers the learning rate instead
    given = {name: getattr(options, name, None) for name in CHOICES}
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    names = {}
    if recipe.fine_tune or "fine_tune" in given:  # then it is fine-tuning that takes the time
        names = {"epochs": "fine_tune_epochs", "learning_rate": "fine_tune_rate"}
    for name, value in given.items():
        try:
            recipe = recipe.with_(**{names.get(name, name): () if value == "none" else value})
        except VggnbError as error:
            option, remedy = f"--{name.replace('_', '-')}", error.remedy.replace("None, ", "")
            raise VggnbError(f"{option} cannot be {value!r}.", option, remedy) from None
    return recipe


def weights_of(weights: str) -> str:
    """The weights; a file, which must be there, by its absolute path, so that the run can be opened from anywhere."""
    if weights in WEIGHTS:
        return weights
    path = Path(os.path.expanduser(weights)).absolute()
    if not path.is_file():
        raise VggnbError("There is no such weights file.", path, "Check the name, or use imagenet or offline.")
    return str(path)


def _check_places(options, workspace: Workspace, recipe: Recipe) -> None:
    """Refuse, before the census, to write where the images are, where nothing can be written, or into another run."""
    from vggnb.train.runs import check_empty, check_same, open_run

    images = workspace.dataset  # a table's folder may hold anything: only what the table names is used
    for path, what, option in (
        (options.out or workspace.runs, "The run's folder", "--out"),
        (options.store or workspace.features, "The feature store", "--store"),
    ):
        check_outside(path, images, what, option)
        check_writable(path)
    if options.out and not (options.out / "run.json").is_file():
        check_empty(options.out)
    elif options.out:
        run = open_run(options.out)
        check_same(run, run.manifest, recipe)
        unpacked = images.is_dir() and archive_in(images) is None
        if unpacked and not any((images / row.path).is_file() for row in run.manifest.rows[:20]):
            what = f"This folder holds a run that was trained on other images: those in {run.manifest.dataset}."
            raise VggnbError(what, options.out, "Name a new folder for this run with --out.")


def _unfinished_run(runs: Path, dataset: Dataset, weights: str) -> Path | None:
    """The newest run of the same images and choices that has no bundle and is not locked by a process."""
    from vggnb.train.runs import run_lock

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
    weights, out = weights_of(options.weights or workspace.weights), options.out
    start_tensorflow()
    from vggnb.metrics import positive_class
    from vggnb.train import History

    _check_places(options, workspace, recipe)
    unused = [f"--{name.replace('_', '-')}" for name in ("epochs", "learning_rate") if getattr(options, name)]
    if unused and recipe.is_solved_exactly and not recipe.fine_tune:
        note(options, f"No effect: {' and '.join(unused)}. The head of this recipe is solved exactly, without epochs.")
    dataset = opened(options, workspace, recipe)
    positive_class(dataset.manifest.classes, options.positive)  # wrong? better now than after an hour
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
