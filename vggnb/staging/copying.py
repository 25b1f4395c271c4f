"""Bring a dataset to the fast local disk: one archive copied and unpacked, or a copy that resumes and is verified.

Everything is made in `<target>.partial`, which a later call goes on with, and takes the target's name at the end: the
target is complete or absent. A staged file is named by the SHA-256 of its bytes, so a damaged one gives itself away.
"""

import os
import shutil
from pathlib import Path, PurePosixPath

from vggnb import paths
from vggnb.folders import shown, walk
from vggnb.images import MAX_BYTES
from vggnb.staging.archives import check_room, extract, is_archive
from vggnb.staging.reading import GONE, SourceFile, read_ahead, read_patiently
from vggnb.staging.staged import LIST, Staged, is_complete, translate_tables, whole_rows, write_list
from vggnb.staging.strip import strip_metadata
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, make_folder, mendable, sha256_bytes, storage_errors

_BLOCK = 16_000_000  # of an archive being copied
_PNG = b"\x89PNG"


def stage(source: Path, target: Path, *, progress: bool = True) -> Path:
    """Copy a dataset folder, or the one archive that it is or holds, to `target`, and give that.

    Class folders keep their names, files are named by their content, EXIF and GPS are left behind. A later call copies
    only what is missing, changed or damaged. The source is only read. Of a table (.csv), its folder is copied, and the
    table with the new names is what you get.

    Raises:
        VggnbError: the source is missing or went away, files could not be read, the archive is refused, no room.
    """
    source, target = Path(os.path.abspath(source)), Path(os.path.abspath(target))
    if source.suffix.lower() == ".csv":
        return stage(source.parent, target, progress=progress) / source.name
    with storage_errors(source):
        archive = _archive(source)
    with storage_errors(target):
        _check_places(source, target)
        work = target.with_name(target.name + ".partial")
        if archive is None:
            _sync(source, target, work, str(source), progress)
        else:
            _stage_archive(archive, target, work, progress)
        shutil.rmtree(work, ignore_errors=True)
    return target


def near_copy(dataset: Path, staged: Path, *, progress: bool = True) -> Path:
    """The dataset where reading is fast: itself, or its staged copy if it is an archive or lies on Google Drive.

    Args:
        staged: folder for staged copies, on the local disk; each dataset gets one of its own in it.
    """
    dataset = Path(os.path.abspath(dataset))
    on_drive = dataset.is_relative_to(paths.CONTENT / "drive")
    if not on_drive and (not dataset.exists() or dataset.suffix.lower() == ".csv" or _archive(dataset) is None):
        return dataset  # also one that is not there: who reads it says so
    name = f"{dataset.name.partition('.')[0][:40]}-{sha256_bytes(os.fsencode(dataset))[:8]}"
    return stage(dataset, Path(staged) / name, progress=progress)


def _archive(source: Path) -> Path | None:
    """The archive that the source is or, alone but for empty folders, holds."""
    if not os.path.lexists(source):
        remedy = "Check the name; on Colab, run the mount cell first."
        raise VggnbError("There is no such dataset to stage.", source, remedy)
    if not source.is_dir():
        if is_archive(source):
            return source
        raise VggnbError("It is neither a folder nor a .zip or .tar.", source, "Name the folder of the pictures.")
    inside = [path for path in source.iterdir() if not path.name.startswith(".")]
    inside = [path for path in inside if not path.is_dir() or any(path.iterdir())]  # those of `make_project_folders`
    return inside[0] if len(inside) == 1 and inside[0].is_file() and is_archive(inside[0]) else None


def _check_places(source: Path, target: Path) -> None:
    real_source, real_target = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if real_target.is_relative_to(real_source) or real_source.is_relative_to(real_target):
        remedy = "Choose a target outside the dataset, for example ws.staged."
        raise VggnbError("The dataset and its copy would lie in one another.", target, remedy)
    for folder in (target, target.with_name(target.name + ".partial") / "files"):
        if os.path.lexists(folder) and not _is_ours(folder):
            remedy = "Name a folder that does not exist yet."
            raise VggnbError("The target holds something that staging did not put there.", folder, remedy)


def _is_ours(folder: Path) -> bool:
    """Whether staging made this folder, or nobody has put anything into it."""
    if not folder.is_dir():
        return False
    return (folder / LIST).exists() or all(path.name.startswith(TEMPORARY_PREFIX) for path in folder.iterdir())


def _stage_archive(archive: Path, target: Path, work: Path, progress: bool) -> None:
    """Copy the archive, unpack the copy, and stage what was in it."""
    with storage_errors(archive):
        status = archive.stat()
    stamp = f"{status.st_size}-{status.st_mtime_ns}"
    origin = f"{archive} {stamp}"
    if is_complete(target, origin, None):
        return
    unpacked, copy = work / f"unpacked-{stamp}", work / f"archive-{stamp}"
    if not unpacked.exists():
        make_folder(work)
        _fetch(archive, status.st_size, copy, progress)
        try:
            extract(copy, unpacked, progress=progress)
        except VggnbError as error:
            if not isinstance(error.__cause__, OSError):  # not the disk's fault: next time it is copied anew
                shutil.rmtree(work, ignore_errors=True)
            raise VggnbError(error.what, archive, error.remedy) from error
        copy.unlink()
    _sync(unpacked, target, work, origin, progress)


def _fetch(archive: Path, size: int, copy: Path, progress: bool) -> None:
    """Copy an archive block by block, going on where a killed call stopped."""
    from tqdm.auto import tqdm

    done = copy.stat().st_size if copy.exists() else 0
    check_room(size - done, copy.parent)
    with (
        tqdm(total=size, initial=done, unit="B", unit_scale=True, desc="copying", disable=not progress) as bar,
        open(copy, "ab", buffering=0) as file,
    ):
        while done < size:
            try:
                block = read_patiently(archive, start=done, size=min(_BLOCK, size - done))
            except OSError as error:
                raise _interrupted(error, archive, f"{done / 1e6:,.0f} of {size / 1e6:,.0f} MB are") from error
            if not block:
                raise VggnbError("The archive became shorter while it was copied.", archive, "Run this again.")
            done += file.write(block)
            bar.update(done - bar.n)


def _sync(source: Path, target: Path, work: Path, origin: str, progress: bool) -> None:
    """Make `target` the staged copy of the folder `source`."""
    with storage_errors(source):
        tree, _, _ = walk(source)
        files = [_source_file(source, path) for path in sorted(tree.all_files())]
    files = _without_giants(files)
    if is_complete(target, origin, files):
        return
    folder, folders = work / "files", [inside.path for inside in tree.all_folders()]
    make_folder(work)
    if target.exists():  # what is good in it is kept
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(target, folder)
    make_folder(folder)
    rows = whole_rows(folder, origin, files)
    write_list(folder, origin, rows)
    for path in folders:
        (folder / path).mkdir(parents=True, exist_ok=True)
    _copy(source, folder, files, rows, progress)
    write_list(folder, origin, {file.path: rows[file.path] for file in files})
    _remove_others(folder, {row.staged for row in rows.values()}, set(folders))
    translate_tables(folder, rows)
    os.rename(folder, target)


def _source_file(root: Path, path: str) -> SourceFile:
    status = os.lstat(root / path)
    return SourceFile(path, status.st_size, status.st_mtime_ns)


def _without_giants(files: list[SourceFile]) -> list[SourceFile]:
    """Leave out, and name, files too long for any picture: videos among the photographs."""
    for file in files:
        if file.size > MAX_BYTES:
            print(f"Not staged: {shown(file.path)} has {file.size / 1e6:,.0f} MB, too much for a picture.")
    return [file for file in files if file.size <= MAX_BYTES]


def _copy(source: Path, folder: Path, files: list[SourceFile], rows: dict[str, Staged], progress: bool) -> None:
    """Copy what is missing, adding each file to `rows` and to the list as it arrives."""
    from tqdm.auto import tqdm

    missing = [file for file in files if file.path not in rows]
    total, taken, failed = sum(file.size for file in missing), {row.staged for row in rows.values()}, []
    check_room(total, folder)
    with (
        tqdm(total=total, unit="B", unit_scale=True, desc="staging", disable=not progress) as bar,
        open(folder / LIST, "ab", buffering=0) as list_file,
    ):
        for file, data in read_ahead(source, missing):
            if isinstance(data, OSError):
                if data.errno in GONE:
                    raise _interrupted(data, source, f"{len(rows)} of {len(files)} files are") from data
                failed.append(f"{shown(file.path)} ({data.strerror})")
            elif len(data) != file.size:
                failed.append(f"{shown(file.path)} (changed meanwhile)")
            else:
                row = _put(data, file, folder, taken)
                list_file.write(row.line())
                rows[file.path] = row
                bar.set_postfix_str(f"{len(rows)}/{len(files)} files", refresh=False)
                bar.update(file.size)
    if failed:
        what = f"{len(failed)} of {len(files)} files could not be read: {', '.join(failed[:5])}."
        raise VggnbError(what, source, "Run this again: what is staged is kept. If it persists, copy those files anew.")


def _put(data: bytes, file: SourceFile, folder: Path, taken: set[str]) -> Staged:
    """Write one file under the hash of its stripped bytes; a second of the same content gets a number."""
    stripped, path = strip_metadata(data), PurePosixPath(file.path)
    sha256, ending = sha256_bytes(stripped), path.suffix.lower()
    if stripped[:4] == _PNG != data[:4]:
        ending = ".png"
    elif not (ending[1:].isascii() and ending[1:].isalnum() and len(ending) <= 6):
        ending = ""
    staged, number = str(path.with_name(sha256 + ending)), 0
    while staged in taken:
        number += 1
        staged = str(path.with_name(f"{sha256}-{number}{ending}"))
    taken.add(staged)
    # Neither flushed nor renamed: the copy is not shown before it is complete, and its name tells whether it is whole.
    (folder / staged).write_bytes(stripped)
    return Staged(file.path, file.size, file.mtime_ns, staged, sha256)


def _remove_others(folder: Path, staged: set[str], folders: set[str]) -> None:
    """Remove what an earlier state of the source, or a kill, left in the copy."""
    keep = {folder / name for name in staged | folders} | {folder / LIST}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path not in keep:
            path.rmdir() if path.is_dir() else path.unlink()


def _interrupted(error: OSError, source: Path, said: str) -> VggnbError:
    """The mount died, or one long file cannot be read."""
    if error.errno not in GONE:
        told = mendable(error, source)
        return VggnbError(told.what, source, f"{told.remedy} {said} already staged and kept.")
    remedy = f"Run the mount cell again, then this cell; {said} already staged and kept."
    return VggnbError("Google Drive is disconnected.", source, remedy)
