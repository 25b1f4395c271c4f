"""A checkpoint: one file with everything that a training has become. The newest and the one before it are kept.

A file is a NumPy archive, with a JSON document among its arrays, followed by the SHA-256 of all that: one changed bit
or missing byte is noticed before anything is used.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggnb.storage import TEMPORARY_PREFIX, VggnbError, storage_errors, write_bytes

ENDING = ".ckpt"
KEPT = 2
ABOUT = "about"  # the archive's name for the JSON document
DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class State:
    """What a training has become after `epoch` epochs: arrays by name, and plain values."""

    epoch: int
    arrays: Mapping[str, np.ndarray]
    about: dict

    def sha256(self, *prefixes: str) -> str:
        """Over the arrays whose names begin so, and the history: equal for equal trainings, however often stopped."""
        digest = hashlib.sha256(json.dumps([self.epoch, self.about.get("history")]).encode())
        for name in sorted(name for name in self.arrays if name.startswith(prefixes)):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def to_bytes(state: State) -> bytes:
    """A state as one file's content."""
    document = json.dumps({**state.about, "epoch": state.epoch}, ensure_ascii=True, allow_nan=False)
    buffer = io.BytesIO()
    np.savez(buffer, **state.arrays, **{ABOUT: np.frombuffer(document.encode(), np.uint8)})
    data = buffer.getvalue()
    return data + hashlib.sha256(data).digest()


def read_state(path: Path) -> State:
    """The state in a file.

    Raises:
        VggnbError: the file is not exactly what was written.
    """
    with storage_errors(path):
        data = Path(path).read_bytes()
    if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        raise VggnbError(
            "The file is damaged: its checksum differs.", path, "Make it again with the step that writes it."
        )
    with np.load(io.BytesIO(data[:-DIGEST]), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(arrays.pop(ABOUT).tobytes())
    return State(about["epoch"], arrays, about)


class Checkpoints:
    """The checkpoints of one kind of training ("head", "fine-tune") in a folder, which is made when needed."""

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind = Path(folder), kind

    def paths(self) -> list[Path]:
        """The newest first."""
        return sorted(self.folder.glob(f"{self.kind}-*{ENDING}"), reverse=True)

    def write(self, state: State) -> None:
        """Add a checkpoint; older ones than the one before it go."""
        write_bytes(self.folder / f"{self.kind}-{state.epoch:06d}{ENDING}", to_bytes(state))
        with storage_errors(self.folder):
            for path in self.paths()[KEPT:]:
                path.unlink(missing_ok=True)

    def newest(self) -> State | None:
        """The newest whole checkpoint, None when there never was one; damaged newer ones are put aside and named.

        Raises:
            VggnbError: there are checkpoints and all are damaged: they stay where they are.
        """
        self._remove_unfinished()
        damaged: list[Path] = []
        for path in self.paths():
            try:
                state = read_state(path)
            except VggnbError as error:
                if isinstance(error.__cause__, OSError):  # the storage does not answer: that is no damage
                    raise
                damaged.append(path)
                continue
            self._put_aside(damaged, state.epoch)
            return state
        if damaged:
            what = f"All checkpoints of this training are damaged: {', '.join(path.name for path in damaged)}."
            raise VggnbError(what, self.folder, "Start the training again from nothing with fresh=True (--fresh).")
        return None

    def clear(self) -> None:
        """Remove all checkpoints: the training is done, or shall start again."""
        with storage_errors(self.folder):
            for path in self.paths():
                path.unlink(missing_ok=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _put_aside(self, damaged: list[Path], epoch: int) -> None:
        """Move damaged files out of the way, keeping them."""
        for path in damaged:
            with storage_errors(path):
                (self.folder / "damaged").mkdir(exist_ok=True)
                os.replace(path, self.folder / "damaged" / path.name)
            print(f"The checkpoint {path.name} is damaged (its checksum differs) and was put into damaged/. ", end="")
            print(f"Going on from the one before, after epoch {epoch}.")

    def _remove_unfinished(self) -> None:
        """Remove what a killed process was writing; whoever calls this holds the run's lock."""
        with storage_errors(self.folder):
            for path in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
                path.unlink(missing_ok=True)
