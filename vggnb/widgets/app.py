"""`vggnb app RUN`: try-your-own and the threshold explorer as a page in the browser, on this machine only (Voila).

The page is a notebook of one cell in a temporary folder. Uploads stay in the kernel's memory.
"""

import importlib.util
import os
import socket
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

import ipywidgets

from vggnb.folders import shown
from vggnb.machine import python_path
from vggnb.storage import VggnbError
from vggnb.widgets.controls import threshold_explorer
from vggnb.widgets.uploads import try_your_own

HOST = "127.0.0.1"
RUN = "VGGNB_APP_RUN"  # how the page's kernel learns which run it shows
CELL = "from vggnb.widgets.app import show\nshow()"
MOST_UPLOADED = 100_000_000  # bytes in one message


def serve(run: Path, *, port: int = 8866, tell: Callable[[str], object] = print) -> None:
    """Serve the page until interrupted.

    Raises:
        VggnbError: Voila is not installed, the folder is not a trained run, or the port is in use.
    """
    check(run, port)
    prepare(run)
    import nbformat
    from voila.app import Voila

    os.environ |= {RUN: str(Path(run).resolve()), "PYTHONPATH": python_path(), "JUPYTER_PREFER_ENV_PATH": "1"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(CELL)]
    with tempfile.TemporaryDirectory(prefix="vggnb-app-") as folder:
        page = Path(folder) / "app.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), page)
        options = ["--no-browser", f"--Voila.ip={HOST}", f"--port={port}", "--Voila.port_retries=0"]
        options += [f"--Voila.tornado_settings={{'websocket_max_message_size': {MOST_UPLOADED}}}"]
        tell(f"Open http://{HOST}:{port}/ in a browser on this machine. Ctrl+C ends it.")
        Voila.launch_instance([str(page), *options, "--Voila.log_level=ERROR"])


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
            raise VggnbError(what, f"{HOST}:{port}", "Choose another one, 1024 to 65535, with --port.") from None


def prepare(run: Path) -> tuple:
    """The run, its bundle (saved if missing), and its predictions on validation or why there are none."""
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
    """Show the page: both controls under their headings, or a sentence if one of them cannot be shown."""
    from IPython.display import display

    run, bundle, predictions = prepare(Path(os.environ[RUN]))
    classes = ", ".join(map(shown, bundle.classes))
    upload = try_your_own(bundle, hint=f"Choose one or more images, together up to {MOST_UPLOADED // 10**6} MB.")
    parts = [_words(bundle.purpose, "b"), _words("Your own images", "h2")]
    parts += [_words(f"The model VGG_{bundle.name} predicts one of these classes: {classes}."), upload.view]
    parts += [_words("Decision threshold", "h2")]
    if len(run.classes) != 2:
        parts += [_words("A decision threshold needs two classes; this model has more.")]
    elif isinstance(predictions, str):
        parts += [_words(predictions)]
    else:
        parts += [_words(f"Move the threshold: {len(predictions.labels)} validation images.")]
        parts += [threshold_explorer(predictions, run.classes).view]
    display(ipywidgets.VBox(parts, layout={"max_width": "60em", "margin": "0 auto", "padding": "0 1em"}))


def _words(words: object, tag: str = "p"):
    return ipywidgets.HTML(f"<{tag}>{escape(shown(str(words)))}</{tag}>")
