"""The arrows of the house, read from the source: a module imports only from its left. Nothing is run."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "vggnb"
GROUND = "storage folders colab images recipe solar exercises machine archives".split()
CAPTURE = {"capture_output": True, "text": True}
WAY = (
    "paths staging datasets census metrics device generators weights model features train evaluate save predict share"
).split()
LEAVES = "figures explain report widgets".split()
ORDER = [*GROUND, *WAY, *LEAVES, "workflow", "cli", "__main__"]
LEAF_USERS = {  # who may import which leaves
    "report": {"figures", "explain"},
    "widgets": {"figures", "explain"},
    "workflow": {"report"},
    "cli": {"figures", "explain", "report", "widgets"},
}
HEAVY = {"tensorflow", "keras"}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


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
        if top in HEAVY and module in ORDER[: ORDER.index("device")]:
            problems.append(f"{module} imports {top}, which is allowed from device on")
        if top != "vggnb" or part not in ORDER or part == module:
            continue
        if ORDER.index(part) > ORDER.index(module):
            problems.append(f"{module} imports {part}, which is not on its left")
        if part in LEAVES and part not in LEAF_USERS.get(module, set()):
            problems.append(f"{module} imports the leaf {part}")
    return problems


def test_modules_import_only_from_their_left():
    problems = []
    for path in FILES:
        source = (PACKAGE / path).read_text("utf-8")
        if path == Path("__init__.py"):
            problems += [f"vggnb/__init__.py imports {name}, and should import nothing" for name in imports(source)]
        elif room(path) not in ORDER:
            problems.append(f"Say in ORDER where vggnb/{path} stands, and in CONTRIBUTING.md")
        else:
            problems += [f"{path}: {problem}" for problem in wrong_arrows(room(path), source)]
    assert not problems, "\n".join(problems)


def test_wrong_arrows_are_seen_and_right_ones_let_through():
    wrong = [
        ("recipe", "from .paths import open_workspace"),
        ("census", "def f():\n    from vggnb.model import build_base"),
        ("census", "import importlib\nimportlib.import_module('vggnb.train')"),
        ("census", "def f():\n    from keras.layers import Dense"),
        ("paths", "__import__('keras')"),
        ("evaluate", "from vggnb.figures import confusion_matrix"),
    ]
    right = [
        ("generators", "import tensorflow as tf\nfrom vggnb.census import Row"),
        ("cli", "from vggnb import census, explain, figures, widgets"),
        ("paths", "import vggnb\nfrom vggnb import __version__"),
    ]
    assert all(wrong_arrows(*case) for case in wrong)
    assert not any(wrong_arrows(*case) for case in right)


def test_what_a_benchmark_imports_is_still_there():
    """Nobody runs them in a test; a name that has moved would be found out only when a number is wanted."""
    missing = []
    for script in [*sorted((PACKAGE.parent / "benchmarks").glob("*.py")), *(PACKAGE.parent / "docs").glob("*.py")]:
        for node in ast.walk(ast.parse(script.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "vggnb":
                module = importlib.import_module(node.module)
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                names = [name for name in names if not importlib.util.find_spec(f"{node.module}.{name}")]
                missing += [f"{script.name}: {node.module}.{name}" for name in names]
    assert not missing


def test_a_benchmark_prints_its_document_through_one_function():
    """So that nothing else lands on stdout, whatever libraries print (`tell.with_json`)."""
    for script in sorted((PACKAGE.parent / "benchmarks").glob("*.py")):
        source = script.read_text("utf-8")
        assert script.name == "tell.py" or '"--json", action' not in source, script.name
    code = "import tell; tell.main(lambda options: print('Found 384 files.') or {'n': 1}, tell.parser('x'))"
    done = subprocess.run([sys.executable, "-c", code, "--json"], cwd=PACKAGE.parent / "benchmarks", **CAPTURE)
    assert (done.stdout, "Found 384 files." in done.stderr) == ('{"n": 1}\n', True)
