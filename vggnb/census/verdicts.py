"""One file -> one verdict: a picture, with what was measured on it, or a reason why not. Each file is read once.

Files are judged in parallel by threads: Pillow lets go of the interpreter while it decodes.
"""

import contextlib
import errno
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vggnb import images
from vggnb.census import twins
from vggnb.staging.reading import GONE, read_patiently
from vggnb.storage import VggnbError, mendable, sha256_bytes

VERSION = f"{images.DECODER_VERSION}.{twins.HASH_VERSION}.1"
AHEAD = 64  # files under way: bounds the memory
PATIENCE = 90.0  # seconds for the oldest of them; decoding the largest picture takes a tenth
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
        VggnbError: the storage itself is gone (a dropped or hanging Drive), which is no file's fault.
    """
    try:
        size = os.stat(path).st_size
        if size > images.MAX_BYTES:
            return Verdict(f"{size / 1e6:.0f} MB; the limit is {images.MAX_BYTES // 10**6} MB. Make it smaller.")
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = read_patiently(path)  # Drive fails now and then, and answers the next time
    except OSError as error:
        if error.errno in GONE:
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
    values = edges.astype(np.float32)  # numpy's own std of integers takes seven times as long
    return round(max(0.0, float(np.square(values).mean() - values.mean() ** 2)) ** 0.5, 2)


def judge_files(dataset: Path, paths: Sequence[str], cache, *, progress: bool = True) -> Iterator[Verdict]:
    """Judge files in parallel; verdicts come in the order of `paths`.

    Args:
        cache: a `verdict_store.VerdictCache`.

    Raises:
        VggnbError: the storage is gone, or a file hangs.
    """
    from tqdm.auto import tqdm

    pending: deque[tuple[Path, Verdict | Future]] = deque()
    bar = tqdm(total=len(paths), desc="census", unit="file", disable=not progress)
    with bar, _workers() as submit:

        def oldest() -> Verdict:
            path, answer = pending.popleft()
            bar.update()
            return answer if isinstance(answer, Verdict) else cache.keep(path, *_wait_for(path, answer))

        for path in (dataset / path for path in paths):
            pending.append((path, cache.find(path) or submit(path)))
            if len(pending) > AHEAD:
                yield oldest()
        while pending:
            yield oldest()


@contextlib.contextmanager
def _workers() -> Iterator[Callable[[Path], Future]]:
    """Start threads and yield what hands them a file; one that hangs in a dead mount dies with the program."""
    jobs: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        while (job := jobs.get()) is not None:
            path, answer = job
            try:
                # Size and date first: if the file changes while it is read, the next census will see that.
                answer.set_result((stamp(path), judge_file(path)))
            except BaseException as error:
                answer.set_exception(error)

    def submit(path: Path) -> Future:
        answer: Future = Future()
        jobs.put((path, answer))
        return answer

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(8, os.cpu_count() or 1))]
    for thread in threads:
        thread.start()
    try:
        yield submit
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                jobs.get_nowait()
        for _ in threads:
            jobs.put(None)
        for thread in threads:
            thread.join(timeout=2)


def _wait_for(path: Path, answer: Future) -> tuple[tuple[int, int], Verdict]:
    """The stamp and verdict of one file, or the error that ends the census."""
    try:
        return answer.result(timeout=PATIENCE)
    except TimeoutError:
        raise mendable(OSError(errno.ENOTCONN, f"no answer for {PATIENCE:.0f} seconds"), path) from None


def stamp(path: Path) -> tuple[int, int]:
    """Size and mtime_ns of a file; (-1, -1) if it cannot be asked."""
    try:
        status = os.lstat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
