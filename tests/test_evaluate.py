"""A run is evaluated on its own test images, or on another folder; predictions are kept, classes are not mixed up."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from vggnb.census import take_census
from vggnb.evaluate import _matched, compare, evaluate, evaluate_folder, predict_rows, predict_split
from vggnb.features import Features
from vggnb.generators import make_dataset
from vggnb.metrics import Predictions, report_on
from vggnb.storage import VggnbError, read_json
from vggnb.train import fit


@pytest.fixture
def own(own_run, base, monkeypatch):
    """The run of the test's own, with its base at hand, and a list that grows with each model that is built."""
    built = []
    assemble = type(own_run).classifier

    def classifier(self):
        built.append(self.model_sha256())
        return assemble(self, base[0])

    monkeypatch.setattr(type(own_run), "classifier", classifier)
    return own_run, built


@pytest.mark.parametrize("which", ["best_run", "run3"])
def test_kerass_own_evaluate_agrees_in_any_order(which, request, base, monkeypatch):
    """The trap: predictions of a shuffled dataset, matched with labels in the manifest's order, are another matrix."""
    run, _ = request.getfixturevalue(which)
    model = run.classifier(base[0])
    monkeypatch.setattr(type(run), "classifier", lambda self: model)
    rows = run.manifest.of("test")
    predictions = predict_rows(run, run.manifest, rows, what="test", progress=False)
    report = report_on(predictions, run.classes, draws=20)
    straight = make_dataset(run.manifest, "test", run.recipe)
    shuffled = make_dataset(run.manifest, "test", run.recipe, training=True)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    for dataset in (straight, shuffled):
        loss, accuracy = model.evaluate(dataset, verbose=0)
        assert accuracy == pytest.approx(report.metrics["accuracy"].value)
        mine = -np.log(predictions.probabilities[np.arange(report.n), predictions.labels]).mean()
        assert loss == pytest.approx(mine, abs=1e-4)

    def confusion(dataset):
        return sk.confusion_matrix(labels, model.predict(dataset, verbose=0).argmax(axis=1)).tolist()

    labels = [row.label for row in rows]
    assert confusion(straight) == report.confusion.tolist() != confusion(shuffled)
    again = predict_rows(run, run.manifest, rows[::-1], what="test", progress=False)
    assert report_on(again, run.classes, draws=20).confusion.tolist() == report.confusion.tolist()


def test_predictions_are_made_once_and_again_after_training_in_the_same_folder(own, best_run):
    run, built = own
    first = evaluate(run, draws=20, progress=False)
    assert evaluate(run, draws=20, progress=False).to_dict() == first.to_dict() and len(built) == 1
    assert read_json(run.folder / "report-test.json") == json.loads(json.dumps(first.to_dict()))
    before = predict_split(run)
    fresh = predict_rows(run, run.manifest, run.manifest.of("test"), what="test", progress=False)
    assert np.array_equal(fresh.probabilities, before.probabilities) and before.probabilities.dtype == np.float64
    assert before.paths == fresh.paths and before.labels.tolist() == fresh.labels.tolist()
    features = best_run[1]
    rows = tuple(replace(row, label=1 - row.label) for row in features.rows)  # another head, and a very different one
    fit(run, Features(rows, features.values, 0, 24, 0.0), progress=False)
    after = predict_split(run, progress=False)
    assert len(set(built)) == 2 and np.abs(before.probabilities - after.probabilities).max() > 0.1


def test_any_name_survives_the_file_of_predictions():
    names = ["a,b.jpg", 'q"q".jpg', "line\nbreak.jpg", "return\rhere.jpg", "\udc80raw.jpg", "日本.jpg", "-rf", " "]
    some = Predictions(tuple(names), np.arange(8) % 2, np.full((8, 2), 1 / 3), (("x,\r\ny.jpg", 'It said: "no"\n'),))
    back = Predictions.from_csv(some.to_csv(("a,b", "c\n")))
    assert back.paths == some.paths and back.unreadable == some.unreadable
    assert np.array_equal(back.labels, some.labels) and np.array_equal(back.probabilities, some.probabilities)


@pytest.mark.parametrize("spoil", [
    lambda lines: [], lambda lines: lines[:-1], lambda lines: [*lines, lines[-1]],
    lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",nan\n"],
    lambda lines: [line.replace("test/cat/", "test/cat/old_") for line in lines],
    lambda lines: [*lines, "\n"], lambda lines: [line.replace(",", ";") for line in lines],
])  # fmt: skip
def test_predictions_for_other_images_or_cut_ones_are_made_again(spoil, own):
    run, _ = own
    whole = predict_split(run, progress=False)
    (path,) = run.folder.glob("predictions-test-*.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(spoil(lines)))
    again = predict_split(run, progress=False)
    assert again.paths == whole.paths and np.array_equal(again.probabilities, whole.probabilities)
    assert list(run.folder.glob("predictions-test-*.csv")) == [path] and path.read_text() == "".join(lines)


def test_one_unreadable_image_is_named_and_the_others_are_evaluated(own, own_photos):
    run = replace(own[0], manifest=replace(own[0].manifest, dataset=own_photos))
    (own_photos / "test" / "cat" / "cat_2.jpg").write_bytes(b"\xff\xd8\xff cut")
    report = evaluate(run, draws=20, progress=False)
    assert report.n == 11 and report.left_out == 1
    for _ in range(2):  # fresh, then kept
        ((path, reason),) = predict_split(run).unreadable
        assert path == "test/cat/cat_2.jpg" and reason
    shutil.copy(own[0].manifest.dataset / path, own_photos / path)
    assert evaluate(run, draws=20, progress=False).n == 12, "it is back"


def test_a_dataset_that_is_gone_or_emptied_and_a_split_without_images(own, own_photos):
    run = replace(own[0], manifest=replace(own[0].manifest, dataset=own_photos))
    shutil.rmtree(own_photos)
    with pytest.raises(VggnbError, match="dataset folder no longer exists"):
        predict_split(run, "test", progress=False)
    own_photos.mkdir()
    with pytest.raises(VggnbError, match="none of 12 can be read.*test/cat/cat_0.jpg.*no such file"):
        evaluate(run, progress=False)
    with pytest.raises(VggnbError, match="no images to evaluate in tset"):
        evaluate(run, "tset", progress=False)
    assert not list(run.folder.glob("predictions-*"))


@pytest.mark.parametrize("options, words", [
    ({"positive": "melanoma"}, "'melanoma' is not a class"), ({"prevalence": 2}, "prevalence of 2"),
    ({"sensitivity": 0.9, "cost_ratio": 2}, "either a sensitivity or a cost ratio"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused_before_test_is_touched(options, words, own, run3):
    run, _ = own
    with pytest.raises(VggnbError, match=words):
        evaluate(run, **options, progress=False)
    assert not list(run.folder.glob("predictions-test*"))
    with pytest.raises(VggnbError, match="for two classes; this run has 3"):
        evaluate(run3[0], sensitivity=0.9, progress=False)


def test_the_threshold_comes_from_validation(own):
    report = evaluate(own[0], sensitivity=0.9, prevalence=0.1, draws=20, progress=False)
    assert report.threshold == report.operating_point.threshold and report.operating_point.images == 24
    assert report.to_dict()["operating_point"]["sensitivity"]["value"] >= 0.9 and "validation images" in str(report)


def test_runs_are_compared_on_the_same_images(own, run3):
    run, _ = own
    same = compare(run, run, draws=50, progress=False)
    assert same.n == 12 and all(one.value == 0 for one in same.differences.values())
    with pytest.raises(VggnbError, match="other|has the classes"):
        compare(run, run3[0], progress=False)
    rows = tuple(replace(row, sha256=f"{k:064}") for k, row in enumerate(run.manifest.rows))
    with pytest.raises(VggnbError, match="of different images"):
        compare(run, replace(run, manifest=run.manifest.only(rows)), progress=False)


# Another folder


def test_another_folder_is_evaluated_on_its_test_split_or_whole(own, photos, tmp_path):
    run, _ = own
    report = evaluate(run, draws=20, progress=False)
    census = take_census(photos, progress=False)
    assert evaluate_folder(run, census, progress=False).confusion.tolist() == report.confusion.tolist()
    # A folder whose classes the census numbers otherwise would be evaluated the wrong way round.
    rows = tuple(replace(row, label=1 - row.label) for row in census.rows)
    other = evaluate_folder(run, replace(census, classes=("dog", "cat"), rows=rows), progress=False)
    assert other.confusion.tolist() == report.confusion.tolist()
    shutil.copytree(photos / "validation", tmp_path / "flat")
    assert evaluate_folder(run, take_census(tmp_path / "flat", progress=False), progress=False).n == 8


def test_training_images_are_leaks_and_duplicates_a_group(own, own_photos):
    run, _ = own
    report = evaluate_folder(run, take_census(own_photos / "train", progress=False), progress=False)
    assert report.leaks == report.n == 16 and report.without_leaks is None
    assert "16 of 16 images also occur in train or validation. Without them no image is left" in str(report)
    first = sorted((own_photos / "test" / "cat").iterdir())[0]
    for number in range(3):
        (first.parent / f"copy{number}{first.suffix}").write_bytes(first.read_bytes())
    report = evaluate_folder(run, take_census(own_photos, progress=False), progress=False)
    assert (report.n, report.groups, report.leaks) == (15, 12, 0)


def test_leaks_of_the_test_split_are_evaluated_both_ways(own_photos, survey, fit_tiny, best):
    leak = own_photos / "test" / "cat" / "leak.png"
    leak.write_bytes((own_photos / "train" / "cat" / "cat_1.png").read_bytes())
    run, _ = fit_tiny(survey(own_photos), best)
    report = evaluate(run, progress=False)
    assert report.without_leaks.n == report.n - 1
    assert f"Leak: 1 of {report.n} images also occur in train or validation" in str(report)
    assert report.to_dict()["without_leaks"]["metrics"]["accuracy"]["value"] is not None


def test_a_folder_with_one_class_gives_its_recall(own, photos, tmp_path):
    run, _ = own
    shutil.copytree(photos / "test" / "dog", tmp_path / "new" / "dog")
    report = evaluate_folder(run, take_census(tmp_path / "new", progress=False), progress=False)
    whole = evaluate(run, draws=20, progress=False)
    assert report.n == 6 and report.not_evaluated == ("cat",)
    assert report.confusion.tolist() == [[0, 0], whole.confusion[1].tolist()]
    assert report.per_class["dog"]["recall"] == whole.per_class["dog"]["recall"]
    assert report.metrics["sensitivity"] == whole.metrics["sensitivity"]


def test_classes_that_the_model_does_not_know_are_counted_and_named(own, photos, photos3, tmp_path):
    run, _ = own
    shutil.copytree(photos / "test", tmp_path / "new")
    shutil.copytree(photos3 / "test" / "oak", tmp_path / "new" / "ape")  # between the known ones by its name
    report = evaluate_folder(run, take_census(tmp_path / "new", progress=False), progress=False)
    assert report.confusion.tolist() == evaluate(run, draws=20, progress=False).confusion.tolist() and report.n == 12
    assert report.unknown_classes["ape"]["n"] == 6 and set(report.unknown_classes["ape"]["predicted"]) <= {"cat", "dog"}
    assert "does not know the class ape: its 6 images are predicted as" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["unknown_classes"]["ape"]["n"] == 6


def test_names_of_classes_may_be_written_otherwise(own, photos, tmp_path):
    for name, other in (("cat", "Cat"), ("dog", "DOG ")):
        shutil.copytree(photos / "test" / name, tmp_path / "new" / other)
    report = evaluate_folder(own[0], take_census(tmp_path / "new", progress=False), progress=False)
    assert report.confusion.tolist() == evaluate(own[0], draws=20, progress=False).confusion.tolist()
    assert not report.unknown_classes and not report.not_evaluated
    assert _matched(("ROSE", "café "), ("Rose", "rose", "cafe\u0301")) == {"ROSE": "ROSE", "café ": "cafe\u0301"}


def test_a_folder_without_any_class_of_the_model_is_refused_with_both_lists(own, photos3):
    with pytest.raises(VggnbError, match="knows the classes cat, dog; this folder has images of ash, birch, oak") as e:
        evaluate_folder(own[0], take_census(photos3, progress=False), progress=False)
    assert e.value.where == str(photos3)
