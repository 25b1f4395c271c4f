"""Cross-validation with groups, out-of-fold predictions, and the exact solution of a linear head."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from vggnb.census import Row
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError
from vggnb.train import ridge as module
from vggnb.train.head import head_of
from vggnb.train.ridge import choose_ridge, group_numbers, make_folds, out_of_fold, solve


def rows_of(labels, groups=None, shas=None):
    groups, shas = groups or [""] * len(labels), shas or [f"{k:064}" for k in range(len(labels))]
    return tuple(
        Row(f"train/{label}/{k}.jpg", sha, 8, 8, "JPEG", str(label), int(label), "train", str(group))
        for k, (label, group, sha) in enumerate(zip(labels, groups, shas, strict=True))
    )


def features(n, signal, classes=2, width=300, seed=0):
    """Noise in which a few directions tell the class, as strongly as `signal` says."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    values = random.normal(size=(n, width)).astype(np.float32) * 100
    values[:, :classes] += 100 * signal * np.eye(classes, dtype=np.float32)[labels]
    return values, labels


@pytest.fixture
def open_recipe():
    return Recipe.best().with_(ridge=(1000.0, 100.0, 10.0, 1.0))


def choose(values, labels, recipe, **options):
    return choose_ridge(values, rows_of(labels, **options), recipe, progress=False)


def test_the_chosen_one_has_the_least_loss_and_all_are_reported(open_recipe):
    noise, clear = (choose(*features(60, signal), open_recipe).ridge for signal in (0.0, 6.0))
    assert noise == 1000 and clear < 1000, "noise needs a stronger penalty than a clear signal"
    choice = choose(*features(90, 2.0, classes=3), open_recipe)
    assert [ridge for ridge, _, _ in choice.candidates] == list(open_recipe.ridge)
    assert choice.ridge == min(choice.candidates, key=lambda candidate: candidate[1])[0]
    assert (choice.images, choice.folds) == (90, 5)
    assert f"Ridge {choice.ridge:g}, chosen by cross-validation on 90 images" in str(choice)
    document = json.loads(json.dumps(choice.to_dict()))
    assert document["ridge"] == choice.ridge and len(document["candidates"]) == 4


def test_of_many_images_a_part_is_enough_in_which_each_class_has_one_for_each_fold(open_recipe):
    for n in (2001, 2050, 6004):
        values, labels = features(n, 1.0, width=4)
        assert choose(values, labels, open_recipe).images == 2000
    values, labels = features(9000, 1.0, classes=3, width=4)
    labels[(labels == 1) & (np.arange(9000) > 8)] = 0  # three images of class 1 are left
    choice = choose(values, labels, open_recipe)
    assert choice.folds == 3 and 2000 <= choice.images <= 2003


def test_the_same_seed_gives_the_same_and_another_seed_other_folds(open_recipe):
    values, labels = features(60, 1.0)
    assert choose(values, labels, open_recipe) == choose(values, labels, open_recipe)
    assert choose(values, labels, open_recipe.with_(seed=1)) != choose(values, labels, open_recipe)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("standardise", [True, False])
def test_the_solution_is_the_minimum_of_the_loss_that_keras_would_minimise(classes, standardise):
    values, labels = features(40, 2.0, classes=classes, width=64)
    recipe = Recipe.best().with_(ridge=20.0, standardise=standardise, pools=((1, "average"),))
    values = values / 100
    (solution,) = solve(values, labels, recipe, ridges=[20.0])
    head = head_of(solution, values, recipe, classes)
    with tf.GradientTape() as tape:
        outputs = head(values)
        loss = keras.losses.SparseCategoricalCrossentropy()(labels, outputs) + sum(head.losses)
    assert max(np.abs(slope).max() for slope in tape.gradient(loss, head.trainable_weights)) < 1e-4
    assert head.losses[0] > 0.01, "a penalty too small to matter would pass as well"
    logits = solution.logits(values)
    assert np.abs(keras.ops.softmax(logits) - outputs).max() < 1e-5


def test_what_belongs_together_stays_in_one_fold_and_every_image_is_predicted_once():
    labels = np.repeat([0, 1, 2], [8, 20, 32])
    groups = [f"{label}-{k // 4}" for k, label in enumerate(labels)]
    shas = [f"{k // 2}-{label}" for k, label in enumerate(labels)]
    for names, options in ((groups, {"groups": groups}), (shas, {"shas": shas}), (range(60), {})):
        folds = make_folds(labels, group_numbers(rows_of(labels, **options)), seed=0)
        for fit, predict in folds:
            assert not {names[k] for k in fit} & {names[k] for k in predict} and set(labels[fit]) == {0, 1, 2}
        assert sorted(k for _, predict in folds for k in predict) == list(range(60))


@pytest.mark.parametrize("labels, groups", [
    ([0, 0, 0, 1], None), ([0, 0, 1, 1], ["a", "a", "b", "b"]), ([0, 0, 0], None),
], ids=["one image", "one group", "one class"])  # fmt: skip
def test_too_few_images_take_the_middle_candidate_and_give_no_predictions(labels, groups, open_recipe):
    values = np.random.default_rng(0).normal(size=(len(labels), 20)).astype(np.float32)
    choice = choose(values, labels, open_recipe, groups=groups)
    assert choice.ridge == 10 and not choice.folds and "too few images" in str(choice)
    assert out_of_fold(values, rows_of(labels, groups), open_recipe.with_(ridge=10.0), progress=False) is None


def test_many_images_are_sampled_by_class(open_recipe, monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 40)
    choice = choose(features(400, 1.0, width=50)[0], np.repeat([0, 1], [350, 50]), open_recipe)
    assert (choice.images, choice.folds) == (40, 5)


def test_features_that_never_vary_have_no_influence():
    values, labels = features(60, 2.0, width=40)
    wide = np.concatenate([values, np.full((60, 5), 7.1, np.float32)], axis=1)
    recipe = Recipe.best().with_(ridge=10.0)
    plain, constant = (next(solve(v, labels, recipe, ridges=[10.0])) for v in (values, wide))
    assert not constant.kernel[40:].any() and constant.kernel[:40] == pytest.approx(plain.kernel, abs=1e-5)
    wide[:, 40:] = 1e6
    assert np.isfinite(constant.logits(wide)).all()


def test_features_that_nothing_can_be_learned_from_are_refused(open_recipe):
    values, labels = features(60, 2.0, width=40)
    with pytest.raises(VggnbError, match="All 60 training images look the same"):
        choose(np.full((60, 40), 7.1, np.float32), labels, open_recipe)
    same = np.full((20, 40), 7.1, np.float32)
    same[3] = 0
    assert choose(same, labels[:20], open_recipe).folds == 5, "those of one fold may"
    values[7, 3] = np.nan
    with pytest.raises(VggnbError, match="not finite") as caught:
        choose(values, labels, open_recipe)
    assert caught.value.where == "train/1/7.jpg"


@pytest.mark.parametrize("groups", [False, True])
def test_out_of_fold_predictions_of_shuffled_labels_are_worthless(groups):
    """They would look good if a fold's head had seen its images, their duplicates or a ridge chosen on the answers."""
    random, aucs = np.random.default_rng(0), []
    common = random.normal(size=(480, 40)) @ random.normal(size=(40, 2944))
    values = (common + random.normal(size=(480, 2944))).astype(np.float32)
    names = [f"group{k // 4}" for k in range(480)] if groups else [""] * 480
    if groups:  # four near-duplicates each, which have the same label
        values = values[np.arange(480) // 4 * 4] + 0.01 * values
    for _ in range(10):
        labels = np.repeat(random.permutation(np.arange(120) % 2), 4) if groups else random.permutation(480) % 2
        rows, recipe = rows_of(labels, names), Recipe.best().with_(ridge=(1000.0, 100.0))
        recipe = recipe.with_(ridge=choose_ridge(values, rows, recipe, progress=False).ridge)
        logits = out_of_fold(values, rows, recipe, progress=False)
        aucs.append(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    assert 0.45 < np.mean(aucs) < 0.55


def test_a_run_trains_with_the_choice_and_writes_it_down(best_run, article_run):
    run, features = best_run
    choice = run.training()["choice"]
    assert run.recipe.is_open and choice["ridge"] in run.recipe.ridge
    assert choice["images"] == len(features.rows) and choice["folds"] == 5
    assert article_run[0].training()["choice"] is None
