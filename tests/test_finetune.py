"""Fine-tuning: the right layers learn, validation stays held out, and a kill changes nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from vggnb.evaluate import evaluate, predict_rows, predict_split
from vggnb.explain import grad_cam
from vggnb.model import build_classifier
from vggnb.recipe import CONVOLUTIONS, Recipe
from vggnb.save import load_bundle, save_bundle
from vggnb.storage import VggnbError
from vggnb.train import Stopped, augment, fine_tune, fit, open_or_train, open_run, train
from vggnb.train.augment import Images
from vggnb.train.finetune import build_network
from vggnb.weights import weights_sha256

TINY = {"fine_tune": "block5_conv2", "fine_tune_epochs": 2, "fine_tune_rate": 1e-6, "batch_size": 6}


@pytest.fixture(scope="module")
def with_head(fit_tiny, manifest, best):
    """A run that is to be fine-tuned, with its head, and its features."""
    return fit_tiny(manifest, best.with_(**TINY))


@pytest.fixture(scope="module")
def tuned(with_head, base, tmp_path_factory):
    """The same, fine-tuned twice over, and its features."""
    run, features = copy_of(with_head[0], tmp_path_factory.mktemp("tuned") / "run"), with_head[1]
    fine_tune(run, features, base=base[0], progress=False)
    return run, features


@pytest.fixture(scope="module")
def alone(fit_tiny, manifest, best, base):
    """A run of `best` with validation held out, fine-tuned."""
    run, features = fit_tiny(manifest, best.with_(hold_out=True, **TINY))
    fine_tune(run, features, base=base[0], progress=False)
    return run


def copy_of(run, folder):
    return open_run(shutil.copytree(run.folder, folder))


def weights_of(run):
    return run.arrays("fine_tuned.safetensors")


# Augmentation


def test_an_augmented_image_depends_on_seed_epoch_and_index_alone():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    kinds = ("flips", "rotations", "brightness", "contrast")
    together = augment.augment(images, [3, 1, 9, 5], kinds, seed=7, epoch=2)
    alone = augment.augment(images[1:2], [1], kinds, seed=7, epoch=2)
    assert np.array_equal(together[1], alone[0]) and together.dtype == np.float32
    assert together.min() >= 0 and together.max() <= 255
    for seed, epoch, index in ((8, 2, 1), (7, 3, 1), (7, 2, 2)):
        assert not np.array_equal(augment.augment(images[1:2], [index], kinds, seed=seed, epoch=epoch), alone)
    shown = augment.augmented_versions(images[1], Recipe.fine().with_(augment=kinds, seed=7), epochs=3)
    first = augment.augment(images[1:2], [0], kinds, seed=7, epoch=0)
    assert shown.shape == (4, *images[1].shape) and np.array_equal(shown[0], images[1])
    assert np.array_equal(shown[1], first[0])


@pytest.mark.parametrize("kind, count", [("flips", 2), ("rotations", 4), ("brightness", 60), ("contrast", 60)])
def test_each_kind_of_augmentation_does_what_it_says(kind, count):
    image = np.random.default_rng(1).integers(60, 180, (8, 8, 3)).astype(np.float32)
    found = augment.augment(np.stack([image] * 60), range(60), (kind,), seed=0, epoch=0)
    assert len(np.unique(found.round(3), axis=0)) == count
    if kind == "flips":
        assert {one.tobytes() for one in found} == {image.tobytes(), image[:, ::-1].tobytes()}
    elif kind == "rotations":
        assert {one.tobytes() for one in found} == {np.rot90(image, turns).tobytes() for turns in range(4)}
    elif kind == "brightness":
        factors = (found / image).mean(axis=(1, 2, 3))
        assert np.allclose(found, image * factors[:, None, None, None], rtol=1e-4)
        assert factors.min() < 0.85 and factors.max() > 1.15
    else:
        assert np.allclose(found.mean(axis=(1, 2, 3)), image.mean(), rtol=1e-3)
        assert (
            0.8 * image.std() <= found.std(axis=(1, 2, 3)).min()
            and found.std(axis=(1, 2, 3)).max() <= 1.2 * image.std()
        )


def test_without_augmentation_images_stay_as_they_are_and_any_other_kind_is_refused():
    images = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert np.array_equal(augment.augment(images, [0, 1], (), seed=0, epoch=0), images)
    with pytest.raises(VggnbError, match="augment"):
        Recipe.fine().with_(augment=("mixup",))


def test_kept_in_memory_or_read_again_the_batches_are_the_same(manifest, best, monkeypatch):
    rows, recipe = manifest.of("train"), best.with_(batch_size=5, augment=("flips", "brightness"))
    images, indices = Images(manifest, rows, recipe), np.arange(len(rows))
    first, kept = (list(images.batches(indices, epoch)) for epoch in (3, 4))
    assert len(images.pixels) == len(rows) and not np.array_equal(first[0][0], kept[0][0])
    monkeypatch.setattr(augment, "MEMORY", 0)
    streamed = Images(manifest, rows, recipe)
    for (one, first), (other, second) in zip(kept, streamed.batches(indices, 4), strict=True):
        assert np.array_equal(one, other) and np.array_equal(first, second)
    assert sorted(np.concatenate([some for some, _ in kept])) == list(range(len(rows))) and not streamed.pixels


# What learns, and on what


def test_before_the_first_step_the_network_is_the_classifier_and_then_its_loss_falls(best_run, base):
    run = best_run[0]
    recipe = run.recipe.with_(fine_tune="block4_conv1", ridge=3.0, fine_tune_rate=1e-7, fine_tune_dropout=0.0)
    network = build_network(base[0], run.head(), recipe, images=16)
    some, images = next(Images(run.manifest, run.manifest.of("train"), run.recipe).batches(range(6)))
    expected = build_classifier(base[0], run.head(), run.recipe).predict_on_batch(images)
    assert np.abs(softmax(network.predict_on_batch(images), axis=1) - expected).max() < 1e-5
    learning = {weight.path.split("/")[-2] for weight in network.trainable_weights}
    assert learning == {"output", *CONVOLUTIONS[CONVOLUTIONS.index("block4_conv1") :]}
    labels = np.array([run.manifest.of("train")[index].label for index in some])
    losses = [float(network.train_on_batch(images, labels)[0]) for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_only_the_named_layers_and_the_head_have_changed_and_the_base_is_left_alone(tuned, base):
    run = tuned[0]
    arrays, model = weights_of(run), run.classifier(base[0])
    assert {name for name in arrays if name.startswith("base/")} == {
        f"base/block5_conv{k}/{part}" for k in (2, 3) for part in ("kernel", "bias")
    }
    for name in CONVOLUTIONS:
        old, new = base[0].get_layer(name).get_weights()[0], model.get_layer(name).get_weights()[0]
        assert np.array_equal(old, new) == (name not in ("block5_conv2", "block5_conv3")), name
    assert weights_sha256(base[0]) == base[1].sha256
    assert not np.array_equal(arrays["head/003"], run.head().get_weights()[3])


def test_history_begins_with_the_head_and_each_epoch_evaluates_validation(tuned, alone):
    run, features = tuned
    history = run.fine_tuned()["history"]
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert all({"loss", "accuracy", "val_loss", "val_accuracy"} < row.keys() for row in history)
    head_only = alone.head().predict(features.of("validation").values, verbose=0)
    labels = features.of("validation").labels
    assert history[0]["val_loss"] == pytest.approx(-np.log(head_only[np.arange(len(labels)), labels]).mean(), abs=1e-4)


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(manifest, best, fit_tiny, base):
    """Where next to nothing is learned, changed or dropped, every epoch has the loss of epoch 0."""
    still = TINY | {"fine_tune_rate": 1e-12, "fine_tune_dropout": 0.0, "augment": (), "hold_out": True}
    rows = fine_tune(*fit_tiny(manifest, best.with_(**still)), base=base[0], progress=False).rows
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [row[name] for row in rows] == pytest.approx([rows[0][name]] * len(rows), rel=1e-3)


def test_validation_predictions_come_from_the_training_that_held_it_out(tuned, alone):
    """With `hold_out` the model is the first training's: its predictions are those that the run of both reports."""
    first, both = alone, tuned[0]
    assert first.fine_tuned()["fitted_on"] == "train" and first.fine_tuned()["images"] == 16
    assert both.fine_tuned()["fitted_on"] == "train and validation" and both.fine_tuned()["images"] == 24
    assert "24 images of train and validation" in str(both) and "a first training without them" in str(both)
    own = predict_rows(first, first.manifest, first.manifest.of("validation"), what="validation", progress=False)
    for run in (first, both):
        reported = predict_split(run, "validation", progress=False)
        order = [own.paths.index(path) for path in reported.paths]
        assert len(order) == 8 and np.abs(reported.probabilities - own.probabilities[order]).max() < 1e-5
        assert np.array_equal(reported.labels, own.labels[order])
    names = ("base/block5_conv2/kernel", "head/003")
    assert all(not np.array_equal(weights_of(both)[name], weights_of(first)[name]) for name in names)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bits_train_nearly_the_same(precision, tuned, manifest, best, base, tmp_path):
    recipe = best.with_(**TINY, ridge=3.0)
    how = {"weights": "none", "store": tmp_path / "store", "precision": precision, "progress": False}
    run, _ = train(manifest, recipe.with_(fine_tune_epochs=1), tmp_path / "run", **how)
    losses = [[row["val_loss"] for row in one.fine_tuned()["history"][:2]] for one in (run, tuned[0])]
    assert np.allclose(*losses, rtol=0.2) and losses[0] != losses[1]
    assert all(array.dtype == np.float32 for name, array in weights_of(run).items() if name.startswith("base/"))
    network = build_network(base[0], run.head(), recipe, precision=precision)
    assert isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "float16")
    assert network.get_layer("block1_conv1").compute_dtype == network.output.dtype == "float32"
    assert network.get_layer("block2_conv1").compute_dtype == precision


def test_evaluating_saving_and_explaining_work_as_before(tuned, quick_verify, tmp_path):
    run = tuned[0]
    report = evaluate(run, "validation", draws=20, progress=False)
    assert report.n == 8
    save_bundle(run, tmp_path / "bundle", formats=["weights"])
    loaded, ours = load_bundle(tmp_path / "bundle").model, run.classifier()
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    assert np.allclose(loaded.predict_on_batch(image), ours.predict_on_batch(image), atol=1e-6)
    assert grad_cam(ours, image[0], class_index=0).shape == (32, 32)
    timing = run.training()["timing"]
    parts = sum(timing[f"{part}_s"] for part in ("features", "head", "fine_tune"))
    assert timing["total_s"] == pytest.approx(parts, abs=3e-3)


def test_the_recipe_fine_trains_head_and_convolutions_and_says_what_it_costs(manifest, tmp_path, capsys):
    recipe = Recipe.fine().with_(image_size=32, fine_tune="block5_conv3", fine_tune_epochs=2)
    places = {"weights": "none", "store": tmp_path / "store"}
    run, _ = train(manifest, recipe, tmp_path / "run", **places)
    said = capsys.readouterr().out
    assert "2 epochs on 16 images of train, then 2 epochs on 24 images of train and validation; about" in said
    assert run.fine_tuned()["from_block"] == "block5_conv3" and open_run(run.folder).recipe == recipe
    before = run.fine_tuned()
    assert len(run.fine_tuning().rows) == 3 and list(run.fine_tuning().rows) == before["history"]
    train(manifest, recipe, tmp_path / "run", **places)
    assert run.fine_tuned() == before and "fresh=True" in capsys.readouterr().out
    assert open_or_train(manifest, recipe, run.folder, **places) == run and not capsys.readouterr().out


def test_a_run_whose_fine_tuning_was_interrupted_is_not_taken_for_finished(with_head, tmp_path, monkeypatch):
    run, calls = with_head[0], []
    monkeypatch.setattr("vggnb.train.head.train", lambda *args, **options: calls.append(args[1]) or (run, None))
    assert not run.fine_tuning().rows
    open_or_train(run.manifest, run.recipe, run.folder, weights="none", store=tmp_path)
    assert calls == [run.recipe]


def test_the_same_again_is_taken_from_the_run_until_its_head_is_another(tuned, base, tmp_path, capsys):
    run, features = copy_of(tuned[0], tmp_path / "run"), tuned[1]
    before = run.fine_tuned()
    assert list(fine_tune(run, features, progress=False).rows) == before["history"]
    assert "fresh=True" in capsys.readouterr().out
    fit(run, features, progress=False)
    assert run.fine_tuned() == before, "the same head"
    (run.folder / "fine_tuned.safetensors").write_bytes(b"x")
    with pytest.raises(VggnbError, match="damaged"):
        run.classifier(base[0])
    fit(run, replace(features, rows=features.rows[1:], values=features.values[1:]), progress=False)
    assert run.fine_tuned() is None and not (run.folder / "fine_tuned.safetensors").exists()


def test_an_image_that_cannot_be_read_any_more_is_left_out(best, own_photos, survey, fit_tiny, base):
    run, features = fit_tiny(survey(own_photos), best.with_(**TINY, augment=()))
    for split in ("train", "validation"):
        (own_photos / run.manifest.of(split)[2].path).unlink()
    fine_tune(run, features, base=base[0], progress=False)
    assert len(predict_split(run, "validation").paths) == 7


def test_a_loss_that_is_not_finite_stops_the_training(manifest, best, fit_tiny, base):
    run, features = fit_tiny(manifest, best.with_(**TINY | {"fine_tune_rate": 1e30}))
    with pytest.raises(VggnbError, match="infinite or NaN in epoch"):
        fine_tune(run, features, base=base[0], progress=False)
    assert run.fine_tuned() is None


# Stopped, killed, continued


class Interrupts(keras.callbacks.Callback):
    """Ctrl-C in the second step of the nth epoch."""

    def __init__(self, nth):
        super().__init__()
        self.left = nth

    def on_epoch_end(self, epoch, logs=None):
        self.left -= 1

    def on_train_batch_end(self, batch, logs=None):
        if self.left == 1 and batch == 1:
            raise KeyboardInterrupt


def test_stopped_and_continued_ends_with_the_same_weights(tuned, with_head, base, tmp_path):
    run, features = copy_of(with_head[0], tmp_path / "run"), with_head[1]
    for nth in (2, 2):  # in epoch 2; in the second training's epoch 1
        with pytest.raises(Stopped, match="continue"):
            fine_tune(run, features, base=base[0], progress=lambda epochs, nth=nth: Interrupts(nth))
        assert 1 <= len(list((run.folder / "checkpoints").iterdir())) <= 2
    fine_tune(run, features, base=base[0], progress=False)
    assert run.fine_tuned()["history"] == tuned[0].fine_tuned()["history"]
    straight, continued = weights_of(tuned[0]), weights_of(run)
    assert all(np.array_equal(straight[name], continued[name]) for name in straight)
    assert not (run.folder / "checkpoints").exists()


CHILD = """
import sys, time
from pathlib import Path
import keras
from vggnb.features import extract
from vggnb.train import fine_tune, open_run

class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.1)

run, base = open_run(Path(sys.argv[1])), None
base = run.base()
features = extract(run.manifest, run.recipe, base, run.source, store=Path(sys.argv[2]), progress=False)
fine_tune(run, features, base=base, progress=lambda epochs: Slow())
"""


def started(run, store):
    """A process that fine-tunes this run with as many threads as this one."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if threads := tf.config.threading.get_intra_op_parallelism_threads():
        environment["VGGNB_THREADS"] = str(threads)
    return subprocess.Popen([sys.executable, "-c", CHILD, str(run.folder), str(store)], env=environment)


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.torture)])
def test_killed_and_continued_ends_with_the_same_weights(kills, manifest, best, base, fit_tiny, tmp_path):
    recipe = best.with_(**TINY | {"fine_tune_epochs": 4})
    straight, features = fit_tiny(manifest, recipe, tmp_path / "straight")
    killed = copy_of(straight, tmp_path / "killed")
    fine_tune(straight, features, base=base[0], progress=False)
    random, folder = np.random.default_rng(kills), killed.folder / "checkpoints"
    for _ in range(kills):
        child, before = started(killed, tmp_path / "store"), sorted(folder.glob("epoch*"))
        while sorted(folder.glob("epoch*")) == before:
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        child.kill()
        assert child.wait() == -signal.SIGKILL
    fine_tune(killed, features, base=base[0], progress=False)
    assert killed.fine_tuned()["history"] == straight.fine_tuned()["history"]
    one, other = weights_of(straight), weights_of(killed)
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    assert not folder.exists() and not list(killed.folder.glob(".vggnb-*"))
