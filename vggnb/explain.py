"""Where did the model look? Grad-CAM and occlusion on the assembled classifier: raw pixels in, a heat map out.

A map shows where this model found evidence. It does not show that the evidence is sound.
"""

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from vggnb.storage import VggnbError

BATCH = 32


def grad_cam(model: keras.Model, image: np.ndarray, *, class_index: int, layer: str = "block5_conv3") -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, doi 10.1109/ICCV.2017.74): which places speak for a class.

    The score is the one before the softmax, as in the paper: a probability near 1 hardly changes whatever the picture
    does (its gradient goes to zero), and it also rises when another class merely gets weaker.

    Args:
        model: what `model.build_classifier` made, fine-tuned or not.
        image: (size, size, 3), raw RGB 0 to 255, as `images.read_image(path, size=...)` gives.
        class_index: whose evidence; any class, not only the most probable.
        layer: a convolution of the base, named. With pools of several blocks in the recipe (`Recipe.best()`) the map
            tells only of what passes through this layer; occlusion tells of the whole model.

    Returns:
        float32 (size, size), 0 to 1; all 0 where nothing speaks for the class.

    Raises:
        VggnbError: unknown layer or class, or an image of another size.
    """
    batch = _checked(model, image, class_index)
    convolutions = [one.name for one in model.layers if isinstance(one, keras.layers.Conv2D)]
    if layer not in convolutions:
        raise VggnbError(f"There is no convolution '{layer}'.", model.name, f"Use one of: {', '.join(convolutions)}.")
    copy = keras.models.clone_model(
        model
    )  # the base's layers also belong to the base: their `output` would be that one
    copy.set_weights(model.get_weights())
    output = copy.layers[-1]
    inner = keras.Model(copy.inputs, [copy.get_layer(layer).output, output.input])
    with tf.GradientTape() as tape:
        tape.watch(batch)  # the base is frozen, so nothing else would be recorded
        maps, features = inner(batch, training=False)
        score = tf.linalg.matvec(features, output.kernel[:, class_index]) + output.bias[class_index]
    importance = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2))  # (1, channels)
    heat = tf.nn.relu(tf.einsum("bhwc,bc->bhw", maps, importance))[0].numpy()
    heat = np.asarray(Image.fromarray(heat).resize(batch.shape[2:0:-1], Image.Resampling.BILINEAR))
    return (heat / heat.max() if heat.max() > 0 else np.zeros_like(heat)).astype(np.float32)


def occlusion(
    model: keras.Model, image: np.ndarray, *, class_index: int, patch: int | None = None, stride: int | None = None
) -> np.ndarray:
    """Occlusion (Zeiler and Fergus 2014, doi 10.1007/978-3-319-10590-1_53): cover a place, see what the class loses.

    Args:
        model: what `model.build_classifier` made.
        image: (size, size, 3), raw RGB 0 to 255.
        class_index: whose probability is watched.
        patch: pixels a side of the cover, which has the picture's mean colour; default a sixth of the picture.
        stride: pixels from one cover to the next; default half a patch. Half the stride costs four times the time.

    Returns:
        float32 (size, size): the fall of the probability, averaged over the covers that hide a pixel. Below 0: the
        class got more probable without this place.

    Raises:
        VggnbError: unknown class, an image of another size, or a patch that does not fit.
    """
    pixels = _checked(model, image, class_index)[0].numpy()
    size = pixels.shape[0]
    patch = size // 6 if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= size or not 1 <= stride <= patch:
        what = f"A patch of {patch} with a stride of {stride} does not cover a picture of {size} pixels."
        raise VggnbError(what, "occlusion", "Use 1 <= stride <= patch <= size.")
    starts = [*range(0, size - patch, stride), size - patch]
    places = [(y, x) for y in starts for x in starts]
    before = float(model.predict_on_batch(pixels[None])[0, class_index])
    total, covers = np.zeros((size, size)), np.zeros((size, size))
    for at in range(0, len(places), BATCH):
        some = places[at : at + BATCH]
        batch = np.repeat(pixels[None], len(some), axis=0)
        for covered, (y, x) in zip(batch, some, strict=True):
            covered[y : y + patch, x : x + patch] = pixels.mean(axis=(0, 1))
        after = model.predict_on_batch(batch)[:, class_index]
        for (y, x), probability in zip(some, after, strict=True):
            total[y : y + patch, x : x + patch] += before - probability
            covers[y : y + patch, x : x + patch] += 1
    return (total / covers).astype(np.float32)


def _checked(model: keras.Model, image: np.ndarray, class_index: int) -> tf.Tensor:
    """The image as a batch of one, float32 (1, size, size, 3), if model, image and class fit together."""
    wanted, classes = tuple(model.input_shape[1:]), model.output_shape[-1]
    if np.shape(image) != wanted:
        remedy = f"Read it with images.read_image(path, size={wanted[0]})."
        raise VggnbError(f"The picture has the shape {np.shape(image)}, the model takes {wanted}.", "image", remedy)
    if not 0 <= class_index < classes:
        raise VggnbError(f"There is no class {class_index}.", "class_index", f"Use 0 to {classes - 1}.")
    return tf.constant(np.asarray(image, np.float32)[None])
