"""Heat maps: a planted patch that decides is found, other weights destroy the map, bad input is named."""

import functools

import keras
import numpy as np
import pytest

from vggnb.explain import grad_cam, occlusion
from vggnb.model import build_base, build_classifier, build_head
from vggnb.recipe import BLOCKS, Recipe
from vggnb.storage import VggnbError

SIZE = 128
RECIPE = Recipe.article().with_(image_size=SIZE, hidden=0, dropout=0.0, pools=((5, "average"),))
PATCH, PLACES = 16, [(0, 0), (16, 80), (80, 16), (112, 112)]  # (top, left) of a patch


def tiny_classifier(seed=None):
    """VGG-shaped, weights set by hand: class 1 where it is more red than blue. With a seed: random convolutions."""
    images = x = keras.Input((SIZE, SIZE, 3))
    for block, channels in BLOCKS.items():
        width = channels if block == 5 else 4
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv3")(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    base, random = keras.Model(images, x), np.random.default_rng(seed)
    for block in BLOCKS:
        layer = base.get_layer(f"block{block}_conv3")
        kernel, bias = layer.get_weights()
        if seed is None:
            kernel[:] = bias[:] = 0
            kernel[1, 1, :3, :2] = [[1, -1], [0, 0], [-1, 1]] if block == 1 else [[1, 0], [0, 1], [0, 0]]
        else:
            kernel = random.normal(0, np.sqrt(2 / np.prod(kernel.shape[:3])), kernel.shape)
        layer.set_weights([kernel, bias])
    head = build_head(RECIPE, 2)
    weights = np.zeros((BLOCKS[5], 2))
    weights[0], weights[1] = (-16, 16), (16, -16)  # red speaks for class 1, blue for class 0
    head.get_layer("output").set_weights([weights, np.zeros(2)])
    return build_classifier(base, head, RECIPE)


def planted(red, blue):
    """Grey noise with a red and a blue patch."""
    image = np.repeat(np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 1)), 3, axis=2).astype(np.uint8)
    for (top, left), colour in ((red, (255, 0, 0)), (blue, (0, 0, 255))):
        image[top : top + PATCH, left : left + PATCH] = colour
    return image


def share_inside(heat, place):
    heat = np.maximum(heat, 0)
    return heat[place[0] : place[0] + PATCH, place[1] : place[1] + PATCH].sum() / max(heat.sum(), 1e-9)


@pytest.fixture(scope="module")
def tiny():
    return tiny_classifier()


@pytest.mark.parametrize("explain", [grad_cam, functools.partial(occlusion, patch=24, stride=8)], ids=["cam", "cover"])
@pytest.mark.parametrize("red, blue", list(zip(PLACES, PLACES[1:] + PLACES[:1], strict=True)))
def test_the_patch_that_decides_is_found_for_the_class_it_speaks_for(tiny, explain, red, blue):
    image = planted(red, blue)
    for class_index, place in ((1, red), (0, blue)):
        heat = explain(tiny, image, class_index=class_index)
        assert heat.shape == (SIZE, SIZE) and heat.dtype == np.float32
        y, x = np.argwhere(heat > 0.999 * heat.max()).mean(axis=0)
        assert place[0] <= y < place[0] + PATCH and place[1] <= x < place[1] + PATCH
        assert share_inside(heat, place) > 0.25  # of a 64th of the picture; a layer's stride, or a cover, blurs


def test_random_weights_destroy_the_map(tiny):
    red, blue = PLACES[0], PLACES[3]
    image = planted(red, blue)
    found = share_inside(grad_cam(tiny, image, class_index=1), red)
    random = [share_inside(grad_cam(tiny_classifier(seed), image, class_index=1), red) for seed in range(6)]
    assert np.mean(random) < found / 3


def test_the_score_is_the_one_before_the_softmax(tiny):
    """Where the probability is so near 1 that its gradient vanishes, the map is still there, and the same."""
    image = planted(PLACES[0], PLACES[1])
    image[16:32, 80:96] = 128  # no blue: class 1 beyond doubt
    before = grad_cam(tiny, image, class_index=1)
    sure = tiny_classifier()
    kernel, bias = sure.layers[-1].get_weights()
    sure.layers[-1].set_weights([kernel * 500, bias])
    assert sure.predict_on_batch(image[None].astype(np.float32))[0, 1] == 1.0
    np.testing.assert_allclose(grad_cam(sure, image, class_index=1), before, atol=1e-5)


def test_nothing_speaks_for_a_class(tiny):
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    assert not grad_cam(tiny, grey, class_index=1).any()
    assert np.abs(occlusion(tiny, grey, class_index=1)).max() < 1e-6


def test_occlusion_is_the_fall_of_the_probability(tiny):
    image = planted(PLACES[0], PLACES[1])
    covered = image.astype(np.float32)
    before = tiny.predict_on_batch(covered[None])[0, 1]
    covered[:64, :64] = image.reshape(-1, 3).mean(axis=0)
    after = tiny.predict_on_batch(covered[None])[0, 1]
    heat = occlusion(tiny, image, class_index=1, patch=64, stride=64)
    np.testing.assert_allclose(heat[:64, :64], before - after, atol=1e-6)
    assert heat.min() < 0  # without the blue patch class 1 is more probable


def test_maps_leave_the_model_as_it_was(tiny):
    image = planted(PLACES[0], PLACES[1])
    before = [weight.copy() for weight in tiny.get_weights()]
    grad_cam(tiny, image, class_index=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, tiny.get_weights(), strict=True))


@pytest.mark.parametrize("recipe", [Recipe.article(), Recipe.best()], ids=["article", "best"])
@pytest.mark.parametrize("thawed", [False, True])
def test_maps_of_the_assembled_vgg16(recipe, thawed):
    """Every recipe, frozen or fine-tuned: preprocessing inside, the base's layers also in use elsewhere."""
    recipe = recipe.with_(image_size=32)
    base, _ = build_base(recipe, "none")
    model = build_classifier(base, build_head(recipe, 3), recipe)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=kernel.shape), bias])
    model.trainable = thawed
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    for layer in ("block5_conv3", "block3_conv1"):
        maps = [grad_cam(model, image, class_index=k, layer=layer) for k in range(3)]
        assert all(heat.shape == (32, 32) and heat.min() >= 0 for heat in maps)
        assert max(heat.max() for heat in maps) == 1  # something speaks for one of the classes


@pytest.mark.parametrize(
    "options, what",
    [
        ({"class_index": 2}, "no class 2"),
        ({"class_index": -1}, "no class -1"),
        ({"class_index": 0, "layer": "block9_conv1"}, "no convolution 'block9_conv1'"),
        ({"class_index": 0, "layer": "probabilities"}, "no convolution"),
    ],
)
def test_grad_cam_refuses(tiny, options, what):
    with pytest.raises(VggnbError, match=what):
        grad_cam(tiny, planted(*PLACES[:2]), **options)


@pytest.mark.parametrize("options", [{"patch": 0}, {"patch": 129}, {"patch": 8, "stride": 9}, {"stride": 0}])
def test_occlusion_refuses(tiny, options):
    with pytest.raises(VggnbError, match="does not cover"):
        occlusion(tiny, planted(*PLACES[:2]), class_index=0, **options)


def test_a_picture_of_another_size_is_refused_with_the_way_out(tiny):
    with pytest.raises(VggnbError, match=r"read_image\(path, size=128\)"):
        grad_cam(tiny, np.zeros((96, 96, 3), np.uint8), class_index=0)
