"""A run: the same numbers every time, every image once an epoch, and a folder that is whole or trained again."""

import csv
import errno
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import small_run as small
from faults import inject
from programs import TESTS
from scipy.special import softmax

from vggnb.features import Features
from vggnb.generators import epoch_order
from vggnb.metrics.predictions import at_temperature
from vggnb.model import build_head, compile_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, sha256_file
from vggnb.train import Stopped, fit, open_or_train, open_run, start_run, train
from vggnb.train.head import class_weight, logits_of
from vggnb.train.runs import HEAD, LOCK, VALIDATION, check_empty, record, run_lock

FILES = ["run.json", "recipe.json", "manifest.csv", HEAD, VALIDATION]
LINEAR = small.SMALL.with_(hidden=0, dropout=0.0, ridge=10.0)


@pytest.fixture
def small_run(tmp_path):
    """A run on made-up features, not trained."""
    return small.start_small(tmp_path / "small")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The same run, trained."""
    run = small.start_small(tmp_path_factory.mktemp("straight") / "small")
    fit(run, small.features(), progress=False)
    return run


def without(features, *indices):
    keep = [k for k in range(len(features.rows)) if k not in indices]
    return Features(tuple(features.rows[k] for k in keep), features.values[keep], 0, len(keep), 0.0)


# The numbers


def test_fit_is_the_plain_loop_over_batches(manifest3, fit_tiny):
    """The same head comes out of a loop that a reader could write, so nothing is dropped, repeated or reordered."""
    recipe = Recipe.article().with_(image_size=32, epochs=3, batch_size=5, dropout=0.0, standardise=True, seed=2)
    run, features = fit_tiny(manifest3, recipe)
    part = features.of("train")
    values, labels = part.values[:, pool_columns(recipe)], np.eye(3, dtype=np.float32)[part.labels]
    head = build_head(recipe, 3)
    head.get_layer("standardise").adapt(values)
    compile_head(head, recipe)
    for epoch in range(3):
        order = epoch_order(len(values), seed=2, epoch=epoch)
        for at in range(0, len(order), 5):
            head.train_on_batch(values[order[at : at + 5]], labels[order[at : at + 5]])
    for ours, plain in zip(run.head().get_weights(), head.get_weights(), strict=True):
        assert np.allclose(ours, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["article", "best"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name, request, manifest, tmp_path):
    """Two whole trainings, dropout and all, from the images to the weights."""
    recipe, runs = request.getfixturevalue(name).with_(seed=1, epochs=2), []
    for number in range(2):
        np.random.seed(number)
        options = {"weights": "none", "store": tmp_path / f"store{number}", "progress": False}
        runs.append(train(manifest, recipe, tmp_path / str(number), **options)[0])
    first, again = runs
    assert first.history() == again.history() and first.model_sha256() == again.model_sha256()
    other = request.getfixturevalue(f"{name}_run")[0]  # of another seed
    same = np.array_equal(other.validation().probabilities, first.validation().probabilities)
    assert not same, "other folds or another beginning"
    timing = first.training()["timing"]
    assert (timing["images_forwarded"], timing["features_from_cache"]) == (24, 0)
    assert timing["total_s"] == pytest.approx(timing["features_s"] + timing["head_s"], abs=2e-3)
    assert open_run(str(first.folder)) == first and first.is_trained()


@pytest.mark.parametrize("which", ["article_run", "run3"])
def test_the_last_row_of_the_history_is_what_the_kept_head_gives(which, request):
    """The validation loss is the cross-entropy of the probabilities, with no penalty in it."""
    run, features = request.getfixturevalue(which)
    part, last = features.of("validation"), run.history().rows[-1]
    outputs = run.head().predict_on_batch(part.values[:, pool_columns(run.recipe)])
    probabilities = softmax(logits_of(outputs, run.recipe.activation(len(run.classes))), axis=1)
    expected = -np.log(probabilities[np.arange(len(part.labels)), part.labels]).mean()
    assert last["val_loss"] == pytest.approx(expected, abs=1e-4)
    assert last["val_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == part.labels).mean())
    kept = run.validation()
    assert kept.paths == tuple(row.path for row in part.rows) and np.array_equal(kept.labels, part.labels)
    assert kept.probabilities == pytest.approx(at_temperature(probabilities, run.calibration().temperature), abs=1e-6)
    assert run.history().column("epoch") == [1, 2, 3] and str(run.history()).startswith("3 epochs: loss ")
    with open(run.folder / "history.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == list(run.history().rows)


def test_with_patience_the_head_of_the_best_epoch_is_kept(tmp_path):
    recipe = small.SMALL.with_(epochs=60, patience=3, learning_rate=0.003)
    run = small.start_small(tmp_path / "patient", recipe)
    losses = [row["val_loss"] for row in fit(run, small.features(), progress=False).rows]
    best = run.training()["best_epoch"]
    assert len(losses) == best + 3 < 60 and losses[best - 1] == min(losses)
    inputs, labels = small.features().of("validation").values[:, pool_columns(recipe)], np.arange(44, 64) % 2
    head = run.head()
    compile_head(head, recipe)
    assert head.evaluate(inputs, labels, verbose=0)[0] == pytest.approx(min(losses), abs=1e-6)


@pytest.mark.parametrize("recipe", [small.SMALL, LINEAR], ids=["Adam", "exact"])
def test_with_class_weights_each_class_counts_the_same(recipe, tmp_path):
    assert class_weight(np.array([0, 0, 0, 1]), recipe) is None
    weighted = recipe.with_(class_weights=True)
    assert class_weight(np.array([0, 0, 0, 1]), weighted) == {0: pytest.approx(2 / 3), 1: 2.0}
    whole, means = small.features(), {}
    rare = [k for k, row in enumerate(whole.rows) if row.split == "train" and row.label == 1 and k % 8 != 1]
    for name, one in (("plain", recipe), ("weighted", weighted)):
        run = small.start_small(tmp_path / name, one)
        fit(run, without(whole, *rare), progress=False)
        inputs = whole.of("validation").values[:, pool_columns(recipe)]
        means[name] = run.head().predict(inputs, verbose=0)[:, 1].mean()
    assert means["weighted"] > means["plain"] + 0.03, "the rare class is predicted more often"


# Fitted on what


def test_an_exact_head_is_fitted_on_train_and_validation_and_predicts_both_out_of_fold(tmp_path):
    features = small.features()
    run = small.start_small(tmp_path / "all", LINEAR)
    assert fit(run, features, progress=False).rows == ()
    facts = run.training()
    assert facts["fitted_on"] == "train and validation" and facts["images"] == 64
    assert facts["validation"] == {"images": 64, "out_of_fold": True} and facts["calibration"]["images"] == 64
    found = run.validation()
    assert found.paths == tuple(row.path for row in features.rows) and np.array_equal(found.labels, features.labels)
    own = run.head().predict_on_batch(features.values[:, pool_columns(LINEAR)])
    at = np.arange(64), found.labels
    assert np.log(own[at]).mean() > np.log(found.probabilities[at]).mean() + 0.1, "images that it has seen look easier"


def test_held_out_images_have_no_influence_on_an_exact_head(tmp_path):
    features, heads, late = small.features(), [], (np.arange(64) >= 44)[:, None]
    for number in range(2):
        run = small.start_small(tmp_path / str(number), LINEAR.with_(hold_out=True, ridge=(30.0, 3.0)))
        fit(run, replace(features, values=features.values + np.float32(number) * late), progress=False)
        assert run.training()["fitted_on"] == "train" and run.training()["validation"]["out_of_fold"] is False
        heads.append(run.head().get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*heads, strict=True))
    assert run.validation().paths == tuple(row.path for row in features.of("validation").rows)


def test_where_folds_are_impossible_validation_is_held_out(tmp_path):
    one_group = tuple(replace(row, group=str(row.label)) for row in small.rows())
    run = small.start_small(tmp_path / "few", LINEAR)
    fit(run, replace(small.features(), rows=one_group), progress=False)
    assert run.training()["fitted_on"] == "train" and len(run.validation().labels) == 20


# What is written down


def test_without_validation_images_there_are_no_validation_numbers(small_run):
    history = fit(small_run, small.features().of("train"), progress=False)
    assert set(history.rows[0]) == {"epoch", "loss", "accuracy"} and "validation" not in str(history)
    assert small_run.validation().probabilities.shape == (0, 2)


def test_progress_is_bars_on_stderr_and_the_choice_in_one_sentence(best_run, own_run, small_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a bar is cut where the terminal ends
    monkeypatch.setenv("LINES", "50")
    fit(own_run, replace(best_run[1], unreadable=(("train/cat/x.jpg", "cut short"),)), progress=True)
    assert own_run.training()["left_out"] == [["train/cat/x.jpg", "cut short"]]
    shown = capsys.readouterr()
    assert shown.out.startswith("Ridge ") and shown.out.count("\n") == 1 and "Out-of-fold" in shown.err
    fit(small_run, small.features(), progress=True)
    shown = capsys.readouterr()
    assert not shown.out and "12/12" in shown.err and "val_accuracy" in shown.err


def test_a_progress_of_ones_own_is_given_the_number_of_epochs_and_hears_of_each(small_run):
    heard = []

    def listen(epochs):
        heard.append(epochs)
        return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: heard.append((epoch, sorted(logs))))

    fit(small_run, small.features(), progress=listen)
    assert heard == [12, *((epoch, ["accuracy", "loss", "val_accuracy", "val_loss"]) for epoch in range(12))]


def test_the_assembled_model_has_the_temperature_of_the_run(own_run, base):
    before, name = own_run.classifier(base[0]), own_run.model_sha256()
    facts = own_run.training()
    assert facts["calibration"]["temperature"] == 1 and facts["calibration"]["images"] == 24
    record(own_run, facts | {"calibration": facts["calibration"] | {"temperature": 2.0}}, {}, extend=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    cold, warm = (model.predict_on_batch(pixels) for model in (before, own_run.classifier(base[0])))
    assert warm == pytest.approx(at_temperature(cold, 2.0), abs=1e-5)
    assert own_run.model_sha256() != name, "predictions of the other model are not taken for this one's"


@pytest.mark.parametrize("same", [True, False])
def test_reports_of_another_model_are_removed_and_those_of_the_same_stay(same, best_run, own_run):
    reports = [own_run.folder / name for name in ("predictions-test-1-2.csv", "report-test.json", "report.html")]
    users = [own_run.folder / name for name in ("report-2026.json", "predictions-2026.csv", "report-relabel-test.csv")]
    for path in (*reports, *users):
        path.write_text("{}")
    fit(own_run, best_run[1] if same else without(best_run[1], 0), progress=False)
    assert [path.exists() for path in reports] == [same] * 3 and all(path.exists() for path in users)


# Errors


def test_a_loss_that_is_not_finite_stops_with_advice_and_writes_nothing(small_run):
    values = small.features().values.copy()
    values[3] = np.nan
    # Not standardised, so that the poison is in one row and not in all. The loss itself stays finite: relu hides it.
    run = small.start_small(small_run.folder.parent / "poisoned", small.SMALL.with_(standardise=False))
    with pytest.raises(VggnbError, match="no longer finite") as caught:
        fit(run, replace(small.features(), values=values), progress=False)
    assert "a tenth of the learning rate" in caught.value.remedy and not run.is_trained()


def test_a_class_without_training_images_is_refused(best_run, own_run):
    for part in (best_run[1].of("validation"), without(best_run[1], *range(8))):
        with pytest.raises(VggnbError, match="Classes without a readable training image"):
            fit(own_run, part, progress=False)


def test_a_folder_of_other_things_and_a_file_are_refused(tmp_path, manifest, best, base):
    (tmp_path / "folder").mkdir()
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / ".DS_Store").write_text("x")
    check_empty(tmp_path / "fresh")
    for name in ("file", "folder/photos"):
        (tmp_path / name).write_text("x")
    for name, words in (("folder", "something other than a run"), ("file", "A file stands")):
        with pytest.raises(VggnbError, match=words) as caught:
            start_run(tmp_path / name, manifest, best, weights="none", source=base[1])
        assert caught.value.where == str(tmp_path / name)
    assert len(list(tmp_path.rglob("*"))) == 5


def test_the_same_decisions_are_welcome_again_and_others_refused_with_the_difference(own_run, tmp_path):
    before, manifest = own_run.training(), replace(own_run.manifest, dataset=tmp_path / "moved")
    decisions = {"recipe": own_run.recipe, "manifest": manifest, "source": own_run.source, "weights": "none"}
    again = start_run(own_run.folder, **decisions)
    assert again.training() == before and again.is_trained() and open_run(own_run.folder).manifest == manifest
    renamed = [replace(row, path=f"{row.path}.jpeg") for row in manifest.rows]
    decisions["manifest"] = manifest = manifest.only(renamed)
    again = start_run(own_run.folder, **decisions)
    assert set(again.validation().paths) <= {row.path for row in renamed}
    manifest.only(manifest.rows).write(own_run.folder / "manifest.csv")  # and a kill before run.json is written
    replace(manifest, dataset=tmp_path / "again").write(own_run.folder / "manifest.csv")
    assert start_run(own_run.folder, **decisions).is_trained()
    changes = {
        "epochs is 3 there and 9 here": {"recipe": own_run.recipe.with_(epochs=9)},
        "'dog'], here ['dog', 'cat']": {"manifest": replace(manifest, classes=("dog", "cat"))},
        "images or splits differ": {"manifest": replace(manifest, rows=manifest.rows[1:])},
        "weights are not the same": {"source": replace(own_run.source, sha256="0" * 64)},
    }
    for words, change in changes.items():
        with pytest.raises(VggnbError, match="another run") as caught:
            start_run(own_run.folder, **decisions | change)
        assert words in caught.value.what and open_run(own_run.folder) == again


def test_an_untrained_run_and_no_run_say_what_to_do(tmp_path, small_run):
    for ask in (small_run.head, small_run.history, small_run.model_sha256, lambda: open_run(small_run.folder)):
        with pytest.raises(VggnbError, match="not trained"):
            ask()
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(VggnbError, match="no run in this folder"):
            open_run(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_missing_file_is_refused_by_name_and_training_again_mends_it(name, straight, tmp_path):
    run = open_run(shutil.copytree(straight.folder, tmp_path / "run"))
    data = bytearray((run.folder / name).read_bytes())
    data[data.index(b"schema") + 2 if name == "run.json" else len(data) // 2] ^= 1
    for damage in ((run.folder / name).unlink, lambda: (run.folder / name).write_bytes(data)):
        damage()
        assert not run.is_trained()
        with pytest.raises(VggnbError, match=f"{name}|not trained"):
            opened = open_run(run.folder)
            opened.head(), opened.validation()
    if name in (HEAD, VALIDATION):
        fit(run, small.features(), progress=False)
        assert run.is_trained() and run.model_sha256() == straight.model_sha256()


def test_a_run_of_another_version_or_on_other_weights_is_refused(own_run):
    with pytest.raises(VggnbError, match="not those this run was trained on"):
        replace(own_run, source=replace(own_run.source, sha256="0" * 64)).classifier()
    path = own_run.folder / "run.json"
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 2'))
    with pytest.raises(VggnbError, match="not written by this version") as caught:
        open_run(own_run.folder)
    assert "new folder" in caught.value.remedy


# Interruptions


KILLED = """
import os, signal, sys, small_run
from pathlib import Path
from keras.callbacks import LambdaCallback
from vggnb.train import fit

kill = LambdaCallback(on_epoch_end=lambda epoch, logs: epoch < 5 or os.kill(os.getpid(), signal.SIGKILL))
fit(small_run.start_small(Path(sys.argv[1])), small_run.features(), progress=lambda epochs: kill)
"""


def test_after_a_kill_the_next_call_ends_as_if_nothing_had_happened(straight, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "small")]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "small" / LOCK).exists() and not (tmp_path / "small" / "run.json").exists()
    run = small.start_small(tmp_path / "small")
    fit(run, small.features(), progress=False)
    for name in (HEAD, VALIDATION, "history.csv", "recipe.json"):
        assert sha256_file(run.folder / name) == sha256_file(straight.folder / name)
    assert run.is_trained() and not (run.folder / LOCK).exists()


def test_a_stopped_training_leaves_the_run_as_it_was(straight, tmp_path):
    def stop(epoch, logs):
        raise KeyboardInterrupt

    run = open_run(shutil.copytree(straight.folder, tmp_path / "small"))
    with pytest.raises(Stopped, match="Run this again") as caught:
        fit(run, small.features(), progress=lambda epochs: keras.callbacks.LambdaCallback(on_epoch_end=stop))
    assert caught.value._render_traceback_() == [str(caught.value)]
    assert run.is_trained() and not (run.folder / LOCK).exists()


@pytest.mark.parametrize("operation", ["write", "rename"])
def test_a_storage_that_fails_while_writing_is_reported_and_the_next_call_mends_it(operation, tmp_path):
    before = small.start_small(tmp_path / "before" / "small", LINEAR)
    fit(before, small.features(), progress=False)
    for number in itertools.count(1):
        run = open_run(shutil.copytree(before.folder, tmp_path / str(number)))
        failed = False
        with inject(operation, number, errno.ENOSPC, under=run.folder) as plan:
            try:
                fit(run, without(small.features(), 0), progress=False)
            except VggnbError as error:
                failed = "No space left" in error.what
            plan.disarm()
        if not plan.fired:
            break
        assert failed
        if number % 3 == 1:
            fit(run, small.features(), progress=False)
            assert run.is_trained() and run.model_sha256() == before.model_sha256()
    assert number > 3 and run.is_trained()


def test_open_or_train_trains_what_is_unfinished_or_damaged(best_run, own_run, tmp_path, capsys):
    options = {"weights": "none", "store": tmp_path / "store"}
    assert open_or_train(own_run.manifest, own_run.recipe, own_run.folder, **options) == own_run
    assert not capsys.readouterr().out
    moved = replace(own_run.manifest, dataset=tmp_path)
    assert open_or_train(moved, own_run.recipe, own_run.folder, **options).manifest == moved
    (own_run.folder / HEAD).write_bytes(b"")
    mended = open_or_train(own_run.manifest, own_run.recipe, own_run.folder, **options)
    assert mended.is_trained() and "training it now" in capsys.readouterr().out


# The lock


def lock_of(folder, **owner):
    (folder / LOCK).mkdir(parents=True)
    if owner:
        (folder / LOCK / "owner.json").write_text(json.dumps({"time": "2026-11-28 12:00", **owner}))


@pytest.mark.parametrize("owner", [{"pid": 1, "host": "elsewhere"}, {}])
def test_a_run_in_use_is_refused_before_anything_is_written(owner, small_run):
    lock_of(small_run.folder, **owner)
    before = sorted(path.name for path in small_run.folder.iterdir())
    words = "by process 1 on elsewhere since 2026-11-28" if owner else "already"
    for act in (lambda: fit(small_run, small.features()), lambda: small.start_small(small_run.folder)):
        with pytest.raises(VggnbError, match=f"'small' is in use {words}") as caught:
            act()
        assert str(small_run.folder / LOCK) in caught.value.remedy
    assert sorted(path.name for path in small_run.folder.iterdir()) == before


def test_another_process_is_refused_and_one_that_has_ended_is_taken_over(small_run):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        lock_of(small_run.folder, pid=process.pid, host=socket.gethostname())
        with pytest.raises(VggnbError, match=f"in use by process {process.pid} on "), run_lock(small_run.folder):
            pass
    with run_lock(small_run.folder), run_lock(small_run.folder):  # nested in one process
        assert json.loads((small_run.folder / LOCK / "owner.json").read_text())["pid"] == os.getpid()
        with pytest.raises(BrokenPipeError), run_lock(small_run.folder):
            raise BrokenPipeError
    assert not (small_run.folder / LOCK).exists()


def test_on_colab_the_lock_of_a_run_on_drive_is_on_the_local_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("vggnb.paths.CONTENT", tmp_path)
    (folder := tmp_path / "drive" / "MyDrive" / "runs" / "skin").mkdir(parents=True)
    with run_lock(folder):
        assert not list(folder.iterdir()) and len(list((tmp_path / ".vggnb-locks").iterdir())) == 1
    assert not list((tmp_path / ".vggnb-locks").iterdir())
