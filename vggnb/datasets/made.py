"""A dataset that a program draws: made once, and found again by whoever wants the same."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from vggnb.storage import TEMPORARY_PREFIX, VggnbError, make_folder, read_json, storage_errors, write_json

NOTE = ".vggnb-made.json"  # hidden: a census counts it as a system file


def made_once(folder: Path, about: dict, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills; a second call with the same `about` finds it there, another one replaces it.

    Raises:
        VggnbError: the folder holds something else, or cannot be written to.
    """
    folder = Path(folder)
    with contextlib.suppress(VggnbError):
        if read_json(folder / NOTE) == about:
            return folder

    def make_and_note(new: Path) -> None:
        make(new)
        write_json(new / NOTE, about)

    return made_anew(folder, make_and_note, mark=NOTE)


def made_anew(folder: Path, make: Callable[[Path], None], *, mark: str) -> Path:
    """The folder that `make` fills, in place of an earlier one, which is known by the file `mark` in it.

    Raises:
        VggnbError: see `made_once`.
    """
    folder = Path(folder).absolute()
    with storage_errors(folder):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
            raise VggnbError("The folder holds something else.", folder, "Name a folder that does not exist yet.")
        new = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}")
        shutil.rmtree(new, ignore_errors=True)  # what a killed call left
        try:
            make(make_folder(new))
            if folder.is_dir():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder
