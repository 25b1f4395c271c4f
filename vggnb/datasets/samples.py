"""Copies of the sample to learn from: one with faults to find, one with a sticker that reveals the class.

Real collections have such shortcuts: rulers beside malignant lesions (Narla et al. 2018, doi
10.1016/j.jid.2018.06.175), a surgeon's ink (Winkler et al. 2019, doi 10.1001/jamadermatol.2019.1735), coloured patches
that only benign lesions of the ISIC Archive have (Rieger et al. 2020, doi 10.48550/arXiv.1909.13584).
"""

import contextlib
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

import vggnb
from vggnb.folders import shown
from vggnb.images import read_image
from vggnb.paths import sample_folder
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, make_folder, read_json, storage_errors, write_json

NOTE = ".vggnb-made.json"  # hidden: a census counts it as a system file
GREEN = (0, 158, 115)
FINE = 4  # the sticker is drawn at four times its size, so that its edge is smooth


def made_once(folder: Path, about: dict, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills; a second call with the same `about` reuses it, any other call replaces it.

    Raises:
        VggnbError: the folder holds something else, or cannot be written to.
    """
    folder, about = Path(folder).absolute(), about | {"vggnb": vggnb.__version__}
    with contextlib.suppress(VggnbError):
        if read_json(folder / NOTE) == about:
            return folder
    with storage_errors(folder):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTE).is_file():
            raise VggnbError("The folder holds something else.", folder, "Name a folder that does not exist yet.")
        new = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}")
        shutil.rmtree(new, ignore_errors=True)  # of a killed call
        try:
            make(make_folder(new))
            write_json(new / NOTE, about)
            if folder.is_dir():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def flawed_sample(folder: Path) -> Path:
    """Copy the sample and plant typical faults: broken files, duplicates, a conflict and two leaks."""
    return made_once(folder, {"flawed_sample": 1}, _plant)


def _plant(folder: Path) -> None:
    shutil.copytree(sample_folder(), folder, dirs_exist_ok=True)
    train, test = (sorted((folder / split / "benign").glob("*.jpg")) for split in ("train", "test"))
    benign, good = folder / "train" / "benign", train[0].read_bytes()
    (benign / "cut_short.jpg").write_bytes(good[: len(good) // 2])
    (benign / "empty.jpg").write_bytes(b"")
    (benign / "error_page.jpg").write_text("<html><body>404 Not Found</body></html>")
    (benign / "notes.txt").write_text("ask Ann about image 12")
    (benign / "Thumbs.db").write_bytes(b"\0" * 64)
    (make_folder(benign / ".ipynb_checkpoints") / "sample-checkpoint.jpg").write_bytes(good)
    # A duplicate in train; and a conflict: an image under both classes, the second time encoded again.
    shutil.copy(train[1], benign / "copy of an image.jpg")
    with Image.open(train[2]) as image:
        image.convert("RGB").save(folder / "train" / "malignant" / "other_opinion.jpg", quality=70)
    # Leaks: test images that are in train as well, one unchanged and one mirrored, smaller and encoded again.
    shutil.copy(test[0], benign / "seen_before.jpg")
    with Image.open(test[1]) as image:
        image = ImageOps.mirror(image.convert("RGB")).resize((image.width * 3 // 4, image.height * 3 // 4))
    image.save(benign / "seen_in_a_mirror.jpg", quality=70)


def marked_sample(folder: Path, *, marked: str = "benign") -> Path:
    """Copy the sample; images of one class, in every split, get a round green sticker in one of their corners.

    All images are saved as PNG, so that outside the sticker no pixel differs from the sample's. A second call for the
    same class reuses the copy; another copy is replaced.

    Args:
        marked: the class.

    Raises:
        VggnbError: no such class, or the folder holds something else.
    """
    sample = sample_folder()
    paths = sorted(path.relative_to(sample) for path in sample.rglob("*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    if marked not in classes:
        raise VggnbError(f"The sample has no class '{shown(marked)}'.", "marked", f"Use one of: {', '.join(classes)}.")

    def make(new: Path) -> None:
        for path in paths:
            pixels = read_image(sample / path)
            if path.parent.name == marked:
                pixels = _with_sticker(pixels, *np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 2, 2))
            target = make_folder(new / path.parent) / f"{path.stem}.png"
            Image.fromarray(pixels).save(target, compress_level=1)

    return made_once(folder, {"marked_sample": 1, "marked": marked}, make)


def _with_sticker(pixels: np.ndarray, low: int, right: int) -> np.ndarray:
    """Pixels uint8 (h, w, 3) with a sticker, a fifth of the height across, in one corner: 0 or 1 for its two sides."""
    (height, width), side = pixels.shape[:2], pixels.shape[0] // 5
    disc = Image.new("L", (side * FINE, side * FINE))
    ImageDraw.Draw(disc).ellipse((0, 0, side * FINE - 1, side * FINE - 1), fill=255)
    left, top = right * (width - side), low * (height - side)
    image = Image.fromarray(pixels)
    image.paste(GREEN, (left, top), disc.resize((side, side), Image.Resampling.BOX))
    return np.asarray(image)
