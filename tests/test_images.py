"""One decoder: any image file becomes upright RGB pixels, or a sentence with the reason.

What is no image, and formats by content: the zoo in `test_census`.
"""

import base64
import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from faults import inject
from PIL import Image, features
from zoo import encoded

from vggnb import images
from vggnb.images import MAX_BYTES, decode, read_image, read_unchanged, resize_image
from vggnb.storage import VggnbError


@pytest.fixture
def colours():
    """An upright RGB image of 3 x 2 pixels, all different."""
    return np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 12


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_lossless_file_gives_its_pixels(kind, colours, tmp_path):
    (tmp_path / "a.image").write_bytes(encoded(colours, kind))
    image = decode(tmp_path / "a.image")
    assert np.array_equal(image.pixels, colours) and image.pixels.dtype == np.uint8
    assert image.format == kind and image.notes == ()


# How a camera stored an upright image, by EXIF orientation (CIPA DC-008, 4.6.4).
STORED = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2), 6: lambda p: np.rot90(p, 1), 7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_turned_upright(orientation, kind, colours):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(np.ascontiguousarray(STORED[orientation](colours)), kind, exif=exif))
    assert np.array_equal(image.pixels, colours)
    assert image.notes == ("turned upright as its EXIF says",) * (orientation > 1 and kind == "PNG")


def test_an_image_with_damaged_exif_is_used_as_it_lies(draw):
    image = draw(np.random.default_rng(0), 0)
    broken = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\xff\0\0"
    data = encoded(image, "JPEG", exif=broken)
    assert np.array_equal(read_image(data), read_image(encoded(image, "JPEG")))


def test_transparent_parts_are_laid_on_white(colours):
    alpha = np.array([[0, 255, 128], [255, 255, 255]], np.uint8)
    pixels = read_image(encoded(np.dstack([colours, alpha])))
    assert pixels[0, 0].tolist() == [255, 255, 255] and np.array_equal(pixels[0, 1], colours[0, 1])
    half = colours[0, 2] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(pixels[0, 2] - half).max() <= 1


PALETTE = Image.new("P", (2, 1), 0)
PALETTE.putpalette([10, 20, 30, 40, 50, 60])
PALETTE.putpixel((1, 0), 1)


@pytest.mark.parametrize("data, rgb", [
    (encoded(PALETTE, transparency=0), [[255, 255, 255], [40, 50, 60]]),
    (encoded(Image.new("LA", (1, 1), (7, 0))), [[255] * 3]),
    (encoded(Image.new("L", (1, 1), 9)), [[9] * 3]),
    (encoded(Image.new("1", (1, 1), 1)), [[255] * 3]),
    (b"P6 1 1 255\n\x01\x02\x03", [[1, 2, 3]]),
    (b"P5 2 1 255\n\x00\xff", [[0] * 3, [255] * 3]),
    (b"P5 2 1 15\n\x00\x0f", [[0] * 3, [255] * 3]),
    (b"P5 2 1 4095\n\x00\x00\x0f\xff", [[0] * 3, [255] * 3]),
    (b"P2 2 1 1000\n0 500\n", [[0] * 3, [128] * 3]),
])  # fmt: skip
def test_palettes_grey_and_whatever_range_a_file_states_become_rgb_on_white(data, rgb):
    assert read_image(data)[0].tolist() == rgb


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("grey, eight, note", [
    ([0, 255, 256, 40_000, 65_535], [0, 0, 1, 156, 255], "16 bits a channel"),
    ([0, 15, 16, 2048, 4095], [0, 0, 1, 128, 255], "12 bits in 16"),
    ([0, 1, 128, 200, 255], [0, 1, 128, 200, 255], "8 bits in 16"),
])  # fmt: skip
def test_of_sixteen_bits_the_high_ones_in_use_are_kept(kind, grey, eight, note):
    image = decode(encoded(np.array([grey], np.uint16), kind))
    assert image.pixels[0, :, 0].tolist() == eight and note in image.notes[0]


def test_floating_point_pixels_are_refused_in_true_words():
    for data in (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), b"Pf 1 1 -1\n\0\0\0\0"):
        with pytest.raises(VggnbError, match="floating-point numbers") as caught:
            decode(data)
        assert "8 or 16 bits" in caught.value.remedy


# 24 x 16 pixels, left half red, right half blue.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoAABAAAAAAAAAGMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADc"
    "aXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFw"
    "AAAAGAAAAAEAAAAQAAAAAf///9gAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAa21kYXQAAABf"
    "KAGvBPIa9gaAQlMov8N///thdl200pdfz3rrnaj6h0FT7bEWuvFmRjY1is+76Pcid9Y+FcxnGefopcimCmL1bvbahRSVlC3r8UaReYPLUIECqFQv"
    "ekT9TPBeaQlEwxQ="
)


def test_heic_is_read_with_the_extra_and_without_it_the_extra_is_named(monkeypatch):
    if "HEIF" in images.FORMATS:
        image = decode(HEIC)
        left, right = image.pixels[8, 4].astype(int), image.pixels[8, 20].astype(int)
        assert image.format == "HEIF" and image.pixels.shape == (16, 24, 3)
        assert left[0] > 150 > left[2] and right[2] > 150 > right[0]
        with pytest.raises(VggnbError, match="damaged"):
            decode(HEIC[:100])
    monkeypatch.setattr(images, "FORMATS", tuple(set(images.FORMATS) - {"HEIF"}))
    with pytest.raises(VggnbError, match="pi-heif") as caught:
        decode(HEIC)
    assert "vggnb[heic]" in caught.value.remedy


def test_cmyk_becomes_rgb():
    image = decode(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))
    red, green, blue = image.pixels[4, 4].tolist()
    assert red < 10 and min(green, blue) > 200 and image.notes == ("converted from CMYK",)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_only_the_first_frame_of_an_animation_counts(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    image = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    red, green, blue = image.pixels[2, 2].tolist()
    assert red > 240 and max(green, blue) < 15 and image.notes == ("first of 3 frames",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for path, words in (
        (tmp_path / "a.png", "not a file"), (Path("/dev/zero"), "not a file"), (tmp_path, "not a file"),
        (tmp_path / "none.jpg", "no such file"),
    ):  # fmt: skip
        assert words in read_unchanged(path, "0" * 64, size=8, resize="bilinear")
        with pytest.raises(VggnbError, match=words) as caught:
            read_image(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize("error", [errno.ENOTCONN, errno.ETIMEDOUT, errno.ESTALE])
def test_a_dead_mount_is_no_fault_of_the_image(tmp_path, error):
    (tmp_path / "a.png").write_bytes(b"x")
    with inject("read", 1, error, under=tmp_path), pytest.raises(VggnbError, match="On Colab, .*elsewhere, mount it"):
        read_unchanged(tmp_path / "a.png", "0" * 64, size=8, resize="bilinear")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_file_is_refused_never_filled_with_grey(kind, draw):
    data = encoded(draw(np.random.default_rng(0), 0), kind)
    for share in (0.1, 0.5, 0.95):
        with pytest.raises(VggnbError, match="cut short|damaged"):
            decode(data[: int(len(data) * share)])


def test_the_photo_of_a_telephone_is_decoded_at_a_fraction(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100 * 80)
    monkeypatch.setattr(images, "MAX_JPEG_PIXELS", {False: 400 * 320, True: 300 * 240})
    photo = np.zeros((240, 300, 3), np.uint8)
    photo[:, 150:] = 250
    image = decode(encoded(photo, "JPEG", quality=95))
    assert image.pixels.shape == (60, 75, 3)
    assert image.notes == ("300 x 240 pixels, decoded at 1/4 of width and height",)
    assert image.pixels[30, 10].max() < 20 and image.pixels[30, 60].min() > 230
    assert decode(encoded(photo, "JPEG", progressive=True)).pixels.shape == (60, 75, 3)
    for size, progressive in (((420, 320), False), ((310, 240), True)):
        with pytest.raises(VggnbError, match="the limit is"):
            decode(encoded(Image.new("L", size), "JPEG", progressive=progressive))


def test_pillows_own_limit_does_not_stop_us():
    assert decode(encoded(Image.new("1", (16_000, 3_000)))).pixels.shape == (3_000, 16_000, 3)
    assert decode(encoded(Image.new("L", (16_320, 12_240), 90), "JPEG"), enough=448).pixels.shape == (1_530, 2_040, 3)


def test_a_gigantic_file_is_refused_without_being_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(VggnbError, match="the limit is 200 MB"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF"])
def test_damage_of_any_kind_gives_pixels_or_a_sentence(kind, draw):
    """Cut anywhere, bytes changed anywhere: nothing else than a VggnbError comes out."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    options = {} if kind in ("GIF", "BMP", "PPM") else {"exif": exif.tobytes()}
    data = encoded(draw(np.random.default_rng(0), 0, (24, 18)), kind, **options)
    random = np.random.default_rng(1)
    for _ in range(60):
        spoilt = bytearray(data[: random.integers(1, len(data))] if random.random() < 0.3 else data)
        for at in random.integers(0, min(len(spoilt), random.choice([64, 256, 10**6])), random.choice([1, 3, 10])):
            spoilt[at] = random.choice([0, 255, random.integers(256)])
        with contextlib.suppress(VggnbError):
            pixels = decode(bytes(spoilt)).pixels
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


@pytest.mark.parametrize("resize", ["nearest", "bilinear"])
def test_resizing_is_pillows_and_leaves_the_right_size_alone(resize, draw):
    image = draw(np.random.default_rng(0), 0)
    expected = np.asarray(image.resize((32, 32), Image.Resampling[resize.upper()]))
    assert np.array_equal(read_image(encoded(image), size=32, resize=resize), expected)
    assert resize_image(expected, 32, resize) is expected


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A photo of 1600 x 1200 pixels with detail, as a JPEG."""
    path = tmp_path_factory.mktemp("large") / "large.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(large, tmp_path):
    assert decode(large, enough=128).pixels.shape == (150, 200, 3)
    assert decode(large, enough=448).pixels.shape == (600, 800, 3)
    assert decode(large, enough=601).pixels.shape == decode(large).pixels.shape == (1200, 1600, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(large).save(tmp_path / "turned.jpg", exif=exif, quality=92)
    assert decode(tmp_path / "turned.jpg", enough=128).pixels.shape == (200, 150, 3)
    for path in (large, tmp_path / "turned.jpg"):
        full = resize_image(decode(path).pixels, 64, "bilinear").astype(int)
        assert 0 < np.abs(read_image(path, size=64) - full).mean() < 2
    with pytest.raises(VggnbError, match="cut short"):
        read_image(large.read_bytes()[:-5000], size=64)


def test_the_articles_pixels_and_small_or_lossless_images_are_never_decoded_at_a_fraction(large, tmp_path):
    image = Image.open(large)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.NEAREST))  # ImageDataGenerator picks single pixels
    assert np.array_equal(read_image(large, size=64, resize="nearest"), expected)
    image.save(tmp_path / "large.png")
    image.resize((255, 255)).save(tmp_path / "small.jpg")
    for path in (tmp_path / "large.png", tmp_path / "small.jpg"):
        assert np.array_equal(read_image(path, size=128), resize_image(decode(path).pixels, 128, "bilinear"))
