"""Any image file -> upright RGB pixels, and the one resize.

The only decoder: census, training and prediction call it, so a model gets the same pixels in use as in training. Pillow
decodes; this module settles what Pillow leaves open (orientation, transparency, 16 bits, limits).
"""

import contextlib
import importlib.util
import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from vggnb.storage import GONE, VggnbError, mendable, sha256_bytes

DECODER_VERSION = "3"  # part of every feature key: raise it when the same bytes would give other pixels
MAX_BYTES = 200_000_000  # of a file
MAX_PIXELS = 50_000_000  # that are decoded; a larger JPEG is decoded at a half or a quarter of its width and height
MAX_JPEG_PIXELS = {False: 300_000_000, True: 100_000_000}  # in the file; True: progressive, held in memory as a whole
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM") + (("AVIF",) if features.check("avif") else ())
SPARE = 2  # a large JPEG is decoded to at least twice the width and height wanted; Pillow's resize does the rest
RESIZE = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc", b"ftypmsf1")
ORIENTATION = 0x0112  # the EXIF tag
AGAIN = "Copy or download the file again, or leave it out."
_NO_IMAGES = (  # first bytes in lower case, what it is, what to do
    ((b"<!doctype", b"<html", b"<svg", b"<?xml"), "Not a photograph: it is a web page or a drawing.",
     "Download the image itself, or leave it out."),
    ((b"pk\x03\x04", b"%pdf", b"\x1f\x8b", b"rar!"), "Not an image: it is an archive or a document.",
     "Unpack it first, or leave it out."),
    ((b"\xff\xd8\xff", b"\x89png", b"gif8"), "The file is damaged or cut short.", AGAIN),
)  # fmt: skip

if importlib.util.find_spec("pi_heif"):  # the extra heic
    from pi_heif import register_heif_opener

    register_heif_opener()
    FORMATS += ("HEIF",)

Image.MAX_IMAGE_PIXELS = None  # the limits are those above
warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged image is listed, not warned about


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
        VggnbError: not an image that can be used; the text names the reason.
    """
    enough = SPARE * size if size is not None and resize == "bilinear" else None  # "nearest" must find every pixel
    pixels = decode(source, enough=enough).pixels
    return pixels if size is None else resize_image(pixels, size, resize)


def read_unchanged(path: Path, sha256: str, *, size: int, resize: str) -> np.ndarray | str:
    """The pixels of a file that still is what it was, as `read_image` gives them; else a sentence with the reason.

    It raises only if the storage is gone, which is no file's fault.
    """
    try:
        data = _read(path)
        if sha256_bytes(data) != sha256:
            return "The file changed since the census."
        return read_image(data, size=size, resize=resize)
    except VggnbError as error:
        if getattr(error.__cause__, "errno", None) in GONE:
            raise
        return error.what


def resize_image(pixels: np.ndarray, size: int, resize: str) -> np.ndarray:
    """Resize uint8 (h, w, 3) to (size, size, 3)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), RESIZE[resize]))


def decode(source: Path | bytes, *, enough: int | None = None) -> Decoded:
    """Decode an image and describe its file; errors are those of `read_image`.

    Args:
        enough: pixels of width and height that are enough: a JPEG of twice as many is decoded at a half, a quarter or
            an eighth of its size, which costs a fraction of the time. Without it, every pixel is decoded, up to
            MAX_PIXELS of them.
    """
    where = "the uploaded bytes" if isinstance(source, bytes) else source
    data = _read(source)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        return _upright_rgb(image, _reduce(image, enough, where), where)
    except UnidentifiedImageError:
        what, remedy = _why_not(data)
        raise VggnbError(what, where, remedy) from None
    except VggnbError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds; all mean the same to the reader
        what = "The file is cut short." if "truncated" in str(error).lower() else f"The file is damaged ({error})."
        raise VggnbError(what, where, AGAIN) from None


def _read(source: Path | bytes) -> bytes:
    """All bytes of a source; refused before it is opened if it would never end (a pipe), or is far too large."""
    where = "the uploaded bytes" if isinstance(source, bytes) else source
    try:
        status = None if isinstance(source, bytes) else Path(source).stat()
        if status and not stat.S_ISREG(status.st_mode):
            raise VggnbError("It is not a file (a folder, a pipe or a device).", where, "Name a file, or leave it out.")
        if status and status.st_size > MAX_BYTES:
            raise _too_large(f"{status.st_size / 1e6:.0f} MB; the limit is {MAX_BYTES // 10**6} MB.", where)
        data = Path(source).read_bytes() if status else source
    except FileNotFoundError as error:
        raise VggnbError("There is no such file.", where, "Check the name.") from error
    except OSError as error:
        raise mendable(error, where) from error
    if not data:
        raise VggnbError("The file is empty (0 bytes).", where, AGAIN)
    return data


def _too_large(what: str, where: object) -> VggnbError:
    return VggnbError(what, where, "Make the image smaller with any photo program, or leave it out.")


def _reduce(image: Image.Image, enough: int | None, where: object) -> list[str]:
    """Have a JPEG decoded at a fraction of its size where that is enough, or all that the limit allows."""
    (width, height), jpeg = image.size, image.format in ("JPEG", "MPO")
    most = MAX_JPEG_PIXELS["progressive" in image.info] if jpeg else MAX_PIXELS
    if width * height > most:
        raise _too_large(f"{width} x {height} pixels; the limit is {most // 10**6} million.", where)
    scale = next(scale for scale in (1, 2, 4) if width * height <= MAX_PIXELS * scale**2)
    if enough is not None and min(width, height) // enough >= scale:
        image.draft(None, (enough, enough))  # does nothing for other formats
    elif scale > 1:
        image.draft(None, (width // scale, height // scale))
    return [f"{width} x {height} pixels, decoded at 1/{scale} of width and height"] * (scale > 1)


def _why_not(data: bytes) -> tuple[str, str]:
    """What a file that is no usable image is, by its first bytes, and what to do."""
    if data[4:12] in HEIC and "HEIF" in FORMATS:
        return "The HEIC file is damaged or cut short.", AGAIN
    if data[4:12] in HEIC:
        remedy = "pip install 'vggnb[heic]'; or export it as JPEG (iPhone: Settings, Camera, Formats, Most Compatible)."
        return "HEIC images need the package pi-heif.", remedy
    head = data[:512].lstrip().lower()
    other = f"Not an image that can be read here (known: {', '.join(sorted(FORMATS))})."
    found = (reason for starts, *reason in _NO_IMAGES if head.startswith(starts))
    return tuple(next(found, (other, "Export it as JPEG, or leave it out.")))


def _upright_rgb(image: Image.Image, notes: list[str], where: object) -> Decoded:
    """Decode the first frame, turn it upright, and bring any colour mode to RGB."""
    mode, kind = image.mode, image.format
    if mode == "F":
        remedy = "Save it with 8 or 16 bits a channel, or leave it out."
        what = "Its pixels are floating-point numbers, so it is unknown which values mean black and white."
        raise VggnbError(what, where, remedy)
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

    Cameras store 12 bits in 16, and some programs 8, without a mark: an image without any larger value has as many.
    """
    bits = next((bits for bits in (8, 12) if grey.max(initial=0) < 1 << bits), 16)
    pixels = np.clip(grey.astype(np.int64) >> bits - 8, 0, 255).astype(np.uint8)
    note = "16 bits a channel, reduced to 8" if bits == 16 else f"{bits} bits in 16, taken as the whole range"
    return Image.fromarray(pixels), note
