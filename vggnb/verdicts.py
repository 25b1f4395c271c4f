"""One file -> one verdict: a picture, with what was measured on it, or a reason why not. Each file is read once.

Files are judged in parallel by threads (Pillow lets go of the interpreter while it decodes) and verdicts can be kept in
one sqlite3 file, so that a second census opens only what changed.
"""

import contextlib
import errno
import os
import sqlite3
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vggnb import images, twins
from vggnb.folders import shown
from vggnb.storage import VggnbError, mendable, sha256_bytes

VERSION = f"{images.DECODER_VERSION}.{twins.HASH_VERSION}.1"
_ENDINGS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG", ".png": "PNG", ".apng": "PNG",
    ".gif": "GIF", ".bmp": "BMP", ".dib": "BMP", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one file is; `reason` is empty for a usable picture.

    Attributes:
        brightness: mean grey level, 0 to 255.
        sharpness: standard deviation of the Laplacian in grey levels, at 256 pixels on the long side.
        hash: the 64 bytes of `twins.hash_of`, or none where the picture is too plain.
    """

    reason: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    notes: str = ""
    brightness: float = 0.0
    sharpness: float = 0.0
    hash: bytes = b""


def judge_file(path: Path) -> Verdict:
    """Read, hash, decode and measure one file.

    Raises:
        VggnbError: the storage itself is gone (a dropped Drive), which is no file's fault.
    """
    try:
        size = os.stat(path).st_size
        if size > images.MAX_BYTES:
            return Verdict(f"{size / 1e6:.0f} MB; the limit is {images.MAX_BYTES // 10**6} MB. Make it smaller.")
        data = Path(path).read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ESTALE):
            raise mendable(error, path) from error
        return Verdict(f"It cannot be read ({error.strerror}). See that it opens in another program, or leave it out.")
    digest = sha256_bytes(data)
    try:
        picture = images.decode(data)
    except VggnbError as error:
        return Verdict(f"{error.what} {error.remedy}", digest)
    except Exception as error:  # what no decoder should do; one file never stops a census
        return Verdict(f"Decoding it failed ({type(error).__name__}: {error}). Leave it out, and report it.", digest)
    height, width = picture.pixels.shape[:2]
    notes = [*picture.notes, *_remarks(path, picture.format, width, height)]
    brightness, sharpness, hashed = measure(picture.pixels)
    if not hashed:
        notes.append("too plain to be compared with others")
    return Verdict("", digest, width, height, picture.format, "; ".join(notes), brightness, sharpness, hashed)


def _remarks(path: Path, kind: str, width: int, height: int) -> Iterator[str]:
    """What a person should know about a picture that is used all the same."""
    ending = Path(path).suffix.lower()
    if _ENDINGS.get(ending, kind) != kind:
        yield f"{kind} named {ending}"
    if min(width, height) < 32:
        yield f"tiny ({width} x {height})"
    elif max(width, height) > 4 * min(width, height):
        yield f"extreme shape ({width} x {height})"


def measure(pixels: np.ndarray) -> tuple[float, float, bytes]:
    """Brightness, sharpness and hash of uint8 (h, w, 3)."""
    grey = Image.fromarray(pixels).convert("L")
    hashed = twins.hash_of(grey)
    longest = max(grey.size)
    if longest > 256:
        small = tuple(max(1, round(side * 256 / longest)) for side in grey.size)
        grey = grey.resize(small, Image.Resampling.BOX)
    levels = np.asarray(grey).astype(np.int16)
    return round(float(levels.mean()), 2), _sharpness(levels), b"" if hashed is None else hashed.tobytes()


def _sharpness(levels: np.ndarray) -> float:
    """Standard deviation of the Laplacian of int16 (h, w); 0 where there is no inner pixel."""
    if min(levels.shape) < 3:
        return 0.0
    edges = levels[:-2, 1:-1] + levels[2:, 1:-1]
    edges += levels[1:-1, :-2]
    edges += levels[1:-1, 2:]
    edges -= 4 * levels[1:-1, 1:-1]
    flat = edges.ravel().astype(np.float32)  # one product is seven times as fast as numpy's std of integers
    return round(float(max(0.0, flat @ flat / flat.size - flat.mean() ** 2)) ** 0.5, 2)


def judge_files(
    dataset: Path, paths: Sequence[str], cache: "VerdictCache", *, progress: bool = True
) -> Iterator[Verdict]:
    """Judge files in parallel; verdicts come in the order of `paths`."""
    from tqdm.auto import tqdm

    workers = min(8, os.cpu_count() or 1)
    pending: deque[tuple[Path, Verdict | Future]] = deque()
    bar = tqdm(total=len(paths), desc="census", unit="file", disable=not progress)
    # The decoder silences Pillow's warnings; threads that do so at once would undo each other, hence once more here.
    with warnings.catch_warnings(), bar, ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")

        def oldest() -> Verdict:
            path, answer = pending.popleft()
            bar.update()
            return answer if isinstance(answer, Verdict) else cache.keep(path, *answer.result())

        try:
            for path in (dataset / path for path in paths):
                pending.append((path, cache.find(path) or pool.submit(_stat_and_judge, path)))
                if len(pending) > 16 * workers:
                    yield oldest()
            while pending:
                yield oldest()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _stat_and_judge(path: Path) -> tuple[tuple[int, int], Verdict]:
    """Size and mtime first: if the file changes while it is read, they are not those of the next census."""
    return _stamp(path), judge_file(path)


def _stamp(path: Path) -> tuple[int, int]:
    """Size and mtime_ns of a file; (-1, -1) if it cannot be asked."""
    try:
        status = os.lstat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


class VerdictCache:
    """Verdicts by (absolute path, size, mtime_ns, version) in one sqlite3 file; without a file it keeps nothing.

    A damaged or locked file never stops a census: `trouble` says in words that everything was looked at anew.
    """

    def __init__(self, file: Path | None):
        self.trouble = ""
        self._file, self._base, self._added = file, None, 0

    def __enter__(self) -> "VerdictCache":
        if self._file is not None:
            columns = ", ".join(("path BLOB PRIMARY KEY", "size", "mtime_ns", "version", *Verdict.__slots__))
            with self._troubles():
                self._base = sqlite3.connect(self._file, timeout=10)
                self._base.execute(f"CREATE TABLE IF NOT EXISTS verdicts ({columns})")
        return self

    def __exit__(self, *_) -> None:
        if self._base is not None:
            with self._troubles():
                self._base.commit()
        if self._base is not None:
            self._base.close()

    @contextlib.contextmanager
    def _troubles(self):
        """Go on without the file after the first thing that it does not do."""
        try:
            yield
        except (sqlite3.Error, OSError, TypeError) as error:
            remedy = "Every file was looked at anew. Delete it, or name another place."
            self.trouble = f"The census cache {shown(str(self._file))} cannot be used ({error}). {remedy}"
            if self._base is not None:
                self._base.close()
            self._base = None

    def find(self, path: Path) -> Verdict | None:
        """The kept verdict on a file, if the file is unchanged."""
        if self._base is None:
            return None
        with self._troubles():
            query = "SELECT * FROM verdicts WHERE path = ? AND size = ? AND mtime_ns = ? AND version = ?"
            row = self._base.execute(query, (os.fsencode(path), *_stamp(path), VERSION)).fetchone()
            return None if row is None else Verdict(*row[4:])

    def keep(self, path: Path, stamp: tuple[int, int], verdict: Verdict) -> Verdict:
        """Keep a verdict, unless the file could not be read, which may pass."""
        if self._base is not None and verdict.sha256:
            with self._troubles():
                values = (os.fsencode(path), *stamp, VERSION, *astuple(verdict))
                self._base.execute(f"INSERT OR REPLACE INTO verdicts VALUES ({', '.join('?' * len(values))})", values)
                self._added += 1
                if self._added % 200 == 0:
                    self._base.commit()
        return verdict
