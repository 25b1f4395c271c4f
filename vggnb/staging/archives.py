"""Unpack a .zip or .tar from an untrusted source: regular files only, all of them or nothing.

`zipfile` and `tarfile` read and write; here are the limits. What is unpacked goes to a temporary neighbour that takes
the target's name by one rename.
"""

import contextlib
import errno
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from vggnb.folders import counted, is_system, shown
from vggnb.staging.disk import GONE, Names
from vggnb.staging.kinds import archive_kind, is_archive, no_archive
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, is_alive, make_folder, mendable

MAX_FILES = 100_000  # those of operating systems do not count
MAX_BYTES = 50_000_000_000
MAX_RATIO = 100  # unpacked bytes for a packed one; images hardly pack at all
SMALL = 50_000_000  # below this many unpacked bytes the ratio does not matter
_DAMAGES = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, OverflowError, IndexError,
)  # fmt: skip
Member = tuple[str, str, Callable[[str], object]]  # name; "file", "folder" or what else it is; writes it under a name


def unpack(archive: Path, target: Path, *, max_files: int = MAX_FILES, progress: bool = True) -> dict[str, str]:
    """Unpack an archive into the new folder `target`, without files of operating systems (`__MACOSX`, `Thumbs.db`).

    Returns:
        Path in `target` -> path in the archive, where a name had to be changed.

    Raises:
        VggnbError: it is no such archive or damaged, it holds links or paths that lead out of the folder, it is over a
            limit, there is no room, or `target` exists. Nothing of it is left then.
    """
    from vggnb.progress import tqdm

    archive, target = Path(archive), Path(target)
    if os.path.lexists(target):
        raise VggnbError("The folder to unpack into exists already.", target, "Remove it or name another.")
    if not is_archive(archive):
        raise no_archive(archive)
    for left in target.parent.glob(f"{TEMPORARY_PREFIX}*-{target.name}"):  # of calls that were killed
        if not is_alive(int(left.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    try:
        names, written = Names(make_folder(temporary)), archive.stat().st_mtime_ns
        members = (_zip_members if archive_kind(archive) == "zip" else _tar_members)(archive, temporary)
        with _errors(archive, target), tqdm(desc="unpacking", unit=" files", disable=not progress) as bar:
            for name, kind, extract in _checked(members, archive, max_files):
                extract(place := names.place(name, is_folder=kind == "folder"))
                if kind == "file":
                    os.utime(temporary / place, ns=(written, written))  # the same each time: a census knows them again
                    bar.update()
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():  # another process has unpacked the same meanwhile
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names.renamed


@contextlib.contextmanager
def _errors(archive: Path, target: Path) -> Iterator[None]:
    """Turn what the decoders and the disk raise into one sentence."""
    try:
        yield
    except RuntimeError as error:  # a password, or Windows' Deflate64
        raise _refused(f"{error}.", archive) from error
    except (OSError, *_DAMAGES) as error:
        number = getattr(error, "errno", None)
        if number is not None:
            raise mendable(error, archive if number in {*GONE, errno.EIO} else target) from error
        raise VggnbError(f"The archive is damaged ({error}).", archive, "Download or copy it again.") from error


def _refused(what: str, archive: Path) -> VggnbError:
    remedy = "If you trust it, unpack it with another program, look at what is inside, and name the folder."
    return VggnbError(f"The archive is refused: {what}", archive, remedy)


def _checked(members: Iterator[Member], archive: Path, max_files: int) -> Iterator[Member]:
    """The user's files and folders under plain relative names, or the first reason to refuse the archive."""
    count = 0
    for name, kind, extract in members:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or name[1:2] == ":" or ".." in parts:
            raise _refused(f"{name[:80]!r} leads out of the folder.", archive)
        if not parts or any(map(is_system, parts)):
            continue
        if kind not in ("file", "folder"):
            raise _refused(f"{name!r} is {kind}.", archive)
        count += kind == "file"
        if count > max_files:
            remedy = "If you trust it, allow more (--max-archive-files N, max_files=N), or unpack it yourself."
            raise VggnbError(f"The archive holds more than {max_files:,} files.", archive, remedy)
        yield "/".join(parts), kind, extract


def _check_bytes(unpacked: int, archive: Path) -> None:
    """Refuse an archive that unpacks to far more than images do."""
    most = min(MAX_BYTES, max(SMALL, MAX_RATIO * archive.stat().st_size))
    if unpacked > most:
        raise _refused(f"It unpacks to more than {most / 1e6:,.0f} MB, the limit for an archive of its size.", archive)


def _zip_members(archive: Path, folder: Path) -> Iterator[Member]:
    """Every entry of a zip, from its list of contents."""
    with zipfile.ZipFile(archive) as opened:
        _check_bytes(sum(info.file_size for info in opened.infolist()), archive)
        names = [_zip_name(info) for info in opened.infolist()]
        if unclear := [name for name, is_known in names if not is_known]:
            print(f"{counted(len(unclear), 'name')} in the archive may look wrong, such as {shown(unclear[0])}: the "
                  "archive does not say how they are encoded.")  # fmt: skip
        for info, (name, _) in zip(opened.infolist(), names, strict=True):

            def extract(target: str, info: zipfile.ZipInfo = info, end: str = "/" * name.endswith("/")) -> None:
                info.filename = target + end
                opened.extract(info, folder)

            file_type = stat.S_IFMT(info.external_attr >> 16) if info.create_system in (3, 19) else 0  # Unix, macOS
            kind = "folder" if name.endswith("/") else "file"
            yield name, kind if file_type in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device", extract


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """The name, and whether its encoding is known: UTF-8 where the bytes are, whatever the flag says, else CP437."""
    name, is_known = info.orig_filename, bool(info.flag_bits & 0x800)
    if not is_known:  # macOS writes UTF-8 and does not set the flag
        with contextlib.suppress(UnicodeError):
            name, is_known = name.encode("cp437").decode("utf-8"), True
    return name.replace("\\", "/"), is_known  # old Windows programs


def _tar_members(archive: Path, folder: Path) -> Iterator[Member]:
    """Every entry of a tar, one after the other; the bytes are read once, from front to back."""
    try:
        opened = tarfile.open(archive, "r:*")
    except tarfile.ReadError as error:
        if (kind := archive_kind(archive)) == "tar":
            raise
        remedy = "Name the folder of the images, or a .zip or .tar.gz of it."
        raise VggnbError(f"There is no tar in this {kind} file.", archive, remedy) from error
    with opened:
        while (info := opened.next()) is not None:
            _check_bytes(info.offset_data + info.size, archive)
            kind = (
                "folder" if info.isdir() else "file" if info.isreg() and not info.issparse() else "a link or a device"
            )

            def extract(target: str, info: tarfile.TarInfo = info) -> None:
                opened.extract(info.replace(name=target, deep=False), folder, filter="data")

            yield info.name, kind, extract
            opened.members.clear()  # else tarfile keeps every header
        while rest := opened.fileobj.read(1 << 20):  # at its end the decoder compares the checksum
            _check_bytes(opened.fileobj.tell(), archive)
            if rest.strip(b"\0"):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("a header is damaged")
