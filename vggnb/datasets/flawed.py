"""A copy of the sample with faults planted in it, for learning to find them."""

import io
import shutil
from pathlib import Path

from PIL import Image, ImageOps

from vggnb.paths import sample_folder
from vggnb.storage import replacing_folder


def flawed_sample(folder: Path) -> Path:
    """Copy the sample and plant what people's folders really hold: broken files, twins, a conflict and two leaks.

    Args:
        folder: where the copy goes; an earlier copy there is replaced.

    Returns:
        The dataset folder.
    """
    folder = Path(folder)
    with replacing_folder(folder) as copy:
        shutil.copytree(sample_folder(), copy, dirs_exist_ok=True)
        pictures = {split: sorted((copy / split / "benign").glob("*.jpg")) for split in ("train", "test")}
        train, test = copy / "train", pictures["test"]
        _plant_broken(train / "benign", pictures["train"][0].read_bytes())
        # Twice within train, byte for byte; and a picture under both classes, the second time saved again.
        shutil.copy(pictures["train"][1], train / "benign" / "copy of a picture.jpg")
        _save_again(pictures["train"][2], train / "malignant" / "other_opinion.jpg")
        # Leaks: test pictures that are in train as well, one as it is and one mirrored, smaller and saved again.
        shutil.copy(test[0], train / "benign" / "seen_before.jpg")
        _save_again(test[1], train / "benign" / "seen_in_a_mirror.jpg", mirror=True)
    return folder


def _plant_broken(folder: Path, good: bytes) -> None:
    """Files that are no pictures, though some look like it."""
    (folder / "cut_short.jpg").write_bytes(good[: len(good) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "error_page.jpg").write_text("<html><body>404 Not Found</body></html>")
    (folder / "notes.txt").write_text("ask Ann about picture 12")
    (folder / "Thumbs.db").write_bytes(b"\0" * 64)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "sample-checkpoint.jpg").write_bytes(good)


def _save_again(source: Path, target: Path, *, mirror: bool = False) -> None:
    """The same picture in other bytes."""
    with Image.open(source) as image:
        image = image.convert("RGB")
    if mirror:
        image = ImageOps.mirror(image).resize((image.width * 3 // 4, image.height * 3 // 4))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=70)
    target.write_bytes(data.getvalue())
