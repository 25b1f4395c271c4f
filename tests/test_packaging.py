"""pyproject.toml keeps its promises: to Colab, to conda, to whoever installs the wheel."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINS = [line for line in (ROOT / "tests/colab/runtime.txt").read_text("utf-8").splitlines() if "==" in line]
COLAB = {name.replace("tensorflow-cpu", "tensorflow"): version for name, version in (pin.split("==") for pin in PINS)}


def test_on_colab_pip_adds_exactly_one_package():
    assert "3.13.15" in SpecifierSet(PROJECT["requires-python"])  # its Python
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["tf"]]:
        requirement = Requirement(line)
        assert COLAB[requirement.name] in requirement.specifier, f"{line} would replace {COLAB[requirement.name]}"
    assert not {Requirement(line).name for line in PROJECT["dependencies"]} & {"tensorflow", "tensorflow-cpu", "keras"}


def test_environment_yml_agrees_with_pyproject():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    python, pip, from_pip = dependencies
    assert python.removeprefix("python=") + ".0" in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip" and len(from_pip["pip"]) == 1  # versions stand in pyproject.toml only
    extras = Requirement(from_pip["pip"][0].replace("-e .", "vggnb")).extras
    assert extras <= set(PROJECT["optional-dependencies"])
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"EXTRAS = {from_pip['pip'][0].removeprefix('-e .[').removesuffix(']')}\n" in makefile


def test_one_ruff_for_make_and_pre_commit():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    pins = {pin for hook in hooks for pin in hook.get("additional_dependencies", []) if pin.startswith("ruff")}
    assert pins == {line for line in PROJECT["optional-dependencies"]["dev"] if line.startswith("ruff")}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


def test_the_wheel_holds_the_library_and_the_sample_only(built):
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    folder = ROOT / "data" / "sample"
    sample = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert sample and {f"vggnb/_sample/{path}" for path in sample} <= set(names)
    assert {f"vggnb/{path.name}" for path in (ROOT / "vggnb").glob("*.py")} <= set(names)
    assert {name.split("/")[0] for name in names} == {"vggnb", next(n for n in names if "dist-info" in n).split("/")[0]}
    assert not [name for name in names if "__pycache__" in name]
    page = {path for path in (ROOT / "vggnb").rglob("*.*") if path.suffix in (".html", ".css", ".js")}
    page |= set((ROOT / "vggnb/share/runtime").glob("ort*"))  # where `make web` fetched it
    assert len(page) >= 4 and {path.relative_to(ROOT).as_posix() for path in page} <= set(names)


def test_the_sdist_holds_the_sample_and_no_tests(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert any(name.startswith("data/sample/train/") for name in names)
    assert {"LICENSE", "pyproject.toml", "README.md", "CHANGELOG.md"} <= names
    assert not [name for name in names if name.startswith(("tests", "notebooks", ".venv")) or "__pycache__" in name]


def test_the_zip_for_colab_is_a_folder_with_pages_wheel_and_read_me(built):
    nbformat = pytest.importorskip("nbformat")
    command = [sys.executable, str(ROOT / "notebooks" / "build.py"), "--colab", str(next(built.glob("*.whl")))]
    subprocess.run(command, check=True)
    archive = zipfile.ZipFile(built / "vggnb-colab.zip")
    names = [name.removeprefix("vggnb/") for name in archive.namelist()]
    pages = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert sorted(names) == sorted([*pages, "READ ME FIRST.txt", next(built.glob("*.whl")).name])
    page = nbformat.reads(archive.read("vggnb/00_quickstart.ipynb").decode(), 4)
    assert page.metadata.accelerator == "GPU" and page.cells[1].source.startswith("# @title Setup")
    assert "accelerator" not in nbformat.reads(archive.read("vggnb/02_census.ipynb").decode(), 4).metadata
    assert "00_quickstart.ipynb" in archive.read("vggnb/READ ME FIRST.txt").decode()
