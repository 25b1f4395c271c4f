"""Draw docs/predictions.jpg from a run on the sample: `python docs/make_picture.py RUN`."""

import sys
from pathlib import Path

from vggnb.figures.galleries import Tile, draw_tiles
from vggnb.images import read_image
from vggnb.predict import predict_files
from vggnb.save import load_bundle
from vggnb.train import open_run

COLUMNS, MISTAKES, EVERY = 5, 2, 5


def tile(path: Path, prediction, true_class: str) -> Tile:
    """An image with what was predicted."""
    words = f"predicted {prediction.class_name} {prediction.probability:.2f}\ntrue class: {true_class}"
    return Tile(read_image(path), words, prediction.class_name == true_class)


def main(folder: Path) -> None:
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
    ax.figure.savefig(Path(__file__).with_name("predictions.jpg"), dpi=150, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
