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

    def verb(function, *add_options):
        """Add a verb; returns a function that adds an option or an argument of its own."""
        sub = table.add_parser(function.__name__, help=function.__doc__, description=function.__doc__, epilog=EPILOG)
        sub.set_defaults(verb=function)
        for add_to in (*add_options, _common):
            add_to(sub.add_argument)
        return sub.add_argument

    verb(verbs.paths)
    verb(verbs.census, _dataset)
    add = verb(verbs.run, _features, _training)
    add("dataset", nargs="?", metavar="DATASET", help="default: the sample")
    add("--out", type=_path, metavar="RUN", help="folder for the run (default: a new folder in VGGNB_HOME)")
    add = verb(verbs.train, _dataset, _features, _training)
    add("--out", type=_path, required=True, metavar="RUN", help="folder for the run")
    add = verb(verbs.extract, _features)
    add("dataset", metavar="DATASET|MANIFEST", help="a dataset, or the manifest.csv of a run")
    add("--engine", default="local", help="where to compute: local (default) or ray")
    add("--address", help="Ray cluster to connect to: host:port, or auto (default: start a local one)")
    add("--gpus-per-worker", type=int, metavar="N", help="GPUs per Ray worker (default: 1 if there are any, else 0)")
    add = verb(verbs.evaluate, _run, _evaluation)
    add("--dataset", metavar="DATASET", help="evaluate on these images instead of the test split")
    add = verb(verbs.report, _run, _evaluation)
    add("--to", type=_path, metavar="FILE", help="output file (default: report.html in the run's folder)")
    add = verb(verbs.compare, _positive)
    add("runs", nargs=2, type=_path, metavar="RUN", help="folders of two runs on the same dataset")
    add = verb(verbs.save, _run)
    add("--to", type=_path, required=True, metavar="DIR", help="folder for the bundle")
    add("--formats", default="all", help="export formats: all (default), article, or a list such as keras,h5")
    add = verb(verbs.predict, _model)
    add("paths", nargs="+", metavar="PATH", help="image files or folders; - reads their names from stdin")
    add("--csv", action="store_true", help="print CSV on stdout and nothing else")
    add("--engine", default="tensorflow", help="inference engine: tensorflow (default) or onnxruntime")
    rule = "decision threshold (two classes only): a probability of the positive class, or the word chosen for the "
    rule += "threshold that vggnb evaluate chose (default: predict the most probable class)"
    add("--threshold", type=_threshold, metavar="chosen|T", help=rule)
    add("--precision", choices=PRECISIONS, help="precision of the convolutions (default: as in training)")
    add = verb(verbs.share, _model)
    add("--to", type=_path, required=True, metavar="DIR", help="folder for the page")
    add("--weights", default="int8", metavar="W", help="number format: int8 (default), float16 or float32")
    add("--single-file", action="store_true", help="write one index.html that also opens with a double-click")
    add("--serve", action="store_true", help="serve the page once it is written, on this machine only")
    add = verb(verbs.app)
    add("run", type=_path, metavar="RUN", help="folder of a trained run")
    add("--port", type=_whole_number, default=8866, metavar="N", help="port (default: 8866)")
    return parser


def _common(add) -> None:
    add("--json", action="store_true", help="print one JSON document on stdout and nothing else")
    add("--quiet", action="store_true", help="hide progress bars")
    add("--threads", type=_whole_number, metavar="N", help="number of CPU threads")
    archive = "maximum number of files in an archive (default: 100000)"
    add("--max-archive-files", type=_whole_number, metavar="N", help=archive)


def _dataset(add) -> None:
    add("dataset", metavar="DATASET", help="folder, archive or table of images")


def _model(add) -> None:
    add("bundle", type=_path, metavar="RUN|BUNDLE", help="folder of a run or of a bundle")


def _run(add) -> None:
    add("run", type=_path, metavar="RUN", help="folder of a trained run")
    add("--weights", metavar="W", help="weights of the base, if the file has moved since training")


def _features(add) -> None:
    """Options of everything that runs the base."""
    add("--recipe", default="best", help="article, best (default) or fine")
    add("--image-size", type=_side, metavar="N", help="side length in pixels (default: 224; for the sample, 96)")
    add("--batch-size", type=_whole_number, metavar="N", help="images per training step")
    add("--seed", type=int, metavar="N", help="random seed for the split, the initial weights and the shuffling")
    add("--weights", metavar="W", help="weights of the base: imagenet, offline, none, or a file")
    precision = "precision of the convolutions (default: auto; for the sample, float32)"
    add("--precision", choices=PRECISIONS, help=precision)
    add("--store", type=_path, metavar="S", help="folder of the feature store (default: in VGGNB_HOME)")


def _training(add) -> None:
    tuned = "(of fine-tuning, if the recipe includes it)"
    add("--epochs", type=_whole_number, metavar="N", help=f"number of epochs {tuned}")
    add("--learning-rate", type=_number, metavar="R", help=f"learning rate {tuned}")
    add("--class-weights", action="store_true", help="give every class the same total weight in the loss")
    add("--hold-out", action="store_true", help="do not fit the model on validation images")
    add("--patience", type=_whole_number, metavar="N", help="stop after N epochs without improvement")
    add("--fine-tune", metavar="BLOCK", help="then fine-tune the base from this layer on, such as block3_conv1")
    kinds = f"augmentation in fine-tuning: none, or a list of {','.join(AUGMENTATIONS)}"
    add("--augment", metavar="KINDS", help=kinds)
    add("--fresh", action="store_true", help="start over instead of resuming an unfinished training")
    _positive(add)


def _evaluation(add) -> None:
    _positive(add)
    reach = "choose the threshold that reaches this sensitivity on the validation images, 0 to 1"
    add("--sensitivity", type=_number, metavar="S", help=reach)
    cost = "choose the threshold with the lowest cost on the validation images, where a miss costs R times as much as "
    cost += "a false alarm"
    add("--cost-ratio", type=_number, metavar="R", help=cost)
    add("--prevalence", type=_number, metavar="P", help="share of positives where the model will be used, 0 to 1")


def _positive(add) -> None:
    add("--positive", metavar="CLASS", help="positive class of two (default: the last in alphabetical order)")


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
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _threshold(text: str) -> float | str:
    """A number, or "chosen"."""
    with contextlib.suppress(argparse.ArgumentTypeError):
        if (text := text.strip()) == "chosen" or 0 < _number(text) < 1:
            return text if text == "chosen" else _number(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither chosen nor a probability between 0 and 1")


def _side(text: str) -> int:
    """224 or 224x224."""
    sides = re.fullmatch(r"([0-9]+)(?:[x×,]([0-9]+))?", text.strip())
    if not sides or (sides[2] or sides[1]) != sides[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a single side length such as 224: images are square")
    return _whole_number(sides[1])
