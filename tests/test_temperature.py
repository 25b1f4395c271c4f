"""Temperature scaling changes how confident a model is and nothing else."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from vggnb.metrics.temperature import at_temperature, calibrate, fit_temperature


def overconfident(n=400, classes=3, factor=3.0, seed=0):
    """Logits that are `factor` times too large, and labels drawn from the right ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes)) * 1.5
    labels = np.array([random.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return logits * factor, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_is_how_much_too_large_the_logits_are(factor):
    logits, labels = overconfident(3000, factor=factor)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(factor, rel=0.1)
    losses = {t: log_loss(labels, softmax(logits / t, axis=1)) for t in np.geomspace(0.1, 10, 400)}
    assert temperature == pytest.approx(min(losses, key=losses.get), rel=0.03)
    before, after = softmax(logits, axis=1), softmax(logits / temperature, axis=1)
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))


def test_a_model_without_errors_does_not_become_infinitely_confident():
    labels = np.arange(60) % 2
    assert 0.1 < fit_temperature(np.eye(2)[labels], labels) < 1


@pytest.mark.parametrize(
    "logits, labels, words",
    [(*overconfident(29), "29 validation images"), (overconfident(50)[0], np.zeros(50, int), "no validation image")],
)
def test_too_few_images_leave_the_temperature_at_one(logits, labels, words):
    found = calibrate(logits, labels)
    assert found.temperature == 1 and words in found.reason and words in str(found)


def test_a_fitted_temperature_states_its_losses():
    found = calibrate(*overconfident(60))
    assert found.reason == "" and found.images == 60 and found.loss_after < found.loss_before
    assert str(found).startswith(f"temperature {found.temperature:.2f}, fitted on 60 validation images")


def test_a_temperature_is_undone_by_its_inverse():
    probabilities = softmax(overconfident(50)[0], axis=1)
    assert at_temperature(at_temperature(probabilities, 2.5), 1 / 2.5) == pytest.approx(probabilities)
