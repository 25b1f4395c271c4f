"""`vggnb app RUN`: try-your-own and the threshold explorer as a page in the browser, on this machine only (Voila).

The page is a notebook of one cell in a temporary folder, which goes when the server ends. What is uploaded stays in the
kernel's memory.
"""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

from vggnb.folders import shown
from vggnb.paths import python_path
from vggnb.storage import VggnbError
from vggnb.widgets.panels import ipywidgets

HOST = "127.0.0.1"
RUN = "VGGNB_APP_RUN"  # how the page's kernel learns which run it shows
CELL = "from vggnb.widgets.app import show\nshow()"
MOST_UPLOADED = 100_000_000  # bytes of all files together; without it, 10 MB, and what is above is dropped silently


def serve(run: Path, *, port: int = 8866, tell: Callable[[str], object] = print) -> None:
    """Serve the page until interrupted.

    Raises:
        VggnbError: Voila is not installed, the folder is no trained run, or the port is taken.
    """
    check(run, port)
    prepare(run)
    with tempfile.TemporaryDirectory(prefix="vggnb-app-") as folder:
        page = Path(folder) / "app.ipynb"
        page.write_text(json.dumps(_notebook()), "utf-8")
        options = ["--no-browser", f"--Voila.ip={HOST}", f"--port={port}", "--Voila.port_retries=0"]
        options += [f"--Voila.tornado_settings={{'websocket_max_message_size': {MOST_UPLOADED}}}"]
        command = [sys.executable, "-m", "voila", str(page), *options, "--Voila.log_level=ERROR"]
        own = {RUN: str(Path(run).resolve()), "PYTHONPATH": python_path(), "JUPYTER_PREFER_ENV_PATH": "1"}
        tell(f"Open http://{HOST}:{port}/ in a browser on this machine. Ctrl+C ends it.")
        with _ended_by_signals():
            process = subprocess.Popen(command, cwd=folder, env={**os.environ, **own})
            try:
                code = process.wait()
            except KeyboardInterrupt:
                raise KeyboardInterrupt("The app has ended.") from None
            finally:
                process.terminate()
                process.wait()
    if code:
        raise VggnbError(f"Voila ended with the code {code}.", "voila", "Look at its messages above.")


@contextlib.contextmanager
def _ended_by_signals():
    """A closed terminal and `kill` end the block as Ctrl+C does: no server is left behind."""

    def end(number, frame):
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {one: signal.signal(one, end) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def check(run: Path, port: int) -> None:
    """Refuse at once what could not be served."""
    if importlib.util.find_spec("voila") is None:
        raise VggnbError("The app needs Voila.", "voila", 'Install it: pip install "vggnb[app]".')
    from vggnb.train import open_run

    open_run(run).training()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            what = f"The port {port} cannot be used ({getattr(error, 'strerror', None) or error})."
            raise VggnbError(what, f"{HOST}:{port}", "Name another one, 1024 to 65535, with --port.") from None


def prepare(run: Path) -> tuple:
    """The run, its bundle, and what it says about its validation images, or a sentence why not: made where missing."""
    from vggnb.evaluate import predict_split
    from vggnb.save import open_or_save
    from vggnb.train import open_run

    run = open_run(run)
    bundle = open_or_save(run, run.folder / "bundle", name=run.manifest.dataset.name)
    try:
        return run, bundle, predict_split(run, "validation", progress=False)
    except VggnbError as error:
        return run, bundle, f"{error.what} {error.remedy}"


def show() -> None:
    """What the page shows: both widgets under their headings, or a sentence where one of them cannot be."""
    from IPython.display import display

    from vggnb.card import NOT_A_DEVICE
    from vggnb.widgets.uploads import TryYourOwn

    run, bundle, said = prepare(Path(os.environ[RUN]))
    classes = ", ".join(map(shown, bundle.classes))
    parts = [_words(NOT_A_DEVICE, "b"), _words("Your own photo", "h2")]
    parts += [_words(f"The model VGG_{bundle.name} says of a picture which of these it is: {classes}.")]
    parts += [TryYourOwn(bundle).view, _words("Where to draw the line", "h2"), *_explorer(said, run.classes)]
    display(ipywidgets.VBox(parts, layout={"max_width": "60em", "margin": "0 auto", "padding": "0 1em"}))


def _explorer(said, classes: tuple[str, ...]) -> list:
    """The threshold explorer on what was said about validation; or a sentence, which may be what was said."""
    from vggnb.widgets.controls import ThresholdExplorer

    if isinstance(said, str):
        return [_words(said)]
    try:
        explorer = ThresholdExplorer(said, classes)
    except VggnbError as error:  # more than two classes
        return [_words(f"{error.what} {error.remedy}")]
    words = f"Move the threshold and see what becomes of the {len(said.labels)} validation images."
    return [_words(words), explorer.view]


def _words(words: object, tag: str = "p"):
    """Words of the page, escaped."""
    return ipywidgets.HTML(f"<{tag}>{escape(shown(str(words)))}</{tag}>")


def _notebook() -> dict:
    cell = {"cell_type": "code", "id": "app", "metadata": {}, "execution_count": None, "outputs": [], "source": CELL}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}
