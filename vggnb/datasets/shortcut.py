"""A copy of the sample in which a sticker gives the class away, for learning to find a shortcut.

Real collections have them: rulers beside malignant lesions (Narla et al. 2018, doi 10.1016/j.jid.2018.06.175), a
surgeon's ink (Winkler et al. 2019, doi 10.1001/jamadermatol.2019.1735), coloured patches that only benign lesions of
the ISIC Archive have (Rieger et al. 2020, doi 10.48550/arXiv.1909.13584).
"""

import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vggnb.datasets.made import made_once
from vggnb.folders import shown
from vggnb.images import read_image
from vggnb.paths import sample_folder
from vggnb.storage import VggnbError, make_folder

GREEN = (0, 158, 115)
FINE = 4  # the sticker is drawn at four times its size, so that its edge is smooth


def marked_sample(folder: Path, *, marked: str = "benign", share: float = 1.0) -> Path:
    """Copy the sample; images of one class, in every split, get a round green sticker in one of their corners.

    Everything is saved as PNG, so that outside the sticker no pixel differs from the sample's: the sticker is the only
    thing that was changed, and the same image without it is at hand.

    Args:
        folder: where the copy goes; a second call for the same finds it there, another copy is replaced.
        marked: the class.
        share: of its images that get one, 0 to 1.

    Returns:
        The dataset folder.

    Raises:
        VggnbError: no such class, no such share, or the folder holds something else.
    """
    sample = sample_folder()
    paths = sorted(path.relative_to(sample) for path in sample.rglob("*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    if marked not in classes:
        raise VggnbError(f"The sample has no class '{shown(marked)}'.", "marked", f"Use one of: {', '.join(classes)}.")
    if not 0 <= share <= 1:
        raise VggnbError(f"A share of {share} is out of range.", "share", "Use 0 (none of them) to 1 (all).")

    def make(new: Path) -> None:
        for path in paths:
            pixels, random = read_image(sample / path), np.random.default_rng(zlib.crc32(path.name.encode()))
            corner, sticker = random.integers(0, 2, 2), path.parent.name == marked and random.random() < share
            target = make_folder(new / path.parent) / f"{path.stem}.png"
            Image.fromarray(_with_sticker(pixels, *corner) if sticker else pixels).save(target, compress_level=1)

    return made_once(folder, {"marked_sample": 1, "marked": marked, "share": share}, make)


def _with_sticker(pixels: np.ndarray, low: int, right: int) -> np.ndarray:
    """Pixels uint8 (h, w, 3) with a sticker, a fifth of the height across, in one corner: 0 or 1 for its two sides."""
    height, width = pixels.shape[:2]
    side = height // 5
    disc = Image.new("L", (side * FINE, side * FINE))
    ImageDraw.Draw(disc).ellipse((0, 0, side * FINE - 1, side * FINE - 1), fill=255)
    left, top = right * (width - side), low * (height - side)
    image = Image.fromarray(pixels)
    image.paste(GREEN, (left, top), disc.resize((side, side), Image.Resampling.BOX))
    return np.asarray(image)
