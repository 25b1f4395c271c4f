"""Scores are scikit-learn's, intervals hold the truth and keep a width, thresholds and comparisons do what they say."""

import csv
import importlib.util
import io
import json
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from sklearn import metrics as sk

from vggnb.metrics import (
    Interval,
    Predictions,
    bootstrap_auc,
    calibration_error,
    choose_threshold,
    compare_predictions,
    find_mistakes,
    least_confident,
    relabel_list,
    reliability,
    report_on,
    wilson,
)
from vggnb.metrics.intervals import bootstrap_weights, group_codes, proportion
from vggnb.metrics.scores import auc, expected_calibration_error
from vggnb.storage import VggnbError

TWO = ("benign", "malignant")
THREE = ("ash", "birch", "oak")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # the scripts share a module
spec = importlib.util.spec_from_file_location("coverage", BENCHMARKS / "coverage.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def given(labels, probabilities, **options):
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, float)
    return Predictions(tuple(f"{k}.jpg" for k in range(len(labels))), labels, probabilities, **options)


def scored(scores, labels, **options):
    """Of two classes, by the probability of the second."""
    return given(labels, np.stack([1 - np.asarray(scores), scores], axis=1), **options)


def guesses(classes, n=90, seed=0):
    """Often right, with many ties."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    scores = random.random((n, classes)).round(1) + 0.1
    scores[np.arange(n), labels] += random.integers(0, 2, n) * 0.5
    return given(labels, scores / scores.sum(axis=1, keepdims=True))


def values(report):
    return {name: interval.value for name, interval in report.metrics.items()}


def slow_ece(probabilities, right):
    """The definition, one bin at a time (Guo et al. 2017, equation 3)."""
    confidence, total = probabilities.max(axis=1), 0.0
    for k in range(10):
        members = (confidence >= k / 10) & (confidence <= 1 if k == 9 else confidence < (k + 1) / 10)
        if members.any():
            total += members.mean() * abs(np.mean(right[members]) - confidence[members].mean())
    return total


# Scores


@pytest.mark.parametrize("positive", [0, 1])
def test_two_class_metrics_are_scikit_learns(positive):
    one = guesses(2)
    report = report_on(one, TWO, positive=TWO[positive], draws=50)
    truth, scores = one.labels == positive, one.probabilities[:, positive]
    predicted = scores >= 0.5
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "auc": sk.roc_auc_score(truth, scores),
        "average_precision": sk.average_precision_score(truth, scores),
        "sensitivity": sk.recall_score(truth, predicted),
        "specificity": sk.recall_score(~truth, ~predicted),
        "ppv": sk.precision_score(truth, predicted),  # at the prevalence of the images themselves
        "npv": sk.precision_score(~truth, ~predicted),
        "ece": slow_ece(one.probabilities, one.probabilities.argmax(axis=1) == one.labels),
        "brier": sk.brier_score_loss(truth, scores),
    }
    assert values(report) == pytest.approx(expected) and list(report.metrics) == list(expected)
    assert report.confusion.tolist() == sk.confusion_matrix(truth == positive, predicted == positive).tolist()


@pytest.mark.parametrize("is_birch_predicted", [True, False])
def test_metrics_of_more_classes_are_scikit_learns(is_birch_predicted):
    one = guesses(3)
    if not is_birch_predicted:
        shares = one.probabilities * [1, 0.01, 1]
        one = replace(one, probabilities=shares / shares.sum(axis=1, keepdims=True))
    report = report_on(one, THREE, draws=50)
    predicted = one.probabilities.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(one.labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(one.labels, predicted),
        "macro_f1": sk.f1_score(one.labels, predicted, average="macro"),
        "auc_ovr": sk.roc_auc_score(one.labels, one.probabilities, multi_class="ovr"),
        "ece": slow_ece(one.probabilities, predicted == one.labels),
        "brier": ((one.probabilities - np.eye(3)[one.labels]) ** 2).sum(axis=1).mean() / 2,
    }
    assert values(report) == pytest.approx(expected) and list(report.metrics) == list(expected)
    assert report.positive is report.threshold is None
    table = sk.classification_report(one.labels, predicted, output_dict=True, zero_division=0)
    for k, name in enumerate(THREE):
        found, row = report.per_class[name], table[str(k)]
        assert found["recall"]["value"] == pytest.approx(row["recall"]) and found["f1"] == pytest.approx(
            row["f1-score"]
        )
        assert (found["precision"] or 0) == pytest.approx(row["precision"])
    assert (report.per_class["birch"]["precision"] is not None) == is_birch_predicted


def test_the_calibration_error_of_known_answers():
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.35, 0.65]] * 10)
    labels = np.array([0] * 9 + [1] + [1] * 4 + [0] * 6)
    assert calibration_error(labels, probabilities)[0] == pytest.approx((0 + 0.25) / 2)
    assert calibration_error(np.array([0]), np.array([[1.0, 0.0]]))[0] == 0
    confidence, accuracy, n = reliability(labels, probabilities)
    assert [*confidence] == pytest.approx([0.65, 0.9]) and [*accuracy] == [0.4, 0.9] and [*n] == [10, 10]
    random = np.random.default_rng(0)  # of a model that is calibrated, about the expected error is seen
    shares = random.uniform(0.5, 1, 300)
    both = np.stack([shares, 1 - shares], axis=1)
    seen = [calibration_error((random.random(300) > shares).astype(int), both)[0] for _ in range(200)]
    assert np.mean(seen) == pytest.approx(expected_calibration_error(both), rel=0.1)


@pytest.mark.parametrize("digits", [1, 6])
def test_every_draws_auc_is_scikit_learns_with_weights(digits):
    random = np.random.default_rng(0)
    positive, scores = np.arange(80) % 3 == 0, random.random(80).round(digits)
    (weights,) = bootstrap_weights(positive.astype(int), draws=30, seed=1)
    expected = [sk.roc_auc_score(positive, scores, sample_weight=draw) for draw in weights]
    assert auc(positive, scores, weights) == pytest.approx(expected)
    found = bootstrap_auc(positive, scores, draws=300)
    assert found.value == pytest.approx(sk.roc_auc_score(positive, scores)) and found.low < found.value < found.high


def test_predictive_values_follow_bayes():
    one = scored([0.2] * 8 + [0.8] * 2 + [0.8] * 9 + [0.2], [0] * 10 + [1] * 10)
    metrics = report_on(one, TWO, prevalence=0.05, draws=20).metrics
    assert metrics["ppv"].value == pytest.approx(0.9 * 0.05 / (0.9 * 0.05 + 0.2 * 0.95))
    assert metrics["npv"].value == pytest.approx(0.8 * 0.95 / (0.8 * 0.95 + 0.1 * 0.05))
    nobody = report_on(scored([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]), TWO, draws=20).metrics
    assert "ppv" not in nobody and "npv" in nobody
    with pytest.raises(VggnbError, match="prevalence of 5"):
        report_on(one, TWO, prevalence=5)


# Intervals


@pytest.mark.parametrize(
    "hits, n, low, high",
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3, and the closed forms at the ends
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
     (20, 20, 0.8389, 1.0), (5, 10, 0.2366, 0.7634)],
)  # fmt: skip
def test_wilsons_interval_has_the_published_values(hits, n, low, high):
    interval = wilson(hits, n)
    assert (interval.value, interval.low, interval.high) == pytest.approx((hits / n, low, high), abs=6e-5)


def test_intervals_hold_the_truth():
    held = bench.coverage(150, 60, 60, 0.85, draws=200)
    assert all(0.89 <= share <= 0.99 for share in held.values()), held


def test_perfect_scores_keep_a_width():
    metrics = report_on(scored([0.1] * 10 + [0.9] * 10, [0] * 10 + [1] * 10), TWO).metrics
    for name in ("accuracy", "balanced_accuracy", "auc", "average_precision", "sensitivity", "ppv", "npv"):
        assert metrics[name].value == metrics[name].high == 1 and 0.5 < metrics[name].low < 0.9, name
    assert report_on(given([0, 1, 2] * 9, np.eye(3)[[0, 1, 2] * 9]), THREE).metrics["auc_ovr"].low < 0.9


@pytest.mark.parametrize("classes", [TWO, THREE])
def test_every_interval_holds_its_value_and_narrows(classes):
    few, many = (report_on(guesses(len(classes), n), classes, draws=400).metrics for n in (50, 5000))
    for name, one in few.items():
        assert 0 <= one.low <= one.high <= 1, name
        # the calibration error of a resampled set is larger on average: its interval need not hold the value
        assert name == "ece" or one.low <= one.value <= one.high, name
        assert many[name].high - many[name].low < 0.5 * (one.high - one.low), name


def test_a_draw_keeps_the_size_of_every_class():
    labels = np.array([0] * 5 + [1] * 20 + [2])
    (weights,) = bootstrap_weights(labels, draws=100, seed=0)
    assert weights.shape == (100, 26) and weights.min() >= 0 and weights[:, :5].max() > 1
    for label, n in enumerate((5, 20, 1)):
        assert (weights[:, labels == label].sum(axis=1) == n).all()


def test_images_of_one_group_count_as_fewer():
    groups = tuple(f"g{k // 5}" for k in range(100))
    hits = np.repeat(np.arange(20) % 4 > 0, 5)  # five images of a group are all right or all wrong
    alone, together = proportion(hits), proportion(hits, group_codes(groups))
    assert together.value == alone.value and together.high - together.low > 1.7 * (alone.high - alone.low)
    (weights,) = bootstrap_weights(np.repeat([0, 1], 50), draws=20, seed=0, codes=group_codes(groups))
    assert (weights.reshape(20, 20, 5) == weights.reshape(20, 20, 5)[:, :, :1]).all()
    one = scored(np.linspace(0, 1, 100), np.repeat([0, 1], 50), groups=groups)
    assert report_on(one, TWO, draws=50).groups == 20 and "in 20 groups" in str(report_on(one, TWO, draws=50))


def test_the_same_predictions_give_the_same_report_in_little_memory():
    """2,000 draws of 20,000 images at once would be 320 MB."""
    one = guesses(2, 20_000)
    tracemalloc.start()
    try:
        first = report_on(one, TWO, draws=200).to_dict()
        peak = tracemalloc.get_traced_memory()[1]
        report_on(one, TWO, draws=400)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * peak < 240_000_000
    finally:
        tracemalloc.stop()
    assert first == report_on(one, TWO, draws=200).to_dict()


# Reports


@pytest.mark.parametrize("classes", [("<b>cat", "dog"), ("<b>ash", "birch", "oak")])
def test_a_report_is_plain_json_words_and_a_table(classes):
    one = replace(guesses(len(classes)), unreadable=(("x.jpg", "cut short"),))
    report = report_on(one, classes, draws=20)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["n"] == 90 and document["left_out"] == 1 and document["classes"] == list(classes)
    assert set(document["metrics"]["accuracy"]) == {"value", "low", "high"} and document["not_evaluated"] == []
    assert np.sum(document["confusion"]) == 90 and document["limits"] == report.limits()
    assert "90 images (1 could not be read)" in str(report)
    assert f"{report.metrics['accuracy'].value:.2f}" in str(report) and f"{report.baseline:.2f}" in str(report)
    for html in (report._repr_html_(), compare_predictions(one, one, classes, draws=20)._repr_html_()):
        assert "<table" in html and "<b>" not in html and "accuracy" in html
    assert all(escape(note) in report._repr_html_() for note in report.limits()) and repr(report) == str(report)
    assert ("&lt;b&gt;ash" in report._repr_html_()) == (len(classes) == 3)  # its row in the table of classes
    many = report_on(given(np.arange(80), np.eye(80)), tuple(f"{k:03}" for k in range(80)), draws=5)
    assert "and 30 more rows" in many._repr_html_()
    with pytest.raises(VggnbError, match="'melanoma' is not a class") as raised:
        report_on(one, classes, positive="melanoma")
    assert classes[0] in raised.value.remedy


# Thresholds, comparisons, mistakes


def test_a_threshold_reaches_the_sensitivity_with_the_fewest_false_positives():
    one = scored([0.1, 0.2, 0.3, 0.6, 0.25, 0.5, 0.7, 0.9], [0, 0, 0, 0, 1, 1, 1, 1])
    point = choose_threshold(one, 1, sensitivity=0.75)
    assert point.threshold == pytest.approx(0.4) and point.sensitivity.value == point.specificity.value == 0.75
    assert choose_threshold(one, 1, sensitivity=1).threshold == pytest.approx(0.225)
    half = given([0, 1], [[0.5, 0.5], [0.5, 0.5]])  # from the threshold on: at exactly one half it is predicted
    assert report_on(half, TWO, draws=5).confusion.tolist() == [[0, 1], [0, 1]]
    assert report_on(half, TWO, positive="benign", draws=5).confusion.tolist() == [[1, 0], [1, 0]]
    costs = [choose_threshold(one, 1, cost_ratio=ratio).threshold for ratio in (0.1, 1, 100)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[2]
    report = report_on(one, TWO, operating_point=point, draws=20)
    assert report.threshold == point.threshold and report.metrics["sensitivity"].value == 0.75
    assert "chosen on 8 validation images" in str(report)


@pytest.mark.parametrize("aim, words", [
    ({}, "either a sensitivity or a cost ratio"), ({"sensitivity": 0}, "sensitivity of 0 cannot"),
    ({"sensitivity": 1.1}, "sensitivity of 1.1 cannot"), ({"cost_ratio": -1}, "cost ratio of -1 is out of range"),
])  # fmt: skip
def test_aims_that_make_no_sense_are_refused(aim, words):
    with pytest.raises(VggnbError, match=words):
        choose_threshold(scored([0.1, 0.9], [0, 1]), 1, **aim)
    with pytest.raises(VggnbError, match="images of both classes"):
        choose_threshold(scored([0.1, 0.9], [1, 1]), 1, sensitivity=0.9)


def test_a_better_model_is_seen_in_any_order_of_the_images():
    random, labels = np.random.default_rng(0), np.repeat([0, 1], 100)
    good = scored(np.clip(labels * 0.5 + random.random(200) * 0.6, 0, 1), labels)
    bad = scored(random.random(200), labels)
    found = compare_predictions(bad, good.take(random.permutation(200)), TWO, draws=300)
    assert found.differences["auc"].low > 0 and found.verdict("auc") == "the second is better"
    assert found.verdict("brier") == "the second is better" and "the second is better" in str(found)
    assert found.differences == compare_predictions(bad, good, TWO, draws=300).differences
    with pytest.raises(VggnbError, match="did not predict the same images"):
        compare_predictions(bad, replace(good, labels=1 - good.labels), TWO)


def test_a_model_does_not_differ_from_itself():
    same = compare_predictions(guesses(3), guesses(3), THREE, draws=50)
    assert all(one.value == 0 and one.low < 0 < one.high for one in same.differences.values())
    assert same.only_first == same.only_second == 0 and "not significant" in str(same)
    assert json.dumps(same.to_dict())


def test_the_list_of_labels_is_safe_for_spreadsheets_and_sorted():
    names = ("=cmd()", "+1", "-1", "@x", "<img onerror=alert(1)>", "a,b\n")
    one = replace(scored([0.9, 0.8, 0.7, 0.95, 0.6, 0.1], [0] * 6), paths=names)
    header, *rows = csv.reader(io.StringIO(relabel_list(one, TWO).decode(), newline=""))
    assert header == ["path", "class", "predicted", "probability"] and len(rows) == 5
    assert [row[0] for row in rows] == ["'@x", "'=cmd()", "'+1", "'-1", "<img onerror=alert(1)>"]
    assert [one.path for one in find_mistakes(one, TWO)][0] == "@x"
    assert [one.path for one in least_confident(one, TWO, most=2)] == ["<img onerror=alert(1)>", "-1"]


# Some of the classes only


def test_a_class_without_images_is_not_evaluated_and_everything_else_is():
    one = guesses(3)
    some = one.take(np.flatnonzero(one.labels != 1))
    report = report_on(some, THREE, draws=50)
    assert report.not_evaluated == ("birch",) and report.per_class["birch"]["recall"] is None
    predicted = some.probabilities.argmax(axis=1)
    recalls = [(predicted[some.labels == k] == k).mean() for k in (0, 2)]
    assert report.metrics["balanced_accuracy"].value == pytest.approx(np.mean(recalls))
    f1 = sk.f1_score(some.labels, predicted, labels=[0, 2], average="macro")
    assert report.metrics["macro_f1"].value == pytest.approx(f1)
    assert {"accuracy", "auc_ovr", "ece", "brier"} <= set(report.metrics)
    assert "Not evaluated, because there are no images: birch." in str(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["not_evaluated"] == ["birch"]


@pytest.mark.parametrize("kind, name", [(0, "specificity"), (1, "sensitivity")])
def test_of_images_of_one_class_the_recall_is_left(kind, name):
    one = guesses(2)
    report = report_on(one.take(np.flatnonzero(one.labels == kind)), TWO, draws=50)
    assert set(report.metrics) == {"accuracy", name} and report.baseline is None and report.baselines == {}
    assert report.metrics[name] == Interval(**report.per_class[TWO[kind]]["recall"])
    assert f"recall of {TWO[kind]}" in str(report) and json.dumps(report.to_dict(), allow_nan=False)
    many = report_on(given([2] * 9, np.random.default_rng(0).dirichlet([1] * 3, 9)), THREE, draws=50)
    assert set(many.metrics) == {"accuracy"} and many.not_evaluated == ("ash", "birch")
    with pytest.raises(VggnbError, match="no image to evaluate"):
        report_on(one.take([]), TWO)
