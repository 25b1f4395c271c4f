"""A dataset that a program draws: made once, and found again by whoever asks for the same."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from vggnb.storage import VggnbError, read_json, replacing_folder, write_json

NOTE = ".vggnb-made.json"  # hidden: a census counts it as a system file


def made_once(folder: Path, about: dict, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills, with a note of what it was asked for; a second call for the same finds it there.

    A folder made from another wish is replaced as a whole. One that holds something else is left alone.

    Raises:
        VggnbError: the folder holds something else, or cannot be written to.
    """
    folder = Path(folder)
    with contextlib.suppress(VggnbError):
        if read_json(folder / NOTE) == about:
            return folder
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTE).is_file():
        raise VggnbError("The folder holds something else.", folder, "Name a folder that does not exist yet.")
    with replacing_folder(folder) as new:
        make(new)
        write_json(new / NOTE, about)
    return folder
