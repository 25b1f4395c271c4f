"""Grad-CAM and occlusion on the assembled classifier: raw pixels in, a heat map out.

A map shows where this model found evidence, not that the evidence is sound. Sanity checks come first: `shuffled` and
`similarity` test whether a map depends on the model at all, `hottest_inside` whether it finds what is known to matter.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from vggnb.device import keras, tf
from vggnb.model import compiled
from vggnb.storage import VggnbError

BATCH = 32


def grad_cam(model: keras.Model, image: np.ndarray, *, class_index: int, layer: str = "block5_conv3") -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, doi 10.1109/ICCV.2017.74): a map of the evidence for a class.

    The score is the one before the softmax, as in the paper: the gradient of a probability near 1 vanishes, and a
    probability also rises when another class merely gets weaker.

    Args:
        model: of `model.build_classifier`, fine-tuned or not.
        image: (size, size, 3), raw RGB 0 to 255, as `images.read_image(path, size=...)` gives; or several, (n, ...).
        class_index: of the class, which need not be the predicted one.
        layer: name of a convolution of the base. With pools of several blocks in the recipe (`Recipe.best()`) the map
            covers only what passes through this layer; occlusion covers the whole model.

    Returns:
        float32 (size, size), or (n, size, size): 0 to 1; all 0 where there is no evidence for the class.

    Raises:
        VggnbError: unknown layer or class, or an image of another size.
    """
    images = _checked(model, image, class_index)
    convolutions = _names(model, keras.layers.Conv2D)
    if layer not in convolutions:
        raise VggnbError(f"There is no convolution '{layer}'.", model.name, f"Use one of: {', '.join(convolutions)}.")
    # A copy, since the base's layers also belong to the base: their `output` would be that one.
    copy = _copied(model)
    output = copy.layers[-1]
    inner = keras.Model(copy.inputs, [copy.get_layer(layer).output, output.input])
    heats = []
    for at in range(0, len(images), BATCH):
        batch = tf.constant(images[at : at + BATCH])
        with tf.GradientTape() as tape:
            tape.watch(batch)  # the base is frozen, so nothing else would be recorded
            maps, features = inner(batch, training=False)
            score = tf.linalg.matvec(features, output.kernel[:, class_index]) + output.bias[class_index]
        gradient, maps = (tf.cast(values, tf.float32) for values in (tape.gradient(score, maps), maps))  # of 16 bits
        importance = tf.reduce_mean(gradient, axis=(1, 2))  # (b, channels)
        heats += list(tf.nn.relu(tf.einsum("bhwc,bc->bhw", maps, importance)).numpy())
    sides = images.shape[2:0:-1]
    heats = [np.asarray(Image.fromarray(heat).resize(sides, Image.Resampling.BILINEAR)) for heat in heats]
    heats = [heat / heat.max() if heat.max() > 0 else np.zeros_like(heat) for heat in heats]
    return np.array(heats, np.float32).reshape(np.shape(image)[:-1])


def class_maps(
    model: keras.Model, image: np.ndarray, classes: Sequence[str], *, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Grad-CAM of one image for several classes, by default the first three: {"for NAME": map}."""
    chosen = dict.fromkeys(classes[:3] if names is None else names)
    return {f"for {name}": grad_cam(model, image, class_index=classes.index(name)) for name in chosen}


def occlusion(
    model: keras.Model, image: np.ndarray, *, class_index: int, patch: int | None = None, stride: int | None = None
) -> np.ndarray:
    """Occlusion (Zeiler and Fergus 2014, doi 10.1007/978-3-319-10590-1_53): what covering a place costs a probability.

    Args:
        model: of `model.build_classifier`.
        image: (size, size, 3), raw RGB 0 to 255.
        class_index: of the class whose probability is measured.
        patch: pixels a side of the cover, which has the image's mean colour; default a sixth of the image.
        stride: pixels from one cover to the next; default half a patch. Half the stride costs four times the time.

    Returns:
        float32 (size, size): the fall of the probability, averaged over the covers that hide a pixel; below 0 where
        the class became more probable.

    Raises:
        VggnbError: unknown class, an image of another size, or a patch that does not fit.
    """
    pixels = _checked(model, image, class_index, most=3)[0]
    size = pixels.shape[0]
    patch = size // 6 if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= size or not 1 <= stride <= patch:
        what = f"A patch of {patch} with a stride of {stride} does not cover an image of {size} pixels."
        raise VggnbError(what, "occlusion", "Use 1 <= stride <= patch <= size.")
    starts = [*range(0, size - patch, stride), size - patch]
    places = [(y, x) for y in starts for x in starts]
    answer = compiled(model)
    before = float(answer(pixels[None])[0, class_index])
    total, covers = np.zeros((size, size)), np.zeros((size, size))
    for at in range(0, len(places), BATCH):
        some = places[at : at + BATCH]
        batch = np.repeat(pixels[None], len(some), axis=0)
        for covered, (y, x) in zip(batch, some, strict=True):
            covered[y : y + patch, x : x + patch] = pixels.mean(axis=(0, 1))
        after = answer(batch)[:, class_index]
        for (y, x), probability in zip(some, after, strict=True):
            total[y : y + patch, x : x + patch] += before - probability
            covers[y : y + patch, x : x + patch] += 1
    return (total / covers).astype(np.float32)


def shuffled(model: keras.Model, *, from_layer: str, seed: int = 0) -> keras.Model:
    """A copy with the weights of each layer, from a named one to the output, in random order.

    A map that stays the same depends on the image alone, as an edge detector would (Adebayo et al. 2018, doi
    10.48550/arXiv.1810.03292, "cascading randomisation").

    Args:
        from_layer: a convolution or "probabilities", the output; what comes before it stays as it is.

    Raises:
        VggnbError: the model has no such layer with weights to shuffle.
    """
    learning = _names(model, keras.layers.Conv2D | keras.layers.Dense)
    if from_layer not in learning:
        raise VggnbError(f"There is no layer '{from_layer}'.", model.name, f"Use one of: {', '.join(learning)}.")
    random, copy = np.random.default_rng(seed), _copied(model)
    for name in learning[learning.index(from_layer) :]:
        layer = copy.get_layer(name)
        layer.set_weights([random.permuted(weight.ravel()).reshape(weight.shape) for weight in layer.get_weights()])
    return copy


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two maps, -1 to 1; 0 where one of them is flat."""
    flat = np.ptp(first) == 0 or np.ptp(second) == 0
    return 0.0 if flat else float(spearmanr(first, second, axis=None).statistic)


def hottest_inside(heats: np.ndarray, places: np.ndarray) -> int:
    """Of several maps, float (n, h, w), the number whose hottest pixel lies in its place, bool (n, h, w)."""
    return sum(bool(place.flat[heat.argmax()]) for heat, place in zip(heats, places, strict=True))


def _names(model: keras.Model, kinds) -> list[str]:
    """Of the model's layers of these kinds, without the preprocessing."""
    return [one.name for one in model.layers if isinstance(one, kinds) and one.name != "preprocessing"]


def _copied(model: keras.Model) -> keras.Model:
    """The same model with layers of its own."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _checked(model: keras.Model, image: np.ndarray, class_index: int, *, most: int = 4) -> np.ndarray:
    """One image or several (`most` dimensions) as a batch, float32 (n, size, size, 3), if they and the class fit."""
    wanted, classes = tuple(model.input_shape[1:]), model.output_shape[-1]
    if np.shape(image)[-3:] != wanted or np.ndim(image) > most:
        remedy = f"Read it with images.read_image(path, size={wanted[0]})."
        raise VggnbError(f"The image has shape {np.shape(image)}; the model expects {wanted}.", "image", remedy)
    if not 0 <= class_index < classes:
        raise VggnbError(f"There is no class {class_index}.", "class_index", f"Use 0 to {classes - 1}.")
    return np.asarray(image, np.float32).reshape(-1, *wanted)
