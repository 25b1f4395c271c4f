"""The site builds without a warning and without TensorFlow, fetches nothing, and every link leads somewhere."""

import ast
import html.parser
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_architecture import ORDER

from vggnb import __version__
from vggnb.census import take_census
from vggnb.cli import main
from vggnb.cli.parser import make_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
MISSING = "needs the extra docs: make setup"
FETCHES = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}


class Parsed(html.parser.HTMLParser):
    """What a page links to, fetches and shows."""

    def __init__(self, text):
        super().__init__()
        self.links, self.fetched, self.ids, self.alts, self.words = [], [], set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found.get("id"), found.get("name")} - {None}
        self.links += [found["href"]] if tag == "a" and found.get("href") else []
        if tag == "img" and not found.get("src", "").startswith("data:"):  # these are beside their file's name
            self.alts += [found.get("alt")]
        self.fetched += [found[name] for kind, name in FETCHES if kind == tag and found.get(name)]

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: path in the site -> what is on the page."""
    pytest.importorskip("myst_nb", reason=MISSING)
    folder = tmp_path_factory.mktemp("site")
    (folder / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "VGGNB_REPOSITORY": ""}
    command = [sys.executable, str(DOCS / "build.py"), "--to", str(folder / "site")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = sorted((folder / "site").rglob("*.html"))
    return folder / "site", {path: Parsed(path.read_text("utf-8")) for path in pages}


def test_every_page_is_there_and_leads_to_the_next(site):
    folder, pages = site
    for stem, following in zip(PAGES, PAGES[1:], strict=False):
        assert f"{following}.html" in pages[folder / "notebooks" / f"{stem}.html"].links
    for name in ("glossary", "cheat_sheet", "what_can_i_bring", "commands", "results", "cite", "library/census"):
        assert (folder / "docs" / f"{name}.html") in pages
    assert "notebooks/" + PAGES[0] + ".html" in pages[folder / "index.html"].links


def test_every_link_and_anchor_leads_somewhere(site):
    lost = []
    for path, page in site[1].items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or "javascript" in link:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                lost.append(f"{path.name}: {link}")
            elif parts.fragment and target in site[1] and unquote(parts.fragment) not in site[1][target].ids:
                lost.append(f"{path.name}: {link} (no such anchor)")
    assert not lost, "\n".join(lost)


def test_nothing_is_fetched_from_elsewhere(site):
    folder, pages = site
    assert not [address for page in pages.values() for address in page.fetched if urlsplit(address).netloc]
    for path in folder.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]+", path.read_text("utf-8")), path


def test_figures_have_their_sentences_and_a_page_is_downloaded_as_it_is_committed(site):
    folder, pages = site
    for stem in PAGES:
        page, copy = pages[folder / f"notebooks/{stem}.html"], folder / f"_sources/notebooks/{stem}.ipynb"
        assert all(alt and not re.search(r"[0-9a-f]{32}", alt) for alt in page.alts), stem
        assert not re.search(r"\d%\|", page.words), f"a progress bar stands still on {stem}"
        assert copy.read_bytes() == (ROOT / f"notebooks/{stem}.ipynb").read_bytes()
    assert sum(len(alt) > 40 for page in pages.values() for alt in page.alts) > 10


def test_the_colab_button_is_there_only_where_an_address_is_set(monkeypatch):
    pytest.importorskip("sphinx", reason=MISSING)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("VGGNB_REPOSITORY", "")
    assert "launch_buttons" not in runpy.run_path(str(DOCS / "conf.py"))["html_theme_options"]
    for address in ("https://github.com/anna/copy@1a2b3c", "https://github.com/anna/copy/"):
        monkeypatch.setenv("VGGNB_REPOSITORY", address)
        options = runpy.run_path(str(DOCS / "conf.py"))["html_theme_options"]
        stamped = runpy.run_path(str(ROOT / "notebooks" / "build.py"))["address"]()  # into the setup cells
        assert f"{options['repository_url']}@{options['repository_branch']}" == stamped
        assert options["launch_buttons"]["colab_url"]


# What pages.py does to a notebook


@pytest.fixture
def pages():
    pytest.importorskip("docutils", reason=MISSING)
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figure(data="AAAA", **metadata):
    data = {"image/png": data, "text/plain": "40%|## | 2/5 a figure"}
    return nbformat.v4.new_output("display_data", data, metadata=metadata)


def printed(text):
    return nbformat.v4.new_output("stream", text=text)


def read(pages, *outputs, source="", tags=()):
    cells = [nbformat.v4.new_markdown_cell(source)]
    cells.append(nbformat.v4.new_code_cell("draw()", outputs=list(outputs), metadata={"tags": list(tags)}))
    return pages.read(nbformat.writes(nbformat.v4.new_notebook(cells=cells))).cells


def test_a_figure_says_its_sentence_or_what_was_printed_beside_it(pages):
    read(pages, figure(**{"image/png": {"alt": "Two bars: 3 and 4."}}), figure("BBBB"), printed("Three bars.\n"))
    assert sorted(pages.sentences.values()) == ["Three bars.", "Two bars: 3 and 4."]


def test_progress_bars_and_the_badge_of_a_stamped_page_go_and_everything_else_stays(pages):
    bar = nbformat.v4.new_output("display_data", {"text/plain": "Head:   0%|          | 0/5 [00:00<?]"})
    kept = [printed("accuracy 0.81, 5% better\n"), figure()]
    mixed = printed("Head:  40%|####      | 2/5\rHead: 100%|##########| 5/5\nTrained.\n")
    source = "# 1. Paths\n\n[![Open In Colab](https://x/badge.svg)](https://x/github/a)\n\nAfter this page"
    prose, code = read(pages, bar, *kept, printed(" 40%|####      | 2/5"), mixed, source=source, tags=["setup"])
    assert code.outputs == [*kept, printed("Trained.\n")] and prose.source == "# 1. Paths\n\nAfter this page"
    assert code.metadata["tags"] == ["setup", "hide-input"]  # folded


# What the written pages say


def code(path, kind):
    return re.findall(rf"(?ms)^ *```{kind}\n(.*?)^ *```", path.read_text("utf-8"))


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_commands_and_calls_in_the_text_exist(path):
    for line in "\n".join(code(path, "")).splitlines():
        if line.strip().startswith("vggnb "):
            words = shlex.split(line.partition(">")[0], comments=True)[1:]
            assert words == ["--help"] or make_parser().parse_args(words), line
    for node in ast.walk(ast.parse("\n".join(code(path, "python")))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("vggnb"):
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not [name for name in missing if not importlib.util.find_spec(f"{node.module}.{name}")], path


def test_the_readme_lists_every_page():
    table = (ROOT / "README.md").read_text("utf-8").partition("<!-- pages -->")[2].partition("<!-- end of pages")[0]
    assert re.findall(r"\(notebooks/(\w+)\.ipynb\)", table) == PAGES


def test_links_in_the_text_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]:
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8"))
        assert not [link for link in links if not urlsplit(link).scheme and not (path.parent / link).exists()], path


def test_the_map_of_contributing_is_the_one_that_is_tested():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The map")[2]
    block = "".join(re.findall(r"(?m)^    .*\n", text.partition("\n- ")[0]))
    assert re.findall(r"\w+", block) == ORDER[:-1]  # less __main__


def test_the_citation_names_this_version():
    for name in ("CITATION.cff", "docs/cite.md"):
        assert __version__ in (ROOT / name).read_text("utf-8")


@pytest.fixture
def save(tmp_path):
    """A function: (path, seed) -> an image of soft noise there; `dark` divides its values."""

    def save(place, seed, dark=1):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8) // dark
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR).save(path)

    return save


def section(title):
    """A section of *What can I bring?*"""
    return (DOCS / "what_can_i_bring.md").read_text("utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


FOLDERS = """
cars/car cars/bus cars/train loose/train unlabelled/test unlabelled/train/KIND differ/test/dogs parts/images parts/masks
nobird/KIND flat/KIND deep/data/images/KIND labels/images/KIND photos/photo/KIND photos/sketch/KIND seg/seg_train/KIND
seg/seg_test/KIND three/train/KIND three/val/KIND three/test/KIND within/KIND/train within/KIND/test extra/train/KIND
extra/test/KIND extra/extra/KIND differ/train/KIND differ/test/KIND twice/train/KIND
"""


def test_what_can_i_bring_shows_what_the_census_prints_about_folders(save, tmp_path, capsys):
    folders = {folder.replace("KIND", kind): None for folder in FOLDERS.split() for kind in ("cat", "dog")}
    for number, folder in enumerate(folders):
        for i in range(40 if folder == "loose/train" else 4):
            save(f"{folder}/{i}.png", 100 * number + i)
    shutil.copytree(tmp_path / "twice/train", tmp_path / "twice/data/train")
    for name in ("labels/labels/a.txt", "nobird/bird/x.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("no image")
    for name in sorted({folder.partition("/")[0] for folder in folders}):
        main(["census", str(tmp_path / name), "--quiet"])
    printed = " ".join(capsys.readouterr())
    table, _, refusals = section("Folders").partition("Training does not start")
    lines = re.findall(r"(?m)^\| .*? \| `(.+?)` \|", table) + re.findall(r"`((?!vggnb)[^`]+ [^`]+)`", refusals)
    missing = [line for line in lines if line.partition("...")[0].strip() not in printed]
    assert len(lines) > 12 and not missing, missing


def test_what_can_i_bring_shows_the_warnings_of_the_census(save, tmp_path):
    for i in range(40):
        kind = "cat" if i % 2 else "dog"
        save(f"copied/train/{kind}/{i}.png", i)
        save(f"copied/test/{kind}/{i}.png", i)
        if i < 30:
            save(f"rare/dog/{i}.png", i + 100)
        if i < 20:
            save(f"leak/train/{kind}/{i}.png", i)
            save(f"leak/test/{kind}/{i}.png", i if i in (3, 4) else i + 100)
            save(f"few/cat/{i}.png", i % 4)
            save(f"few/dog/{i}.png", 10 + i % 5)
            save(f"dark/cat/{i}.png", i, dark=16)
            save(f"dark/dog/{i}.png", i + 100)
        if i < 12:
            save(f"inside/all/{i}.png", i)
            save(f"inside/cat/{i % 6}.png", i % 6)
            save(f"inside/dog/{i}.png", i + 50)
            save(f"masks/cat/{i}_mask.png", i)
            save(f"masks/dog/{i}.png", i + 100)
            save(f"masks/.old/{i}.png", i + 200)
            save(f"table/{i}.png", i)
        if i < 8:
            save(f"rare/cat/{i}.png", i)
            save(f"same/blank/{i}.png", 1)
            save(f"same/dog/{i}.png", i + 10)
            save(f"lost/cat/{i}.png", i)
            save(f"lost/dog/{i}.png", i + 10)
    rows = [f"{i}.png,{'' if i in (4, 9) else ('cat', 'dog')[i % 2]}" for i in range(12)]
    (tmp_path / "table/labels.csv").write_text("\n".join(["path,label", *rows]))
    rows = [f"{kind}/{i}.png,{kind}" for i in range(10) for kind in ("cat", "dog")]
    (tmp_path / "lost/labels.csv").write_text("\n".join(["path,label", *rows]))
    datasets = [*"copied leak few dark inside masks rare same".split(), "table/labels.csv", "lost/labels.csv"]
    warnings = {line for name in datasets for line in take_census(tmp_path / name, progress=False).warnings}
    lines = re.findall(r"(?m)^\| .* \| `(.+?)` \|$", section("What it warns about"))
    assert len(lines) > 8 and set(lines) <= warnings, set(lines) - warnings
