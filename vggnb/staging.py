"""A dataset on Google Drive or in an archive -> a folder on the fast local disk, under the files' own names.

A copied file has the size and the date of its source: that is how a later call knows what is done.
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from vggnb import paths
from vggnb.archives import MAX_FILES, TABLES, check_unpacked, is_archive, no_archive, unpack
from vggnb.folders import counted, is_system, read_ahead, shown, walk
from vggnb.machine import tqdm
from vggnb.storage import (
    GONE,
    TEMPORARY_PREFIX,
    VggnbError,
    check_outside,
    is_alive,
    make_folder,
    mendable,
    read_json,
    sha256_bytes,
    storage_errors,
    temporary_of,
    write_json,
)  # fmt: skip

ABOUT = ".vggnb-copy.json"  # beside the copy: where it comes from, and which names differ
AT_ONCE = 8  # files under way; Drive answers slowly, but several at a time
SHOWN = 5  # names in a message
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the second to the sixth attempt: Drive fails now and then
_TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY}


def stage_if_remote(
    dataset: Path, folder: Path, *, max_files: int = MAX_FILES, known: bool = False, progress: bool = True
) -> Path:
    """The dataset where reading is fast: itself, or its local copy if it is an archive or lies on Google Drive.

    Files keep their names and folders; system files are left out. The source is only read. A copy that was interrupted
    is continued. Of a table (.csv, .tsv), the folder that holds it is copied.

    Args:
        dataset: a folder, a .zip or .tar, a folder that holds nothing but one of these, or a table.
        folder: for copies, on the local disk; each dataset gets a folder of its own in it.
        max_files: most files that an archive may hold.
        known: whether a census from an earlier runtime exists. If so, files on Drive are not copied but linked, and
            read when needed.

    Raises:
        VggnbError: files could not be read, the archive is refused, or there is no room.
    """
    dataset = Path(os.path.abspath(dataset))
    with storage_errors(dataset):
        if not dataset.exists():
            return dataset  # who reads it says so
        is_table = dataset.suffix.lower() in TABLES and not dataset.is_dir()
        source = dataset.parent if is_table else dataset
        if archive := None if is_table else archive_in(dataset):
            status = archive.stat()  # unpacked once, unless it changes
            version, name = f" {status.st_size} {status.st_mtime_ns}", re.sub(r"(\.tar)?\.\w+$", "", archive.name)
        else:
            if not is_table:
                check_unpacked(dataset, dataset)
            if not dataset.is_relative_to(paths.CONTENT / "drive"):
                return dataset
            version, name = "", source.name
        key = sha256_bytes(os.fsencode(archive or source) + version.encode())[:8]
        target = Path(os.path.abspath(folder)) / key / name
        check_outside(target, archive or source, "The copy of the dataset", "VGGNB_HOME")
        if not (archive and target.is_dir()):
            write_json(make_folder(target.parent) / ABOUT, about := {"source": str(source)})
            if not archive:
                _copy_folder(source, target, known, progress)
            elif renamed := with_retries(lambda: unpack(archive, target, max_files=max_files, progress=progress)):
                write_json(target.parent / ABOUT, about | {"renamed": renamed})
                first = ", ".join(f"{shown(old)} -> {shown(new)}" for new, old in list(renamed.items())[:SHOWN])
                print(f"{counted(len(renamed), 'name')} changed in the copy (all in {target.parent / ABOUT}): {first}")
        if archive:
            check_unpacked(target, dataset)
        return target / dataset.name if is_table else target


def check_apart(path: Path, dataset: Path, what: str, option: str) -> None:
    """`storage.check_outside` for a dataset and, if it is a copy, for the dataset that was copied."""
    for folder in filter(None, (dataset, _source_of(dataset))):
        check_outside(path, folder, what, option)


def name_source(error: VggnbError, dataset: Path) -> VggnbError:
    """The error; where it names a copy, it names what was copied, since that is what users can fix."""
    folder = dataset if Path(dataset).is_dir() else Path(dataset).parent
    source = _source_of(folder)
    return VggnbError(error.what, error.where.replace(str(folder), str(source or folder)), error.remedy)


def _source_of(copy: Path) -> Path | None:
    """What a folder is a copy of; None if it is none."""
    with contextlib.suppress(VggnbError, KeyError, TypeError):
        return Path(read_json(Path(copy).parent / ABOUT)["source"])
    return None


def with_retries(call: Callable, *args):
    """`call(*args)`, tried again after a pause where the storage did not answer; the last error is raised."""
    for pause in PAUSES:
        try:
            return call(*args)
        except (OSError, VggnbError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if getattr(cause, "errno", None) not in _TRANSIENT:
                raise
        time.sleep(pause)
    return call(*args)


def archive_in(dataset: Path) -> Path | None:
    """The archive that the dataset is or, alone but for empty folders, holds."""
    if not dataset.is_dir():
        if is_archive(dataset):
            return dataset
        raise no_archive(dataset)
    inside = [path for path in dataset.iterdir() if not is_system(path.name)]
    inside = [path for path in inside if not path.is_dir() or any(path.iterdir())]  # those of `make_project_folders`
    return inside[0] if len(inside) == 1 and inside[0].is_file() and is_archive(inside[0]) else None


def _copy_folder(source: Path, target: Path, known: bool, progress: bool) -> None:
    """Make `target` hold what `source` holds now."""
    tree, strays, _ = with_retries(walk, source)
    folders, files = [folder.path for folder in tree.all_folders()], sorted(tree.all_files())
    keep = {target / path: True for path in folders} | {target / path: False for path in files}  # is it a folder?
    for path in sorted(target.rglob("*"), reverse=True):  # of an earlier state of the source, or of a killed call
        is_folder = path.is_dir()
        in_use = (pid := temporary_of(path.name)) and is_alive(pid)  # another process is copying it now
        if keep.get(path) is not is_folder and not in_use:
            path.rmdir() if is_folder else path.unlink(missing_ok=True)
    if progress and not known and not target.is_dir():
        print(f"Copying {counted(len(files), 'file')} from Google Drive to this machine's disk, once:")
    for path in folders:
        (target / path).mkdir(parents=True, exist_ok=True)

    def transfer(path: str) -> OSError | None:
        """Copy or link one file; gives the error that was in the way."""
        try:
            with_retries(_link if known else _copy, source / path, target / path)
        except OSError as error:
            return error

    bar = tqdm(files, "linking" if known else "copying", unit=" files", disable=not progress)
    failed = []
    for path, error in zip(bar, read_ahead(transfer, files, workers=AT_ONCE), strict=True):
        if error and error.errno in GONE:
            raise mendable(error, source) from error
        if error and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise mendable(error, target) from error
        if error:
            failed.append(f"{shown(path)} ({error.strerror})")
    if failed:
        what = f"{len(failed)} of {counted(len(files), 'file')} could not be copied: {', '.join(failed[:SHOWN])}."
        remedy = "Run this again; files already copied are kept. If it still fails, upload the named files to Drive "
        raise VggnbError(what, source, f"{remedy}again.")
    for stray in strays[:SHOWN]:
        print(f"Not copied: {stray}")


def _copy(source: Path, target: Path) -> None:
    """Copy one file under a temporary name, which then becomes its own."""
    status = os.stat(source)
    if _is_done(target, status):
        return
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{sha256_bytes(os.fsencode(target.name))[:16]}")
    try:
        with open(source, "rb") as reader, open(temporary, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
        if os.stat(temporary).st_size != status.st_size:
            raise OSError(errno.EBUSY, "it changed while it was copied")
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(temporary, target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _link(source: Path, target: Path) -> None:
    """Link to a file that was not copied before."""
    if not target.is_symlink() and not _is_done(target, os.stat(source)):
        target.unlink(missing_ok=True)
        target.symlink_to(source)


def _is_done(target: Path, source: os.stat_result) -> bool:
    with contextlib.suppress(FileNotFoundError):
        done = os.lstat(target)
        return (done.st_size, done.st_mtime_ns) == (source.st_size, source.st_mtime_ns)
    return False
