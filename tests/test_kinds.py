"""What people name as a dataset and is none: each is called by its name, with what to do."""

import io
import zipfile

import pytest
from zoo import encoded, photo

from vggnb.cli import main
from vggnb.staging import is_archive, stage_if_remote
from vggnb.storage import VggnbError


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return buffer.getvalue()


PART = "Unpack all parts"
FILES = {
    "labels.xlsx": (zipped("xl/workbook.xml", "_rels/.rels"), "a spreadsheet", "Save it as CSV UTF-8"),
    "set.rar": (b"Rar!\x1a\x07\0", "a RAR file", r"pack the folder as \.zip"),
    "set.tar.zst": (b"\x28\xb5\x2f\xfd", "a zstd file", r"pack the folder as \.zip"),
    "set.zip": (b"<!DOCTYPE html><html>Virus scan warning", "a web page", "open its address in a browser"),
    "big.zip": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS", "git lfs pull"),
    "none.zip": (b"", r"empty \(0 bytes\)", "Download"),
    "set.zip.001": (zipped("a.jpg"), "one part of an archive", PART),
    "set.z01": (b"PK\x07\x08", "one part of an archive", PART),
    "thesis.docx": (zipped("word/document.xml"), "a document", "Name the folder"),
    "model.keras": (zipped("config.json"), "a Keras model", "Name the folder"),
    "photo.JPG": (encoded(photo(1), "JPEG"), "a single image", "Name the folder"),
    "strange": (b"abc", "neither a folder nor", "Name the folder"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_dataset_is_called_by_its_name(tmp_path, name):
    data, what, remedy = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VggnbError, match=what) as caught:
        stage_if_remote(tmp_path / name, tmp_path / "near", progress=False)
    assert caught.match(remedy) and caught.value.where == str(tmp_path / name)
    assert not (tmp_path / "near").exists()


@pytest.mark.parametrize(
    "names",
    [
        ["set-001.zip", "set-002.zip"],
        ["deep/er/train.tar.gz", "deep/test.RAR", "README.md"],
        ["set.zip.001", "set.zip.002", "desktop.ini"],
        ["set.z01", "set.zip", "__MACOSX/._set.zip", ".DS_Store"],
    ],
)
def test_several_and_nested_archives_are_named(tmp_path, names):
    packed = [name for name in names if not name.endswith((".md", ".csv", ".ini", "._set.zip", ".DS_Store"))]
    for name in names:
        (tmp_path / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset" / name).write_bytes(b"x")
    (tmp_path / "outer.zip").write_bytes(zipped(*names))
    for _ in range(2):  # what has been unpacked is refused the next time, too
        for dataset in (tmp_path / "dataset", tmp_path / "outer.zip"):
            with pytest.raises(VggnbError, match=f"holds {len(packed)} archive") as caught:
                stage_if_remote(dataset, tmp_path / "near", progress=False)
            assert all(name in caught.value.what for name in packed) and caught.value.where == str(dataset)
            assert "into one folder" in caught.value.remedy


def test_archives_beside_images_are_no_obstacle(tmp_path):
    for name in ("a/1.jpg", "b/without_ending", "set.zip", "more.zip"):
        (tmp_path / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset" / name).write_bytes(b"x")
    assert stage_if_remote(tmp_path / "dataset", tmp_path / "near", progress=False) == tmp_path / "dataset"


@pytest.mark.parametrize("name", ["set.zip", "download", "comic.cbz"])
def test_an_archive_is_known_by_its_first_bytes(tmp_path, name):
    (tmp_path / name).write_bytes(zipped("a/1.jpg"))
    assert is_archive(tmp_path / name)


def test_an_archive_without_files_is_named_itself(tmp_path):
    (tmp_path / "empty.zip").write_bytes(zipped("__MACOSX/._1.jpg", "train/"))
    with pytest.raises(VggnbError, match="holds no files") as caught:
        stage_if_remote(tmp_path / "empty.zip", tmp_path / "near", progress=False)
    assert caught.value.where == str(tmp_path / "empty.zip")


def test_the_limit_of_files_is_an_option_of_the_command_line(tmp_path, capsys):
    (tmp_path / "set.zip").write_bytes(zipped(*(f"{kind}/{n}.jpg" for kind in "ab" for n in range(3))))
    for most, code in ((5, 2), (6, 0)):
        assert main(["census", str(tmp_path / "set.zip"), "--max-archive-files", str(most), "--quiet"]) == code
    assert "more than 5 files" in capsys.readouterr().err
