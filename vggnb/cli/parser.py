"""Which verbs there are, and what options each takes."""

import argparse
import contextlib
import os
import re
from pathlib import Path

from vggnb.cli import verbs
from vggnb.paths import PRECISIONS
from vggnb.recipe import AUGMENTATIONS

EPILOG = """
DATASET is a folder, a .zip or .tar file, a table (path,label[,split][,group]), or the name sample or solar-cells.
Environment variables: VGGNB_PROFILE, VGGNB_HOME, VGGNB_DATASET, VGGNB_WEIGHTS, VGGNB_PRECISION,
VGGNB_THREADS.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser; its result has `verb`, the function of `verbs` that is to be called with it."""
    parser = argparse.ArgumentParser(prog="vggnb", description="Retrain VGG-16 on your own images.", epilog=EPILOG)
    table = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function, *add_options) -> argparse.ArgumentParser:
        sub = table.add_parser(function.__name__, help=function.__doc__, description=function.__doc__, epilog=EPILOG)
        sub.set_defaults(verb=function)
        for add in (*add_options, _common):
            add(sub)
        return sub

    verb(verbs.paths)
    verb(verbs.census, _dataset)
    run = verb(verbs.run, _features, _training)
    run.add_argument("dataset", nargs="?", metavar="DATASET", help="default: the sample")
    run.add_argument("--out", type=_path, metavar="RUN", help="folder of the run (default: a new one under VGGNB_HOME)")
    train = verb(verbs.train, _dataset, _features, _training)
    train.add_argument("--out", type=_path, required=True, metavar="RUN", help="folder of the run")
    extract = verb(verbs.extract, _features)
    extract.add_argument("dataset", metavar="DATASET|MANIFEST", help="a dataset, or the manifest.csv of a run")
    extract.add_argument("--engine", default="local", help="local (default) or ray")
    extract.add_argument("--address", help="address of a Ray cluster: host:port, or auto (default: start one here)")
    extract.add_argument("--gpus-per-worker", type=int, metavar="N", help="default: 1 where there are GPUs, else 0")
    evaluate = verb(verbs.evaluate, _run, _evaluation)
    evaluate.add_argument("--dataset", metavar="DATASET", help="evaluate on these images instead of the test split")
    report = verb(verbs.report, _run, _evaluation)
    report.add_argument("--to", type=_path, metavar="FILE", help="the page (default: report.html in the run's folder)")
    compare = verb(verbs.compare)
    compare.add_argument("runs", nargs=2, type=_path, metavar="RUN", help="two runs on the same dataset")
    _positive(compare)
    save = verb(verbs.save, _run)
    save.add_argument("--to", type=_path, required=True, metavar="DIR", help="folder of the bundle")
    save.add_argument("--formats", default="all", help="article, all (default), or a list such as keras,h5")
    predict = verb(verbs.predict)
    predict.add_argument("bundle", type=_path, metavar="RUN|BUNDLE", help="what `vggnb run` or `vggnb save` wrote")
    predict.add_argument("paths", nargs="+", metavar="PATH", help="files or folders; - reads their names from stdin")
    predict.add_argument("--csv", action="store_true", help="print CSV on stdout and nothing else")
    predict.add_argument("--engine", default="tensorflow", help="tensorflow (default) or onnxruntime")
    predict.add_argument(
        "--threshold",
        type=_threshold,
        metavar="chosen|T",
        help="predict the positive class from this probability on, or from the one that evaluate --sensitivity chose "
        "(two classes; default: the most probable class)",
    )
    predict.add_argument("--precision", choices=PRECISIONS, help="of the convolutions (default: that of the training)")
    share = verb(verbs.share)
    share.add_argument("bundle", type=_path, metavar="RUN|BUNDLE", help="what `vggnb run` or `vggnb save` wrote")
    share.add_argument("--to", type=_path, required=True, metavar="DIR", help="folder of the page")
    share.add_argument(
        "--weights", default="int8", metavar="W", help="how they are stored: int8 (default), float16 or float32"
    )
    share.add_argument("--single-file", action="store_true", help="one index.html, which opens by double click, too")
    share.add_argument("--serve", action="store_true", help="then serve the page, on this machine only")
    app = verb(verbs.app)
    app.add_argument("run", type=_path, metavar="RUN", help="folder of a trained run")
    app.add_argument("--port", type=_whole_number, default=8866, metavar="N", help="default: 8866")
    return parser


def _common(sub) -> None:
    sub.add_argument("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    sub.add_argument("--quiet", action="store_true", help="show no progress bars")
    sub.add_argument("--threads", type=_whole_number, metavar="N", help="number of CPU threads")
    archive = "maximum number of files in an archive (default: 100000)"
    sub.add_argument("--max-archive-files", type=_whole_number, metavar="N", help=archive)


def _dataset(sub) -> None:
    sub.add_argument("dataset", metavar="DATASET", help="folder, archive or table of images")


def _run(sub) -> None:
    sub.add_argument("run", type=_path, metavar="RUN", help="folder of a trained run")
    sub.add_argument("--weights", metavar="W", help="where the base's weights are now, if they have moved")


def _features(sub) -> None:
    """Options of everything that runs the base."""
    sub.add_argument("--recipe", default="best", help="article, best (default) or fine")
    sub.add_argument("--image-size", type=_side, metavar="N", help="pixels a side (default: 224; the sample: 96)")
    sub.add_argument("--batch-size", type=_whole_number, metavar="N", help="images a step")
    sub.add_argument("--seed", type=int, metavar="N", help="of the split, the initial weights and the order")
    sub.add_argument("--weights", metavar="W", help="weights of the base: imagenet, offline, none, or a file")
    sub.add_argument("--precision", choices=PRECISIONS, help="of the convolutions (default: auto; the sample: float32)")
    sub.add_argument("--store", type=_path, metavar="S", help="feature store (default: under VGGNB_HOME)")


def _training(sub) -> None:
    sub.add_argument(
        "--epochs", type=_whole_number, metavar="N", help="passes over the images (of fine-tuning, if any)"
    )
    sub.add_argument("--learning-rate", type=_number, metavar="R", help="learning rate (of fine-tuning, if any)")
    sub.add_argument("--class-weights", action="store_true", help="give each class the same weight in the loss")
    sub.add_argument("--hold-out", action="store_true", help="keep validation out of the fit")
    sub.add_argument("--patience", type=_whole_number, metavar="N", help="stop after N epochs without improvement")
    sub.add_argument("--fine-tune", metavar="BLOCK", help="then train the layers from here on, such as block3_conv1")
    sub.add_argument("--augment", metavar="KINDS", help="in fine-tuning: none, or a list of " + ",".join(AUGMENTATIONS))
    sub.add_argument("--fresh", action="store_true", help="start again instead of continuing an unfinished training")
    _positive(sub)


def _evaluation(sub) -> None:
    _positive(sub)
    sub.add_argument(
        "--sensitivity", type=_number, metavar="S", help="choose the threshold for it on validation (0 to 1)"
    )
    sub.add_argument("--cost-ratio", type=_number, metavar="R", help="or where a miss costs R times a false alarm")
    sub.add_argument("--prevalence", type=_number, metavar="P", help="share of positives in the field, 0 to 1")


def _positive(sub) -> None:
    sub.add_argument("--positive", metavar="CLASS", help="the positive class of two (default: the last by name)")


def _path(text: str) -> Path:
    """A path; ~ is the home folder, which no shell replaces in --to=~/x."""
    return Path(os.path.expanduser(text))


def _number(text: str) -> float:
    """0.9, 0,9 or 90%."""
    text = text.strip().replace(",", ".")
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _threshold(text: str) -> float | str:
    """chosen, or a number."""
    if text.strip() == "chosen":
        return "chosen"
    with contextlib.suppress(argparse.ArgumentTypeError):
        if 0 < (value := _number(text)) < 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is neither chosen nor a probability between 0 and 1")


def _side(text: str) -> int:
    """224 or 224x224."""
    sides = re.fullmatch(r"([0-9]+)(?:[x×,]([0-9]+))?", text.strip())
    if not sides or (sides[2] or sides[1]) != sides[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not one number of pixels, such as 224: images are square")
    return _whole_number(sides[1])
