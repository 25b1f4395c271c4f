"""Manifest rows become batches of raw pixels, in an order that is a pure function of seed and epoch."""

import errno
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from vggnb import images as decoding
from vggnb.generators import epoch_order, make_dataset, read_row, readable_batches
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

    recipe = Recipe.article().with_(image_size=96)
    folder = sample_folder()
    theirs = ImageDataGenerator(rescale=1 / 255).flow_from_directory(
        folder / split, target_size=(96, 96), batch_size=32, class_mode="sparse", shuffle=False
    )
    manifest = survey(folder)
    ours = make_dataset(manifest, split, recipe)
    layer = preprocessing_layer(recipe)
    assert list(theirs.class_indices) == list(manifest.classes)
    assert len(ours) == len(theirs)
    assert [row.path for row in manifest.of(split)] == [f"{split}/{name}" for name in theirs.filenames]
    for (images, labels), (their_images, their_labels) in zip(ours, theirs, strict=False):
        assert np.array_equal(layer(images).numpy(), their_images) and their_images.max() <= 1
        assert labels.numpy().tolist() == their_labels.tolist()


def test_batches_hold_raw_pixels_and_labels(manifest, small):
    images, labels = next(iter(make_dataset(manifest, "train", small)))
    assert images.shape == (3, 32, 32, 3) and images.dtype == "float32" and labels.dtype == "int32"
    rows = manifest.of("train")[:3]
    for image, label, row in zip(images.numpy(), labels.numpy(), rows, strict=True):
        assert np.array_equal(image, read_row(manifest, row, small)) and label == row.label
        assert 0 <= image.min() and 100 < image.max() <= 255


@pytest.mark.parametrize("training", [False, True])
def test_the_last_batch_is_smaller_and_never_dropped(training, manifest, small):
    dataset = make_dataset(manifest, "train", small, training=training)
    sizes = [len(labels) for _, labels in dataset]
    assert sizes == [3, 3, 3, 3, 3, 1] and len(dataset) == 6


def test_an_evaluation_order_is_the_manifests(manifest, small):
    _, labels = collect(make_dataset(manifest, "test", small))
    assert labels.tolist() == [row.label for row in manifest.of("test")]


def test_a_training_order_differs_between_epochs_and_is_the_same_again(manifest, small):
    dataset, again = (make_dataset(manifest, "train", small, training=True) for _ in range(2))
    passes = [collect(dataset)[0] for _ in range(2)]
    assert not np.array_equal(*passes)
    assert np.array_equal(np.sort(passes[0], axis=0), np.sort(passes[1], axis=0)), "every picture once in each"
    assert np.array_equal(passes[0], collect(again)[0]) and np.array_equal(passes[1], collect(again)[0])
    rows = manifest.of("train")
    for epoch, pixels in enumerate(passes):
        order = epoch_order(len(rows), seed=small.seed, epoch=epoch)
        assert np.array_equal(pixels, [read_row(manifest, rows[index], small) for index in order])


def test_labels_stay_with_their_pictures_in_training(manifest, small):
    label_of = {read_row(manifest, row, small).tobytes(): row.label for row in manifest.of("train")}
    for image, label in zip(*collect(make_dataset(manifest, "train", small, training=True)), strict=True):
        assert label_of[image.astype(np.uint8).tobytes()] == label


def test_an_order_is_a_pure_function_of_seed_and_epoch():
    np.random.seed(0)
    first = epoch_order(50, seed=1, epoch=2)
    np.random.seed(1)
    assert np.array_equal(first, epoch_order(50, seed=1, epoch=2))
    assert sorted(first) == list(range(50))
    others = [epoch_order(50, seed=1, epoch=3), epoch_order(50, seed=2, epoch=2), epoch_order(50, seed=2, epoch=1)]
    assert not any(np.array_equal(first, other) for other in others)


def test_an_empty_split_has_no_batches(manifest, small):
    nothing = replace(manifest, rows=manifest.of("train"))
    assert list(make_dataset(nothing, "test", small)) == []


def test_tensorflow_gets_the_threads_that_the_variable_asks_for(monkeypatch):
    monkeypatch.setenv("VGGNB_THREADS", "3")
    code = "import vggnb.generators, tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]


def read_all(manifest, rows, recipe, batch=4):
    unreadable = []
    batches = list(readable_batches(manifest, rows, recipe, batch=batch, unreadable=unreadable))
    return [row for some, _ in batches for row in some], [pixels for _, pixels in batches], unreadable


def test_readable_batches_hold_every_row_in_order(manifest, small):
    rows = manifest.of("train")
    read, pixels, unreadable = read_all(manifest, rows, small, batch=5)
    assert read == list(rows) and not unreadable
    assert [len(some) for some in pixels] == [5, 5, 5, 1]
    assert np.array_equal(np.concatenate(pixels), collect(make_dataset(manifest, "train", small))[0])


def test_unreadable_files_are_named_in_order_and_the_others_come(own_photos, survey, small):
    manifest = survey(own_photos)
    rows = manifest.of("train")
    (own_photos / rows[0].path).unlink()
    (own_photos / rows[5].path).write_bytes(b"")
    data = (own_photos / rows[6].path).read_bytes()
    (own_photos / rows[6].path).write_bytes(data[:-20])
    read, pixels, unreadable = read_all(manifest, rows, small)
    assert [path for path, _ in unreadable] == [rows[k].path for k in (0, 5, 6)]
    assert all(reason for _, reason in unreadable) and "changed since the census" in unreadable[2][1]
    assert read == [row for k, row in enumerate(rows) if k not in (0, 5, 6)]
    assert [len(some) for some in pixels] == [3, 2, 4, 4]


def test_a_batch_without_any_readable_file_is_no_batch(own_photos, survey, small):
    manifest = survey(own_photos)
    rows = manifest.of("train")[:8]
    for row in rows[:4]:
        (own_photos / row.path).unlink()
    read, pixels, unreadable = read_all(manifest, rows, small)
    assert read == list(rows[4:]) and len(pixels) == 1 and len(unreadable) == 4


def test_a_dataset_that_was_moved_is_told_with_the_way_back(own_photos, survey, small, tmp_path):
    manifest = survey(own_photos)
    own_photos.rename(tmp_path / "moved")
    with pytest.raises(VggnbError, match="dataset's folder is not there") as told:
        read_all(manifest, manifest.of("train"), small)
    assert told.value.where == str(own_photos) and "vggnb train NEWPLACE --out RUN" in told.value.remedy
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
