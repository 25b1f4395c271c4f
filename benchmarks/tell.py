"""What the benchmarks share: arguments, machine and date, and a line for each number or one JSON document."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

from vggnb.machine import device_words, versions


def parser(doc: str, *, dataset: bool = False) -> argparse.ArgumentParser:
    """The arguments that nearly all take."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if dataset:
        found.add_argument("dataset", nargs="?", type=Path)
    found.add_argument("--image-size", type=int, default=224)
    found.add_argument("--weights", default="offline")
    return with_json(found)


def with_json(found: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add --json: once it is parsed, all that is printed goes to stderr, and stdout is for the document alone."""

    class Json(argparse.Action):
        def __call__(self, parser, options, *_):
            options.json, sys.stdout = True, sys.stderr  # Keras and other libraries print, too

    found.add_argument("--json", action=Json, nargs=0, default=False)
    return found


def document(result: dict) -> None:
    """Print the JSON document."""
    print(json.dumps(result), file=sys.__stdout__)


def where(*packages: str) -> dict:
    """Machine and date, with the versions that matter."""
    parts = [platform.machine(), device_words(), f"Python {platform.python_version()}"]
    known = versions()  # TensorFlow may be installed as tensorflow-cpu
    parts += [f"{name} {known.get(name) or version(name)}" for name in packages]
    return {"machine": ", ".join(parts), "date": date.today().isoformat()}


def main(measure: Callable[[argparse.Namespace], dict], arguments: argparse.ArgumentParser) -> None:
    """Measure as the command line asks, and tell it."""
    options = arguments.parse_args()
    tell(measure(options), as_json=options.json)


def tell(result: dict, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        document(result)
        return
    for name, value in lines(result):
        print(f"{name:<34} {f'{value:.3g}' if isinstance(value, float) else value}")


def lines(result: dict, before: str = "") -> Iterator[tuple[str, object]]:
    """Name and value, those of inner tables too."""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from lines(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", value
