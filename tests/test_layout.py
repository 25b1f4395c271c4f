"""What folder the user has -> classes, splits, and what is left over. Files are empty: nothing here opens one."""

import os
from pathlib import Path

import pytest

from vggnb.census.layout import read_layout
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


@pytest.mark.parametrize("outer", ["", "train/", "test/"])
def test_the_dataset_inside_the_dataset_is_set_apart_as_a_copy(tmp_path, outer):
    files = [f"{split}{c}/1.jpg" for split in {outer, "train/" * bool(outer)} for c in "ab"]
    layout = read_layout(tree(tmp_path, *files, *(f"data/{file}" for file in files)))
    assert set(found(layout)) == set(files)
    assert set(layout.copies) == {f"data/{file}" for file in files}
    assert "data/ looks like a second copy of the dataset; the outer one is used." in layout.sentences


def test_what_lies_beside_the_classes_is_listed(tmp_path):
    system = ["a/.DS_Store", "a/.ipynb_checkpoints/1.jpg", "__MACOSX/a/._1.jpg", "$RECYCLE.BIN/x/y.jpg", "Thumbs.db"]
    names = ("class2", "class10", "class1", "Zebra", "éclair")
    files = [f"train/{name}/1.jpg" for name in names] + ["train/a/", "validation/", "train/lost.jpg", "notes/x.txt"]
    layout = read_layout(tree(tmp_path, *files, "licence", *system))
    assert layout.classes == ("Zebra", "a", "class1", "class10", "class2", "éclair"), "an empty folder is a class"
    assert "validation/ is empty and counts as absent." in layout.sentences
    assert [stray.path for stray in layout.strays] == ["licence", "notes/x.txt", "train/lost.jpg"]
    assert all("outside the class folders" in stray.reason for stray in layout.strays)
    assert sorted(layout.system_files) == sorted(system)


def link(root: Path, links: dict[str, str]) -> Path:
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, root / name)
    return root


def test_links_that_lead_nowhere_or_back_are_listed(tmp_path):
    tree(tmp_path, "set/a/1.jpg", "set/b/1.jpg", "set/b/.keep", "notes/text.txt", "other/c/1.jpg", "other/x.jpg")
    loops = {"a/loop": "..", "a/up": "../..", "a/self": ".", "a/b": "../b"}
    link(tmp_path / "set", loops | {"b/nowhere.jpg": "nowhere", "b/same.jpg": "1.jpg", "a/text": "../../notes"})
    link(tmp_path, {"set/c": "../other/c", "other/c/up": ".."})  # the second is a loop inside a linked folder
    layout = read_layout(tmp_path / "set")
    assert set(found(layout)) == {"a/1.jpg", "b/1.jpg", "c/1.jpg", "c/up/x.jpg"}
    assert {stray.path for stray in layout.strays} == {*loops, "b/nowhere.jpg", "b/same.jpg", "a/text", "c/up/c"}
    assert all("link" in stray.reason for stray in layout.strays)
    assert layout.obstacles == ()


def test_a_linked_class_folder_and_links_to_images_are_used(tmp_path):
    tree(tmp_path, "set/a/1.jpg", "other/b/1.jpg", "other/b/deep/2.jpg", "blobs/5f", "blobs/6a")
    links = {"b": "../other/b", "c/5.jpg": "../../blobs/5f", "c/6.jpg": "../../blobs/6a", "c/7.jpg": "../../blobs/6a"}
    layout = read_layout(link(tmp_path / "set", links | {"a/b.jpg": "../../other/b/1.jpg"}))
    assert layout.classes == ("a", "b", "c")
    files = {"a/1.jpg", "b/1.jpg", "b/deep/2.jpg", "c/5.jpg", "c/6.jpg"}
    assert set(found(layout)) == files | {"a/b.jpg"}, (
        "a link to an image of another class: the census finds the conflict"
    )
    assert [(stray.path, "link to a file" in stray.reason) for stray in layout.strays] == [("c/7.jpg", True)]


@pytest.mark.parametrize(("files", "links", "words"), [
    ("a/1.jpg b/1.jpg", {"c": "nowhere"}, "c (It is a link that cannot be followed"),
    ("a/1.jpg b/1.jpg", {"c": "a"}, "c (The link leads back"),
    ("a/1.jpg b/1.jpg c.lnk", {}, "c.lnk (a Windows shortcut)"),
    ("train/a/1.jpg train/b/1.jpg", {"test": "train"}, "test (The link leads back"),
    ("train/a/1.jpg train/b/1.jpg", {"train/c": "nowhere"}, "train/c (It is a link"),
])  # fmt: skip
def test_a_link_that_cannot_be_followed_where_a_folder_should_be_stops_training(tmp_path, files, links, words):
    layout = read_layout(link(tree(tmp_path, *files.split()), links))
    assert words in layout.obstacles[0].what


def test_a_missing_folder_a_file_and_an_empty_folder_are_refused(tmp_path):
    assert "no such folder or file" in refusal(tmp_path / "nowhere")
    (tmp_path / "x.txt").write_text("cats and dogs")
    assert "a text file, not a folder of images" in refusal(tmp_path / "x.txt")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    assert "The dataset is an archive" in refusal(tmp_path / "x.zip")
    (tmp_path / "empty").mkdir()
    assert "is empty" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("dog ", "dog"), ("\u00c5", "A\u030a"), ("a  b", "a b")])
def test_class_names_that_look_alike_are_refused_with_their_code_points(tmp_path, pair):
    text = refusal(tree(tmp_path, *(f"{name}/1.jpg" for name in pair), "other/1.jpg"))
    for name in pair:
        assert repr(name) in text
        assert " ".join(f"U+{ord(c):04X}" for c in name) in text


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    tree(tmp_path, "a/1.jpg", "b/1.jpg")
    listing = os.scandir

    def refusing(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refusing)
    text = refusal(tmp_path)
    assert str(tmp_path / "b") in text and "permission" in text


def several(root: Path, folders: str) -> Path:
    """Folders with two images each; a name that ends in / is an empty folder, one with a dot is a file."""
    for name in folders.split():
        tree(root, *([name] if name.endswith("/") or "." in name else [f"{name}/1.jpg", f"{name}/2.jpg"]))
    return root


def understood(layout) -> str:
    """The splits and the classes that have images, as text: 'train: cat dog; test: cat'."""
    splits = {}
    for entry in layout.entries:
        splits.setdefault(entry.split, set()).add(entry.class_name)
    order = [split for split in ("unsplit", "train", "validation", "test") if split in splits]
    return "; ".join(f"{split}: {' '.join(sorted(splits[split]))}" for split in order)


@pytest.mark.parametrize(("folders", "wanted"), [
    ("seg_train/seg_train/a seg_train/seg_train/b seg_test/seg_test/a seg_test/seg_test/b", "train: a b; test: a b"),
    ("train_images/a train_images/b test_images/a test_images/b", "train: a b; test: a b"),
    ("train2017/a train2017/b val2017/a val2017/b", "train: a b; validation: a b"),
    ("my_train/a my_train/b my_eval/a my_eval/b my_test/a my_test/b", "train: a b; validation: a b; test: a b"),
    ("mytraindata/a mytraindata/b mytestdata/a mytestdata/b", "train: a b; test: a b"),
    ("01_train/a 01_train/b 02_val/a 02_val/b 03_test/a 03_test/b", "train: a b; validation: a b; test: a b"),
    ("training/a training/b evaluation/a evaluation/b", "train: a b; test: a b"),
    ("train/a train/b eval/a eval/b test/a test/b", "train: a b; validation: a b; test: a b"),
    ("train/a train/b dev/a dev/b test/a test/b", "train: a b; validation: a b; test: a b"),
    ("train/a train/b more/test/a more/test/b", "train: a b; test: a b"),
    ("data/train/a data/train/b data/test/a data/test/b other/", "train: a b; test: a b"),
    ("images/train/a images/train/b images/val/a images/val/b labels/train/x.txt", "train: a b; validation: a b"),
    ("Images/a Images/b Annotation/a/x.xml Annotation/b/x.xml", "unsplit: a b"),
    ("train/a train/b test/a", "train: a b; test: a"),
    ("Training/a Training/b VAL/a VAL/b Testing/a Testing/b", "train: a b; validation: a b; test: a b"),
    ("training_set/a training_set/b valid/a valid/b test-set/a test-set/b", "train: a b; validation: a b; test: a b"),
    ("cat dog/deep dog", "unsplit: cat dog"),
    ("images/cat images/dog readme.txt", "unsplit: cat dog"),
    ("a/b/c/cat a/b/c/dog readme.txt", "unsplit: cat dog"),
    ("train/train/a train/train/b test/a test/b", "train: a b; test: a b"),
    ("cat/train cat/test dog/train", "train: cat dog; test: cat"),
    ("car bus train", "unsplit: bus car train"),
    ("with_mask without_mask", "unsplit: with_mask without_mask"),
    ("benign/SOB/adenosis benign/SOB/x malignant/SOB/ductal malignant/SOB/y", "unsplit: benign malignant"),
    ("train_station test_tube airport", "unsplit: airport test_tube train_station"),
    ("cat dog unlabelled to_sort", "unsplit: cat dog"),
])  # fmt: skip
def test_layouts_that_people_have_are_understood(tmp_path, folders, wanted):
    layout = read_layout(several(tmp_path / "set", folders))
    assert understood(layout) == wanted and layout.obstacles == ()
    files = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert len(layout.entries) + len(layout.strays) == len(files)


@pytest.mark.parametrize(("folders", "words"), [
    ("a/train/x a/train/y a/test/x a/test/y b/train/x b/train/y", "2 datasets with splits of their own: a, b"),
    ("data/train/a data/train/b data/test/a raw", "raw/ has none, or holds other files"),
    ("trainA trainB testA testB", "Two folders mean"),
    ("cat dog/train dog/test", "cat/ has none"),
    ("train/Cat train/dog test/cat test/dog", "cannot tell apart"),
    ("train/a train/b val/a validation/a", "Two folders mean validation: val/ and validation/"),
    ("train/bcc train/mel val/mel val/zextra", "['bcc', 'mel'], validation has ['mel', 'zextra']"),
    ("train/train train/test", "The class folders are named like splits: test, train"),
    ("readme.md labels.txt", "2 files lie directly in the dataset"),
    ("1.jpg 2.jpg", "2 images lie directly in the dataset"),
    ("train test bus", "2 images lie directly in train/"),
    ("mytraindata mytestdata", "2 images lie directly in mytraindata/"),
    ("images/train images/val labels/train/x.txt", "looks like a dataset for detection or segmentation"),
    ("train/a train/b test/a test/c", "test lacks: b; test has extra: c"),
    ("train/a train/b test/a test/b evaluation_errors/a evaluation_errors/b", "errors/ holds the same classes"),
    ("train/a train/b test/a test/b extra/a extra/b", "extra/ holds the same classes as the splits"),
    ("images masks", "images/, masks/ look like parts of one collection"),
    ("a/images a/masks b/images b/masks", "Each class folder holds images, masks"),
    ("HAM_images_part_1 HAM_images_part_2 HAM.csv", "look like parts of one collection"),
    ("data/set/a data/set/b set/a set/b", "data, set all hold a, b"),
    ("photo/a photo/b sketch/a sketch/b", "not clear which folders are the classes: photo, sketch all hold a, b"),
    ("seg_train/a seg_train/b seg_pred/a seg_pred/b", "seg_pred, seg_train all hold a, b"),
    ("a " + os.fsdecode(b"gr\xfcn"), "not UTF-8 text: 'gr\\udcfcn'"),
])  # fmt: skip
def test_what_could_be_meant_in_two_ways_is_refused(tmp_path, folders, words):
    try:
        problems = "".join(map(str, read_layout(several(tmp_path, folders)).obstacles))
    except VggnbError as error:
        problems = str(error)
    assert words in problems


@pytest.mark.parametrize(("folders", "unlabelled"), [
    ("train/a train/b test", "test"),
    ("train/a train/b test/unknown", "test"),
    ("train/a train/b validation/all test/a test/b", "validation"),
    ("seg_train/a seg_train/b seg_test/a seg_test/b seg_pred/seg_pred", "seg_pred"),
    ("training_set/a training_set/b test_set/a test_set/b single_prediction", "single_prediction"),
    ("asl_train/asl_train/A asl_train/asl_train/B asl_test/asl_test", "asl_test"),
    ("cat dog unlabeled", "unlabeled"),
])  # fmt: skip
def test_unlabelled_folders_are_left_for_predict(tmp_path, folders, unlabelled):
    layout = read_layout(several(tmp_path, folders))
    line = f"vggnb predict RUN {tmp_path / unlabelled}"
    assert any(f"{unlabelled}/ holds 2 files without labels" in text and line in text for text in layout.sentences)
    assert all(not entry.path.startswith(unlabelled) for entry in layout.entries) and layout.obstacles == ()
    assert sum("without labels" in stray.reason for stray in layout.strays) == 2


@pytest.mark.parametrize(("folders", "words"), [
    ("car bus train", "train/: taken as a class, not as a split"),
    ("cat dog bird.zip", "1 archive beside the folders, not opened: bird.zip"),
    ("cat dog .bird/1.jpg", "Hidden folders are not used: .bird"),
    ("train/a train/b val/a val/b test/a test/b extra/a", "extra/ holds the same classes"),
    ("train/a train/b test/a", "test has no folder for b"),
])  # fmt: skip
def test_what_is_left_out_is_warned_about(tmp_path, folders, words):
    layout = read_layout(several(tmp_path, folders))
    assert any(words in warning for warning in layout.warnings) and layout.obstacles == ()


def test_naming_one_split_of_a_dataset_is_warned_about(tmp_path):
    layout = read_layout(several(tmp_path, "train/a train/b test/a test/b") / "train")
    assert layout.warnings == ("Not used: test beside train/. To use all, name the folder that holds them.",)


def test_class_names_that_hold_the_letters_of_a_split_are_ordinary(tmp_path):
    names = ("avalanche", "contest", "festival", "latest", "oval", "retraining", "testament", "trains")
    layout = read_layout(several(tmp_path, " ".join(names)))
    assert layout.classes == names and layout.warnings == ()


def test_a_table_beside_the_images_is_pointed_to(tmp_path):
    (obstacle,) = read_layout(several(tmp_path / "ham", "part_1 metadata.csv")).obstacles
    assert "metadata.csv" in obstacle.remedy and "path and label" in obstacle.remedy
    text = refusal(several(tmp_path / "roboflow", "train train/_classes.csv valid valid/_classes.csv"))
    assert "2 images lie directly in train/" in text and "train/_classes.csv" in text
