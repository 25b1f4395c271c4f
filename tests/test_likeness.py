"""Pictures like the training data stay inside the ranges of its features; others are noticed, and doubt is said."""

import json

import numpy as np
import pytest

from vggnb.likeness import FEWEST, Likeness, learn_likeness, outside
from vggnb.storage import VggnbError


@pytest.fixture(scope="module")
def learnt():
    """Ranges of 50 features of 400 pictures, and a limit from 100 others of the same source."""
    random = np.random.default_rng(0)
    return learn_likeness(*(random.normal(size=(n, 50)).astype(np.float32) for n in (400, 100)))


def test_of_pictures_from_the_same_source_about_two_in_a_hundred_are_called_unlike(learnt):
    fresh = np.random.default_rng(1).normal(size=(5000, 50)).astype(np.float32)
    assert 0.002 < np.mean(learnt.unlike(fresh)) < 0.06
    assert learnt.images == 100 and not learnt.reason and "100 validation pictures" in str(learnt)


def test_pictures_from_elsewhere_are_called_unlike(learnt):
    random = np.random.default_rng(2)
    for foreign in (random.normal(3, 1, (50, 50)), random.normal(0, 4, (50, 50)), np.full((50, 50), 1e9)):
        assert np.mean(learnt.unlike(foreign.astype(np.float32))) > 0.95


def test_what_is_no_number_is_outside(learnt):
    assert learnt.unlike(np.full((1, 50), np.nan)) == [True]
    assert outside(np.full((1, 50), np.inf), learnt.low, learnt.high) == 1


def test_the_training_pictures_themselves_are_inside_though_another_engine_rounds_differently(learnt):
    train = np.random.default_rng(0).normal(size=(400, 50)).astype(np.float32)
    assert outside(train * np.float32(1.00001), learnt.low, learnt.high).max() == 0


def test_too_few_validation_pictures_give_no_answer_and_the_reason():
    few = learn_likeness(np.zeros((9, 3), np.float32), np.zeros((FEWEST - 1, 3), np.float32))
    assert few.limit is None and few.unlike(np.ones((2, 3))) == [None, None]
    assert "19 validation pictures are too few" in few.reason and few.reason in str(few)
    assert learn_likeness(np.zeros((9, 3)), np.zeros((0, 3))).limit is None


def test_it_comes_back_from_json_with_every_bit(learnt):
    again = Likeness.from_dict(json.loads(json.dumps(learnt.to_dict())), width=50, where="x")
    assert (again.low == learnt.low).all() and (again.high == learnt.high).all()
    assert (again.limit, again.images, again.reason) == (learnt.limit, learnt.images, learnt.reason)


@pytest.mark.parametrize(
    "change",
    [
        {"low": "AAAA"}, {"low": "?"}, {"low": 7}, {"high": None}, {"limit": "much"}, {"limit": -1}, {"limit": 2},
        {"limit": float("nan")}, {"images": "x"}, {"low": "AADAfw==" * 50},
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_refused(change, learnt):
    with pytest.raises(VggnbError, match="not the ranges of 50 features"):
        Likeness.from_dict({**learnt.to_dict(), **change}, width=50, where="x")


@pytest.mark.parametrize("document", [None, [], {}, "text", 3])
def test_another_document_is_refused(document):
    with pytest.raises(VggnbError):
        Likeness.from_dict(document, width=50, where="x")


def test_a_run_keeps_what_its_training_pictures_were_like(best_run):
    run, features = best_run
    found, train = run.likeness(), features.of("train").values
    assert found.low.shape == (2944,) and found.limit is None and "8 validation pictures" in found.reason
    assert outside(train, found.low, found.high).max() == 0 and (train.min(axis=0) == found.low).all()
