"""What the command line writes where: with --json or --csv, stdout is for the document alone."""

import contextlib
import json
import os
import sys

from vggnb.storage import mendable


def show(options, document: object, text: object) -> None:
    """Write the result to stdout: the JSON document, or the text for people."""
    write(json.dumps(document, allow_nan=False) if options.json else text, options.stdout)


def note(options, text: object) -> None:
    """Write a note for people: to stderr where stdout holds a document."""
    write(text, sys.stderr if options.json or getattr(options, "csv", False) else sys.stdout)


def write(text: object, file, end: str = "\n") -> None:
    """Write all of it now; where nobody reads it any more, the program ends."""
    try:
        print(text, file=file, end=end, flush=True)
    except OSError as error:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), file.fileno())  # Python flushes again at its exit, and would fail again
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        raise mendable(error, "the standard output") from None
