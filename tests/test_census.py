"""Every file is used or skipped with its reason; near-duplicates, conflicts and leaks are found; nothing is written."""

import errno
import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zoo import build_zoo, encoded, photo, save

from vggnb import staging
from vggnb.census import scan, take_census
from vggnb.images import read_image
from vggnb.storage import VggnbError


def survey(root, **options):
    return take_census(root, progress=False, **options)


def files_under(root: Path) -> set[str]:
    """Whatever is no folder, counted by another way than the library's."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def state_of(root: Path) -> dict:
    """Names, kinds, sizes, times and permissions of everything."""
    stats = {path: os.lstat(path) for path in (root, *root.rglob("*"))}
    return {path: (s.st_mode, s.st_size, s.st_mtime_ns, s.st_nlink) for path, s in stats.items()}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    root = tmp_path_factory.mktemp("zoo")
    return root, build_zoo(root)


@pytest.fixture(scope="module")
def zoo_census(zoo):
    return survey(zoo[0])


@pytest.fixture
def small(tmp_path):
    """Train and test with two classes of four images each."""
    for k, split in enumerate(("train", "test")):
        for j, name in enumerate("ab"):
            for i in range(4):
                save(tmp_path / "data" / split / name / f"{i}.png", photo(1000 + 100 * k + 10 * j + i))
    return tmp_path / "data"


def test_every_file_of_the_zoo_is_accounted_for_with_the_fate_that_it_should_have(zoo, zoo_census):
    root, fate = zoo
    found = {row.path: "used" for row in zoo_census.rows} | dict.fromkeys(zoo_census.system_files, "system")
    reasons = {item.path: item.reason for item in zoo_census.skipped}
    assert files_under(root) == set(fate) == found.keys() | reasons.keys() and not found.keys() & reasons.keys()
    assert len(fate) == zoo_census.total_files >= 80
    wrong = {path: become for path, become in found.items() if fate[path] != become}
    assert wrong | {path: reason for path, reason in reasons.items() if fate[path] not in reason} == {}
    assert zoo_census.classes == ("cat", "dog")
    for item in zoo_census.skipped:  # what is wrong and what to do
        assert len(item.reason.replace("(iPhone:", "").split(". ")) >= 2 and item.reason.endswith((".", ").")), item
    for row in zoo_census.rows:
        assert zoo_census.classes[row.label] == row.class_name
        assert (row.height, row.width) == read_image(root / row.path).shape[:2], row


def test_nothing_is_written_or_touched_in_the_dataset(zoo):
    root, _ = zoo
    before = state_of(root)
    survey(root)
    assert state_of(root) == before


def test_the_notes_name_what_was_done_and_what_is_odd(zoo_census):
    notes = {Path(row.path).name: row.notes for row in zoo_census.rows}
    for name, words in {
        "png_named.jpg": "PNG named .jpg", "animated.gif": "first of", "cmyk.jpg": "CMYK", "rgba.png": "white",
        "exif_6.jpg": "upright", "sixteen_bits.png": "16 bits", "one_pixel.png": "tiny (1 x 1)", "white.png": "plain",
    }.items():  # fmt: skip
        assert words in notes[name], name
    assert notes["plain.jpg"] == ""


def test_what_is_printed_is_plain_json_and_plain_text_whatever_the_names_are(zoo_census):
    document = json.loads(json.dumps(zoo_census.to_dict()))
    assert document["used"] + len(document["skipped"]) + document["system_files"] == document["total_files"]
    for text in (str(zoo_census), *map(str, zoo_census.skipped)):
        text.encode("utf-8")
        assert "\u202e" not in text
    assert f"{zoo_census.total_files} files = " in str(zoo_census)


def test_planted_duplicates_conflicts_and_leaks_are_all_found_and_nothing_else(small):
    save(small / "test/a/same.png", (small / "train/a/0.png").read_bytes())
    save(small / "test/b/liar.png", (small / "train/a/1.png").read_bytes())
    save(small / "train/a/liar.png", (small / "train/b/1.png").read_bytes())
    mirrored = Image.open(small / "train/b/2.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((30, 25))
    save(small / "train/b/mirrored.jpg", encoded(mirrored, "JPEG", quality=80))
    census = survey(small)
    found = {(*pair.paths, pair.kind) for pair in census.pairs}
    same, near = ("test/a/same.png", "train/a/0.png", "exact"), ("train/b/2.png", "train/b/mirrored.jpg", "near")
    liars = [("test/b/liar.png", "train/a/1.png"), ("train/a/liar.png", "train/b/1.png")]
    assert found == {same, near, *((*paths, "exact") for paths in liars)}
    assert [pair.paths for pair in census.conflicts] == liars and len(census.leaks) == 2
    document = census.to_dict()
    assert document["duplicates"]["near"] == [["train/b/2.png", "train/b/mirrored.jpg"]]
    leak = {"paths": ["test/a/same.png", "train/a/0.png"], "splits": ["test", "train"], "kind": "exact", "distance": 0}
    assert document["leaks"][0] == leak
    assert any("Leak: 2 pairs" in warning for warning in census.warnings)
    assert any("Conflict: 2 pairs " in warning for warning in census.warnings)


def test_every_copy_of_an_image_in_two_splits_is_in_a_leak(small):
    picture = Image.open(small / "train/a/0.png")
    for k in range(3):
        save(small / f"train/a/copy{k}.png", encoded(picture.resize((60 + 20 * k, 50 + 10 * k))))
        save(small / f"test/a/again{k}.jpg", encoded(picture, "JPEG", quality=90 - 20 * k))
    leaking = {path for pair in survey(small).leaks for path in pair.paths}
    copies = {
        f"{name}{k}.{kind}" for name, kind in (("train/a/copy", "png"), ("test/a/again", "jpg")) for k in range(3)
    }
    assert leaking == {"train/a/0.png"} | copies


def test_a_thousand_copies_do_not_make_a_million_pairs(tmp_path):
    data = encoded(photo(1))
    for k in range(1000):
        save(tmp_path / "ab"[k % 2] / f"{k}.png", data)
    census = survey(tmp_path)
    assert len(census.pairs) < 3000
    assert [len(group) for group in census.duplicates["exact"]] == [1000]


def test_a_second_copy_of_the_dataset_is_skipped_file_by_file(small):
    shutil.copytree(small, small.parent / "all" / "data")
    shutil.copytree(small, small.parent / "all", dirs_exist_ok=True)
    save(small.parent / "all" / "data" / "train" / "a" / "new.png", photo(99))
    census = survey(small.parent / "all")
    assert len(census.rows) == 16
    reasons = [item.reason for item in census.skipped]
    assert sum("second copy of the dataset: the same bytes as t" in reason for reason in reasons) == 16
    assert any("no used file has the same content" in reason for reason in reasons)
    assert census.leaks == ()
    assert any("Second copy: 1 file in it" in warning for warning in census.warnings)


def test_a_class_that_looks_like_a_second_copy_is_not_lost(tmp_path):
    for k in range(16):
        save(tmp_path / ("left", "right", "both/left", "both/right")[k % 4] / f"{k}.png", photo(k))
    with pytest.raises(VggnbError, match="both/ looks like a second copy of the dataset, but 8 of its 8 files are new"):
        survey(tmp_path).check_trainable()


def test_a_table_can_stand_for_the_folder(small):
    lines = ["path,label,split,group", "train/a/0.png,x,train,p1", "train/b/0.png,y,train,", "test/a/0.png,x,test,p1"]
    (small / "table.csv").write_text("\n".join([*lines, "gone.png,y,test,"]))
    census = survey(small / "table.csv")
    assert census.counts() == {"train": {"x": 1, "y": 1}, "test": {"x": 1, "y": 0}}
    assert census.total_files == 4 and len(census.skipped) == 1
    assert any("1 group in more than one split" in warning for warning in census.warnings)


def test_imbalance_single_images_and_empty_classes_are_warned_about(tmp_path):
    for k in range(5):
        save(tmp_path / "train" / "many" / f"{k}.png", photo(k))
    save(tmp_path / "train" / "one" / "1.png", photo(50))
    save(tmp_path / "test" / "many" / "1.png", photo(51))
    save(tmp_path / "test" / "one" / "broken.png", b"")
    census = survey(tmp_path)
    census.check_trainable()
    for words in ("train/one has 1 usable image.", "test/one has 0 usable images.", "Imbalance in train: 5 of many, 1"):
        assert any(words in warning for warning in census.warnings), words


@pytest.mark.parametrize(("make", "words"), [
    (lambda k: np.full((40, 40, 3), 5 + k, np.uint8) + photo(k, width=40) // 40, "Very dark: 12 images"),
    (lambda k: np.full((40, 40, 3), 252, np.uint8) + photo(k, width=40) // 128, "Very bright: 12 images"),
    (lambda k: np.full((40, 40, 3), 90 + k, np.uint8), "Almost without contrast: 12 images"),
    (lambda k: photo(7), "Identical: all images of a, b are one image"),
    (lambda k: photo(k // 2), "All images of a, b are in other classes, too"),
    (lambda k: Image.fromarray(photo(k % 2)).transpose(list(Image.Transpose)[k // 2]), "Only 2 of 12 images are diff"),
])  # fmt: skip
def test_sets_with_little_to_learn_from_are_warned_about(tmp_path, make, words):
    for k in range(12):
        save(tmp_path / "ab"[k % 2] / f"{k}.png", make(k))
    assert any(words in warning for warning in survey(tmp_path).warnings)


def test_an_ordinary_set_is_not_warned_about(small):
    assert survey(small).warnings == ()


@pytest.mark.parametrize(("kept", "words"), [
    (8, "test is a copy of train: all its 8 images"), (5, "test is mostly a copy of train: 5 of its 8 images"),
])  # fmt: skip
def test_a_test_split_that_is_a_copy_of_train_is_named_as_such(small, kept, words):
    for path in sorted((small / "test").rglob("*.png"))[:kept]:
        path.write_bytes((small / "train" / path.relative_to(small / "test")).read_bytes())
    assert words in survey(small).warnings[0]


def test_all_classes_without_images_are_named_at_once_with_the_reason(small):
    save(small / "train/c/1.png", b"broken")
    save(small / "train/d/1.heic", b"\0\0\0\x18ftypheic" + bytes(20))
    (small / "train/e").mkdir()
    with pytest.raises(VggnbError) as caught:
        survey(small).check_trainable()
    assert "train/c has 0 usable images (1 skipped: Not an image" in caught.value.what
    assert "train/d has 0 usable images (1 skipped: " in caught.value.what and "HEIC" in caught.value.what
    assert "train/e has 0 usable images." in caught.value.what


def test_a_thousand_classes_are_printed_on_a_few_lines(tmp_path):
    for k in range(1001):
        save(tmp_path / f"c{k:04}" / "1.png", encoded(np.full((2, 2, 3), k % 256, np.uint8)))
    text = str(survey(tmp_path))
    assert "1001 class folders (c0000, c0001, " in text and "and 991 more" in text
    assert "unsplit         1001         1        1    1001" in text
    assert len(text.splitlines()) < 15 and max(map(len, text.splitlines())) < 300


@pytest.mark.parametrize(("files", "words"), [
    (["train/a/1.png", "train/b_empty/"], "train/b_empty has 0 usable images"),
    (["a/1.png", "b/broken.png"], "b has 0 usable images"),
    (["a/1.png"], "Only 'a' found"),
    (["test/a/1.png", "test/b/1.png"], "nothing to train on, only test"),
    (["1.png", "2.png"], "2 images lie directly"),
    (["a/broken.png", "b/broken.png"], "a has 0 usable images"),
])  # fmt: skip
def test_what_cannot_be_trained_on_can_be_surveyed_and_is_refused_later(tmp_path, files, words):
    for k, path in enumerate(files):
        if path.endswith("/"):
            (tmp_path / path).mkdir(parents=True)
        else:
            save(tmp_path / path, b"broken" if "broken" in path else photo(k))
    census = survey(tmp_path)
    str(census)
    json.dumps(census.to_dict())
    with pytest.raises(VggnbError) as caught:
        census.check_trainable()
    assert words in str(caught.value)


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened; all cleared before the call that counts."""
    opened, scan_file = [], scan.scan_file
    monkeypatch.setattr(scan, "scan_file", lambda path: opened.append(path) or scan_file(path))
    return opened


def comparable(census) -> tuple:
    return census.rows, census.skipped, census.pairs, census.warnings, census.brightness.tolist()


def test_a_second_census_opens_only_what_changed(small, tmp_path, opened, monkeypatch):
    save(small / "train/a/broken.png", b"broken")
    cache, again = tmp_path / "cache.json.gz", small / "train/b/0.png"
    first = survey(small, cache=cache)
    opened.clear()
    assert comparable(survey(small, cache=cache)) == comparable(first) and opened == []
    save(small / "train/b/new.png", photo(78))
    os.utime(again, ns=(0, again.stat().st_mtime_ns - 1000))
    changed = survey(small, cache=cache)
    assert sorted(opened) == [again, small / "train/b/new.png"]
    assert comparable(changed) == comparable(survey(small))
    monkeypatch.setattr(scan, "VERSION", "another decoder")
    opened.clear()
    survey(small, cache=cache)
    assert len(opened) == 18


@pytest.mark.parametrize("spoil", [
    lambda data: data[:500], lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
    lambda data: gzip.compress(b"[1, 2]"),
    lambda data: gzip.compress(gzip.decompress(data).replace(b'"PNG"', b'"PNG", 1')),
])  # fmt: skip
def test_a_damaged_cache_is_made_again(small, tmp_path, opened, spoil):
    cache = tmp_path / "cache.json.gz"
    first = survey(small, cache=cache)
    cache.write_bytes(spoil(cache.read_bytes()))
    assert comparable(survey(small, cache=cache)) == comparable(first)
    opened.clear()
    survey(small, cache=cache)
    assert opened == []


def test_a_cache_that_cannot_be_written_stops_nothing(small, tmp_path):
    assert len(survey(small, cache=tmp_path).rows) == 16  # a folder


def failing(monkeypatch, bad: Path, number: int, *, times: int) -> None:
    """Reading this file fails so many times, with the error that Drive gives."""
    left, read = [times], Path.read_bytes

    def read_bytes(path):
        if path == bad and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(staging, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(Path, "read_bytes", read_bytes)


def test_a_read_that_fails_is_tried_again_then_listed_and_not_kept_in_the_cache(small, tmp_path, monkeypatch):
    failing(monkeypatch, small / "train/a/2.png", errno.EIO, times=2)
    assert len(survey(small).rows) == 16
    failing(monkeypatch, small / "train/a/2.png", errno.EIO, times=99)
    (skipped,) = survey(small, cache=tmp_path / "cache.json.gz").skipped
    assert skipped.path == "train/a/2.png" and "cannot be read (Input/output error)" in skipped.reason
    monkeypatch.undo()
    assert survey(small, cache=tmp_path / "cache.json.gz").skipped == ()


def test_a_dropped_drive_ends_the_census_in_words(small, monkeypatch):
    failing(monkeypatch, small / "train/a/2.png", errno.ENOTCONN, times=99)
    with pytest.raises(VggnbError, match="run the mount cell again"):
        survey(small)


def test_whatever_a_decoder_throws_the_file_is_named_and_the_census_goes_on(small, monkeypatch):
    decode, bad = scan.images.decode, (small / "train/a/1.png").read_bytes()
    monkeypatch.setattr(scan.images, "decode", lambda data: 1 / 0 if data == bad else decode(data))
    (skipped,) = survey(small).skipped
    assert skipped.path == "train/a/1.png" and "ZeroDivisionError: division by zero" in skipped.reason


def test_an_interrupted_census_keeps_what_it_has_seen(tmp_path, opened, monkeypatch):
    for k in range(200):
        save(tmp_path / "data" / "ab"[k % 2] / f"{k}.png", photo(k))
    counted, cache = scan.scan_file, tmp_path / "cache.json.gz"

    def interrupted(path):
        if len(opened) > 100:
            raise KeyboardInterrupt
        return counted(path)

    monkeypatch.setattr(scan, "scan_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        survey(tmp_path / "data", cache=cache)
    monkeypatch.setattr(scan, "scan_file", counted)
    opened.clear()
    assert len(survey(tmp_path / "data", cache=cache).rows) == 200
    assert 50 <= len(opened) < 150
