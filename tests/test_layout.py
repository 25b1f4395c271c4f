"""What folder the user has -> classes, splits, and what is left over. Files are empty: nothing here opens one."""

import inspect
import os
import sys
from pathlib import Path

import pytest

from vggnb.census import layout as layout_module
from vggnb.census.layout import read_layout, split_word
from vggnb.census.tables import read_table
from vggnb.storage import VggnbError


def tree(root: Path, *paths: str) -> Path:
    """Make empty files, and empty folders where a path ends with a slash."""
    for path in paths:
        place = root / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.touch()
    return root


def found(layout) -> dict[str, tuple[str, str]]:
    return {entry.path: (entry.split, entry.class_name) for entry in layout.entries}


def refusal(root: Path) -> str:
    with pytest.raises(VggnbError) as caught:
        read_layout(root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "validation", "test"), ("train", "validation", "test")),
        (("Training", "VAL", "Testing"), ("train", "validation", "test")),
        (("training_set", "valid", "test set"), ("train", "validation", "test")),
    ],
)
def test_split_words_are_understood_in_any_case(tmp_path, names, splits):
    layout = read_layout(tree(tmp_path, *(f"{name}/{c}/1.jpg" for name in names for c in "ab")))
    wanted = {f"{name}/{c}/1.jpg": (split, c) for name, split in zip(names, splits, strict=True) for c in "ab"}
    assert found(layout) == wanted
    assert layout.classes == ("a", "b")
    assert layout.obstacles == ()


@pytest.mark.parametrize("name", ["trains", "contest", "value", "testament", "", "retraining"])
def test_words_that_only_begin_like_a_split_are_none(name):
    assert split_word(name) is None


def test_train_and_test_alone_are_said_to_lack_validation(tmp_path):
    layout = read_layout(tree(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/b/1.jpg"))
    assert "There is no validation split." in layout.sentences


def test_class_folders_without_splits_are_unsplit(tmp_path):
    layout = read_layout(tree(tmp_path, "cat/1.jpg", "dog/1.jpg", "dog/deep/2.jpg"))
    assert found(layout) == {
        "cat/1.jpg": ("unsplit", "cat"), "dog/1.jpg": ("unsplit", "dog"), "dog/deep/2.jpg": ("unsplit", "dog"),
    }  # fmt: skip


@pytest.mark.parametrize("outer", [("photo", "sketch"), ("fold1", "fold2"), ("seg_train", "seg_pred")])
def test_class_folders_with_the_same_folders_inside_are_not_trained_on(tmp_path, outer):
    layout = read_layout(tree(tmp_path, *(f"{name}/{c}/1.jpg" for name in outer for c in "ab")))
    (obstacle,) = layout.obstacles
    assert "not clear which folders are the classes" in obstacle.what and "all hold a, b" in obstacle.what


@pytest.mark.parametrize("wrapper", ["pictures", "a/b/c"])
def test_folders_around_the_dataset_are_looked_through(tmp_path, wrapper):
    layout = read_layout(tree(tmp_path, f"{wrapper}/cat/1.jpg", f"{wrapper}/dog/1.jpg", "readme.txt"))
    assert layout.classes == ("cat", "dog")
    assert any("one level deeper" in sentence for sentence in layout.sentences)


def test_a_folder_around_the_classes_inside_a_split_is_looked_through(tmp_path):
    layout = read_layout(tree(tmp_path, "train/train/a/1.jpg", "train/train/b/1.jpg", "test/a/1.jpg", "test/b/1.jpg"))
    assert found(layout)["train/train/a/1.jpg"] == ("train", "a")


def test_splits_inside_class_folders_are_understood(tmp_path):
    layout = read_layout(tree(tmp_path, "cat/train/1.jpg", "cat/test/2.jpg", "dog/train/1.jpg"))
    assert found(layout) == {
        "cat/train/1.jpg": ("train", "cat"), "cat/test/2.jpg": ("test", "cat"), "dog/train/1.jpg": ("train", "dog"),
    }  # fmt: skip
    assert layout.classes == ("cat", "dog")


def test_splits_inside_some_class_folders_only_are_refused(tmp_path):
    assert "cat/ holds something else" in refusal(tree(tmp_path, "cat/1.jpg", "dog/train/1.jpg", "dog/test/1.jpg"))


def test_a_class_may_be_called_train(tmp_path):
    layout = read_layout(tree(tmp_path, "car/1.jpg", "bus/1.jpg", "train/1.jpg"))
    assert layout.classes == ("bus", "car", "train")
    assert {entry.split for entry in layout.entries} == {"unsplit"}


def test_the_dataset_inside_the_dataset_is_set_apart_as_a_copy(tmp_path):
    files = [f"{split}/{c}/1.jpg" for split in ("train", "test") for c in "ab"]
    layout = read_layout(tree(tmp_path, *files, *(f"data/{file}" for file in files)))
    assert set(found(layout)) == set(files)
    assert set(layout.copies) == {f"data/{file}" for file in files}
    assert "data/ looks like a second copy of the dataset; the outer one is used." in layout.sentences


def test_class_folders_inside_the_class_folders_are_a_copy_too(tmp_path):
    layout = read_layout(tree(tmp_path, "a/1.jpg", "b/1.jpg", "all/a/1.jpg", "all/b/1.jpg"))
    assert layout.classes == ("a", "b")
    assert set(layout.copies) == {"all/a/1.jpg", "all/b/1.jpg"}


def test_files_beside_the_class_folders_are_strays_with_a_reason(tmp_path):
    layout = read_layout(tree(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/lost.jpg", "notes/x.txt", "licence"))
    assert [stray.path for stray in layout.strays] == ["licence", "notes/x.txt", "train/lost.jpg"]
    assert all("outside the class folders" in stray.reason for stray in layout.strays)


def test_an_empty_class_folder_is_a_class_and_an_empty_split_folder_is_none(tmp_path):
    layout = read_layout(tree(tmp_path, "train/a/1.jpg", "train/b/", "validation/", "test/a/1.jpg", "test/b/1.jpg"))
    assert layout.classes == ("a", "b")
    assert "validation/ is empty and counts as absent." in layout.sentences


def test_classes_are_in_the_order_of_their_code_points_whatever_the_listing_says(tmp_path, monkeypatch):
    tree(tmp_path, *(f"{name}/1.jpg" for name in ("class2", "class10", "class1", "Zebra", "éclair")))
    straight = read_layout(tmp_path)
    monkeypatch.setattr(layout_module, "walk", lambda dataset, walk=layout_module.walk: _backwards(walk(dataset)))
    assert read_layout(tmp_path) == straight
    assert straight.classes == ("Zebra", "class1", "class10", "class2", "éclair")


def _backwards(walked):
    root, strays, system = walked
    root.folders = dict(reversed(root.folders.items()))
    return root, strays, system


def test_system_files_are_counted_at_any_depth_and_never_looked_into(tmp_path):
    system = ["a/.DS_Store", "a/.ipynb_checkpoints/1.jpg", "__MACOSX/a/._1.jpg", "$RECYCLE.BIN/x/y.jpg", "Thumbs.db"]
    layout = read_layout(tree(tmp_path, "a/1.jpg", "b/1.jpg", *system))
    assert sorted(layout.system_files) == sorted(system)
    assert layout.classes == ("a", "b")


def link(root: Path, links: dict[str, str]) -> Path:
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, root / name)
    return root


def test_links_that_lead_nowhere_or_back_are_listed(tmp_path):
    tree(tmp_path, "set/a/1.jpg", "set/b/1.jpg", "set/b/.keep", "notes/text.txt")
    loops = {"a/loop": "..", "a/up": "../..", "a/self": ".", "a/b": "../b"}
    link(tmp_path / "set", loops | {"b/nowhere.jpg": "nowhere", "b/same.jpg": "1.jpg", "a/text": "../../notes"})
    layout = read_layout(tmp_path / "set")
    assert set(found(layout)) == {"a/1.jpg", "b/1.jpg"}
    assert {stray.path for stray in layout.strays} == {*loops, "b/nowhere.jpg", "b/same.jpg", "a/text"}
    assert all("link" in stray.reason for stray in layout.strays)
    assert layout.obstacles == ()


def test_a_linked_class_folder_and_links_to_images_are_used(tmp_path):
    tree(tmp_path, "set/a/1.jpg", "other/b/1.jpg", "other/b/deep/2.jpg", "blobs/5f", "blobs/6a")
    links = {"b": "../other/b", "c/5.jpg": "../../blobs/5f", "c/6.jpg": "../../blobs/6a", "c/7.jpg": "../../blobs/6a"}
    layout = read_layout(link(tmp_path / "set", links))
    assert layout.classes == ("a", "b", "c")
    assert {path for path in found(layout)} == {"a/1.jpg", "b/1.jpg", "b/deep/2.jpg", "c/5.jpg", "c/6.jpg"}
    assert [(stray.path, "link to a file" in stray.reason) for stray in layout.strays] == [("c/7.jpg", True)]


def test_a_link_to_an_image_of_another_class_stays_so_that_the_conflict_is_found(tmp_path):
    layout = read_layout(link(tree(tmp_path, "a/1.jpg", "b/1.jpg"), {"b/2.jpg": "../a/1.jpg"}))
    assert found(layout)["b/2.jpg"] == ("unsplit", "b")


def test_links_inside_a_linked_folder_do_not_loop(tmp_path):
    link(tree(tmp_path, "set/a/1.jpg", "other/b/1.jpg", "other/x.jpg"), {"set/b": "../other/b", "other/b/up": ".."})
    layout = read_layout(tmp_path / "set")
    assert set(found(layout)) == {"a/1.jpg", "b/1.jpg", "b/up/x.jpg"}
    assert [stray.path for stray in layout.strays] == ["b/up/b"]


@pytest.mark.parametrize(
    ("files", "links", "words"),
    [
        (["a/1.jpg", "b/1.jpg"], {"c": "nowhere"}, "c (It is a link that cannot be followed"),
        (["a/1.jpg", "b/1.jpg"], {"c": "a"}, "c (It is reached by a link"),
        (["a/1.jpg", "b/1.jpg", "c.lnk"], {}, "c.lnk (a Windows shortcut)"),
        (["train/a/1.jpg", "train/b/1.jpg"], {"test": "train"}, "test (It is reached by a link"),
        (["train/a/1.jpg", "train/b/1.jpg"], {"valid": "/nowhere/valid"}, "valid (It is a link that cannot be"),
        (["train/a/1.jpg", "train/b/1.jpg"], {"train/c": "nowhere"}, "train/c (It is a link"),
    ],
)
def test_a_link_that_cannot_be_followed_where_a_folder_should_be_stops_training(tmp_path, files, links, words):
    layout = read_layout(link(tree(tmp_path, *files), links))
    assert words in layout.obstacles[0].what


def test_very_many_folders_in_each_other_are_no_problem(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/1.jpg", f"a/{'d/' * 300}deep.jpg")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        layout = read_layout(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert len(layout.entries) == 3


def test_a_missing_folder_a_file_and_an_empty_folder_are_refused(tmp_path):
    assert "no such dataset folder" in refusal(tmp_path / "nowhere")
    assert "is a file, not a folder" in refusal(tree(tmp_path, "x.txt") / "x.txt")
    (tmp_path / "empty").mkdir()
    assert "is empty" in refusal(tmp_path / "empty")


def test_images_directly_in_train_are_refused_with_their_number(tmp_path):
    text = refusal(tree(tmp_path, *(f"train/{k}.jpg" for k in range(12)), "test/1.jpg"))
    assert "12 images lie directly in train/" in text
    assert "one folder for each class" in text


def test_images_directly_in_the_dataset_can_be_surveyed_but_not_trained_on(tmp_path):
    layout = read_layout(tree(tmp_path / "photos", "1.jpg", "2.jpg"))
    assert layout.classes == ("photos",)
    assert "2 images lie directly" in str(layout.obstacles[0])


def test_class_lists_that_differ_are_refused_with_both_lists(tmp_path):
    paths = ["train/bcc/1.jpg", "train/mel/1.jpg", "validation/mel/1.jpg", "validation/zextra/1.jpg"]
    text = refusal(tree(tmp_path, *paths))
    assert "validation lacks: bcc; validation has extra: zextra" in text
    assert "['bcc', 'mel']" in text and "['mel', 'zextra']" in text


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("dog ", "dog"), ("\u00c5", "A\u030a"), ("a  b", "a b")])
def test_class_names_that_look_alike_are_refused_with_their_code_points(tmp_path, pair):
    text = refusal(tree(tmp_path, *(f"{name}/1.jpg" for name in pair), "other/1.jpg"))
    for name in pair:
        assert repr(name) in text
        assert " ".join(f"U+{ord(c):04X}" for c in name) in text


def test_names_that_look_alike_in_different_splits_are_refused_as_such(tmp_path):
    text = refusal(tree(tmp_path, "train/Cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg", "test/dog/1.jpg"))
    assert "cannot tell apart" in text


def test_two_folders_for_one_split_are_refused(tmp_path):
    text = refusal(tree(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "validation/a/1.jpg"))
    assert "Two folders mean validation: val/ and validation/" in text


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    tree(tmp_path, "a/1.jpg", "b/1.jpg")
    listing = os.scandir

    def refusing(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refusing)
    text = refusal(tmp_path)
    assert str(tmp_path / "b") in text and "permissions" in text


def table(root: Path, text: str | bytes) -> Path:
    tree(root, "a/1.jpg", "a/2.jpg", "b/1.jpg", "unlisted.jpg")
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root / "labels.csv"


def test_a_table_gives_label_split_and_group(tmp_path):
    rows = "path,label,split,group\na/1.jpg,mel,Training,p1\na/2.jpg,nv,test,p2\nb/1.jpg,mel,,\n"
    layout = read_table(table(tmp_path, rows))
    assert [(e.path, e.class_name, e.split, e.group) for e in layout.entries] == [
        ("a/1.jpg", "mel", "train", "p1"), ("a/2.jpg", "nv", "test", "p2"), ("b/1.jpg", "mel", "unsplit", ""),
    ]  # fmt: skip
    assert layout.dataset == tmp_path


@pytest.mark.parametrize(
    "text", ["\ufeffpath,label\na/1.jpg,x\nb/1.jpg,y\n", "Label;Path\r\nx;a/1.jpg\r\ny;b\\1.jpg\r\n"]
)
def test_tables_from_spreadsheets_are_read(tmp_path, text):
    layout = read_table(table(tmp_path, text))
    assert [(entry.path, entry.class_name) for entry in layout.entries] == [("a/1.jpg", "x"), ("b/1.jpg", "y")]


def test_every_line_of_a_table_is_used_or_says_why_not(tmp_path):
    lines = ["path,label", "a/1.jpg,x", "b/1.jpg,y", "a/1.jpg,y", "gone.jpg,x", "../out.jpg,x", "/etc/hostname,x"]
    layout = read_table(table(tmp_path, "\n".join([*lines, "a/2.jpg,", "a,x"])))
    reasons = {stray.path: stray.reason for stray in layout.strays}
    assert len(layout.entries) + len(layout.strays) == 8
    assert "Line 4 names it again" in reasons["a/1.jpg"]
    assert "no such file" in reasons["gone.jpg"]
    assert "beneath" in reasons["../out.jpg"] and "beneath" in reasons["/etc/hostname"]
    assert "No label" in reasons["a/2.jpg"] and "regular" in reasons["a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,class\na/1.jpg,x\n", "needs the columns path and label; it has ['file', 'class']"),
        ("path,label,split\na/1.jpg,x,holdout\n", "'holdout' in line 2 is not a split"),
        ("path,label\nnowhere.jpg,x\n", "names no file that is there"),
        ("path,label\na/1.jpg,Mel\nb/1.jpg,mel\n", "cannot tell apart"),
        ("", "needs the columns"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, words):
    with pytest.raises(VggnbError) as caught:
        read_table(table(tmp_path, text))
    assert words in str(caught.value)
