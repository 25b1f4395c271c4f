"""Datasets that a program draws: the same for the same options, whole, no leaks; a sticker is all that changes."""

from collections import Counter

import numpy as np
import pytest

from vggnb import datasets
from vggnb.census import assign_splits, take_census
from vggnb.images import read_image
from vggnb.paths import sample_folder
from vggnb.storage import VggnbError, sha256_file


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six classes, four images each."""
    return datasets.textures(tmp_path_factory.mktemp("drawn") / "textures", each=4)


@pytest.fixture(scope="module")
def stickers(tmp_path_factory):
    """The sample with a sticker on the benign images."""
    return datasets.marked_sample(tmp_path_factory.mktemp("marked") / "sample")


def hashes(folder):
    """Relative path -> sha256 of every image."""
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*.jpg"))}


def test_the_same_seed_gives_the_same_images_and_another_seed_others(small, tmp_path):
    assert hashes(datasets.textures(tmp_path / "again", each=4)) == hashes(small)
    others = hashes(datasets.textures(tmp_path / "others", each=4, seed=1))
    assert len(others) == 24 and not set(others.values()) & set(hashes(small).values())


def test_what_the_page_uses_is_whole_and_leaks_nothing(tmp_path):
    census = take_census(datasets.textures(tmp_path / "textures"), progress=False)
    assert census.classes == tuple(sorted(datasets.PATTERNS)) and len(census.classes) == 6
    assert Counter(row.class_name for row in census.rows) == dict.fromkeys(datasets.PATTERNS, 50)
    assert not census.pairs and not census.skipped and not census.warnings
    manifest = assign_splits(census)
    for split, number in (("train", 32), ("validation", 8), ("test", 10)):
        assert manifest.counts()[split] == dict.fromkeys(datasets.PATTERNS, number)
    assert {(row.width, row.height) for row in census.rows} == {datasets.SIZE}


def test_colour_and_light_tell_nothing():
    """Twelve images of each class: mean colours differ far less between classes than within one."""
    means = np.zeros((6, 12, 3))
    for k, i in np.ndindex(6, 12):
        image = datasets.draw_texture(np.random.default_rng([5, k, i]), datasets.PATTERNS[k])
        means[k, i] = np.asarray(image).mean(axis=(0, 1))
    assert means.mean(axis=1).std(axis=0).max() < means.std(axis=1).mean()


def test_a_second_call_finds_what_is_there_and_another_request_replaces_it(tmp_path, monkeypatch):
    folder = datasets.textures(tmp_path / "textures", each=1)
    assert len(hashes(datasets.textures(folder, each=2))) == 12
    monkeypatch.setattr(datasets, "draw_texture", lambda *_: pytest.fail("it was drawn again"))
    assert datasets.textures(folder, each=2) == folder


@pytest.mark.parametrize("make", [datasets.textures, datasets.flawed_sample, datasets.marked_sample])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, make):
    (tmp_path / "diary.txt").write_text("dear")
    with pytest.raises(VggnbError, match="holds something else"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_drawing_that_fails_leaves_nothing(tmp_path):
    def stop(folder):
        (folder / "half.jpg").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets._made_once(tmp_path / "new", {"request": 1}, stop)
    assert not list(tmp_path.iterdir())


# the sample with a sticker


def test_the_sticker_is_all_that_changed(stickers):
    corners = set()
    for path in sorted(sample_folder().rglob("*.jpg"))[::6]:
        before = read_image(path)
        after = read_image((stickers / path.relative_to(sample_folder())).with_suffix(".png"))
        changed = (before != after).any(axis=2)
        assert changed.any() == (path.parent.name == "benign")
        if changed.any():
            y, x = np.nonzero(changed)
            side = before.shape[0] // 5
            assert np.ptp(y) < side and np.ptp(x) < side and changed.mean() > 0.01
            corners.add((y.mean() > before.shape[0] / 2, x.mean() > before.shape[1] / 2))
    assert len(corners) == 4  # the place tells nothing


def test_what_cannot_be_drawn_is_refused(tmp_path):
    for make, options, what in (
        (datasets.marked_sample, {"marked": "oak"}, "no class 'oak'"),
        (datasets.textures, {"each": 0}, "cannot be drawn"),
    ):
        with pytest.raises(VggnbError, match=what):
            make(tmp_path / "new", **options)
