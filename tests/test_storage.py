"""Files are whole or absent: after every failure the old bytes are there, or the new ones, and nothing else."""

import errno
import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vggnb import storage
from vggnb.storage import (
    TEMPORARY_PREFIX,
    VggnbError,
    make_folder,
    read_json,
    recover_folder,
    replacing,
    replacing_folder,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)

ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOTCONN]


class Failing:
    """Stands for a function of `os`: its nth call fails with an error, before or after doing its work."""

    def __init__(self, function, nth, error):
        self.function, self.nth, self.error, self.calls = function, nth, error, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.nth:
            raise OSError(self.error, os.strerror(self.error))
        return self.function(*args, **kwargs)

    @property
    def fired(self):
        return self.calls >= self.nth


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    write_bytes(tmp_path / "deep" / "a.bin", b"new")
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"new"
    assert names(tmp_path / "deep") == ["a.bin"]


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", ["fsync", "replace", "open"])
def test_the_old_file_survives_every_failing_step_of_a_write(operation, error, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_bytes(path, b"old")
    for nth in itertools.count(1):
        failing = Failing(getattr(os, operation), nth, error)
        with monkeypatch.context() as patch:
            patch.setattr(os, operation, failing)
            try:
                write_bytes(path, b"new")
            except VggnbError as told:
                assert told.where == str(path) and told.remedy
                assert path.read_bytes() == b"old" or nth > 1, "the first failure comes before the rename"
        assert path.read_bytes() in (b"old", b"new")
        assert names(tmp_path) == ["a.json"]
        if not failing.fired:
            break
        path.write_bytes(b"old")
    assert nth > 1, f"a write calls os.{operation}"


def test_a_disk_that_fills_in_the_middle_of_a_file_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    write_bytes(path, b"old")
    with pytest.raises(VggnbError, match="untouched"), replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["model.keras"]


def test_what_is_no_storage_error_passes_through_and_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"new")
        1 / 0  # noqa: B018
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_an_interrupt_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_the_temporary_file_is_a_neighbour_with_the_same_ending(tmp_path):
    with replacing(tmp_path / "head.weights.h5") as temporary:
        assert temporary.parent == tmp_path, "a rename between file systems is not atomic"
        assert temporary.name.endswith(".weights.h5"), "Keras chooses the format by the ending"
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        temporary.write_bytes(b"x")


def test_the_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    write_bytes(tmp_path / "a", b"x")
    assert done[:2] == ["fsync", "replace"]


def test_a_file_in_place_of_a_folder_is_told_with_its_path(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(VggnbError, match="folder") as told:
        make_folder(tmp_path / "runs" / "one")
    assert str(tmp_path / "runs" / "one") in str(told.value)
    with pytest.raises(VggnbError):
        write_bytes(tmp_path / "runs" / "one.json", b"x")
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_an_unwritable_folder_is_found_out_at_once(error, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(storage.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(VggnbError, match="choose another folder") as told:
        make_folder(tmp_path)
    assert told.value.where == str(tmp_path) and "--out" not in told.value.remedy  # not every command has it


def test_making_a_folder_leaves_nothing_in_it(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == []


def test_json_comes_back_as_it_was(tmp_path):
    value = {"größe": [1, 2.5, None], "name": "a\udc80b"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "größe" in (tmp_path / "a.json").read_bytes().decode("utf-8", "surrogateescape")


def test_json_without_a_meaning_elsewhere_is_not_written(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == 1


@pytest.mark.parametrize("data", [b"", b'{"a": 1', b"\xff\xfe\x00", b"not json"])
def test_damaged_json_is_told_with_its_path(data, tmp_path):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(VggnbError, match="damaged") as told:
        read_json(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(told.value)


def test_missing_json_is_told_with_its_path(tmp_path):
    with pytest.raises(VggnbError) as told:
        read_json(tmp_path / "none.json")
    assert str(tmp_path / "none.json") in str(told.value)


def test_hashes_are_sha256(tmp_path):
    data = os.urandom((1 << 20) + 1)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def make_old(folder):
    folder.mkdir()
    (folder / "old").write_text("old")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    make_old(tmp_path / "bundle")
    with replacing_folder(tmp_path / "bundle") as temporary:
        assert names(temporary) == [] and names(tmp_path / "bundle") == ["old"]
        (temporary / "sub").mkdir()
        (temporary / "sub" / "new").write_text("new")
    assert names(tmp_path) == ["bundle"] and names(tmp_path / "bundle") == ["sub"]


@pytest.mark.parametrize("operation, swaps", [("rename", False), ("fsync", True), ("fsync", False), ("mkdir", True)])
def test_the_old_folder_survives_every_failing_step(operation, swaps, tmp_path, monkeypatch):
    if not swaps:
        monkeypatch.setattr(storage, "_swapped", lambda *_: False)
    for nth in itertools.count(1):
        place = tmp_path / str(nth)
        place.mkdir()
        make_old(place / "bundle")
        failing = Failing(getattr(os, operation), nth, errno.EIO)
        with monkeypatch.context() as patch:
            patch.setattr(os, operation, failing)
            try:
                with replacing_folder(place / "bundle") as temporary:
                    (temporary / "new").write_text("new")
            except VggnbError:
                assert names(place / "bundle") == ["old"]
        assert names(place) == ["bundle"]
        assert names(place / "bundle") in (["old"], ["new"])
        if not failing.fired:
            break
    assert nth > 1, f"replacing a folder calls os.{operation}"
    assert names(place / "bundle") == ["new"]


def test_where_names_can_be_swapped_the_folder_is_never_away(tmp_path, monkeypatch):
    make_old(tmp_path / "one")
    (tmp_path / "two").mkdir()
    if not storage._swapped(tmp_path / "one", tmp_path / "two"):
        pytest.skip("needs renameat2 and a file system that can exchange names")
    assert names(tmp_path / "one") == [] and names(tmp_path / "two") == ["old"]
    assert not storage._swapped(tmp_path / "one", tmp_path / "three"), "there is nothing to swap with"
    monkeypatch.setattr(os, "rename", lambda *_: pytest.fail("a rename leaves a moment without the folder"))
    with replacing_folder(tmp_path / "two") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path / "two") == ["new"] and names(tmp_path) == ["one", "two"]


def test_a_failure_inside_leaves_the_old_folder(tmp_path):
    make_old(tmp_path / "bundle")
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "bundle") as temporary:
        (temporary / "new").write_text("new")
        raise RuntimeError
    assert names(tmp_path) == ["bundle"] and names(tmp_path / "bundle") == ["old"]


DYING = """
import os, sys
from pathlib import Path
from vggnb import storage
from vggnb.storage import replacing_folder

folder, last = Path(sys.argv[1]), int(sys.argv[2])
rename, calls = os.rename, []

def dying(*paths):
    if len(calls) == last:
        os._exit(9)
    rename(*paths)
    calls.append(paths)
    if len(calls) == last == 2:
        os._exit(9)

os.rename = dying
storage._swapped = lambda *_: False  # as on Drive
with replacing_folder(folder) as temporary:
    (temporary / "new").write_text("new")
"""


@pytest.mark.parametrize("renames, there", [(0, "old"), (1, "old"), (2, "new")])
@pytest.mark.parametrize("recovered", [True, False])
def test_after_a_kill_the_folder_is_old_or_new_and_can_be_replaced_again(recovered, renames, there, tmp_path):
    make_old(tmp_path / "bundle")
    command = [sys.executable, "-c", DYING, str(tmp_path / "bundle"), str(renames)]
    assert subprocess.run(command, cwd=Path(storage.__file__).parents[1]).returncode == 9
    if recovered:
        recover_folder(tmp_path / "bundle")
        assert names(tmp_path / "bundle") == [there]
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "bundle"):
        raise RuntimeError
    assert names(tmp_path / "bundle") == [there]
    with replacing_folder(tmp_path / "bundle") as temporary:
        (temporary / "newer").write_text("newer")
    assert names(tmp_path / "bundle") == ["newer"]


def test_what_a_dead_process_had_begun_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, living = (f"{TEMPORARY_PREFIX}{pid}-x0_y-bundle" for pid in (int(done.stdout), os.getppid()))
    others = [f"{TEMPORARY_PREFIX}{int(done.stdout)}-x0_y-other", f"{TEMPORARY_PREFIX}mine-bundle"]
    for name in (dead, living, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    with replacing_folder(tmp_path / "bundle") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path) == sorted([living, *others, "bundle"])


@pytest.mark.parametrize("name", ["b" * 200, "a[1]*", "größe"])
def test_a_folder_with_any_name_is_replaced(name, tmp_path):
    make_old(tmp_path / name)
    with replacing_folder(tmp_path / name) as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path) == [name] and names(tmp_path / name) == ["new"]


def test_a_neighbour_of_the_users_is_never_taken_for_ours(tmp_path):
    make_old(tmp_path / "bundle.previous")
    recover_folder(tmp_path / "bundle")
    with replacing_folder(tmp_path / "bundle") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path) == ["bundle", "bundle.previous"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "bundle").write_text("precious")
    with pytest.raises(VggnbError, match="A file stands"), replacing_folder(tmp_path / "bundle"):
        pass
    assert (tmp_path / "bundle").read_text() == "precious" and names(tmp_path) == ["bundle"]


def test_links_that_lead_in_a_circle_are_told(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for replace in (lambda: recover_folder(tmp_path / "loop"), replacing_folder(tmp_path / "loop").__enter__):
        with pytest.raises(VggnbError) as told:
            replace()
        assert told.value.where == str(tmp_path / "loop")


def test_the_current_folder_can_be_recovered_and_replaced_by_its_dot(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recover_folder(".")
    with replacing_folder(".") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path / "here") == ["new"]


def test_an_error_says_rule_place_and_remedy():
    error = VggnbError("Too big.", "/a/b", "Make it smaller.")
    assert str(error).splitlines() == ["Too big.", "  where:      /a/b", "  what to do: Make it smaller."]


def test_a_folder_that_is_closed_to_others_stays_so(tmp_path):
    (folder := tmp_path / "mine").mkdir(mode=0o700)
    with storage.replacing_folder(folder) as new:
        (new / "a").write_text("new")
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "a").read_text() == "new"
