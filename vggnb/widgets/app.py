"""`vggnb app RUN`: try-your-own and the threshold explorer as a page in the browser, on this machine only (Voila).

The page is a notebook of one cell in a temporary folder, which goes when the server ends. What is uploaded stays in the
kernel's memory.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import vggnb
from vggnb.storage import VggnbError

HOST = "127.0.0.1"
RUN = "VGGNB_APP_RUN"  # how the page's kernel learns which run it shows
CELL = "from vggnb.widgets.app import show\nshow()"


def serve(run: Path, *, port: int = 8866, tell: Callable[[str], object] = print) -> None:
    """Serve the page until interrupted.

    Raises:
        VggnbError: Voila is not installed, the folder is no trained run, or the port is taken.
    """
    check(run, port)
    with tempfile.TemporaryDirectory(prefix="vggnb-app-") as folder:
        page = Path(folder) / "app.ipynb"
        page.write_text(json.dumps(_notebook()), "utf-8")
        options = ["--no-browser", f"--Voila.ip={HOST}", f"--port={port}", "--Voila.port_retries=0"]
        command = [sys.executable, "-m", "voila", str(page), *options, "--Voila.log_level=ERROR"]
        home = str(Path(vggnb.__file__).resolve().parent.parent)
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {RUN: str(Path(run).resolve()), "PYTHONPATH": path, "JUPYTER_PREFER_ENV_PATH": "1"}
        tell(f"Open http://{HOST}:{port}/ in a browser on this machine. Ctrl+C ends it.")
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **own})
        try:
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
    if code:
        raise VggnbError(f"Voila ended with the code {code}.", "voila", "Look at its messages above.")


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
        except OSError:
            remedy = f"Name another one: --port {port + 1}."
            raise VggnbError(f"The port {port} is taken.", f"{HOST}:{port}", remedy) from None


def show() -> None:
    """What the page shows: both widgets, or one sentence where one of them cannot be."""
    from IPython.display import display

    from vggnb.card import NOT_A_DEVICE
    from vggnb.evaluate import predict_split
    from vggnb.save import open_or_save
    from vggnb.train import open_run
    from vggnb.widgets import ThresholdExplorer, TryYourOwn

    run = open_run(Path(os.environ[RUN]))
    print(NOT_A_DEVICE)
    bundle = open_or_save(run, run.folder / "bundle", name=run.manifest.dataset.name)
    display(TryYourOwn(bundle))
    try:
        print("The threshold, on the validation images:")
        display(ThresholdExplorer(predict_split(run, "validation", progress=False), run.classes))
    except VggnbError as error:
        print(error.what, error.remedy)


def _notebook() -> dict:
    cell = {"cell_type": "code", "id": "app", "metadata": {}, "execution_count": None, "outputs": [], "source": CELL}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}
