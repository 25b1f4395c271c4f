"""What users give as a dataset, and what to do if it is not one."""

import os
import re
from pathlib import Path

from vggnb.folders import counted, is_named_like_an_image, is_system, shown
from vggnb.storage import VggnbError, storage_errors

TABLES = (".csv", ".tsv")  # these are for the census
_STARTS = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz",
    b"Rar!": "RAR", b"7z\xbc\xaf": "7z", b"\x28\xb5\x2f\xfd": "zstd", b"MSCF": "CAB", b"version https://git-lfs": "lfs",
}  # fmt: skip
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers", ".gsheet")
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
_REFUSED = {
    "empty": ("The file is empty (0 bytes).", "Download or copy it again."),
    "part": (
        "It is one part of an archive in several parts.",
        "Unpack all parts together (7-Zip, The Unarchiver), and name the folder.",
    ),
    "spreadsheet": (
        "It is a spreadsheet.",
        "Save it as CSV UTF-8 (columns path,label[,split][,group]) beside the images, and name that file.",
    ),
    **dict.fromkeys(("RAR", "7z", "zstd", "CAB"), _UNPACK),
    "html": (
        "It is a web page, not a dataset.",
        "The download was refused or asks for a confirmation: open its address in a browser and download it again.",
    ),
    "lfs": ("It is a pointer of Git LFS, not the file itself.", "Run `git lfs pull` in its repository."),
    "image": ("It is a single image.", _FOLDER),
}


def archive_kind(path: Path) -> str:
    """What a file is by its first bytes: zip, tar, gzip, bzip2, xz, something that is not unpacked here, or ""."""
    path = Path(path)
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
    if _ending(path) in (*SPREADSHEETS, *_OTHERS) or _is_part(Path(path)):
        return False
    return archive_kind(path) in ("zip", "tar", "gzip", "bzip2", "xz")


def no_archive(path: Path) -> VggnbError:
    """The error for a file that is neither an archive nor a table: what it is, and what to do."""
    kind, ending = archive_kind(path), _ending(path)
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


def _ending(path: Path) -> str:
    return Path(path).suffix.lower()


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
