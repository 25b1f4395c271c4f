"""The whole job in four calls, which the quickstart and `vggnb run` share: open, train, evaluate, take home.

The third is `evaluate.evaluate`. What needs TensorFlow is imported when it is called.
"""

import itertools
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from vggnb import colab
from vggnb.census import Census, Manifest, assign_splits, open_census
from vggnb.folders import counted, html_table, shown
from vggnb.machine import environment
from vggnb.paths import SPLITS, Workspace
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, read_json, replacing

if TYPE_CHECKING:
    from vggnb.train import Run

MOST = 20  # skipped files in the text
MOST_IN_TABLE = 5  # and below the table in a notebook


@dataclass(frozen=True, repr=False)
class Dataset:
    """What a training begins with: every image with its split, what is wrong with the others, and the recipe."""

    workspace: Workspace
    recipe: Recipe
    census: Census
    manifest: Manifest

    def __str__(self) -> str:
        return "\n".join([census_text(self.census), *self.manifest.sentences])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: images by class and split, then what should be looked at."""
        counts, census = self.manifest.counts(), self.census
        rows = [(name, *(found := [counts[split][name] for split in SPLITS]), sum(found)) for name in census.classes]
        rows.append(("total", *(sum(counts[split].values()) for split in SPLITS), len(self.manifest.rows)))
        title = f"{self.workspace.runs.name}: {counted(len(census.rows), 'image')} in {len(census.classes)} classes"
        more = len(census.skipped) - MOST_IN_TABLE
        notes = [f"skipped: {item}" for item in census.skipped[:MOST_IN_TABLE]]
        where = "lists them" if len(census.skipped) <= MOST else f"lists the first {MOST}"
        notes += [f"and {counted(more, 'more skipped file')}: print(dataset) {where}"] * (more > 0)
        notes += [*census.warnings, *[*census.conflicts, *census.leaks][:MOST_IN_TABLE], *self.manifest.sentences]
        return html_table(("class", *SPLITS, "total"), rows, title=title, notes=notes)


def census_text(census: Census) -> str:
    """The census and its first skipped files."""
    lines = [str(census), *(f"skipped {item}" for item in census.skipped[:MOST])]
    more = len(census.skipped) - MOST
    return "\n".join(lines + [f"... and {more} more: vggnb census --json lists them all."] * (more > 0))


def open_dataset(
    workspace: Workspace, recipe: Recipe | None = None, *, max_files: int | None = None, progress: bool = True
) -> Dataset:
    """Look at every file of the workspace's dataset and give each image a split.

    Args:
        recipe: its seed and validation share decide the split; default `Recipe.best()` at the workspace's image size.
        max_files: most files that an archive may hold.

    Raises:
        VggnbError: there is nothing to train on; what was found is printed first.
    """
    recipe = recipe or Recipe.best().with_(image_size=workspace.image_size)
    census = open_census(workspace, max_files=max_files, progress=progress)
    try:
        manifest = assign_splits(census, validation_share=recipe.validation_share, seed=recipe.seed)
    except VggnbError:
        print(census_text(census))
        raise
    return Dataset(workspace, recipe, census, manifest)


def train(
    dataset: Dataset,
    folder: Path | None = None,
    *,
    weights: str | None = None,
    store: Path | None = None,
    precision: str | None = None,
    fresh: bool = False,
    progress: bool = True,
    **choices,
) -> "Run":
    """Train on a dataset: features once, the head, and fine-tuning if the recipe has it.

    Args:
        folder: of the run. By default the one in `workspace.runs` that was trained with the same images and choices,
            which is opened and not trained again; if there is none, a new one.
        weights, store, precision: by default the workspace's.
        fresh: train again.
        choices: of the recipe, such as `class_weights=True`; see `Recipe.with_`.
    """
    from vggnb import train as training

    workspace, recipe = dataset.workspace, dataset.recipe.with_(**choices)
    settings = {"weights": weights or workspace.weights, "store": store or workspace.features, "fresh": fresh}
    if folder is None:
        folder = _folder_for(workspace.runs, dataset.manifest, recipe, settings["weights"])
        if not fresh and (folder / "run.json").is_file() and (run := training.open_run(folder)).is_trained():
            print(f"Already trained with the same images and choices: opening the run '{folder.name}'.")
            from vggnb.train.runs import in_place

            return in_place(run, dataset.manifest)
    settings |= {"precision": precision or workspace.precision, "progress": progress}
    run, features = training.train(dataset.manifest, recipe, folder, **settings)
    print(f"{run.source}\n{features}")
    return run


def _folder_for(runs: Path, manifest: Manifest, recipe: Recipe, weights: str) -> Path:
    """The first of best, best-2, ... that is absent or was begun with these images and choices."""
    for number in itertools.count(1):
        folder = runs / (f"{recipe.name}-{number}" if number > 1 else recipe.name)
        if not folder.exists() or is_same(folder, manifest, recipe, weights):
            return folder


def is_same(folder: Path, manifest: Manifest, recipe: Recipe, weights: str) -> bool:
    """Whether the run in a folder, finished or not, was begun with these images and choices."""
    from vggnb.train import Run, open_run
    from vggnb.train.runs import check_same

    try:
        if (folder / "run.json").is_file() and open_run(folder).weights != weights:
            return False
        begun = Recipe.from_dict(read_json(folder / "recipe.json"))
        check_same(Run(folder, begun, Manifest.read(folder / "manifest.csv"), weights, None), manifest, recipe)
    except VggnbError:
        return False
    return True


@dataclass(frozen=True, repr=False)
class Results:
    """Files to keep; in Colab they were sent to the user's computer."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{path.name:<28} {path.stat().st_size / 1e6:7.1f} MB  {path}" for path in self.files]
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from markupsafe import Markup

        rows = []
        for path in self.files:
            name = shown(path.name)
            if path.is_relative_to(Path.cwd()) and environment() != "colab":
                link = Markup('<a href="{}" download>{}</a>')  # its format() escapes
                name = link.format(quote(os.fsencode(path.relative_to(Path.cwd()).as_posix())), name)
            rows.append((name, f"{path.stat().st_size / 1e6:.1f} MB", path.parent))
        return html_table(("file", "size", "folder"), rows, notes=self.notes)


def take_home(run: "Run", *, progress: bool = True) -> Results:
    """Write the files to keep of a run beside it: report.html, and a .zip of the bundle with its web page.

    In Colab the browser downloads both; elsewhere they are listed with their folder.
    """
    from vggnb.report import write_report
    from vggnb.save import save_bundle, update_threshold
    from vggnb.share import share_page

    report, _ = write_report(run, progress=progress)
    bundle, notes = run.folder / "bundle", []
    if not update_threshold(run, bundle):
        save_bundle(run, bundle, formats="keras")
    folders = {"bundle": bundle}
    for weights in ("int8", "float16"):  # where int8 is too coarse, its page is refused
        try:
            share_page(run.folder, run.folder / "page", weights=weights, single_file=True, progress=progress)
            folders["page"] = run.folder / "page"
            break
        except VggnbError as error:
            failure = f"The web page was left out: {error.what} {error.remedy}"
    else:
        notes.append(failure)
    name = read_json(bundle / "bundle.json")["name"]
    archive = run.folder / f"{name}-model.zip"
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:  # weights hardly get smaller
        for key, folder in folders.items():
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                packed.write(path, os.path.join(f"{name}-model", key, path.relative_to(folder)))
    files = (report, archive)
    if environment() == "colab":
        for path in files:
            colab.download(path)
        notes.append("Your browser is downloading both files; if it asks, allow multiple downloads.")
    return Results(files, tuple(notes))
