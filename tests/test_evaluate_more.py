"""Intervals hold the truth, thresholds come from validation, two models are compared on the same images."""

import csv
import importlib.util
import io
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vggnb.evaluate import (
    Predictions,
    bootstrap_weights,
    choose_threshold,
    compare,
    find_mistakes,
    judge,
    judge_predictions,
    relabel_list,
)
from vggnb.evaluate.compare import compare_predictions
from vggnb.evaluate.intervals import auc_ends, proportion
from vggnb.storage import VggnbError

TWO = ("benign", "malignant")
spec = importlib.util.spec_from_file_location("coverage", Path(__file__).parents[1] / "benchmarks" / "coverage.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def said(scores, labels, **options):
    scores = np.asarray(scores, float)
    paths = tuple(f"{k}.jpg" for k in range(len(scores)))
    return Predictions(paths, np.asarray(labels), np.stack([1 - scores, scores], axis=1), **options)


def test_intervals_hold_the_truth():
    held = bench.coverage(150, 60, 60, 0.85, draws=200)
    assert all(0.89 <= share <= 0.99 for share in held.values()), held


def test_perfect_answers_keep_an_honest_width_in_every_ranking():
    metrics = judge_predictions(said([0.1] * 10 + [0.9] * 10, [0] * 10 + [1] * 10), TWO).metrics
    for name in ("accuracy", "balanced_accuracy", "auc", "average_precision", "sensitivity", "ppv", "npv"):
        assert metrics[name].value == metrics[name].high == 1 and 0.5 < metrics[name].low < 0.9, name
    assert auc_ends(1.0, 10, 10)[0] < auc_ends(1.0, 100, 100)[0] < 1


def test_no_loop_in_python_grows_with_the_draws():
    """What judging takes is told by `benchmarks/coverage.py`; that it stays so little is this."""
    given, calls = bench.test_set(np.random.default_rng(0), 264, 264, 1.5), []
    for draws in (50, 50, 2000):  # the first one also imports
        counted = Counter()
        sys.setprofile(lambda frame, event, _, counted=counted: counted.update([event]))
        try:
            judge_predictions(given, TWO, draws=draws)
        finally:
            sys.setprofile(None)
        calls.append(counted["call"] + counted["c_call"])
    assert calls[2] <= 1.1 * calls[1]


def test_images_of_one_group_count_as_less():
    groups = tuple(f"g{k // 5}" for k in range(100))
    hits = np.repeat(np.arange(20) % 4 > 0, 5)  # five images of a group are all right or all wrong
    alone, together = proportion(hits), proportion(hits, groups)
    assert together.value == alone.value and together.high - together.low > 1.7 * (alone.high - alone.low)
    weights = bootstrap_weights(np.repeat([0, 1], 50), draws=20, seed=0, groups=groups)
    assert (weights.reshape(20, 20, 5) == weights.reshape(20, 20, 5)[:, :, :1]).all()
    given = said(np.linspace(0, 1, 100), np.repeat([0, 1], 50), groups=groups)
    assert judge_predictions(given, TWO, draws=50).groups == 20


def test_predictive_values_follow_bayes():
    given = said([0.2] * 8 + [0.8] * 2 + [0.8] * 9 + [0.2], [0] * 10 + [1] * 10)
    metrics = judge_predictions(given, TWO, prevalence=0.05, draws=20).metrics
    assert metrics["ppv"].value == pytest.approx(0.9 * 0.05 / (0.9 * 0.05 + 0.2 * 0.95))
    assert metrics["npv"].value == pytest.approx(0.8 * 0.95 / (0.8 * 0.95 + 0.1 * 0.05))
    nobody = judge_predictions(said([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]), TWO, draws=20).metrics
    assert "ppv" not in nobody and "npv" in nobody


def test_a_threshold_reaches_the_wanted_sensitivity_with_the_fewest_alarms():
    given = said([0.1, 0.2, 0.3, 0.6, 0.25, 0.5, 0.7, 0.9], [0, 0, 0, 0, 1, 1, 1, 1])
    point = choose_threshold(given, 1, sensitivity=0.75)
    assert 0.3 < point.threshold < 0.5 and point.sensitivity.value == 0.75 and point.specificity.value == 0.75
    assert choose_threshold(given, 1, sensitivity=1).threshold == pytest.approx(0.225)
    costs = [choose_threshold(given, 1, cost_ratio=ratio).threshold for ratio in (0.1, 1, 100)]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[2]


@pytest.mark.parametrize("wish", [{}, {"sensitivity": 0}, {"sensitivity": 1.1}, {"cost_ratio": -1}])
def test_wishes_that_make_no_sense_are_told(wish):
    with pytest.raises(VggnbError):
        choose_threshold(said([0.1, 0.9], [0, 1]), 1, **wish)


def test_a_run_is_judged_at_the_threshold_of_validation(own_run):
    report = judge(own_run, sensitivity=0.9, prevalence=0.1, draws=20, progress=False)
    assert report.threshold == report.operating.threshold and report.operating.images == 8
    assert report.to_dict()["operating"]["sensitivity"]["value"] >= 0.9 and "validation images" in str(report)


def test_the_same_model_does_not_differ_from_itself(own_run):
    same = compare(own_run, own_run, draws=50, progress=False)
    for one in same.differences.values():
        assert one.value == 0 and one.low < 0 < one.high
    assert same.only_first == same.only_second == 0


def test_a_better_model_is_seen_in_any_order_of_the_images():
    random, labels = np.random.default_rng(0), np.repeat([0, 1], 100)
    good = said(np.clip(labels * 0.5 + random.random(200) * 0.6, 0, 1), labels)
    bad = said(random.random(200), labels)
    order = random.permutation(200)
    turned = replace(good, paths=tuple(good.paths[k] for k in order), labels=good.labels[order],
                     probabilities=good.probabilities[order])  # fmt: skip
    found = compare_predictions(bad, turned, TWO, draws=300)
    assert found.differences["auc"].low > 0 and "the second is better" in str(found)
    assert found.differences == compare_predictions(bad, good, TWO, draws=300).differences
    with pytest.raises(VggnbError, match="not asked about the same"):
        compare_predictions(bad, replace(good, labels=1 - good.labels), TWO)


def test_the_list_of_labels_is_safe_for_spreadsheets_and_sorted():
    names = ("=cmd()", "+1", "-1", "@x", "<img onerror=alert(1)>", "a,b\n")
    given = replace(said([0.9, 0.8, 0.7, 0.95, 0.6, 0.1], [0] * 6), paths=names)
    header, *rows = csv.reader(io.StringIO(relabel_list(given, TWO).decode(), newline=""))
    assert header == ["path", "class", "predicted", "probability"] and len(rows) == 5
    assert [row[0] for row in rows] == ["'@x", "'=cmd()", "'+1", "'-1", "<img onerror=alert(1)>"]
    assert [one.path for one in find_mistakes(given, TWO)][0] == "@x"
