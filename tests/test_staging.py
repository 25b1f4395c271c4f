"""Staging: whole or absent, whatever fails and whenever it is killed; the source is only ever read."""

import errno
import io
import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
from faults import every, inject, killed, killed_at
from PIL import Image

from vggnb.images import decode
from vggnb.staging import copying, reading, stage
from vggnb.staging.staged import LIST, staged_files
from vggnb.storage import VggnbError, sha256_file

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "ENOTCONN": errno.ENOTCONN}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(reading, "PAUSES", (0, 0))
    monkeypatch.setattr(reading, "DEADLINE", 5.0)


def picture(colour, secret="somewhere"):
    """A JPEG with GPS in it."""
    tags, buffer = Image.Exif(), io.BytesIO()
    tags.get_ifd(0x8825)[29] = secret
    Image.new("RGB", (24, 16), colour).save(buffer, "JPEG", exif=tags)
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path):
    """A small tree with what trees have: twins, an empty class, system files, a link, bad files, odd names."""
    root = tmp_path / "source"
    for split in ("train", "test"):
        for name in ("benign", "malignant"):
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                (root / split / name / f"IMG {index}.JPG").write_bytes(
                    picture((index * 9, len(name) * 9, len(split) * 9))
                )
    (root / "train" / "empty").mkdir()
    twin = root / "train" / "benign" / "IMG 0.JPG"
    (twin.parent / "copy of IMG 0.jpg").write_bytes(twin.read_bytes())
    (twin.parent / "cut.jpg").write_bytes(twin.read_bytes()[:-30])
    (twin.parent / "zero.png").write_bytes(b"")
    (twin.parent / "odd \u202e'\n[1].jp*g").write_bytes(b"no picture")
    (twin.parent / "link.jpg").symlink_to(twin)
    (twin.parent / ".DS_Store").write_bytes(b"apple")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._IMG.jpg").write_bytes(b"apple")
    return root


def state(root):
    """Bytes, times and modes of everything below a folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (content, status.st_mtime_ns, status.st_mode)
    return found


def check_whole(source, target):
    """The copy equals its list, the list equals the source, and nothing else lies about."""
    rows = staged_files(target)
    wanted = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and not path.is_symlink()}
    wanted = {name for name in wanted if ".DS_Store" not in name and "__MACOSX" not in name}
    assert {row.source for row in rows} == wanted
    on_disk = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert on_disk == {row.staged for row in rows} | {LIST} and len(rows) == len(on_disk) - 1
    for row in rows:
        assert sha256_file(target / row.staged) == row.sha256 == Path(row.staged).name[:64]
        assert Path(row.staged).parent == Path(row.source).parent
    assert sorted(os.listdir(target.parent)) == sorted({target.name, source.name} & set(os.listdir(target.parent)))


def test_a_folder_is_copied_under_hashes_without_metadata(source, tmp_path):
    before = state(source)
    target = stage(source, tmp_path / "staged", progress=False)
    check_whole(source, target)
    assert state(source) == before
    assert (target / "train" / "empty").is_dir() and not (target / "__MACOSX").exists()
    names = {row.source: row.staged for row in staged_files(target)}
    one, two = names["train/benign/IMG 0.JPG"], names["train/benign/copy of IMG 0.jpg"]
    assert two == one.replace(".jpg", "-1.jpg"), "twins are kept, so that the census can find them"
    for name, staged in names.items():
        assert b"somewhere" not in (target / staged).read_bytes()
        if "IMG" in name:
            assert (decode(target / staged).pixels == decode(source / name).pixels).all()


def test_a_second_call_copies_nothing_and_a_change_is_followed(source, tmp_path, monkeypatch):
    target = stage(source, tmp_path / "staged", progress=False)
    read = []
    real = copying.read_ahead
    monkeypatch.setattr(
        copying, "read_ahead", lambda root, files: read.extend(f.path for f in files) or real(root, files)
    )
    before = state(target)
    stage(source, target, progress=False)
    assert not read and state(target) == before
    (source / "train/benign/new.jpg").write_bytes(picture("red"))
    (source / "train/benign/IMG 1.JPG").unlink()
    (source / "test/benign/IMG 0.JPG").write_bytes(picture("blue"))
    stage(source, target, progress=False)
    assert sorted(read) == ["test/benign/IMG 0.JPG", "train/benign/new.jpg"]
    check_whole(source, target)


def test_a_staged_file_that_was_damaged_is_copied_again(source, tmp_path):
    target = stage(source, tmp_path / "staged", progress=False)
    victim = target / staged_files(target)[0].staged
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    stage(source, target, progress=False)
    check_whole(source, target)


def test_an_archive_is_copied_and_unpacked(source, tmp_path):
    holder = tmp_path / "drive"
    holder.mkdir()
    with zipfile.ZipFile(holder / "skin.zip", "w") as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(source))
    for place in (holder / "skin.zip", holder):
        target = stage(place, tmp_path / f"staged-{place.name}" / "x", progress=False)
        assert os.listdir(target.parent) == ["x"]
        rows = {row.source: row for row in staged_files(target)}
        assert len(rows) == 12 and b"somewhere" not in (target / rows["train/benign/IMG 0.JPG"].staged).read_bytes()
        before = state(target)
        stage(place, target, progress=False)
        assert state(target) == before
        (target / rows["train/benign/IMG 0.JPG"].staged).unlink()
        stage(place, target, progress=False)
        assert state(target).keys() == before.keys()
    with pytest.raises(VggnbError, match="neither a folder nor"):
        stage(source / "train/benign/cut.jpg", tmp_path / "z", progress=False)


def test_a_table_is_translated_to_the_new_names(source, tmp_path):
    tables = pytest.importorskip("vggnb.census.tables")
    text = "Path;label;group\ntrain/benign/IMG 0.JPG;benign;a\ntest\\malignant\\IMG 1.JPG;malignant;b\n"
    (source / "table.csv").write_text(text, encoding="utf-8")
    (source / "train" / "other.csv").write_text("a,b\n1,2\n")
    before = state(source)
    for _ in range(2):
        table = stage(source / "table.csv", tmp_path / "staged", progress=False)
        assert table == tmp_path / "staged" / "table.csv"
        entries = {entry.class_name: entry for entry in tables.read_table(table).entries}
        names = {row.source: row.staged for row in staged_files(table.parent)}
        assert entries["benign"].path == names["train/benign/IMG 0.JPG"] and entries["benign"].group == "a"
        assert entries["malignant"].path == names["test/malignant/IMG 1.JPG"]
    assert state(source) == before


def test_a_hostile_archive_is_named_and_leaves_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.jpg", b"x")
    with pytest.raises(VggnbError, match="leads out") as caught:
        stage(tmp_path / "evil.zip", tmp_path / "out", progress=False)
    assert caught.value.where == str(tmp_path / "evil.zip")
    assert os.listdir(tmp_path) == ["evil.zip"]


def test_places_that_will_not_do(source, tmp_path):
    with pytest.raises(VggnbError, match="no such dataset"):
        stage(tmp_path / "nowhere", tmp_path / "out")
    for target in (source / "copy", source, source.parent):
        with pytest.raises(VggnbError, match="in one another"):
            stage(source, target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(VggnbError, match="did not put there"):
        stage(source, tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_videos_among_the_photographs_are_left_out_in_words(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(copying, "MAX_BYTES", 2000)
    (source / "train/benign/film.mp4").write_bytes(bytes(3000))
    target = stage(source, tmp_path / "staged", progress=False)
    assert "Not staged: train/benign/film.mp4" in capsys.readouterr().out
    assert not any("film" in row.source for row in staged_files(target))


def test_a_full_disk_is_said_before_copying(source, tmp_path, monkeypatch):
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 5}))
    with pytest.raises(VggnbError, match="0 MB are free"):
        stage(source, tmp_path / "staged", progress=False)


def test_a_read_that_fails_now_and_then_is_tried_again(source, tmp_path):
    with inject("read", 3, errno.EIO, under=source) as plan:
        target = stage(source, tmp_path / "staged", progress=False)
    assert plan.fired
    check_whole(source, target)


def test_files_that_cannot_be_read_are_listed_and_the_rest_is_kept(source, tmp_path):
    with (
        inject("read", 1, errno.EIO, under=source / "train" / "malignant" / "IMG 1.JPG", forever=True),
        pytest.raises(VggnbError, match="1 of 12 files could not be read: train/malignant/IMG 1.JPG"),
    ):
        stage(source, tmp_path / "staged", progress=False)
    assert not (tmp_path / "staged").exists()
    with inject("read", 2, errno.EIO, under=source, forever=True):  # one file is missing: one read is enough
        check_whole(source, stage(source, tmp_path / "staged", progress=False))


@pytest.mark.parametrize(("error", "options"), [(errno.ENOTCONN, {"forever": True}), ("hang", {"hang_s": 3600})])
def test_a_dropped_mount_gives_one_line_and_keeps_what_is_staged(source, tmp_path, monkeypatch, error, options):
    monkeypatch.setattr(reading, "AHEAD", 1)
    with inject("read", 6, error, under=source, **options), pytest.raises(VggnbError) as caught:
        stage(source, tmp_path / "staged", progress=False)
    assert caught.value.what == "Google Drive is disconnected."
    assert caught.value.remedy == "Run the mount cell again, then this cell; 5 of 12 files are already staged and kept."
    check_whole(source, stage(source, tmp_path / "staged", progress=False))


def test_an_archive_whose_copying_stopped_goes_on_where_it_was(source, tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "_BLOCK", 1000)
    archive = tmp_path / "skin.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("train/cat/1.bin", random.Random(0).randbytes(20_000))
    with (
        inject("read", 8, errno.ENOTCONN, under=archive, forever=True),
        pytest.raises(VggnbError, match="disconnected"),
    ):
        stage(archive, tmp_path / "out" / "x", progress=False)
    with inject("read", 999, errno.EIO, under=archive) as plan:
        stage(archive, tmp_path / "out" / "x", progress=False)
    assert plan.count < 21, "what had been copied was not read again"
    assert os.listdir(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize(
    "operation", ["open", "read", "write", "rename", "mkdir", "unlink", "fsync", "listdir", "stat"]
)
def test_any_single_failure_is_survived(source, tmp_path, operation, name):
    """SQLite's loop, on the source and on the target: fail the 1st, 2nd, 3rd... operation until none is left."""
    before, tries = state(source), 0
    for under in (source, tmp_path / "out"):
        for plan in every(operation, ERRORS[name], under=under):
            target = tmp_path / "out" / f"{under.name}-{plan.nth}"
            try:
                stage(source, target, progress=False)
            except VggnbError as error:
                assert error.remedy and not target.exists()
                stage(source, target, progress=False)
            plan.disarm()
            stage(source, target, progress=False)  # sweeps up, where it was the sweeping that failed
            check_staged_alone(source, target)
            tries += 1
    assert state(source) == before
    assert tries >= 2


def check_staged_alone(source, target):
    siblings = [name for name in os.listdir(target.parent) if name.startswith((target.name + ".", ".vggnb"))]
    assert not siblings
    rows = {row.source: row for row in staged_files(target)}
    assert len(rows) == 12
    on_disk = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert on_disk == {row.staged for row in rows.values()} | {LIST}
    shutil.rmtree(target)  # there will be hundreds


@pytest.mark.parametrize("operation", ["read", "write", "rename"])
def test_any_single_failure_with_an_archive_is_survived(source, tmp_path, operation):
    archive = tmp_path / "drive" / "skin.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((source / "test").rglob("IMG 0*")):
            file.write(path, path.relative_to(source))
    before = state(archive.parent)
    for under in (archive, tmp_path / "out"):
        for error in ERRORS.values():
            for plan in every(operation, error, under=under):
                target = tmp_path / "out" / f"{under.name}-{error}-{plan.nth}"
                try:
                    stage(archive, target, progress=False)
                except VggnbError as told:
                    assert told.remedy and not target.exists()
                    stage(archive, target, progress=False)
                plan.disarm()
                assert len(staged_files(target)) == 2
                assert not [
                    name for name in os.listdir(target.parent) if name.startswith((target.name + ".", ".vggnb"))
                ]
    assert state(archive.parent) == before


def test_a_write_that_stops_half_way_is_survived(source, tmp_path):
    for plan in every("write", "short", under=tmp_path / "out"):
        target = tmp_path / "out" / str(plan.nth)
        try:
            stage(source, target, progress=False)
        except VggnbError as error:
            assert "space" in error.remedy
            stage(source, target, progress=False)
        plan.disarm()
        check_staged_alone(source, target)


def test_thirty_kills_at_random_moments(source, tmp_path):
    for index in range(40):
        (source / "train" / "malignant" / f"more {index}.jpg").write_bytes(picture((index, 0, 0)))
    before, random_, target, kills = state(source), random.Random(0), tmp_path / "out" / "staged", 0
    for attempt in range(400):
        kills += killed(lambda: stage(source, target, progress=False), after_s=random_.uniform(0.002, 0.03))
        if target.exists():
            assert len(staged_files(target)) == 52, "the target is whole or absent"
            if random_.random() < 0.5:
                (target / staged_files(target)[random_.randrange(52)].staged).unlink()
            else:
                os.rename(target, tmp_path / f"done-{attempt}")
        if kills >= 30:
            break
    assert kills >= 30
    stage(source, target, progress=False)
    check_whole_of = {row.source for row in staged_files(target)}
    assert len(check_whole_of) == 52 and os.listdir(target.parent) == ["staged"]
    assert state(source) == before


@pytest.mark.parametrize("operation", ["write", "rename", "mkdir", "unlink", "fsync"])
def test_a_kill_at_every_single_operation(source, tmp_path, operation):
    before, nth = state(source), 0
    while True:
        nth += 1
        target = tmp_path / "out" / str(nth)
        dead = killed_at(lambda: stage(source, target, progress=False), operation, nth, under=tmp_path / "out")  # noqa: B023
        assert dead != target.exists() or operation in ("unlink", "fsync")
        stage(source, target, progress=False)
        check_staged_alone(source, target)
        if not dead:
            break
    assert nth > 1 and state(source) == before


def test_a_killed_call_copies_at_most_one_file_twice(source, tmp_path):
    target = tmp_path / "out" / "staged"
    killed_at(lambda: stage(source, target, progress=False), "write", 12, under=tmp_path / "out")
    work = tmp_path / "out" / "staged.partial" / "files"
    kept = len((work / LIST).read_bytes().splitlines()) - 1
    with inject("read", 999, errno.EIO, under=source) as plan:
        stage(source, target, progress=False)
    assert kept >= 4 and plan.count == 12 - kept
