"""What validation images decide: temperature scaling, and the limit from which an image is out-of-distribution."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from vggnb.metrics.calibration import FEWEST_FOR_LIMIT, calibrate, fit_ranges, fit_temperature, share_outside
from vggnb.metrics.predictions import at_temperature

# Temperature


def overconfident(n=400, classes=3, factor=3.0, seed=0):
    """Logits that are `factor` times too large, and labels drawn from the right ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes)) * 1.5
    labels = np.array([random.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return logits * factor, labels


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_is_how_much_too_large_the_logits_are(factor):
    logits, labels = overconfident(3000, factor=factor)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(factor, rel=0.1)
    losses = {t: log_loss(labels, softmax(logits / t, axis=1)) for t in np.geomspace(0.1, 10, 400)}
    assert temperature == pytest.approx(min(losses, key=losses.get), rel=0.03)
    probabilities = softmax(logits, axis=1)
    assert at_temperature(probabilities, temperature) == pytest.approx(softmax(logits / temperature, axis=1))
    assert at_temperature(at_temperature(probabilities, 2.5), 1 / 2.5) == pytest.approx(probabilities)


def test_a_model_without_errors_does_not_become_infinitely_confident():
    labels = np.arange(60) % 2
    assert 0.1 < fit_temperature(np.eye(2)[labels], labels) < 1


def test_a_calibration_states_its_losses_or_why_there_is_none():
    found = calibrate(*overconfident(60))
    assert found.reason == "" and found.images == 60 and found.loss_after < found.loss_before
    assert str(found).startswith(f"temperature {found.temperature:.2f}, fitted on 60 validation images")
    few = (
        (overconfident(29), "29 validation images"),
        ((overconfident(50)[0], np.zeros(50, int)), "no validation image"),
    )
    for (logits, labels), words in few:
        found = calibrate(logits, labels)
        assert found.temperature == 1 and words in found.reason and words in str(found)


# Out-of-distribution images


def normal(seed, n, mean=0.0, width=1.0):
    """Features of n images."""
    return np.random.default_rng(seed).normal(mean, width, size=(n, 50)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    """Ranges of 400 images, and a limit from 100 others of the same source."""
    features = normal(0, 500)
    return fit_ranges(features[:400], features[400:])


def test_about_two_in_a_hundred_images_from_the_same_source_are_flagged(fitted):
    assert 0.002 < np.mean(fitted.out_of_distribution(normal(1, 5000))) < 0.06
    assert fitted.images == 100 and not fitted.reason and "100 validation images" in str(fitted)
    rounded = normal(0, 500)[:400] * np.float32(1.00001)  # another engine rounds differently
    assert share_outside(rounded, fitted.low, fitted.high).max() == 0


def test_images_from_elsewhere_are_flagged(fitted):
    for foreign in (normal(3, 50, 3), normal(4, 50, 0, 4), np.full((50, 50), 1e9, np.float32)):
        assert np.mean(fitted.out_of_distribution(foreign)) > 0.95
    assert fitted.out_of_distribution(np.full((1, 50), np.nan)) == [True]


@pytest.mark.parametrize("n", [0, FEWEST_FOR_LIMIT - 1])
def test_too_few_validation_images_give_no_answer_and_the_reason(n):
    few = fit_ranges(np.zeros((9, 3), np.float32), np.zeros((n, 3), np.float32))
    assert few.limit is None and few.out_of_distribution(np.ones((2, 3))) == [None, None]
    assert f"{n} validation images are too few" in few.reason and few.reason in str(few)


def test_a_run_keeps_the_ranges_of_its_training_images(best_run):
    run, features = best_run
    found, train = run.ranges(), features.of("train").values
    assert found.low.shape == (2944,) and found.limit is None and "8 validation images" in found.reason
    assert share_outside(train, found.low, found.high).max() == 0 and (train.min(axis=0) == found.low).all()
