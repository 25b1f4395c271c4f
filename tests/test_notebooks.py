"""The pages keep their shape, ran in order, are in short paragraphs, and hold nothing of one machine.

Each check takes a Page and gives a list of problems. That the outputs are true is for nbval: `make check-notebooks`.
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
    changed = [number for number, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
    changed += [len(ours)] * (len(ours) != len(theirs))
    return [f"cell {number} is not that of the .py: run `make notebooks`" for number in changed[:3]]


def ran_in_order(page):
    """No cell fails, whatever its tags: Run all never stops. No bar stands half filled."""
    problems = []
    for count, (number, cell) in enumerate(page.cells("code"), start=1):
        if cell.execution_count != count:
            problems.append(f"cell {number} ran as [{cell.execution_count}], not as [{count}]: run `make notebooks`")
        problems += [f"cell {number} failed: {out.evalue}" for out in cell.outputs if out.output_type == "error"]
        bars = [text for text in texts(cell.outputs) if re.search(r"\d%\|", text)]
        problems += [f"cell {number} shows a progress bar"] * bool(bars)
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
    badges = sum(cell.source.count(build.BADGE) for cell in page.notebook.cells)
    setups = sum("setup" in build.tags(cell) for cell in page.notebook.cells)
    problems += [f"{badges} badges and {setups} setup cells"] * (badges != bool(address) or setups != 1)
    titles = len(headings(page.notebook, level=1)) - len(headings(page.notebook, level=2))
    problems += ["not one title '# ...', in cell 0"] * (titles != 1 or not first.source.startswith("# "))
    if len(re.findall(r"(?m)^- ", first.source)) < 2:
        problems.append("cell 0 lacks its goals, lines that start with '- '")
    cost = "".join(text for text in first.source.split("\n\n") if "**Takes**" in text)
    if not all(word in cost for word in ("quick", "full", "CPU")):
        problems.append("cell 0 lacks its cost, as in '**Takes** 20 s in quick on two CPU cores, 10 min in full.'")
    return problems


def is_short(page):
    """Paragraphs of under 60 words, without the words of old; cells of 12 lines that define nothing."""
    problems = []
    for number, cell in page.cells("markdown"):
        prose = re.sub(r"(?ms)^```.*?^```|^ *(?:>|- ) ?|^\|.*?$|</?\w+>", "", cell.source)
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", prose):
            if (count := len(re.findall(r"[\w'’-]*\w", paragraph))) >= 60:
                problems.append(f"cell {number}, a paragraph of {count} words: {paragraph[:40]!r}")
            problems += [
                f"cell {number}: say image, not '{word}'" for word in re.findall(r"(?i)\bpictures?\b", paragraph)
            ]
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
    exercises = [cell.source for _, cell in page.cells("markdown") if "exercise" in build.tags(cell)]
    calls = [cell.source for _, cell in page.cells("code") if "setup" not in build.tags(cell)]
    asked = max(1, len(re.findall(r"(?m)^\d\. ", "".join(exercises)))) if exercises else 0
    missing = [
        n for n in range(1, asked + 1) if not any(re.search(rf"= \.\.\.\ncheck\({n}\)$", code) for code in calls)
    ]
    unfolded = [text for text in exercises if "<details><summary>" not in text]
    return [f"exercise {n} has no cell '... = ...' with check({n})" for n in missing] + ["no solution"] * bool(unfolded)


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
    follows_its_twin,
    ran_in_order,
    begins_as_every_page,
    is_short,
    links_lead_somewhere,
    figures_have_words,
    exercises_are_checked,
    nothing_of_one_machine,
]


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

    def images(notebook):
        outputs = [
            out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
        ]
        photos = [out for out in outputs if not out.data.get("text/plain", "").startswith("[figure]")]
        return [cell.id for cell in notebook.cells if build.holds_images(cell)] + photos

    page = load(NOTEBOOKS / f"{build.WITHOUT_IMAGES}.ipynb")
    assert images(page.notebook) == []
    tagged = [cell for _, cell in page.cells("code") if "nbval-ignore-output" in build.tags(cell)]
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


def source(text, cell=2):
    return lambda notebook: notebook.cells[cell].update(source=text)


def printed(text):
    return lambda notebook: notebook.cells[2].outputs[1].update(text=text)


def failed(notebook):
    notebook.cells[2].outputs = [nbformat.v4.new_output("error", ename="KeyError", evalue="'a'", traceback=[])]


def with_widget(notebook):
    notebook.cells[2].outputs[0].data["application/vnd.jupyter.widget-view+json"] = {"model_id": "1"}


@pytest.mark.parametrize("check, break_it", [
    (follows_its_twin, source("draw(2)")),
    (follows_its_twin, lambda notebook: notebook.cells.pop()),
    (ran_in_order, lambda notebook: notebook.cells[2].update(execution_count=None)),
    (ran_in_order, failed),
    (ran_in_order, printed("census:   0%|          | 0/600")),
    (begins_as_every_page, source("print(1)", cell=1)),
    (begins_as_every_page, source("# A second title", cell=5)),
    (begins_as_every_page, source("# 1. A page\n\n**Takes** long.", cell=0)),
    (is_short, source("word " * 60, cell=5)),
    (is_short, source("A picture.", cell=5)),
    (is_short, source("x = 1\n" * 13)),
    (is_short, source("def draw():\n    pass")),
    (links_lead_somewhere, source("Next: [2. Another](02_other.ipynb)", cell=5)),
    (figures_have_words, lambda notebook: notebook.cells[2].outputs[0].update(metadata={})),
    (exercises_are_checked, source("answer = 1", cell=4)),
    (nothing_of_one_machine, printed("saved in /home/anna/vggnb/runs")),
    (nothing_of_one_machine, printed("<Model at 0x7f3a5c0d2e50>")),
    (nothing_of_one_machine, source("token = 'ghp_" + "a1" * 15 + "'")),
    (nothing_of_one_machine, with_widget),
])  # fmt: skip
def test_each_check_can_fail(check, break_it, good):
    assert [problem for each in CHECKS for problem in each(good)] == []
    broken = copy.deepcopy(good)
    break_it(broken.notebook)
    assert check(broken)


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
    with_widget(good.notebook)
    printed(f"saved\ncensus: 60 files     \r{home}/runs/1 from {ROOT}/data/sample")(good.notebook)
    build.clean_outputs(good.notebook, home, "01_good.py")
    assert good.notebook.cells[2].outputs[1].text == "saved\n<home>/runs/1 from <checkout>/data/sample"
    assert nothing_of_one_machine(good) == []
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
    assert stamped_address(page) == kept and follows_its_twin(page) == []
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
    assert clean("3 folders\n    \r") == clean("3 folders\n          \r") == "3 folders\n"
    assert clean("<Axes at 0x7f12>") == clean("<Axes at 0x80ab>")
    for text in ("accuracy 0.81 (0.70 to 0.90)", "160 images, 96 pixels", "263,682 trainable", "2 x faster, 12 steps"):
        assert clean(text) == text
