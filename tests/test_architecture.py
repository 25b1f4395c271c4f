"""The arrows of the house, read from the source: a module imports only from its left. Nothing is run."""

import ast
import importlib.util
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "vggnb"
GROUND = "storage lock checkpoints images recipe".split()
WAY = (
    "machine paths folders staging datasets census shards generators weights model features cluster choose calibrate "
    "likeness train evaluate card save predict"
).split()
LEAVES = "figures explain report widgets".split()
ORDER = [*GROUND, *WAY, *LEAVES, "cli", "__main__"]
LEAF_USERS = {  # who may import which leaves
    "report": {"figures", "explain"},
    "widgets": {"figures", "explain"},
    "cli": {"figures", "explain", "report", "widgets"},
}
HEAVY = {"tensorflow", "keras"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "builtins.eval", "builtins.exec", "yaml.load", "yaml.unsafe_load"}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path != Path("__init__.py")]


def room(path):
    """Where in ORDER a file stands: 'census' for census/layout.py and for census/__init__.py."""
    return path.parts[0].removesuffix(".py")


def imports(source):
    """Dotted names of all that a source imports, inside functions too; 'vggnb.model' for `from vggnb import model`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["vggnb" if node.level else "", node.module]))
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "vggnb" else {base}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return found


def wrong_arrows(module, source):
    """What this module imports and may not."""
    problems = []
    for name in sorted(imports(source)):
        top, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        if top in HEAVY and module in ORDER[: ORDER.index("generators")]:
            problems.append(f"{module} imports {top}, which is allowed from generators on")
        if top != "vggnb" or part not in ORDER:
            continue
        if part == module:
            continue  # inside one room
        if ORDER.index(part) > ORDER.index(module):
            problems.append(f"{module} imports {part}, which is not on its left")
        if part in LEAVES and part not in LEAF_USERS.get(module, set()):
            problems.append(f"{module} imports the leaf {part}")
    return problems


def unsafe_code(source):
    """Where a source could run what it reads."""
    problems = [f"imports {name}" for name in imports(source) if name.partition(".")[0] in FORBIDDEN_MODULES]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in FORBIDDEN_CALLS:
            problems.append(f"line {node.lineno}: {name}")
        if any(word.arg == "allow_pickle" and getattr(word.value, "value", True) for word in node.keywords):
            problems.append(f"line {node.lineno}: {name} with allow_pickle")
    return problems


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_import_only_from_their_left(path):
    assert room(path) in ORDER, f"Say in ORDER where vggnb/{path} stands, and in CONTRIBUTING.md"
    assert wrong_arrows(room(path), (PACKAGE / path).read_text("utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_module_runs_what_it_reads(path):
    assert unsafe_code((PACKAGE / path).read_text("utf-8")) == []


def test_importing_the_package_imports_nothing():
    assert imports((PACKAGE / "__init__.py").read_text("utf-8")) == set()


@pytest.mark.parametrize(
    "module, source",
    [
        ("storage", "from vggnb.images import read_image"),
        ("images", "from vggnb import recipe"),
        ("recipe", "import vggnb.census"),
        ("recipe", "from . import paths"),
        ("recipe", "from .paths import open_workspace"),
        ("census", "def f():\n    from vggnb.model import build_base"),
        ("census", "import importlib\nimportlib.import_module('vggnb.train')"),
        ("census", "import tensorflow as tf"),
        ("census", "def f():\n    from keras.layers import Dense"),
        ("paths", "__import__('keras')"),
        ("evaluate", "from vggnb.figures import confusion_matrix"),
        ("explain", "from vggnb import figures"),
        ("train", "from vggnb.figures.canvas import drawing"),
        ("figures", "from vggnb.cli import main"),
    ],
)
def test_a_wrong_arrow_is_seen(module, source):
    assert wrong_arrows(module, source)


@pytest.mark.parametrize(
    "module, source",
    [
        ("images", "from vggnb.storage import VggnbError"),
        ("generators", "import tensorflow as tf\nfrom vggnb.census import Row"),
        ("widgets", "from vggnb import explain, figures, predict"),
        ("cli", "from vggnb import census, explain, figures, widgets"),
        ("paths", "import vggnb\nfrom vggnb import __version__"),
    ],
)
def test_a_right_arrow_is_let_through(module, source):
    assert wrong_arrows(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "import builtins\nbuiltins.eval(text)",
        "import pickle",
        "from pickle import loads",
        "import yaml\nyaml.load(text)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
    ],
)
def test_unsafe_code_is_seen(source):
    assert unsafe_code(source)


def test_safe_code_is_let_through():
    assert unsafe_code("import re, json\nre.compile('a')\njson.loads(text)\nnp.load(path, allow_pickle=False)") == []


BENCHMARKS = sorted((PACKAGE.parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_still_there(script):
    """Nobody runs them in a test; a name that has moved would be found out only when a number is wanted."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "vggnb":
            module = importlib.import_module(node.module)
            for alias in node.names:
                here = hasattr(module, alias.name)
                assert here or importlib.util.find_spec(f"{node.module}.{alias.name}"), (node.module, alias.name)
