"""Archives from strangers: good ones come out whole, hostile ones are refused fast and leave nothing."""

import bz2
import functools
import gzip
import io
import os
import random
import struct
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import pytest

from vggnb.staging import archives
from vggnb.staging.archives import Limits, extract, is_archive
from vggnb.storage import VggnbError

FILES = {
    "train/cat/1.jpg": b"\xff\xd8" + bytes(range(256)) * 9,
    "train/dög/ü 2.jpg": b"",
    "test/cat/3.jpg": b"three" * 5000,
}


def zip_file(path, files, mode=zipfile.ZIP_DEFLATED):
    """A zip of name-or-ZipInfo -> bytes."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", mode) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of the duplicate names that we want
        for name, data in files:
            archive.writestr(name, data)
    return path


def tar_file(path, members, form=tarfile.PAX_FORMAT, pack="", end=True):
    """A tar of (TarInfo or name, bytes)."""
    with tarfile.open(path, f"w:{pack}", format=form) as archive:
        for info, data in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
            info.size = info.size or len(data)
            archive.addfile(info, io.BytesIO(data))
        if not end:
            archive.closed = True
            archive.fileobj.close()
    return path


def tar_info(name, **attributes):
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def zip_info(name, mode=0o100644):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def patched(path, old, new):
    """The same file with some bytes changed."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "kind", ["stored.zip", "packed.zip", "bzip2.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "gnu.tar", "v7.tar"]
)
def test_good_archives_come_out_whole(tmp_path, kind):
    path = tmp_path / kind
    files = dict(FILES)
    if kind.endswith("zip"):
        modes = {"stored.zip": zipfile.ZIP_STORED, "packed.zip": zipfile.ZIP_DEFLATED, "bzip2.zip": zipfile.ZIP_BZIP2}
        zip_file(path, [("train/", b""), *files.items()], modes[kind])
    else:
        files["deep/" + "long" * 30 + "/" + "name" * 40 + ".png"] = b"long"
        form = tarfile.GNU_FORMAT if kind == "gnu.tar" else tarfile.PAX_FORMAT
        pack = {"a.tar.gz": "gz", "a.tar.bz2": "bz2"}.get(kind, "")
        tar_file(path, [(tar_info("train", type=tarfile.DIRTYPE), b""), *files.items()], form, pack)
    assert is_archive(path)
    assert extract(path, tmp_path / "out") == tmp_path / "out"
    assert tree(tmp_path / "out") == files
    assert sorted(os.listdir(tmp_path)) == sorted([kind, "out"])


def test_backslashes_of_old_windows_programs_are_folders(tmp_path):
    extract(zip_file(tmp_path / "a.zip", [("train\\cat\\1.jpg", b"x")]), tmp_path / "out")
    assert tree(tmp_path / "out") == {"train/cat/1.jpg": b"x"}


def overlapping(path):
    """Two entries of the list that point at the same packed bytes."""
    zip_file(path, [("a.jpg", b"0" * 1000), ("b.jpg", b"0" * 1000)])
    data = bytearray(path.read_bytes())
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(data)
    return path


def pax_bomb(path):
    """An extended header of 1 GB, packed to 1 MB."""
    header = tar_info("x", type=tarfile.XHDTYPE, size=1 << 30).tobuf(tarfile.USTAR_FORMAT)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(100):
            file.write(bytes(1 << 20))
    return path


@functools.cache
def hundred_thousand_entries(kind):
    """Bytes of an archive of 100,000 empty files."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for index in range(100_000):
                archive.writestr(f"{index}", b"")
        return buffer.getvalue()
    blocks = (tar_info(f"{index}").tobuf(tarfile.USTAR_FORMAT) for index in range(100_000))
    return gzip.compress(b"".join(blocks) + bytes(10240), compresslevel=1)


def many_in_zip(path):
    path.write_bytes(hundred_thousand_entries("zip"))
    return path


def many_in_tar(path):
    path.write_bytes(hundred_thousand_entries("tar"))
    return path


def lying_count(path):
    data = bytearray(many_in_zip(path).read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 8 : end + 12] = struct.pack("<HH", 3, 3)
    wide = data.rfind(b"PK\x06\x06")
    data[wide + 24 : wide + 40] = struct.pack("<QQ", 3, 3)
    path.write_bytes(data)
    return path


def encrypted(path):
    """A zip whose flag says that a password is needed."""
    zip_file(path, [("a.jpg", b"secret")])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def wrong_checksum(path):
    zip_file(path, [("a.jpg", b"A" * 50)], zipfile.ZIP_STORED)
    return patched(path, b"A" * 50, b"A" * 49 + b"B")


def lying_size(path):
    """The list says 10 bytes, the packed stream holds 40 MB."""
    zip_file(path, [("a.jpg", bytes(40_000_000))])
    return patched(path, struct.pack("<I", 40_000_000), struct.pack("<I", 10))


def cut(path, whole, share=0.6):
    data = whole.read_bytes()
    whole.unlink()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def links_then_file(path):
    """The classic: a link out of the folder, then a file through it."""
    link = tar_info("train", type=tarfile.SYMTYPE, linkname="/tmp")
    return tar_file(path, [(link, b""), ("train/evil.jpg", b"x")])


def patched_size(path):
    """A small tar whose header claims 90 GB in base 256."""
    header = tar_info("a.jpg", size=90_000_000_000).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(header + bytes(4096))
    return path


NOISE = random.Random(0).randbytes(200_000)
HOSTILE = {
    "dotdot.zip": (lambda p: zip_file(p, [("ok.jpg", b""), ("../evil.jpg", b"x")]), "leads out"),
    "dotdot.tar": (lambda p: tar_file(p, [("ok.jpg", b""), ("a/../../evil.jpg", b"x")]), "leads out"),
    "dotdot_windows.zip": (lambda p: zip_file(p, [("..\\evil.jpg", b"x")]), "leads out"),
    "absolute.zip": (lambda p: zip_file(p, [("/tmp/evil.jpg", b"x")]), "absolute"),
    "absolute.tar": (lambda p: tar_file(p, [("/tmp/evil.jpg", b"x")]), "absolute"),
    "drive.zip": (lambda p: zip_file(p, [("C:\\evil.jpg", b"x")]), "absolute"),
    "link.zip": (lambda p: zip_file(p, [(zip_info("a", 0o120777), b"/etc/passwd")]), "is a link"),
    "link.tar": (links_then_file, "is a link"),
    "hardlink.tar": (
        lambda p: tar_file(p, [(tar_info("a", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b"")]),
        "a link",
    ),
    "fifo.tar": (lambda p: tar_file(p, [(tar_info("a", type=tarfile.FIFOTYPE), b"")]), "a pipe"),
    "device.tar": (lambda p: tar_file(p, [(tar_info("a", type=tarfile.CHRTYPE), b"")]), "a device"),
    "device.zip": (lambda p: zip_file(p, [(zip_info("a", 0o020666), b"")]), "a device"),
    "sparse.tar": (lambda p: tar_file(p, [(tar_info("a", type=b"S"), b"x")]), "a sparse file"),
    "bomb.zip": (lambda p: zip_file(p, [(f"{i}.jpg", bytes(60_000_000)) for i in range(2)]), "a bomb"),
    "bomb.tar.gz": (lambda p: tar_file(p, [("a.jpg", bytes(60_000_000))], pack="gz"), "a bomb"),
    "claims.tar": (patched_size, "a bomb"),
    "pax_bomb.tar.gz": (pax_bomb, "absurdly long"),
    "overlap.zip": (overlapping, "overlap"),
    "many.zip": (many_in_zip, "100000 files"),
    "lying_count.zip": (lying_count, "more than 50000"),
    "many.tar.gz": (many_in_tar, "more than 50000"),
    "twice.zip": (lambda p: zip_file(p, [("a/1.jpg", b"1"), ("a/1.jpg", b"2")]), "twice"),
    "twice.tar": (lambda p: tar_file(p, [("a/1.jpg", b"1"), ("./a//1.jpg", b"2")]), "twice"),
    "case.zip": (lambda p: zip_file(p, [("Cat/1.jpg", b"1"), ("cat/2.jpg", b"2")]), "same name"),
    "unicode.zip": (lambda p: zip_file(p, [("\u00c5/1.jpg", b"1"), ("A\u030a/2.jpg", b"2")]), "same name"),
    "file_and_folder.zip": (lambda p: zip_file(p, [("a/b.jpg", b"1"), ("a", b"2")]), "both a file and a folder"),
    "encrypted.zip": (encrypted, "password"),
    "zero_byte.zip": (lambda p: patched(zip_file(p, [("aXb.jpg", b"")]), b"aXb", b"a\0b"), "zero byte"),
    "long_name.zip": (lambda p: zip_file(p, [("n" * 300, b"")]), "too long"),
    "lzma.zip": (lambda p: zip_file(p, [("a.jpg", b"x")], zipfile.ZIP_LZMA), "method 14"),
    "checksum.zip": (wrong_checksum, "damaged"),
    "lying_size.zip": (lying_size, "damaged"),
    "cut.zip": (lambda p: cut(p, zip_file(p.with_suffix(".0"), [("a", NOISE)])), "damaged"),
    "cut.tar": (lambda p: cut(p, tar_file(p.with_suffix(".0"), [("a", NOISE)])), "damaged.*cut short"),
    "cut.tar.gz": (lambda p: cut(p, tar_file(p.with_suffix(".0"), [("a", NOISE)], pack="gz")), "damaged"),
    "cut.tar.bz2": (lambda p: cut(p, tar_file(p.with_suffix(".0"), [("a", NOISE)], pack="bz2")), "damaged"),
    "flipped.tar": (lambda p: patched(tar_file(p, [("name.jpg", b"x")]), b"name.jpg", b"nbme.jpg"), "checksum"),
    "no_tar.gz": (lambda p: p.write_bytes(gzip.compress(b"just text\n" * 99)) and p, "damaged"),
    "no_tar.bz2": (lambda p: p.write_bytes(bz2.compress(b"")) and p, "damaged"),
    "photo.jpg": (lambda p: p.write_bytes(b"\xff\xd8\xff") and p, "not an archive"),
    "a.rar": (lambda p: p.write_bytes(b"Rar!\x1a\x07") and p, "a RAR file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_fast_and_leave_nothing(tmp_path, name):
    make, reason = HOSTILE[name]
    inside = tmp_path / "inside" / "deep"
    inside.mkdir(parents=True)
    path = make(inside / name)
    start = time.process_time()
    with pytest.raises(VggnbError, match=f"(?s){reason}") as caught:
        extract(path, inside / "out")
    assert time.process_time() - start < 1
    assert str(path) in str(caught.value) and caught.value.remedy
    assert sorted(str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*")) == [
        "inside",
        "inside/deep",
        f"inside/deep/{name}",
    ]
    assert not Path("/tmp/evil.jpg").exists()


def test_target_that_exists_is_never_touched(tmp_path):
    path = zip_file(tmp_path / "a.zip", FILES.items())
    (tmp_path / "out").mkdir()
    with pytest.raises(VggnbError, match="exists already"):
        extract(path, tmp_path / "out")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(VggnbError, match="exists already"):
        extract(path, tmp_path / "dangling")


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    path = zip_file(tmp_path / "a.zip", FILES.items())
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: Free)
    with pytest.raises(VggnbError, match="0 MB are free"):
        extract(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


class Free:
    """What shutil.disk_usage gives on a full disk."""

    free = 10


def test_what_a_killed_call_left_is_removed(tmp_path):
    path = zip_file(tmp_path / "a.zip", FILES.items())
    (tmp_path / ".vggnb-tmp-out" / "train").mkdir(parents=True)
    extract(path, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "out"]


def test_limits_can_be_raised(tmp_path):
    path = zip_file(tmp_path / "a.zip", [(f"{index}", b"") for index in range(20)])
    with pytest.raises(VggnbError, match="limit is 10"):
        extract(path, tmp_path / "out", limits=Limits(files=10))
    extract(path, tmp_path / "out", limits=Limits(files=20))
    assert len(tree(tmp_path / "out")) == 20


def test_random_damage_never_gives_a_raw_error_or_a_wrong_file(tmp_path):
    """Flip bytes anywhere: the archive comes out as it was, or it is refused in words."""
    random_ = random.Random(0)
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        path = tmp_path / name
        whole = (
            zip_file(path, FILES.items())
            if name == "a.zip"
            else tar_file(path, FILES.items(), pack="gz" * ("gz" in name))
        ).read_bytes()
        for trial in range(60):
            data = bytearray(whole)
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
            path.write_bytes(data)
            out = tmp_path / f"out-{name}-{trial}"
            try:
                extract(path, out)
            except VggnbError:
                assert not out.exists()
            else:
                assert name == "a.tar" or sorted(tree(out).values()) == sorted(FILES.values())
