"""Every modelling choice in one frozen object."""

import dataclasses
import json

import numpy as np
import pytest

from vggnb.recipe import BLOCKS, POOLINGS, Recipe
from vggnb.storage import VggnbError


def test_the_article_is_to_the_letter():
    recipe = Recipe.article()
    assert (recipe.image_size, recipe.batch_size, recipe.epochs) == (224, 32, 5)
    assert (recipe.resize, recipe.preprocessing) == ("nearest", "rescale")
    assert recipe.pools == ((5, "max"),) and not recipe.standardise and recipe.ridge == 0 and not recipe.decay
    assert (recipe.hidden, recipe.dropout, recipe.learning_rate) == (512, 0.5, 1e-3)
    assert (recipe.activation(2), recipe.loss(2)) == ("sigmoid", "sparse_categorical_crossentropy")
    assert (recipe.activation(3), recipe.loss(3)) == ("softmax", "categorical_crossentropy")


def test_the_best_sees_every_block_the_way_vgg_was_trained():
    recipe = Recipe.best()
    assert set(recipe.pools) == {(block, pooling) for block in BLOCKS for pooling in POOLINGS}
    assert recipe.preprocessing == "caffe" and recipe.standardise
    assert recipe.is_open and len(recipe.ridge) > 3 and not recipe.hidden
    assert recipe.activation(2) == "softmax" and not recipe.with_(ridge=60.0).is_open


def test_a_recipe_is_changed_only_by_making_another():
    recipe = Recipe.article()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 50
    assert recipe.with_(epochs=50).epochs == 50 and recipe.epochs == 5


@pytest.mark.parametrize("name", ["article", "best", "fine"])
def test_a_recipe_survives_json(name):
    recipe = Recipe.named(name).with_(epochs=7, seed=3)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("change", [
    {"image_size": 31}, {"image_size": 5000}, {"image_size": "224"}, {"batch_size": 0}, {"resize": "lanczos"},
    {"preprocessing": "torch"}, {"pools": ()}, {"pools": ((6, "max"),)}, {"pools": ((5, "median"),)}, {"pools": 5},
    {"pools": (5, "max")}, {"pools": None}, {"hidden": -1}, {"dropout": 1.0}, {"two_class_activation": "relu"},
    {"ridge": -0.1}, {"ridge": float("nan")}, {"ridge": "3"}, {"ridge": (3.0, "1")}, {"ridge": ()},
    {"ridge": (0.0, 1.0)}, {"ridge": (1.0, float("nan"))}, {"ridge": {}}, {"learning_rate": 0.0},
    {"learning_rate": float("inf")},
    {"learning_rate": "1e-3"}, {"epochs": 0}, {"epochs": 2.5}, {"epochs": "5"}, {"patience": True},
    {"class_weights": {0: 1.0}}, {"decay": "no"}, {"validation_share": 0.0}, {"validation_share": 1.0},
    {"fine_tune": "block9"}, {"augment": "blur"}, {"augment": ("blur",)}, {"augment": 5}, {"seed": -1},
    {"seed": 2**32},
], ids=str)  # fmt: skip
def test_a_choice_that_is_not_allowed_is_refused_by_name_and_value_with_what_is(change):
    ((name, value),) = change.items()
    with pytest.raises(VggnbError) as caught:
        Recipe.best().with_(**change)
    assert f"{name} = {value!r} is not" in caught.value.what and caught.value.where == name
    assert caught.value.remedy.startswith("Use ") and (name != "image_size" or "32 to 1024" in caught.value.remedy)
    with pytest.raises(VggnbError):
        Recipe.from_dict(Recipe.best().to_dict() | change)


@pytest.mark.parametrize("call, words", [
    (lambda: Recipe.article().with_(ridge=(1.0, 10.0)), "without hidden layer"),
    (lambda: Recipe.article().with_(patience=3, decay=True), "cannot be combined"),
    (lambda: Recipe.article().with_(epoch=5), "no choice 'epoch'"),
    (lambda: Recipe.named("worst"), "(?s)no recipe 'worst'.*article, best or fine"),
    (lambda: Recipe.from_dict(["article"]), "Not a recipe"), (lambda: Recipe.from_dict({"seed": 1}), "Not a recipe"),
])  # fmt: skip
def test_choices_that_exclude_each_other_and_unknown_ones_are_refused(call, words):
    with pytest.raises(VggnbError, match=words):
        call()


def test_numbers_of_numpy_lists_and_texts_become_plain_values():
    numbers = {"epochs": np.int64(5), "dropout": np.float32(0), "ridge": [3, np.float64(1)], "pools": [[5, "max"]]}
    recipe = Recipe.best().with_(**numbers, augment="flips, contrast")
    assert (recipe.epochs, recipe.ridge, recipe.pools) == (5, (3.0, 1.0), ((5, "max"),))
    assert type(recipe.epochs) is int and recipe.augment == ("flips", "contrast")
