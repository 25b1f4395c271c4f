"""A copy of the sample with faults planted in it, for learning to find them."""

import shutil
from pathlib import Path

from PIL import Image, ImageOps

from vggnb.datasets.made import made_anew
from vggnb.paths import sample_folder

MIRRORED = "train/benign/seen_in_a_mirror.jpg"


def flawed_sample(folder: Path) -> Path:
    """Copy the sample and plant what real folders hold: broken files, duplicates, a conflict and two leaks.

    Args:
        folder: where the copy goes; an earlier copy there is replaced.

    Returns:
        The dataset folder.

    Raises:
        VggnbError: the folder holds something else, or cannot be written to.
    """
    return made_anew(folder, _plant, mark=MIRRORED)


def _plant(folder: Path) -> None:
    shutil.copytree(sample_folder(), folder, dirs_exist_ok=True)
    train, test = (sorted((folder / split / "benign").glob("*.jpg")) for split in ("train", "test"))
    benign = folder / "train" / "benign"
    _plant_broken(benign, train[0].read_bytes())
    # Twice within train, byte for byte; and an image under both classes, the second time saved again.
    shutil.copy(train[1], benign / "copy of a picture.jpg")
    _save_again(train[2], folder / "train" / "malignant" / "other_opinion.jpg")
    # Leaks: test images that are in train as well, one as it is and one mirrored, smaller and saved again.
    shutil.copy(test[0], benign / "seen_before.jpg")
    _save_again(test[1], folder / MIRRORED, mirror=True)


def _plant_broken(folder: Path, good: bytes) -> None:
    """Files that are no images, though some look like it."""
    (folder / "cut_short.jpg").write_bytes(good[: len(good) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "error_page.jpg").write_text("<html><body>404 Not Found</body></html>")
    (folder / "notes.txt").write_text("ask Ann about picture 12")
    (folder / "Thumbs.db").write_bytes(b"\0" * 64)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "sample-checkpoint.jpg").write_bytes(good)


def _save_again(source: Path, target: Path, *, mirror: bool = False) -> None:
    """The same image in other bytes."""
    with Image.open(source) as image:
        image = image.convert("RGB")
    if mirror:
        image = ImageOps.mirror(image).resize((image.width * 3 // 4, image.height * 3 // 4))
    image.save(target, "JPEG", quality=70)
