"""A dataset of the files that people really have: awkward, broken, misnamed, hostile. Built anew by each test run.

`build_zoo(root)` returns what must become of each file: "used", "system", or words that its reason must hold.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, features

ODD_NAMES = (
    "two words.png", " leading.png", "trailing .png", "猫.png", "😺.png", "txt.\u202egnp.png", "[1].png", "*.png",
    "what?.png", "new\nline.png", 'quo"te.png', "it's.png", "-rf.png", "a,b;c.png", "#hash.png", "%41.png", "$HOME.png",
    "Å.png", "tab\t.png", "back\\slash.png", "x" * 251 + ".png", "UPPER.PNG", "no_ending", "two.dots.png",
)  # fmt: skip


def photo(seed: int, *, width: int = 48, height: int = 40) -> np.ndarray:
    """Pixels uint8 (h, w, 3) that look like nothing else: smooth noise, so that every seed has its own hash."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    """The bytes of an image file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def save(path: Path, data: bytes | np.ndarray | Image.Image) -> Path:
    """Write a file and the folders above it; pixels become PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else encoded(data))
    return path


def turned(orientation: int, seed: int) -> bytes:
    """A JPEG whose EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(seed), "JPEG", exif=exif)


def good_files() -> dict[str, bytes]:
    """Files that can be used, by name."""
    seeds = iter(range(100, 200))

    def rgb() -> Image.Image:
        return Image.fromarray(photo(next(seeds)))

    rgba = rgb()
    rgba.putalpha(Image.fromarray(photo(next(seeds))).convert("L"))
    palette = rgb().quantize(16)
    wide = np.random.default_rng(7).integers(0, 65536, (40, 48), np.uint16)
    frames = [rgb() for _ in range(3)]
    flipped = bytearray(encoded(rgb(), "JPEG", quality=90))
    flipped[-60] ^= 0x10
    files = {
        "plain.jpg": encoded(rgb(), "JPEG"), "progressive.jpg": encoded(rgb(), "JPEG", progressive=True),
        "grey.jpg": encoded(rgb().convert("L"), "JPEG"), "cmyk.jpg": encoded(rgb().convert("CMYK"), "JPEG"),
        "flipped_bit.jpg": bytes(flipped), "rgb.png": encoded(rgb()), "rgba.png": encoded(rgba),
        "grey_alpha.png": encoded(rgba.convert("LA")), "palette.png": encoded(palette),
        "palette_transparent.png": encoded(palette.copy(), transparency=3), "one_bit.png": encoded(rgb().convert("1")),
        "sixteen_bits.png": encoded(Image.fromarray(wide)), "still.gif": encoded(rgb(), "GIF"),
        "animated.png": encoded(frames[0], save_all=True, append_images=frames[1:]),
        "animated.gif": encoded(frames[1], "GIF", save_all=True, append_images=frames[2:]),
        "plain.bmp": encoded(rgb(), "BMP"), "plain.ppm": encoded(rgb(), "PPM"),
        "plain.pgm": encoded(rgb().convert("L"), "PPM"), "plain.webp": encoded(rgb(), "WEBP"),
        "lossless_alpha.webp": encoded(rgba.rotate(90), "WEBP", lossless=True), "plain.tif": encoded(rgb(), "TIFF"),
        "packed.tiff": encoded(rgb(), "TIFF", compression="tiff_lzw"),
        "sixteen_bits.tif": encoded(Image.fromarray(wide[::-1].copy()), "TIFF"), "png_named.jpg": encoded(rgb()),
        "webp_named.jpg": encoded(rgb(), "WEBP"), "jpeg_named.png": encoded(rgb(), "JPEG"),
        "one_pixel.png": encoded(photo(next(seeds), width=1, height=1)),
        "thin.png": encoded(photo(next(seeds), width=1000, height=1)),
        "white.png": encoded(np.full((40, 40, 3), 255, np.uint8)),
    }  # fmt: skip
    if features.check("avif"):
        files["plain.avif"] = encoded(rgb(), "AVIF")
    return files | {f"exif_{k}.jpg": turned(k, next(seeds)) for k in range(1, 9)}


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Files that cannot be used, by name, with words that the reason must hold."""
    jpeg, png = encoded(photo(1), "JPEG"), encoded(photo(2))
    return {
        "empty.jpg": (b"", "0 bytes"),
        "text.jpg": (b"not a picture at all", "Not an image"),
        "page.jpg": (b"<!DOCTYPE html><html>not found</html>", "web page"),
        "drawing.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "drawing"),
        "drawing.svg": (b'<?xml version="1.0"?><svg/>', "drawing"),
        "paper.jpg": (b"%PDF-1.7 ...", "document"),
        "packed.jpg": (b"PK\x03\x04" + bytes(40), "archive"),
        "labels.csv": (b"name,label\na,b\n", "Not an image"),
        "cut.jpg": (jpeg[:-60], "cut short"),
        "cut.png": (png[: len(png) // 2], "cut short"),
        "cut_in_header.jpg": (jpeg[:300], "cut short"),
        "head_only.png": (png[:40], "leave it out"),
        "phone.heic": (b"\x00\x00\x00\x18ftypheic" + bytes(20), "HEIC"),
        "phone.jpg": (b"\x00\x00\x00\x18ftypmif1" + bytes(20), "HEIC"),
        "large.png": (encoded(Image.new("1", (8_000, 8_000))), "limit is 50 million"),
        "icon.ico": (encoded(photo(3, width=32, height=32), "ICO"), "Not an image"),
        "old.tga": (encoded(photo(5), "TGA"), "Not an image"),
        "floats.tif": (encoded(Image.fromarray(np.eye(9, dtype=np.float32)), "TIFF"), "floating-point"),
        "random.jpg": (np.random.default_rng(3).bytes(500), "Not an image"),
    }


SYSTEM_FILES = (
    "train/cat/.DS_Store", "train/cat/Thumbs.db", "train/dog/desktop.ini", "train/cat/._photo.jpg",
    "train/cat/.hidden.jpg", "train/cat/.ipynb_checkpoints/photo-checkpoint.jpg", "train/.ipynb_checkpoints/x.jpg",
    "__MACOSX/train/cat/._photo.jpg", "$RECYCLE.BIN/old/photo.jpg", ".git/objects/00/abc", "test/@eaDir/cat/photo.jpg",
)  # fmt: skip


def build_zoo(root: Path) -> dict[str, str]:
    """Make the zoo under `root`: train and test with the classes cat and dog."""
    fate: dict[str, str] = {}

    def put(path: str, data: bytes, becomes: str) -> None:
        save(root / path, data)
        fate[path] = becomes

    for name, data in good_files().items():
        put(f"train/cat/{name}", data, "used")
    for k, name in enumerate(ODD_NAMES):
        put(f"train/dog/{name}", encoded(photo(300 + k)), "used")
    put(os.fsdecode(b"train/dog/latin-\xe9.png"), encoded(photo(350)), "used")
    put("train/dog/deeper/still/photo.png", encoded(photo(351)), "used")
    for k in range(3):
        put(f"test/cat/{k}.png", encoded(photo(400 + k)), "used")
        put(f"test/dog/{k}.png", encoded(photo(410 + k)), "used")
    for name, (data, words) in bad_files().items():
        put(f"train/cat/bad/{name}", data, words)
    for path in SYSTEM_FILES:
        put(path, encoded(photo(500)), "system")
    put("readme.txt", b"About these pictures", "outside the class folders")
    put("train/lost.png", encoded(photo(501)), "outside the class folders")
    links = {"train/dog/link.png": "0.png", "train/dog/dangling.png": "nowhere", "train/dog/loop": "..", "away": "/etc"}
    for path, target in links.items():
        os.symlink(target, root / path)
        fate[path] = "link"
    os.mkfifo(root / "train/dog/pipe.png")
    fate["train/dog/pipe.png"] = "not a regular file"
    return fate
