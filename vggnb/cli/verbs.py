"""What each verb does with its options: the steps of the pages, in their order."""

import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from vggnb.cli.output import show, tell, write
from vggnb.folders import shown
from vggnb.paths import WEIGHTS, Workspace, check_outside, device_words, open_workspace, versions
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, make_folder


def _start_tensorflow() -> None:
    """Import TensorFlow and let it start without its remarks; the number of its threads is VGGNB_THREADS's.

    Raises:
        VggnbError: it is not installed.
    """
    sys.stderr.flush()
    kept = os.dup(2)  # the remarks come from C++, below Python's sys.stderr
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        from vggnb.generators import tf

        tf.constant(0)
    except ModuleNotFoundError as error:
        remedy = 'Install it: pip install "vggnb[cpu]", or [gpu]. Predicting needs none with --engine onnxruntime.'
        raise VggnbError(f"TensorFlow is not installed ({error}).", sys.executable, remedy) from None
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def paths(options) -> None:
    """Where things are, versions, device."""
    workspace = open_workspace()
    document = {**workspace.to_dict(), "versions": versions(), "device": device_words()}
    lines = {**document, "versions": ", ".join(f"{name} {v or 'absent'}" for name, v in document["versions"].items())}
    show(options, document, "\n".join(f"{name:<12} {value}" for name, value in lines.items()))


def _take_census(options, workspace: Workspace):
    from vggnb.census import take_census
    from vggnb.staging import near_copy

    dataset = near_copy(workspace.dataset, workspace.staged, progress=not options.quiet)
    return take_census(dataset, cache=workspace.census_file, progress=not options.quiet)


def census(options) -> None:
    """Look at every file of a dataset."""
    census = _take_census(options, open_workspace(dataset=options.dataset))
    show(options, census.to_dict(), "\n".join([str(census), *_skipped(census)]))


def _skipped(census, most: int = 20) -> list[str]:
    """The files that are not used, by name."""
    lines = [f"skipped {item}" for item in census.skipped[:most]]
    more = len(census.skipped) - most
    return lines + [f"... and {more} more: vggnb census --json lists them all."] * (more > 0)


def _split(options, census, recipe: Recipe):
    """The manifest, with everything about it told."""
    from vggnb.census import assign_splits

    census.check_trainable()
    tell(options, "\n".join([str(census), *_skipped(census)]))
    manifest = assign_splits(census, validation_share=recipe.validation_share, seed=recipe.seed)
    for sentence in manifest.sentences:
        tell(options, sentence)
    return manifest


def _recipe(options, sample: bool, workspace: Workspace) -> Recipe:
    changes = {"epochs": getattr(options, "epochs", None), "image_size": options.image_size, "seed": options.seed}
    if sample:
        changes["image_size"] = options.image_size or workspace.image_size
    return Recipe.named(options.recipe).with_(**{name: value for name, value in changes.items() if value is not None})


def _trained(options, dataset: Path | None, out: Path | None):
    """Census, split and training: (run, the JSON keys of train)."""
    workspace = open_workspace(dataset=dataset)
    recipe = _recipe(options, dataset is None, workspace)
    out = out or _new_run_folder(workspace.runs, recipe.name)
    pictures = workspace.dataset.parent if workspace.dataset.suffix.lower() == ".csv" else workspace.dataset
    check_outside(out, pictures, "The run's folder", "--out")
    check_outside(options.store or workspace.features, pictures, "The feature store", "--store")
    _start_tensorflow()
    from vggnb.evaluate import positive_class
    from vggnb.train import train
    from vggnb.train.cut import check_block

    if options.fine_tune:
        check_block(options.fine_tune)
    out = make_folder(out)
    census = _take_census(options, workspace)
    manifest = _split(options, census, recipe)
    positive_class(census.classes, getattr(options, "positive", None))  # wrong? better now than after an hour
    run, features = train(
        manifest,
        recipe,
        out,
        weights=_weights(options, workspace),
        store=options.store or workspace.features,
        progress=not options.quiet,
        fresh=options.fresh,
    )
    if run.source.pretrained:
        tell(options, run.source)
    else:
        print(run.source, file=sys.stderr)  # even with --quiet
    tell(options, features)
    history = run.history()
    tell(options, history)
    document = {"run": str(out), "epochs": len(history.rows), "history": list(history.rows)}
    if options.fine_tune:
        document["fine_tune"] = _fine_tuned(options, run, features, workspace)
    return run, document | {"timing": run.training()["timing"]}


def extract(options) -> None:
    """Fill the feature store: here, or on a Ray cluster."""
    if options.engine == "local":  # Ray's workers each start their own
        _start_tensorflow()
    from vggnb.cluster import fill_store
    from vggnb.cluster.units import is_manifest

    workspace = open_workspace(dataset=options.dataset)
    recipe = _recipe(options, False, workspace)
    with tempfile.TemporaryDirectory() as place:
        manifest = options.dataset
        if not is_manifest(manifest):
            manifest = Path(place) / "manifest.csv"
            _split(options, _take_census(options, workspace), recipe).write(manifest)
        filled = fill_store(
            manifest,
            recipe,
            weights=_weights(options, workspace),
            store=options.store or workspace.features,
            engine=options.engine,
            address=options.address,
            gpus_per_worker=options.gpus_per_worker,
            progress=not options.quiet,
        )
    show(options, filled.to_dict(), f"{filled}\nThe features are in {filled.folder}")


def _fine_tuned(options, run, features, workspace: Workspace) -> dict:
    """Fine-tuning, and what it wrote down."""
    from vggnb.train.finetune import fine_tune

    quiet = {"progress": not options.quiet, "fresh": options.fresh}
    history = fine_tune(run, features, store=options.store or workspace.features, from_block=options.fine_tune, **quiet)
    tell(options, f"fine-tuned from {options.fine_tune}: {history}; epoch {run.fine_tuned()['best_epoch']} is kept")
    return {name: run.fine_tuned()[name] for name in ("from_block", "best_epoch", "history")}


def _weights(options, workspace: Workspace) -> str:
    """What was asked for; a file by its whole path, so that the run can be opened from anywhere."""
    weights = options.weights or workspace.weights
    return weights if weights in WEIGHTS else str(Path(weights).expanduser().absolute())


def _new_run_folder(runs: Path, name: str) -> Path:
    """A folder that is not there yet, named by recipe and time."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folders = [runs / stem, *(runs / f"{stem}-{number}" for number in range(2, 100))]
    return next(folder for folder in folders if not folder.exists())


def train(options) -> None:
    """Train the head on a dataset."""
    run, document = _trained(options, options.dataset, options.out)
    show(options, document, f"The run is in {run.folder}")


def run(options) -> None:
    """Everything from census to bundle (without DATASET: the sample)."""
    run, document = _trained(options, options.dataset, options.out)
    from vggnb.card import NOT_A_DEVICE
    from vggnb.evaluate import judge
    from vggnb.predict import predict_files
    from vggnb.save import load_bundle, save_bundle

    report = judge(run, positive=options.positive, progress=not options.quiet)
    tell(options, f"\n{report}\n")
    folder = run.folder / "bundle"
    files = save_bundle(run, folder)
    tell(options, _saved(files))
    rows = [run.manifest.of("test")[index] for index in _spread(len(run.manifest.of("test")))]
    answers = predict_files(load_bundle(folder), [run.manifest.dataset / row.path for row in rows])
    tell(options, "\nThree test images:")
    for row, answer in zip(rows, answers, strict=True):
        tell(options, f"  {answer} (it is {row.class_name})")
    document |= {**report.to_dict(), "bundle": str(folder), "predictions": [answer.to_dict() for answer in answers]}
    show(options, document, f"\nThe run, with its bundle, is in {run.folder}\n{NOT_A_DEVICE}")


def _spread(count: int) -> list[int]:
    """Three indices, or fewer, spread over `count` rows."""
    return sorted({0, count // 2, count - 1})


def _saved(files) -> str:
    lines = []
    for kind in dict.fromkeys(file.format for file in files if file.max_difference is not None):
        group = [file for file in files if file.format == kind]  # a SavedModel is several
        size, (first, *_) = sum(file.bytes for file in group) / 1e6, group
        difference = f"largest difference {first.max_difference:.1e}"
        lines.append(f"  {first.path.partition('/')[0]:32} {size:7.2f} MB  {difference}")
    return "Saved, and loaded again in a fresh process:\n" + "\n".join(lines)


def evaluate(options) -> None:
    """Judge a run on its test images, or on another folder."""
    _start_tensorflow()
    from vggnb.evaluate import judge, judge_folder
    from vggnb.train import open_run

    run = open_run(options.run, weights=options.weights)
    if options.dataset is None:
        report = judge(run, **_judging(options))
    else:
        census = _take_census(options, open_workspace(dataset=options.dataset))
        tell(options, "\n".join([str(census), *_skipped(census), ""]))
        report = judge_folder(run, census, **_judging(options))
    show(options, report.to_dict(), report)


def _judging(options) -> dict:
    """What `evaluate` and `report` take."""
    names = ("positive", "sensitivity", "cost_ratio", "prevalence")
    return {name: getattr(options, name) for name in names} | {"progress": not options.quiet}


def report(options) -> None:
    """Judge a run and write what was found as one HTML page."""
    _start_tensorflow()
    from vggnb.report import write_report
    from vggnb.train import open_run

    path, report = write_report(open_run(options.run, weights=options.weights), options.to, **_judging(options))
    show(options, {**report.to_dict(), "report": str(path)}, f"{report}\n\nThe page is {path}")


def save(options) -> None:
    """Write a bundle and prove that it comes back the same."""
    _start_tensorflow()
    from vggnb.save import ARTICLE, FORMATS, save_bundle
    from vggnb.save.exports import here
    from vggnb.train import open_run

    exports, left_out = here()
    sets = {"article": ARTICLE, "all": (*FORMATS, *exports)}
    run, formats = open_run(options.run, weights=options.weights), options.formats.split(",")
    files = save_bundle(run, options.to, formats=sets.get(options.formats, formats))
    document = {"files": [vars(file) for file in files], "left_out": left_out if options.formats == "all" else {}}
    words = "".join(f"\n  left out: {kind}: {reason}" for kind, reason in document["left_out"].items())
    show(options, document, f"{_saved(files)}{words}\nThe bundle is in {options.to}")


def predict(options) -> None:
    """Name the class of pictures."""
    from vggnb.predict import MOST_NAMES, open_bundle, predict_files, predict_listed, read_names, to_csv

    if options.csv and options.json:
        raise VggnbError("There is one document on stdout.", "--csv and --json", "Ask for one of them.")
    names = None
    if options.paths == ["-"]:
        names = read_names(sys.stdin.buffer.read(MOST_NAMES + 1) if sys.stdin else b"")  # none where it is closed
    if options.engine == "tensorflow":
        _start_tensorflow()
    bundle, progress = open_bundle(options.bundle, options.engine), not options.quiet and sys.stderr.isatty()
    if names is None:
        answers = predict_files(bundle, options.paths, progress=progress)
    else:
        answers = predict_listed(bundle, names, progress=progress)
    if options.csv:
        if hasattr(options.stdout, "reconfigure"):
            options.stdout.reconfigure(encoding="utf-8", newline="")  # CSV brings its own line ends
        write(to_csv(answers, bundle.classes), options.stdout, end="")
    else:
        words = "\n".join(f"{shown(answer.path)}: {answer.words}" for answer in answers)
        show(options, [answer.to_dict() for answer in answers], words)


def app(options) -> None:
    """Try a run in the browser, on this machine only (extra: app)."""
    _start_tensorflow()
    from vggnb.widgets.app import HOST, serve

    document = {"address": f"http://{HOST}:{options.port}/"}
    serve(options.run, port=options.port, tell=lambda text: show(options, document, text))
