"""The penalty is chosen by images that the head has not seen, the same way every time."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from vggnb import choose as module
from vggnb.census.rows import Row
from vggnb.choose import choose_ridge
from vggnb.model import build_head
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError


def rows_of(labels, groups=None, shas=None):
    groups = groups or [""] * len(labels)
    shas = shas or [f"{k:064}" for k in range(len(labels))]
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


def test_noise_asks_for_a_stronger_penalty_than_a_clear_signal(open_recipe):
    chosen = []
    for signal in (0.0, 6.0):
        values, labels = features(60, signal)
        chosen.append(choose_ridge(values, rows_of(labels), open_recipe, progress=False).ridge)
    assert chosen[0] == 1000 and chosen[1] < 1000


def test_the_chosen_one_has_the_least_loss_and_all_are_told(open_recipe):
    values, labels = features(90, 2.0, classes=3)
    choice = choose_ridge(values, rows_of(labels), open_recipe, progress=False)
    assert [ridge for ridge, _, _ in choice.candidates] == list(open_recipe.ridge)
    assert choice.ridge == min(choice.candidates, key=lambda candidate: candidate[1])[0]
    assert (choice.images, choice.folds) == (90, 5)
    assert f"Ridge {choice.ridge:g}, chosen by cross-validation on 90 training images" in str(choice)
    document = json.loads(json.dumps(choice.to_dict()))
    assert document["ridge"] == choice.ridge and len(document["candidates"]) == 4


def test_the_same_seed_chooses_the_same_and_another_seed_cuts_other_folds(open_recipe):
    values, labels = features(60, 1.0)
    first, again = (choose_ridge(values, rows_of(labels), open_recipe, progress=False) for _ in range(2))
    assert first == again
    assert choose_ridge(values, rows_of(labels), open_recipe.with_(seed=1), progress=False) != first


@pytest.mark.parametrize("classes", [2, 3])
def test_the_penalty_means_what_it_means_in_the_keras_head(classes):
    """At scikit-learn's answer the slope of the loss that Keras minimises is nought: both solve the same problem."""
    values, labels = features(40, 2.0, classes=classes, width=12)
    recipe = Recipe.best().with_(ridge=20.0, standardise=False, pools=((1, "average"),))
    values = np.pad(values / 100, ((0, 0), (0, 64 - 12)))
    ((said, _),) = module._fits(values, labels, values, recipe.with_(ridge=(20.0,)))
    truth = np.eye(classes)[labels]
    weights = values.T @ (truth - said) / (2 * 20.0)  # where the slope is nought, the weights follow from the answers
    bias = (np.log(said) - values @ weights).mean(axis=0)
    head = build_head(recipe, classes, images=len(values))
    head.set_weights([weights, bias])
    with tf.GradientTape() as tape:
        answers = head(values)
        loss = keras.losses.CategoricalCrossentropy()(truth, answers) + sum(head.losses)
    assert np.abs(answers - said).max() < 2e-3
    slopes = tape.gradient(loss, head.trainable_weights)
    assert max(np.abs(slope).max() for slope in slopes) < 1e-3
    assert head.losses[0] > 0.01, "a penalty too small to matter would pass as well"


def test_what_belongs_together_stays_in_one_fold():
    labels = np.tile([0, 1], 20)
    groups = [f"{label}-{k // 8}" for k, label in enumerate(labels)]
    for learn, judge in module._folds(labels, module._groups(rows_of(labels, groups)), seed=0):
        assert not {groups[k] for k in learn} & {groups[k] for k in judge}
    shas = [f"{k // 4}-{label}" for k, label in enumerate(labels)]
    for learn, judge in module._folds(labels, module._groups(rows_of(labels, shas=shas)), seed=0):
        assert not {shas[k] for k in learn} & {shas[k] for k in judge}


def test_every_image_is_judged_once():
    labels = np.repeat([0, 1, 2], [7, 20, 33])
    folds = module._folds(labels, np.arange(60), seed=0)
    assert np.array_equal(np.sort(np.concatenate([judge for _, judge in folds])), np.arange(60))
    assert all(set(labels[learn]) == {0, 1, 2} for learn, _ in folds)


@pytest.mark.parametrize(
    "labels, groups",
    [
        ([0, 0, 0, 1], None),
        ([0, 0, 1, 1], ["a", "a", "b", "b"]),
        ([0, 0, 1, 1], ["a", "b", "a", "c"]),
        ([0, 0, 0], None),
    ],
    ids=["one image", "one group", "mixed groups", "one class"],
)
def test_too_few_images_take_the_middle_candidate_or_a_whole_cut(labels, groups, open_recipe):
    values = np.random.default_rng(0).normal(size=(len(labels), 20)).astype(np.float32)
    choice = choose_ridge(values, rows_of(labels, groups), open_recipe, progress=False)
    assert choice.ridge in open_recipe.ridge
    if not choice.folds:
        assert choice.ridge == 10 and "too few images" in str(choice)


def test_many_images_are_sampled_by_class(open_recipe, monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 40)
    labels = np.repeat([0, 1], [300, 100])
    keep = module._sample(labels, seed=0)
    assert len(keep) == 40 and (labels[keep] == 1).sum() == 10 and len(set(keep.tolist())) == 40
    values, _ = features(400, 1.0, width=50)
    assert choose_ridge(values, rows_of(labels), open_recipe, progress=False).images == 40


def test_features_that_never_vary_say_nothing(open_recipe):
    values, labels = features(60, 2.0, width=40)
    constant = np.concatenate([values, np.full((60, 5), 7.1, np.float32)], axis=1)
    plain, wide = (choose_ridge(v, rows_of(labels), open_recipe, progress=False) for v in (values, constant))
    for (_, a, _), (_, b, _) in zip(plain.candidates, wide.candidates, strict=True):
        assert a == pytest.approx(b, abs=1e-3)


def test_images_that_all_look_the_same_are_told(open_recipe):
    _, labels = features(60, 2.0)
    with pytest.raises(VggnbError, match="All 60 training images look the same"):
        choose_ridge(np.full((60, 300), 7.1, np.float32), rows_of(labels), open_recipe, progress=False)


def test_a_fold_whose_images_all_look_the_same_is_learnt_from_as_well(open_recipe):
    values, (_, labels) = np.full((20, 300), 7.1, np.float32), features(20, 2.0)
    values[3] = 0
    assert choose_ridge(values, rows_of(labels), open_recipe, progress=False).folds == 5


def test_features_that_are_no_numbers_are_told_by_the_images_name(open_recipe):
    values, labels = features(60, 2.0, width=40)
    values[7, 3] = np.nan
    with pytest.raises(VggnbError, match="not numbers") as told:
        choose_ridge(values, rows_of(labels), open_recipe, progress=False)
    assert told.value.where == "train/1/7.jpg"


def test_progress_is_shown_on_stderr(open_recipe, capsys):
    values, labels = features(60, 2.0, width=40)
    choose_ridge(values, rows_of(labels), open_recipe, progress=True)
    told = capsys.readouterr()
    assert told.out == "" and "Cross-validation" in told.err and "5/5" in told.err


def test_a_run_trains_with_the_choice_and_writes_it_down(best_run):
    run, features = best_run
    choice = run.training()["choice"]
    assert run.recipe.is_open and choice["ridge"] in run.recipe.ridge
    assert choice["images"] == len(features.of("train").rows) and choice["folds"] == 5


def test_the_article_chooses_nothing(article_run):
    assert article_run[0].training()["choice"] is None
