"""A run: the same numbers every time, every image once an epoch, and a folder that is old or new, never between."""

import csv
import errno
import itertools
import json
import os
import shutil
import signal
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from faults import CUTS, FLIPS, damaged, inject, small
from programs import told_by

from vggnb.checkpoints import State, read_state, to_bytes
from vggnb.features import Features
from vggnb.generators import epoch_order
from vggnb.lock import LOCK, held
from vggnb.metrics.ood import FeatureRanges
from vggnb.metrics.temperature import Calibration
from vggnb.model import build_head, compile_head, pool_columns
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, sealed, sha256_file, unsealed, write_json
from vggnb.train import Stopped, fit, keeper, open_or_train, open_run, start_run, train
from vggnb.train import head as head_module
from vggnb.train.head import _keep, _ordered_batches, class_weight
from vggnb.weights import weights_sha256

NO_LIMIT = FeatureRanges(np.zeros(1, np.float32), np.ones(1, np.float32), None, 0, "none")


def is_same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def heads(folder):
    return [path.name for path in folder.glob("head-*")]


@pytest.mark.parametrize("size, sizes", [(5, [5, 5, 5, 2]), (17, [17]), (32, [17]), (1, [1] * 17)])
def test_every_epoch_holds_every_image_once_in_its_own_order(size, sizes, article):
    recipe = article.with_(batch_size=size, epochs=3, seed=4)
    values, labels = np.arange(17, dtype=np.float32)[:, None], np.arange(17) * 10
    batches = [(v.numpy()[:, 0], y.numpy()) for v, y in _ordered_batches(values, labels, recipe)]
    assert [len(v) for v, _ in batches] == sizes * 3
    seen = np.concatenate([v for v, _ in batches]).astype(int)
    assert np.array_equal(np.concatenate([y for _, y in batches]), seen * 10)
    for epoch, order in enumerate(seen.reshape(3, 17)):
        assert np.array_equal(order, epoch_order(17, seed=4, epoch=epoch))


@pytest.mark.parametrize("name, manifest_name", [("article", "manifest3"), ("best", "manifest")])
def test_fit_is_the_plain_loop_over_batches(name, manifest_name, request, fit_tiny):
    """The same head comes out of a loop that a reader could write, so nothing is dropped, repeated or reordered."""
    recipe = Recipe.named(name).with_(image_size=32, epochs=3, batch_size=5, dropout=0.0, seed=2)
    recipe = recipe.with_(ridge=60.0) if recipe.is_open else recipe
    run, features = fit_tiny(request.getfixturevalue(manifest_name), recipe)
    part, classes = features.of("train"), len(run.classes)
    values, labels = part.values[:, pool_columns(recipe)], part.labels
    if classes > 2:
        labels = np.eye(classes, dtype=np.float32)[labels]
    keras.utils.set_random_seed(recipe.seed)
    head = build_head(recipe, classes, images=len(values))
    if recipe.standardise:
        head.get_layer("standardise").adapt(values)
    compile_head(head, recipe, images=len(values))
    for epoch in range(3):
        order = epoch_order(len(values), seed=2, epoch=epoch)
        for at in range(0, len(order), 5):
            head.train_on_batch(values[order[at : at + 5]], labels[order[at : at + 5]])
    for ours, plain in zip(run.head().get_weights(), head.get_weights(), strict=True):
        assert np.allclose(ours, plain, rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(manifest, article, article_run, tmp_path):
    """Two whole trainings, dropout and all, from the pictures to the bytes of the head."""
    runs = []
    for number in range(2):
        recipe = article.with_(seed=1, epochs=2)
        folder, store = tmp_path / str(number), tmp_path / "stores" / str(number)
        np.random.seed(number)
        runs.append(train(manifest, recipe, folder, weights="none", store=store, progress=False)[0])
    first, again = runs
    assert first.history() == again.history()
    assert first.training()["head_sha256"] == again.training()["head_sha256"]
    assert first.history().rows[0] != article_run[0].history().rows[0]
    assert first.training()["timing"]["images_forwarded"] == 24


def test_training_never_touches_the_base(base, best_run, article_run, run3):
    assert weights_sha256(base[0]) == base[1].sha256
    assert not base[0].trainable_weights


@pytest.mark.parametrize("which", ["best_run", "article_run", "run3"])
def test_the_last_row_of_the_history_is_what_the_kept_head_gives(which, request):
    """The validation loss is the cross-entropy of the probabilities, with no penalty in it."""
    run, features = request.getfixturevalue(which)
    part = features.of("validation")
    said = run.head().predict_on_batch(part.values[:, pool_columns(run.recipe)]).astype(np.float64)
    if run.recipe.activation(len(run.classes)) == "sigmoid":
        said = said / (1 - said)
    probabilities = said / said.sum(axis=1, keepdims=True)
    last = run.history().rows[-1]
    expected = -np.log(probabilities[np.arange(len(part.labels)), part.labels]).mean()
    assert last["val_loss"] == pytest.approx(expected, abs=1e-4)
    assert last["val_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == part.labels).mean())


def test_the_history_has_a_row_for_each_epoch_in_memory_and_on_disk(best_run):
    run, _ = best_run
    history = run.history()
    assert history.column("epoch") == [1, 2, 3]
    assert set(history.rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    with open(run.folder / "history.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == list(history.rows)
    assert history.column("loss")[-1] < history.column("loss")[0]
    assert str(history).startswith("3 epochs: loss ")


def test_the_run_says_what_it_cost(best_run):
    run, features = best_run
    timing = run.training()["timing"]
    assert set(timing) == {
        "features_s", "head_s", "fine_tune_s", "total_s", "images_forwarded", "features_from_cache",
    }  # fmt: skip
    assert timing["images_forwarded"] + timing["features_from_cache"] == len(features.rows) == 24
    assert timing["total_s"] == pytest.approx(timing["features_s"] + timing["head_s"], abs=2e-3)


def test_a_run_opens_as_it_was(best_run):
    run, _ = best_run
    assert open_run(run.folder) == run
    assert open_run(str(run.folder)).history() == run.history()


def test_without_validation_images_there_are_no_validation_numbers(best_run, own_run):
    features = best_run[1]
    history = fit(own_run, features.of("train"), progress=False)
    assert set(history.rows[0]) == {"epoch", "loss", "accuracy"} and "validation" not in str(history)


def test_progress_is_bars_on_stderr_and_the_choice_in_one_sentence(best_run, own_run, capsys):
    fit(own_run, best_run[1], progress=True)
    told = capsys.readouterr()
    assert told.out.startswith("Ridge ") and told.out.count("\n") == 1
    assert "3/3" in told.err and "val_accuracy" in told.err


def test_left_out_images_are_written_down(best_run, own_run):
    features = replace(best_run[1], unreadable=(("train/cat/x.jpg", "cut short"),))
    fit(own_run, features, progress=False)
    assert own_run.training()["left_out"] == [["train/cat/x.jpg", "cut short"]]


def test_a_loss_that_is_no_number_stops_with_advice_and_the_earlier_head_stays(best_run, own_run):
    features, before = best_run[1], own_run.training()
    values = features.values.copy()
    values[3] = np.nan
    with pytest.raises(VggnbError, match="stopped being a number") as told:
        fixed = replace(own_run, recipe=own_run.recipe.with_(ridge=60.0))
        fit(fixed, replace(features, values=values), progress=False)
    assert "a tenth of the learning rate" in told.value.remedy
    assert own_run.training() == before and own_run.head().get_weights()


def test_nothing_to_train_on_is_told(best_run, own_run):
    with pytest.raises(VggnbError, match="no training images"):
        fit(own_run, best_run[1].of("validation"), progress=False)


def test_training_again_the_same_way_keeps_what_was_judged(best_run, own_run):
    digest = own_run.training()["head_sha256"]
    kept = [own_run.folder / name for name in (f"predictions-test-{digest[:12]}.csv", "report-test.json")]
    for path in kept:
        path.write_text("{}")
    fit(own_run, best_run[1], progress=False)
    assert own_run.training()["head_sha256"] == digest and all(path.is_file() for path in kept)


def test_another_head_in_the_same_folder_removes_what_belonged_to_the_old_one(best_run, own_run):
    features = best_run[1]
    old = own_run.training()
    said = f"predictions-test-{old['head_sha256'][:12]}.csv"
    names = (said, "report-test.json", "report.html", "report-card.json", "report-card.md")
    stale = [own_run.folder / name for name in names]
    names = ("report-2026.json", "predictions-2026.csv", "head-mine.weights.h5", "report-relabel-test.csv")
    users = [own_run.folder / name for name in names]
    for path in (*stale, *users):
        path.write_text("{}")
    fewer = Features(features.rows[1:], features.values[1:], 0, 23, 0.0)
    fit(own_run, fewer, progress=False)
    assert own_run.training()["head_sha256"] != old["head_sha256"]
    assert sorted(heads(own_run.folder)) == sorted([own_run.training()["head"], "head-mine.weights.h5"])
    assert not any(path.exists() for path in stale) and all(path.exists() for path in users)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_disk_that_fails_while_keeping_leaves_a_run_that_opens(nth, best_run, own_run, monkeypatch):
    before, another = own_run.training(), build_head(own_run.recipe, 2)
    move, calls = os.replace, []

    def failing(*paths):
        calls.append(paths)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        move(*paths)

    monkeypatch.setattr(os, "replace", failing)
    state = State(3, {}, {"history": list(own_run.history().rows)})
    with pytest.raises(VggnbError, match="No space left"):
        _keep(own_run, another, state, best_run[1], 0.0, None, Calibration(), NO_LIMIT)
    assert open_run(own_run.folder).training() == before and own_run.head().get_weights()


def test_a_folder_that_holds_other_things_is_refused(tmp_path, manifest, best, base):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(VggnbError, match="something else than a run") as told:
        start_run(tmp_path / "photos", manifest, best, weights="none", source=base[1])
    assert told.value.where == str(tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_a_file_in_place_of_the_run_is_told(tmp_path, manifest, best, base):
    (tmp_path / "run").write_text("x")
    with pytest.raises(VggnbError, match="A file stands"):
        start_run(tmp_path / "run", manifest, best, weights="none", source=base[1])


def test_the_same_decisions_are_welcome_again(own_run, base):
    before = sha256_file(own_run.folder / "training.json")
    again = start_run(own_run.folder, own_run.manifest, own_run.recipe, weights="none", source=base[1])
    assert again == own_run and sha256_file(own_run.folder / "training.json") == before


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda run: {"recipe": run.recipe.with_(epochs=9)}, "epochs is 3 there and 9 here"),
        (lambda run: {"manifest": replace(run.manifest, classes=("dog", "cat"))}, "'dog'], here ['dog', 'cat']"),
        (lambda run: {"manifest": replace(run.manifest, rows=run.manifest.rows[1:])}, "images or their splits"),
        (lambda run: {"source": replace(run.source, sha256="0" * 64)}, "weights are not the same"),
    ],
    ids=["recipe", "classes", "images", "weights"],
)
def test_other_decisions_are_refused_with_the_difference(change, words, own_run):
    decisions = {"manifest": own_run.manifest, "recipe": own_run.recipe, "source": own_run.source} | change(own_run)
    with pytest.raises(VggnbError, match="another run") as told:
        start_run(own_run.folder, **decisions, weights="none")
    assert words in told.value.what
    assert open_run(own_run.folder) == own_run and own_run.history().rows


def test_an_untrained_run_says_what_to_do(tmp_path, manifest, best, base):
    run = start_run(tmp_path / "run", manifest, best, weights="none", source=base[1])
    for ask in (run.head, run.history, run.classifier):
        with pytest.raises(VggnbError, match="not trained yet"):
            ask()


@pytest.mark.parametrize("damage", ["flip", "remove", "cut"])
def test_a_damaged_head_is_refused_by_name(damage, own_run):
    path = own_run.folder / own_run.training()["head"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes(data if damage == "flip" else data[:-100])
    with pytest.raises(VggnbError, match="damaged or gone") as told:
        own_run.head()
    assert told.value.where == str(path)


def test_every_flipped_bit_and_every_cut_of_a_head_is_seen_before_it_is_loaded(straight, tmp_path):
    run = open_run(shutil.copytree(straight.folder, tmp_path / "run"))
    path, tried = run.folder / run.training()["head"], 0
    data = path.read_bytes()
    for what, other in damaged(data, "head"):
        path.write_bytes(other)
        with pytest.raises(VggnbError, match="damaged or gone") as told:
            run.head()
        assert told.value.where == str(path), what
        tried += 1
    assert tried >= FLIPS + CUTS
    path.write_bytes(data)
    assert is_same(run.head(), straight.head())


@pytest.mark.parametrize("name", ["run.json", "recipe.json", "manifest.csv", "training.json"])
@pytest.mark.parametrize("damage", [b"", b'{"half', b"[]", b"\xff\xfe", b"[" * 200_000])
def test_a_damaged_file_of_a_run_is_told_by_name(name, damage, own_run):
    (own_run.folder / name).write_bytes(damage)
    with pytest.raises(VggnbError) as told:
        open_run(own_run.folder).head()
    assert name in str(told.value)


@pytest.mark.parametrize("name", ["run.json", "recipe.json", "manifest.csv", "training.json"])
def test_a_bit_that_turned_over_in_a_file_of_a_run_is_told_by_name_or_means_nothing(name, own_run):
    """64 random places, and 20 where the file is cut; what only looks different (a space) may pass."""
    path, random = own_run.folder / name, np.random.default_rng(3)
    whole, before = path.read_bytes(), open_run(own_run.folder)
    training, refused = before.training(), 0
    spoilt = [(int(at), 1 << int(random.integers(8))) for at in random.integers(0, len(whole), 64)]
    for at, bit in [*spoilt, *((int(at), 0) for at in random.integers(1, len(whole) - 1, 20))]:
        path.write_bytes(whole[:at] + (bytes([whole[at] ^ bit]) + whole[at + 1 :]) * bool(bit))
        try:
            after = open_run(own_run.folder)
            assert (after.recipe, after.manifest, after.source) == (before.recipe, before.manifest, before.source)
            assert after.training() == training
        except VggnbError as told:
            assert name in str(told) or "another version" in str(told)
            refused += 1
    assert refused > 50


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
    with pytest.raises(VggnbError, match=r"not both.\n.*\n.*decay=False"):
        recipe.with_(decay=True)


def test_with_class_weights_each_class_counts_the_same(tmp_path):
    assert class_weight(np.array([0, 0, 0, 1]), small.SMALL) is None
    weighted = small.SMALL.with_(class_weights=True)
    assert class_weight(np.array([0, 0, 0, 1]), weighted) == {0: pytest.approx(2 / 3), 1: 2.0}
    whole = small.features()
    few = [k for k, row in enumerate(whole.rows) if row.split == "validation" or row.label == 0 or k % 8 == 1]
    uneven = Features(tuple(whole.rows[k] for k in few), whole.values[few], 0, len(few), 0.0)
    said = {}
    for name, recipe in (("plain", small.SMALL), ("weighted", weighted)):
        run = small.start_small(tmp_path / name, recipe)
        fit(run, uneven, progress=False)
        watched = uneven.of("validation").values[:, pool_columns(recipe)]
        said[name] = run.head().predict(watched, verbose=0)[:, 1].mean()
    assert said["weighted"] > said["plain"] + 0.03, "the rare class is said more often"


@pytest.mark.parametrize(
    "name, changes",
    [
        ("run.json", {"source": {}}),
        ("run.json", {"source": 3}),
        ("training.json", {"calibration": {"warmth": 2}}),
        ("training.json", {"calibration": {"temperature": "hot"}}),
        ("training.json", {"calibration": 3}),
        ("training.json", {"fine_tune": 3}),
        ("training.json", {"fine_tune": {"file": "x"}}),
    ],
)
def test_a_file_of_a_run_that_holds_something_else_is_told_by_name(name, changes, own_run):
    path = own_run.folder / name
    path.write_text(json.dumps(sealed(unsealed(json.loads(path.read_text()), path) | changes)))
    with pytest.raises(VggnbError, match="file is damaged: |lacks") as told:
        open_run(own_run.folder).model_sha256()
    assert told.value.where == str(path)


def test_files_of_two_runs_are_not_mixed(own_run, best_run, manifest, best, base, tmp_path):
    other = manifest.rows[0], *(replace(row, split="train") for row in manifest.rows[1:])
    for name, write in (
        ("manifest.csv", lambda path: replace(manifest, rows=other).write(path)),
        ("recipe.json", lambda path: write_json(path, sealed(best.with_(image_size=64).to_dict()))),
    ):
        whole = (own_run.folder / name).read_bytes()
        write(own_run.folder / name)
        with pytest.raises(VggnbError, match="of another run") as told:
            open_run(own_run.folder).classifier(base[0])
        assert told.value.where.endswith("training.json") and "new folder" in told.value.remedy
        (own_run.folder / name).write_bytes(whole)
    moved = replace(own_run.manifest, dataset=tmp_path / "elsewhere")
    moved.write(own_run.folder / "manifest.csv")
    assert open_run(own_run.folder).head(), "a dataset may be moved"


@pytest.mark.parametrize("name", ["run.json", "recipe.json", "manifest.csv"])
def test_a_missing_file_of_a_run_is_told_with_what_to_do(name, own_run):
    (own_run.folder / name).unlink()
    with pytest.raises(VggnbError, match="A file of this run is missing") as told:
        open_run(own_run.folder)
    assert told.value.where.endswith(name) and "new folder" in told.value.remedy


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(VggnbError, match="no run in this folder"):
        open_run(tmp_path)
    with pytest.raises(VggnbError, match="no run in this folder"):
        open_run(tmp_path / "none")


def test_a_run_of_another_version_is_refused(own_run):
    about = json.loads((own_run.folder / "run.json").read_text())
    (own_run.folder / "run.json").write_text(json.dumps(about | {"schema": 999}))
    with pytest.raises(VggnbError, match="another version"):
        open_run(own_run.folder)


def test_a_head_is_never_put_on_other_weights(own_run):
    with pytest.raises(VggnbError, match="not those this run was trained on"):
        replace(own_run, source=replace(own_run.source, sha256="0" * 64)).classifier()


def test_a_trained_run_is_opened_and_not_trained_again(own_run, manifest, best, tmp_path, capsys):
    before = sha256_file(own_run.folder / "training.json")
    run = open_or_train(manifest, best, own_run.folder, weights="none", store=tmp_path)
    assert run == own_run and sha256_file(own_run.folder / "training.json") == before
    assert capsys.readouterr().out == ""
    with pytest.raises(VggnbError, match="another run"):
        open_or_train(manifest, best.with_(seed=8), own_run.folder, weights="none", store=tmp_path)


# Never lose work: on made-up features, without VGG-16


def chained(kind, folder, kills):
    """What `faults.chains` found, in a process of its own."""
    return told_by("-m", "faults.chains", kind, folder, kills)[0]


def interrupting(epoch, *, how=signal.raise_signal):
    """A progress in which the user presses stop after this epoch."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, index, logs=None):
            if index + 1 == epoch:
                how(signal.SIGINT)

    return lambda epochs: Stop()


@pytest.fixture
def small_run(tmp_path):
    """A run on made-up features, not trained."""
    return small.start_small(tmp_path / "small")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The same run, trained in one go."""
    run = small.start_small(tmp_path_factory.mktemp("straight") / "small")
    fit(run, small.features(), progress=False)
    return run


def folder_of(run):
    return sorted(path.name for path in run.folder.iterdir())


@pytest.mark.slow
def test_after_thirty_kills_head_optimiser_and_history_are_those_of_the_straight_run(tmp_path):
    """Takes half a minute: each start compiles the head."""
    found = chained("head", tmp_path, 30)
    assert found["kills"] == 30 and found["states"][0] == found["states"][1] and found["left"] == []
    assert found["epochs"] == sorted(found["epochs"]) and len(set(found["epochs"])) > 8


@pytest.mark.parametrize("epoch", [1, 11])
def test_stop_keeps_the_state_says_so_and_the_same_call_goes_on(epoch, small_run, straight, capsys):
    with pytest.raises(Stopped) as told:
        fit(small_run, small.features(), progress=interrupting(epoch))
    assert isinstance(told.value, KeyboardInterrupt)
    # The epoch in which the signal came is kept, too, when it was done.
    assert str(told.value) == f"Stopped at epoch {epoch}; run this again to continue."
    assert told.value._render_traceback_() == [str(told.value)]
    assert not (small_run.folder / "training.json").exists()
    assert fit(small_run, small.features(), progress=False) == straight.history()
    assert f"Going on after epoch {epoch}.\n" == capsys.readouterr().out
    assert small_run.training()["state_sha256"] == straight.training()["state_sha256"]
    assert folder_of(small_run) == folder_of(straight)


def test_stop_before_the_first_epoch_keeps_nothing_and_says_so(small_run, straight):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="before the first epoch"):
        fit(small_run, small.features(), progress=lambda epochs: Stop())
    fit(small_run, small.features(), progress=False)
    assert small_run.training()["state_sha256"] == straight.training()["state_sha256"]


def test_a_damaged_newest_checkpoint_costs_an_epoch_and_nothing_else(small_run, straight, capsys):
    with pytest.raises(Stopped):
        fit(small_run, small.features(), progress=interrupting(7), checkpoint_s=0)
    newest = small_run.folder / "checkpoints" / "head-000007.ckpt"
    newest.write_bytes(newest.read_bytes()[:-9])
    fit(small_run, small.features(), progress=False)
    assert "Going on from the one before, after epoch 6." in capsys.readouterr().out
    assert small_run.training()["state_sha256"] == straight.training()["state_sha256"]


def test_when_all_checkpoints_are_damaged_only_fresh_begins_anew(small_run, straight):
    with pytest.raises(Stopped):
        fit(small_run, small.features(), progress=interrupting(7), checkpoint_s=0)
    for path in (small_run.folder / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(VggnbError, match="All checkpoints") as told:
        fit(small_run, small.features(), progress=False)
    assert "fresh=True" in told.value.remedy
    fit(small_run, small.features(), progress=False, fresh=True)
    assert small_run.training()["state_sha256"] == straight.training()["state_sha256"]


def test_an_unfinished_training_on_other_features_is_refused(small_run, straight, capsys):
    with pytest.raises(Stopped):
        fit(small_run, small.features(), progress=interrupting(3))
    whole = small.features()
    fewer = Features(whole.rows[1:], whole.values[1:], 0, 63, 0.0)
    with pytest.raises(VggnbError, match="unfinished training, after epoch 3") as told:
        fit(small_run, fewer, progress=False)
    assert "images is 64 there and 63 here" in told.value.what
    fit(small_run, whole, progress=False)
    assert small_run.training()["state_sha256"] == straight.training()["state_sha256"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"threads": [7, 7]}, "threads is [7, 7] there and"),
        ({"tensorflow": "1.0"}, "tensorflow is 1.0 there and"),
    ],
)
def test_other_threads_or_versions_go_on_and_it_is_said(change, words, small_run, capsys):
    with pytest.raises(Stopped):
        fit(small_run, small.features(), progress=interrupting(3))
    path = small_run.folder / "checkpoints" / "head-000003.ckpt"
    state = read_state(path)
    state.about["setting"].update(change)
    path.write_bytes(to_bytes(state))
    assert len(fit(small_run, small.features(), progress=False).rows) == 12
    said = capsys.readouterr().out
    assert "not be the same to the last bit" in said and words in said


def test_a_run_in_use_is_refused_before_anything_is_written(small_run):
    with held(small_run.folder):
        before = folder_of(small_run)
        for act in (lambda: fit(small_run, small.features()), lambda: small.start_small(small_run.folder)):
            with pytest.raises(VggnbError, match="Run 'small' is in use by pid"):
                act()
        assert folder_of(small_run) == before


def test_a_second_training_is_refused_while_the_first_reads_its_pictures(manifest, best, tmp_path, monkeypatch):
    options = {"weights": "none", "store": tmp_path / "store", "progress": False}
    real, tried = head_module.extract, []

    def extract(*arguments, **named):
        assert not tried
        tried.append(True)
        with pytest.raises(VggnbError, match=f"Run 'run' is in use by pid {os.getpid()} "):
            train(manifest, best, tmp_path / "run", **options)
        return real(*arguments, **named)

    monkeypatch.setattr(head_module, "extract", extract)
    run, _ = train(manifest, best, tmp_path / "run", **options)
    assert tried and run.history().rows and not (run.folder / LOCK).exists()


def test_who_lost_the_lock_writes_nothing_more(small_run):
    class Thief(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            owner = small_run.folder / LOCK / "owner.json"
            owner.write_text(json.dumps(json.loads(owner.read_text()) | {"token": "another"}))

    with pytest.raises(VggnbError, match="taken over"):
        fit(small_run, small.features(), progress=lambda epochs: Thief(), checkpoint_s=0)
    assert len(list((small_run.folder / "checkpoints").iterdir())) == 1
    assert not (small_run.folder / "training.json").exists()


def test_not_a_number_leaves_the_last_good_checkpoint_and_never_a_head(small_run):
    whole = small.features()
    values = whole.values.copy()
    values[3] = np.nan
    # Not standardised, so that the poison is in one row and not in all. The loss itself stays a number: relu hides it.
    run = small.start_small(small_run.folder.parent / "poisoned", small.SMALL.with_(standardise=False))
    with pytest.raises(VggnbError, match="stopped being a number in epoch 1") as told:
        fit(run, replace(whole, values=values), progress=False, checkpoint_s=0)
    assert "a tenth of the learning rate" in told.value.remedy and not (run.folder / "training.json").exists()
    assert not list(run.folder.rglob("*.ckpt"))


def test_a_progress_of_ones_own_is_given_the_number_of_epochs_and_hears_of_each(small_run):
    heard = []

    class Listener(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            heard.append((epoch, sorted(logs)))

        def on_train_end(self, logs=None):
            heard.append("end")

    def progress(epochs):
        heard.append(epochs)
        return Listener()

    fit(small_run, small.features(), progress=progress)
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert heard == [12, *((epoch, names) for epoch in range(12)), "end"]


def test_checkpoints_are_written_from_time_to_time_and_take_a_small_share(small_run, monkeypatch):
    written, now = [], [0.0]

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            now[0] += 2.0

    monkeypatch.setattr(keeper.time, "monotonic", lambda: now[0])

    def write(self, state):
        written.append(state.epoch)
        now[0] += 1.0  # a slow storage: a twentieth of the time is 20 s

    monkeypatch.setattr(keeper.Checkpoints, "write", write)
    recipe = small.SMALL.with_(epochs=30)
    run = small.start_small(small_run.folder.parent / "slow", recipe)
    fit(run, small.features(), progress=lambda epochs: Clock())
    assert written == [4, 14, 24]


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "rename", "unlink"])
def test_keeping_fails_at_every_step_is_told_and_the_run_is_old_or_new(operation, straight, tmp_path):
    """And then it succeeds; nothing of what was there before is left, nor what was said of it."""
    another, old, faults = build_head(straight.recipe, 2), straight.head(), 0
    state = State(12, {}, {"history": list(straight.history().rows)})
    for number in itertools.count(1):
        run = open_run(shutil.copytree(straight.folder, tmp_path / str(number)))
        (report := run.folder / "report-test.json").write_text("{}")
        keep = partial(_keep, run, another, state, small.features(), 0.0, None, Calibration(), NO_LIMIT)
        told = False
        with inject(operation, number, errno.EIO, under=run.folder) as plan:
            try:
                keep()
            except VggnbError:
                told = True
            plan.disarm()
        is_new = is_same(run.head(), another)
        assert is_new or is_same(run.head(), old)
        if not plan.fired:
            assert is_new and not told and not report.exists()
            break
        faults += told
        assert told or (is_new and operation == "fsync"), "only a folder's may fail in silence"
        assert not (told and is_new) or operation == "unlink", "what is removed last"
        keep()
        assert is_same(run.head(), another) and heads(run.folder) == [run.training()["head"]] and not report.exists()
    assert faults >= 3, "head, history and the file that names them"
