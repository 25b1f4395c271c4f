"""Take out of a picture file what tells of its owner (EXIF, GPS, XMP, comments) and leave its pixels bit for bit.

JPEG, PNG and WebP keep their compressed data; only the segments around it go. The orientation stays, alone, because the
decoder turns the picture by it. What cannot be cut that way and has such data (TIFF, AVIF) becomes a PNG of its pixels.
"""

import io
import re
import struct
import warnings
import zlib

from PIL import Image

from vggnb.images import FORMATS, decode
from vggnb.storage import VggnbError

ORIENTATION = 0x0112
_PRIVATE_TAGS = {0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x013C, 0x02BC, 0x8298, 0x83BB, 0x8649, 0x8769, 0x8825}
_PRIVATE_CHUNKS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in entropy-coded data, everything else is data


def strip_metadata(data: bytes) -> bytes:
    """The same picture without EXIF, GPS, XMP, IPTC, comments, embedded previews and what follows its end.

    Anything that is not a picture, or is too damaged to be read, comes back as it was.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _with_orientation(data, _strip_jpeg(data), _insert_jpeg)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _with_orientation(data, _strip_png(data), _insert_png)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _with_orientation(data, _strip_webp(data), _insert_webp)
        if data[:4] in (b"II*\0", b"MM\0*") or data[4:8] == b"ftyp":
            return _as_png(data) if _has_private_tags(data) else data
    except (IndexError, struct.error, ValueError, OSError, VggnbError):
        pass  # damaged: the census will say so
    return data


def _orientation(data: bytes) -> int:
    """What the decoder would turn the picture by, wherever the file says it (EXIF or XMP)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data), formats=FORMATS).getexif().get(ORIENTATION, 1)


def _with_orientation(data: bytes, stripped: bytes, insert) -> bytes:
    """`stripped`, with a bare EXIF block put in if the original was to be turned."""
    if stripped == data:
        return data
    try:
        orientation = _orientation(data)
    except (OSError, ValueError, SyntaxError):
        orientation = 1  # no decoder reads it either
    if orientation not in range(2, 9):
        return stripped
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, ORIENTATION, 3, 1, orientation, 0, 0)
    return insert(stripped, tiff)


def _strip_jpeg(data: bytes) -> bytes:
    """Keep the segments that pixels depend on, and the colour profile."""
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xD9:
            kept.append(data[at : at + 2])
            return b"".join(kept)
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        payload = data[at + 4 : at + 16]
        application = 0xE0 <= marker <= 0xEF
        if not (application or marker == 0xFE) or payload.startswith((b"JFIF\0", b"Adobe", b"ICC_PROFILE\0")):
            kept.append(data[at:end])
        if marker == 0xDA:
            following = _JPEG_MARKER.search(data, end)
            at = following.start() if following else len(data)
            kept.append(data[end:at])
        else:
            at = end
    return b"".join([*kept, data[at:]])


def _insert_jpeg(data: bytes, tiff: bytes) -> bytes:
    return data[:2] + struct.pack(">HH", 0xFFE1, len(tiff) + 8) + b"Exif\0\0" + tiff + data[2:]


def _strip_png(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end, name = at + 12 + int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name not in _PRIVATE_CHUNKS:
            kept.append(data[at:end])
        at = end
        if name == b"IEND":
            return b"".join(kept)
    return b"".join([*kept, data[at:]])


def _insert_png(data: bytes, tiff: bytes) -> bytes:
    chunk = b"eXIf" + tiff
    # Right after the header, which is always 25 bytes long.
    return data[:33] + struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def _strip_webp(data: bytes) -> bytes:
    kept, at = [], 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if name == b"VP8X":
            kept.append(data[at : at + 8] + bytes([data[at + 8] & ~0b1100]) + data[at + 9 : end])
        elif name not in (b"EXIF", b"XMP "):
            kept.append(data[at:end])
        at = end
    body = b"".join(kept)
    if len(body) == len(data) - 12:
        return data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _insert_webp(data: bytes, tiff: bytes) -> bytes:
    if data[12:16] != b"VP8X":
        return data
    chunk = b"EXIF" + struct.pack("<I", len(tiff)) + tiff
    return (
        data[:4]
        + struct.pack("<I", len(data) - 8 + len(chunk))
        + data[8:20]
        + bytes([data[20] | 8])
        + data[21:]
        + chunk
    )


def _has_private_tags(data: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        return bool(image.info.get("exif") or image.info.get("xmp") or _PRIVATE_TAGS & set(image.getexif()))


def _as_png(data: bytes) -> bytes:
    """The decoder's pixels as PNG: nothing else is left, and decoding that gives the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(decode(data).pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
