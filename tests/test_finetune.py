"""Fine-tuning on cached activations is the training of the whole network from a layer on; nothing is lost."""

import json
import shutil
import signal

import keras
import numpy as np
import pytest
from faults import small
from programs import told_by
from safetensors.numpy import load

from vggnb.checkpoints import Checkpoints
from vggnb.evaluate import evaluate, predict_split
from vggnb.explain import grad_cam
from vggnb.features import extract
from vggnb.generators import readable_batches
from vggnb.model import build_classifier, build_head, compile_head, preprocessing_layer
from vggnb.save import load_bundle, save_bundle
from vggnb.storage import VggnbError
from vggnb.train import Stopped, finetune, fit, train
from vggnb.train.cut import CONVOLUTIONS, build_tail, frozen_columns, numbers
from vggnb.train.finetune import fine_tune
from vggnb.train.run_files import FINE_TUNED, set_head
from vggnb.train.runs import open_run
from vggnb.weights import weights_sha256


def chained(kind, folder, kills):
    """What `faults.chains` found, in a process of its own."""
    return told_by("-m", "faults.chains", kind, folder, kills)[0]


def interrupting(epoch):
    """A progress in which the user presses stop after this epoch."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, index, logs=None):
            if index + 1 == epoch:
                signal.raise_signal(signal.SIGINT)

    return lambda epochs: Stop()


QUICK = {"epochs": 2, "learning_rate": 1e-4, "progress": False}


@pytest.fixture(scope="module")
def tuned(article_run, base, tmp_path_factory):
    """The run of `article`, which leaves something to learn, fine-tuned: (run, features, validation before)."""
    folder = tmp_path_factory.mktemp("tuned")
    run, features = open_run(shutil.copytree(article_run[0].folder, folder / "run")), article_run[1]
    before = predict_split(run, "validation", progress=False)
    evaluate(run, "validation", draws=20, progress=False)
    fine_tune(run, features, store=folder, base=base[0], **QUICK)
    return run, features, before


def whole_network(base, head, recipe, from_block):
    """Raw pixels -> the head's outputs, with all layers from `from_block` on learning."""
    copy = keras.models.clone_model(base)
    copy.set_weights(base.get_weights())
    names = [layer.name for layer in copy.layers]
    for layer in copy.layers:
        layer.trainable = names.index(layer.name) >= names.index(from_block)
    images = x = keras.Input((recipe.image_size, recipe.image_size, 3))
    x, ends = preprocessing_layer(recipe)(x), {}
    for layer in copy.layers[1:]:
        ends[layer.name] = x = layer(x)
    kinds = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    pools = [kinds[kind]()(ends[f"block{block}_pool"]) for block, kind in recipe.pools]
    features = pools[0] if len(pools) == 1 else keras.layers.Concatenate()(pools)
    return keras.Model(images, head(features)), copy


@pytest.mark.parametrize("name, from_block, rate", [("best", "block5_conv1", 2e-2), ("article", "block5_conv3", 1e-2)])
def test_one_step_is_that_of_the_whole_network(name, from_block, rate, request, base, tmp_path):
    """The same batch, the same head: after one step, which is at least ten times larger, all weights agree to 1e-5."""
    recipe = request.getfixturevalue(name).with_(dropout=0.0, learning_rate=1e-3)
    run, features = request.getfixturevalue(f"{name}_run")
    rows = features.of("train").rows
    heads = []
    for _ in range(2):
        head = build_head(recipe, 2, images=len(rows))
        set_head(head, run.arrays("head.safetensors"))
        heads.append(head)
    part = extract(run.manifest, recipe, *base, store=tmp_path, splits=["train"], cut=from_block, progress=False)
    tail = build_tail(base[0], heads[0], recipe, from_block=from_block)
    whole, copy = whole_network(base[0], heads[1], recipe, from_block)
    frozen = features.of("train").values[:, frozen_columns(recipe, from_block)]
    inputs = [part.values[:], frozen][: len(tail.inputs)]
    _, pixels = next(readable_batches(run.manifest, rows, recipe, batch=len(rows), unreadable=[]))
    labels = features.of("train").labels
    assert np.allclose(tail.predict_on_batch(inputs), whole.predict_on_batch(pixels), atol=1e-5)
    before = numbers(tail, heads[0])
    for model, data in ((tail, inputs), (whole, pixels)):
        model.compile(optimizer=keras.optimizers.SGD(rate), loss=recipe.loss(2))
        model.train_on_batch(data, labels)
    after = numbers(tail, heads[0])
    assert len(after) == len(before) and any("base/" in name for name in after)
    for name, value in after.items():
        part, *path = name.split("/")
        if part == "head":
            other = heads[1].get_weights()[int(path[0])]
        else:
            other = copy.get_layer(path[0]).get_weights()[("kernel", "bias").index(path[1])]
        assert np.abs(value - other).max() <= 1e-5, name
    assert max(np.abs(after[name] - before[name]).max() for name in after if "base" in name) > 1e-4
    first = copy.get_layer("block5_conv1" if from_block == "block5_conv3" else "block4_conv3")
    assert np.array_equal(first.get_weights()[0], base[0].get_layer(first.name).get_weights()[0])


def test_unknown_layers_are_refused_with_the_thirteen_names(tuned, tmp_path):
    assert len(CONVOLUTIONS) == 13
    for name in ("block6_conv1", "block5_pool", "", "fc1"):
        with pytest.raises(VggnbError, match="no layer") as told:
            fine_tune(tuned[0], tuned[1], store=tmp_path, from_block=name)
        assert all(name in told.value.remedy for name in CONVOLUTIONS)


def test_the_names_are_those_of_the_base(base):
    assert [layer.name for layer in base[0].layers if "conv" in layer.name] == list(CONVOLUTIONS)


def test_the_classifier_is_the_fine_tuned_one_and_the_base_is_left_alone(tuned, base):
    run, _, before = tuned
    document = run.training()
    assert document["fine_tune"]["from_block"] == "block5_conv1" and run.fine_tuned() == document["fine_tune"]
    arrays = load((run.folder / FINE_TUNED).read_bytes())
    model = run.classifier(base[0])
    for name in ("block5_conv1", "block5_conv2", "block5_conv3"):
        assert np.array_equal(model.get_layer(name).get_weights()[0], arrays[f"base/{name}/kernel"])
        assert not np.array_equal(arrays[f"base/{name}/kernel"], base[0].get_layer(name).get_weights()[0])
    assert np.array_equal(model.get_layer("block4_conv3").get_weights()[0], base[0].layers[13].get_weights()[0])
    assert weights_sha256(base[0]) == base[1].sha256
    assert {name for name in arrays if name.startswith("base/block")} == {
        f"base/block5_conv{k}/{part}" for k in (1, 2, 3) for part in ("kernel", "bias")
    }


def test_what_is_kept_is_what_training_measured(tuned):
    """The whole network's validation loss is that of the best epoch: no step between cut and whole is lost."""
    run, _, before = tuned
    after = predict_split(run, "validation", progress=False)
    loss = -np.log(after.probabilities[np.arange(len(after.labels)), after.labels]).mean()
    tuning = run.fine_tuned()
    assert tuning["best_epoch"] >= 1
    assert loss == pytest.approx(tuning["history"][tuning["best_epoch"] - 1]["val_loss"], abs=1e-4)
    assert not np.allclose(after.probabilities, before.probabilities, atol=1e-4)
    at_first = -np.log(before.probabilities[np.arange(len(before.labels)), before.labels]).mean()
    assert loss < at_first


def test_judging_saving_and_looking_work_as_before(tuned, quick_verify, tmp_path, best):
    run = tuned[0]
    assert not (run.folder / "report-validation.json").exists()  # it was the frozen one's
    report = evaluate(run, "validation", draws=20, progress=False)
    assert report.n == 8
    save_bundle(run, tmp_path / "bundle", formats=["weights"])
    loaded, ours = load_bundle(tmp_path / "bundle").model, run.classifier()
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    assert np.allclose(loaded.predict_on_batch(picture), ours.predict_on_batch(picture), atol=1e-6)
    card = json.loads((tmp_path / "bundle" / "card.json").read_text())
    assert "fine-tuned from block5_conv1 on" in card["network"]
    assert grad_cam(ours, picture[0], class_index=0).shape == (32, 32)


def test_what_it_cost_is_written_down(tuned):
    timing = tuned[0].training()["timing"]
    assert timing["fine_tune_s"] > 0
    total = timing["features_s"] + timing["head_s"] + timing["fine_tune_s"]
    assert timing["total_s"] == pytest.approx(total, abs=3e-3)


def test_the_same_again_is_taken_from_the_run_and_another_choice_is_not(tuned, tmp_path, monkeypatch, capsys):
    run = open_run(shutil.copytree(tuned[0].folder, tmp_path / "run"))
    before = run.fine_tuned()
    monkeypatch.setattr(finetune, "_tuned", lambda *arguments: pytest.fail("trained again"))
    history = fine_tune(run, tuned[1], store=tmp_path, **QUICK)
    assert list(history.rows) == before["history"] and run.fine_tuned() == before
    assert "fresh=True" in capsys.readouterr().out
    with pytest.raises(pytest.fail.Exception):
        fine_tune(run, tuned[1], store=tmp_path, **QUICK | {"epochs": 3})
    (run.folder / FINE_TUNED).write_bytes(b"x")
    with pytest.raises(VggnbError, match="damaged or belongs"):
        run.classifier()


def test_training_the_head_again_makes_the_run_one_of_a_frozen_base(tuned, base, tmp_path):
    run = open_run(shutil.copytree(tuned[0].folder, tmp_path / "run"))
    fit(run, tuned[1], progress=False)
    assert run.fine_tuned() is None and not (run.folder / FINE_TUNED).exists()
    expected = build_classifier(base[0], run.head(), run.recipe).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(run.classifier(base[0]).get_weights(), expected, strict=True))


def test_an_untrained_run_cannot_be_fine_tuned(tmp_path):
    run = small.start_small(tmp_path / "small")
    with pytest.raises(VggnbError, match="not trained"):
        fine_tune(run, small.features(), store=tmp_path)


# Never lose work: on a small net


@pytest.mark.slow
def test_after_ten_kills_everything_is_that_of_the_straight_run(tmp_path):
    found = chained("fine-tune", tmp_path, 10)
    assert found["kills"] == 10 and found["states"][0] == found["states"][1] and found["left"] == []
    assert found["epochs"] == sorted(found["epochs"]) and len(set(found["epochs"])) > 3


def tune_small(folder, *, epochs=12, rate=1e-3, patience=3, **options):
    """`tune` on the small net: (state, tail)."""
    tail, inputs, labels, recipe = small.small_tail()
    tail.optimizer.learning_rate = rate
    card = {"epochs": epochs, "patience": patience}
    train, validation = options.pop("train", np.arange(44)), options.pop("validation", np.arange(44, 64))
    folder.mkdir(exist_ok=True)
    state = finetune.tune(
        tail, inputs, labels, train=train, validation=validation, recipe=recipe, card=card,
        checkpoints=Checkpoints(folder / "c", "fine-tune"), **options,
    )  # fmt: skip
    return state, tail


def test_stopped_and_continued_is_the_same(tmp_path):
    straight, _ = tune_small(tmp_path / "straight", patience=100)
    with pytest.raises(Stopped, match="at epoch 5"):
        tune_small(tmp_path / "stopped", patience=100, progress=interrupting(5))
    continued, _ = tune_small(tmp_path / "stopped", patience=100)
    assert continued.sha256("") == straight.sha256("")


def test_the_best_epoch_is_kept_the_rate_falls_and_patience_ends_it(tmp_path):
    """At a rate that is far too high nothing gets better than the beginning: the beginning is what stays."""
    untouched = small.small_tail()[0].get_weights()
    state, tail = tune_small(tmp_path / "wild", rate=3.0, patience=2)
    assert state.about["best_epoch"] == 0 and len(state.about["history"]) == 2
    assert float(tail.optimizer.learning_rate) == pytest.approx(3.0 / 4)
    weights = [w for w in tail.get_weights() if w.dtype == np.float32]
    expected = [w for w in untouched if w.dtype == np.float32]
    assert all(np.array_equal(a, b) for a, b in zip(weights, expected, strict=True))


def test_a_good_epoch_is_the_one_whose_numbers_stay(tmp_path):
    state, tail = tune_small(tmp_path / "good")
    losses = [row["val_loss"] for row in state.about["history"]]
    assert state.about["best_epoch"] == 1 + int(np.argmin(losses)) and state.about["best_loss"] == min(losses)
    _, inputs, labels, _ = small.small_tail()
    again = tail.evaluate(inputs[0][44:], labels[44:], verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(min(losses), abs=1e-5)


def test_without_validation_images_all_epochs_are_done(tmp_path):
    state, _ = tune_small(tmp_path / "all", epochs=4, patience=1, validation=np.arange(0))
    assert len(state.about["history"]) == 4 and "val_loss" not in state.about["history"][0]


class Ended(keras.callbacks.Callback):
    """Which batches and epochs ended well."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)


def test_a_loss_that_is_no_number_stops_within_a_batch(tmp_path):
    class Poisoned(Ended):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                self.model.weights[-1].assign([np.nan, 0])  # the last layer's bias: after it, no relu hides anything

    ended = Poisoned()
    with pytest.raises(VggnbError, match="stopped being a number in epoch 1"):
        tune_small(tmp_path / "nan", progress=lambda epochs: ended, every_s=0)
    assert ended.batches == [0, 1] and not list(tmp_path.rglob("*.ckpt"))


def test_what_relu_hides_is_seen_before_the_epoch_is_kept(tmp_path, monkeypatch):
    """On a CPU, relu makes a zero of what is no number, and the loss stays one; the weights do not."""
    tail, inputs, labels, recipe = small.small_tail()
    inputs[0][3], ended = np.nan, Ended()
    monkeypatch.setattr(small, "small_tail", lambda: (tail, inputs, labels, recipe))
    with pytest.raises(VggnbError, match="stopped being a number in epoch 1"):
        tune_small(tmp_path / "nan", progress=lambda epochs: ended, every_s=0)
    assert ended.batches and not ended.epochs and not list(tmp_path.rglob("*.ckpt"))


def test_an_image_that_cannot_be_read_any_more_is_left_out(base, best, own_photos, survey, tmp_path):
    manifest = survey(own_photos)
    recipe = best.with_(epochs=1)
    run, features = train(manifest, recipe, tmp_path / "run", weights="none", store=tmp_path / "store", progress=False)
    (own_photos / manifest.of("train")[2].path).unlink()
    fine_tune(run, features, store=tmp_path / "store", **QUICK)
    assert len(run.fine_tuned()["history"]) == 2


def test_activations_are_computed_once(tuned, base, capsys):
    """A second training from the same layer finds them in the store, after a kill as well."""
    run, features, _ = tuned
    store = run.folder.parent
    again = extract(run.manifest, run.recipe, *base, store=store, cut="block5_conv1", progress=False)
    assert again.images_forwarded == 0 and again.from_store == len(features.rows)


def test_compiling_a_tail_is_compiling_a_head(best):
    """`tune` gets its loss, metrics and penalty from the recipe, like the head's training."""
    tail, *_ = small.small_tail()
    compile_head(tail, best)
    assert float(tail.optimizer.learning_rate) == pytest.approx(best.learning_rate)
