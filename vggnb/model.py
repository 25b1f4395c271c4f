"""VGG-16's base, the head, and the one classifier made of both: raw pixels in, probabilities out."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vggnb.device import decide_precision, keras, tf
from vggnb.recipe import BLOCKS, CONVOLUTIONS, DEPTHS, POOLINGS, Recipe
from vggnb.storage import VggnbError
from vggnb.weights import WeightSource, load_weights

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)  # of the images VGG-16 was trained on (Simonyan, Zisserman 2014)
ALL_POOLS = tuple((block, pooling) for block in BLOCKS for pooling in POOLINGS)
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}  # Keras's names
LAST = "channels_last"  # stated for every layer: a user's keras.json may state otherwise


class Layer(NamedTuple):
    """One layer of VGG-16; `filters` of a convolution, 0 for the block's max pooling."""

    name: str
    filters: int
    block: int


LAYERS = tuple(
    Layer(f"block{block}_conv{n}", filters, block) if n <= depth else Layer(f"block{block}_pool", 0, block)
    for (block, filters), depth in zip(BLOCKS.items(), DEPTHS, strict=True)
    for n in range(1, depth + 2)
)


def empty_base(image_size: int, *, precision: str = "float32") -> keras.Model:
    """VGG-16 without its top, frozen, its weights still zero: preprocessed float32 (b, size, size, 3) in.

    Its layers do not depend on Keras's global settings, and their variables are always float32. `block1_conv1` computes
    in float32, too, which keeps the error of 16 bits down by 28 % for 4 % of the speed.
    """
    images = x = keras.Input((image_size, image_size, 3), dtype="float32", name="preprocessed")
    for layer in LAYERS:
        policy = "float32" if layer.name == CONVOLUTIONS[0] else POLICIES[precision]
        options = {"data_format": LAST, "dtype": policy, "name": layer.name}
        if layer.filters:
            options |= {"padding": "same", "activation": "relu", "kernel_initializer": "zeros", "trainable": False}
            x = keras.layers.Conv2D(layer.filters, 3, **options)(x)
        else:
            x = keras.layers.MaxPooling2D(2, strides=2, **options)(x)
    base = keras.Model(images, x, name="vgg16")
    base.trainable = False
    return base


def build_base(
    recipe: Recipe, weights: str = "imagenet", *, precision: str = "float32"
) -> tuple[keras.Model, WeightSource]:
    """VGG-16 without its top, frozen, and where its weights came from.

    Args:
        weights: see `weights.load_weights`.
        precision: of the arithmetic, from the second convolution on; see `device.decide_precision`.
    """
    precision, _ = decide_precision(precision)
    base = empty_base(recipe.image_size, precision=precision)
    return base, replace(load_weights(base, weights), precision=precision)


def preprocessing_layer(recipe: Recipe) -> keras.layers.Layer:
    """The recipe's scaling as a layer: "rescale" divides by 255, "caffe" is what VGG-16 was trained with.

    The latter, RGB 0 to 255 -> BGR minus the ImageNet mean, is equal to `vgg16.preprocess_input` to the last bit. It is
    a frozen convolution of 1x1: a layer that every program that reads Keras's files, ONNX or LiteRT knows.
    """
    if recipe.preprocessing == "rescale":
        return keras.layers.Rescaling(1.0 / 255, dtype="float32", name="preprocessing")
    options = {"kernel_initializer": "zeros", "data_format": LAST, "dtype": "float32", "trainable": False}
    layer = keras.layers.Conv2D(3, 1, name="preprocessing", **options)
    layer.build((None, None, None, 3))
    swap = np.eye(3, dtype=np.float32)[::-1]
    layer.set_weights([swap.reshape(1, 1, 3, 3), -np.array(IMAGENET_MEAN_BGR, np.float32)])
    return layer


def _pooled(base: keras.Model, recipe: Recipe, pools: tuple[tuple[int, str], ...]):
    """Raw pixels, and their features: average or maximum of each channel at the ends of blocks, side by side."""
    images = keras.Input((recipe.image_size, recipe.image_size, 3), dtype="float32", name="raw_rgb")
    x, ends, pooled = preprocessing_layer(recipe)(images), {}, []
    for layer in base.layers[1:]:
        x = ends[layer.name] = layer(x)
    kinds = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    for block, kind in pools:
        pool = kinds[kind](data_format=LAST, dtype="float32", name=f"block{block}_{kind}")
        pooled.append(pool(ends[f"block{block}_pool"]))
    if len(pooled) == 1:
        return images, pooled[0]
    return images, keras.layers.Concatenate(dtype="float32", name="features")(pooled)


def build_extractor(base: keras.Model, recipe: Recipe) -> keras.Model:
    """The frozen part as a model: raw pixels float32 (b, size, size, 3) -> all ten pools, float32 (b, 2944)."""
    return keras.Model(*_pooled(base, recipe, ALL_POOLS), name="extractor")


def features_of(model: keras.Model, recipe: Recipe):
    """The tensor that enters the head, (b, d), inside a classifier or a tail whose pools have our names."""
    block, kind = recipe.pools[0]
    return model.get_layer("features" if len(recipe.pools) > 1 else f"block{block}_{kind}").output


def pool_columns(recipe: Recipe) -> np.ndarray:
    """Which of the extractor's 2944 columns the recipe's head sees, in its order."""
    ends = np.cumsum([BLOCKS[block] for block, _ in ALL_POOLS])
    columns = dict(zip(ALL_POOLS, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    return np.concatenate([columns[pool] for pool in recipe.pools])


def build_head(recipe: Recipe, classes: int, *, images: int = 1) -> keras.Model:
    """The part that is trained: features float32 (b, d) -> the recipe's outputs (b, classes).

    For `Recipe.article()` and two classes: Dense 512 relu, Dropout 0.5, Dense(2, sigmoid): 263 682 weights.

    Args:
        images: how many training images share the recipe's ridge penalty; there is none while it holds candidates.
    """
    features = x = keras.Input((recipe.width,), dtype="float32", name="features")
    if recipe.standardise:
        x = keras.layers.Normalization(dtype="float32", name="standardise")(x)
    if recipe.hidden:
        start = keras.initializers.GlorotUniform(seed=recipe.seed)
        x = keras.layers.Dense(recipe.hidden, "relu", kernel_initializer=start, dtype="float32", name="hidden")(x)
    if recipe.dropout:
        x = keras.layers.Dropout(recipe.dropout, seed=recipe.seed, dtype="float32", name="dropout")(x)
    # With nothing hidden the problem is convex: starting at zero, features that never vary keep no weight.
    start = keras.initializers.GlorotUniform(seed=recipe.seed + 1) if recipe.hidden else keras.initializers.Zeros()
    penalty = keras.regularizers.L2(recipe.ridge / images) if recipe.ridge and not recipe.is_open else None
    options = {"kernel_initializer": start, "kernel_regularizer": penalty, "dtype": "float32", "name": "output"}
    return keras.Model(features, keras.layers.Dense(classes, recipe.activation(classes), **options)(x), name="head")


def compile_head(head: keras.Model, recipe: Recipe, *, images: int = 1) -> None:
    """Loss, optimiser and metric, as the recipe says; the number of `images` sets how fast the rate decays."""
    rate, steps = recipe.learning_rate, recipe.epochs * math.ceil(images / recipe.batch_size)
    if recipe.decay:
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    head.compile(
        optimizer=keras.optimizers.Adam(rate, name="adam"),  # a counted name would be in the file
        loss=recipe.loss(head.output_shape[-1]),
        # With a penalty, Keras's loss is the sum of both: the metric is the loss alone.
        metrics=["accuracy"] + ([recipe.loss(head.output_shape[-1])] if recipe.ridge else []),
    )


def build_classifier(base: keras.Model, head: keras.Model, recipe: Recipe, *, temperature: float = 1.0) -> keras.Model:
    """Base and head as one model: raw RGB pixels 0..255 (b, size, size, 3) -> probabilities (b, classes).

    Its last layer is always a softmax. The article's two sigmoids are trained as a softmax (Keras hands the loss the
    numbers before the sigmoid), so softmax of the same numbers is the probability that was fitted; rows add up to 1.

    Standardisation and temperature are linear: they are folded into the weights of the layer after and before them. All
    layers are Keras's own, so that the files made of this model open where vggnb is not installed.
    """
    model = empty_classifier(base, recipe, head.output_shape[-1])
    weights = {"hidden": head.get_layer("hidden").get_weights()} if recipe.hidden else {}
    weights["probabilities"] = [one / np.float32(temperature) for one in head.get_layer("output").get_weights()]
    if recipe.standardise:
        first = next(iter(weights))
        weights[first] = _folded(head.get_layer("standardise"), *weights[first])
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return model


def empty_classifier(base: keras.Model, recipe: Recipe, classes: int) -> keras.Model:
    """The classifier of `build_classifier`, the weights after the base still zero."""
    images, x = _pooled(base, recipe, recipe.pools)
    options = {"kernel_initializer": "zeros", "dtype": "float32"}
    if recipe.hidden:
        x = keras.layers.Dense(recipe.hidden, "relu", name="hidden", **options)(x)
    if recipe.dropout:
        x = keras.layers.Dropout(recipe.dropout, seed=recipe.seed, dtype="float32", name="dropout")(x)
    x = keras.layers.Dense(classes, "softmax", name="probabilities", **options)(x)
    return keras.Model(images, x, name="classifier")


def _folded(standardise: keras.layers.Layer, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """Kernel and bias of a Dense layer that takes features before they are standardised.

    A feature that did not vary in training gets no weight: dividing by almost zero would let it dominate later.
    """
    mean, variance = (np.array(part, np.float64).reshape(-1) for part in (standardise.mean, standardise.variance))
    scale = spread_of(mean, variance)
    folded = kernel.astype(np.float64) / scale[:, None]
    return [folded.astype(np.float32), (bias - mean @ folded).astype(np.float32)]


def spread_of(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations of features; infinite for those that did not vary, apart from rounding."""
    spread = np.sqrt(variance)
    return np.where(spread > np.maximum(1e-7, 1e-5 * np.abs(mean)), spread, np.inf)


def precision_of(model: keras.Model) -> str:
    """The precision of a model's convolutions, from the second one on."""
    found = [layer.compute_dtype for layer in model.layers if layer.name in CONVOLUTIONS[1:]]
    return found[0] if found else "float32"


def _copy(model: keras.Model, **changes) -> keras.Model:
    """A copy of a model, in which every layer has these options."""
    copy = keras.models.clone_model(
        model, clone_function=lambda layer: layer.__class__.from_config({**layer.get_config(), **changes})
    )
    copy.set_weights(model.get_weights())
    return copy


def in_float32(model: keras.Model) -> keras.Model:
    """The model, or a copy of it that computes in float32 from end to end."""
    return model if precision_of(model) == "float32" else _copy(model, dtype="float32")


def _checked(model: keras.Model) -> keras.Model:
    """A copy whose outputs are the model's and the last convolution of each block: what overflows there is inf."""
    copy = _copy(model)
    names = {layer.name for layer in copy.layers}
    ends = [before.name for before, layer in itertools.pairwise(LAYERS) if not layer.filters and before.name in names]
    return keras.Model(copy.input, [copy.output, *(copy.get_layer(name).output for name in ends)])


def _forward(model: keras.Model, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The model's output, and whether all its outputs are finite."""
    outputs = tf.nest.flatten(model(tf.cast(images, tf.float32), training=False))
    return outputs[0], tf.reduce_all([tf.reduce_all(tf.math.is_finite(output)) for output in outputs])


def compiled(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The model, without dropout, as a function: batches of any size, float32 or uint8 in, float32 out.

    A batch that the device's memory does not hold is halved until it does, and so are all batches after it. A batch
    that overflows in float16, which ends at 65,504, is computed again in float32.

    Raises:
        VggnbError: not even one image fits.
    """
    most, half = 1 << 30, precision_of(model) == "float16"

    @functools.cache
    def traced(dtype: np.dtype, exact: bool):
        used = in_float32(model) if exact else _checked(model) if half else model
        # Not a lambda: TensorFlow would take those of several models for one that is traced again, and warn.
        images = tf.TensorSpec((None, *model.input_shape[1:]), dtype)
        return tf.function(functools.partial(_forward, used), input_signature=[images])

    def computed(piece: np.ndarray) -> np.ndarray:
        values, finite = traced(piece.dtype, False)(piece)
        if half and not finite:
            values, _ = traced(piece.dtype, True)(piece)
        return values.numpy()

    def forward(batch: np.ndarray) -> np.ndarray:
        nonlocal most
        while True:
            size = min(most, len(batch)) or 1
            pieces = [batch[at : at + size] for at in range(0, len(batch), size)] or [batch]
            try:
                return np.concatenate([computed(piece) for piece in pieces])
            except tf.errors.ResourceExhaustedError:
                if size == 1:
                    remedy = "Restart the kernel to free its memory, or use a smaller --image-size."
                    raise VggnbError("There is not enough memory for a single image.", "the device", remedy) from None
            most = size // 2
            print(f"There is not enough memory for {size} images at once; continuing with {most}.")

    return forward


def trainable_count(model: keras.Model) -> int:
    """Number of trainable weights."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
