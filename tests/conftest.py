"""What the tests share: tiny image folders, tiny trained runs and a bundle, and a home that is never the user's.

How to keep a test cheap. The suite runs in two processes, and each makes the session fixtures that it meets:
- No real weights: VGG-16 at 32 pixels with `weights="none"` is the same network with the same numbers every time.
- Read only from `best_run`, `article_run`, `run3`, `saved`, `bundle`; to change files take `own_run`, `own_bundle`.
- A fresh process with TensorFlow costs 4 to 6 s: `quick_verify` does the same in this one. One test of each writer may
  start one; a kill or a fault once each, and the loops over many moments carry the marker `torture`.
- A writer, a census or a text needs neither network nor training: a `types.SimpleNamespace` will do.
"""

import json
import os
import shutil
import signal
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

from vggnb.recipe import Recipe
from vggnb.storage import write_json

# A shell that starts the tests in the background has Ctrl-C ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

COUNTS = {"train": 8, "validation": 4, "test": 6}


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """Nothing of a test lands in the user's folders, and no variable of the user's shell changes a test."""
    for name in ("VGGNB_DATASET", "VGGNB_PRECISION", "VGGNB_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VGGNB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VGGNB_PROFILE", "quick")
    monkeypatch.setenv("VGGNB_WEIGHTS", "offline")
    monkeypatch.setenv("VGGNB_PRECISION", "float32")  # the same numbers on every machine


@pytest.fixture(scope="session")
def draw():
    """A function: a soft random picture whose tint tells its class."""

    def draw(random: np.random.Generator, label: int, size=(44, 36)) -> Image.Image:
        small = random.integers(0, 150, (6, 6, 3))
        small[..., label % 3] += 100
        return Image.fromarray(small.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)

    return draw


@pytest.fixture(scope="session")
def draw_photos(draw):
    """A function: a photo folder drawn from a seed, train/validation/test x classes, JPEG and PNG in turn."""

    def draw_photos(folder, classes=("cat", "dog"), counts=COUNTS, seed=0):
        random = np.random.default_rng(seed)
        for split, count in counts.items():
            for label, name in enumerate(classes):
                (folder / split / name).mkdir(parents=True, exist_ok=True)
                for index in range(count):
                    path = folder / split / name / f"{name}_{index}.{'png' if index % 2 else 'jpg'}"
                    draw(random, label).save(path)
        return folder

    return draw_photos


@pytest.fixture(scope="session")
def photos(draw_photos, tmp_path_factory):
    """Two classes."""
    return draw_photos(tmp_path_factory.mktemp("photos") / "pets")


@pytest.fixture(scope="session")
def photos3(draw_photos, tmp_path_factory):
    """Three classes."""
    return draw_photos(tmp_path_factory.mktemp("photos3") / "three", ("ash", "birch", "oak"), seed=3)


@pytest.fixture
def own_photos(photos, tmp_path):
    """Two classes, in a copy that a test may spoil."""
    return shutil.copytree(photos, tmp_path / "own_pets")


@pytest.fixture
def noisy_files(monkeypatch):
    """Figures take any path for a picture of noise, always the same one."""

    def read(path) -> np.ndarray:
        return np.random.default_rng(len(str(path))).integers(0, 256, (30, 40, 3), np.uint8)

    monkeypatch.setattr("vggnb.figures.galleries.read_image", read)


@pytest.fixture(scope="session")
def survey():
    """A function: folder -> manifest."""
    from vggnb.census import assign_splits, take_census

    return lambda folder: assign_splits(take_census(folder, progress=False))


@pytest.fixture(scope="session")
def manifest(photos, survey):
    """Of the two classes."""
    return survey(photos)


@pytest.fixture(scope="session")
def manifest3(photos3, survey):
    """Of the three classes."""
    return survey(photos3)


@pytest.fixture(scope="session")
def best():
    """`Recipe.best()` made tiny."""
    return Recipe.best().with_(image_size=32, epochs=3)


@pytest.fixture(scope="session")
def article():
    """`Recipe.article()` made tiny."""
    return Recipe.article().with_(image_size=32, epochs=3)


@pytest.fixture(scope="session")
def base(best):
    """VGG-16 at 32 pixels with random weights, and its source."""
    from vggnb.model import build_base

    return build_base(best, "none")


@pytest.fixture(scope="session")
def fit_tiny(base, tmp_path_factory):
    """A function: (manifest, recipe) -> trained run and its features, on the random base."""
    from vggnb.features import extract
    from vggnb.train import fit, start_run

    store = tmp_path_factory.mktemp("store")

    def fit_tiny(manifest, recipe, folder=None):
        folder = folder or tmp_path_factory.mktemp("runs") / recipe.name
        run = start_run(folder, manifest, recipe, weights="none", source=base[1])
        features = extract(manifest, recipe, *base, store=store, progress=False)
        fit(run, features, progress=False)
        return run, features

    return fit_tiny


@pytest.fixture(scope="session")
def best_run(fit_tiny, manifest, best):
    """A trained run of `best`, and its features."""
    return fit_tiny(manifest, best)


@pytest.fixture(scope="session")
def article_run(fit_tiny, manifest, article):
    """A trained run of `article`, and its features."""
    return fit_tiny(manifest, article)


@pytest.fixture(scope="session")
def run3(fit_tiny, manifest3, article):
    """A trained run of `article` on three classes, and its features."""
    return fit_tiny(manifest3, article)


@pytest.fixture
def own_run(best_run, tmp_path):
    """The run of `best` before it was evaluated, in a copy that a test may spoil."""
    from vggnb.train import open_run

    untested = shutil.ignore_patterns("predictions-test*", "report-test*")
    return open_run(shutil.copytree(best_run[0].folder, tmp_path / "own_run", ignore=untested))


@pytest.fixture(scope="session")
def saved(best_run, tmp_path_factory):
    """The bundle of the run of `best` in all formats that can be written here, verified: (folder, files)."""
    from vggnb.save import save_bundle
    from vggnb.save.saving import SavedFile

    # Each format is verified in a fresh process: half a minute, so of two test processes one does it for both.
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    folder, done = place / "bundles" / "pets", place / "bundles.json"
    try:
        folder.parent.mkdir()
    except FileExistsError:
        while not done.is_file():
            time.sleep(0.2)
    else:
        try:
            files = [vars(file) for file in save_bundle(best_run[0], folder, formats="all")]
        except BaseException as error:
            write_json(done, str(error))
            raise
        write_json(done, files)
    files = json.loads(done.read_bytes())
    assert isinstance(files, list), f"the other process could not save the bundle: {files}"
    return folder, [SavedFile(**file) for file in files]


@pytest.fixture(scope="session")
def bundle(saved):
    """The same, loaded."""
    from vggnb.save import load_bundle

    return load_bundle(saved[0])


@pytest.fixture(scope="session")
def exported(saved):
    """The same bundle, where every export can be written."""
    from vggnb.save import available

    if left_out := available()[1]:
        pytest.skip(f"needs the extra export: {left_out}")
    return saved


@pytest.fixture
def quick_verify(monkeypatch):
    """Files are verified in this process; those of the fixture `saved` were in a fresh one."""
    from vggnb.save import exports, runtimes

    monkeypatch.setattr(exports, "_in_fresh_process", runtimes.compare)


@pytest.fixture
def own_bundle(saved, tmp_path):
    """The folder of the bundle made of links, for a test that may spoil it: replace a file, never write into it."""
    return shutil.copytree(saved[0], tmp_path / "own_bundle", copy_function=os.link)
