"""`check(n)`: right, or a hint, whatever the answer is. The pages' own answers are in test_notebooks.py."""

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
