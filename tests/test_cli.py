"""The command line keeps its contract: exit codes, one JSON document, sentences instead of tracebacks."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vggnb import cli
from vggnb.cli import parser, steps, verbs
from vggnb.paths import open_workspace
from vggnb.recipe import Recipe
from vggnb.save import load_bundle
from vggnb.storage import VggnbError

ROOT = Path(cli.__file__).resolve().parents[2]
TINY = ["--weights", "none", "--image-size", "32", "--epochs", "2"]


@pytest.fixture
def vggnb(capsys):
    """A function: arguments -> exit code, stdout, stderr."""

    def vggnb(*arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return vggnb


@pytest.fixture
def document(vggnb):
    """A function: arguments -> the one JSON document on stdout, after exit code 0."""

    def document(*arguments):
        code, out, err = vggnb(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return document


def snapshot(folder):
    """Every path under a folder with its bytes and time."""
    paths = sorted(folder.rglob("*"))
    return [(path, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths]


def python(*arguments, **options):
    """A fresh interpreter at the project's root."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, **options)


TRAIN_KEYS = {"run", "epochs", "history", "timing"}
EVALUATE_KEYS = {"n", "classes", "confusion", "threshold", "metrics"}
TIMING_KEYS = {"features_s", "head_s", "fine_tune_s", "total_s", "images_forwarded", "features_from_cache"}
TWO_CLASS_METRICS = {"accuracy", "balanced_accuracy", "auc", "sensitivity", "specificity", "ece"}
MORE_CLASS_METRICS = {"accuracy", "balanced_accuracy", "macro_f1", "auc_ovr", "ece"}


def test_paths_says_where_things_are(document, tmp_path):
    found = document("paths")
    assert {"environment", "dataset", "runs", "weights", "precision", "versions"} <= set(found)
    assert found["runs"] == str(tmp_path / "home" / "runs" / "sample") and found["weights"] == "offline"
    assert found["versions"]["keras"] and "tensorflow" in found["versions"]


def test_census_has_the_keys_of_the_contract(document, photos):
    found = document("census", photos)
    keys = "splits classes total_files used skipped system_files duplicates conflicts leaks warnings"
    assert set(keys.split()) <= set(found)
    assert found["splits"]["train"] == {"cat": 8, "dog": 8} and found["used"] == found["total_files"] == 36


def test_a_run_goes_from_photos_to_a_bundle_and_leaves_the_photos_alone(document, photos, quick_verify, tmp_path):
    before = snapshot(photos)
    found = document("run", photos, "--out", tmp_path / "run", *TINY, "--quiet")
    assert TRAIN_KEYS | EVALUATE_KEYS | {"bundle"} <= set(found)
    assert found["run"] == str(tmp_path / "run") and found["epochs"] == len(found["history"]) == 0
    assert set(found["timing"]) == TIMING_KEYS and found["timing"]["images_forwarded"] == 24
    assert set(found["metrics"]) >= TWO_CLASS_METRICS and found["n"] == 12 and found["classes"] == ["cat", "dog"]
    assert set(found["metrics"]["auc"]) == {"value", "low", "high"}
    assert load_bundle(found["bundle"]).classes == ("cat", "dog")
    assert len(found["predictions"]) == 3
    assert snapshot(photos) == before


def test_three_classes_are_trained_and_evaluated_the_same_way(document, photos3, tmp_path):
    out = tmp_path / "run"
    trained = document("train", photos3, "--out", out, "--recipe", "article", *TINY, "--seed", "3", "--quiet")
    assert set(trained) >= TRAIN_KEYS and json.loads((out / "recipe.json").read_text())["seed"] == 3
    evaluated = document("evaluate", out, "--quiet")
    assert set(evaluated["metrics"]) >= MORE_CLASS_METRICS and evaluated["threshold"] is None
    assert [len(row) for row in evaluated["confusion"]] == [3, 3, 3]
    again = document("train", photos3, "--out", out, "--recipe", "article", *TINY, "--seed", "3", "--quiet")
    assert len(trained["history"]) == trained["epochs"] == 2
    assert again["history"] == trained["history"] and again["timing"]["images_forwarded"] == 0
    assert document("evaluate", out, "--quiet") == evaluated


def test_evaluate_takes_the_positive_class_and_another_folder(document, own_run, photos):
    first = document("evaluate", own_run.folder, "--quiet")
    other = document("evaluate", own_run.folder, "--positive", "cat", "--quiet")
    assert (first["positive"], other["positive"]) == ("dog", "cat")
    assert first["metrics"]["sensitivity"] == other["metrics"]["specificity"]
    assert document("evaluate", own_run.folder, "--dataset", photos, "--quiet")["confusion"] == first["confusion"]


def test_save_lists_every_file_with_its_check(document, own_run, quick_verify, tmp_path):
    files = document("save", own_run.folder, "--to", tmp_path / "bundle", "--formats", "weights")["files"]
    assert all(set(file) == {"path", "format", "sha256", "bytes", "max_difference"} for file in files)
    checked = {file["format"]: file["max_difference"] for file in files if file["max_difference"] is not None}
    assert set(checked) == {"safetensors", "weights"} and max(checked.values()) <= 1e-5


def test_predict_lists_good_and_bad_files_alike(document, saved, own_photos):
    (own_photos / "test" / "cat" / "cat_1.png").write_bytes(b"")
    found = document("predict", saved[0], own_photos / "test" / "cat", own_photos / "test" / "dog" / "dog_0.jpg")
    assert len(found) == 7
    for answer in found:
        bad = answer["path"].endswith("cat_1.png")
        good = {"path", "class", "probability", "probabilities", "rule", "out_of_distribution"}
        assert set(answer) == ({"path", "error"} if bad else good)


def test_words_for_people_are_no_json(vggnb, saved, photos):
    image = photos / "test" / "cat" / "cat_0.jpg"
    for arguments, words in (
        (("predict", saved[0], image), f"{image}: "), (("census", photos, "--quiet"), "36 files = 36 used"),
        (("paths",), "environment  local"),
    ):  # fmt: skip
        code, out, err = vggnb(*arguments)
        assert code == 0 and words in out and not err


def test_what_libraries_print_never_mixes_with_the_document(vggnb, monkeypatch, photos):
    monkeypatch.setattr(verbs, "versions", lambda: print("Downloading data from ...") or {})
    code, out, err = vggnb("paths", "--json")
    assert code == 0 and json.loads(out)["versions"] == {} and "Downloading data" in err


def test_quiet_hides_progress_only_and_an_unreadable_image_is_skipped_by_name(vggnb, own_photos, tmp_path):
    path = own_photos / "train" / "cat" / "cat_0.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    train = ("train", own_photos, "--out", tmp_path / "run", *TINY, "--positive", "cat", "--quiet", "--json")
    code, out, err = vggnb(*train)
    assert code == 0 and json.loads(out)["timing"]["images_forwarded"] == 23
    assert "36 files = 35 used" in err and "skipped train/cat/cat_0.jpg: The file is cut short" in err
    assert "Weights: RANDOM, as requested with 'none'." in err and "%|" not in err


def test_choices_of_the_recipe_come_from_the_command_line(tmp_path):
    parse = parser.make_parser().parse_args
    given = "--epochs 3 --batch-size 8 --learning-rate 0.01 --class-weights --patience 4 --image-size 64x64 --seed 0"
    recipe = steps.recipe_of(parse(["train", "x", "--out", "y", *given.split()]), None, False)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.class_weights) == (3, 8, 0.01, True)
    assert (recipe.patience, recipe.decay, recipe.image_size) == (4, False, 64)
    plain = steps.recipe_of(parse(["train", "x", "--out", "y", "--recipe", "article"]), None, False)
    assert plain == Recipe.article()


def test_two_runs_are_compared_image_by_image(vggnb, document, best_run, article_run):
    found = document("compare", best_run[0].folder, article_run[0].folder, "--positive", "cat", "--quiet")
    assert found["n"] == 12 and {"accuracy", "auc"} <= set(found["differences"])
    assert set(found["differences"]["auc"]) == {"value", "low", "high"}
    same = document("compare", best_run[0].folder, best_run[0].folder, "--quiet")
    assert same["differences"]["accuracy"]["value"] == 0 and same["only_first"] == same["only_second"] == 0


def test_a_run_and_its_bundle_stand_for_each_other(document, own_run, saved, photos):
    shutil.copytree(saved[0], own_run.folder / "bundle")
    image = photos / "test" / "cat" / "cat_0.jpg"
    assert document("predict", own_run.folder, image) == document("predict", saved[0], image)
    assert document("evaluate", own_run.folder / "bundle", "--quiet")["n"] == 12


def test_predict_exits_with_2_when_no_file_could_be_predicted(vggnb, saved, tmp_path):
    for name in ("empty.jpg", "page.png"):
        (tmp_path / name).write_text("" if name == "empty.jpg" else "<html></html>")
    code, out, err = vggnb("predict", saved[0], tmp_path / "empty.jpg", tmp_path / "page.png", "--json")
    assert code == 2 and [set(one) for one in json.loads(out)] == 2 * [{"path", "error"}]
    assert err.startswith("No file could be predicted.") and "what to do:" in err


def test_a_dataset_that_cannot_be_trained_on_is_refused_in_one_message(vggnb, own_photos, tmp_path):
    for path in (own_photos / "train" / "cat").iterdir():
        path.unlink()
    code, out, err = vggnb("run", own_photos, "--out", tmp_path / "run", *TINY, "--quiet", "--json")
    assert (code, out) == (2, "") and "train/cat has 0 usable images" in err and "what to do:" in err
    assert "Traceback" not in err and not (tmp_path / "run").exists(), "nothing is made before the refusal"


@pytest.mark.parametrize("arguments, words", [
    ("train {tmp}/none --out {tmp}/run", "no such folder or file"), ("census {tmp}/none", "no such folder or file"),
    ("train {photos} --out {tmp}/file/run TINY", "A file stands where a folder is needed"),
    ("train {photos} --out {photos}/run TINY", "inside the dataset"),
    ("train {photos} --out {tmp}/run TINY --store {photos}/s", "inside the dataset"),
    ("save {run} --to {photos}/bundle", "inside the dataset"),
    ("train {photos} --out {tmp}/run --recipe worst", "no recipe 'worst'"),
    ("train {photos} --out {tmp}/run --image-size 31", "--image-size cannot be 31"),
    ("train {photos} --out {tmp}/run --seed 4294967296", "Use a whole number from 0"),
    ("train {photos} --out {tmp}/run --fine-tune block6", "Use one of block1_conv1"),
    ("train {photos} --out {tmp}/run --recipe fine --learning-rate -1", "--learning-rate cannot be -1"),
    ("train {photos} --out {tmp}/run --augment blur", "Use some of flips"),
    ("train {photos} --out {tmp}/run --augment=", "--augment cannot be ''"),
    ("train {photos} --out {tmp}/run TINY --weights {tmp}/file", "not the weights of a VGG-16"),
    ("run {photos} --out {tmp}/run TINY --positive owl", "'owl' is not a class"),
    ("evaluate {tmp}", "no run in this folder"), ("save {tmp} --to {tmp}/bundle", "no run in this folder"),
    ("save {run} --to {tmp}/bundle --formats onyx", "no format 'onyx'"),
    ("save {run} --to {tmp}", "something other than a bundle"), ("evaluate {run} --positive owl", "is not a class"),
    ("evaluate {run} --weights {tmp}/none.h5 --dataset {photos}", "no such weights file"),
    ("census ~nobody/photos", "no such folder or file"), ("share {run} --to s3://bucket/page", "this is an address"),
    ("predict {tmp} {photos}", "no bundle in this folder"), ("run s3://bucket/photos", "this is an address"),
    ("predict {bundle} https://example.org/a.jpg", "this is a web address"),
    ("census https://example.org/photos.zip", "this is a web address"),
    ("predict {bundle} {tmp}/none.jpg", "no such file or folder"),
])  # fmt: skip
def test_what_the_user_can_mend_is_one_message(arguments, words, vggnb, photos, best_run, saved, tmp_path):
    (tmp_path / "file").write_text("words")
    places = {"tmp": tmp_path, "photos": photos, "run": best_run[0].folder, "bundle": saved[0]}
    before = snapshot(photos)
    words_of = arguments.replace("TINY", " ".join(TINY)).split()
    code, out, err = vggnb(*(word.format(**places) for word in words_of), "--quiet", "--json")
    assert (code, out) == (2, "") and words in err, err
    assert "where:" in err and "what to do:" in err and "Traceback" not in err
    assert snapshot(photos) == before


@pytest.mark.parametrize("arguments, words", [
    ("{photos} --weights {tmp}/none.h5", "no such weights file"), ("{photos}", "You do not have permission"),
    ("{photos} --out {tmp}", "something other than a run"), ("{photos} --out {run} --seed 5", "seed is 0 there"),
    ("{other} --out {run} --image-size 32 --epochs 3", "trained on other images"),
])  # fmt: skip
def test_what_a_census_cannot_change_is_refused_before_it(
    arguments, words, vggnb, photos, photos3, best_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(steps, "opened", lambda *_: pytest.fail("the census was taken"))
    access, locked = os.access, tmp_path / "locked"  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and access(path, mode))
    locked.mkdir()
    places = {"photos": photos, "other": photos3, "tmp": tmp_path, "run": best_run[0].folder}
    words_of = [word.format(**places) for word in arguments.split()]
    code, out, err = vggnb("train", "--out", locked / "run", *words_of, "--json")
    assert (code, out) == (2, "") and words in err, err


def test_an_archive_in_a_folder_is_trained_on_again_and_a_run_may_lie_beside_a_table(photos, best_run, tmp_path):
    shutil.make_archive(tmp_path / "zipped" / "photos", "zip", photos)
    (tmp_path / "labels.csv").write_text("path,label")
    for name, out in (("zipped", best_run[0].folder), ("labels.csv", tmp_path / "runs" / "t1")):
        options = parser.make_parser().parse_args(["train", str(tmp_path / name), "--out", str(out)])
        steps._check_places(options, open_workspace(dataset=tmp_path / name), best_run[0].recipe)


def test_a_word_that_is_no_threshold_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main("predict x y --threshold choosen".split())
    assert "'choosen' is neither chosen nor a probability between 0 and 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0.9", "0,9", "90%", " 90 %"])
def test_numbers_are_read_as_people_write_them(text):
    options = parser.make_parser().parse_args(["evaluate", "run", "--sensitivity", text, "--prevalence", text])
    assert options.sensitivity == options.prevalence == 0.9
    assert parser.make_parser().parse_args(["predict", "run", "a.png", "--threshold", text]).threshold == 0.9


def test_the_home_folder_may_be_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    options = parser.make_parser().parse_args(["share", "~/run", "--to=~/page"])
    assert (options.bundle, options.to) == (tmp_path / "run", tmp_path / "page")


@pytest.mark.parametrize("arguments", [
    "", "fly", "train", "train x", "census x --epochs 3", "train x --out y --epochs 0",
    "train x --out y --image-size 224x96", "evaluate x --sensitivity high", "extract x --precision float8",
])  # fmt: skip
def test_a_wrong_command_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2 and "usage: vggnb" in capsys.readouterr().err


@pytest.mark.parametrize("place, error, code, words", [
    ((parser, "make_parser"), KeyboardInterrupt(), 130, "Interrupted. Run the same command again"),
    ((verbs, "open_workspace"), KeyboardInterrupt("Stopped at epoch 7."), 130, "Stopped at epoch 7."),
    ((verbs, "open_workspace"), OSError(errno.EIO, "Input/output error", "/some/file"), 2, "/some/file"),
])  # fmt: skip
def test_an_interruption_and_a_failing_disk_are_one_sentence(place, error, code, words, vggnb, monkeypatch):
    def failing(**_):
        raise error

    monkeypatch.setattr(*place, failing)
    found, out, err = vggnb("paths")
    assert (found, out) == (code, "") and words in err and "Traceback" not in err


@pytest.mark.parametrize("where, code, words", [("a pipe that was left", 141, ""), ("/dev/full", 2, "standard output")])
def test_a_standard_output_that_takes_nothing_is_no_traceback(where, code, words, photos):
    if where == "/dev/full":
        if not os.path.exists(where):
            pytest.skip("needs /dev/full")
        out = os.open(where, os.O_WRONLY)
    else:
        left, out = os.pipe()
        os.close(left)
    command = [sys.executable, "-m", "vggnb", "census", str(photos), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True)
    os.close(out)
    assert done.returncode == code and words in done.stderr and len(done.stderr.splitlines()) == (3 if words else 0)


def test_a_weights_file_is_remembered_by_its_whole_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.h5").touch()
    assert [steps.weights_of(one) for one in ("mine.h5", "none")] == [str(tmp_path / "mine.h5"), "none"]


def test_a_run_that_was_interrupted_is_continued_by_the_same_command(vggnb, document, photos, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    run = ["run", photos, *TINY, "--quiet"]
    runs = tmp_path / "home" / "runs" / photos.name
    with monkeypatch.context() as patch:
        patch.setattr("vggnb.train.fit", stopped)
        assert vggnb(*run, "--seed", "1")[0] == 130 and vggnb(*run, "--seed", "2")[0] == 130
    first, second = sorted(runs.iterdir())
    monkeypatch.setattr(verbs, "trained", lambda options: steps.trained(options) and stopped())
    assert vggnb(*run, "--seed", "1")[0] == 130 and sorted(runs.iterdir()) == [first, second]
    assert [(folder / "run.json").is_file() for folder in (first, second)].count(True) == 1
    assert vggnb(*run, "--seed", "2", "--fresh")[0] == 130 and len(list(runs.iterdir())) == 3


def test_the_bundle_is_saved_even_if_the_test_split_cannot_be_evaluated(
    vggnb, photos, tmp_path, quick_verify, monkeypatch
):
    def refused(*_, **__):
        raise VggnbError("No image of class 'dog'.", "test", "Add some.")

    monkeypatch.setattr("vggnb.evaluate.evaluate", refused)
    code, out, err = vggnb("run", photos, "--out", tmp_path / "run", *TINY, "--json")
    assert (code, out) == (2, "") and "No image of class 'dog'." in err
    assert load_bundle(tmp_path / "run" / "bundle").classes == ("cat", "dog")


def test_a_census_starts_no_tensorflow(photos):
    code = f"""
import sys
from vggnb.cli import main
assert main(['census', {str(photos)!r}, '--json', '--quiet']) == 0
assert not {{"tensorflow", "keras", "sklearn", "matplotlib", "pandas"}} & set(sys.modules)
"""
    done = python("-c", code)
    assert done.returncode == 0 and json.loads(done.stdout)["used"] == 36 and done.stderr == "", done.stderr


@pytest.mark.parametrize("words", ["predict {tmp} x.jpg", "train {photos} --out {tmp}/run"])
def test_without_tensorflow_a_sentence_says_how_to_get_it_before_anything_is_made(words, photos, tmp_path):
    what = "import sys\nsys.modules['tensorflow'] = None\nfrom vggnb.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = python("-c", what, *words.format(photos=photos, tmp=tmp_path).split())
    assert done.returncode == 2 and done.stderr.startswith("TensorFlow is not installed"), done.stderr
    assert 'pip install "vggnb[cpu]"' in done.stderr and not (tmp_path / "run").exists()
    if os.name != "nt" and words.startswith("predict"):
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", what, "predict", str(tmp_path), "x.jpg"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, ""), "a closed stderr is no traceback, and stdout no place for it"


def test_a_local_extraction_starts_without_tensorflows_messages_in_the_chosen_precision(photos):
    done = python("-m", "vggnb", "extract", str(photos), *TINY[:4], "--precision", "bfloat16", "--quiet", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr.count("\n") < 12 and "oneDNN" not in done.stderr
    assert found["precision"] == "bfloat16" and found["images_forwarded"] == 24  # train and validation


def test_fine_tuning_is_reported_kept_and_used(document, photos, tmp_path):
    out = tmp_path / "run"
    choices = ("--fine-tune", "block5_conv3", "--hold-out", "--augment", "flips,rotations", "--learning-rate", "1e-6")
    found = document("train", photos, "--out", out, *TINY, *choices, "--quiet")
    assert set(found["timing"]) == TIMING_KEYS and found["timing"]["fine_tune_s"] > 0
    tuned = found["fine_tune"]
    assert (tuned["from_block"], tuned["epochs"], tuned["learning_rate"]) == ("block5_conv3", 2, 1e-6)
    assert tuned["augment"] == ["flips", "rotations"] and tuned["fitted_on"] == "train"
    assert [row["epoch"] for row in tuned["history"]] == [0, 1, 2]
    assert document("evaluate", out, "--quiet")["n"] == 12


def test_report_writes_a_page_and_evaluate_chooses_a_threshold(document, own_run, saved, tmp_path):
    bundle = shutil.copytree(saved[0], own_run.folder / "bundle")
    found = document("report", own_run.folder, "--to", tmp_path / "page.html", "--sensitivity", "0.9", "--quiet")
    assert Path(found["report"]).read_text("utf-8").startswith("<!DOCTYPE html>")
    assert found["operating_point"]["threshold"] == found["threshold"] == load_bundle(bundle).threshold["threshold"]
    evaluated = document("evaluate", own_run.folder, "--prevalence", "0.05", "--quiet")
    assert evaluated["prevalence"] == 0.05 and evaluated["threshold"] == 0.5
