"""Unpack a .zip or .tar that a stranger made: regular files only, all of them or nothing.

The archive is first listed and judged from its headers; nothing is written before every entry has passed. What is then
written goes to a temporary neighbour that takes the target's name by one rename.
"""

import contextlib
import os
import shutil
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vggnb.staging.listing import Limits, Member, archive_kind, members, opened_archive, refused
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, make_folder, mendable, storage_errors

PIECE = 1 << 20
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, RuntimeError, OverflowError, IndexError)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar (plain, .gz, .bz2), judged by its first bytes."""
    return archive_kind(path) in ("zip", "tar", "gzip", "bzip2")


def extract(archive: Path, target: Path, *, limits: Limits | None = None, progress: bool = False) -> Path:
    """Unpack an archive into the new folder `target`, and give that folder.

    Raises:
        VggnbError: it is no such archive, it is damaged or hostile, there is no room, or `target` exists. Nothing is
            left of it then.
    """
    archive, target, limits = Path(archive), Path(target), limits or Limits()
    if os.path.lexists(target):
        raise VggnbError("The folder to unpack into exists already.", target, "Remove it or name another.")
    kind = archive_kind(archive)
    if kind not in ("zip", "tar", "gzip", "bzip2"):
        words = f"a {kind} file" if kind else "not an archive"
        raise VggnbError(f"It is {words}.", archive, "Pack the folder as .zip or .tar.gz, or name the unpacked folder.")
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}")
    with _damage(archive), opened_archive(archive, kind, limits) as opened:
        accepted = _named_well(_bounded(members(opened, archive), archive, limits), archive)
        make_folder(target.parent)
        check_room(sum(member.size for member in accepted), target.parent)
        shutil.rmtree(temporary, ignore_errors=True)  # what a killed call left
        try:
            _write(accepted, opened, temporary, progress)
            with storage_errors(target):
                os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


@contextlib.contextmanager
def _damage(archive: Path):
    """Turn what the decoders raise on broken bytes into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise mendable(error, archive) from error
        raise _damaged(error, archive) from error
    except _DAMAGES as error:
        raise _damaged(error, archive) from error


def _damaged(error: Exception, archive: Path) -> VggnbError:
    return VggnbError(f"The archive is damaged ({error}).", archive, "Download or copy it again.")


def _bounded(found: Iterable[Member], archive: Path, limits: Limits) -> list[Member]:
    """All members, or the first reason to refuse the archive by what they are, how many and how long."""
    kept, total = [], 0
    most = min(limits.bytes, max(limits.small, limits.ratio * archive.stat().st_size))
    for member in found:
        kept.append(member)
        total += member.size
        if len(kept) > limits.files:
            raise refused(f"It lists more than {limits.files} files.", archive)
        if member.kind not in ("file", "folder"):
            raise refused(f"{member.name!r} is {member.kind}.", archive)
        if total > most:
            raise refused(
                f"It unpacks to over {most / 1e6:,.0f} MB, far more than its size explains (a bomb).", archive
            )
    return kept


def _named_well(listed: list[Member], archive: Path) -> list[Member]:
    """The members with clean relative names, or the first reason to refuse the archive by its names."""
    kept, spelled, files = [], {}, set()
    for member in listed:
        parts = _clean_parts(member.name, archive)
        path = ""
        for depth, part in enumerate(parts, 1):
            path = f"{path}/{part}" if path else part
            key = unicodedata.normalize("NFC", path).casefold()
            if spelled.setdefault(key, path) != path:
                raise refused(f"{path!r} and {spelled[key]!r} are the same name on many systems.", archive)
            if key in files:
                raise refused(f"{path!r} is in it twice.", archive)
            if member.kind == "file" and depth == len(parts):
                files.add(key)
        if parts:
            kept.append(replace(member, name=path))
    folders = {str(parent) for member in kept for parent in PurePosixPath(member.name).parents}
    folders |= {member.name for member in kept if member.kind == "folder"}
    for member in kept:
        if member.kind == "file" and member.name in folders:
            raise refused(f"{member.name!r} is both a file and a folder.", archive)
    return kept


def _clean_parts(name: str, archive: Path) -> list[str]:
    """The parts of a relative name; old Windows programs write backslashes."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:2] == ":":
        raise refused(f"{name!r} is an absolute path.", archive)
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refused(f"{name!r} leads out of the folder.", archive)
    if "\0" in name:
        raise refused(f"{name!r} has a zero byte in its name.", archive)
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(parts) > 50:
        raise refused(f"The name {name[:40]!r}... is too long.", archive)
    return parts


def check_room(needed: int, folder: Path) -> None:
    """Refuse to begin what would not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"This needs {needed / 1e6:,.0f} MB more; {free / 1e6:,.0f} MB are free."
        raise VggnbError(what, folder, "Free some space or choose another folder.")


def _write(accepted: list[Member], opened, folder: Path, progress: bool) -> None:
    """Write all members below a new folder."""
    from tqdm.auto import tqdm

    total = sum(member.size for member in accepted)
    with storage_errors(folder), tqdm(total=total, unit="B", unit_scale=True, disable=not progress) as bar:
        bar.set_description("unpacking")
        folder.mkdir(parents=True)
        for member in accepted:
            path = folder / member.name
            (path if member.kind == "folder" else path.parent).mkdir(parents=True, exist_ok=True)
            if member.kind == "file":
                with open(path, "xb") as file, _reader(opened, member) as reader:
                    _copy(reader, file, member, bar)


def _copy(reader, file, member: Member, bar) -> None:
    """Copy exactly as many bytes as the header told."""
    left = member.size
    while left:
        piece = reader.read(min(PIECE, left))
        if not piece:
            raise EOFError(f"{member.name!r} is cut short")
        file.write(piece)
        left -= len(piece)
        bar.update(len(piece))
    if isinstance(reader, zipfile.ZipExtFile):
        reader.read(1)  # reaching its end makes zipfile compare the checksum


@contextlib.contextmanager
def _reader(opened, member: Member):
    """The bytes of one member."""
    if isinstance(opened, zipfile.ZipFile):
        with opened.open(member.handle) as reader:
            yield reader
    else:
        opened.seek(member.handle)
        yield opened
