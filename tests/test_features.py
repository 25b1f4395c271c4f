"""The frozen part of the network is run once for each image; what is stored is what would be computed."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vggnb import device
from vggnb import model as models
from vggnb.features import extract, store_key
from vggnb.features import extraction as module
from vggnb.generators import read_row
from vggnb.model import build_extractor
from vggnb.storage import VggnbError


@pytest.fixture
def get(base, best, tmp_path):
    """A function: (manifest) -> features, from a store of the test's own; `get.store` is its folder."""

    def get(manifest, recipe=best, **options):
        return extract(manifest, recipe, *base, store=get.store, progress=False, **options)

    get.store = tmp_path / "store"
    return get


@pytest.fixture(scope="module")
def made(base, best, manifest, tmp_path_factory):
    """Features of the manifest and the folder of the store that they are in."""
    store = tmp_path_factory.mktemp("made") / "store"
    return extract(manifest, best, *base, store=store, progress=False), store


@pytest.fixture
def get_again(get, made):
    """The same function as `get`; its store holds the manifest's features already."""
    shutil.copytree(made[1], get.store)
    return get


def ask(model, inputs):
    """What a model says, without compiling it first."""
    return model(inputs, training=False).numpy()


def shards(folder):
    return sorted(folder.rglob("*.npy"))


def test_features_are_those_of_each_image_in_the_manifests_order(made, manifest, base, best):
    features, _ = made
    assert features.rows == manifest.of("train") + manifest.of("validation")
    assert features.values.shape == (24, 2944) and features.values.dtype == np.float32
    pixels = np.stack([read_row(manifest, row, best) for row in features.rows]).astype(np.float32)
    expected = ask(build_extractor(base[0], best), pixels)
    assert np.allclose(features.values, expected, rtol=1e-4, atol=1e-3)
    assert len({value.tobytes() for value in features.values}) == 24
    assert features.labels.tolist() == [row.label for row in features.rows]


def test_the_test_split_is_left_alone_until_it_is_asked_for(get, made, manifest):
    assert {row.split for row in made[0].rows} == {"train", "validation"}
    assert get(manifest, splits=("test",)).images_forwarded == 12


def test_a_split_of_features_keeps_rows_values_and_labels_together(made, manifest):
    features, _ = made
    part = features.of("validation")
    assert part.rows == manifest.of("validation") and np.array_equal(part.values, features.values[16:])
    assert features.of("test").values.shape == (0, 2944) and features.of("test").labels.shape == (0,)


def test_nothing_is_forwarded_the_second_time(get_again, made, manifest, monkeypatch):
    first, _ = made
    assert (first.images_forwarded, first.from_store) == (24, 0)
    monkeypatch.setattr(models, "build_extractor", None)  # calling it would fail
    second = get_again(manifest)
    assert (second.images_forwarded, second.from_store) == (0, 24)
    assert np.array_equal(first.values, second.values)


def test_a_second_recipe_with_the_same_pixels_forwards_nothing(get_again, manifest, best):
    other = get_again(manifest, best.with_(pools=((5, "average"),), standardise=False, ridge=0.0, epochs=9, seed=5))
    assert other.images_forwarded == 0


@pytest.mark.parametrize(
    "change", [{"image_size": 40}, {"resize": "nearest"}, {"preprocessing": "rescale"}], ids=lambda change: [*change][0]
)
def test_other_pixels_have_another_place_in_the_store(change, best, base):
    assert store_key(best.with_(**change), base[1]) != store_key(best, base[1])


def test_other_weights_and_another_decoder_have_another_place_in_the_store(best, base, monkeypatch):
    here = store_key(best, base[1])
    assert store_key(best, replace(base[1], sha256="0" * 64)) != here
    monkeypatch.setattr(module, "DECODER_VERSION", "another")
    assert store_key(best, base[1]) != here


def test_a_changed_image_costs_exactly_one_row_even_with_the_same_size_and_time(get_again, made, own_photos, survey):
    path = own_photos / "train" / "cat" / "cat_0.jpg"
    status, data = path.stat(), path.read_bytes()
    Image.new("RGB", (44, 36), "orange").save(path)
    assert path.stat().st_size <= len(data)
    with open(path, "ab") as file:
        file.write(bytes(len(data) - path.stat().st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = get_again(survey(own_photos))
    assert (after.images_forwarded, after.from_store) == (1, 23)
    changed = [row.path for row, a, b in zip(after.rows, made[0].values, after.values, strict=True) if (a != b).any()]
    assert changed == ["train/cat/cat_0.jpg"]


def test_a_image_that_changed_after_the_census_is_left_out_not_mislabelled(get, own_photos, survey):
    manifest = survey(own_photos)
    Image.new("RGB", (44, 36), "orange").save(own_photos / "train" / "cat" / "cat_0.jpg")
    features = get(manifest)
    assert [path for path, _ in features.unreadable] == ["train/cat/cat_0.jpg"] and len(features.rows) == 23


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_only_the_images_of_the_damaged_shard_are_made_again(get, manifest, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BATCHES", 1)
    monkeypatch.setattr(device, "batch_size", lambda size: 10)
    first = get(manifest)
    assert len(shards(get.store)) == 3
    flip(max(shards(get.store), key=lambda path: path.stat().st_size))
    second = get(manifest)
    assert second.images_forwarded == 10
    assert np.allclose(first.values, second.values, rtol=1e-5, atol=1e-4)


def test_an_interrupted_extraction_goes_on_where_it_stopped(get, manifest, monkeypatch):
    monkeypatch.setattr(device, "batch_size", lambda size: 10)
    network, calls = module.VGG16.__call__, []

    def interrupted(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return network(self, pixels)

    monkeypatch.setattr(module.VGG16, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get(manifest)
    assert get(manifest).images_forwarded == 4


def test_unreadable_images_are_named_and_the_others_are_extracted(get, made, own_photos, survey):
    manifest = survey(own_photos)
    (own_photos / "train" / "dog" / "dog_3.png").unlink()
    (own_photos / "validation" / "cat" / "cat_1.png").write_bytes(b"no image")
    features = get(manifest)
    assert [path for path, _ in features.unreadable] == ["train/dog/dog_3.png", "validation/cat/cat_1.png"]
    assert len(features.rows) == len(features.values) == 22
    assert "left out: train/dog/dog_3.png" in str(features)
    value = {row.path: value for row, value in zip(made[0].rows, made[0].values, strict=True)}
    expected = [value[row.path] for row in features.rows]
    assert np.allclose(features.values, expected, rtol=1e-4, atol=1e-3), "no value moved to another row"


def test_without_any_readable_image_there_is_one_sentence(get, own_photos, survey):
    manifest = survey(own_photos)
    shutil.rmtree(own_photos)
    own_photos.mkdir()
    with pytest.raises(VggnbError, match="None of the images can be read"):
        get(manifest)


def test_duplicates_are_forwarded_once(get, own_photos, survey):
    shutil.copy(own_photos / "train" / "cat" / "cat_0.jpg", own_photos / "train" / "cat" / "again.jpg")
    features = get(survey(own_photos))
    assert features.images_forwarded == 24 and len(features.rows) == 25
    values = {row.path: value for row, value in zip(features.rows, features.values, strict=True)}
    assert np.array_equal(values["train/cat/cat_0.jpg"], values["train/cat/again.jpg"])
