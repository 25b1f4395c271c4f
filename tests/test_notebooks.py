"""The pages keep their shape: twins agree, everything ran in order, links lead somewhere, nothing of one machine is in.

Each check takes a Page and gives a list of problems; the tests at the end break a good page to see that it notices.
That the outputs are still true is for nbval: `make check-notebooks`.
"""

import ast
import copy
import functools
import importlib.machinery
import importlib.util
import os
import re
import shutil
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
    """Every string inside an output, images left out."""
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


def stamped_address(page):
    """Where the page says that the project is published; empty where it says nothing."""
    return "".join(re.findall(r'"vggnb @ git\+([^"]+)"', page.notebook.cells[1].source))


def setup_and_badge_are_stamped(page):
    first, setup = page.notebook.cells[:2]
    address, problems = stamped_address(page), []
    if (setup.source, build.tags(setup)) != (build.setup_source(address), ["setup"]):
        problems.append("cell 1 is not the setup cell: run `make notebooks`")
    if build.badge_line(page.path.stem, address) not in first.source.splitlines() and address:
        problems.append("cell 0 lacks this page's Colab badge: run `make notebooks`")
    badges = sum(cell.source.count(build.BADGE) for cell in page.notebook.cells)
    setups = sum("setup" in build.tags(cell) for cell in page.notebook.cells)
    return problems + [f"{badges} badges and {setups} setup cells"] * (badges != bool(address) or setups != 1)


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
        if (lines := len(cell.source.splitlines())) > 12 and "setup" not in build.tags(cell):
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
    """For who cannot see them: alt text, or a printed sentence."""
    problems = []
    for number, cell in page.code:
        images = [out for out in cell.outputs if any(kind.startswith("image/") for kind in out.get("data", {}))]
        words = "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
        words += "".join(about.get("alt", "") for out in images for about in out.metadata.values())
        if images and not words.strip():
            problems.append(f"cell {number} shows an image without alt text, and prints nothing")
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
        problems += [f"cell {number} metadata: {name}" for name in set(cell.metadata) - {"tags", "jupyter"}]
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


@pytest.mark.parametrize("stem", STEMS)
def test_page(stem):
    problems = [problem for check in CHECKS for problem in check(load(NOTEBOOKS / f"{stem}.ipynb"))]
    assert not problems, "\n".join([stem, *problems])


def test_no_image_of_the_solar_cells_is_committed(good):
    """Their licence is not ours. Charts are PNG, with the text "[figure]"."""

    def images(notebook):
        outputs = [
            out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
        ]
        photos = [out for out in outputs if not out.data.get("text/plain", "").startswith("[figure]")]
        return [cell.id for cell in notebook.cells if build.holds_images(cell)] + photos

    page = load(NOTEBOOKS / f"{build.WITHOUT_IMAGES}.ipynb")
    assert images(page.notebook) == []
    tagged = [cell for _, cell in page.code if "nbval-ignore-output" in build.tags(cell)]
    assert any(not cell.outputs and cell.execution_count for cell in tagged)
    cell = good.notebook.cells[2]
    for data in ({"image/jpeg": "aaaa"}, {"text/html": "<table><img src='data:'></table>"}):
        cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
        assert images(good.notebook) == [cell.id]
        with pytest.raises(SystemExit, match="shows images: tag it"):
            build.empty_images(good.notebook, "11.py")
        cell.metadata["tags"] = ["nbval-ignore-output"]
        build.empty_images(good.notebook, "11.py")
        assert cell.outputs == [] and cell.execution_count == 2
        cell.metadata.pop("tags")
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "aaaa", "text/plain": "<PIL.Image>"})]
    assert images(good.notebook)


# The table of the article's steps


def words(text):
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def step_problems(readme, folder):
    """Problems of a table whose rows start with a step, '| 7 |' or '| 8-9 |', and name a notebook and its heading."""
    covered, problems = set(), []
    for first, last, rest in re.findall(r"(?m)^\|\s*(\d+)(?:\s*[-–]\s*(\d+))?\s*\|(.*)$", readme):
        links = re.findall(r"\]\((?:\.\./)?(notebooks/[\w.]+\.ipynb)[^)]*\)", rest)
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


def test_the_table_leads_to_every_step_of_the_article():
    problems = step_problems((ROOT / "docs/article.md").read_text("utf-8"), ROOT)
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
FIGURE = nbformat.v4.new_output("display_data", data={"image/png": "aaaa", "text/plain": "<Figure>"})


@pytest.fixture
def good(tmp_path):
    """A page without a problem, and a page after it."""
    for name in ("01_good", "02_another"):
        (tmp_path / f"{name}.py").write_text(GOOD)
    build.build(tmp_path, [], run=False)
    page = load(tmp_path / "01_good.ipynb")
    for count, (_, cell) in enumerate(page.code, start=1):
        cell.execution_count = count
    page.notebook.cells[2].outputs = [FIGURE, nbformat.v4.new_output("stream", text="2 bars, 3 and 4 high")]
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
    (twins_agree, lambda notebook: notebook.cells.pop()),
    (ran_in_order, unrun),
    (ran_in_order, source("")),
    (ran_in_order, failed),
    (setup_and_badge_are_stamped, replaced(1, "print(ws)", "print(ws.home)")),
    (setup_and_badge_are_stamped, replaced(0, "# 1. A good page", "# 1. A good page\n\n[![Open In Colab](x)](y)")),
    (opens_with_title_goals_and_cost, replaced(3, "## ", "# ")),
    (opens_with_title_goals_and_cost, replaced(0, "- say", "say")),
    (opens_with_title_goals_and_cost, replaced(0, "full", "long")),
    (code_cells_are_small, source("x = 1\n" * 13)),
    (code_cells_are_small, source("def draw():\n    pass")),
    (code_cells_are_small, source("for path in folder.rglob('*'):\n    print(path)")),
    (code_cells_are_small, source("draw();")),
    (links_lead_somewhere, replaced(3, "02_another", "02_other")),
    (links_lead_somewhere, replaced(3, "Next: [2. Another](02_another.ipynb)", "")),
    (figures_have_words, printed(" \n")),
    (nothing_of_one_machine, printed("saved in /home/anna/vggnb/runs")),
    (nothing_of_one_machine, printed("C:\\Users\\anna")),
    (nothing_of_one_machine, printed("<Model at 0x7f3a5c0d2e50>")),
    (nothing_of_one_machine, source("token = 'ghp_" + "a1" * 15 + "'")),
    (metadata_is_ours, from_colab),
    (metadata_is_ours, lambda notebook: notebook.cells[2].update(id="a1b2c3")),
    (metadata_is_ours, with_widget),
]


def test_a_good_page_has_no_problems(good):
    assert [problem for check in CHECKS for problem in check(good)] == []


def test_each_check_can_fail(good):
    for check, break_it in FAULTS:
        broken = copy.deepcopy(good)
        break_it(broken.notebook)
        assert check(broken), (check.__name__, break_it.__name__)


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


def test_an_address_stands_everywhere_or_nowhere():
    """Whoever publishes sets VGGNB_REPOSITORY; without it, nothing in the project names a place on the network."""
    stamped = {stamped_address(load(NOTEBOOKS / f"{stem}.ipynb")) for stem in STEMS}
    assert len(stamped) == 1, stamped
    places = [*NOTEBOOKS.glob("*.py"), *NOTEBOOKS.glob("*.ipynb"), *(ROOT / "vggnb").rglob("*.py")]
    places += [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "environment.yml")
    ]
    repository = re.compile(r"github(?:\.com)?/(?:github/)?([\w.-]+/vggnb)\b|git\+([^\s\"\\{]+)", re.I)
    found = {path.name: found for path in places if (found := repository.findall(path.read_text("utf-8")))}
    named = {"".join(pair).removeprefix("https://github.com/") for pairs in found.values() for pair in pairs}
    owner = stamped.pop().removeprefix("https://github.com/")
    assert named <= {owner, owner.partition("@")[0]} - {""}, found


@pytest.mark.parametrize(
    "given, kept",
    [
        ("", ""),
        ("https://github.com/anna/vggnb", f"https://github.com/anna/vggnb@v{build.__version__}"),
        ("https://github.com/anna/vggnb@1a2b3c", "https://github.com/anna/vggnb@1a2b3c"),
    ],
)
def test_pages_are_stamped_with_the_address_that_the_publisher_sets(given, kept, good, monkeypatch):
    monkeypatch.setenv("VGGNB_REPOSITORY", given)
    build.build(good.path.parent, [], run=False)
    page = Page(good.path, nbformat.read(good.path, 4), jupytext.read(good.path.with_suffix(".py"), fmt="py:percent"))
    assert stamped_address(page) == kept and setup_and_badge_are_stamped(page) == []
    badge = f"github/anna/vggnb/blob/{kept.partition('@')[2]}/notebooks/01_good.ipynb)"
    assert (badge in page.notebook.cells[0].source) == bool(kept) == (build.BADGE in page.notebook.cells[0].source)


# The setup cell, in folders that stand for a computer and for Colab


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """A function: (working folder, stamped address) -> what the cell, less its last lines, made pip install."""
    installed = []
    monkeypatch.delitem(sys.modules, "vggnb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "path")])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")

    def pip(command):
        assert command[1:5] == ["-m", "pip", "install", "-q"]
        installed.append(command[5])
        return subprocess.CompletedProcess(command, "broken" in command[5])

    def setup(folder, address="", content=tmp_path / "content"):
        content.mkdir(exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(subprocess, "run", pip)
        source = build.setup_source(address).partition("from vggnb.paths")[0]
        ast.parse(source)
        exec(source.replace('"/content', f'"{content}'), {})
        return installed

    return setup


def wheel(path, age=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """Colab's module whose Drive, once mounted, shows what lies in tmp_path/MyDrive; and its calls."""
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
    (tmp_path / "copy" / "vggnb").mkdir(parents=True)
    (tmp_path / "copy" / "vggnb" / "paths.py").touch()
    assert setup(tmp_path / "copy" / "notebooks") == [] and sys.path[0] == str(tmp_path / "copy")
    (tmp_path / "path" / "vggnb").mkdir(parents=True)
    (tmp_path / "path" / "vggnb" / "__init__.py").touch()
    sys.path.remove(str(tmp_path / "copy"))
    assert setup(tmp_path / "elsewhere") == [] and sys.path == [str(tmp_path / "path")]


def test_setup_takes_a_wheel_that_was_dragged_in_before_it_asks_for_drive(setup, colab, tmp_path):
    mine = wheel(tmp_path / "content" / "vggnb-0.2.0-py3-none-any.whl")
    wheel(tmp_path / "MyDrive" / "vggnb" / "vggnb-0.3.0-py3-none-any.whl")
    assert setup(tmp_path / "content") == [mine] and colab == []


def test_setup_takes_the_newest_wheel_on_drive_and_else_the_address(setup, colab, tmp_path):
    wheel(tmp_path / "MyDrive" / "vggnb" / "vggnb-0.2.0-py3-none-any.whl", age=9)
    newest = wheel(tmp_path / "MyDrive" / "vggnb-colab" / "vggnb" / "vggnb-0.2.1-py3-none-any.whl")
    (found,) = setup(tmp_path / "content", "https://github.com/anna/vggnb@v1")
    assert Path(found).resolve() == Path(newest) and len(colab) == 1
    shutil.rmtree(tmp_path / "MyDrive")
    assert setup(tmp_path / "content", "https://github.com/anna/vggnb@v1")[1:] == [
        "vggnb @ git+https://github.com/anna/vggnb@v1"
    ]


@pytest.mark.parametrize("address, drive", [("", True), ("", False), ("https://github.com/broken/vggnb@v1", True)])
def test_setup_ends_with_one_sentence_where_there_is_nothing(
    address, drive, setup, colab, tmp_path, monkeypatch, capsys
):
    def refused(place):
        raise ValueError("mount failed")

    if not drive:
        monkeypatch.setattr(sys.modules["google.colab"].drive, "mount", refused)
    with pytest.raises(Exception, match="vggnb is not installed: drag the folder .* into My Drive") as caught:
        setup(tmp_path / "content", address)
    assert caught.value._render_traceback_() == [str(caught.value)], "a notebook shows the sentence alone"
    assert ("Google Drive was not mounted: mount failed" in capsys.readouterr().out) == (not drive)


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
