"""The command line: the notebooks' steps as verbs, for scripts. `vggnb --help` lists them."""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from vggnb.folders import shown
from vggnb.machine import device_words, versions
from vggnb.paths import WEIGHTS, Workspace, check_outside, open_workspace
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, make_folder, mendable

EPILOG = "Variables: VGGNB_PROFILE, VGGNB_HOME, VGGNB_DATASET, VGGNB_WEIGHTS, VGGNB_THREADS. This teaches a method; it "
EPILOG += "is not a diagnostic device."


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 2 something the user can mend (told on stderr); 130 interrupted. Where nobody reads stdout any more
        (`| head`), the program ends without a word and with 141, as others do.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # any name can be printed, whatever the terminal can show
    options = _parser().parse_args(arguments)
    options.stdout = sys.stdout
    if options.threads:
        os.environ["VGGNB_THREADS"] = str(options.threads)
    try:
        # Keras and our own notes print; with --json, stdout is for the document alone.
        document = options.json or getattr(options, "csv", False)
        with contextlib.redirect_stdout(sys.stderr) if document else contextlib.nullcontext():
            options.verb(options)
        return 0
    except VggnbError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(mendable(error, error.filename), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        said = str(error) or "Interrupted. What was finished is kept; run the same command again."
        print(said, file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vggnb", description="Retrain VGG-16 on your own images.", epilog=EPILOG)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name, function, help_text, *, modelling=False, network=False):
        sub = verbs.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(verb=function)
        sub.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")
        sub.add_argument("--quiet", action="store_true", help="no progress")
        sub.add_argument("--threads", type=_positive, metavar="N", help="TensorFlow's threads")
        if modelling or network:
            sub.add_argument("--recipe", default="best", help="article or best (default)")
            sub.add_argument("--image-size", type=_positive, metavar="N", help="pixels a side (224; the sample: 96)")
            sub.add_argument("--seed", type=int, metavar="N")
            sub.add_argument("--weights", metavar="W", help="imagenet, offline, none, or a file")
            sub.add_argument("--store", type=Path, metavar="S", help="of features (default: under VGGNB_HOME)")
        if modelling:
            sub.add_argument("--epochs", type=_positive, metavar="N")
            sub.add_argument(
                "--fine-tune", metavar="BLOCK", help="then train the layers from this one on: block5_conv1"
            )
            sub.add_argument("--fresh", action="store_true", help="do not continue an unfinished training, begin anew")
        return sub

    verb("paths", _paths, "where things are, versions, device")
    verb("census", _census, "look at every file of a dataset").add_argument("dataset", type=Path)
    run = verb("run", _run, "everything from census to bundle (without DATASET: the sample)", modelling=True)
    run.add_argument("dataset", type=Path, nargs="?")
    run.add_argument("--out", type=Path, help="the run's folder (default: a new one under VGGNB_HOME)")
    run.add_argument("--positive", metavar="CLASS")
    train = verb("train", _train, "train the head on a dataset", modelling=True)
    train.add_argument("dataset", type=Path)
    train.add_argument("--out", type=Path, required=True, help="the run's folder")
    extract = verb("extract", _extract, "fill the feature store: here, or on a Ray cluster", network=True)
    extract.add_argument("dataset", type=Path, metavar="DATASET|MANIFEST", help="a dataset, or a run's manifest.csv")
    extract.add_argument("--engine", default="local", help="local (default) or ray")
    extract.add_argument("--address", help="of a Ray cluster: host:port or auto (default: start one on this machine)")
    extract.add_argument("--gpus-per-worker", type=int, metavar="N", help="0 for none (default: 1 where there are any)")
    evaluate = verb("evaluate", _evaluate, "judge a run on its test images, or on another folder")
    evaluate.add_argument("run", type=Path)
    evaluate.add_argument("--dataset", type=Path, help="another folder with the same classes")
    report = verb("report", _report, "judge a run and write what was found as one HTML page")
    report.add_argument("run", type=Path)
    report.add_argument("--to", type=Path, metavar="FILE", help="the page (default: report.html in the run's folder)")
    for judging in (evaluate, report):
        judging.add_argument("--positive", metavar="CLASS")
        judging.add_argument("--sensitivity", type=float, metavar="S", help="choose the threshold for it on validation")
        judging.add_argument("--cost-ratio", type=float, metavar="R", help="or: a miss is as bad as R false alarms")
        judging.add_argument("--prevalence", type=float, metavar="P", help="share of positives where it will be used")
        judging.add_argument("--weights", metavar="W", help="where the base's weights are now, if not where they were")
    save = verb("save", _save, "write a bundle and prove that it comes back the same")
    save.add_argument("run", type=Path)
    save.add_argument("--to", type=Path, required=True)
    save.add_argument("--weights", metavar="W", help="where the base's weights are now, if not where they were")
    save.add_argument("--formats", default="all", help="article, all, or a list such as keras,h5")
    predict = verb("predict", _predict, "name the class of pictures")
    predict.add_argument("bundle", type=Path)
    predict.add_argument(
        "paths", nargs="+", metavar="PATH", help="files or folders; - for a list on the standard input"
    )
    predict.add_argument("--csv", action="store_true", help="print CSV on stdout and nothing else")
    predict.add_argument("--engine", default="tensorflow", help="tensorflow (default), or onnxruntime without it")
    app = verb("app", _app, "try a run in the browser, on this machine only (extra: app)")
    app.add_argument("run", type=Path)
    app.add_argument("--port", type=_positive, default=8866, metavar="N")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _print(options, document: object, text: object) -> None:
    """The JSON document, or the words for people."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False) if options.json else text
    _write(text, options.stdout)


def _tell(options, text: object) -> None:
    """A note for people: on stderr when stdout holds JSON, nowhere with --quiet."""
    if not options.quiet:
        _write(text, sys.stderr if options.json else sys.stdout)


def _write(text: object, file, end: str = "\n") -> None:
    """Write all of it now; where nobody reads it any more, the program ends."""
    try:
        print(text, file=file, end=end, flush=True)
    except OSError as error:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), file.fileno())  # Python flushes again at its exit, and would fail again
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        raise mendable(error, "the standard output") from None


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


def _paths(options) -> None:
    workspace = open_workspace()
    document = {**workspace.to_dict(), "versions": versions(), "device": device_words()}
    lines = {**document, "versions": ", ".join(f"{name} {v or 'absent'}" for name, v in document["versions"].items())}
    _print(options, document, "\n".join(f"{name:<12} {value}" for name, value in lines.items()))


def _take_census(options, workspace: Workspace):
    from vggnb.census import take_census
    from vggnb.staging import near_copy

    dataset = near_copy(workspace.dataset, workspace.staged, progress=not options.quiet)
    return take_census(dataset, cache=workspace.census_file, progress=not options.quiet)


def _census(options) -> None:
    census = _take_census(options, open_workspace(dataset=options.dataset))
    _print(options, census.to_dict(), "\n".join([str(census), *_skipped(census)]))


def _skipped(census, most: int = 20) -> list[str]:
    """The files that are not used, by name."""
    lines = [f"skipped {item}" for item in census.skipped[:most]]
    more = len(census.skipped) - most
    return lines + [f"... and {more} more: vggnb census --json lists them all."] * (more > 0)


def _split(options, census, recipe: Recipe):
    """The manifest, with everything about it told."""
    from vggnb.census.splits import assign_splits

    census.check_trainable()
    _tell(options, "\n".join([str(census), *_skipped(census)]))
    manifest = assign_splits(census, validation_share=recipe.validation_share, seed=recipe.seed)
    for sentence in manifest.sentences:
        _tell(options, sentence)
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
        _tell(options, run.source)
    else:
        print(run.source, file=sys.stderr)  # even with --quiet
    _tell(options, features)
    history = run.history()
    _tell(options, history)
    document = {"run": str(out), "epochs": len(history.rows), "history": list(history.rows)}
    if options.fine_tune:
        document["fine_tune"] = _fine_tuned(options, run, features, workspace)
    return run, document | {"timing": run.training()["timing"]}


def _extract(options) -> None:
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
    _print(options, filled.to_dict(), f"{filled}\nThe features are in {filled.folder}")


def _fine_tuned(options, run, features, workspace: Workspace) -> dict:
    """Fine-tuning, and what it wrote down."""
    from vggnb.train.finetune import fine_tune

    quiet = {"progress": not options.quiet, "fresh": options.fresh}
    history = fine_tune(run, features, store=options.store or workspace.features, from_block=options.fine_tune, **quiet)
    _tell(options, f"fine-tuned from {options.fine_tune}: {history}; epoch {run.fine_tuned()['best_epoch']} is kept")
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


def _train(options) -> None:
    run, document = _trained(options, options.dataset, options.out)
    _print(options, document, f"The run is in {run.folder}")


def _run(options) -> None:
    run, document = _trained(options, options.dataset, options.out)
    from vggnb.card import NOT_A_DEVICE
    from vggnb.evaluate import judge
    from vggnb.predict import predict_files
    from vggnb.save import load_bundle, save_bundle

    report = judge(run, positive=options.positive, progress=not options.quiet)
    _tell(options, f"\n{report}\n")
    folder = run.folder / "bundle"
    files = save_bundle(run, folder)
    _tell(options, _saved(files))
    rows = [run.manifest.of("test")[index] for index in _spread(len(run.manifest.of("test")))]
    answers = predict_files(load_bundle(folder), [run.manifest.dataset / row.path for row in rows])
    _tell(options, "\nThree test images:")
    for row, answer in zip(rows, answers, strict=True):
        _tell(options, f"  {answer} (it is {row.class_name})")
    document |= {**report.to_dict(), "bundle": str(folder), "predictions": [answer.to_dict() for answer in answers]}
    _print(options, document, f"\nThe run, with its bundle, is in {run.folder}\n{NOT_A_DEVICE}")


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


def _evaluate(options) -> None:
    _start_tensorflow()
    from vggnb.evaluate import judge, judge_folder
    from vggnb.train import open_run

    run = open_run(options.run, weights=options.weights)
    if options.dataset is None:
        report = judge(run, **_judging(options))
    else:
        census = _take_census(options, open_workspace(dataset=options.dataset))
        _tell(options, "\n".join([str(census), *_skipped(census), ""]))
        report = judge_folder(run, census, **_judging(options))
    _print(options, report.to_dict(), report)


def _judging(options) -> dict:
    """What `evaluate` and `report` take."""
    names = ("positive", "sensitivity", "cost_ratio", "prevalence")
    return {name: getattr(options, name) for name in names} | {"progress": not options.quiet}


def _report(options) -> None:
    _start_tensorflow()
    from vggnb.report import write_report
    from vggnb.train import open_run

    path, report = write_report(open_run(options.run, weights=options.weights), options.to, **_judging(options))
    _print(options, {**report.to_dict(), "report": str(path)}, f"{report}\n\nThe page is {path}")


def _save(options) -> None:
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
    _print(options, document, f"{_saved(files)}{words}\nThe bundle is in {options.to}")


def _predict(options) -> None:
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
        _write(to_csv(answers, bundle.classes), options.stdout, end="")
    else:
        words = "\n".join(f"{shown(answer.path)}: {answer.words}" for answer in answers)
        _print(options, [answer.to_dict() for answer in answers], words)


def _app(options) -> None:
    _start_tensorflow()
    from vggnb.widgets.app import HOST, serve

    document = {"address": f"http://{HOST}:{options.port}/"}
    serve(options.run, port=options.port, tell=lambda text: _print(options, document, text))
