"""The pages keep their shape, ran in order, are in short paragraphs, and hold nothing of one machine.

Each check takes a Page and gives a list of problems. That the outputs are true is for nbval: `make pages`.
"""

import ast
import functools
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
STEMS = sorted({path.stem for ending in ("py", "ipynb") for path in NOTEBOOKS.glob(f"[0-9][0-9]_*.{ending}")})

spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


@dataclass(frozen=True)
class Page:
    path: Path  # of the .ipynb
    notebook: nbformat.NotebookNode
    twin: nbformat.NotebookNode

    def cells(self, kind):
        return [(number, cell) for number, cell in enumerate(self.notebook.cells) if cell.cell_type == kind]


@functools.cache
def load(path):
    return Page(path, nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"), fmt="py:percent"))


def texts(value, kind=""):
    """Every string inside an output, images left out."""
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in texts(item, key)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) and kind not in ("image/png", "image/jpeg") else []


def headings(notebook, *, level):
    """Headings of this level or deeper, code blocks left out."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.finditer(r"(?m)^(#+)\s+(.+)$", re.sub(r"(?ms)^```.*?^```", "", prose))
    return [one[2] for one in found if len(one[1]) >= level]


def follows_its_twin(page):
    ours, theirs = (
        [(cell.cell_type, cell.source.rstrip(), build.tags(cell)) for cell in notebook.cells]
        for notebook in (page.notebook, page.twin)
    )
    return ["it is not that of the .py: run `make notebooks`"] * (ours != theirs)


def ran_in_order(page):
    """No cell fails, whatever its tags: Run all never stops. No bar stands half filled."""
    problems = []
    for count, (number, cell) in enumerate(page.cells("code"), start=1):
        if cell.execution_count != count:
            problems.append(f"cell {number} ran as [{cell.execution_count}], not as [{count}]: run `make notebooks`")
        problems += [f"cell {number} failed: {out.evalue}" for out in cell.outputs if out.output_type == "error"]
        problems += [f"cell {number} shows a progress bar" for text in texts(cell.outputs) if re.search(r"\d%\|", text)]
    return problems


def stamped_address(page):
    """Where the page says that the project is published; empty where it says nothing."""
    return "".join(re.findall(r'"vggnb @ git\+([^"]+)"', page.notebook.cells[1].source))


def begins_as_every_page(page):
    """Title, goals and cost; the badge if there is an address; the setup cell."""
    first, setup = page.notebook.cells[:2]
    address, problems = stamped_address(page), []
    if (setup.source, build.tags(setup)) != (build.setup_source(address), ["setup"]):
        problems.append("cell 1 is not the setup cell: run `make notebooks`")
    if address and build.badge_line(page.path.stem, address) not in first.source.splitlines():
        problems.append("cell 0 lacks this page's Colab badge: run `make notebooks`")
    titles = len(headings(page.notebook, level=1)) - len(headings(page.notebook, level=2))
    problems += ["not one title '# ...', in cell 0"] * (titles != 1 or not first.source.startswith("# "))
    problems += ["cell 0 lacks its goals"] * (len(re.findall(r"(?m)^- ", first.source)) < 2)
    cost = "".join(text for text in first.source.split("\n\n") if "**Takes**" in text)
    problems += ["cell 0 lacks its cost"] * (not all(word in cost for word in ("quick", "full", "CPU")))
    return problems


def is_short(page):
    """Paragraphs of under 60 words, without the words of old; cells of 12 lines that define nothing."""
    problems = []
    for number, cell in page.cells("markdown"):
        prose = re.sub(r"(?ms)^```.*?^```|^ *(?:>|- ) ?|^\|.*?$|</?\w+>", "", cell.source)
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", prose):
            if (count := len(re.findall(r"[\w'’-]*\w", paragraph))) >= 60:
                problems.append(f"cell {number}, a paragraph of {count} words: {paragraph[:40]!r}")
        problems += [f"cell {number}: say image, not '{word}'" for word in re.findall(r"(?i)\bpictures?\b", prose)]
    for number, cell in page.cells("code"):
        source = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source)
        if len(source.splitlines()) > 12 and "setup" not in build.tags(cell):
            problems.append(f"cell {number} has {len(source.splitlines())} lines; 12 are enough, the rest is library")
        names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        problems += [f"cell {number} defines {name}: that is library" for name in names]
    return problems


def links_lead_somewhere(page):
    problems, folder = [], page.path.parent
    for number, cell in page.cells("markdown"):
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", cell.source)
        lost = [link for link in links if not re.match(r"[a-z]+:", link) and not (folder / link).exists()]
        problems += [f"cell {number} links to {link}, which does not exist" for link in lost]
    pages = sorted(path.name for path in folder.glob("[0-9][0-9]_*.ipynb"))
    after = pages[pages.index(page.path.name) + 1 :][:1]
    if after and f"]({after[0]}" not in page.notebook.cells[-1].source:
        problems.append(f"the last cell lacks a link to the next page, {after[0]}")
    return problems


def figures_have_words(page):
    """For who cannot see them: alt text."""
    return [
        f"cell {number} shows an image without alt text"
        for number, cell in page.cells("code")
        for out in cell.outputs
        if any(kind.startswith("image/") for kind in out.get("data", {}))
        and not any(about.get("alt") for about in out.metadata.values() if isinstance(about, dict))
    ]


def exercises_are_checked(page):
    """Each numbered exercise has its `check(n)`; answers are in test_exercises.py."""
    exercises = "".join(cell.source for _, cell in page.cells("markdown") if "exercise" in build.tags(cell))
    code = "\n".join(cell.source + "\n" for _, cell in page.cells("code"))
    asked = max(1, len(re.findall(r"(?m)^\d\. ", exercises))) if exercises else 0
    missing = [n for n in range(1, asked + 1) if f"= ...\ncheck({n})\n" not in code]
    problems = [f"exercise {n} has no cell '... = ...' with check({n})" for n in missing]
    return problems + ["no solution"] * (bool(asked) and "<details><summary>" not in exercises)


def nothing_of_one_machine(page):
    secret = re.compile(r"\b(?:gh[pousr]_|github_pat_|hf_|KGAT_|sk-|AKIA|AIza)[\w-]{16,}|PRIVATE KEY-----")
    problems = ["the notebook's metadata: run `make notebooks`"] * (page.notebook.metadata != build.METADATA)
    for number, cell in enumerate(page.notebook.cells):
        for text in texts(cell.get("outputs", [])) + [cell.source]:
            problems += [f"cell {number} holds {noise}" for noise in build.find_noise(text)]
            problems += [f"cell {number} holds what looks like a secret" for _ in secret.finditer(text)]
        problems += [f"cell {number} metadata: {name}" for name in set(cell.metadata) - {"tags", "jupyter"}]
        problems += [f"cell {number} has the id {cell.id}"] * (cell.id != f"{page.path.name[:2]}-{number:03}")
        if any("widget" in kind for out in cell.get("outputs", []) for kind in out.get("data", {})):
            problems.append(f"cell {number} holds a widget's model: run `make notebooks`")
    return problems


CHECKS = [
    follows_its_twin, ran_in_order, begins_as_every_page, is_short, links_lead_somewhere, figures_have_words,
    exercises_are_checked, nothing_of_one_machine,
]  # fmt: skip


@pytest.mark.parametrize("stem", STEMS)
def test_page(stem):
    problems = [problem for check in CHECKS for problem in check(load(NOTEBOOKS / f"{stem}.ipynb"))]
    assert not problems, "\n".join([stem, *problems])


def test_the_table_leads_to_every_step_of_the_article():
    """Rows start with a step, '| 7 |' or '| 8-9 |', and name a page and one of its headings."""

    def words(text):
        return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "

    table, covered = (ROOT / "docs/article.md").read_text("utf-8"), set()
    for first, last, rest in re.findall(r"(?m)^\|\s*(\d+)(?:\s*[-–]\s*(\d+))?\s*\|(.*)$", table):
        for link in re.findall(r"\]\((?:\.\./)?(notebooks/[\w.]+\.ipynb)[^)]*\)", rest):
            names = headings(nbformat.read(ROOT / link, 4), level=2)
            assert any(words(name) in words(rest) for name in names), f"step {first}: no heading of {link}"
            covered |= set(range(int(first), int(last or first) + 1))
    assert covered == set(range(1, 22))


def test_no_image_of_the_solar_cells_is_committed(good):
    """Their licence is not ours. Charts are PNG, with the text "[figure]"."""
    page, outputs = load(NOTEBOOKS / f"{build.WITHOUT_IMAGES}.ipynb"), []
    for _, cell in page.cells("code"):
        assert not build.holds_images(cell), cell.id
        outputs += [out for out in cell.outputs if "image/png" in out.get("data", {})]
    assert all(out.data["text/plain"].startswith("[figure]") for out in outputs)
    cell = good.notebook.cells[2]
    for data in ({"image/jpeg": "aaaa"}, {"text/html": "<table><img src='data:'></table>"}):
        cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
        with pytest.raises(SystemExit, match="shows images: tag it"):
            build.empty_images(good.notebook, "11.py")
        cell.metadata["tags"] = ["nbval-ignore-output"]
        build.empty_images(good.notebook, "11.py")
        assert cell.outputs == [] and cell.execution_count == 2
        cell.metadata.pop("tags")


# The checks themselves

GOOD = """\
# %% [markdown]
# # 1. A good page
#
# - say what good is
# - say why
#
# **Takes** 1 s (quick, 2 CPU cores), 2 s (full, one GPU).

# %%
draw()

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# <details><summary>Show a solution</summary></details>

# %%
answer = ...
check(1)

# %% [markdown]
# ## What we saw
#
# Next: [2. Another](02_another.ipynb)
"""


@pytest.fixture
def good(tmp_path):
    """A page without a problem, and a page after it."""
    for name in ("01_good", "02_another"):
        (tmp_path / f"{name}.py").write_text(GOOD)
    build.build(tmp_path, [], run=False)
    page = load(tmp_path / "01_good.ipynb")
    for count, (_, cell) in enumerate(page.cells("code"), start=1):
        cell.execution_count = count
    figure = {"data": {"image/png": "aaaa", "text/plain": "[figure]"}, "metadata": {"image/png": {"alt": "2 bars"}}}
    page.notebook.cells[2].outputs = [
        nbformat.v4.new_output("display_data", **figure),
        nbformat.v4.new_output("stream", text="2 bars, 3 and 4 high"),
    ]
    return page


def test_the_checks_find_what_is_wrong(good):
    assert [problem for check in CHECKS for problem in check(good)] == []
    title, _, code, _, answer, last = good.notebook.cells
    title.source, last.source, answer.source = "# 1. A page", "word " * 60, "answer = 1"
    code.update(source="def draw():\n    pass", execution_count=None)
    code.outputs[0].metadata, code.outputs[1].text = {}, "saved in /home/anna/vggnb/runs"
    assert all(check(good) for check in CHECKS)


# The build tool


def test_building_again_changes_nothing_and_keeps_the_outputs_of_unchanged_cells(good):
    files = sorted(good.path.parent.glob("0*"))
    before = [file.read_bytes() for file in files]
    build.build(good.path.parent, [], run=False)
    assert [file.read_bytes() for file in files] == before
    nbformat.write(good.notebook, good.path)
    script = good.path.with_suffix(".py")
    script.write_text(script.read_text() + "\n# %%\ndraw(2)\n")
    build.build(good.path.parent, ["01"], run=False)
    cells = nbformat.read(good.path, 4).cells
    assert cells[2].outputs[1].text == "2 bars, 3 and 4 high" and cells[-1].execution_count is None


def test_outputs_lose_what_belongs_to_one_machine_or_moment(good):
    home = Path("/tmp/vggnb-home-abc")
    figure, text = good.notebook.cells[2].outputs
    figure.data["application/vnd.jupyter.widget-view+json"] = {"model_id": "1"}
    text.text = f"saved\ncensus: 60 files     \r{home}/runs/1 from {ROOT}/data/sample"
    build.clean_outputs(good.notebook, home, "01_good.py")
    assert good.notebook.cells[2].outputs[1].text == "saved\n<home>/runs/1 from <checkout>/data/sample"
    assert nothing_of_one_machine(good) == []
    good.notebook.cells[2].outputs[1].text = "/home/anna/photo.jpg"
    with pytest.raises(SystemExit, match="cell 01-002: an output holds a path of one machine: /home/anna"):
        build.clean_outputs(good.notebook, home, "01_good.py")


def test_an_address_stands_everywhere_or_nowhere():
    """Whoever publishes sets VGGNB_REPOSITORY; without it, nothing in the project names a place on the network."""
    (stamped,) = {stamped_address(load(NOTEBOOKS / f"{stem}.ipynb")) for stem in STEMS}
    places = [*NOTEBOOKS.glob("[0-9]*"), *(ROOT / "vggnb").rglob("*.py"), *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    repository = re.compile(r"github(?:\.com)?/(?:github/)?([\w.-]+/vggnb)\b|git\+([^\s\"\\{]+)", re.I)
    named = {"".join(pair) for path in places for pair in repository.findall(path.read_text("utf-8"))}
    owner = stamped.removeprefix("https://github.com/")
    assert {name.removeprefix("https://github.com/") for name in named} <= {owner, owner.partition("@")[0]} - {""}


@pytest.mark.parametrize("given, kept", [
    ("", ""), ("https://github.com/anna/vggnb", f"https://github.com/anna/vggnb@v{build.__version__}"),
    ("https://github.com/anna/vggnb@1a2b3c", "https://github.com/anna/vggnb@1a2b3c"),
])  # fmt: skip
def test_pages_are_stamped_with_the_address_that_the_publisher_sets(given, kept, good, monkeypatch):
    monkeypatch.setenv("VGGNB_REPOSITORY", given)
    build.build(good.path.parent, [], run=False)
    page = Page(good.path, nbformat.read(good.path, 4), jupytext.read(good.path.with_suffix(".py"), fmt="py:percent"))
    assert stamped_address(page) == kept and follows_its_twin(page) == []
    badge = f"github/anna/vggnb/blob/{kept.partition('@')[2]}/notebooks/01_good.ipynb)"
    assert (badge in page.notebook.cells[0].source) == bool(kept) == (build.BADGE in page.notebook.cells[0].source)


# The setup cell, in folders that stand for a computer and for Colab; tests/test_colab.py runs it in a kernel

ADDRESS = "https://github.com/anna/vggnb@v1"


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """A function: (working folder, stamped address) -> what the cell, less its last lines, made pip install."""
    installed = []
    monkeypatch.delitem(sys.modules, "vggnb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "path")])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    (tmp_path / "content").mkdir()

    def pip(command):
        installed.append(command[5].removeprefix(f"{tmp_path}/").removeprefix("content/drive/"))
        return subprocess.CompletedProcess(command, "broken" in command[5])

    def setup(folder, address=""):
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(subprocess, "run", pip)
        source = build.setup_source(address).partition("from vggnb.paths")[0]
        exec(source.replace('"/content', f'"{tmp_path}/content'), {})
        return installed

    return setup


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """The calls of Colab's module, whose Drive, once mounted, shows what lies in tmp_path/MyDrive."""
    mounted = []

    def mount(place):
        mounted.append(place)
        Path(place).mkdir(parents=True)
        (Path(place) / "MyDrive").symlink_to(tmp_path / "MyDrive")

    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    (tmp_path / "MyDrive").mkdir()
    return mounted


def test_setup_installs_nothing_in_a_checkout_or_where_it_is_installed(setup, tmp_path):
    for name in ("copy/vggnb/paths.py", "path/vggnb/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / "copy/vggnb/paths.py").touch()
    assert setup(tmp_path / "copy/notebooks") == [] and sys.path[0] == str(tmp_path / "copy")
    (tmp_path / "path/vggnb/__init__.py").touch()
    sys.path.remove(str(tmp_path / "copy"))
    assert setup(tmp_path / "elsewhere") == [] and sys.path == [str(tmp_path / "path")]


@pytest.mark.parametrize("wheels, taken, asks", [  # from old to new
    (["MyDrive/vggnb/vggnb-0.3.0-any.whl", "content/vggnb-0.2.0-any.whl"], 1, False),
    (["MyDrive/vggnb/vggnb-0.2.0-any.whl", "MyDrive/vggnb-colab/vggnb/vggnb-0.2.1-any.whl"], 1, True),
    ([f"vggnb @ git+{ADDRESS}"], 0, True),
])  # fmt: skip
def test_setup_takes_a_wheel_that_was_dragged_in_else_the_newest_on_drive_else_the_address(
    wheels, taken, asks, setup, mounted, tmp_path
):
    for age, wheel in enumerate(wheels):
        if wheel.endswith(".whl"):
            (tmp_path / wheel).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / wheel).touch()
            os.utime(tmp_path / wheel, (1e9 + age, 1e9 + age))
    assert setup(tmp_path / "content", ADDRESS) == [wheels[taken]] and len(mounted) == asks


@pytest.mark.parametrize("address, drive", [("", False), ("https://github.com/broken/vggnb@v1", True)])
def test_setup_ends_with_one_sentence_where_there_is_nothing(
    address, drive, setup, mounted, tmp_path, monkeypatch, capsys
):
    def refused(place):
        raise ValueError("mount failed")

    if not drive:
        monkeypatch.setattr(sys.modules["google.colab"].drive, "mount", refused)
    with pytest.raises(Exception, match="vggnb is not installed: drag the folder .* into My Drive") as caught:
        setup(tmp_path / "content", address)
    assert caught.value._render_traceback_() == [str(caught.value)], "a notebook shows the sentence alone"
    assert ("Google Drive was not mounted: mount failed" in capsys.readouterr().out) == (not drive)


def test_nbval_ignores_times_and_places_and_no_result():
    from nbval.plugin import get_sanitize_patterns

    patterns = get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text("utf-8"))

    def clean(text):
        return functools.reduce(lambda text, pair: re.sub(*pair, text), patterns, text)

    assert clean("at 1.3 images/s in 1.2 s") == clean("at 112 images/s in 13 s")
    assert clean("/tmp/vggnb-home-x1_/runs/a of /ci/data/sample") == clean("<home>/runs/a of <checkout>/data/sample")
    for text in ("accuracy 0.81 (0.70 to 0.90)", "160 images, 96 pixels", "263,682 trainable", "2 x faster, 12 steps"):
        assert clean(text) == text
