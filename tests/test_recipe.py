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


def test_the_article_changes_output_and_loss_for_more_than_two_classes():
    recipe = Recipe.article()
    assert (recipe.activation(2), recipe.loss(2)) == ("sigmoid", "sparse_categorical_crossentropy")
    for classes in (3, 7):
        assert (recipe.activation(classes), recipe.loss(classes)) == ("softmax", "categorical_crossentropy")


def test_the_best_sees_every_block_the_way_vgg_was_trained():
    recipe = Recipe.best()
    assert {block for block, _ in recipe.pools} == set(BLOCKS) and {kind for _, kind in recipe.pools} == set(POOLINGS)
    assert recipe.preprocessing == "caffe" and recipe.standardise
    assert recipe.is_open and len(recipe.ridge) > 3 and not recipe.hidden
    assert recipe.activation(2) == "softmax"


def test_a_recipe_is_changed_only_by_making_another():
    recipe = Recipe.article()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 50
    assert recipe.with_(epochs=50).epochs == 50 and recipe.epochs == 5
    assert recipe.with_(epochs=5) == recipe


@pytest.mark.parametrize("name", ["article", "best", "fine"])
def test_a_recipe_survives_json(name):
    recipe = Recipe.named(name).with_(epochs=7, seed=3)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("name", ["worst", "", "Article", "with_", "__init__", "from_dict"])
def test_an_unknown_recipe_is_told_with_those_there_are(name):
    with pytest.raises(VggnbError, match="no recipe") as told:
        Recipe.named(name)
    assert "article, best or fine" in told.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 31},
        {"image_size": 5000},
        {"batch_size": 0},
        {"resize": "lanczos"},
        {"preprocessing": "torch"},
        {"pools": ()},
        {"pools": ((6, "max"),)},
        {"pools": ((5, "median"),)},
        {"hidden": -1},
        {"dropout": 1.0},
        {"two_class_activation": "relu"},
        {"ridge": -0.1},
        {"ridge": float("nan")},
        {"ridge": (1.0, 10.0)},  # the article has a hidden layer: no choosing
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"epochs": 0},
        {"validation_share": 0.0},
        {"validation_share": 1.0},
        {"seed": -1},
        {"seed": 2**32},  # more than Keras takes
    ],
    ids=str,
)
def test_a_choice_out_of_range_is_told_by_name_and_value(change):
    ((name, value),) = change.items()
    with pytest.raises(VggnbError) as told:
        Recipe.article().with_(**change)
    assert f"{name} = {value!r}" in told.value.what and "article" in told.value.where
    assert told.value.remedy.startswith("Allowed: ") and (name != "image_size" or "32 to 1024" in told.value.remedy)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epochs": 2.5}, "epochs = 2.5 is not a whole number"),
        ({"epochs": "5"}, "epochs = '5' is not a whole number"),
        ({"patience": True}, "patience = True is not a whole number"),
        ({"class_weights": {0: 1.0, 1: 9.0}}, "class_weights = .* is not True or False"),
        ({"decay": "no"}, "decay = 'no' is not True or False"),
        ({"learning_rate": "1e-3"}, "learning_rate = '1e-3' is not a number"),
        ({"ridge": "3"}, "ridge = '3' is not a number, or several"),
        ({"ridge": (3.0, "1")}, "ridge = .* is not a number, or several"),
        ({"pools": 5}, "pools = 5 is not pairs of a block and a pooling"),
        ({"pools": (5, "max")}, "pools = .* is not pairs"),
        ({"epoch": 5}, "no choice 'epoch'"),
    ],
)
def test_a_value_of_another_kind_and_an_unknown_choice_are_told(change, words):
    with pytest.raises(VggnbError, match=words):
        Recipe.article().with_(**change)


def test_numbers_of_numpy_and_lists_become_plain_values():
    recipe = Recipe.best().with_(
        epochs=np.int64(5), dropout=np.float32(0), ridge=[3, np.float64(1)], pools=[[5, "max"]]
    )
    assert (recipe.epochs, recipe.ridge, recipe.pools) == (5, (3.0, 1.0), ((5, "max"),))
    assert type(recipe.epochs) is int and json.loads(json.dumps(recipe.to_dict()))["ridge"] == [3.0, 1.0]


@pytest.mark.parametrize("ridge", [(), (0.0, 1.0), (-1.0,), (float("nan"),)], ids=str)
def test_candidates_are_numbers_above_nought(ridge):
    with pytest.raises(VggnbError, match="ridge"):
        Recipe.best().with_(ridge=ridge)


def test_one_number_closes_the_choice():
    recipe = Recipe.best().with_(ridge=60.0)
    assert not recipe.is_open and Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("size", [32, 96, 224, 299, 1024])
def test_vgg16_takes_other_sizes_than_224(size):
    assert Recipe.article().with_(image_size=size).image_size == size


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("seed"),
        lambda values: values.update(surprise=1),
        lambda values: values.update(pools=[5, "max"]),
        lambda values: values.update(pools=None),
        lambda values: values.update(image_size="224"),
        lambda values: values.update(epochs=0),
        lambda values: values.update(ridge=["strong"]),
        lambda values: values.update(ridge={}),
    ],
)
def test_a_spoilt_recipe_file_is_refused(spoil):
    values = Recipe.article().to_dict()
    spoil(values)
    with pytest.raises(VggnbError):
        Recipe.from_dict(values)


@pytest.mark.parametrize("document", [[], "article", None, {}])
def test_another_json_document_is_no_recipe(document):
    with pytest.raises(VggnbError, match="Not a recipe"):
        Recipe.from_dict(document)
