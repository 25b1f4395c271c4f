"""Two software stacks, a laptop's and Colab's: what one saves the other opens, and Colab gets one package more."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from other_stack import KERAS, answers, plain, weights_sha256
from packaging.requirements import Requirement

from vggnb.machine import versions
from vggnb.save import load_bundle

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / ".venv-colab"
STACKS = (ROOT / ".venv", COLAB)


@pytest.fixture(scope="module")
def other():
    """The Python of the stack in which these tests do not run."""
    here = Path(sys.prefix).resolve()
    for stack in STACKS:
        if stack.resolve() != here and (stack / "bin" / "python").exists():
            return stack / "bin" / "python"
    missing = " or ".join(stack.name for stack in STACKS if stack.resolve() != here)
    pytest.skip(f"there is no second software stack: {missing} (make setup, make test-colab)")


@pytest.fixture(scope="module")
def twenty(photos):
    """Twenty pictures, JPEG and PNG, of both classes."""
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    return files[:: len(files) // 20][:20]


@pytest.fixture(scope="module")
def told(other, saved, best_run, twenty, tmp_path_factory):
    """What the other stack says, and the bundle that it saved."""
    new = tmp_path_factory.mktemp("other") / "pets"
    command = [str(other), str(ROOT / "tests" / "other_stack.py"), str(saved[0]), str(best_run[0].folder), str(new)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *map(str, twenty)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), new


pytestmark = pytest.mark.stack


@pytest.mark.slow
def test_what_one_stack_saves_says_the_same_in_the_other(told, bundle, twenty):
    there, folder = told
    assert there["versions"]["keras"] != versions()["keras"]
    assert there["classes"] == list(bundle.classes) and there["weights_sha256"] == weights_sha256(bundle.model)
    back = load_bundle(folder)
    assert back.classes == bundle.classes and back.recipe == bundle.recipe
    assert weights_sha256(back.model) == weights_sha256(bundle.model)
    ours = answers(bundle, twenty)
    assert np.shape(ours) == (20, 2)
    for found in (there["probabilities"], there["own"], answers(back, twenty)):
        assert np.abs(np.array(found) - ours).max() <= 1e-6


@pytest.mark.slow
def test_each_file_opens_in_the_other_stack_with_its_plain_loader(told):
    """The newer Keras's in the older one, and the other way round."""
    there, folder = told
    for differences in (there["plain"], plain(folder)):
        assert set(differences) == set(KERAS) and max(differences.values()) <= 1e-6


def test_in_colab_the_setup_cell_adds_exactly_one_package(tmp_path):
    """pip's own plan, without the network, in an environment with Colab's versions."""
    if not (COLAB / "bin" / "python").exists():
        pytest.skip("there is no .venv-colab (make test-colab makes it)")
    assert '"pip", "install", "-q", source]' in build_script().setup_source("")  # no extra, nothing else
    report = tmp_path / "report.json"
    command = [COLAB / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q", "install", "--dry-run"]
    command += ["--no-index", "--no-build-isolation", "--report", report, f"vggnb @ file://{ROOT}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    names = [one["metadata"]["name"] for one in json.loads(report.read_text())["install"]]
    assert names == ["vggnb"]


def test_what_vggnb_needs_is_in_colabs_runtime_itself():
    """Not only among the tools of the tests, which stand in the same environment."""
    lines = (ROOT / "tests" / "colab" / "runtime.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    pins["tensorflow"] = pins["tensorflow-cpu"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["tf"]]:
        wanted = Requirement(line)
        assert pins[wanted.name] in wanted.specifier, line


def build_script():
    """`notebooks/build.py`, which writes the setup cell."""
    spec = importlib.util.spec_from_file_location("notebooks_build", ROOT / "notebooks" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
