"""Begin a run in a folder, or go on with one: the same images, classes, recipe and weights."""

from pathlib import Path

from vggnb.census import Manifest
from vggnb.recipe import Recipe
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, make_folder, write_json
from vggnb.train.lock import LOCK, run_lock
from vggnb.train.run_files import HEAD, RUN_FILE, VALIDATION, record
from vggnb.train.runs import Run, open_run
from vggnb.weights import WeightSource


def start_run(folder: Path, manifest: Manifest, recipe: Recipe, *, weights: str, source: WeightSource) -> Run:
    """Make the folder of a run and write what is decided before training; a trained run with the same decisions stays.

    Raises:
        VggnbError: the folder cannot be written to, is in use, or holds another run or something else.
    """
    folder, facts = Path(folder), None
    run = Run(folder, recipe, manifest, weights, source)
    if (folder / RUN_FILE).is_file():
        check_same(found := open_run(folder), manifest, recipe, source)
        facts = found.training()
    elif folder.is_dir() and not all(map(_is_ours, folder.iterdir())):
        raise VggnbError("This folder holds something else than a run.", folder, "Name a new folder for the run.")
    with run_lock(make_folder(folder)):
        manifest.write(folder / "manifest.csv")  # the dataset may have been moved
        write_json(folder / "recipe.json", recipe.to_dict())
        if facts:
            record(run, facts, {}, extend=True)
    return run


def _is_ours(path: Path) -> bool:
    """Whether a file may be in the folder of an interrupted training."""
    names = ("manifest.csv", "recipe.json", "history.csv", HEAD, VALIDATION, LOCK)
    return path.name in names or path.name.startswith(TEMPORARY_PREFIX)


def check_same(run: Run, manifest: Manifest, recipe: Recipe, source: WeightSource | None = None) -> None:
    """Refuse to train into the folder of a run with other decisions; the first three differences are named."""
    old, new = run.recipe.to_dict(), recipe.to_dict()
    found = [f"{choice} is {old[choice]} there and {new[choice]} here" for choice in new if old[choice] != new[choice]]
    if run.manifest.classes != manifest.classes:
        found.append(f"its classes are {list(run.classes)}, here {list(manifest.classes)}")
    elif _images(run.manifest) != _images(manifest):
        found.append(f"its {len(run.manifest.rows)} images or their splits are not these {len(manifest.rows)}")
    if source is not None and run.source.sha256 != source.sha256:
        found.append("the base's weights are not the same")
    if source is not None and run.source.precision != source.precision:
        found.append(f"its precision is {run.source.precision}, here {source.precision}")
    if found:
        remedy = "Name a new folder for this run, or remove that one."
        raise VggnbError(f"This folder holds another run: {'; '.join(found[:3])}.", run.folder, remedy)


def _images(manifest: Manifest) -> set[tuple[str, str, int]]:
    """Which image is in which split under which label, wherever the dataset lies."""
    return {(row.sha256, row.split, row.label) for row in manifest.rows}
