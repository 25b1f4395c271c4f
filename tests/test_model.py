"""VGG-16's base, the head, the one classifier made of both; and that the article's recipe is the article's model."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.applications.vgg16 import preprocess_input
from scipy.special import softmax

from vggnb import model
from vggnb.generators import make_dataset
from vggnb.model import (
    ALL_POOLS,
    build_classifier,
    build_extractor,
    build_head,
    compile_head,
    pool_columns,
    preprocessing_layer,
    trainable_count,
)
from vggnb.paths import sample_folder
from vggnb.recipe import BLOCKS, Recipe
from vggnb.storage import VggnbError


@pytest.fixture(scope="module")
def pixels():
    """Four raw images, float32, whole numbers from 0 to 255."""
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def every_pool(base, best, pixels):
    """What the extractor gives for the four images."""
    return ask(build_extractor(base[0], best), pixels)


@pytest.fixture(scope="module")
def first_batch(article, survey):
    """The article's first batch of the sample: raw pixels and labels."""
    images, labels = next(iter(make_dataset(survey(sample_folder()), "train", article, training=True)))
    assert set(labels.numpy()) == {0, 1}
    return images.numpy(), labels.numpy()


def ask(model, inputs):
    """What a model says, without compiling it first."""
    return model(inputs, training=False).numpy()


def lively(head):
    """Give every layer of a head weights that are not zero."""
    random = np.random.default_rng(1)
    for layer in head.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.set_weights([random.normal(0, 0.05, w.shape).astype(np.float32) for w in layer.get_weights()])
    return head


def the_articles_own_model(base, head, *, dropout=0.5, classes=2):
    """The published code's network, without any of ours, with the numbers of ours."""
    vgg = keras.applications.VGG16(input_shape=(32, 32, 3), include_top=False, weights=None)
    for layer in vgg.layers:
        layer.trainable = False
    vgg.set_weights(base.get_weights())
    x = keras.layers.GlobalMaxPooling2D()(vgg.output)
    hidden = keras.layers.Dense(512, activation="relu")
    output = keras.layers.Dense(classes, activation="sigmoid" if classes == 2 else "softmax")
    model = keras.Model(vgg.input, output(keras.layers.Dropout(dropout)(hidden(x))))
    hidden.set_weights(head.get_layer("hidden").get_weights())
    output.set_weights(head.get_layer("output").get_weights())
    loss = "sparse_categorical_crossentropy" if classes == 2 else "categorical_crossentropy"
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    return SimpleNamespace(model=model, hidden=hidden, output=output)


def test_preprocessing_is_kerass_bit_for_bit(pixels, best, article):
    expected, layer, images = preprocess_input(pixels.copy()), preprocessing_layer(best), keras.Input((32, 32, 3))
    assert np.array_equal(layer(pixels).numpy(), expected)
    assert np.array_equal(keras.Model(images, layer(images)).predict_on_batch(pixels), expected)
    assert np.array_equal(preprocessing_layer(article)(pixels).numpy(), pixels * np.float32(1 / 255))


def test_the_base_is_vgg16_without_its_top_and_frozen_and_only_the_head_is_trained(base, article, best):
    vgg, source = base
    assert vgg.count_params() == 14_714_688 and trainable_count(vgg) == 0
    assert vgg.output_shape == (None, 1, 1, 512) and not source.pretrained
    head = build_head(article, 2)
    assert trainable_count(head) == trainable_count(build_classifier(vgg, head, article)) == 263_682
    assert [trainable_count(build_head(best, classes)) for classes in (2, 6)] == [2945 * 2, 2945 * 6]


def test_the_extractor_gives_all_ten_pools_side_by_side(every_pool, base, best, pixels):
    assert every_pool.shape == (4, 2944) and len(ALL_POOLS) == 10
    ends = keras.Model(base[0].input, [base[0].get_layer(f"block{block}_pool").output for block in BLOCKS])
    maps = dict(zip(BLOCKS, ends.predict_on_batch(preprocess_input(pixels.copy())), strict=True))
    start = 0
    for block, pooling in ALL_POOLS:
        expected = (np.mean if pooling == "average" else np.max)(maps[block], axis=(1, 2))
        found = every_pool[:, start : start + BLOCKS[block]]
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-4), (block, pooling)
        start += BLOCKS[block]


def test_a_recipe_picks_its_pools_by_name(article, best):
    assert pool_columns(article).tolist() == list(range(2944 - 512, 2944))
    assert pool_columns(best).tolist() == list(range(2944))
    backwards = article.with_(pools=((2, "average"), (1, "max")))
    assert pool_columns(backwards).tolist() == [*range(128, 256), *range(64, 128)]


@pytest.mark.parametrize("pools", [((5, "max"),), ((3, "average"), (1, "max"), (5, "average"))])
@pytest.mark.parametrize("name, classes", [("article", 2), ("article", 3), ("best", 2), ("best", 3)])
def test_the_classifier_is_features_then_head(name, classes, pools, base, pixels):
    recipe = Recipe.named(name).with_(image_size=32, pools=pools)
    features = ask(build_extractor(base[0], recipe), pixels)[:, pool_columns(recipe)]
    head = build_head(recipe, classes)
    if recipe.standardise:
        head.get_layer("standardise").adapt(np.concatenate([features, features / 3]))  # as varied as real images
    lively(head)
    probabilities = ask(build_classifier(base[0], head, recipe), pixels)
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-6
    said = ask(head, features)
    if recipe.activation(classes) == "sigmoid":
        odds = said.astype(np.float64) / (1 - said.astype(np.float64))
        said = odds / odds.sum(axis=1, keepdims=True)
    assert np.abs(probabilities - said).max() <= 1e-5


def test_two_sigmoids_are_trained_as_a_softmax(article):
    """Keras hands the loss the numbers before the sigmoid: softmax of them is the probability that is fitted."""
    head = lively(build_head(article, 2))
    compile_head(head, article)
    features = np.random.default_rng(2).normal(0, 2, (16, 512)).astype(np.float32)
    labels = np.arange(16) % 2
    (kernel, bias), (last_kernel, last_bias) = (head.get_layer(name).get_weights() for name in ("hidden", "output"))
    logits = (np.maximum(features @ kernel + bias, 0) @ last_kernel + last_bias).astype(np.float64)
    sigmoids = ask(head, features).astype(np.float64)
    assert np.abs(sigmoids - 1 / (1 + np.exp(-logits))).max() < 1e-6
    assert np.abs(sigmoids.sum(axis=1) - 1).max() > 0.01, "the article's two outputs do not add up to 1"
    odds = sigmoids / (1 - sigmoids)
    assert np.abs(softmax(logits, axis=1) - odds / odds.sum(axis=1, keepdims=True)).max() < 1e-5
    expected = -np.log(softmax(logits, axis=1)[np.arange(16), labels]).mean()
    loss, _ = head.test_on_batch(features, labels)
    assert abs(loss - expected) < 1e-5
    as_written = sigmoids / sigmoids.sum(axis=1, keepdims=True)
    assert abs(loss + np.log(as_written[np.arange(16), labels]).mean()) > 1e-3, "it is not the sigmoids' own share"


def test_the_first_training_step_is_that_of_the_articles_own_model(base, article, first_batch):
    """Dropout, the only chance in a step, is off on both sides."""
    images, labels = first_batch
    recipe = article.with_(dropout=0.0)
    head = build_head(recipe, 2)
    compile_head(head, recipe)
    theirs = the_articles_own_model(base[0], head, dropout=0.0)
    features = ask(build_extractor(base[0], recipe), images)[:, pool_columns(recipe)]
    before = head.get_layer("output").get_weights()[0]
    loss, _ = head.train_on_batch(features, labels)
    their_loss, _ = theirs.model.train_on_batch(images * np.float32(1 / 255), labels)
    assert abs(loss - their_loss) <= 1e-6
    assert np.abs(head.get_layer("output").get_weights()[0] - before).max() > 1e-4
    for name in ("hidden", "output"):
        for ours, other in zip(head.get_layer(name).get_weights(), getattr(theirs, name).get_weights(), strict=True):
            moved = np.abs(ours - other)
            # Adam's first step is the sign of the gradient: where that is a rounding error, so is its sign.
            assert np.quantile(moved, 0.99) <= 1e-6


def test_the_multi_class_change_is_the_articles_softmax_and_categorical_loss(base, article, pixels):
    head = lively(build_head(article, 3))
    compile_head(head, article)
    theirs = the_articles_own_model(base[0], head, classes=3).model
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    features = ask(build_extractor(base[0], article), pixels)[:, pool_columns(article)]
    assert abs(head.test_on_batch(features, labels)[0] - theirs.test_on_batch(pixels / 255, labels)[0]) <= 1e-6
    assert head.get_layer("output").activation is keras.activations.softmax


def test_a_feature_that_never_varies_in_training_cannot_decide_later(base, best, pixels):
    """With a hidden layer it has a weight from the start; a division by next to nothing would make it loud."""
    features = np.random.default_rng(0).normal(size=(20, 2944)).astype(np.float32)
    linear, hidden = build_head(best, 2), build_head(best.with_(hidden=8, ridge=0.0), 2)
    for head, constant in ((hidden, 0.1), (linear, 3.0)):  # 0.1 varies by rounding
        features[:, 7] = constant
        head.get_layer("standardise").adapt(features)
    compile_head(linear, best)
    linear.fit(features, np.arange(20) % 2, epochs=2, verbose=0)
    kernel = linear.get_layer("output").get_weights()[0]
    assert not kernel[7].any() and np.count_nonzero(kernel) > 2900
    features[:, 7] = 4.0
    assert np.isfinite(ask(linear, features)).all()
    classifier = build_classifier(base[0], hidden, best.with_(hidden=8, ridge=0.0))
    assert not classifier.get_layer("hidden").get_weights()[0][7].any()
    assert np.isfinite(ask(classifier, pixels)).all()


@pytest.fixture
def short_of_memory(monkeypatch):
    """A function: from now on, calls with more images are refused, as a GPU would; gives the list of their sizes."""

    def refuse(most):
        sizes = []

        def traced(function, **_):
            def run(batch):
                sizes.append(len(batch))
                if len(batch) > most:
                    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
                return function(batch)

            return run

        monkeypatch.setattr(model.tf, "function", traced)
        return sizes

    return refuse


def test_a_batch_too_large_for_the_memory_is_halved_and_said_once(short_of_memory, capsys):
    small = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    batch = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)
    expected, sizes, run = model.compiled(small)(batch), short_of_memory(4), model.compiled(small)
    assert np.allclose(run(batch), expected, atol=1e-6) and sizes == [13, 6, 3, 3, 3, 3, 1]
    told = capsys.readouterr().out
    assert "13 images at once; continuing with 6" in told and "6 images at once; continuing with 3" in told
    assert np.allclose(run(batch), expected, atol=1e-6)
    assert sizes[7:] == [3, 3, 3, 3, 1] and capsys.readouterr().out == ""
    short_of_memory(0)
    with pytest.raises(VggnbError, match="not enough memory for a single image"):
        model.compiled(small)(batch)
