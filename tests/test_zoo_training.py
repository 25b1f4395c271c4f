"""What the census accepts trains without a word, and is the same pixels in training and in prediction."""

import numpy as np
import pytest
from zoo import build_zoo

from vggnb.census import Manifest, take_census
from vggnb.features import extract
from vggnb.generators import read_row
from vggnb.images import read_image
from vggnb.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's remarks on the awkward files


@pytest.fixture(scope="module")
def accepted(tmp_path_factory):
    root = tmp_path_factory.mktemp("zoo")
    build_zoo(root)
    census = take_census(root, progress=False)
    return Manifest(census.dataset, census.classes, census.rows)


@pytest.mark.parametrize("name", ["article", "best"])
def test_every_accepted_file_is_the_same_tensor_in_training_and_in_prediction(accepted, name):
    recipe = Recipe.named(name).with_(image_size=32)
    assert len(accepted.rows) > 40
    for row in accepted.rows:
        data = (accepted.dataset / row.path).read_bytes()
        predicted = read_image(data, size=recipe.image_size, resize=recipe.resize)
        assert np.array_equal(read_row(accepted, row, recipe), predicted), row.path


def test_every_accepted_file_goes_through_the_network(accepted, base, best, tmp_path):
    splits = {row.split for row in accepted.rows}
    features = extract(accepted, best, *base, store=tmp_path, splits=splits, progress=False)
    assert features.unreadable == () and len(features.rows) == len(accepted.rows)
    assert np.isfinite(features.values).all()
