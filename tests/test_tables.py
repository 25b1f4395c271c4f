"""Tables of path,label as spreadsheets, pandas and other computers write them."""

import unicodedata
from pathlib import Path

import pytest
from zoo import photo, save

from vggnb.census import take_census
from vggnb.census.layout import read_layout
from vggnb.census.tables import read_table
from vggnb.storage import VggnbError


def table(root: Path, text: str | bytes) -> Path:
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "part_1/ISIC_7.jpg", unicodedata.normalize("NFD", "Tulip/é.jpg")]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root / "labels.csv"


def test_a_table_gives_label_split_and_group(tmp_path):
    rows = "path,label,split,group\na/1.jpg,mel,Training,p1\na/2.jpg,nv,test,p2\nb/1.jpg,mel,,\n"
    layout = read_table(table(tmp_path, rows))
    assert [(e.path, e.class_name, e.split, e.group) for e in layout.entries] == [
        ("a/1.jpg", "mel", "train", "p1"), ("a/2.jpg", "nv", "test", "p2"), ("b/1.jpg", "mel", "unsplit", ""),
    ]  # fmt: skip
    assert layout.dataset == tmp_path


@pytest.mark.parametrize("text", [
    "\ufeffpath,label\na/1.jpg,x\nb/1.jpg,y\n",
    "Label;Path\r\nx;a/1.jpg\r\ny;b\\1.jpg\r\n",
    "sep=;\npath;label\na/1.jpg;x\nb/1.jpg;y\n",
    "path\tlabel\na/1.jpg\tx\nb/1.jpg\ty\n",
    'path,label\n"a/1.jpg"," x "\n\n,\n./b/1.jpg,y\n',
    "path,label\na/1,x\nb/1,y\n",
    "path,label\nA/1.JPG,x\nb/1.jpg,y\n",
    "path,label\nC:\\Users\\me\\a\\1.jpg,x\nset/b/1.jpg,y\n",
    "path,label\n/home/somebody/set/a/1.jpg,x\n/home/somebody/set/b/1.jpg,y\n",
    "path,label\n{root}/a/1.jpg,x\n{root}/b/1.jpg,y\n",
    "path,label\na/1.jpg,x\nb/1.jpg,y\n".encode("utf-16"),
])  # fmt: skip
def test_tables_from_spreadsheets_and_other_computers_are_read(tmp_path, text):
    text = text if isinstance(text, bytes) else text.replace("{root}", str(tmp_path))
    layout = read_table(table(tmp_path, text))
    assert [(entry.path, entry.class_name) for entry in layout.entries] == [("a/1.jpg", "x"), ("b/1.jpg", "y")]


def test_ids_and_other_unicode_forms_find_their_files_and_what_several_files_could_be_finds_none(tmp_path):
    rows = "path,label\nISIC_7,x\ntulip/é.jpg,y\n1.jpg,x\ntest/1.jpg,y\n"
    layout = read_table(table(tmp_path, rows))
    assert [entry.class_name for entry in layout.entries] == ["y", "x"]
    reasons = {stray.path: stray.reason for stray in layout.strays}
    assert "Several files could be meant" in reasons["1.jpg"] and "no such file" in reasons["test/1.jpg"]


def test_whole_paths_that_all_lie_elsewhere_make_their_folder_the_dataset(tmp_path):
    table(tmp_path / "images", "")
    rows = "".join(f"{tmp_path / 'images' / name},{name[0]}\n" for name in ("a/1.jpg", "b/1.jpg"))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("path,label\n" + rows)
    (tmp_path / "tables" / "u.csv").write_text("path,label\n../images/a/1.jpg,a\n../images/b/1.jpg,b\n")
    (tmp_path / "tables" / "w.csv").write_text("path,label\n..\\images\\a\\1.jpg,a\n../images/b/1.jpg,b\n,b\n")
    for name in ("t.csv", "u.csv", "w.csv"):
        layout = read_layout(tmp_path / "tables" / name)
        assert layout.dataset == tmp_path / "images" and [e.path for e in layout.entries] == ["a/1.jpg", "b/1.jpg"]


def test_labels_whose_files_are_not_there_stop_training_by_name(tmp_path):
    for k in range(4):
        save(tmp_path / "a" / f"{k}.png", photo(k))
    rows = [f"a/{k}.png,{'xy'[k % 2]}\n" for k in range(4)]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows) + "c/1.png,tulip\nc/2.png,rose\n")
    census = take_census(tmp_path / "t.csv", progress=False)
    assert "2 lines of the table: files not found; the first: c/1.png." in census.warnings
    with pytest.raises(VggnbError, match="rose has 0 usable images.*; tulip has 0 usable images"):
        census.check_trainable()


def test_every_line_of_a_table_is_used_or_says_why_not(tmp_path):
    lines = ["path,label", "a/1.jpg,x", "b/1.jpg,y", "a/1.jpg,y", "gone.jpg,x", "../out.jpg,x", "/etc/hostname,x"]
    layout = read_table(table(tmp_path, "\n".join([*lines, "a/2.jpg,", "a,x"])))
    reasons = {stray.path: stray.reason for stray in layout.strays}
    assert len(layout.entries) + len(layout.strays) == 8
    assert "Line 4 names it again" in reasons["a/1.jpg"]
    assert "no such file" in reasons["gone.jpg"]
    assert "below" in reasons["../out.jpg"] and "below" in reasons["/etc/hostname"]
    assert "No label" in reasons["a/2.jpg"] and "It is a folder" in reasons["a"]
    assert layout.warnings[0] == "1 line of the table: file not found; the first: gone.jpg."
    assert "Not used: 1 line of the table without a label." in layout.warnings[1]
    assert layout.obstacles[0].what == "1 image with more than one label: a/1.jpg (x, y)."


@pytest.mark.parametrize(("text", "words"), [
    ("file,class\na/1.jpg,x\n", "needs the columns path and label; it has ['file', 'class']"),
    ("path,label,split\na/1.jpg,x,holdout\n", "'holdout' in line 2 is not a split"),
    ("path,label\nnowhere.jpg,x\n", "The first line: nowhere.jpg: There is no such file"),
    ("path,label\na/1.jpg,\n", "The first line: a/1.jpg: No label in line 2"),
    ("path,label,split\na/1.jpg,x,fold3\nb/1.jpg,y,holdout\n",
     "'fold3' in line 2, 'holdout' in line 3 are not splits"),
    ("path;label\na/1.jpg;grün\n".encode("cp1252"), "Line 2 of the table is not UTF-8 text"),
    (b"\x89PNG\r\n\x1a\n\0\0", "not a table of text"),
    (b"PK\x03\x04" + bytes(40), "a spreadsheet"),
    ("path,label\n" + "".join(f"a/{k}.jpg,{36 + k / 7:.2f}\n" for k in range(12)), "look like measurements"),
    ("path,label\n" + "".join(f"a/{k}.jpg,{17 + 2 * k}\n" for k in range(12)), "look like measurements"),
    ("path,label\n" + "".join(f"a/{k}.jpg,anna {k}\n" for k in range(30)), "look like names of single images"),
    ("path,label\na/1.jpg,cat|dog\nb/1.jpg,dog\n", "several labels in one cell, such as 'cat|dog'"),
    ("path,label\na/1.jpg,0\nb/1.jpg,0.0\n", "one number in several ways: 0, 0.0"),
    ("image,MEL,NV\nISIC_7,1.0,0.0\na/1,0.0,1.0\n", "one column per class"),
    ("path,class,xmin,xmax\na/1.jpg,x,0,1\n", "Bounding boxes are not supported"),
    ("path,label,label\na/1.jpg,x,y\n", "several columns label"),
    ("path,label\na/1.jpg,Mel\nb/1.jpg,mel\n", "cannot tell apart"),
    ("", "needs the columns"),
])  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_with_the_reason(tmp_path, text, words):
    with pytest.raises(VggnbError) as caught:
        read_table(table(tmp_path, text))
    assert words in str(caught.value)
