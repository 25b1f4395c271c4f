"""Diagrams say in a sentence what they show, for any dataset and any number of classes."""

import numpy as np
import pytest

from vggnb import figures
from vggnb.model import build_head, empty_base
from vggnb.recipe import Recipe


def test_the_pipeline_names_the_page_of_each_step():
    drawing = figures.pipeline()
    assert "census (page 2)" in str(drawing) and "bundle (pages 7, 8)" in str(drawing)
    assert drawing.image().startswith(b"\x89PNG")


@pytest.mark.parametrize("counts, words", [
    ({"train": {"a": 3, "b": 1}, "test": {"a": 1, "b": 0}}, "the head learns from these; test, 1 image"),
    ({"train": {"a": 3}, "validation": {"a": 0}}, "train, 3 images: the head learns from these."),
    ({"unsplit": {"a": 3}}, "The images are not split."),
])  # fmt: skip
def test_splits_are_drawn_with_their_sizes_and_uses(counts, words):
    class Data:
        def counts(self):
            return counts

    assert words in str(figures.three_splits(Data()))


@pytest.mark.parametrize("name, classes, words", [
    ("article", ("good", "bent"), "features 512, hidden 512, output 2. Output: probabilities of good, bent."),
    ("best", ("a", "b", "c"), "features 2,944, standardise 2,944, output 3."),
])  # fmt: skip
def test_vgg16_is_drawn_from_the_model_itself(name, classes, words):
    recipe = Recipe.named(name).with_(image_size=32)
    drawing = figures.vgg16_with_head(empty_base(32), build_head(recipe, len(classes)), classes)
    assert "block 1, 2 convolutions, 32 x 32 x 64; block 2, 2 convolutions, 16 x 16 x 128" in str(drawing)
    assert words in str(drawing)


@pytest.mark.parametrize("shape, words", [
    ((120, 160, 3), "one side shrinks 1.33 times as much as the other; cropped, 25 % of it are lost; padded, 25 %"),
    ((160, 40, 3), "4.00 times"),
    ((50, 50, 3), "it is square already"),
])  # fmt: skip
def test_three_ways_to_a_square(shape, words):
    drawing = figures.three_squares(np.zeros(shape, np.uint8), size=32)
    assert words in str(drawing)
    assert [ax.images[0].get_array().shape for ax in drawing.axes] == [shape, *[(32, 32, 3)] * 3]
