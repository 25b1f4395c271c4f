"""Make the notebooks from the .py files paired with them: stamp, convert, run in order, keep clean outputs.

    python notebooks/build.py [--no-execute] [NN ...]
    python notebooks/build.py --colab WHEEL    # what a user drags into Google Drive: WHEEL's folder/vggnb-colab.zip

Without numbers, every page. With numbers, the pages before them run too (what they leave on disk is needed), but only
the named ones are written. Every run starts from an empty VGGNB_HOME in the quick profile.
"""

import argparse
import copy
import os
import re
import tempfile
import time
import zipfile
from pathlib import Path

import jupytext
import nbformat

from vggnb import __version__

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent

# What every page runs with; conftest.py beside this file gives nbval the same.
ENVIRONMENT = {
    "VGGNB_PROFILE": "quick",
    "VGGNB_WEIGHTS": "offline",
    "VGGNB_THREADS": "2",
    "VGGNB_PRECISION": "float32",  # the same numbers on every processor
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "COLUMNS": "100",  # or tables would be as wide as the terminal
    "PYTEST_CURRENT_TEST": "1",  # ipykernel then leaves the C libraries' stderr alone, as it does under nbval
}

SETUP = """\
# @title Setup (run me first) {"display-mode": "form"}
SOURCE = "as last time"  # @param ["as last time", "sample", "solar cells", "folder or zip on Drive", "upload a zip"]
PATH = ""  # @param {"type": "string", "placeholder": "MyDrive/my_images"}
import importlib.util, os, pathlib, subprocess, sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
found, here, source = importlib.util.find_spec("vggnb"), pathlib.Path.cwd(), "ADDRESS"
if not getattr(found, "origin", None):  # not installed: a checkout around this page, or a wheel, or an address
    checkouts = [folder for folder in (here, *here.parents) if (folder / "vggnb/paths.py").is_file()]
    wheels = list(pathlib.Path("/content").glob("vggnb-*.whl"))
    if not checkouts and not wheels and "google.colab" in sys.modules:
        try:
            from google.colab import drive as google_drive
            google_drive.mount("/content/drive")
        except Exception as error:
            print(f"Google Drive was not mounted: {error}")
        drive = pathlib.Path("/content/drive/MyDrive")
        wheels = [wheel for folder in ("", "vggnb*/", "vggnb*/*/") for wheel in drive.glob(f"{folder}vggnb-*.whl")]
    source = str(max(wheels, key=os.path.getmtime)) if wheels else source
    if checkouts:
        sys.path.insert(0, str(checkouts[0]))
    elif not source or subprocess.run([sys.executable, "-m", "pip", "install", "-q", source]).returncode:
        raise type("NotInstalled", (Exception,), {"_render_traceback_": lambda self: [str(self)]})(
            "vggnb is not installed: drag the folder vggnb of vggnb-colab.zip into My Drive, or its file vggnb-...whl "
            "into this page's files, and run this cell again; on your own computer, open the page inside the project.")
    importlib.invalidate_caches()
from vggnb.paths import open_workspace
ws = open_workspace(SOURCE, PATH)
print(ws)"""

COLAB = "https://colab.research.google.com"
BADGE = "[![Open In Colab]"  # how the line starts
WITHOUT_IMAGES = "11_solar_cells"  # the page whose images have a licence that does not let them be committed
FILTERS = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}  # as in pyproject.toml
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

NOISE = {
    "a path of one machine": re.compile(
        r"(?<![\w/.:<>~-])/(?:home|root|tmp|work|usr|opt|mnt|var|private|Users)/[\w.-]+|\b[A-Z]:\\\w"
    ),
    "a memory address": re.compile(r"\b0x[0-9a-f]{7,}"),
}


def address() -> str:
    """Where the project is published, with a tag or commit: VGGNB_REPOSITORY, or nothing.

    `https://github.com/OWNER/NAME` means the tag of this version; `...@REF` a tag or commit of one's own.
    """
    repository, _, ref = os.environ.get("VGGNB_REPOSITORY", "").strip().rstrip("/").partition("@")
    return f"{repository}@{ref or f'v{__version__}'}" if repository else ""


def setup_source(address: str) -> str:
    """The setup cell, the same on every page."""
    return SETUP.replace("ADDRESS", f"vggnb @ git+{address}" if address else "")


def badge_line(name: str, address: str) -> str:
    """The Colab badge of one page, a line of Markdown; `name` is the file's without its ending. Nothing without one."""
    repository, _, ref = address.removeprefix("https://github.com/").partition("@")
    image = f"{BADGE}({COLAB}/assets/colab-badge.svg)]"
    return f"{image}({COLAB}/github/{repository}/blob/{ref}/notebooks/{name}.ipynb)" if address else ""


def tags(cell) -> list[str]:
    """A cell's tags."""
    return list(cell.metadata.get("tags", []))


def stamp(script, name: str) -> None:
    """Put the badge, if there is one, under the title, and the setup cell after the first cell."""
    if not script.cells or script.cells[0].cell_type != "markdown" or not script.cells[0].source.startswith("# "):
        raise SystemExit(f"{name}.py: the first cell must be Markdown and start with the title, '# ...'.")
    first, *others = script.cells
    title, *lines = [line for line in first.source.splitlines() if not line.startswith(BADGE)]
    parts = (title, badge_line(name, address()), "\n".join(lines).strip("\n"))
    first.source = "\n\n".join(filter(None, parts))
    setup = nbformat.v4.new_code_cell(setup_source(address()), metadata={"tags": ["setup"]})
    script.cells = [first, setup, *(cell for cell in others if "setup" not in tags(cell))]


def as_notebook(script, name: str):
    """The notebook of a script: only tags as metadata, and cell ids that stay the same from build to build."""
    notebook = nbformat.v4.new_notebook(metadata=copy.deepcopy(METADATA))
    for number, cell in enumerate(script.cells):
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        metadata = {"tags": tags(cell)} if tags(cell) else {}
        if "hide-input" in tags(cell):
            metadata["jupyter"] = {"source_hidden": True}  # folded in JupyterLab; in Colab, the form does that
        notebook.cells.append(new(cell.source, id=f"{name[:2]}-{number:03}", metadata=metadata))
    return notebook


def keep_outputs(notebook, old) -> None:
    """Give code cells whose source did not change the outputs that they had."""
    known = {cell.source: cell for cell in old.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source in known:
            cell.outputs = known[cell.source].outputs
            cell.execution_count = known[cell.source].execution_count


def page_environment(home: Path) -> dict[str, str]:
    """The environment of a page's kernel: ours, and of the caller's what does not change the outputs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VGGNB_")}
    kept.pop("MPLBACKEND", None)
    return kept | ENVIRONMENT | {"VGGNB_HOME": str(home)}


def execute(notebook, folder: Path, home: Path) -> None:
    """Run all cells with `folder` as the working directory.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed that is not tagged raises-exception.
    """
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=page_environment(home))


def find_noise(text: str) -> list[str]:
    """What in a text belongs to one machine or one moment."""
    plain = re.sub(r"\x1b\[[\d;]*m", " ", text)  # without the colours of a traceback
    return [f"{what}: {found[0]}" for what, pattern in NOISE.items() if (found := pattern.search(plain))]


def clean_outputs(notebook, home: Path, where: str) -> None:
    """Name known folders by what they are, drop widget models, and stop at anything else of this machine."""
    places = {str(home): "<home>", str(ROOT): "<checkout>"}
    if ROOT.is_relative_to(Path.home()):
        places["~/" + ROOT.relative_to(Path.home()).as_posix()] = "<checkout>"

    def clean(value, kind=""):
        if isinstance(value, dict):
            kept = {key: item for key, item in value.items() if key != "application/vnd.jupyter.widget-view+json"}
            return nbformat.from_dict({key: clean(item, key) for key, item in kept.items()})
        if isinstance(value, list):
            return [clean(item) for item in value]
        if not isinstance(value, str) or kind in ("image/png", "image/jpeg"):
            return value
        for place, words in places.items():
            value = value.replace(place, words)
        if noise := find_noise(value):
            raise SystemExit(f"{where}, cell {cell.id}: an output holds {noise[0]}. Print something that lasts.")
        return value

    notebook.metadata = nbformat.from_dict(copy.deepcopy(METADATA))  # the run adds the version of its Python
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = clean(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "stream":  # less the lines of progress bars that cleared themselves
                    output.text = re.sub(r"[^\n]*\r", "", output.text)


def holds_images(cell) -> bool:
    """Whether an output shows images of the dataset: figures of images are JPEG, thumbnails stand in HTML."""
    data = [output.get("data", {}) for output in cell.get("outputs", [])]
    return any("image/jpeg" in one or "<img" in str(one.get("text/html", "")) for one in data)


def empty_images(notebook, where: str) -> None:
    """Empty the outputs of cells that show images, and tag them so that nbval does not compare them."""
    for cell in filter(holds_images, notebook.cells):
        if "nbval-ignore-output" not in tags(cell):
            raise SystemExit(f"{where}, cell {cell.id} shows images: tag it nbval-ignore-output.")
        cell.outputs = []


def write_if_changed(path: Path, text: str) -> str:
    """Write a text file unless it holds just that; say which of the two."""
    if path.is_file() and path.read_text("utf-8") == text:
        return "unchanged"
    path.write_text(text, "utf-8")
    return "written"


def build_page(path: Path, home: Path | None, write: bool) -> None:
    """Build one page from its .py file; `home` is the VGGNB_HOME to run it with, or None not to run it."""
    from nbclient.exceptions import CellExecutionError

    name, start = path.stem, time.perf_counter()
    script = jupytext.read(path, fmt="py:percent")
    script.metadata["jupytext"] = FILTERS
    stamp(script, name)
    notebook, target = as_notebook(script, name), path.with_suffix(".ipynb")
    if home:
        try:
            execute(notebook, path.parent, home)
        except CellExecutionError as error:
            raise SystemExit(f"{path.name}: a cell failed.\n{error}") from error
        clean_outputs(notebook, home, path.name)
        if name == WITHOUT_IMAGES:
            empty_images(notebook, path.name)
    elif target.is_file():
        keep_outputs(notebook, nbformat.read(target, as_version=4))
    state = "run only"
    if write:
        write_if_changed(path, jupytext.writes(script, fmt="py:percent"))
        state = write_if_changed(target, nbformat.writes(notebook) + "\n")
    print(f"{name}: {len(notebook.cells)} cells, {time.perf_counter() - start:.1f} s, {state}", flush=True)


def build(folder: Path, numbers: list[str], run: bool) -> None:
    """Build the pages of a folder with these numbers ("05"), or all where none is given."""
    pages = sorted(folder.glob("[0-9][0-9]_*.py"))
    wanted = [page for page in pages if not numbers or page.name[:2] in numbers]
    if unknown := set(numbers) - {page.name[:2] for page in pages}:
        raise SystemExit(f"No such page in {folder}: {', '.join(sorted(unknown))}")
    if not wanted:
        raise SystemExit(f"No page NN_step.py in {folder}")
    with tempfile.TemporaryDirectory(prefix="vggnb-home-") as home:
        for page in pages[: pages.index(wanted[-1]) + 1] if run else wanted:
            build_page(page, Path(home).resolve() if run else None, page in wanted)


def pack_for_colab(wheel: Path) -> Path:
    """Write vggnb-colab.zip beside a wheel: a folder `vggnb` with the pages, the wheel and a read-me."""
    target = wheel.with_name("vggnb-colab.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(wheel, f"vggnb/{wheel.name}")
        archive.write(FOLDER / "colab.txt", "vggnb/READ ME FIRST.txt")
        for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")):
            page = nbformat.read(path, as_version=4)
            if path.name[:2] not in ("01", "02", "03"):  # they train
                page.metadata |= {"accelerator": "GPU", "colab": {"gpuType": "T4"}}  # Colab then starts with a GPU
            archive.writestr(f"vggnb/{path.name}", nbformat.writes(page))
    print(f"{target.name}: {len(archive.namelist())} files, {target.stat().st_size / 1e6:.1f} MB")
    return target


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="NN", help="pages to build, such as 05; all by default")
    parser.add_argument("--no-execute", action="store_true", help="keep the outputs of cells that did not change")
    parser.add_argument("--colab", type=Path, metavar="WHEEL", help="pack the pages and this wheel for Google Drive")
    arguments = parser.parse_args()
    if arguments.colab:
        pack_for_colab(arguments.colab)
        return
    build(FOLDER, arguments.numbers, not arguments.no_execute)


if __name__ == "__main__":
    main()
