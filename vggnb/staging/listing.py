"""What is inside a .zip or .tar, as the headers tell it; nothing is unpacked here.

Tar headers are read by ourselves, so that no header can make us read or keep more than it should.
"""

import bz2
import gzip
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vggnb.storage import VggnbError, storage_errors

BLOCK = 512  # of a tar
LONGEST_HEADER = 1 << 20  # of an extended tar header; a name is shorter
LONGEST_DIRECTORY = 64_000_000  # of a zip's list of contents
_REFUSED = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
REMEDY = "Do not use it: unpack it with a program that you trust, look at what is inside, and use the folder."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold: more is refused before anything is written."""

    files: int = 50_000
    bytes: int = 50_000_000_000
    ratio: int = 30  # unpacked bytes for a packed one; photographs hardly pack at all
    small: int = 50_000_000  # below this many unpacked bytes the ratio does not matter


@dataclass(frozen=True, slots=True)
class Member:
    """An entry as its header tells it: kind "file", "folder", or what it is that we refuse."""

    name: str
    kind: str
    size: int
    handle: object  # ZipInfo, or the offset of a tar member's bytes


def archive_kind(path: Path) -> str:
    """What a file is by its first bytes: zip, tar, gzip, bzip2, something that we do not unpack, or ""."""
    with storage_errors(path), open(path, "rb") as file:
        head = file.read(512)
    if head[257:262] == b"ustar":
        return "tar"
    starts = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"Rar!": "RAR"}
    starts |= {b"7z\xbc\xaf": "7z", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    return next((kind for start, kind in starts.items() if head.startswith(start)), "")


def opened_archive(archive: Path, kind: str, limits: Limits) -> zipfile.ZipFile | BinaryIO:
    """The archive as a ZipFile, or as a stream of tar bytes."""
    if kind == "zip":
        _check_directory(archive, limits)
        return zipfile.ZipFile(archive)
    return {"tar": open, "gzip": gzip.open, "bzip2": bz2.open}[kind](archive, "rb")


def members(opened: zipfile.ZipFile | BinaryIO, archive: Path) -> Iterator[Member]:
    """Every entry in order of the archive. The caller may stop anywhere: a bomb need not go off to be refused.

    Raises:
        ValueError, zipfile.BadZipFile and the decoders' errors: damaged or cut short.
    """
    return _zip_members(opened, archive) if isinstance(opened, zipfile.ZipFile) else _tar_members(opened)


def refused(what: str, archive: Path) -> VggnbError:
    """The error for an archive that should not be unpacked."""
    return VggnbError(f"The archive is refused: {what}", archive, REMEDY)


def _check_directory(archive: Path, limits: Limits) -> None:
    """Refuse a zip whose list of contents is itself too long to read."""
    with open(archive, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 65_600))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("its end is missing")
    count, length = struct.unpack_from("<HI", tail, end + 10)
    wide = tail.rfind(b"PK\x06\x06", 0, end)
    if 0 <= wide <= len(tail) - 56:
        count, length = struct.unpack_from("<QQ", tail, wide + 32)
    if count > limits.files or length > LONGEST_DIRECTORY:
        raise refused(f"It lists {count} files; the limit is {limits.files}.", archive)


def _zip_members(opened: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    """Every entry of a zip, from its list of contents."""
    infos = opened.infolist()
    _check_overlap(infos, opened.start_dir, archive)
    for info in infos:
        file_type = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
        if info.flag_bits & 0x1:
            what = "a file under a password"
        elif file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a link" if file_type == stat.S_IFLNK else "a device or pipe"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
            what = f"a file packed in a way that cannot be read here (method {info.compress_type})"
        else:
            what = "folder" if info.filename.endswith("/") else "file"
        name = info.orig_filename if "\0" in info.orig_filename else info.filename
        yield Member(name, what, info.file_size, info)


def _check_overlap(infos: list[zipfile.ZipInfo], end: int, archive: Path) -> None:
    """Refuse entries that share bytes: the trick behind the smallest bombs."""
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + 30 + info.compress_size > end:
            raise refused(f"Its entries overlap at {info.filename!r} (a bomb).", archive)
        end = info.header_offset


def _tar_members(stream: BinaryIO) -> Iterator[Member]:
    """Every entry of a tar, header by header."""
    extended: dict[str, str] = {}
    offset = 0  # counted here: asking a gzip stream takes longer than reading a header
    while True:
        block = _exactly(stream, BLOCK)
        offset += BLOCK
        if not block[0] and not any(block):
            return _drain(stream)
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind in b"LKxg":
            if size > LONGEST_HEADER:
                raise ValueError("a header in it is absurdly long")
            data = _exactly(stream, size)
            if kind == b"L":
                extended["path"] = _text(data.split(b"\0", 1)[0])
            elif kind == b"x":
                extended |= _pax(data)
        else:
            size = int(extended.get("size", size))
            if size < 0:
                raise ValueError("a size in it is negative")
            name = extended.get("path") or _name(block)
            sparse = bool(extended) and any(key.startswith("GNU.sparse") for key in extended)
            what = "a sparse file" if sparse else _tar_kind(kind, name)
            yield Member(name, what, 0 if kind == b"5" else size, offset)
            extended.clear()
        if size:
            offset = stream.seek(offset + -(-size // BLOCK) * BLOCK)


def _drain(stream: BinaryIO) -> None:
    """Read the padding after the end, so that the decoder compares its checksum of the whole."""
    for _ in range(256):
        if not stream.read(1 << 16):
            return
    raise ValueError("much follows its end")


def _check_sum(block: bytes) -> None:
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("a checksum in it is wrong")


def _number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[field[0] == 0x80 :], "big", signed=field[0] == 0xFF)
    digits = field.split(b"\0", 1)[0].strip()
    return int(digits, 8) if digits else 0


def _name(block: bytes) -> str:
    name = _text(block[:100].partition(b"\0")[0])
    if block[345] and block[257:263] == b"ustar\0":
        prefix = _text(block[345:500].partition(b"\0")[0])
        return f"{prefix}/{name}"
    return name


def _tar_kind(kind: bytes, name: str) -> str:
    if kind == b"5" or (kind in (b"0", b"\0") and name.endswith("/")):
        return "folder"
    return "file" if kind in (b"0", b"\0", b"7") else _REFUSED.get(kind, f"of the unknown kind {kind!r}")


def _pax(data: bytes) -> dict[str, str]:
    """The records of an extended header: length, space, key=value, line feed."""
    records = {}
    while data.strip(b"\0"):
        length = int(data.split(b" ", 1)[0])
        if not 4 < length <= len(data):
            raise ValueError("an extended header in it is damaged")
        key, _, value = data[:length].split(b" ", 1)[1][:-1].partition(b"=")
        records[_text(key)], data = _text(value), data[length:]
    return records


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("it is cut short")
    return data
