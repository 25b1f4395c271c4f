"""The pages keep their shape: twins agree, everything ran in order, links lead somewhere, nothing of one machine is in.

Each check takes a Page and gives a list of problems; the tests at the end break a good page to see that it notices.
That the outputs are still true is for nbval: `make check-notebooks`.
"""

import ast
import copy
import functools
import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
STEMS = sorted({path.stem for ending in ("py", "ipynb") for path in NOTEBOOKS.glob(f"[0-9][0-9]_*.{ending}")})
STEPS = set(range(1, 22))  # of the article

spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


@dataclass(frozen=True)
class Page:
    path: Path  # of the .ipynb
    notebook: nbformat.NotebookNode
    twin: nbformat.NotebookNode

    @property
    def code(self):
        return [(number, cell) for number, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]

    @property
    def markdown(self):
        return [(number, cell) for number, cell in enumerate(self.notebook.cells) if cell.cell_type == "markdown"]


@functools.cache
def load(path):
    for file in (path, path.with_suffix(".py")):
        assert file.is_file(), f"{file.name} is missing: run `make notebooks`"
    return Page(path, nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"), fmt="py:percent"))


def texts(value, kind=""):
    """Every string inside an output, pictures left out."""
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in texts(item, key)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) and kind not in ("image/png", "image/jpeg") else []


def tree(cell):
    """The syntax tree of a code cell, its magics and shell lines taken out."""
    return ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source))


def headings(notebook, *, level):
    """Headings of this level or deeper, code blocks left out."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"(?ms)^```.*?^```", "", prose)
    return [found[2] for found in re.finditer(r"(?m)^(#+)\s+(.+)$", prose) if len(found[1]) >= level]


def twins_agree(page):
    def cells(notebook):
        return [(cell.cell_type, cell.source.rstrip(), build.tags(cell)) for cell in notebook.cells]

    ours, theirs = cells(page.notebook), cells(page.twin)
    advice = "run `make notebooks` (the .py is the source)"
    if len(ours) != len(theirs):
        return [f"{len(ours)} cells, but {len(theirs)} in the .py: {advice}"]
    changed = [number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    return [f"cell {number} differs from the .py: {advice}" for number in changed]


def ran_in_order(page):
    problems = []
    for count, (number, cell) in enumerate(page.code, start=1):
        if not cell.source.strip():
            problems.append(f"cell {number} is empty: a comment says what goes there")
        elif cell.execution_count != count:
            problems.append(f"cell {number} ran as [{cell.execution_count}], not as [{count}]: run `make notebooks`")
        if "raises-exception" not in build.tags(cell):
            problems += [f"cell {number} failed: {out.evalue}" for out in cell.outputs if out.output_type == "error"]
    return problems


def setup_and_badge_are_stamped(page):
    first, setup = page.notebook.cells[:2]
    problems = []
    if (setup.source, build.tags(setup)) != (build.setup_source(), ["setup"]):
        problems.append("cell 1 is not the setup cell: run `make notebooks`")
    if build.badge_line(page.path.stem) not in first.source.splitlines() or page.path.name not in first.source:
        problems.append("cell 0 lacks this page's Colab badge: run `make notebooks`")
    badges = sum(cell.source.count(build.BADGE) for cell in page.notebook.cells)
    setups = sum("setup" in build.tags(cell) for cell in page.notebook.cells)
    return problems + [f"{badges} badges and {setups} setup cells"] * (badges != 1 or setups != 1)


def opens_with_title_goals_and_cost(page):
    first = page.notebook.cells[0]
    titles = len(headings(page.notebook, level=1)) - len(headings(page.notebook, level=2))
    problems = [] if titles == 1 and first.source.startswith("# ") else [f"{titles} titles '# ...', not one in cell 0"]
    if not 2 <= len(re.findall(r"(?m)^[-*] ", first.source)) <= 12:
        problems.append("cell 0 lacks its goals, lines that start with '- '")
    paragraphs = [text for text in re.split(r"\n\s*\n", first.source) if "**Takes**" in text]
    if not any(all(word in text for word in ("quick", "full", "CPU")) for text in paragraphs):
        problems.append("cell 0 lacks its cost, as in '**Takes** 20 s (quick, 2 CPU cores), 10 min (full, one GPU).'")
    return problems


def code_cells_are_small(page):
    problems = []
    listings = {"glob", "rglob", "iterdir", "listdir", "scandir", "walk"}
    for number, cell in page.code:
        if (lines := len(cell.source.splitlines())) > 12:
            problems.append(f"cell {number} has {lines} lines; 12 are enough, the rest is library")
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                problems.append(f"cell {number} defines {node.name}: that is library")
            if isinstance(node, ast.For) and listings & set(re.findall(r"\w+", ast.unparse(node.iter))):
                problems.append(f"cell {number} loops over files: that is library")
        problems += [f"cell {number}: '{line}' ends in ';'" for line in cell.source.splitlines() if line.endswith(";")]
    return problems


def links_lead_somewhere(page):
    problems, folder = [], page.path.parent
    for number, cell in page.markdown:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", cell.source):
            if not re.match(r"[a-z]+:", link) and not (folder / link).exists():
                problems.append(f"cell {number} links to {link}, which does not exist")
    pages = sorted(path.name for path in folder.glob("[0-9][0-9]_*.ipynb"))
    after = pages[pages.index(page.path.name) + 1 :][:1]
    if after and f"]({after[0]}" not in page.notebook.cells[-1].source:
        problems.append(f"the last cell lacks a link to the next page, {after[0]}")
    return problems


def figures_have_words(page):
    problems = []
    for number, cell in page.code:
        pictures = any(kind.startswith("image/") for out in cell.outputs for kind in out.get("data", {}))
        words = "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
        if pictures and not words.strip():
            problems.append(
                f"cell {number} shows a picture but prints nothing: who cannot see it, and nbval, learn nothing"
            )
    return problems


def nothing_of_one_machine(page):
    secret = re.compile(
        r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|KGAT_\w{20,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,})"
        r"|PRIVATE KEY-----|(?i:token|password|secret|key)['\"]?\s*[:=]\s*['\"][\w/+-]{16,}['\"]"
    )
    problems = []
    for number, cell in enumerate(page.notebook.cells):
        for text in texts(cell.get("outputs", [])) + [cell.source]:
            problems += [f"cell {number} holds {noise}" for noise in build.find_noise(text)]
            problems += [f"cell {number} holds what looks like a secret" for _ in secret.finditer(text)]
    return problems


def metadata_is_ours(page):
    problems = ["the notebook's metadata"] if page.notebook.metadata != build.METADATA else []
    for number, cell in enumerate(page.notebook.cells):
        problems += [f"cell {number} metadata: {name}" for name in set(cell.metadata) - {"tags"}]
        if cell.id != f"{page.path.name[:2]}-{number:03}":
            problems.append(f"cell {number} has the id {cell.id}")
        if any("widget" in kind for out in cell.get("outputs", []) for kind in out.get("data", {})):
            problems.append(f"cell {number} holds a widget's model")
    return [f"{problem}: run `make notebooks`" for problem in problems]


CHECKS = [
    twins_agree,
    ran_in_order,
    setup_and_badge_are_stamped,
    opens_with_title_goals_and_cost,
    code_cells_are_small,
    links_lead_somewhere,
    figures_have_words,
    nothing_of_one_machine,
    metadata_is_ours,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("stem", STEMS)
def test_page(stem, check):
    problems = check(load(NOTEBOOKS / f"{stem}.ipynb"))
    assert not problems, "\n".join([stem, *problems])


def test_the_series_is_complete():
    names = ["01_paths", "02_census", "03_generators", "04_model", "05_train", "06_evaluate", "07_save", "08_predict"]
    assert set(names) <= set(STEMS)


# README's table of the article's steps


def words(text):
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def step_problems(readme, folder):
    """Problems of a table whose rows start with a step, '| 7 |' or '| 8-9 |', and name a notebook and its heading."""
    covered, problems = set(), []
    for first, last, rest in re.findall(r"(?m)^\|\s*(\d+)(?:\s*[-–]\s*(\d+))?\s*\|(.*)$", readme):
        links = re.findall(r"\]\((notebooks/[\w.]+\.ipynb)[^)]*\)", rest)
        if not links:
            continue
        covered |= set(range(int(first), int(last or first) + 1))
        for link in links:
            if not (folder / link).is_file():
                problems.append(f"step {first}: {link} does not exist")
            elif not any(
                words(heading) in words(rest) for heading in headings(nbformat.read(folder / link, 4), level=2)
            ):
                problems.append(f"step {first}: the row names no heading of {link}")
    return problems + [f"no row for step {step}" for step in sorted(STEPS - covered)]


def test_readme_leads_to_every_step_of_the_article():
    problems = step_problems((ROOT / "README.md").read_text("utf-8"), ROOT)
    assert not problems, "\n".join(problems)


# The checks can fail

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

# %% [markdown]
# ## What we saw
#
# Next: [2. Another](02_another.ipynb)
"""
PICTURE = nbformat.v4.new_output("display_data", data={"image/png": "aaaa", "text/plain": "<Figure>"})


@pytest.fixture
def good(tmp_path):
    """A page without a problem, and a page after it."""
    for name in ("01_good", "02_another"):
        (tmp_path / f"{name}.py").write_text(GOOD)
    build.build(tmp_path, [], run=False)
    page = load(tmp_path / "01_good.ipynb")
    for count, (_, cell) in enumerate(page.code, start=1):
        cell.execution_count = count
    page.notebook.cells[2].outputs = [PICTURE, nbformat.v4.new_output("stream", text="2 bars, 3 and 4 high")]
    return page


def source(text, cell=2):
    def change(notebook):
        notebook.cells[cell].source = text

    return change


def replaced(cell, old, new):
    def change(notebook):
        assert old in notebook.cells[cell].source
        notebook.cells[cell].source = notebook.cells[cell].source.replace(old, new)

    return change


def printed(text):
    def change(notebook):
        notebook.cells[2].outputs[1].text = text

    return change


def unrun(notebook):
    notebook.cells[2].execution_count = None


def failed(notebook):
    notebook.cells[2].outputs = [nbformat.v4.new_output("error", ename="KeyError", evalue="'a'", traceback=[])]


def from_colab(notebook):
    notebook.metadata["colab"] = {"provenance": []}


def with_widget(notebook):
    notebook.cells[2].outputs[0].data["application/vnd.jupyter.widget-view+json"] = {"model_id": "1"}


FAULTS = [
    (twins_agree, source("draw(2)")),
    (twins_agree, lambda notebook: notebook.cells[2].metadata.update(tags=["exercise"])),
    (twins_agree, lambda notebook: notebook.cells.pop()),
    (ran_in_order, unrun),
    (ran_in_order, source("")),
    (ran_in_order, failed),
    (setup_and_badge_are_stamped, replaced(1, "print(ws)", "print(ws.home)")),
    (setup_and_badge_are_stamped, replaced(0, "01_good.ipynb", "02_another.ipynb")),
    (setup_and_badge_are_stamped, lambda notebook: notebook.cells.append(copy.deepcopy(notebook.cells[1]))),
    (opens_with_title_goals_and_cost, replaced(3, "## ", "# ")),
    (opens_with_title_goals_and_cost, replaced(0, "- say", "say")),
    (opens_with_title_goals_and_cost, replaced(0, "full", "long")),
    (code_cells_are_small, source("x = 1\n" * 13)),
    (code_cells_are_small, source("def draw():\n    pass")),
    (code_cells_are_small, source("class Drawing:\n    pass")),
    (code_cells_are_small, source("for path in folder.rglob('*'):\n    print(path)")),
    (code_cells_are_small, source("draw();")),
    (links_lead_somewhere, replaced(3, "02_another", "02_other")),
    (links_lead_somewhere, replaced(3, "Next: [2. Another](02_another.ipynb)", "")),
    (figures_have_words, printed(" \n")),
    (nothing_of_one_machine, printed("saved in /home/anna/vggnb/runs")),
    (nothing_of_one_machine, printed("\x1b[32m/usr/lib/python3/site.py\x1b[39m")),
    (nothing_of_one_machine, printed("C:\\Users\\anna")),
    (nothing_of_one_machine, printed("<Model at 0x7f3a5c0d2e50>")),
    (nothing_of_one_machine, source("token = 'ghp_" + "a1" * 15 + "'")),
    (nothing_of_one_machine, source("KAGGLE_KEY = '" + "0f" * 16 + "'")),
    (metadata_is_ours, from_colab),
    (metadata_is_ours, lambda notebook: notebook.cells[2].metadata.update(executionInfo={"status": "ok"})),
    (metadata_is_ours, lambda notebook: notebook.cells[2].update(id="a1b2c3")),
    (metadata_is_ours, with_widget),
]


def test_a_good_page_has_no_problems(good):
    assert [problem for check in CHECKS for problem in check(good)] == []


@pytest.mark.parametrize("check, break_it", FAULTS, ids=lambda value: value.__name__)
def test_each_check_can_fail(good, check, break_it):
    broken = copy.deepcopy(good)
    break_it(broken.notebook)
    assert check(broken)


def test_a_page_may_name_places_that_every_reader_has(good):
    for text in (
        "/content/drive/MyDrive/vggnb",
        "<home>/runs/1",
        "https://example.org/home/a",
        "data/sample/tmp/a",
        "~/a",
    ):
        good.notebook.cells[2].outputs[1].text = text
        assert nothing_of_one_machine(good) == []


def test_the_check_of_the_readme_can_fail(good):
    folder = good.path.parent
    (folder / "notebooks").symlink_to(folder)
    row = "| {} | what | [1. A good page](notebooks/01_good.ipynb): What we saw |\n"
    assert step_problems(row.format("1-20") + row.format(21), folder) == []
    assert step_problems(row.format("1-20"), folder) == ["no row for step 21"]
    assert step_problems(row.format("1-21").replace("01_good", "09_gone"), folder)
    assert step_problems(row.format("1-21").replace("What we saw", "What we missed"), folder)


# The build tool


def test_building_again_changes_nothing(good):
    files = sorted(good.path.parent.glob("0*"))
    before = [file.read_bytes() for file in files]
    build.build(good.path.parent, [], run=False)
    assert [file.read_bytes() for file in files] == before


def test_outputs_of_unchanged_cells_are_kept(good):
    nbformat.write(good.notebook, good.path)
    script = good.path.with_suffix(".py")
    script.write_text(script.read_text() + "\n# %%\ndraw(2)\n")
    build.build(good.path.parent, ["01"], run=False)
    cells = nbformat.read(good.path, 4).cells
    assert cells[2].outputs[1].text == "2 bars, 3 and 4 high" and cells[2].execution_count == 2
    assert cells[4].execution_count is None


def test_a_page_without_a_title_or_an_unknown_number_is_refused(tmp_path):
    (tmp_path / "01_bad.py").write_text("# %%\nprint(1)\n")
    with pytest.raises(SystemExit, match="must be Markdown"):
        build.build(tmp_path, [], run=False)
    with pytest.raises(SystemExit, match="No such page"):
        build.build(tmp_path, ["07"], run=False)


def test_outputs_lose_what_belongs_to_one_machine(good):
    home = Path("/tmp/vggnb-home-abc")
    good.notebook.cells[2].metadata["execution"] = {"iopub.status.busy": "now"}
    with_widget(good.notebook)
    printed(f"{home}/runs/1 from {ROOT}/data/sample")(good.notebook)
    build.clean_outputs(good.notebook, home, "01_good.py")
    assert good.notebook.cells[2].outputs[1].text == "<home>/runs/1 from <checkout>/data/sample"
    assert metadata_is_ours(good) == []
    printed("/home/anna/photo.jpg")(good.notebook)
    with pytest.raises(SystemExit, match="cell 01-002: an output holds a path of one machine: /home/anna"):
        build.clean_outputs(good.notebook, home, "01_good.py")


def test_setup_cell_is_twelve_lines_of_python():
    assert len(build.setup_source().splitlines()) <= 12
    assert f"git+{build.address()}" in build.setup_source()
    ast.parse(build.setup_source())


def test_whatever_a_page_tells_to_install_from_git_is_this_project():
    pages = "".join((NOTEBOOKS / f"{stem}.py").read_text("utf-8") for stem in STEMS)
    assert set(re.findall(r"git\+([^\s\"]+)", pages)) == {build.address()}


@pytest.mark.parametrize("inside", [True, False], ids=["in a checkout", "elsewhere"])
def test_setup_cell_uses_the_checkout_around_it_else_pip(inside, tmp_path, monkeypatch):
    folder = tmp_path / "copy" / "notebooks"
    for name in (
        folder,
        tmp_path / "copy" / "vggnb",
        tmp_path / "vggnb",
    ):  # the last: a folder of that name is no package
        name.mkdir(parents=True)
    (tmp_path / "copy" / "vggnb" / "paths.py").touch()
    commands = []
    monkeypatch.delitem(sys.modules, "vggnb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command[-1]))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.chdir(folder if inside else tmp_path)
    exec(build.setup_source().partition("from vggnb.paths")[0], {})  # all but the import itself
    assert (sys.path[0] == str(tmp_path / "copy")) is inside
    assert commands == ([] if inside else [f"vggnb @ git+{build.address()}"])


def test_nbval_ignores_times_and_places_and_nothing_else():
    from nbval.plugin import get_sanitize_patterns

    patterns = dict(get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text("utf-8")))

    def clean(text):
        for pattern, words_instead in patterns.items():
            text = re.sub(pattern, words_instead, text)
        return text

    assert clean("took  1.2 s (3 ms each)") == clean("took 13.25 s (450 ms each)")
    assert clean("at 1.3 images/s") == clean("at 112 images/s")
    assert clean("features:  10%|#   | 1/10 [00:01<00:09]") == clean("features: 100%|####| 10/10 [00:07<00:00]")
    assert clean("/tmp/vggnb-home-x1_/runs/a") == clean("/private/var/vggnb-home-zz/runs/a") == clean("<home>/runs/a")
    assert clean("/ci/clone/data/sample") == clean("<checkout>/data/sample") == clean("~/src/data/sample")
    assert clean("<Axes at 0x7f12>") == clean("<Axes at 0x80ab>")
    for text in ("accuracy 0.81 (0.70 to 0.90)", "160 images, 96 pixels", "263,682 trainable", "2 x faster, 12 steps"):
        assert clean(text) == text
