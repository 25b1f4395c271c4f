"""Probabilities become a judgement: the numbers are scikit-learn's, the intervals honest, the classes not mixed up."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from faults import every
from sklearn import metrics as sk

from vggnb.census import take_census
from vggnb.evaluate import (
    Predictions,
    bootstrap_weights,
    judge,
    judge_folder,
    judge_predictions,
    predict_rows,
    predict_split,
    predictions,
    weighted_auc,
    weighted_ece,
    wilson,
)
from vggnb.evaluate.predictions import _from_csv, _to_csv
from vggnb.features import Features
from vggnb.generators import make_dataset
from vggnb.storage import VggnbError, read_json, unsealed
from vggnb.train import fit

TWO = ("benign", "malignant")
THREE = ("ash", "birch", "oak")


def answers(labels, probabilities, **options):
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, float)
    return Predictions(tuple(f"{k}.jpg" for k in range(len(labels))), labels, probabilities, **options)


def guesses(classes, n=90, digits=1, seed=0):
    """Answers that are often right, with many ties."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    scores = random.random((n, classes)).round(digits) + 0.1
    scores[np.arange(n), labels] += random.integers(0, 2, n) * 0.5
    return answers(labels, scores / scores.sum(axis=1, keepdims=True))


def values(report):
    return {name: interval.value for name, interval in report.metrics.items()}


@pytest.mark.parametrize("positive", [0, 1])
def test_two_class_metrics_are_scikit_learns(positive):
    given = guesses(2)
    report = judge_predictions(given, TWO, positive=TWO[positive], draws=50)
    truth, scores = given.labels == positive, given.probabilities[:, positive]
    said = scores >= 0.5
    assert values(report) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, said),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, said),
            "auc": sk.roc_auc_score(truth, scores),
            "average_precision": sk.average_precision_score(truth, scores),
            "sensitivity": sk.recall_score(truth, said),
            "specificity": sk.recall_score(~truth, ~said),
            "ppv": sk.precision_score(truth, said),  # at the prevalence of the images themselves
            "npv": sk.precision_score(~truth, ~said),
            "ece": slow_ece(given.probabilities, said == truth),
            "brier": sk.brier_score_loss(truth, scores),
        }
    )
    names = "accuracy balanced_accuracy auc average_precision sensitivity specificity ppv npv ece brier"
    assert list(report.metrics) == names.split()


def test_more_class_metrics_are_scikit_learns():
    given = guesses(3)
    report = judge_predictions(given, THREE, draws=50)
    said = given.probabilities.argmax(axis=1)
    assert values(report) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(given.labels, said),
            "balanced_accuracy": sk.balanced_accuracy_score(given.labels, said),
            "macro_f1": sk.f1_score(given.labels, said, average="macro"),
            "auc_ovr": sk.roc_auc_score(given.labels, given.probabilities, multi_class="ovr"),
            "ece": slow_ece(given.probabilities, said == given.labels),
            "brier": ((given.probabilities - np.eye(3)[given.labels]) ** 2).sum(axis=1).mean() / 2,
        }
    )
    assert report.positive is None and report.threshold is None


def test_a_class_that_is_never_said_has_an_f1_of_zero():
    given = answers([0, 1, 2, 2], [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0, 0.1, 0.9], [0.1, 0.2, 0.7]])
    report = judge_predictions(given, THREE, draws=20)
    expected = sk.f1_score(given.labels, [0, 0, 2, 2], average="macro", zero_division=0)
    assert report.metrics["macro_f1"].value == pytest.approx(expected)


def slow_ece(probabilities, right):
    """The definition, one bin at a time (Guo et al. 2017, equation 3)."""
    confidence, total = probabilities.max(axis=1), 0.0
    for k in range(10):
        last = confidence <= 1 if k == 9 else confidence < (k + 1) / 10
        members = (confidence >= k / 10) & last
        if members.any():
            total += members.mean() * abs(np.mean(right[members]) - confidence[members].mean())
    return total


def test_the_calibration_error_of_known_answers():
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.35, 0.65]] * 10)
    right = np.array([True] * 9 + [False] + [True] * 4 + [False] * 6)
    once = np.ones((1, 20), int)
    assert weighted_ece(probabilities, right, once)[0] == pytest.approx((0 + 0.25) / 2)
    assert weighted_ece(np.array([[1.0, 0.0]]), np.array([True]), np.ones((1, 1), int))[0] == 0


@pytest.mark.parametrize("digits", [1, 2, 6])
def test_every_draws_auc_is_scikit_learns_with_weights(digits):
    random = np.random.default_rng(0)
    positive, scores = np.arange(80) % 3 == 0, random.random(80).round(digits)
    weights = bootstrap_weights(positive.astype(int), draws=30, seed=1)
    expected = [sk.roc_auc_score(positive, scores, sample_weight=draw) for draw in weights]
    assert weighted_auc(positive, scores, weights) == pytest.approx(expected)


def test_the_auc_of_known_scores():
    once = np.ones((1, 4), int)
    positive = np.array([False, False, True, True])
    for scores, expected in [([1, 2, 3, 4], 1), ([4, 3, 2, 1], 0), ([1, 1, 1, 1], 0.5), ([0, 2, 1, 3], 0.75)]:
        assert weighted_auc(positive, np.array(scores, float), once)[0] == expected


@pytest.mark.parametrize(
    "hits, n, low, high",
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3, and the closed forms at the ends
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
     (20, 20, 0.8389, 1.0), (5, 10, 0.2366, 0.7634)],
)  # fmt: skip
def test_wilsons_interval_has_the_published_values(hits, n, low, high):
    interval = wilson(hits, n)
    assert (interval.value, interval.low, interval.high) == pytest.approx((hits / n, low, high), abs=6e-5)


def test_a_perfect_model_on_few_images_is_not_said_to_be_certain():
    report = judge_predictions(answers([0, 0, 1, 1], [[0.9, 0.1]] * 2 + [[0.2, 0.8]] * 2), TWO, draws=50)
    for name in ("accuracy", "sensitivity", "specificity"):
        interval = report.metrics[name]
        assert interval.value == interval.high == 1 and interval.low < 0.8


def test_every_interval_holds_its_value():
    for given, classes in [(guesses(2), TWO), (guesses(3), THREE)]:
        for name, interval in judge_predictions(given, classes, draws=400).metrics.items():
            assert 0 <= interval.low <= interval.high <= 1, name
            # the calibration error of a redrawn sample is larger on average: its interval need not hold the value
            assert name == "ece" or interval.low <= interval.value <= interval.high, name


def test_more_images_give_narrower_intervals():
    few, many = (judge_predictions(guesses(2, n), TWO, draws=400).metrics for n in (50, 5000))
    for name in few:
        assert many[name].high - many[name].low < 0.5 * (few[name].high - few[name].low), name


def test_a_draw_keeps_the_size_of_every_class():
    labels = np.array([0] * 5 + [1] * 20 + [2])
    weights = bootstrap_weights(labels, draws=100, seed=0)
    assert weights.shape == (100, 26) and weights.min() >= 0
    for label, n in enumerate((5, 20, 1)):
        assert (weights[:, labels == label].sum(axis=1) == n).all()
    assert weights[:, :5].max() > 1
    assert np.array_equal(weights, bootstrap_weights(labels, draws=100, seed=0))


def test_the_same_answers_give_the_same_report():
    reports = [judge_predictions(guesses(2), TWO).to_dict() for _ in range(2)]
    assert reports[0] == reports[1]


def test_the_confusion_has_true_classes_in_rows_and_sums_to_n():
    given = answers([0, 0, 0, 1, 1], [[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    report = judge_predictions(given, TWO, draws=20)
    assert report.confusion.tolist() == [[2, 1], [0, 2]] and report.confusion.sum() == report.n == 5
    assert report.metrics["sensitivity"].value == 1 and report.metrics["specificity"].value == pytest.approx(2 / 3)
    assert report.baseline == 0.6


@pytest.mark.parametrize("positive, index", [(None, 1), ("malignant", 1), ("benign", 0)])
def test_the_positive_class_is_the_alphabetically_last_unless_named(positive, index):
    given = guesses(2)
    report = judge_predictions(given, TWO, positive=positive, draws=20)
    assert report.positive == TWO[index]
    said = given.probabilities[:, index] >= 0.5
    assert report.metrics["sensitivity"].value == pytest.approx(said[given.labels == index].mean())


def test_at_exactly_one_half_the_positive_class_is_said():
    given = answers([0, 1], [[0.5, 0.5], [0.5, 0.5]])
    assert judge_predictions(given, TWO, draws=5).confusion.tolist() == [[0, 1], [0, 1]]
    assert judge_predictions(given, TWO, positive="benign", draws=5).confusion.tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("classes, given", [(TWO, guesses(2)), (THREE, guesses(3))])
def test_an_unknown_positive_class_is_told_with_those_there_are(classes, given):
    with pytest.raises(VggnbError, match="'melanoma' is not a class") as told:
        judge_predictions(given, classes, positive="melanoma")
    assert classes[0] in told.value.remedy


def test_a_class_without_any_image_is_told_by_name():
    with pytest.raises(VggnbError, match="No image of class 'birch'"):
        judge_predictions(answers([0, 2], [[0.9, 0.1, 0], [0, 0.2, 0.8]]), THREE)


@pytest.mark.parametrize("classes, given", [(TWO, guesses(2)), (THREE, guesses(3))])
def test_a_report_is_plain_json_and_words(classes, given):
    given = replace(given, unreadable=(("x.jpg", "cut short"),))
    report = judge_predictions(given, classes, draws=20)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["n"] == 90 and document["left_out"] == 1 and document["classes"] == list(classes)
    assert set(document["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert np.sum(document["confusion"]) == 90
    assert "90 images (1 could not be read)" in str(report)
    assert f"{report.metrics['accuracy'].value:.2f}" in str(report)


@pytest.mark.parametrize("which", ["best_run", "article_run", "run3"])
def test_kerass_own_evaluate_finds_the_accuracy_of_matrix_and_table_in_any_order(which, request, base, monkeypatch):
    """The trap: what is said of a shuffled dataset, matched with labels in the manifest's order, is another matrix."""
    run, _ = request.getfixturevalue(which)
    model = run.classifier(base[0])
    monkeypatch.setattr(type(run), "classifier", lambda self: model)
    rows = run.manifest.of("test")
    given = predict_rows(run, run.manifest, rows, what="test", progress=False)
    report = judge_predictions(given, run.classes, draws=20)
    straight = make_dataset(run.manifest, "test", run.recipe)
    shuffled = make_dataset(run.manifest, "test", run.recipe, training=True)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    right, seen = report.confusion.diagonal(), report.confusion.sum(axis=1)
    for dataset in (straight, shuffled):
        loss, accuracy = model.evaluate(dataset, verbose=0)
        assert accuracy == pytest.approx(report.metrics["accuracy"].value) == right.sum() / report.n
        recalls = [report.per_class[name]["recall"]["value"] for name in run.classes]
        assert recalls == pytest.approx(right / seen) and accuracy == pytest.approx(recalls @ seen / report.n)
        precisions = [report.per_class[name]["precision"] or 0 for name in run.classes]  # None: never said
        assert precisions == pytest.approx(right / np.maximum(report.confusion.sum(axis=0), 1))
        mine = -np.log(given.probabilities[np.arange(report.n), given.labels]).mean()
        assert loss == pytest.approx(mine, abs=1e-4)
    assert [*map(tuple, given.probabilities)] != [tuple(given.probabilities[0])] * report.n

    def confusion(dataset):
        return sk.confusion_matrix(labels, model.predict(dataset, verbose=0).argmax(axis=1))

    labels = [row.label for row in rows]
    assert confusion(straight).tolist() == report.confusion.tolist()
    again = predict_rows(run, run.manifest, rows[::-1], what="test", progress=False)
    assert judge_predictions(again, run.classes, draws=20).confusion.tolist() == report.confusion.tolist()
    assert confusion(shuffled).tolist() != report.confusion.tolist()


@pytest.fixture
def judged(own_run, base, monkeypatch):
    """The run of the test's own, with its base at hand and the number of times that a model was built."""
    built = []
    assemble = type(own_run).classifier

    def classifier(self):
        built.append(self.training()["head_sha256"])
        return assemble(self, base[0])

    monkeypatch.setattr(type(own_run), "classifier", classifier)
    return own_run, built


def test_the_model_is_asked_once_and_again_after_training_in_the_same_folder(judged, best_run):
    run, built = judged
    first = judge(run, draws=20, progress=False)
    assert judge(run, draws=20, progress=False).to_dict() == first.to_dict() and len(built) == 1
    kept = unsealed(read_json(run.folder / "report-test.json"), run.folder)
    assert kept == json.loads(json.dumps(first.to_dict()))
    before = predict_split(run)
    features = best_run[1]
    # Another head, and a very different one: the labels are turned round.
    rows = tuple(replace(row, label=1 - row.label) for row in features.rows)
    fit(run, Features(rows, features.values, 0, 24, 0.0), progress=False)
    after = predict_split(run, progress=False)
    assert len(set(built)) == 2 and np.abs(before.probabilities - after.probabilities).max() > 0.1
    assert after.labels.tolist() == before.labels.tolist()


def test_kept_predictions_come_back_bit_for_bit(judged):
    run, built = judged
    fresh = predict_rows(run, run.manifest, run.manifest.of("test"), what="test", progress=False)
    kept = predict_split(run, progress=False)
    assert np.array_equal(fresh.probabilities, kept.probabilities) and kept.probabilities.dtype == np.float64
    assert kept.paths == fresh.paths and kept.labels.tolist() == fresh.labels.tolist()


def test_any_name_survives_the_file_of_predictions():
    names = ["a,b.jpg", 'q"q".jpg', "line\nbreak.jpg", "return\rhere.jpg", "\udc80raw.jpg", "日本.jpg", "-rf", " "]
    given = Predictions(tuple(names), np.arange(8) % 2, np.full((8, 2), 1 / 3), (("x,\r\ny.jpg", 'It said: "no"\n'),))
    back = _from_csv(_to_csv(given, ("a,b", "c\n")))
    assert back.paths == given.paths and back.unreadable == given.unreadable
    assert np.array_equal(back.labels, given.labels) and np.array_equal(back.probabilities, given.probabilities)


def test_one_unreadable_image_is_named_and_the_others_are_judged(judged, own_photos):
    run, _ = judged
    run = replace(run, manifest=replace(run.manifest, dataset=own_photos))
    (own_photos / "test" / "cat" / "cat_2.jpg").write_bytes(b"\xff\xd8\xff cut")
    report = judge(run, draws=20, progress=False)
    assert report.n == 11 and report.left_out == 1
    for _ in range(2):  # fresh, then kept
        ((path, reason),) = predict_split(run).unreadable
        assert path == "test/cat/cat_2.jpg" and reason


FAULTS = [(operation, errno.EIO) for operation in ("open", "read", "write", "fsync", "rename", "unlink", "mkdir")]
FAULTS += [("write", "short"), ("write", errno.ENOSPC), ("stat", errno.EIO)]


@pytest.mark.parametrize("operation, error", FAULTS)
def test_whatever_fails_while_answers_are_kept_they_are_whole_or_absent(
    operation, error, best_run, tmp_path, monkeypatch
):
    """It is told, and the next call gives what the model said, asking it again only if nothing was kept."""
    rows, asked = best_run[0].manifest.of("test"), []
    labels, answered = np.array([row.label for row in rows]), np.random.default_rng(0).random((len(rows), 2))
    said = Predictions(tuple(row.path for row in rows), labels, answered)
    monkeypatch.setattr(predictions, "predict_rows", lambda *_, **__: asked.append(1) or said)
    without = shutil.ignore_patterns("predictions-*")
    for plan in every(operation, error, under=tmp_path):
        plan.armed, told = False, False
        run = replace(best_run[0], folder=tmp_path / str(plan.nth))
        shutil.copytree(best_run[0].folder, run.folder, ignore=without)
        before = {path.name for path in run.folder.iterdir()}
        plan.armed = True
        try:
            predict_split(run, progress=False)
        except VggnbError as error_:
            told = bool(error_.where and error_.remedy)
        plan.disarm()
        assert told or not plan.fired or operation in ("fsync", "mkdir"), "of a folder, which does no harm"
        kept = [_from_csv(path.read_bytes()) for path in run.folder.glob("predictions-*")]
        assert len(kept) == 1 or told and not kept
        asked.clear()
        for found in (*kept, predict_split(run, progress=False)):
            assert found.paths == said.paths and np.array_equal(found.labels, labels)
            assert np.array_equal(found.probabilities, answered)
        assert len(asked) == 1 - len(kept)
        left = {path.name for path in run.folder.iterdir()} - before
        assert len(left) == 1 or operation == "unlink", left
    assert plan.nth > 1


def test_a_dataset_that_is_gone_or_emptied_is_told_with_a_file_and_its_reason(judged, own_photos):
    run, _ = judged
    run = replace(run, manifest=replace(run.manifest, dataset=own_photos))
    shutil.rmtree(own_photos)
    with pytest.raises(VggnbError, match="dataset's folder is not there any more"):
        predict_split(run, "test", progress=False)
    own_photos.mkdir()
    with pytest.raises(VggnbError, match="none of 12 can be read.*test/cat/cat_0.jpg.*No such file"):
        judge(run, progress=False)
    assert not list(run.folder.glob("predictions-*"))


def test_a_split_without_images_is_told(judged):
    run, _ = judged
    with pytest.raises(VggnbError, match="no images to judge in tset"):
        judge(run, "tset", progress=False)


def test_another_folder_is_judged_by_its_test_split_or_whole(judged, photos, tmp_path):
    run, _ = judged
    own = judge(run, draws=20, progress=False)
    elsewhere = judge_folder(run, take_census(photos, progress=False), progress=False)
    assert elsewhere.confusion.tolist() == own.confusion.tolist()
    shutil.copytree(photos / "validation", tmp_path / "flat")
    whole = judge_folder(run, take_census(tmp_path / "flat", progress=False), progress=False)
    assert whole.n == 8


def test_labels_of_another_folder_are_the_runs(judged, draw, tmp_path):
    """A folder whose classes the census numbers otherwise would be judged the wrong way round."""
    run, _ = judged
    census = take_census(run.manifest.dataset, progress=False)
    turned = replace(
        census, classes=("dog", "cat"), rows=tuple(replace(row, label=1 - row.label) for row in census.rows)
    )
    assert judge_folder(run, turned, progress=False).confusion.tolist() == judge(run, progress=False).confusion.tolist()


def test_another_folder_with_other_classes_is_refused_with_both_lists(judged, photos3):
    run, _ = judged
    with pytest.raises(VggnbError, match="knows .'cat', 'dog'.; this folder has .'ash', 'birch', 'oak'.") as told:
        judge_folder(run, take_census(photos3, progress=False), progress=False)
    assert told.value.where == str(photos3)


def test_another_folder_that_lacks_a_class_is_named(judged, photos, survey):
    census = take_census(photos, progress=False)
    census = replace(census, rows=tuple(row for row in census.rows if row.class_name == "dog"))
    with pytest.raises(VggnbError, match="No image of class 'cat' to judge") as told:
        judge_folder(judged[0], census, progress=False)
    assert told.value.where == str(photos)


def test_an_unknown_positive_class_is_told_before_the_model_is_asked(judged):
    run, built = judged
    with pytest.raises(VggnbError, match="not a class"):
        judge(run, positive="melanoma", progress=False)
    assert not built and not list(run.folder.glob("predictions-*"))


def test_images_that_are_in_train_too_are_judged_both_ways(own_photos, survey, fit_tiny, best):
    twin = own_photos / "test" / "cat" / "twin.png"
    twin.write_bytes((own_photos / "train" / "cat" / "cat_1.png").read_bytes())
    run, _ = fit_tiny(survey(own_photos), best)
    report = judge(run, progress=False)
    assert report.without_leaks.n == report.n - 1
    assert "1 of these images are in train, too" in str(report)
    assert report.to_dict()["without_leaks"]["metrics"]["accuracy"]["value"] is not None


def test_in_another_folder_training_images_and_twins_are_seen(judged, own_photos):
    run, _ = judged
    report = judge_folder(run, take_census(own_photos / "train", progress=False), progress=False)
    assert report.leaks == report.n == 16 and report.without_leaks is None
    assert "16 of these images are in train, too. Without them, too few are left" in str(report)
    first = sorted((own_photos / "test" / "cat").iterdir())[0]
    for number in range(3):
        (first.parent / f"copy{number}{first.suffix}").write_bytes(first.read_bytes())
    report = judge_folder(run, take_census(own_photos, progress=False), progress=False)
    assert (report.n, report.groups, report.leaks) == (15, 12, 0)


@pytest.mark.parametrize("spoil", [
    lambda lines: lines[:-1], lambda lines: lines[:1], lambda lines: [*lines, lines[-1]],
    lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",nan\n"], lambda lines: [*lines, "x" * 200_000],
    lambda lines: [line.replace("test/cat/", "test/cat/old_") for line in lines],
])  # fmt: skip
def test_what_was_said_of_other_images_or_is_cut_is_asked_again(spoil, judged):
    run, _ = judged
    whole = predict_split(run, progress=False)
    (path,) = run.folder.glob("predictions-test-*.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(spoil(lines)))
    again = predict_split(run, progress=False)
    assert again.paths == whole.paths and np.array_equal(again.probabilities, whole.probabilities)
    assert list(run.folder.glob("predictions-test-*.csv")) == [path] and path.read_text() == "".join(lines)
