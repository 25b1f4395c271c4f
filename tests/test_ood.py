"""Images like the training data stay inside the ranges of its features; others are detected, and doubt is stated."""

import json

import numpy as np
import pytest

from vggnb.metrics.ood import FEWEST, FeatureRanges, fit_ranges, share_outside
from vggnb.storage import VggnbError


@pytest.fixture(scope="module")
def fitted():
    """Ranges of 50 features of 400 images, and a limit from 100 others of the same source."""
    random = np.random.default_rng(0)
    return fit_ranges(*(random.normal(size=(n, 50)).astype(np.float32) for n in (400, 100)))


def test_about_two_in_a_hundred_images_from_the_same_source_are_flagged(fitted):
    fresh = np.random.default_rng(1).normal(size=(5000, 50)).astype(np.float32)
    assert 0.002 < np.mean(fitted.out_of_distribution(fresh)) < 0.06
    assert fitted.images == 100 and not fitted.reason and "100 validation images" in str(fitted)


def test_images_from_elsewhere_are_flagged(fitted):
    random = np.random.default_rng(2)
    for foreign in (random.normal(3, 1, (50, 50)), random.normal(0, 4, (50, 50)), np.full((50, 50), 1e9)):
        assert np.mean(fitted.out_of_distribution(foreign.astype(np.float32))) > 0.95
    assert fitted.out_of_distribution(np.full((1, 50), np.nan)) == [True]


def test_training_images_are_inside_though_another_engine_rounds_differently(fitted):
    train = np.random.default_rng(0).normal(size=(400, 50)).astype(np.float32)
    assert share_outside(train * np.float32(1.00001), fitted.low, fitted.high).max() == 0


@pytest.mark.parametrize("n", [0, FEWEST - 1])
def test_too_few_validation_images_give_no_answer_and_the_reason(n):
    few = fit_ranges(np.zeros((9, 3), np.float32), np.zeros((n, 3), np.float32))
    assert few.limit is None and few.out_of_distribution(np.ones((2, 3))) == [None, None]
    assert f"{n} validation images are too few" in few.reason and few.reason in str(few)


@pytest.mark.parametrize("as_json", [True, False])
def test_they_come_back_with_every_bit_from_json_and_from_arrays(as_json, fitted):
    values = json.loads(json.dumps(fitted.to_dict())) if as_json else vars(fitted)
    again = FeatureRanges.from_dict(values, width=50, where="x")
    assert (again.low == fitted.low).all() and (again.high == fitted.high).all() and again.low.dtype == np.float32
    assert (again.limit, again.images, again.reason) == (fitted.limit, fitted.images, fitted.reason)


@pytest.mark.parametrize(
    "change",
    [
        {"low": [1.0]}, {"low": "?"}, {"high": None}, {"limit": "much"}, {"limit": -1}, {"limit": float("nan")},
        {"images": "x"}, {"low": [float("inf")] * 50}, {"low": [[0.0] * 50]}, "text", None, [],
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_refused(change, fitted):
    values = {**fitted.to_dict(), **change} if isinstance(change, dict) else change
    with pytest.raises(VggnbError, match="not the ranges of 50 features"):
        FeatureRanges.from_dict(values, width=50, where="x")


def test_a_run_keeps_the_ranges_of_its_training_images(best_run):
    run, features = best_run
    found, train = run.ranges(), features.of("train").values
    assert found.low.shape == (2944,) and found.limit is None and "8 validation images" in found.reason
    assert share_outside(train, found.low, found.high).max() == 0 and (train.min(axis=0) == found.low).all()
