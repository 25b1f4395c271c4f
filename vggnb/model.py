"""VGG-16's base, the head, and the one classifier made of both: raw pixels in, probabilities out."""

import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from vggnb.recipe import BLOCKS, POOLINGS, Recipe
from vggnb.storage import VggnbError
from vggnb.weights import WeightSource, load_weights

IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)  # of the pictures VGG-16 was trained on (Simonyan, Zisserman 2014)
POOLS = "pools"  # the cut of the network behind which a head learns
ALL_POOLS = tuple((block, pooling) for block in BLOCKS for pooling in POOLINGS)


@keras.saving.register_keras_serializable("vggnb")
class CaffePreprocessing(keras.layers.Layer):
    """VGG-16's own preprocessing: RGB 0..255 -> BGR minus the ImageNet mean. Equal to `vgg16.preprocess_input`."""

    def call(self, images):
        """float32 (b, h, w, 3) in and out."""
        return images[..., ::-1] - keras.ops.convert_to_tensor(IMAGENET_MEAN_BGR, images.dtype)


def preprocessing_layer(recipe: Recipe) -> keras.layers.Layer:
    """The recipe's scaling as a layer: "rescale" divides by 255, "caffe" is what VGG-16 was trained with."""
    if recipe.preprocessing == "rescale":
        return keras.layers.Rescaling(1.0 / 255, name="rescale")
    return CaffePreprocessing(name="caffe_preprocessing")


def build_base(recipe: Recipe, weights: str = "imagenet") -> tuple[keras.Model, WeightSource]:
    """VGG-16 without its top, frozen, and where its weights came from.

    The base takes preprocessed pixels, float32 (b, size, size, 3), as in the article.
    """
    shape = (recipe.image_size, recipe.image_size, 3)
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=shape)
    source = load_weights(base, weights)
    base.trainable = False
    return base, source


def _pooled(base: keras.Model, images, recipe: Recipe, pools: tuple[tuple[int, str], ...]):
    """The head's features of preprocessed images: the wanted pools of the wanted blocks, side by side."""
    x, ends = preprocessing_layer(recipe)(images), {}
    for block in base.layers[1:]:
        x = ends[block.name] = block(x)
    layer = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    pooled = [layer[kind](name=f"block{block}_{kind}")(ends[f"block{block}_pool"]) for block, kind in pools]
    return pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="features")(pooled)


def build_extractor(base: keras.Model, recipe: Recipe, *, cut: str = POOLS) -> keras.Model:
    """The frozen part as a model: raw pixels float32 (b, size, size, 3) -> what enters the part that learns.

    Args:
        cut: "pools" for all ten pools, float32 (b, 2944); or the name of a layer of the base, such as "block5_conv1",
            for the activations that enter it, float32 (b, h, w, channels).

    Raises:
        VggnbError: the base has no layer of this name.
    """
    images = keras.Input((recipe.image_size, recipe.image_size, 3), name="raw_rgb")
    if cut == POOLS:
        return keras.Model(images, _pooled(base, images, recipe, ALL_POOLS), name="extractor")
    names = [layer.name for layer in base.layers[1:]]
    if cut not in names:
        raise VggnbError(f"VGG-16 has no layer '{cut}'.", "the cut", f"Use {POOLS} or one of: {', '.join(names)}.")
    x = preprocessing_layer(recipe)(images)
    for layer in base.layers[1 : 1 + names.index(cut)]:
        x = layer(x)
    return keras.Model(images, x, name="extractor")


def features_of(model: keras.Model, recipe: Recipe):
    """The tensor that enters the head, (b, d), inside a classifier or a tail whose pools have our names."""
    block, kind = recipe.pools[0]
    return model.get_layer("features" if len(recipe.pools) > 1 else f"block{block}_{kind}").output


def pool_columns(recipe: Recipe) -> np.ndarray:
    """Which of the extractor's 2944 columns the recipe's head sees, in its order."""
    starts = np.cumsum([0] + [BLOCKS[block] for block, _ in ALL_POOLS])
    spans = {pool: np.arange(start, end) for pool, start, end in zip(ALL_POOLS, starts[:-1], starts[1:], strict=True)}
    return np.concatenate([spans[pool] for pool in recipe.pools])


def build_head(recipe: Recipe, classes: int, *, images: int = 1) -> keras.Model:
    """The part that learns: features float32 (b, d) -> the recipe's outputs (b, classes).

    Args:
        images: how many training images share the recipe's ridge penalty; while the recipe holds candidates, there is
            none, which is all that is needed to load a trained head.

    For `Recipe.article()` and two classes: Dense 512 relu, Dropout 0.5, Dense(2, sigmoid): 263 682 weights.
    """
    features = x = keras.Input((recipe.width,), name="features")
    if recipe.standardise:
        x = keras.layers.Normalization(name="standardise")(x)
    if recipe.hidden:
        start = keras.initializers.GlorotUniform(seed=recipe.seed)
        x = keras.layers.Dense(recipe.hidden, activation="relu", kernel_initializer=start, name="hidden")(x)
    if recipe.dropout:
        x = keras.layers.Dropout(recipe.dropout, seed=recipe.seed, name="dropout")(x)
    # With nothing hidden the problem is convex: starting at zero, features that never vary keep no weight.
    start = keras.initializers.GlorotUniform(seed=recipe.seed + 1) if recipe.hidden else keras.initializers.Zeros()
    penalty = keras.regularizers.L2(recipe.ridge / images) if recipe.ridge and not recipe.is_open else None
    output = keras.layers.Dense(
        classes,
        activation=recipe.activation(classes),
        kernel_initializer=start,
        kernel_regularizer=penalty,
        name="output",
    )
    return keras.Model(features, output(x), name="head")


def compile_head(head: keras.Model, recipe: Recipe, *, images: int = 1) -> None:
    """Loss, optimiser and metric, as the recipe says.

    Args:
        images: how many images an epoch goes through; a learning rate that decays ends with the last epoch.
    """
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

    Args:
        temperature: divides what enters the softmax (see `metrics.temperature`); it is folded into the layer's numbers.
    """
    images = keras.Input((recipe.image_size, recipe.image_size, 3), name="raw_rgb")
    *inner, output = head.layers[1:]
    x = _pooled(base, images, recipe, recipe.pools)
    for layer in inner:
        x = layer(x)
    probabilities = keras.layers.Dense(output.units, activation="softmax", name="probabilities")
    model = keras.Model(images, probabilities(x), name="classifier")
    probabilities.set_weights([values / np.float32(temperature) for values in output.get_weights()])
    return model


def compiled(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The model, without dropout, as one compiled function: batches of any size, float32 in, float32 out.

    A batch that the device's memory does not hold is halved until it does, and so are all batches after it.

    Raises:
        VggnbError: not even one image fits.
    """
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    # Not a lambda: TensorFlow would take those of several models for one that is traced again and again, and warn.
    run = tf.function(functools.partial(model, training=False), input_signature=[images])
    most = 1 << 30

    def answer(batch: np.ndarray) -> np.ndarray:
        nonlocal most
        while True:
            size = min(most, len(batch)) or 1
            pieces = [batch[at : at + size] for at in range(0, len(batch), size)] or [batch]
            try:
                return np.concatenate([run(tf.convert_to_tensor(piece, tf.float32)).numpy() for piece in pieces])
            except tf.errors.ResourceExhaustedError:
                if size == 1:
                    remedy = "Restart the kernel to free its memory, or use a smaller --image-size."
                    raise VggnbError("The memory does not hold a single image.", "the device", remedy) from None
            most = size // 2
            print(f"The memory does not hold {size} images at once: going on with {most}.")

    return answer


def trainable_count(model: keras.Model) -> int:
    """How many single numbers training may change."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
