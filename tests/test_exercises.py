"""`check(n)`: right, or a hint, whatever the answer is; and the answers to the pages' own exercises."""

from pathlib import Path
from types import SimpleNamespace as Thing

import jupytext
import numpy as np
import pytest

from vggnb.exercises import checks

TESTS = {
    "count": lambda answer: answer == 3 or "Count again.",
    "share": lambda answer: abs(answer - 0.25) < 0.01 or ("Divide by the whole." if answer > 1 else "Look again."),
}


@pytest.mark.parametrize(
    "page, n, words",
    [
        ({}, 1, "put your answer in place of ... after 'count ='"),
        ({"count": ...}, 1, "put your answer"),
        ({"count": 3}, 1, "Exercise 1: right."),
        ({"count": np.int64(3)}, 1, "Exercise 1: right."),
        ({"count": 4}, 1, "Exercise 1: not yet. Count again."),
        ({"count": "3"}, 1, "not yet. Count again."),
        ({"share": np.float32(0.25)}, 2, "Exercise 2: right."),
        ({"share": 25}, 2, "not yet. Divide by the whole."),
        ({"share": None}, 2, "'NoneType' is not the kind of value that was asked for."),
        ({"share": "a quarter"}, 2, "'str' is not the kind of value"),
        ({"share": np.ones(3)}, 2, "'ndarray' is not the kind of value"),
    ],
)
def test_an_answer_is_right_or_gets_a_hint(page, n, words, capsys):
    checks(page, **TESTS)(n)
    assert words in capsys.readouterr().out


def test_a_page_that_did_not_run_is_named(capsys):
    checks({"count": 1}, count=lambda answer: answer == missing_name or "")(1)  # noqa: F821
    assert "missing_name is missing: run the page from the top first." in capsys.readouterr().out


def cells(**names):
    return [Thing(path=name, class_name=name) for name, n in names.items() for _ in range(n)]


def some_flagged(bundle, paths):
    return [Thing(out_of_distribution=flag) for flag in [True, None, False, True][: len(paths)]]


def split_into(**splits):
    """A manifest with this many images in each split, and in test one more, of another class."""
    counts = {split: {"cat": n, "dog": 1} for split, n in splits.items()}
    return Thing(counts=lambda: counts, of=lambda split: [None] * (splits[split] + (split == "test")))


MIRRORED = ("test/benign/sample_0001.jpg", "train/benign/seen_in_a_mirror.jpg")
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
FORTY = {"predict_files": some_flagged, "bundle": None, "manifest": Thing(dataset=Path()), "test": cells(cat=50)}
ANSWERS = {  # page -> what the exercises use of it, and for each: its variable, right answers, wrong ones with hints
    "01_paths": ({"layout": Thing(entries=cells(cat=3, dog=2), classes=("cat", "dog"))}, [
        ("files", [5], {3: "Count the entries of all"}), ("last", [2], {3: "Compare each entry"})]),
    "02_census": ({"flawed_census": Thing(leaks=[Thing(paths=MIRRORED)]), "manifest": split_into(test=3)}, [
        ("remove", MIRRORED[1:], {MIRRORED[0]: "test images should stay", "train/a.jpg": "The name of the file"}),
        ("baseline", [0.75, 3 / 4], {0.25: "Divide the images", 75: "Divide the images"})]),
    "03_generators": ({"total_train": 220, "manifest": Thing(classes=("a", "b", "c"))}, [
        ("skipped", [20], {4: "the number of batches", 0: "left after"}), ("one_hot", [(0, 0, 1)], {(0, 1): "One"})]),
    "04_model": ({"recipe": None, "build_head": lambda _, classes: 262_656 + 513 * classes, "trainable_count": int}, [
        ("seven", [266_247], {3_591: "output layer alone", 266_240: "one bias"}), ("wide", [7], {14: "How often"})]),
    "05_train": ({"manifest": split_into(train=30, validation=10),
                  "long_history": Thing(column=lambda name: [0.5, 0.9, 0.9, 0.8])}, [
        ("forwarded", [2_000], {1_500: "Validation, too", 40: "Test is not used"}),
        ("epoch", [2], {1: "The first epoch is number 1", 3: "The first epoch"})]),
    "06_evaluate": ({"reports": {"best": Thing(confusion=np.array([[3, 1], [2, 4]]))}}, [
        ("wrong", [3], {7: "These are the right ones", 4: "on the diagonal"}),
        ("recall", [0.75], {0.6: "the precision", 3: "Divide by a row"})]),
    "07_save": ({}, [("further", [4], {7: "Leave out the article's", 3: "List the files"})]),
    "08_predict": (FORTY, [
        ("flagged", [2], {3: "Count the predictions"}), ("confused_with", ["bricks"], {"dots": "Print the classes"})]),
    "09_improve": ({}, [("weights", [2_359_808], {2_359_296: "has a bias", 512: "One filter has"})]),
    "10_explain": ({}, [("accuracy", [0.0, 0.013], {0.5: "on the other class", "low": "not the kind"})]),
    "11_solar_cells": ({"test": cells(functional=69, defective=31)}, [
        ("baseline", [0.69, 0.691], {69: "between 0 and 1", 0.31: "Count the functional"})]),
    "12_beyond_one_machine": ({"alone": Thing(images_per_s=10.0)}, [
        ("images", [288_000, 290_000], {80: "by the seconds of eight hours", 4_800: "by the seconds"})]),
}  # fmt: skip


@pytest.mark.parametrize("stem", ANSWERS)
def test_the_exercises_of_a_page_know_right_and_wrong_answers(stem, capsys):
    names, exercises = ANSWERS[stem]
    page = jupytext.read(NOTEBOOKS / f"{stem}.py", fmt="py:percent")
    (source,) = (cell.source for cell in page.cells if "check" in cell.metadata.get("tags", []))
    namespace = dict(names)
    exec(source, namespace)
    for n, (variable, right, wrong) in enumerate(exercises, 1):
        for answer, words in [*((one, "right.") for one in right), *wrong.items()]:
            namespace[variable] = answer
            namespace["check"](n)
            printed = capsys.readouterr().out
            assert words in printed and ("not yet" in printed) == (words != "right."), (variable, answer)
