"""Peak memory of extracting few and many generated images at 96 pixels, in MB, as one JSON line.

    python tests/extraction_memory.py FOLDER FEW MANY [--vgg]

Each number is measured in a fork of its own. Without --vgg, a cheap network with as many outputs stands for VGG-16.
"""

import json
import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from PIL import Image

from vggnb import model as models
from vggnb.census import Manifest
from vggnb.census.rows import Row
from vggnb.features import extract
from vggnb.model import build_base
from vggnb.recipe import Recipe
from vggnb.storage import sha256_bytes

SIZE = 96


def pictures(folder: Path, count: int) -> Manifest:
    """So many files that differ in what follows the picture."""
    path = folder / "picture.jpg"
    Image.radial_gradient("L").resize((SIZE, SIZE)).convert("RGB").save(path)
    data, rows = path.read_bytes(), []
    for k in range(count):
        (folder / f"{k}.jpg").write_bytes(data + str(k).encode())
        digest = sha256_bytes(data + str(k).encode())
        rows.append(Row(f"{k}.jpg", digest, SIZE, SIZE, "JPEG", "a", 0, "train"))
    return Manifest(folder, ("a",), tuple(rows))


def cheap(base, recipe, *, cut):
    """A network with the extractor's shapes."""
    images = keras.Input((SIZE, SIZE, 3))
    return keras.Model(images, keras.layers.Dense(2944)(keras.layers.GlobalAveragePooling2D()(images)))


def peak(manifest: Manifest, store: Path, vgg: bool) -> float:
    """MB at most while these are extracted."""
    recipe = Recipe.best().with_(image_size=SIZE)
    base, source = build_base(recipe, "none")
    if not vgg:
        models.build_extractor = cheap
    features = extract(manifest, recipe, base, source, store=store, progress=False)
    if features.images_forwarded != len(manifest.rows) or features.values.shape != (len(manifest.rows), 2944):
        raise SystemExit("not all were extracted")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main(folder: Path, counts: list[int], vgg: bool) -> None:
    found = []
    for count in counts:
        (folder / str(count)).mkdir()
        manifest = pictures(folder / str(count), count)
        read, write = os.pipe()
        if not (child := os.fork()):
            try:
                os.write(write, str(peak(manifest, folder / f"store-{count}", vgg)).encode())
            finally:
                os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        found.append(float(os.read(read, 100)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:4]], "--vgg" in sys.argv)
