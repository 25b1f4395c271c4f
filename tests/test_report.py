"""The page stands alone, is small, and shows hostile names without obeying them."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from vggnb import cli, figures
from vggnb.evaluate import evaluate
from vggnb.report import build_page, write_report
from vggnb.save.card import build_card, card_markdown, plain
from vggnb.storage import VggnbError

HOSTILE = "<img src=x onerror=alert(1)>$x_$\u202e"
TAGS = "html head meta title style body h1 h2 h3 p strong ul li table thead tbody tr th td figure img"


class Page(HTMLParser):
    """The tags, attributes and images that a page really has."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.images = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.images.append(dict(attrs))


@pytest.fixture
def own(own_run, base, monkeypatch):
    assemble = type(own_run).classifier
    monkeypatch.setattr(type(own_run), "classifier", lambda self: assemble(self, base[0]))
    return own_run


def test_the_page_stands_alone(own):
    path, report = write_report(own, progress=False)
    text = path.read_text("utf-8")
    page = Page(text)
    assert page.tags <= set(TAGS.split()) and len(text) < 5_000_000
    assert len(page.images) >= 7
    assert all(one["src"].startswith("data:image/") and int(one["width"]) <= 800 for one in page.images)
    assert str(figures.confusion_matrix(report)) in [one["alt"] for one in page.images]
    assert not re.search(r"(?i)https?://|<script|javascript:", text)
    assert "before you rely on it" in text and f"{report.metrics['auc'].value:.2f}" in text
    card = json.loads(path.with_name("report-card.json").read_text())
    assert card["results"]["test"]["n"] == 12 and card["seed"] == 0 and len(card["data"]["sha256"]) == 64
    assert {"versions", "limits", "calibration", "recipe", "images"} <= set(card)
    assert path.with_name("report-relabel-test.csv").read_text().startswith("path,class,predicted")


def test_hostile_names_on_the_disk_come_through_as_words(draw_photos, survey, fit_tiny, best, tmp_path, capsys):
    names = (f"{HOSTILE}'\"&", "b <script>alert(2)</script>".replace("/", ""))
    folder = draw_photos(tmp_path / "<b>set" / "pets", names, {"train": 4, "validation": 3, "test": 4})
    for path in sorted(folder.rglob("*.*")):
        path.rename(path.with_name(f"{path.stem[-1]}{HOSTILE}{path.suffix}"))
    (folder / "test" / names[0] / "drawing.svg").write_text("<svg onload=alert(3)></svg>")
    run, _ = fit_tiny(survey(folder), best, tmp_path / "<i>run")
    assert cli.main(["report", str(run.folder), "--to", str(tmp_path / "page.html"), "--quiet"]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    seen = Page(page)
    assert seen.tags <= set(TAGS.split()) and not {"onerror", "onload"} & seen.attributes
    assert all(one["src"].startswith("data:image/") for one in seen.images)
    assert "\u202e" not in page and "&lt;img src=x onerror" in page and "&lt;script&gt;" in page
    markdown = (tmp_path / "page-card.md").read_text("utf-8")
    assert not re.search(r"<[a-z]", markdown) and "\u202e" not in markdown and "$x_$" not in markdown
    assert "\u202e" not in capsys.readouterr().out
    with open(tmp_path / "page-relabel-test.csv", encoding="utf-8", newline="") as file:
        paths = [line["path"] for line in csv.DictReader(file)]
    assert all((folder / path).is_file() for path in paths)  # the list names the files as they are


def test_plain_markdown_cannot_become_a_link():
    assert plain("[a](b) *c* `d` |") == r"\[a\]\(b\) \*c\* \`d\` \|"


def test_a_second_report_replaces_the_first_and_keeps_a_list_that_was_worked_on(own):
    path, _ = write_report(own, progress=False)
    listed = path.with_name("report-relabel-test.csv")
    listed.write_text("mine")
    write_report(own, progress=False)
    write_report(own, progress=False)
    assert path.with_name("report-relabel-test-1.csv").read_text() == "mine"
    assert listed.read_text().startswith("path,class,predicted")
    assert not path.with_name("report-relabel-test-2.csv").exists()
    assert set(build_card(own, "pets")["results"]) == {"test"}


def test_a_users_file_that_is_named_like_a_report_is_none(own):
    evaluate(own, draws=20, progress=False)
    (own.folder / "report-2026.json").write_text("[1]")
    assert set(build_card(own, "pets")["results"]) == {"test"}
    (own.folder / "report-test.json").write_text("[1]")
    with pytest.raises(VggnbError, match="not a report"):
        build_card(own, "pets")


@pytest.mark.parametrize("name, there, words", [
    ("photo.jpg", "photo.jpg", "ends in .html"), ("mine.html", "mine.html", "not part of a report"),
    ("mine.html", "mine-card.md", "not part of a report"),
])  # fmt: skip
def test_nothing_but_a_report_is_replaced_by_one(name, there, words, own, tmp_path):
    (tmp_path / there).write_text("mine")
    with pytest.raises(VggnbError) as raised:
        write_report(own, tmp_path / name, progress=False)
    assert words in str(raised.value) and (tmp_path / there).read_text() == "mine"


def test_a_folder_is_no_place_for_a_report(own, tmp_path):
    (tmp_path / "x.html").mkdir()
    with pytest.raises(VggnbError, match="(?s)There is a folder of this name.*Name a file"):
        write_report(own, tmp_path / "x.html", progress=False)


def test_a_class_without_test_images_is_named_and_the_rest_is_there(own):
    rows = tuple(row for row in own.manifest.rows if (row.split, row.class_name) != ("test", "cat"))
    some = replace(own, manifest=replace(own.manifest, rows=rows))
    report = evaluate(some, draws=20, progress=False)
    page = build_page(some, report, build_card(some, "pets"), progress=False)
    assert "Not evaluated, because there are no images: cat." in page and "Confusion matrix" in page
    assert "sensitivity" in page and "Decision threshold" not in page
    assert "Not evaluated, because" in card_markdown(build_card(some, "pets"))
