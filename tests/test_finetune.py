"""Fine-tuning: the right layers learn, validation stays held out, and a kill changes nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from programs import TESTS
from scipy.special import softmax

from vggnb.evaluate import evaluate, predict_rows, predict_split
from vggnb.explain import grad_cam
from vggnb.generators import Images
from vggnb.model import build_classifier
from vggnb.recipe import CONVOLUTIONS, Recipe
from vggnb.save import load_bundle, save_bundle
from vggnb.storage import VggnbError
from vggnb.train import Stopped, fine_tune, fit, open_or_train, open_run, train
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


def test_history_begins_with_the_head_and_a_loss_is_the_mean_over_images(manifest, best, fit_tiny, base):
    """Where next to nothing is learned, changed or dropped, every epoch has the loss of epoch 0, the head's."""
    still = TINY | {"fine_tune_rate": 1e-12, "fine_tune_dropout": 0.0, "augment": (), "hold_out": True}
    rows = fine_tune(*fit_tiny(manifest, best.with_(**still)), base=base[0], progress=False).rows
    assert [row["epoch"] for row in rows] == [0, 1, 2]
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
    timing = run.training()["timing"]
    train(manifest, recipe, tmp_path / "run", **places | {"store": tmp_path / "other"})
    assert run.fine_tuned() == before and run.training()["timing"] == timing and capsys.readouterr().out
    assert open_or_train(manifest, recipe, run.folder, **places) == run and not capsys.readouterr().out


def test_a_run_whose_fine_tuning_was_interrupted_is_not_taken_for_finished(with_head, tmp_path, monkeypatch):
    run, calls = with_head[0], []
    monkeypatch.setattr("vggnb.train.train", lambda *args, **options: calls.append(args[1]) or (run, None))
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


def test_images_that_cannot_be_read_any_more_are_left_out(best, own_photos, survey, fit_tiny, base, capsys):
    run, features = fit_tiny(survey(own_photos), best.with_(**TINY, augment=()))
    for split in ("train", "validation"):
        (own_photos / run.manifest.of(split)[2].path).unlink()
    fine_tune(run, features, base=base[0], progress=False)
    assert len(predict_split(run, "validation").paths) == 7
    assert "2 images that can no longer be read (train/" in capsys.readouterr().out
    assert run.fine_tuned()["images"] == len(features.rows) - 2
    for row in run.manifest.of("validation"):
        (own_photos / row.path).unlink(missing_ok=True)
    with pytest.raises(VggnbError, match="None of the images can be read"):
        fine_tune(run, features, base=base[0], progress=False, fresh=True)


def test_a_loss_that_is_not_finite_stops_the_training(manifest, best, fit_tiny, base):
    run, features = fit_tiny(manifest, best.with_(**TINY | {"fine_tune_rate": 1e30}))
    with pytest.raises(VggnbError, match="infinite or NaN in epoch"):
        fine_tune(run, features, base=base[0], progress=False)
    assert run.fine_tuned() is None


# Stopped, killed, continued


class Interrupts(keras.callbacks.Callback):
    """Ctrl-C in the second step of the second epoch."""

    left = 1

    def on_epoch_end(self, epoch, logs=None):
        self.left -= 1

    def on_train_batch_end(self, batch, logs=None):
        if not self.left and batch == 1:
            raise KeyboardInterrupt


def test_stopped_and_continued_ends_with_the_same_weights(tuned, with_head, base, tmp_path):
    run, features = copy_of(with_head[0], tmp_path / "run"), with_head[1]
    for _ in range(2):  # in epoch 2; in the second training's epoch 1
        with pytest.raises(Stopped, match="continue"):
            fine_tune(run, features, base=base[0], progress=lambda epochs: Interrupts())
        assert 1 <= len(list((run.folder / "checkpoints").iterdir())) <= 2
    fine_tune(run, features, base=base[0], progress=False)
    assert run.fine_tuned()["history"] == tuned[0].fine_tuned()["history"]
    straight, continued = weights_of(tuned[0]), weights_of(run)
    assert all(np.array_equal(straight[name], continued[name]) for name in straight)
    assert not (run.folder / "checkpoints").exists()


CHILD = """
import sys, time
from pathlib import Path
from keras.callbacks import LambdaCallback
from vggnb.features import extract
from vggnb.train import fine_tune, open_run

run, slow = open_run(Path(sys.argv[1])), LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.1))
base = run.base()
features = extract(run.manifest, run.recipe, base, run.source, store=Path(sys.argv[2]), progress=False)
fine_tune(run, features, base=base, progress=lambda epochs: slow)
"""


def started(run, store):
    """A process that fine-tunes this run with as many threads as this one."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
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
