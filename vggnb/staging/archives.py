"""Unpack a .zip or .tar that a stranger made: regular files only, all of them or nothing.

`zipfile` and `tarfile` read and write; here stand the limits. What is unpacked goes to a temporary neighbour that takes
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
from vggnb.staging.kinds import archive_kind, is_archive, no_archive
from vggnb.staging.names import Names
from vggnb.staging.reading import GONE
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, is_alive, make_folder, mendable

MAX_FILES = 100_000  # those of operating systems do not count
MAX_BYTES = 50_000_000_000
MAX_RATIO = 100  # unpacked bytes for a packed one; images hardly pack at all
SMALL = 50_000_000  # below this many unpacked bytes the ratio does not matter
LONGEST_HEADER = 1 << 20  # of an extended tar header; a name is shorter
_DAMAGES = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, RuntimeError, OverflowError, IndexError,
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
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    _remove_abandoned(target)
    try:
        make_folder(temporary)
        names = Names(temporary)
        members = (_zip_members if archive_kind(archive) == "zip" else _tar_members)(archive, temporary)
        with _errors(archive, target), tqdm(desc="unpacking", unit=" files", disable=not progress) as bar:
            for name, kind, extract in _checked(members, archive, max_files):
                extract(names.place(name, is_folder=kind == "folder"))
                bar.update(kind == "file")
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():  # another process has unpacked the same meanwhile
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names.renamed


def _remove_abandoned(target: Path) -> None:
    """Remove what calls for this target had unpacked when their process was killed."""
    for left in target.parent.glob(f"{TEMPORARY_PREFIX}*-{target.name}"):
        pid = left.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
        if pid.isdigit() and not is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _errors(archive: Path, target: Path) -> Iterator[None]:
    """Turn what the decoders and the disk raise into one sentence."""
    try:
        yield
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
        if name.startswith("/") or name[1:2] == ":":
            raise _refused(f"{name[:80]!r} is an absolute path.", archive)
        if ".." in parts:
            raise _refused(f"{name[:80]!r} leads out of the folder.", archive)
        if "\0" in name:
            raise _refused(f"{name[:80]!r} has a zero byte in its name.", archive)
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
        total, free = sum(info.file_size for info in opened.infolist()), shutil.disk_usage(folder).free
        _check_bytes(total, archive)
        if total > free:
            what = f"{total / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free."
            raise VggnbError(what, folder.parent, "Free some space or choose another folder (VGGNB_HOME).")
        names = [_zip_name(info) for info in opened.infolist()]
        if unclear := [name for name, is_known in names if not is_known]:
            print(f"{counted(len(unclear), 'name')} in the archive may look wrong, such as {shown(unclear[0])}: the "
                  "archive does not say how they are encoded.")  # fmt: skip
        for info, (name, _) in zip(opened.infolist(), names, strict=True):

            def extract(target: str, info: zipfile.ZipInfo = info, end: str = "/" * name.endswith("/")) -> None:
                info.filename = target + end
                opened.extract(info, folder)

            yield name, _zip_kind(info, name), extract


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """The name, and whether its encoding is known: UTF-8 where the bytes are, whatever the flag says, else CP437."""
    name, is_known = info.orig_filename, bool(info.flag_bits & 0x800)
    if not is_known:  # macOS writes UTF-8 and does not set the flag
        with contextlib.suppress(UnicodeError):
            name, is_known = name.encode("cp437").decode("utf-8"), True
    return name.replace("\\", "/"), is_known  # old Windows programs


def _zip_kind(info: zipfile.ZipInfo, name: str) -> str:
    file_type = stat.S_IFMT(info.external_attr >> 16) if info.create_system in (3, 19) else 0  # Unix, macOS
    if info.flag_bits & 0x1:
        return "protected by a password"
    if file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if file_type == stat.S_IFLNK else "a device or a pipe"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return f"compressed by a method that Python does not read ({info.compress_type}; 9 is Deflate64 of Windows)"
    return "folder" if name.endswith("/") else "file"


class _Header(tarfile.TarInfo):
    """A header that is damaged raises; tarfile alone takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf, encoding, errors) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"cut short, or a header is damaged: {error}") from error
        if header.type in b"xgXLK" and header.size > LONGEST_HEADER:
            raise ValueError("a header in it is absurdly long")
        return header


def _tar_members(archive: Path, folder: Path) -> Iterator[Member]:
    """Every entry of a tar, one after the other; the bytes are read once, from front to back."""
    try:
        opened = tarfile.open(archive, "r:*", tarinfo=_Header)
    except tarfile.ReadError as error:
        if (kind := archive_kind(archive)) == "tar":
            raise
        remedy = "Name the folder of the images, or a .zip or .tar.gz of it."
        raise VggnbError(f"There is no tar in this {kind} file.", archive, remedy) from error
    with opened:
        while (info := opened.next()) is not None:
            _check_bytes(info.offset_data + info.size, archive)
            is_file = info.isreg() and not info.issparse()
            kind = "folder" if info.isdir() else "file" if is_file else "a link, a device or a sparse file"

            def extract(target: str, info: tarfile.TarInfo = info) -> None:
                opened.extract(info.replace(name=target, deep=False), folder, filter="data")

            yield info.name, kind, extract
            opened.members.clear()  # else tarfile keeps every header
        while opened.fileobj.read(1 << 20):  # at its end the decoder compares the checksum
            _check_bytes(opened.fileobj.tell(), archive)
