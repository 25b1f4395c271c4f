"""What tells of a picture's owner goes, its pixels stay."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggnb.images import FORMATS, decode
from vggnb.staging.strip import strip_metadata
from vggnb.storage import VggnbError

SECRET = "Anna-Musterfrau"
PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8).repeat(4, 0).repeat(4, 1)
SAVE = {
    "JPEG": [{"quality": 80}, {"progressive": True, "comment": SECRET}, {"subsampling": 0, "restart_marker_rows": 1}],
    "PNG": [{}, {"compress_level": 0}],
    "WEBP": [{"lossless": True}, {"quality": 70}],
    "TIFF": [{}, {"compression": "tiff_deflate"}],
    "AVIF": [{}],
}


def exif(orientation):
    """GPS, camera owner and an orientation."""
    tags = Image.Exif()
    if orientation:
        tags[0x0112] = orientation
    tags[0x013B] = SECRET
    tags.get_ifd(0x8769)[0xA430] = SECRET
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0), 29: SECRET})
    return tags


def saved(image, kind, orientation, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif(orientation), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [kind for kind in SAVE if kind in FORMATS])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_owner_goes_and_pixels_stay(kind, orientation):
    for options in SAVE[kind]:
        for mode in ("RGB", "L") + (("CMYK",) if kind == "JPEG" else ()) + (("RGBA", "P") if kind == "PNG" else ()):
            data = saved(Image.fromarray(PIXELS).convert(mode), kind, orientation, **options)
            assert SECRET.encode() in data
            stripped = strip_metadata(data)
            assert SECRET.encode() not in stripped
            np.testing.assert_array_equal(decode(stripped).pixels, decode(data).pixels)
            assert set(Image.open(io.BytesIO(stripped)).getexif()) <= {0x0112} or kind == "TIFF"
            assert strip_metadata(stripped) == stripped, "a second time changes nothing"


def test_orientation_that_only_xmp_tells_is_kept():
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Artist="{SECRET}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", xmp=xmp.encode())
    data = buffer.getvalue()
    stripped = strip_metadata(data)
    assert SECRET.encode() not in stripped
    np.testing.assert_array_equal(decode(stripped).pixels, decode(data).pixels)
    assert decode(stripped).pixels.shape[:2] == PIXELS.shape[1::-1]


def test_what_follows_the_end_goes():
    """Phones append a video or a second photograph, each with its own place and time."""
    plain = saved(Image.fromarray(PIXELS), "JPEG", None)
    double = io.BytesIO()
    Image.fromarray(PIXELS).save(double, "MPO", save_all=True, append_images=[Image.fromarray(PIXELS[::-1].copy())])
    for data in (plain + SECRET.encode(), double.getvalue() + SECRET.encode()):
        stripped = strip_metadata(data)
        assert SECRET.encode() not in stripped and b"MPF" not in stripped
        np.testing.assert_array_equal(decode(stripped).pixels, decode(data).pixels)
    png = saved(Image.fromarray(PIXELS), "PNG", None)
    assert SECRET.encode() not in strip_metadata(png + SECRET.encode())


def test_colour_profile_and_plain_files_are_left_alone():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", icc_profile=b"profile" * 99)
    assert strip_metadata(buffer.getvalue()) == buffer.getvalue()
    for other in (
        b"",
        b"text",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0",
        b"GIF89a",
        b"\0\0\0\x1cftypheic",
    ):
        assert strip_metadata(other) == other


def verdict(data):
    """Pixels, or the reason why there are none."""
    try:
        return decode(data).pixels.tobytes()
    except VggnbError as error:
        return error.what


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_files_stay_as_they_are_judged(kind):
    """Cut or flipped anywhere: never an exception, and the decoder makes the same of both files."""
    random_ = random.Random(0)
    whole = saved(Image.fromarray(PIXELS), kind, 6)
    for _ in range(150):
        data = bytearray(whole)
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        data = bytes(data[: random_.choice([len(data), random_.randrange(len(data))])])
        stripped = strip_metadata(data)
        if stripped != data and len(verdict(data)) > 1000:
            assert verdict(stripped) == verdict(data)


@pytest.mark.shared
def test_real_files_keep_their_pixels():
    folder = Path(__file__).parents[2] / "shared" / "data" / "nasty"
    if not folder.is_dir():
        pytest.skip("the shared data are not here")
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if len(data) < 3_000_000:
            assert verdict(strip_metadata(data))[:40] == verdict(data)[:40], path.name
