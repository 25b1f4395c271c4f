"""Manifest rows become batches of raw pixels, in an order that is a pure function of seed and epoch."""

import errno
from dataclasses import replace

import numpy as np
import pytest
from programs import told_by

from vggnb import generators
from vggnb import images as decoding
from vggnb.generators import Images, augment, epoch_order, make_dataset, read_row, read_rows, readable_batches
from vggnb.model import preprocessing_layer
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError


@pytest.fixture
def small(article):
    """Batches of three: 16 training images do not divide evenly."""
    return article.with_(batch_size=3)


def collect(dataset):
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_article_gets_the_pixels_of_image_data_generator_bit_for_bit(split, survey):
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    recipe, folder = Recipe.article().with_(image_size=96), sample_folder()
    theirs = ImageDataGenerator(rescale=1 / 255).flow_from_directory(
        folder / split, target_size=(96, 96), batch_size=32, class_mode="sparse", shuffle=False
    )
    manifest = survey(folder)
    ours, layer = make_dataset(manifest, split, recipe), preprocessing_layer(recipe)
    assert list(theirs.class_indices) == list(manifest.classes) and len(ours) == len(theirs)
    assert [row.path for row in manifest.of(split)] == [f"{split}/{name}" for name in theirs.filenames]
    for (images, labels), (their_images, their_labels) in zip(ours, theirs, strict=False):
        assert np.array_equal(layer(images).numpy(), their_images) and their_images.max() <= 1
        assert labels.numpy().tolist() == their_labels.tolist()


def test_batches_hold_raw_pixels_and_labels_in_the_manifests_order(manifest, small):
    dataset = make_dataset(manifest, "train", small)
    images, labels = next(iter(dataset))
    assert images.shape == (3, 32, 32, 3) and images.dtype == "float32" and labels.dtype == "int32"
    images, labels = collect(dataset)
    rows = manifest.of("train")
    assert np.array_equal(images, read_rows(manifest, rows, small)) and 100 < images.max() <= 255
    assert labels.tolist() == [row.label for row in rows]
    assert list(make_dataset(replace(manifest, rows=rows), "test", small)) == [], "an empty split"


@pytest.mark.parametrize("training", [False, True])
def test_the_last_batch_is_smaller_and_never_dropped(training, manifest, small):
    dataset = make_dataset(manifest, "train", small, training=training)
    assert [len(labels) for _, labels in dataset] == [3, 3, 3, 3, 3, 1] and len(dataset) == 6


def test_a_training_order_differs_between_epochs_and_is_the_same_again(manifest, small):
    dataset, again = (make_dataset(manifest, "train", small, training=True) for _ in range(2))
    rows = manifest.of("train")
    for epoch in range(2):
        order = epoch_order(len(rows), seed=small.seed, epoch=epoch)
        for images, labels in (collect(dataset), collect(again)):
            assert np.array_equal(images, [read_row(manifest, rows[index], small) for index in order])
            assert labels.tolist() == [rows[index].label for index in order]


def test_an_order_is_a_pure_function_of_seed_and_epoch():
    np.random.seed(0)
    first = epoch_order(50, seed=1, epoch=2)
    np.random.seed(1)
    assert np.array_equal(first, epoch_order(50, seed=1, epoch=2)) and sorted(first) == list(range(50))
    others = [epoch_order(50, seed=1, epoch=3), epoch_order(50, seed=2, epoch=2), epoch_order(50, seed=2, epoch=1)]
    assert not any(np.array_equal(first, other) for other in others)


def test_tensorflow_gets_the_threads_that_the_variable_asks_for(monkeypatch):
    monkeypatch.setenv("VGGNB_THREADS", "3")
    code = "import vggnb.generators, tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())"
    assert told_by("-c", code)[0] == 3


# Rows that can be read


def read_all(manifest, rows, recipe, batch=4):
    unreadable = []
    batches = list(readable_batches(manifest, rows, recipe, batch=batch, unreadable=unreadable))
    return [row for some, _ in batches for row in some], [pixels for _, pixels in batches], unreadable


def test_readable_batches_hold_every_row_in_order(manifest, small):
    rows = manifest.of("train")
    read, pixels, unreadable = read_all(manifest, rows, small, batch=5)
    assert read == list(rows) and not unreadable and [len(some) for some in pixels] == [5, 5, 5, 1]
    assert np.array_equal(np.concatenate(pixels), read_rows(manifest, rows, small))


def test_unreadable_files_are_named_in_order_and_the_others_come(own_photos, survey, small):
    manifest = survey(own_photos)
    rows, bad = manifest.of("train"), (0, 5, 6, 8, 9, 10, 11)  # a batch of four without any readable file is no batch
    for k in bad:
        data = (own_photos / rows[k].path).read_bytes()
        (own_photos / rows[k].path).unlink()
        if k in (5, 6):
            (own_photos / rows[k].path).write_bytes(data[:-20] if k == 6 else b"")
    read, pixels, unreadable = read_all(manifest, rows, small)
    assert [path for path, _ in unreadable] == [rows[k].path for k in bad]
    assert all(reason for _, reason in unreadable) and "changed since the census" in unreadable[2][1]
    assert read == [row for k, row in enumerate(rows) if k not in bad] and [len(some) for some in pixels] == [3, 2, 4]


def test_a_dataset_that_was_moved_is_told_with_the_way_back(own_photos, survey, small, tmp_path):
    manifest = survey(own_photos)
    own_photos.rename(tmp_path / "moved")
    with pytest.raises(VggnbError, match="dataset folder no longer exists") as caught:
        read_all(manifest, manifest.of("train"), small)
    assert caught.value.where == str(own_photos) and "vggnb train NEWPLACE --out RUN" in caught.value.remedy
    assert read_all(manifest, (), small) == ([], [], [])


def test_a_lost_drive_stops_the_reading_instead_of_leaving_the_rest_out(manifest, small, monkeypatch):
    rows, read = manifest.of("train"), decoding.Path.read_bytes

    def disconnect(path):
        if path == manifest.dataset / rows[6].path:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return read(path)

    monkeypatch.setattr(decoding.Path, "read_bytes", disconnect)
    with pytest.raises(VggnbError, match="run the mount cell again"):
        read_all(manifest, rows, small)


# Augmentation


def test_an_augmented_image_depends_on_seed_epoch_and_index_alone():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    kinds = ("flips", "rotations", "brightness", "contrast")
    together = augment(images, [3, 1, 9, 5], kinds, seed=7, epoch=2)
    alone = augment(images[1:2], [1], kinds, seed=7, epoch=2)
    assert np.array_equal(together[1], alone[0]) and together.dtype == np.float32
    assert together.min() >= 0 and together.max() <= 255
    for seed, epoch, index in ((8, 2, 1), (7, 3, 1), (7, 2, 2)):
        assert not np.array_equal(augment(images[1:2], [index], kinds, seed=seed, epoch=epoch), alone)
    shown = generators.augmented_versions(images[1], Recipe.fine().with_(augment=kinds, seed=7), epochs=3)
    assert shown.shape == (4, *images[1].shape) and np.array_equal(shown[0], images[1])
    assert np.array_equal(shown[1], augment(images[1:2], [0], kinds, seed=7, epoch=0)[0])
    assert np.array_equal(augment(images, range(4), (), seed=0, epoch=0), images)
    with pytest.raises(VggnbError, match="augment"):
        Recipe.fine().with_(augment=("mixup",))


@pytest.mark.parametrize("kind, count", [("flips", 2), ("rotations", 4), ("brightness", 60), ("contrast", 60)])
def test_each_kind_of_augmentation_does_what_it_says(kind, count):
    image = np.random.default_rng(1).integers(60, 180, (8, 8, 3)).astype(np.float32)
    found = augment(np.stack([image] * 60), range(60), (kind,), seed=0, epoch=0)
    assert len(np.unique(found.round(3), axis=0)) == count
    turned = {"flips": [image, image[:, ::-1]], "rotations": [np.rot90(image, turns) for turns in range(4)]}
    if kind in turned:
        assert {one.tobytes() for one in found} == {one.tobytes() for one in turned[kind]}
    else:
        level = image.mean() if kind == "contrast" else 0
        factors = ((found - level) / (image - level)).mean(axis=(1, 2, 3))
        assert np.allclose(found, level + (image - level) * factors[:, None, None, None], rtol=1e-3)
        assert 0.799 < factors.min() < 0.85 and 1.15 < factors.max() < 1.201


def test_kept_in_memory_or_read_again_the_batches_are_the_same(manifest, best, monkeypatch):
    rows, recipe = manifest.of("train"), best.with_(batch_size=5, augment=("flips", "brightness"))
    images, indices = Images(manifest, rows, recipe), np.arange(len(rows))
    first, kept = (list(images.batches(indices, epoch)) for epoch in (3, 4))
    assert len(images.pixels) == len(rows) and not np.array_equal(first[0][0], kept[0][0])
    monkeypatch.setattr(generators, "MEMORY", 0)
    streamed = Images(manifest, rows, recipe)
    for (one, first), (other, second) in zip(kept, streamed.batches(indices, 4), strict=True):
        assert np.array_equal(one, other) and np.array_equal(first, second)
    assert sorted(np.concatenate([some for some, _ in kept])) == list(range(len(rows))) and not streamed.pixels
