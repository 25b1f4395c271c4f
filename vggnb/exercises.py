"""Automatic checks for the exercises of a page.

A page defines `check` in a folded cell (tag `hide-input`, `# @title ... {"display-mode": "form"}`):

    check = checks(globals(), total=lambda answer: answer == len(manifest.rows) or "Count the rows of all splits.")

The cell of an exercise is then `total = ...` and `check(1)`.
"""

from collections.abc import Callable


def checks(page: dict, **tests: Callable[[object], bool | str]) -> Callable[[int], None]:
    """The `check(n)` of a page: prints whether the answer to exercise n is right, or a hint.

    Args:
        page: the variables of the page, `globals()`.
        tests: in the order of the exercises, the variable that holds the answer, and a function of that answer: True
            where it is right, else a hint. `...` means not answered yet.
    """

    def check(n: int = 1) -> None:
        name, test = list(tests.items())[n - 1]
        if (answer := page.get(name, ...)) is ...:
            print(f"Exercise {n}: put your answer in place of ... after '{name} =', then run this cell again.")
            return
        try:
            result = test(answer)
        except NameError as error:
            result = f"{error.name} is missing: run the page from the top first."
        except Exception:  # any answer is allowed, and none may stop the page
            result = f"'{type(answer).__name__}' is not the kind of value that was asked for."
        print(f"Exercise {n}: not yet. {result}" if isinstance(result, str) else f"Exercise {n}: right.")

    return check
