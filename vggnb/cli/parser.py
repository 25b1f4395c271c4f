"""Which verbs there are, and what options each takes."""

import argparse
from pathlib import Path

from vggnb.cli import verbs

EPILOG = "Variables: VGGNB_PROFILE, VGGNB_HOME, VGGNB_DATASET, VGGNB_WEIGHTS, VGGNB_THREADS. This teaches a method; it "
EPILOG += "is not a diagnostic device."


def make_parser() -> argparse.ArgumentParser:
    """The parser; what it gives has `verb`, the function of `verbs` that is to be called with it."""
    parser = argparse.ArgumentParser(prog="vggnb", description="Retrain VGG-16 on your own images.", epilog=EPILOG)
    table = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function, *, modelling=False, network=False):
        sub = table.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
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

    verb(verbs.paths)
    verb(verbs.census).add_argument("dataset", type=Path)
    run = verb(verbs.run, modelling=True)
    run.add_argument("dataset", type=Path, nargs="?")
    run.add_argument("--out", type=Path, help="the run's folder (default: a new one under VGGNB_HOME)")
    run.add_argument("--positive", metavar="CLASS")
    train = verb(verbs.train, modelling=True)
    train.add_argument("dataset", type=Path)
    train.add_argument("--out", type=Path, required=True, help="the run's folder")
    extract = verb(verbs.extract, network=True)
    extract.add_argument("dataset", type=Path, metavar="DATASET|MANIFEST", help="a dataset, or a run's manifest.csv")
    extract.add_argument("--engine", default="local", help="local (default) or ray")
    extract.add_argument("--address", help="of a Ray cluster: host:port or auto (default: start one on this machine)")
    extract.add_argument("--gpus-per-worker", type=int, metavar="N", help="0 for none (default: 1 where there are any)")
    evaluate = verb(verbs.evaluate)
    evaluate.add_argument("run", type=Path)
    evaluate.add_argument("--dataset", type=Path, help="another folder with the same classes")
    report = verb(verbs.report)
    report.add_argument("run", type=Path)
    report.add_argument("--to", type=Path, metavar="FILE", help="the page (default: report.html in the run's folder)")
    for judging in (evaluate, report):
        judging.add_argument("--positive", metavar="CLASS")
        judging.add_argument("--sensitivity", type=float, metavar="S", help="choose the threshold for it on validation")
        judging.add_argument("--cost-ratio", type=float, metavar="R", help="or: a miss is as bad as R false alarms")
        judging.add_argument("--prevalence", type=float, metavar="P", help="share of positives where it will be used")
        judging.add_argument("--weights", metavar="W", help="where the base's weights are now, if not where they were")
    save = verb(verbs.save)
    save.add_argument("run", type=Path)
    save.add_argument("--to", type=Path, required=True)
    save.add_argument("--weights", metavar="W", help="where the base's weights are now, if not where they were")
    save.add_argument("--formats", default="all", help="article, all, or a list such as keras,h5")
    predict = verb(verbs.predict)
    predict.add_argument("bundle", type=Path)
    predict.add_argument(
        "paths", nargs="+", metavar="PATH", help="files or folders; - for a list on the standard input"
    )
    predict.add_argument("--csv", action="store_true", help="print CSV on stdout and nothing else")
    predict.add_argument("--engine", default="tensorflow", help="tensorflow (default), or onnxruntime without it")
    app = verb(verbs.app)
    app.add_argument("run", type=Path)
    app.add_argument("--port", type=_positive, default=8866, metavar="N")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
