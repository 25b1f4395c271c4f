"""The numbers of a bundle into a network that was built here, from the first of its files that this Keras can read."""

import keras
import numpy as np

from vggnb.folders import shown
from vggnb.model import empty_base, empty_classifier
from vggnb.recipe import Recipe
from vggnb.save.spec import NUMBERS, Spec, check_answers, read_spec
from vggnb.storage import VggnbError


def read_numbers(model: keras.Model, spec: Spec, images: np.ndarray) -> None:
    """Fill a network, and see that it is the one that was saved.

    Args:
        images: the check pictures, float32 (8, size, size, 3), 0 to 255.

    Raises:
        VggnbError: no file can be read, or the numbers are of another model.
    """
    spec = _fill(model, spec)

    def answer(pictures: np.ndarray) -> np.ndarray:
        with keras.device("cpu"):  # in float32 everywhere: some accelerators multiply less precisely
            return keras.ops.convert_to_numpy(model(pictures, training=False))

    check_answers(spec, images, answer)


def rebuild(recipe: Recipe, classes: int) -> keras.Model:
    """The classifier with numbers still to come."""
    return empty_classifier(empty_base(recipe.image_size), recipe, classes)


def _fill(model: keras.Model, spec: Spec) -> Spec:
    """Read the file of the spec, or the next one if another Keras wrote it and this one cannot; that file's spec."""
    try:
        model.load_weights(spec.model_file)
        return spec
    except Exception as error:  # Keras and h5py raise many kinds; all mean the same to the reader
        writer, models = spec.document["versions"].get("keras"), spec.document["models"]
        this = next(kind for kind in NUMBERS if models.get(kind) == spec.model_file.name)
        rest = [kind for kind in NUMBERS[NUMBERS.index(this) + 1 :] if (spec.folder / models.get(kind, "")).is_file()]
        if writer == keras.__version__ or not rest:
            what = f"The weights do not fit the recipe: {error}"
            raise VggnbError(what, spec.model_file, "Save the run again.") from None
    print(f"Keras {keras.__version__} cannot read {spec.model_file.name}, which Keras {shown(str(writer))} wrote.")
    spec = read_spec(spec.folder, tuple(rest))
    print(f"The numbers come from {spec.model_file.name}.")
    return _fill(model, spec)
