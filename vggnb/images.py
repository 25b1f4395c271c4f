"""Any picture file -> upright RGB pixels, and the one resize.

The ONE decoder: census, training and prediction call it, so a model never sees at work what it did not see at school.
Pillow does the decoding; this module fixes what Pillow leaves open (orientation, transparency, 16 bits, limits).
"""

import contextlib
import errno
import io
import itertools
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from vggnb.storage import VggnbError, mendable, sha256_bytes

DECODER_VERSION = "2"  # part of every feature key: raise it when the same bytes would give other pixels
MAX_PIXELS = 50_000_000  # 7 000 x 7 000; read from the header, before anything is decoded
MAX_BYTES = 200_000_000  # a photograph is far smaller; a mistake is not
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF") + (("AVIF",) if features.check("avif") else ())
SPARE = 2  # a large JPEG is decoded to no less than twice the pixels a side that are wanted; Pillow shrinks the rest
RESIZE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


class _Quiet:
    """No warnings inside, from any number of threads at once; `warnings.catch_warnings` alone is made for one."""

    def __init__(self):
        self._lock, self._inside, self._filters = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.close()


_quiet = _Quiet()


Item, Result = TypeVar("Item"), TypeVar("Result")


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int = 64
) -> Iterator[tuple[Item, Result]]:
    """Yield each item and `read(item)` in order, while threads read at most `ahead` items more."""
    items, waiting = iter(items), deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in itertools.islice(items, ahead):
                waiting.append((item, pool.submit(read, item)))
            while waiting:
                item, job = waiting.popleft()
                for following in itertools.islice(items, 1):
                    waiting.append((following, pool.submit(read, following)))
                yield item, job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Picture:
    """A decoded file: pixels uint8 (h, w, 3), RGB, upright; what it was; and what was done to it."""

    pixels: np.ndarray
    format: str
    notes: tuple[str, ...]


def read_image(source: Path | bytes, *, size: int | None = None, resize: str = "bilinear") -> np.ndarray:
    """Decode a picture file, or the bytes of one.

    Args:
        source: path or bytes.
        size: if given, the picture is resized to `size` x `size`; its shape is not kept, as in the article.
        resize: "nearest" (the article: picks single pixels) or "bilinear" (Pillow's, which averages when it shrinks).

    Returns:
        uint8 (h, w, 3), RGB, 0 to 255, upright.

    Raises:
        VggnbError: not a picture that can be used; the text says why.
    """
    enough = SPARE * size if size is not None and resize == "bilinear" else None  # "nearest" must find every pixel
    pixels = decode(source, enough=enough).pixels
    return pixels if size is None else resize_image(pixels, size, resize)


def read_unchanged(path: Path, sha256: str, *, size: int, resize: str) -> np.ndarray | str:
    """The pixels of a file that still is what it was, as `read_image` gives them; else a sentence that says why not.

    Raises:
        VggnbError: the storage is gone, which is no file's fault.
    """
    try:
        _check_file(path)
        data = Path(path).read_bytes()
        if sha256_bytes(data) != sha256:
            return "The file changed since the census."
        return read_image(data, size=size, resize=resize)
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ESTALE):
            raise mendable(error, path) from error
        return mendable(error, path).what
    except VggnbError as error:
        return error.what


def resize_image(pixels: np.ndarray, size: int, resize: str) -> np.ndarray:
    """Resize uint8 (h, w, 3) to (size, size, 3)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), RESIZE[resize]))


def decode(source: Path | bytes, *, enough: int | None = None) -> Picture:
    """Decode a picture and say what it was.

    Args:
        enough: pixels a side that are enough: a JPEG that has twice as many is decoded at a half, a quarter or an
            eighth of its size, which costs a fraction of the time. Without it, every pixel is decoded.

    Raises:
        VggnbError: empty, cut short, not a picture, a format this decoder refuses, or too many pixels.
    """
    where = "the uploaded bytes" if isinstance(source, bytes) else source
    data = _read(source)
    try:
        with _quiet:  # Pillow's bomb warning: the limit below is lower than Pillow's
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _refused(f"{width} x {height} pixels; the limit is {MAX_PIXELS // 10**6} million.", where)
            if enough is not None:
                image.draft(None, (enough, enough))  # does nothing for other formats
            return _upright_rgb(image)
    except UnidentifiedImageError:
        raise VggnbError(*_why_not(data, where)) from None
    except Image.DecompressionBombError:
        raise _refused("Far too many pixels for its bytes (a decompression bomb).", where) from None
    except VggnbError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds; all mean the same to the reader
        what = "The file is cut short." if "truncated" in str(error).lower() else f"The file is damaged ({error})."
        raise VggnbError(what, where, "Copy or download the file again, or leave it out.") from None


def _read(source: Path | bytes) -> bytes:
    """All bytes of a source, refused if there are none or far too many."""
    if isinstance(source, bytes):
        data = source
    else:
        try:
            _check_file(source)
            data = Path(source).read_bytes()
        except FileNotFoundError:
            raise VggnbError("There is no such file.", source, "Check the name.") from None
        except OSError as error:
            raise mendable(error, source) from error
    if not data:
        remedy = "Copy or download the file again, or leave it out."
        raise VggnbError("The file is empty (0 bytes).", "the uploaded bytes" if data is source else source, remedy)
    return data


def _check_file(path: Path) -> None:
    """Refuse, before it is opened, what would never end (a pipe, a device) or is far too large; any folder too."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise VggnbError("It is not a file (a folder, a pipe or a device).", path, "Name a file, or leave it out.")
    if status.st_size > MAX_BYTES:
        raise _refused(f"{status.st_size / 1e6:.0f} MB; the limit is {MAX_BYTES // 10**6} MB.", path)


def _refused(what: str, where: object) -> VggnbError:
    return VggnbError(what, where, "Make the picture smaller with any photo program, or leave it out.")


def _why_not(data: bytes, where: object) -> tuple[str, object, str]:
    """What a file that is no usable picture is, judged by its first bytes."""
    head = data[:512].lstrip().lower()
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc", b"ftypmsf1"):
        return "HEIC pictures cannot be read here.", where, "Export it as JPEG (iPhone: Settings, Camera, Formats)."
    if head.startswith((b"<!doctype", b"<html", b"<svg", b"<?xml")):
        return "Not a photograph: it is a web page or a drawing.", where, "Download the picture, or leave it out."
    if head.startswith((b"pk\x03\x04", b"%pdf", b"\x1f\x8b", b"rar!")):
        return "Not a picture: it is an archive or a document.", where, "Unpack it first, or leave it out."
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):
        return "The file is damaged or cut short.", where, "Copy or download the file again, or leave it out."
    formats = ", ".join(sorted(FORMATS))
    return f"Not a picture that can be read here (known: {formats}).", where, "Export it as JPEG, or leave it out."


def _orientation(image: Image.Image) -> int:
    """What EXIF says of how the camera was held, 1 to 8; a picture whose EXIF is damaged is taken as it lies."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # as above
        return 1


def _upright_rgb(image: Image.Image) -> Picture:
    """Decode the first frame, turn it upright, and bring any colour mode to RGB."""
    notes, mode, kind = [], image.mode, image.format
    if getattr(image, "n_frames", 1) > 1 and kind != "MPO":
        notes.append(f"first of {image.n_frames} frames")
    image.load()
    turn = _TURNS.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if turn is not None:
        notes.append("turned upright as its EXIF says")
    if mode.startswith("I;16") or mode == "I":
        # 16 bits: keep the high byte. Pillow's own convert("RGB") clips at 255: almost all white.
        grey = np.asarray(upright).astype(np.int64) >> 8
        upright = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        notes.append("16 bits a channel, reduced to 8")
    elif mode == "F":
        raise ValueError("floating-point pixels without a stated range")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        notes.append("transparent parts laid on white")
    if mode == "CMYK":
        notes.append("converted from CMYK")
    pixels = np.asarray(upright.convert("RGB"))
    return Picture(pixels=pixels, format="JPEG" if kind == "MPO" else kind, notes=tuple(notes))
