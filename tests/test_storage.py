"""Files that are written whole or not at all, and errors of the storage in words."""

import errno
import json
import os
import subprocess
import sys

import pytest
from faults import every, killed_at

from vggnb import storage
from vggnb.storage import (
    TEMPORARY_PREFIX,
    VggnbError,
    csv_text,
    is_alive,
    make_folder,
    read_json,
    replacing,
    write_bytes,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "operation, error",
    [
        ("open", errno.ENOTCONN),
        ("write", errno.ENOSPC),
        ("write", "short"),
        ("fsync", errno.EIO),
        ("rename", errno.EIO),
    ],
)
def test_the_old_file_survives_every_failing_step_of_a_write(operation, error, tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_bytes(path, b"old")
    for plan in every(operation, error, under=tmp_path):
        try:
            write_bytes(path, b"new")
        except VggnbError as caught:
            assert caught.where == str(path) and caught.remedy
        plan.disarm()
        assert names(path.parent) == ["a.json"] and path.read_bytes() == (b"old" if plan.fired else b"new")
    assert plan.nth > 1, f"a write calls {operation}"


@pytest.mark.parametrize("operation", ["write", "rename"])
def test_after_a_kill_the_file_is_the_old_one_and_can_be_written(operation, tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    assert killed_at(lambda: write_bytes(path, b"new"), operation, 1, under=tmp_path)
    assert path.read_bytes() == b"old"
    write_bytes(path, b"newer")
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, VggnbError("a", "b", "c")], ids=str)
def test_any_other_error_passes_through_and_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "head.weights.h5"
    write_bytes(path, b"old")
    with pytest.raises(error if isinstance(error, type) else VggnbError), replacing(path) as temporary:
        assert temporary.parent == tmp_path, "a rename between file systems is not atomic"
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        assert temporary.name.endswith(".weights.h5"), "Keras chooses the format by the ending"
        temporary.write_bytes(b"new")
        raise error
    assert path.read_bytes() == b"old" and names(tmp_path) == [path.name]


def test_the_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    write_bytes(tmp_path / "a", b"x")
    assert done == ["fsync", "replace"]


def test_a_file_or_a_circle_of_links_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for folder in (tmp_path / "runs", tmp_path / "loop"):
        with pytest.raises(VggnbError) as caught:
            make_folder(folder / "one")
        assert caught.value.where == str(folder / "one")
        with pytest.raises(VggnbError):
            write_bytes(folder / "one.json", b"x")
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_written_to_is_found_out_at_once(error, tmp_path, monkeypatch):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b" and names(tmp_path / "a" / "b") == []

    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(storage.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(VggnbError, match="choose another folder") as caught:
        make_folder(tmp_path)
    assert caught.value.where == str(tmp_path) and "--out" not in caught.value.remedy  # not every command has it


def test_a_home_below_a_closed_folder_is_refused_in_words(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage.Path, "is_dir", closed)
    with pytest.raises(VggnbError, match="do not have permission"):
        storage.check_writable(tmp_path / "home")


def test_json_comes_back_as_it_was_and_nan_is_not_written(tmp_path):
    value = {"größe": [1, 2.5, None], "name": "a\udc80b"}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8", "surrogateescape")
    assert read_json(tmp_path / "a.json") == json.loads(text) == value and "größe" in text
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("data", [None, b"", b'{"a": 1', b"\xff\xfe\x00", b"[" * 200_000])
def test_json_that_is_missing_or_damaged_is_named(data, tmp_path):
    if data is not None:
        (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(VggnbError, match="damaged" if data is not None else "No such file") as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.where == str(tmp_path / "a.json")


def test_a_process_is_alive_until_it_ends():
    assert is_alive(os.getpid()) and is_alive(1)
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert not is_alive(done.pid) and not is_alive(1 << 70)


def test_a_carriage_return_in_a_name_is_quoted():
    assert csv_text([["a\rb", 1]]) == '"a\rb",1\r\n'


def test_an_error_says_rule_place_and_remedy():
    error = VggnbError("Too big.", "/a/b", "Make it smaller.")
    assert str(error).splitlines() == ["Too big.", "  where:      /a/b", "  what to do: Make it smaller."]
    assert error._render_traceback_() == [f"VggnbError: {error}"]
