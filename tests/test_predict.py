"""Files in, ranked class names out: the pixels of training, and one bad file never stops the others."""

import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from vggnb import cli, predict
from vggnb.generators import read_row
from vggnb.metrics.calibration import FeatureRanges
from vggnb.predict import Prediction, Rule, choose_rule, open_model, predict_files, predict_images, read_names, to_csv
from vggnb.storage import VggnbError


@pytest.fixture(scope="module")
def rows(manifest):
    """Of the test pictures."""
    return manifest.of("test")


def test_answers_are_the_classifiers_on_the_pixels_of_training(bundle, best_run, base, manifest, rows):
    run, _ = best_run
    pixels = np.stack([read_row(manifest, row, run.recipe) for row in rows]).astype(np.float32)
    expected = run.classifier(base[0]).predict_on_batch(pixels)
    answers = predict_files(bundle, [manifest.dataset / row.path for row in rows])
    for answer, row, truth in zip(answers, rows, expected, strict=True):
        assert answer.path == str(manifest.dataset / row.path) and answer.error is None
        found = [answer.probabilities[name] for name in bundle.classes]
        assert np.abs(np.array(found) - truth).max() <= 1e-5
        assert answer.class_name == bundle.classes[truth.argmax()]
        assert answer.probability == max(found) and sum(found) == pytest.approx(1, abs=1e-6)
        assert list(answer.probabilities.values()) == sorted(found, reverse=True)


def test_one_bad_file_among_good_ones_is_answered_in_its_row(bundle, own_photos, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    folder = own_photos / "test" / "cat"
    (folder / "cat_1.png").write_bytes((folder / "cat_1.png").read_bytes()[:50])
    (folder / "cat_2.jpg").write_bytes(b"")
    answers = predict_files(bundle, sorted(folder.iterdir()))
    assert [bool(answer.error) for answer in answers] == [False, True, True, False, False, False]
    assert "cut short" in answers[1].error and "empty" in answers[2].error
    alone = predict_files(bundle, folder / "cat_3.png")
    assert alone[0].probabilities == pytest.approx(answers[3].probabilities, abs=1e-5), "no answer moved to another row"
    assert predict_files(bundle, []) == []


def test_a_folder_stands_for_its_files_at_any_depth_without_system_files(bundle, own_photos):
    folder = own_photos / "test"
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "._cat_0.jpg").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.jpg").write_bytes(b"x")
    answers = predict_files(bundle, [folder])
    assert [os.path.relpath(answer.path, folder) for answer in answers] == sorted(
        f"{name}/{name}_{k}.{'png' if k % 2 else 'jpg'}" for name in ("cat", "dog") for k in range(6)
    )
    assert not any(answer.error for answer in answers)


def test_what_cannot_be_opened_in_a_folder_has_a_row_with_the_reason(bundle, manifest, rows, tmp_path):
    shutil.copy(manifest.dataset / rows[0].path, tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to("b.jpg")
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    os.mkfifo(tmp_path / "pipe")
    answers = predict_files(bundle, tmp_path)
    assert [answer.path for answer in answers] == [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg", "pipe")]
    assert [bool(answer.error) for answer in answers] == [True, False, False, True]
    assert "a link that cannot be followed" in answers[0].error and "a pipe" in answers[3].error
    assert answers[0].to_dict() == {"path": str(tmp_path / "a.jpg"), "error": answers[0].error}


def test_a_path_that_stands_for_no_file_is_told_by_name(bundle, tmp_path):
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    (tmp_path / "empty" / ".git" / "x").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("none.jpg", "no such file or folder"), ("empty", "no files in"), ("pipe", "not a regular")):
        with pytest.raises(VggnbError, match=words) as told:
            predict_files(bundle, [tmp_path / name])
        assert told.value.where == str(tmp_path / name)
    with pytest.raises(VggnbError, match="A path is empty"):
        predict_files(bundle, "")  # an unset variable of the shell is not the current folder


def test_the_name_of_an_upload_is_a_label_never_a_path(bundle, manifest, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = (manifest.dataset / rows[0].path).read_bytes()
    (answer,) = predict_images(bundle, [("../../etc/passwd", data)])
    assert answer.path == "../../etc/passwd" and not answer.error and not list(tmp_path.iterdir())


def test_any_file_name_can_be_predicted_and_printed(bundle, manifest, rows, tmp_path):
    source, raw = manifest.dataset / rows[0].path, os.fsdecode(b"raw\xff.jpg")
    for name in ("a b.jpg", "-rf", "*[1].jpg", "日本.jpg", "line\nbreak.jpg", raw, "\u202egpj.exe"):
        shutil.copy(source, tmp_path / name)
    answers = predict_files(bundle, [tmp_path])
    assert len(answers) == 7 and not any(answer.error for answer in answers)
    for answer in answers:
        words = str(answer)
        assert "\n" not in words and "\u202e" not in words and words.encode()


def test_an_answer_is_plain_json():
    good, bad = Prediction("a.jpg", {"dog": 0.75, "cat": 0.25}), Prediction("b.jpg", {}, "It is empty.")
    best = {"class": "dog", "probability": 0.75, "probabilities": {"dog": 0.75, "cat": 0.25}}
    expected = {"path": "a.jpg", **best, "out_of_distribution": None, "rule": "the most probable class"}
    assert json.loads(json.dumps(good.to_dict())) == expected
    assert str(good) == "a.jpg: dog 0.75, cat 0.25" and str(bad) == "b.jpg: It is empty."
    hostile = Prediction("a.jpg", {"\x1b[2J\n": 1.0}, out_of_distribution=True)  # a class of a stranger's bundle
    assert str(hostile).isprintable()


# Lists, tables


def test_names_in_a_list_are_answered_in_its_order_each_in_its_row(bundle, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    first = photos / "test" / "dog" / "dog_1.png"
    names = [str(first), "none.jpg", str(tmp_path / "empty"), str(photos / "test" / "cat"), str(first)]
    answers = predict_files(bundle, names, missing="list")
    assert [answer.path for answer in answers[:3]] == names[:3] and answers[-1].path == str(first)
    assert len(answers) == 10 and [bool(answer.error) for answer in answers] == [False, True, True] + [False] * 7
    assert "no such file" in answers[1].error and "no files in this folder" in answers[2].error


@pytest.mark.parametrize("data, names", [
    (b"a.jpg\r\n\r\n\nb c.jpg\n", ["a.jpg", "b c.jpg"]), (b"a\nb.jpg\0 c \0", ["a\nb.jpg", " c "]),
    (b"\xef\xbb\xbfraw\xff.jpg", [os.fsdecode(b"raw\xff.jpg")]),
])  # fmt: skip
def test_a_list_of_names_is_read_as_it_is(data, names):
    assert read_names(data) == names
    for empty in (b"", b"\n \n", b"\0\0"):
        with pytest.raises(VggnbError, match="holds no names"):
            read_names(empty)


def test_a_table_comes_back_from_csv_whatever_the_names_are():
    answers = [
        Prediction('a,b\r\n"c".jpg', {"dog": 0.75, "cat": 0.25}, out_of_distribution=True),
        Prediction("x.jpg", {}, "It is empty."),
        Prediction("y.jpg", {"cat": 1.0, "dog": 0.0}, out_of_distribution=False),
    ]
    header, *rows = csv.reader(io.StringIO(to_csv(answers, ("cat", "dog")), newline=""))
    assert header == ["path", "class", "probability", "out_of_distribution", "error", "p(cat)", "p(dog)"]
    assert rows[0] == ['a,b\r\n"c".jpg', "dog", "0.750000", "yes", "", "0.250000", "0.750000"]
    assert rows[1] == ["x.jpg", "", "", "", "It is empty.", "", ""]
    assert rows[2] == ["y.jpg", "cat", "1.000000", "no", "", "1.000000", "0.000000"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "'=1"])
def test_no_name_becomes_a_formula_in_a_spreadsheet(name):
    answers = [Prediction(name, {name: 1.0}), Prediction(name, {}, name), Prediction(os.fsdecode(b"raw\xff"), {}, "x")]
    table = to_csv(answers[:2], (name, "b"))
    assert to_csv(answers, (name, "b")).encode()  # not text, yet it can be printed
    for row in list(csv.reader(io.StringIO(table, newline="")))[1:]:
        assert row[0] == f"'{name}" and all(not cell.lstrip(" ").startswith(tuple("=+-@\t\r")) for cell in row)


# Unlike the training data


def limited(bundle, low, high):
    """The bundle with ranges of its own, the same for every feature."""
    wide = np.ones(2944, np.float32)
    return replace(bundle, ranges=FeatureRanges(low * wide, high * wide, 0.1, 50))


def test_a_picture_unlike_the_training_data_is_flagged_and_said(bundle, manifest, rows):
    path = manifest.dataset / rows[0].path
    (like,) = predict_files(limited(bundle, -1e9, 1e9), path)
    (unlike,) = predict_files(limited(bundle, 5e8, 1e9), path)
    assert (like.out_of_distribution, unlike.out_of_distribution) == (False, True)
    assert like.probabilities == unlike.probabilities
    assert "out-of" not in str(like)
    assert str(unlike).endswith("(out-of-distribution: the prediction may be meaningless)")
    assert predict_files(bundle, path)[0].out_of_distribution is None, "8 validation pictures are too few to say"


# What decides


def at_threshold(bundle, **changes):
    """The bundle with an operating point that was chosen on validation."""
    point = {"threshold": 0.2, "positive": "cat", "aim": "a sensitivity of at least 0.95", "images": 40}
    return replace(bundle, threshold=point | changes)


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_the_positive_class_is_predicted_from_the_threshold_on(threshold, bundle, manifest, rows):
    paths = [manifest.dataset / row.path for row in rows]
    plain = predict_files(bundle, paths)
    cats = sorted(one.probabilities["cat"] for one in plain)
    threshold = cats[int(threshold * len(cats))]  # one of these images lies exactly on it
    found = predict_files(at_threshold(bundle, threshold=threshold), paths, threshold="chosen")
    for one, before in zip(found, plain, strict=True):
        assert one.class_name == ("cat" if one.probabilities["cat"] >= threshold else "dog")
        assert one.probabilities == before.probabilities and next(iter(one.probabilities)) == one.class_name
        assert one.probability == one.probabilities[one.class_name]
        assert one.to_dict()["rule"].startswith("cat from probability") and "at least 0.95" in one.to_dict()["rule"]
    assert {one.class_name for one in found} == {"cat", "dog"}


def test_a_number_is_a_threshold_of_the_positive_class_and_what_cannot_be_one_is_told(bundle):
    assert str(choose_rule(bundle, 0.37)) == "dog from probability 0.37 on"
    assert choose_rule(at_threshold(bundle), 0.37).positive == "cat"
    assert choose_rule(at_threshold(bundle)) == choose_rule(bundle) == Rule()
    assert str(Rule()) == "the most probable class"
    with pytest.raises(VggnbError, match="No threshold was chosen") as told:
        predict_images(bundle, [], threshold="chosen")
    assert "evaluate RUN --sensitivity" in told.value.remedy
    for threshold in (0, 1, -0.1, float("nan"), "0.5"):
        with pytest.raises(VggnbError, match="out of range"):
            choose_rule(bundle, threshold)
    with pytest.raises(VggnbError, match="needs two classes; this model has 3"):
        choose_rule(replace(bundle, classes=("ash", "birch", "oak")), 0.5)


# A run in a bundle's place, and the other way round


def test_a_run_predicts_as_its_bundle_does(own_run, bundle, manifest, rows):
    paths = [manifest.dataset / row.path for row in rows[:3]]
    pair = (predict_files(one, paths) for one in (open_model(own_run.folder), bundle))
    for ours, theirs in zip(*pair, strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-6)
    with pytest.raises(VggnbError, match="this run has none of its present model") as told:
        open_model(own_run.folder, engine="onnxruntime")
    assert f"--to {own_run.folder / 'bundle'}" in told.value.remedy
    for text in ("[]", "{}"):
        (own_run.folder / "run.json").write_text(text)
        with pytest.raises(VggnbError, match="this run has none of its present model"):
            open_model(own_run.folder, engine="onnxruntime")


def test_the_bundle_in_a_run_is_used_unless_it_is_of_an_earlier_training(own_run, own_bundle):
    inside = own_bundle.rename(own_run.folder / "bundle")
    assert open_model(own_run.folder).folder == inside
    document = json.loads((inside / "bundle.json").read_bytes())
    (inside / "bundle.json").unlink()  # a link to the shared one
    (inside / "bundle.json").write_text(json.dumps(document | {"model_sha256": "0" * 64}))
    assert open_model(own_run.folder).folder == own_run.folder


def test_a_run_is_found_from_its_bundle_and_a_bundle_elsewhere_is_called_one(own_run, own_bundle, capsys):
    assert cli.main(["report", str(own_bundle)]) == 2
    words = capsys.readouterr().err
    assert "This is a bundle, not a run." in words and "run.json" in words
    inside = own_bundle.rename(own_run.folder / "bundle")
    assert cli.main(["evaluate", str(inside), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 12


def test_a_threshold_that_evaluate_chose_arrives_in_the_bundle(own_run, own_bundle, capsys, manifest):
    run, inside = str(own_run.folder), own_bundle.rename(own_run.folder / "bundle")
    image = str(manifest.dataset / manifest.of("test")[0].path)
    assert cli.main(["evaluate", run, "--cost-ratio", "5", "--positive", "cat", "--quiet"]) == 0
    assert "--threshold chosen" in capsys.readouterr().out
    chosen = json.loads((inside / "bundle.json").read_bytes())["threshold"]
    assert chosen["positive"] == "cat" and chosen["images"] == 24 and 0 < chosen["threshold"] < 1
    assert cli.main(["predict", run, image, "--threshold", "chosen", "--quiet", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)[0]["rule"].startswith("cat from probability") and "Predicted: cat from" in told.err
    assert cli.main(["predict", str(inside), image, "--quiet", "--csv"]) == 0
    told = capsys.readouterr()
    assert "a threshold was chosen: --threshold chosen uses it" in told.err and told.out.startswith("path,class")
    assert cli.main(["predict", run, image, "--threshold", "37%", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rule"] == "cat from probability 0.37 on"
    with pytest.raises(SystemExit):
        cli.main(["predict", run, image, "--threshold", "1.5"])


# The command


@pytest.fixture
def ask(capsys, monkeypatch):
    """A function: (words, bytes on the standard input) -> exit code, stdout, stderr of `vggnb predict`."""

    def ask(*words, given=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        capsys.readouterr()
        code = cli.main(["predict", *map(str, words), "--quiet"])
        told = capsys.readouterr()
        return code, told.out, told.err

    return ask


def test_a_list_on_the_standard_input(ask, saved, photos):
    given = f"{photos / 'test' / 'dog'}\nnone.jpg\n".encode()
    code, out, err = ask(saved[0], "-", "--json", given=given)
    answers = json.loads(out)
    assert code == 0 and not err and len(answers) == 7 and set(answers[-1]) == {"path", "error"}
    code, out, _ = ask(saved[0], "-", given=given)
    assert code == 0 and len(out.splitlines()) == 7 and out.splitlines()[-1].startswith("none.jpg: There is no such")


def test_a_name_that_the_terminal_cannot_show_is_escaped_and_csv_is_utf8_with_its_own_line_ends(
    saved, photos, tmp_path, monkeypatch
):
    shutil.copy(photos / "test" / "cat" / "cat_0.jpg", tmp_path / "日本.jpg")
    said = []
    for words in ([], ["--csv"]):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252", newline="\r\n"))  # Windows
        assert cli.main(["predict", str(saved[0]), str(tmp_path), "--quiet", *words]) == 0
        said.append(sys.stdout.buffer.getvalue())
    assert b"\\u65e5\\u672c.jpg: " in said[0] and b"\r\r" not in said[1]
    header, row = said[1].decode().splitlines()
    assert header.startswith("path,class") and row.startswith(str(tmp_path / "日本.jpg"))


@pytest.mark.parametrize(
    "words, told",
    [
        ("{bundle} -", "holds no names"),
        ("{bundle} none.jpg", "no such file or folder"),
        ("{bundle} {photos} --csv --json", "only one document"),
        ("{bundle} {photos} --engine torch", "no engine 'torch'"),
        ("{photos} {photos} --engine onnxruntime", "no bundle in this folder"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(words, told, ask, saved, photos):
    code, out, err = ask(*words.format(bundle=saved[0], photos=photos).split())
    assert (code, out) == (2, "") and told in err and "what to do:" in err and "Traceback" not in err
