"""What each verb does with its options."""

import sys

from vggnb.census import open_census
from vggnb.cli import steps
from vggnb.cli.steps import note, opened_run, recipe_of, show, start_tensorflow, trained
from vggnb.folders import shown
from vggnb.machine import device_words, versions
from vggnb.paths import open_workspace
from vggnb.storage import VggnbError, check_no_address
from vggnb.workflow import census_text


def paths(options) -> None:
    """Show the folders, weights, versions and device that would be used."""
    workspace = open_workspace()
    document = {**workspace.to_dict(), "versions": versions(), "device": device_words()}
    lines = {**document, "versions": ", ".join(f"{name} {v or 'absent'}" for name, v in document["versions"].items())}
    show(options, document, "\n".join(f"{name:<12} {value}" for name, value in lines.items()))


def census(options) -> None:
    """Survey every file of a dataset: classes, splits, duplicates, leaks, unusable files."""
    census = _survey(options)
    show(options, census.to_dict(), census_text(census))


def _survey(options):
    """The census of the DATASET that was named."""
    workspace = open_workspace(dataset=options.dataset)
    return open_census(workspace, max_files=options.max_archive_files, progress=not options.quiet)


def extract(options) -> None:
    """Compute and store features, on this machine or on a Ray cluster."""
    workspace = open_workspace(dataset=options.dataset)
    recipe, store = recipe_of(options, workspace, options.dataset == "sample"), options.store or workspace.features
    weights = steps.weights_of(options.weights or workspace.weights)
    if options.engine == "local":  # Ray's workers each start their own
        start_tensorflow()
    from vggnb.census.manifest import Manifest, is_manifest
    from vggnb.features import fill_store

    if is_manifest(workspace.dataset):
        manifest = Manifest.read(workspace.dataset)
    else:
        manifest = steps.opened(options, workspace, recipe).manifest
    settings = {"weights": weights, "store": store, "precision": options.precision or workspace.precision}
    where = {name: getattr(options, name) for name in ("engine", "address", "gpus_per_worker")}
    features = fill_store(manifest, recipe, **settings, **where, progress=not options.quiet)
    show(options, features.to_dict(), f"{features}\nThe features are in {store}")


def train(options) -> None:
    """Train a classifier on a dataset."""
    run, document = trained(options)
    show(options, document, f"The run is in {run.folder}")


def run(options) -> None:
    """Train, evaluate and save a classifier: everything from census to bundle."""
    run, document = trained(options)
    from vggnb.evaluate import evaluate as evaluate_run
    from vggnb.predict import predict_files
    from vggnb.save import load_bundle, save_bundle

    folder, failure = run.folder / "bundle", None
    try:
        report = evaluate_run(run, positive=options.positive, progress=not options.quiet)
        note(options, f"\n{report}\n")
    except VggnbError as error:  # the bundle is saved even if the test split cannot be evaluated
        failure = error
    note(options, save_bundle(run, folder))
    if failure:
        raise failure
    rows = run.manifest.of("test")[:: max(1, len(run.manifest.of("test")) // 3)][:3]
    bundle = load_bundle(folder)
    predictions = predict_files(bundle, [run.manifest.dataset / row.path for row in rows])
    note(options, "\nSome test images:")
    for row, prediction in zip(rows, predictions, strict=True):
        note(options, f"  {prediction} (true class: {row.class_name})")
    document |= {**report.to_dict(), "bundle": str(folder), "predictions": [one.to_dict() for one in predictions]}
    show(options, document, f"\nThe run, with its bundle, is in {run.folder}\n{bundle.purpose}")


def evaluate(options) -> None:
    """Evaluate a run on its test split or on another dataset."""
    run = opened_run(options.run, options.weights)
    from vggnb.evaluate import evaluate as evaluate_run
    from vggnb.evaluate import evaluate_folder

    if options.dataset is None:
        report = evaluate_run(run, **_evaluation(options))
    else:
        census = _survey(options)
        note(options, f"{census_text(census)}\n")
        report = evaluate_folder(run, census, **_evaluation(options))
    _update_threshold(options, run, report)
    show(options, report.to_dict(), report)


def _update_threshold(options, run, report) -> None:
    """Write a threshold that was just chosen into the bundle in the run's folder."""
    from vggnb.save import update_threshold

    if report.operating_point and update_threshold(run, run.folder / "bundle"):
        note(options, "The bundle of this run uses this threshold with: vggnb predict RUN PATH --threshold chosen.")


def _evaluation(options) -> dict:
    names = ("positive", "sensitivity", "cost_ratio", "prevalence")
    return {name: getattr(options, name) for name in names} | {"progress": not options.quiet}


def report(options) -> None:
    """Evaluate a run and write an HTML report."""
    run = opened_run(options.run, options.weights)
    from vggnb.report import write_report

    path, report = write_report(run, options.to, **_evaluation(options))
    _update_threshold(options, run, report)
    show(options, {**report.to_dict(), "report": str(path)}, f"{report}\n\nThe report is {path}")


def compare(options) -> None:
    """Compare two runs on the same test images."""
    runs = [opened_run(run) for run in options.runs]
    from vggnb.evaluate import compare as compare_runs

    comparison = compare_runs(*runs, positive=options.positive, progress=not options.quiet)
    show(options, comparison.to_dict(), comparison)


def save(options) -> None:
    """Save a run as a bundle; each exported file is verified in a fresh process."""
    run = opened_run(options.run, options.weights)
    from vggnb.save import available, save_bundle

    files = save_bundle(run, options.to, formats=options.formats)
    missing = available()[1] if "all" in options.formats else {}
    words = "".join(f"\n  skipped {kind}: {reason}" for kind, reason in missing.items())
    document = {"files": [vars(file) for file in files], "left_out": missing}
    show(options, document, f"{files}{words}\nThe bundle is in {options.to}")


def predict(options) -> None:
    """Predict the classes of images."""
    from vggnb.predict import choose_rule, open_model, predict_files, read_names, to_csv

    if options.csv and options.json:
        raise VggnbError("stdout can hold only one document.", "--csv and --json", "Use only one of the two options.")
    for path in options.paths:
        check_no_address(path, "An image", "PATH")
    paths, missing = options.paths, "refuse"
    if paths == ["-"]:
        paths, missing = read_names(sys.stdin.buffer.read() if sys.stdin else b""), "list"  # b"" where it is closed
    if options.engine == "tensorflow":
        start_tensorflow()
    bundle = open_model(options.bundle, engine=options.engine, precision=options.precision)
    rule, progress = choose_rule(bundle, options.threshold), not options.quiet and sys.stderr.isatty()
    predictions = predict_files(bundle, paths, threshold=options.threshold, missing=missing, progress=progress)
    if rule.threshold is not None or bundle.threshold:
        unused = "" if rule.threshold is not None else "; a threshold was chosen: --threshold chosen uses it"
        note(options, f"Predicted: {rule}{unused}.")
    if options.csv:
        if hasattr(options.stdout, "reconfigure"):
            options.stdout.reconfigure(encoding="utf-8", newline="")  # CSV brings its own line ends
        steps.write(to_csv(predictions, bundle.classes), options.stdout, end="")
    else:
        words = "\n".join(f"{shown(one.path)}: {one.words}" for one in predictions)
        show(options, [one.to_dict() for one in predictions], words)
    if all(one.error for one in predictions):
        raise VggnbError("No file could be predicted.", shown(options.paths[0]), "The reasons are listed above.")


def share(options) -> None:
    """Write a web page that runs a model in the browser, offline."""
    start_tensorflow()
    from vggnb.share import serve_page, share_page

    settings = {"weights": options.weights, "single_file": options.single_file, "progress": not options.quiet}
    page = share_page(options.bundle, options.to, **settings)
    show(options, page.to_dict(), page)
    if options.serve:
        serve_page(options.to, tell=lambda text: note(options, text))


def app(options) -> None:
    """Try a trained model in the browser, on this machine only."""
    start_tensorflow()
    from vggnb.widgets.app import HOST, serve

    document = {"address": f"http://{HOST}:{options.port}/"}
    serve(steps.run_folder(options.run), port=options.port, tell=lambda text: show(options, document, text))
