"""Draw the pictures of README and landing page, from a run on the sample: `python docs/make_pictures.py RUN`."""

import sys
import tempfile
from pathlib import Path

from vggnb import figures
from vggnb.census import take_census
from vggnb.datasets import flawed_sample
from vggnb.figures.galleries import Tile, draw_tiles
from vggnb.images import read_image
from vggnb.predict import predict_files
from vggnb.save import load_bundle
from vggnb.train import open_run

COLUMNS, EVERY = 5, 5


def tile(path: Path, prediction, true_class: str) -> Tile:
    """An image with what was predicted."""
    words = f"predicted {prediction.class_name} {prediction.probability:.2f}\ntrue class: {true_class}"
    return Tile(read_image(path), words, prediction.class_name == true_class)


def save(figure, name: str) -> None:
    """Write a picture beside this file."""
    figure.savefig(Path(__file__).with_name(name), dpi=150, pil_kwargs={"quality": 88})


def predictions(folder: Path) -> None:
    """Ten test images, evenly spaced; two of them are mistakes."""
    run = open_run(folder)
    rows = run.manifest.of("test")[::EVERY]
    paths = [run.manifest.dataset / row.path for row in rows]
    predictions = predict_files(load_bundle(folder / "bundle"), paths)
    tiles = [tile(path, one, row.class_name) for path, one, row in zip(paths, predictions, rows, strict=True)]
    right, wrong = [one for one in tiles if one.right], [one for one in tiles if not one.right]
    chosen = right[:: len(right) // 8][:8]
    chosen.insert(3, wrong[0])
    chosen.insert(6, wrong[1])
    ax = draw_tiles([chosen[:COLUMNS], chosen[COLUMNS:]])
    save(ax.figure, "predictions.jpg")


def duplicates() -> None:
    """What the census finds in a copy of the sample with planted faults."""
    with tempfile.TemporaryDirectory() as folder:
        census = take_census(flawed_sample(Path(folder) / "flawed"), progress=False)
        save(figures.duplicate_pairs(census).figure, "duplicates.jpg")


if __name__ == "__main__":
    predictions(Path(sys.argv[1]))
    duplicates()
