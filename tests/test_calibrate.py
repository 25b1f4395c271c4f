"""A temperature makes probabilities keep their word and changes nothing else."""

import numpy as np
import pytest

from vggnb.calibrate import at_temperature, calibrate, fit_temperature, log_loss, softmax
from vggnb.evaluate import weighted_ece
from vggnb.model import build_classifier
from vggnb.storage import read_json, sealed, unsealed, write_json


def boastful(n=400, classes=3, boast=3.0, seed=0):
    """Logits that are `boast` times too large, and labels drawn from the honest ones."""
    random = np.random.default_rng(seed)
    honest = random.normal(size=(n, classes)) * 1.5
    labels = np.array([random.choice(classes, p=p) for p in softmax(honest)])
    return honest * boast, labels


def ece(probabilities, labels):
    right = probabilities.argmax(axis=1) == labels
    return weighted_ece(probabilities, right, np.ones((1, len(labels)), int))[0]


def test_a_boastful_model_becomes_honest_and_ranks_as_before():
    logits, labels = boastful(2000)
    temperature = fit_temperature(*boastful(2000, seed=1))  # of other images
    before, after = softmax(logits), softmax(logits / temperature)
    assert temperature == pytest.approx(3, rel=0.1)
    assert ece(after, labels) < 0.3 * ece(before, labels)
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))
    two = logits[:, :2]
    ranks = [np.argsort(softmax(two / t)[:, 1], kind="stable") for t in (1.0, temperature)]
    assert np.array_equal(*ranks)


def test_the_temperature_has_the_least_loss():
    logits, labels = boastful(3000, boast=0.5)
    losses = {t: log_loss(softmax(logits / t), labels) for t in np.geomspace(0.1, 10, 400)}
    assert fit_temperature(logits, labels) == pytest.approx(min(losses, key=losses.get), rel=0.03)


def test_a_model_without_mistakes_does_not_become_infinitely_sure():
    labels = np.arange(60) % 2
    assert 0.1 < fit_temperature(np.eye(2)[labels], labels) < 1


def test_too_few_images_leave_the_temperature_at_one_and_say_so():
    logits, labels = boastful(29)
    assert calibrate(logits, labels).temperature == 1 and "29 validation images" in str(calibrate(logits, labels))
    alone = calibrate(boastful(50)[0], np.zeros(50, int))
    assert alone.temperature == 1 and "no validation image" in alone.reason
    assert calibrate(*boastful(60)).reason == ""


def test_probabilities_go_there_and_back():
    probabilities = softmax(boastful(50)[0])
    assert at_temperature(at_temperature(probabilities, 2.5), 1 / 2.5) == pytest.approx(probabilities)


def test_the_assembled_model_speaks_with_the_temperature_of_the_run(own_run, base, best):
    path = own_run.folder / "training.json"
    document = unsealed(read_json(path), path)
    assert document["calibration"]["temperature"] == 1 and document["calibration"]["images"] == 8
    before, name = own_run.classifier(base[0]), own_run.model_sha256()
    document["calibration"]["temperature"] = 2.0
    write_json(path, sealed(document))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    cold, warm = (model.predict_on_batch(pixels) for model in (before, own_run.classifier(base[0])))
    assert warm == pytest.approx(at_temperature(cold, 2.0), abs=1e-5)
    assert own_run.model_sha256() != name  # so that what the other model said is not taken for this one's
    assert build_classifier(base[0], own_run.head(), best).predict_on_batch(pixels) == pytest.approx(cold)
