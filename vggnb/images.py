"""Any image file -> upright RGB pixels, and the one resize.

The only decoder: census, training and prediction call it, so a model gets the same pixels in use as in training. Pillow
decodes; this module settles what Pillow leaves open (orientation, transparency, 16 bits, limits).
"""

import contextlib
import errno
import importlib.util
import io
import stat
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from vggnb.storage import VggnbError, mendable, sha256_bytes

DECODER_VERSION = "3"  # part of every feature key: raise it when the same bytes would give other pixels
MAX_BYTES = 200_000_000  # of a file
MAX_PIXELS = 50_000_000  # that are decoded; a larger JPEG is decoded at a half or a quarter of its width and height
MAX_JPEG_PIXELS = {False: 300_000_000, True: 100_000_000}  # in the file; True: progressive, held in memory as a whole
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM") + (("AVIF",) if features.check("avif") else ())
SPARE = 2  # a large JPEG is decoded to at least twice the width and height wanted; Pillow's resize does the rest
RESIZE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc", b"ftypmsf1")
ORIENTATION = 0x0112  # the EXIF tag

if importlib.util.find_spec("pi_heif"):  # the extra heic
    from pi_heif import register_heif_opener

    register_heif_opener()
    FORMATS += ("HEIF",)


class _Quiet:
    """Inside, in any number of threads at once, Pillow neither warns nor applies its own limit of pixels."""

    def __init__(self):
        self._lock, self._inside, self._filters = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self):
        with self._lock:
            if not self._inside:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._filters.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None  # there are limits of ours
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.close()


_quiet = _Quiet()


@dataclass(frozen=True)
class Decoded:
    """A decoded file: pixels uint8 (h, w, 3), RGB, upright; its format; and remarks on what was done to it."""

    pixels: np.ndarray
    format: str
    notes: tuple[str, ...]


def read_image(source: Path | bytes, *, size: int | None = None, resize: str = "bilinear") -> np.ndarray:
    """Decode an image file, or the bytes of one.

    Args:
        source: path or bytes.
        size: if given, the image is resized to `size` x `size`; its aspect ratio is not kept, as in the article.
        resize: "nearest" (the article: picks single pixels) or "bilinear" (Pillow's, which averages when it shrinks).

    Returns:
        uint8 (h, w, 3), RGB, 0 to 255, upright.

    Raises:
        VggnbError: not an image that can be used; the text says why.
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


def decode(source: Path | bytes, *, enough: int | None = None) -> Decoded:
    """Decode an image and say what it was.

    Args:
        enough: pixels of width and height that are enough: a JPEG of twice as many is decoded at a half, a quarter or
            an eighth of its size, which costs a fraction of the time. Without it, every pixel is decoded, up to
            MAX_PIXELS of them.

    Raises:
        VggnbError: empty, cut short, not an image, a format that is not read here, or too many pixels.
    """
    where = "the uploaded bytes" if isinstance(source, bytes) else source
    data = _read(source)
    try:
        with _quiet:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            notes = _reduce(image, enough, where)
            return _upright_rgb(image, notes, where)
    except UnidentifiedImageError:
        raise VggnbError(*_why_not(data, where)) from None
    except VggnbError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds; all mean the same to the reader
        what = "The file is cut short." if "truncated" in str(error).lower() else f"The file is damaged ({error})."
        raise VggnbError(what, where, "Copy or download the file again, or leave it out.") from None


def _reduce(image: Image.Image, enough: int | None, where: object) -> list[str]:
    """Have a JPEG decoded at a fraction of its size where that is enough, or all that the limit allows."""
    (width, height), jpeg = image.size, image.format in ("JPEG", "MPO")
    most = MAX_JPEG_PIXELS["progressive" in image.info] if jpeg else MAX_PIXELS
    if width * height > most:
        raise _refused(f"{width} x {height} pixels; the limit is {most // 10**6} million.", where)
    scale = next(scale for scale in (1, 2, 4) if width * height <= MAX_PIXELS * scale**2)
    if enough is not None and min(width, height) // enough >= scale:
        image.draft(None, (enough, enough))  # does nothing for other formats
    elif scale > 1:
        image.draft(None, (width // scale, height // scale))
    return [f"{width} x {height} pixels, decoded at 1/{scale} of width and height"] * (scale > 1)


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
    return VggnbError(what, where, "Make the image smaller with any photo program, or leave it out.")


def _why_not(data: bytes, where: object) -> tuple[str, object, str]:
    """What a file that is no usable image is, by its first bytes."""
    head = data[:512].lstrip().lower()
    if data[4:12] in HEIC:
        if "HEIF" in FORMATS:
            return "The HEIC file is damaged or cut short.", where, "Copy or download the file again, or leave it out."
        remedy = "pip install 'vggnb[heic]'; or export it as JPEG (iPhone: Settings, Camera, Formats, Most Compatible)."
        return "HEIC images need the package pi-heif.", where, remedy
    if head.startswith((b"<!doctype", b"<html", b"<svg", b"<?xml")):
        return "Not a photograph: it is a web page or a drawing.", where, "Download the image itself, or leave it out."
    if head.startswith((b"pk\x03\x04", b"%pdf", b"\x1f\x8b", b"rar!")):
        return "Not an image: it is an archive or a document.", where, "Unpack it first, or leave it out."
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):
        return "The file is damaged or cut short.", where, "Copy or download the file again, or leave it out."
    formats = ", ".join(sorted(FORMATS))
    return f"Not an image that can be read here (known: {formats}).", where, "Export it as JPEG, or leave it out."


def _upright_rgb(image: Image.Image, notes: list[str], where: object) -> Decoded:
    """Decode the first frame, turn it upright, and bring any colour mode to RGB."""
    mode, kind = image.mode, image.format
    if mode == "F":
        remedy = "Save it with 8 or 16 bits a channel, or leave it out."
        raise VggnbError("Its pixels are floating-point numbers, whose black and white are not known.", where, remedy)
    if getattr(image, "n_frames", 1) > 1 and kind != "MPO":
        notes.append(f"first of {image.n_frames} frames")
    image.load()
    with contextlib.suppress(Exception):  # an image whose EXIF is damaged is used as it lies
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
        image.info.pop("exif", None)  # else Pillow writes it anew, which fails where other parts of it are damaged
        image = ImageOps.exif_transpose(image)
        notes += ["turned upright as its EXIF says"] * turned
    if mode.startswith("I;16") or mode == "I":
        image, note = _eight_bits(np.asarray(image))
        notes.append(note)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        notes.append("transparent parts laid on white")
    if mode == "CMYK":
        notes.append("converted from CMYK")
    return Decoded(np.asarray(image.convert("RGB")), "JPEG" if kind == "MPO" else kind, tuple(notes))


def _eight_bits(grey: np.ndarray) -> tuple[Image.Image, str]:
    """The 8 high bits of those in use; Pillow's own convert("RGB") clips at 255.

    Cameras store 12 bits in 16, and some programs 8, without saying so: an image without any larger value has as many.
    """
    bits = next((bits for bits in (8, 12) if grey.max(initial=0) < 1 << bits), 16)
    pixels = np.clip(grey.astype(np.int64) >> bits - 8, 0, 255).astype(np.uint8)
    note = "16 bits a channel, reduced to 8" if bits == 16 else f"{bits} bits in 16, taken as the whole range"
    return Image.fromarray(pixels), note
