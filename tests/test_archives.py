"""Archives from strangers: good ones come out whole under their names, hostile ones are refused and leave nothing."""

import gzip
import io
import os
import random
import shutil
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from vggnb.archives import is_archive, unpack
from vggnb.storage import TEMPORARY_PREFIX, VggnbError

FILES = {
    "train/cat/1.jpg": b"\xff\xd8" + bytes(range(256)) * 9,
    "train/dög/ü 2.jpg": b"",
    "test/cat/3.jpg": b"three" * 5000,
}
SYSTEM = {"__MACOSX/train/cat/._1.jpg": b"", "train/cat/._1.jpg": b"", "Thumbs.db": b"", "train/.DS_Store": b""}
NOISE = {"a": random.Random(0).randbytes(200_000)}


def zip_file(path, files, mode=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes)."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", mode) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of the duplicate names that we want
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return path


def tar_file(path, members, pack=""):
    """A tar of (name or TarInfo, bytes)."""
    with tarfile.open(path, f"w:{pack}") as archive:
        for info, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(info) if isinstance(info, str) else info
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zip_special(path, mode):
    """A zip with one entry of this Unix mode."""
    info = zipfile.ZipInfo("a")
    info.create_system, info.external_attr = 3, mode << 16
    return zip_file(path, {info: b"/etc/passwd"})


def tar_special(path, kind, **more):
    """A tar with one entry of this type, then a file beneath its name."""
    info = tarfile.TarInfo("train")
    info.type, info.linkname = kind, "/tmp"
    return tar_file(path, {info: b"", **more})


def patched(path, *pairs):
    """The same file with some bytes changed."""
    data = path.read_bytes()
    for old, new in pairs:
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def cut(path):
    """The first 60 % of the file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def out_of(path, **options):
    """What an archive unpacks to: path -> bytes."""
    out = path.parent / "out"
    unpack(path, out, progress=False, **options)
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


KINDS = {
    "packed.zip": zip_file,
    "without_ending": zip_file,
    "lzma.zip": lambda path, files: zip_file(path, files, zipfile.ZIP_LZMA),
    "a.tar": tar_file,
    "a.tar.gz": lambda path, files: tar_file(path, files, pack="gz"),
    "a.tar.xz": lambda path, files: tar_file(path, files, pack="xz"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_good_archives_come_out_whole_without_system_files(tmp_path, kind):
    files = FILES | {"deep/" + "long" * 30 + "/" + "name" * 40 + ".png": b"long"}
    folder = tarfile.TarInfo("train") if "tar" in kind else "train/"
    if "tar" in kind:
        folder.type = tarfile.DIRTYPE
    path = KINDS[kind](tmp_path / kind, {folder: b"", **files, **SYSTEM})
    assert is_archive(path) and out_of(path) == files
    assert sorted(os.listdir(tmp_path)) == sorted([kind, "out"])


class MacInfo(zipfile.ZipInfo):
    """macOS writes names as UTF-8 and does not set the flag that says so."""

    def _encodeFilenameFlags(self):  # noqa: N802
        return self.filename.encode("utf-8"), self.flag_bits & ~0x800


def test_names_are_utf_8_where_they_can_be_whatever_the_flag_says_and_else_of_old_programs(tmp_path, capsys):
    path = zip_file(tmp_path / "a.zip", {MacInfo("Mélanome/日本.jpg"): b"x", "cafX\\1.jpg": b"y"})
    assert out_of(patched(path, (b"cafX\\1", b"caf\x82\\1"))) == {"Mélanome/日本.jpg": b"x", "café/1.jpg": b"y"}
    assert "1 name in the archive may look wrong (for example café/1.jpg)" in capsys.readouterr().out


def test_a_colon_in_a_name_and_what_killed_calls_left_are_no_obstacle(tmp_path):
    path = zip_file(tmp_path / "set [1].zip", {"1:1 ratio/a.jpg": b"x"})
    for name in ("999999999-out [1]", "ab12cd34-out [1]"):
        (tmp_path / f"{TEMPORARY_PREFIX}{name}").mkdir()
    unpack(path, tmp_path / "out [1]", progress=False)
    assert (tmp_path / "out [1]" / "1:1 ratio" / "a.jpg").read_bytes() == b"x"
    assert sorted(os.listdir(tmp_path)) == [f"{TEMPORARY_PREFIX}ab12cd34-out [1]", "out [1]", "set [1].zip"]


def test_what_another_process_has_unpacked_meanwhile_is_kept(tmp_path, monkeypatch):
    path, rename = zip_file(tmp_path / "a.zip", {"a.jpg": b"x"}), os.rename

    def late(source, target):
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert out_of(path) == {"a.jpg": b"x"} and sorted(os.listdir(tmp_path)) == ["a.zip", "out"]


def encrypted(path):
    """A zip whose flag says that a password is needed."""
    data = bytearray(zip_file(path, {"a.jpg": b"secret"}).read_bytes())
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def claims_much(path):
    """A small tar whose header claims 90 GB."""
    info = tarfile.TarInfo("a.jpg")
    info.size = 90_000_000_000
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    return path


def lying_size(path):
    """The list says 10 bytes, the packed stream holds 40 MB."""
    return patched(zip_file(path, {"a.jpg": bytes(40_000_000)}), (struct.pack("<I", 40_000_000), struct.pack("<I", 10)))


def wrong_checksum(path):
    return patched(zip_file(path, {"a": b"A" * 50}, zipfile.ZIP_STORED), (b"A" * 50, b"A" * 49 + b"B"))


HOSTILE = {
    "dotdot.zip": (lambda p: zip_file(p, {"ok.jpg": b"", "../evil.jpg": b"x"}), "leads out"),
    "dotdot.tar": (lambda p: tar_file(p, {"ok.jpg": b"", "a/../../evil.jpg": b"x"}), "leads out"),
    "dotdot_windows.zip": (lambda p: zip_file(p, {"..\\evil.jpg": b"x"}), "leads out"),
    "drive.zip": (lambda p: zip_file(p, {"C:\\evil.jpg": b"x"}), "leads out"),
    "drive_folder.zip": (lambda p: zip_file(p, {"C:evil.jpg": b"x"}), "leads out"),
    "link.zip": (lambda p: zip_special(p, 0o120777), "is a link"),
    "link.tar": (lambda p: tar_special(p, tarfile.SYMTYPE, **{"train/evil.jpg": b"x"}), "is a link"),
    "pipe.tar": (lambda p: tar_special(p, tarfile.FIFOTYPE), "a link or a device"),
    "device.zip": (lambda p: zip_special(p, 0o020666), "a link or a device"),
    "bomb.zip": (lambda p: zip_file(p, dict.fromkeys("ab", bytes(60_000_000))), "more than 50 MB"),
    "bomb.tar.gz": (lambda p: tar_file(p, {"a.jpg": bytes(60_000_000)}, pack="gz"), "more than 50 MB"),
    "claims.tar": (claims_much, "more than 50 MB"),
    "encrypted.zip": (encrypted, "protected by a password.*Unpack it with its password"),
    "method.zip": (lambda p: patched(zip_file(p, {"a": b"a" * 9}), (b"\0\0\x08\0", b"\0\0\x09\0")), "not supported"),
    "checksum.zip": (wrong_checksum, "damaged"),
    "lying_size.zip": (lying_size, "damaged"),
    "cut.zip": (lambda p: cut(zip_file(p, NOISE)), "damaged"),
    "cut.tar": (lambda p: cut(tar_file(p, NOISE)), "damaged"),
    "cut.tar.gz": (lambda p: cut(tar_file(p, NOISE, pack="gz")), "damaged"),
    "header.tar": (lambda p: patched(tar_file(p, {"a": b"x", "name.jpg": b"x"}), (b"name", b"nbme")), "damaged"),
    "no_tar.gz": (lambda p: p.write_bytes(gzip.compress(b"just text\n" * 99)) and p, "no tar in this gzip"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_archives_are_refused_and_leave_nothing(tmp_path, name):
    make, reason = HOSTILE[name]
    inside = tmp_path / "inside" / "deep"
    inside.mkdir(parents=True)
    path = make(inside / name)
    with pytest.raises(VggnbError, match=f"(?s){reason}") as caught:
        unpack(path, inside / "out", progress=False)
    assert str(path) in str(caught.value) and caught.value.remedy
    left = sorted(str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*"))
    assert left == ["inside", "inside/deep", f"inside/deep/{name}"] and not Path("/tmp/evil.jpg").exists()


def test_the_limit_of_files_can_be_raised_and_system_files_do_not_count(tmp_path):
    files = {f"{start}{index}.jpg": b"" for index in range(20) for start in ("", "__MACOSX/._")}
    for make in (zip_file, tar_file):
        path, out = make(tmp_path / make.__name__, files), tmp_path / f"{make.__name__}-out"
        with pytest.raises(VggnbError, match="(?s)more than 19 files.*--max-archive-files"):
            unpack(path, out, max_files=19)
        unpack(path, out, max_files=20, progress=False)
        assert len(os.listdir(out)) == 20
        with pytest.raises(VggnbError, match="exists already"):
            unpack(path, out)


@pytest.mark.parametrize("kind", ["packed.zip", "a.tar.gz"])
def test_random_damage_gives_no_raw_error_and_no_wrong_file(tmp_path, kind):
    """Flip a bit anywhere: the archive comes out as it was, or it is refused in words."""
    random_, path = random.Random(0), tmp_path / kind
    whole = KINDS[kind](path, FILES).read_bytes()
    for trial in range(20):
        data = bytearray(whole)
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        path.write_bytes(data)
        out = tmp_path / f"out-{trial}"
        try:
            unpack(path, out, progress=False)
        except VggnbError:
            assert not out.exists()
        else:
            found = sorted(file.read_bytes() for file in out.rglob("*") if file.is_file())
            assert found == sorted(FILES.values())
