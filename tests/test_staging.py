"""Staging: every file under its own name; a copy that was interrupted goes on; the source is only ever read."""

import contextlib
import errno
import io
import itertools
import json
import os
import random
import shutil
import tarfile
import zipfile

import pytest
from faults import inject, killed_at
from zoo import encoded, photo

from vggnb import paths, staging
from vggnb.census import take_census
from vggnb.cli import main
from vggnb.datasets import flawed_sample
from vggnb.paths import sample_folder
from vggnb.staging import check_apart, stage_if_remote
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, read_json

IMAGES = ["test/benign/1.jpg", "test/malignant/2.jpg", "train/benign/odd '\n[1].jpg", "train/malignant/IMG 4.JPG"]
SYSTEM = [".DS_Store", "__MACOSX/train/._1.jpg", "train/benign/._1.jpg", "train/benign/Thumbs.db"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(staging, "PAUSES", (0, 0))


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A folder on what passes for Google Drive, with system files and a link in it."""
    monkeypatch.setattr(paths, "CONTENT", tmp_path / "content")
    root = tmp_path / "content" / "drive" / "MyDrive" / "skin"
    for number, name in enumerate([*IMAGES, *SYSTEM]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(random.Random(number).randbytes(3000 + number))
        os.utime(root / name, (10**9 + number, 10**9 + number))
    (root / "train" / "empty").mkdir()
    (root / "train" / "link.jpg").symlink_to(root / "nowhere.jpg")
    return root


def state(root):
    """Bytes, times and modes of everything below a folder."""
    found = [(path, path.lstat(), path.is_file() and path.read_bytes()) for path in sorted(root.rglob("*"))]
    return [(path, status.st_mtime_ns, status.st_mode, data) for path, status, data in found]


def files(root):
    """Path -> bytes of every regular file."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def wanted(root):
    """What a copy of `root` is to hold."""
    return {name: (root / name).read_bytes() for name in IMAGES if (root / name).exists()}


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return buffer.getvalue()


def stage(dataset, tmp_path):
    return stage_if_remote(dataset, tmp_path / "near", progress=False)


def test_a_folder_that_is_near_is_used_as_it_is(own_photos, tmp_path):
    (own_photos / "labels.csv").write_text("path,label\n")
    for dataset in (own_photos, own_photos / "labels.csv", tmp_path / "nowhere"):
        assert stage(dataset, tmp_path) == dataset
    assert not (tmp_path / "near").exists()


def test_a_folder_of_drive_is_copied_once_under_its_own_names_and_a_change_is_followed(drive, tmp_path):
    before = state(drive)
    copy = stage(drive, tmp_path)
    assert copy.name == "skin" and files(copy) == wanted(drive) and (copy / "train" / "empty").is_dir()
    assert state(drive) == before
    with inject("read", 1, errno.EIO, under=drive, forever=True):
        assert stage(drive, tmp_path) == copy
    (drive / IMAGES[0]).write_bytes(b"other")
    (drive / IMAGES[1]).unlink()
    (copy / "train" / "left over.jpg").write_bytes(b"")
    assert files(stage(drive, tmp_path)) == wanted(drive) and len(wanted(drive)) == 3


def test_a_file_that_became_a_folder_on_drive_and_the_reverse_are_followed(drive, tmp_path):
    copy = stage(drive, tmp_path)
    (drive / IMAGES[0]).unlink()
    (drive / IMAGES[0]).mkdir()
    (drive / IMAGES[0] / "1.jpg").write_bytes(b"new")
    assert files(stage(drive, tmp_path)).keys() == {*IMAGES[1:], f"{IMAGES[0]}/1.jpg"}
    shutil.rmtree(drive / IMAGES[0])
    (drive / IMAGES[0]).write_bytes(b"a file again")
    assert files(stage(drive, tmp_path)) == files(copy) == wanted(drive)


def test_the_temporary_files_of_living_processes_are_left_and_those_of_dead_ones_are_not(drive, tmp_path):
    copy = stage(drive, tmp_path)
    for pid in (os.getppid(), 999_999_999):
        (copy / f"{TEMPORARY_PREFIX}{pid}-0").touch()
    assert files(stage(drive, tmp_path)).keys() == {*IMAGES, f"{TEMPORARY_PREFIX}{os.getppid()}-0"}


def test_of_a_table_its_folder_is_copied_and_its_paths_still_hold(drive, photos, tmp_path):
    images = [sorted((photos / "train" / name).iterdir())[0] for name in ("cat", "dog")]
    for image in images:
        shutil.copy(image, drive)
    (drive.parent / "alone").mkdir()
    for folder, (cat, dog) in ((drive, [image.name for image in images]), (drive.parent / "alone", images)):
        (folder / "labels.csv").write_text(f"path,label\n{cat},cat\n{dog},dog\n")
        table = stage(folder / "labels.csv", tmp_path)
        assert table.is_relative_to(tmp_path / "near") and table.name == "labels.csv"
        assert len(take_census(table, progress=False).rows) == 2


def test_an_archive_names_the_users_own_files(tmp_path, capsys):
    flawed_sample(tmp_path / "flawed")
    archive = shutil.make_archive(str(tmp_path / "flawed"), "zip", tmp_path, "flawed")
    printed = []
    for dataset in (tmp_path / "flawed", archive):
        assert main(["census", str(dataset), "--json", "--quiet"]) == 0
        printed.append(capsys.readouterr().out)
    assert '"flawed/train/benign/seen_before.jpg"' in printed[1]
    folder, packed = (json.loads(text.replace('"flawed/', '"')) for text in printed)
    for key in ("splits", "leaks", "conflicts", "duplicates", "skipped", "warnings"):
        assert folder[key] == packed[key] and folder[key]
    assert packed["total_files"] == packed["used"] + len(packed["skipped"]), "our own files are not counted"


def test_an_archive_is_unpacked_once_and_again_when_it_changes(tmp_path):
    archive = tmp_path / "skin.v2.tar.gz"
    shutil.make_archive(str(tmp_path / "skin.v2"), "gztar", sample_folder())
    copy = stage(archive, tmp_path)
    assert copy.name == "skin.v2" and files(copy) == files(sample_folder())
    assert {path.stat().st_mtime_ns for path in copy.rglob("*.jpg")} == {archive.stat().st_mtime_ns}, "always the same"
    os.utime(copy, (1, 1))
    assert stage(archive, tmp_path) == copy and copy.stat().st_mtime == 1
    shutil.make_archive(str(tmp_path / "skin.v2"), "gztar", sample_folder() / "train")
    assert files(stage(archive, tmp_path)) == files(sample_folder() / "train")
    assert files(copy) == files(sample_folder()), "a run that was made from it still finds its images"


def test_a_folder_that_holds_one_archive_is_that_archive_and_archives_beside_images_are_no_obstacle(tmp_path):
    holder = tmp_path / "dataset"
    (holder / "train").mkdir(parents=True)
    (holder / "skin.zip").write_bytes(zipped("a/1.jpg"))
    assert files(stage(holder, tmp_path)) == {"a/1.jpg": b"a/1.jpg"}
    (holder / "train" / "without_ending").write_bytes(b"")
    (holder / "more.zip").write_bytes(b"x")
    assert stage(holder, tmp_path) == holder


def test_nothing_is_written_into_the_dataset_that_was_copied(drive, tmp_path):
    (drive / "labels.csv").write_text("path,label\n")
    for dataset in (drive, drive / "labels.csv"):
        copy = stage(dataset, tmp_path)
        folder = copy if copy.is_dir() else copy.parent
        for place in (folder / "run", drive / "run"):
            with pytest.raises(VggnbError, match="inside the dataset"):
                check_apart(place, folder, "The run", "--out")
    check_apart(drive.parent / "run", folder, "The run", "--out")
    with pytest.raises(VggnbError, match="inside the dataset"):
        stage_if_remote(drive, drive / "near")


def test_an_error_about_a_copy_names_what_was_copied(tmp_path):
    for names in (["a/1.jpg"], ["__MACOSX/._1.jpg", "train/"]):
        (tmp_path / "set.zip").write_bytes(zipped(*names))
        with pytest.raises(VggnbError) as caught:
            take_census(stage(tmp_path / "set.zip", tmp_path), progress=False).check_trainable()
        assert caught.value.where.startswith(str(tmp_path / "set.zip"))
    assert caught.value.what == "The archive holds no files."


def test_names_that_the_disk_cannot_hold_or_that_collide_get_a_suffix_and_are_listed(tmp_path, capsys):
    names = ["dog/1.jpg", "dog/1.jpg", "x" * 300 + ".jpg", "caf\udce9.jpg", "café.jpg", "b", "b/4.jpg"]
    with tarfile.open(tmp_path / "set.tar", "w", errors="surrogateescape", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    copy = stage(tmp_path / "set.tar", tmp_path)
    renamed = {old: new for new, old in read_json(copy.parent / staging.ABOUT)["renamed"].items()}
    assert len(files(copy)) == 7 and {"dog/1.jpg", "b", f"{renamed['b']}/4.jpg"} <= set(files(copy))
    assert renamed["caf\udce9.jpg"] == "café.jpg" and renamed["café.jpg"].startswith("café~")
    assert renamed["dog/1.jpg"].startswith("dog/1~") and renamed["dog/1.jpg"].endswith(".jpg")
    assert len(renamed[names[2]]) <= 255 and renamed[names[2]].endswith("x.jpg")
    assert "5 names changed in the copy" in capsys.readouterr().out


def test_a_disk_that_takes_cat_for_Cat_keeps_both_folders(tmp_path, monkeypatch):  # noqa: N802
    (tmp_path / "set.zip").write_bytes(zipped("cat/1.jpg", "Cat/1.jpg", "Cat/2.jpg"))
    lexists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: lexists(str(path).replace("/Cat", "/cat")))
    found = sorted(files(stage(tmp_path / "set.zip", tmp_path)))
    assert [name.partition("~")[0] for name in found] == ["Cat", "Cat", "cat/1.jpg"]


@pytest.mark.parametrize("name, data, words", [
    ("labels.xlsx", zipped("xl/workbook.xml", "_rels/.rels"), "a spreadsheet.*Save it as CSV UTF-8"),
    ("set.rar", b"Rar!\x1a\x07\0", r"a RAR file.*pack the folder as \.zip"),
    ("set.tar.zst", b"\x28\xb5\x2f\xfd", r"a zstd file.*pack the folder as \.zip"),
    ("set.zip", b"<!DOCTYPE html><html>Virus scan warning", "a web page.*Open the address in a browser"),
    ("big.zip", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer.*git lfs pull"),
    ("none.zip", b"", r"empty \(0 bytes\).*Download"),
    ("set.zip.001", zipped("a.jpg"), "one part of a multi-part archive.*Unpack all parts"),
    ("set.z01", b"PK\x07\x08", "one part of a multi-part archive.*Unpack all parts"),
    ("thesis.docx", zipped("word/document.xml"), "a document.*Name the folder"),
    ("model.keras", zipped("config.json"), "a Keras model.*Name the folder"),
    ("photo.JPG", encoded(photo(1), "JPEG"), "a single image.*Name the folder"),
    ("strange", b"abc", "an unknown kind of file.*Name the folder"),
])  # fmt: skip
def test_a_file_that_is_no_dataset_is_called_by_its_name(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VggnbError, match=f"(?s){words}") as caught:
        stage(tmp_path / name, tmp_path)
    assert caught.value.where == str(tmp_path / name) and not (tmp_path / "near").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VggnbError, match="(?s)not a regular file.*Name the folder"):
        stage(tmp_path / "pipe", tmp_path)


@pytest.mark.parametrize(
    "packed",
    ["set-1.zip set-2.zip", "deep/er/train.tar.gz deep/test.RAR", "set.zip.001 set.zip.002", "set.z01 set.zip"],
)
def test_several_and_nested_archives_are_named(tmp_path, packed):
    packed = packed.split()
    names = [*packed, "README.md", "desktop.ini", "__MACOSX/._set.zip", ".DS_Store"]
    for name in names:
        (tmp_path / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset" / name).write_bytes(b"x")
    (tmp_path / "outer.zip").write_bytes(zipped(*names))
    for _ in range(2):  # what has been unpacked is refused the next time, too
        for dataset in (tmp_path / "dataset", tmp_path / "outer.zip"):
            with pytest.raises(VggnbError, match=f"holds {len(packed)} archive") as caught:
                stage(dataset, tmp_path)
            assert all(name in caught.value.what for name in packed) and caught.value.where == str(dataset)
            assert "into one folder" in caught.value.remedy


def test_the_limit_of_files_is_an_option_of_the_command_line(tmp_path, capsys):
    (tmp_path / "set.zip").write_bytes(zipped(*(f"{kind}/{n}.jpg" for kind in "ab" for n in range(3))))
    for most, code in ((5, 2), (6, 0)):
        assert main(["census", str(tmp_path / "set.zip"), "--max-archive-files", str(most), "--quiet"]) == code
    assert "more than 5 files" in capsys.readouterr().err


def test_a_read_that_fails_now_and_then_is_tried_again(drive, tmp_path):
    with inject("read", 3, errno.EIO, under=drive) as plan:
        copy = stage(drive, tmp_path)
    assert plan.fired and files(copy) == wanted(drive)


def test_files_that_cannot_be_read_are_named_and_the_rest_is_kept(drive, tmp_path):
    words = "1 of 4 files could not be copied: train/malignant/IMG 4.JPG"
    with inject("read", 1, errno.EIO, under=drive / IMAGES[3], forever=True), pytest.raises(VggnbError, match=words):
        stage(drive, tmp_path)
    with inject("read", 3, errno.EIO, under=drive, forever=True):  # one file is missing: two reads are enough
        copy = stage(drive, tmp_path)
    assert files(copy) == wanted(drive)


@pytest.mark.parametrize(
    ("operation", "error", "words"), [("read", errno.ENOTCONN, "disconnected"), ("write", errno.ENOSPC, "Free some")]
)
def test_a_dropped_mount_and_a_full_disk_are_one_sentence(drive, tmp_path, operation, error, words):
    under = drive if operation == "read" else tmp_path / "near"
    with inject(operation, 4, error, under=under, forever=True), pytest.raises(VggnbError, match=words):
        stage(drive, tmp_path)
    assert not list((tmp_path / "near").rglob(f"{TEMPORARY_PREFIX}*"))
    assert files(stage(drive, tmp_path)) == wanted(drive)


def test_a_kill_in_the_middle_is_made_good_by_the_next_call(drive, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "sample"), "zip", sample_folder())
    for dataset, whole in ((drive, wanted(drive)), (archive, files(sample_folder()))):
        assert killed_at(lambda: stage(dataset, tmp_path), "write", 3, under=tmp_path / "near")  # noqa: B023
        copy = stage(dataset, tmp_path)
        assert files(copy) == whole
        assert sorted(os.listdir(copy.parent)) == sorted([copy.name, staging.ABOUT])


@pytest.mark.torture
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.ENOTCONN, "kill"])
@pytest.mark.parametrize("operation", ["open", "read", "write", "rename", "mkdir", "unlink", "listdir", "stat"])
def test_any_single_failure_is_survived(drive, tmp_path, operation, error):
    archive = tmp_path / "content" / "drive" / "few.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in wanted(drive).items():
            file.writestr(name, data)
    before, whole = state(archive.parent), wanted(drive)
    for dataset in (drive, archive):
        for under in (dataset, tmp_path / "near"):
            for nth in itertools.count(1):
                if error == "kill":
                    fired = killed_at(lambda: stage(dataset, tmp_path), operation, nth, under=under)  # noqa: B023
                else:
                    with inject(operation, nth, error, under=under) as plan, contextlib.suppress(VggnbError):
                        stage(dataset, tmp_path)
                    fired = plan.fired
                copy = stage(dataset, tmp_path)
                assert files(copy) == whole and [path for path in copy.parent.iterdir() if path.is_dir()] == [copy]
                shutil.rmtree(tmp_path / "near")
                if not fired:
                    break
    assert state(archive.parent) == before


def test_files_that_a_census_knows_are_linked_and_a_later_copy_replaces_the_links(drive, tmp_path):
    before = state(drive)
    linked = stage_if_remote(drive, tmp_path / "near", known=True, progress=False)
    assert files(linked) == wanted(drive) and all((linked / name).is_symlink() for name in IMAGES)
    times = {name: (linked / name).stat().st_mtime_ns for name in IMAGES}
    copy = stage(drive, tmp_path)
    assert copy == linked and files(copy) == wanted(drive) and not any((copy / name).is_symlink() for name in IMAGES)
    assert {name: (copy / name).stat().st_mtime_ns for name in IMAGES} == times, "for a census they are the same files"
    assert state(drive) == before
    (drive / IMAGES[0]).write_bytes(b"another")
    stage_if_remote(drive, tmp_path / "near", known=True, progress=False)
    assert (copy / IMAGES[0]).read_bytes() == b"another" and not (copy / IMAGES[1]).is_symlink()
