"""What a file is by its first bytes, and unpacking a .zip or .tar from an untrusted source.

`zipfile` and `tarfile` read; here are the limits: regular files only, all of them or nothing. What is unpacked goes to
a temporary neighbour that takes the target's name by one rename.
"""

import errno
import functools
import glob
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vggnb.folders import counted, is_named_like_an_image, is_system, shown
from vggnb.machine import tqdm
from vggnb.storage import (
    GONE,
    TEMPORARY_PREFIX,
    VggnbError,
    is_alive,
    make_folder,
    mendable,
    sha256_bytes,
    storage_errors,
    temporary_of,
)  # fmt: skip

MAX_FILES = 100_000  # those of operating systems do not count
MAX_BYTES = 50_000_000_000
MAX_RATIO = 100  # unpacked bytes for a packed one; images hardly pack at all
SMALL = 50_000_000  # below this many unpacked bytes the ratio does not matter
LONGEST = 255  # bytes of a name on every usual disk
TABLES = (".csv", ".tsv")  # these are for the census
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers", ".gsheet")
_STARTS = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz",
    b"Rar!": "RAR", b"7z\xbc\xaf": "7z", b"\x28\xb5\x2f\xfd": "zstd", b"MSCF": "CAB", b"version https://git-lfs": "lfs",
}  # fmt: skip
_OTHERS = {  # some of these are zip files inside
    ".docx": "a document", ".pptx": "a presentation", ".odt": "a document", ".pdf": "a document", ".epub": "a book",
    ".npz": "a NumPy file", ".npy": "a NumPy file", ".mat": "a Matlab file", ".h5": "an HDF5 file",
    ".parquet": "a Parquet table", ".tfrecord": "a TFRecord file", ".keras": "a Keras model", ".pt": "a PyTorch file",
    ".pth": "a PyTorch file", ".onnx": "an ONNX model", ".json": "a JSON file", ".txt": "a text file",
}  # fmt: skip
_PACKED = re.compile(r"\.(zip|rar|7z|tar|t[gbx]z2?|gz|bz2|xz|zst|z\d\d|r\d\d|\d{3})", re.IGNORECASE)
_PART = re.compile(r"\.(z\d\d|r\d\d|\d{3}|part\d+\.rar)$", re.IGNORECASE)
_PAPERS = (".txt", ".md", ".pdf", ".html", ".json", ".xml", ".yaml", ".yml", *TABLES, *SPREADSHEETS)
_FOLDER = "Name the folder that holds one folder of images for each class, a .zip or .tar of it, or a .csv table."
_UNPACK = ("It is a {} file, which is not unpacked here.", "Unpack it, or pack the folder as .zip or .tar.gz.")
_REFUSED = {  # kind -> what is the matter, what to do
    **dict.fromkeys(("RAR", "7z", "zstd", "CAB"), _UNPACK),
    "empty": ("The file is empty (0 bytes).", "Download or copy it again."),
    "html": ("It is a web page, not a dataset.",
             "The server sent a web page instead of the file. Open the address in a browser and download the file "
             "there."),
    "image": ("It is a single image.", _FOLDER),
    "lfs": ("It is a Git LFS pointer, not the file itself.", "Run `git lfs pull` in its repository."),
    "part": ("It is one part of a multi-part archive.",
             "Unpack all parts together (7-Zip, The Unarchiver), and name the folder."),
    "spreadsheet": ("It is a spreadsheet.",
                    "Save it as CSV UTF-8 (columns path,label[,split][,group]) beside the images, and name that file."),
}  # fmt: skip
_DAMAGES = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, OverflowError, IndexError,
)  # fmt: skip
Member = tuple[str, str, Callable[[], BinaryIO]]  # name; "file", "folder" or what else it is; opens it


def archive_kind(path: Path) -> str:
    """What a file is by its first bytes: zip, tar, gzip, bzip2, xz, something that is not unpacked here, or ""."""
    if path.exists() and not path.is_file() and not path.is_dir():  # reading from a pipe could wait for ever
        raise VggnbError("This is not a regular file (a pipe, a socket or a device).", path, _FOLDER)
    with storage_errors(path), open(path, "rb") as file:
        head = file.read(512)
    if head[257:262] == b"ustar":
        return "tar"
    if re.match(rb"\s*<(!doctype )?html", head, re.IGNORECASE):
        return "html"
    return next((kind for start, kind in _STARTS.items() if head.startswith(start)), "")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar (plain, .gz, .bz2, .xz) by its first bytes, and no office file or model."""
    if path.suffix.lower() in (*SPREADSHEETS, *_OTHERS) or _is_part(path):
        return False
    return archive_kind(path) in ("zip", "tar", "gzip", "bzip2", "xz")


def no_archive(path: Path) -> VggnbError:
    """The error for a file that is neither an archive nor a table: what it is, and what to do."""
    kind, ending = archive_kind(path), path.suffix.lower()
    if path.stat().st_size == 0:
        kind = "empty"
    elif _is_part(path):
        kind = "part"
    elif ending in SPREADSHEETS:
        kind = "spreadsheet"
    elif is_named_like_an_image(path.name) and kind not in _REFUSED:
        kind = "image"
    other = f"It is {_OTHERS.get(ending, 'an unknown kind of file')}, not a folder of images."
    what, remedy = _REFUSED.get(kind, (other, _FOLDER))
    return VggnbError(what.format(kind), path, remedy)


def _is_part(path: Path) -> bool:
    """Whether it is one of an archive's parts: set.zip.001, set.part1.rar, or set.zip beside set.z01."""
    return bool(_PART.search(path.name)) or path.with_suffix(".z01").exists()


def check_unpacked(folder: Path, dataset: Path) -> None:
    """Refuse a folder in which nothing lies but archives, texts and tables; the first other file ends the search.

    Args:
        dataset: what the error names: the folder, or the archive that was unpacked to it.
    """
    archives, is_empty = [], True
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_system(name)]
        for name in (name for name in names if not is_system(name)):
            is_empty = False
            if _PACKED.fullmatch(Path(name).suffix):
                archives.append(shown(os.path.relpath(os.path.join(place, name), folder)))
            elif not name.lower().endswith(_PAPERS):
                return
    if archives:
        first = ", ".join(sorted(archives)[:5]) + ", ..." * (len(archives) > 5)
        what = f"It holds {counted(len(archives), 'archive')} ({first}) and no images."
        raise VggnbError(what, dataset, "Unpack all of them into one folder, and name that folder.")
    if is_empty and folder != dataset:
        raise VggnbError("The archive holds no files.", dataset, "Pack one folder of images for each class into it.")


def unpack(archive: Path, target: Path, *, max_files: int = MAX_FILES, progress: bool = True) -> dict[str, str]:
    """Unpack an archive into the new folder `target`, without files of operating systems (`__MACOSX`, `Thumbs.db`).

    Returns:
        Path in `target` -> path in the archive, where a name had to be changed.

    Raises:
        VggnbError: it is no such archive or damaged, it holds links or paths that lead out of the folder, it is over a
            limit, there is no room, or `target` exists. Nothing of it is left then.
    """
    archive, target = Path(archive), Path(target)
    if os.path.lexists(target):
        raise VggnbError("The folder to unpack into exists already.", target, "Remove it or name another.")
    if not is_archive(archive):
        raise no_archive(archive)
    for left in target.parent.glob(f"{TEMPORARY_PREFIX}*-{glob.escape(target.name)}"):  # of calls that were killed
        if (pid := temporary_of(left.name)) and not is_alive(pid):
            shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    members = _zip_members if archive_kind(archive) == "zip" else _tar_members
    try:
        names, written = _Names(make_folder(temporary)), archive.stat().st_mtime_ns
        with tqdm(desc="unpacking", unit=" files", disable=not progress) as bar:
            for name, kind, opened in _checked(members(archive), archive, max_files):
                place = temporary / names.place(name, is_folder=kind == "folder")
                if kind == "file":
                    with opened() as reader, open(place, "xb") as writer:
                        shutil.copyfileobj(reader, writer)
                    os.utime(place, ns=(written, written))  # the same each time: a census knows them again
                    bar.update()
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():  # else another process has unpacked the same meanwhile
                raise
    except RuntimeError as error:  # a password, or Windows' Deflate64
        if "password" in str(error):
            remedy = "Unpack it with its password, and name the folder."
            raise VggnbError("The archive is protected by a password.", archive, remedy) from error
        raise _refused(f"{error}.", archive) from error
    except (OSError, *_DAMAGES) as error:
        number = getattr(error, "errno", None)
        if number is not None:
            raise mendable(error, archive if number in {*GONE, errno.EIO} else target) from error
        raise VggnbError(f"The archive is damaged ({error}).", archive, "Download or copy it again.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names.renamed


def _refused(what: str, archive: Path) -> VggnbError:
    remedy = "If you trust it, unpack it with another program, look at what is inside, and name the folder."
    return VggnbError(f"The archive is refused: {what}", archive, remedy)


def _checked(members: Iterator[Member], archive: Path, max_files: int) -> Iterator[Member]:
    """The user's files and folders under plain relative names, or the first reason to refuse the archive."""
    count = 0
    for name, kind, opened in members:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts:
            raise _refused(f"{name[:80]!r} leads out of the folder.", archive)
        if not parts or any(map(is_system, parts)):
            continue
        if kind not in ("file", "folder"):
            raise _refused(f"{name!r} is {kind}.", archive)
        count += kind == "file"
        if count > max_files:
            remedy = "If you trust it, allow more (--max-archive-files N, max_files=N), or unpack it yourself."
            raise VggnbError(f"The archive holds more than {max_files:,} files.", archive, remedy)
        yield "/".join(parts), kind, opened


def _check_bytes(unpacked: int, archive: Path) -> None:
    """Refuse an archive that unpacks to far more than images do."""
    most = min(MAX_BYTES, max(SMALL, MAX_RATIO * archive.stat().st_size))
    if unpacked > most:
        raise _refused(f"it unpacks to more than {most / 1e6:,.0f} MB, the limit for an archive of its size.", archive)


def _zip_members(archive: Path) -> Iterator[Member]:
    """Every entry of a zip, from its list of contents."""
    unclear = []
    with zipfile.ZipFile(archive) as opened:
        _check_bytes(sum(info.file_size for info in opened.infolist()), archive)
        for info in opened.infolist():
            name = info.orig_filename.replace("\\", "/")  # old Windows programs
            if not info.flag_bits & 0x800:  # not marked as UTF-8: it still is from macOS; old programs wrote CP437
                try:
                    name = name.encode("cp437").decode("utf-8")
                except UnicodeError:
                    unclear.append(name)
            file_type = stat.S_IFMT(info.external_attr >> 16) if info.create_system in (3, 19) else 0  # Unix, macOS
            kind = "folder" if name.endswith("/") else "file"
            is_plain = file_type in (0, stat.S_IFREG, stat.S_IFDIR)
            yield name, kind if is_plain else "a link or a device", functools.partial(opened.open, info)
    if unclear:
        first = f"{counted(len(unclear), 'name')} in the archive may look wrong (for example {shown(unclear[0])})"
        print(f"{first}, because the archive does not state their encoding.")


def _tar_members(archive: Path) -> Iterator[Member]:
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
            kind = "file" if info.isreg() and not info.issparse() else "a link or a device"
            yield info.name, "folder" if info.isdir() else kind, functools.partial(opened.extractfile, info)
            opened.members.clear()  # else tarfile keeps every header
        while rest := opened.fileobj.read(1 << 20):  # at its end the decoder compares the checksum
            _check_bytes(opened.fileobj.tell(), archive)
            if rest.strip(b"\0"):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("a header is damaged")


class _Names:
    """Makes the folders of an archive in `root`, and gives its files paths there, under their own names if possible.

    What is there already belongs to another path of the archive, also on a disk that does not tell Cat from cat.

    Attributes:
        renamed: path in `root` -> path in the archive, where the two differ.
    """

    def __init__(self, root: Path):
        self.root, self.folders, self.renamed = root, {"": ""}, {}

    def place(self, source: str, *, is_folder: bool = False) -> str:
        if is_folder and source in self.folders:
            return self.folders[source]
        parent, _, name = source.rpartition("/")
        within, plain = PurePosixPath(self.place(parent, is_folder=True)), PurePosixPath(_writable(name))
        target, attempt = str(within / plain), 0
        while os.path.lexists(self.root / target):
            mark = sha256_bytes(f"{source}\n{attempt}".encode("utf-8", "surrogateescape"))[:6]
            target, attempt = str(within / f"{plain.stem}~{mark}{plain.suffix}"), attempt + 1
        if is_folder:
            (self.root / target).mkdir()
            self.folders[source] = target
        if target != str(within / name):
            self.renamed[target] = source
        return target


def _writable(name: str) -> str:
    """The name: bytes that are not UTF-8 are read as old Windows programs wrote them, and a long one is cut."""
    data = name.encode("utf-8", "surrogateescape")
    try:
        kept = data.decode("utf-8")
    except UnicodeDecodeError:
        kept = data.decode("cp1252", "replace")
    ending = PurePosixPath(kept).suffix[:10]
    return kept if len(kept.encode()) <= LONGEST else kept.encode()[:200].decode("utf-8", "ignore") + ending
