"""The command line: the notebooks' steps as verbs, for scripts. `vggnb --help` lists them.

- `parser`: which verbs and options there are
- `verbs`: what each of them does
- `output`: what goes to stdout and what to stderr
"""

import contextlib
import os
import sys

from vggnb.cli.parser import make_parser
from vggnb.storage import VggnbError, mendable


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 2 something the user can mend (told on stderr); 130 interrupted. Where nobody reads stdout any more
        (`| head`), the program ends without a word and with 141, as others do.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # any name can be printed, whatever the terminal can show
    options = make_parser().parse_args(arguments)
    options.stdout = sys.stdout
    if options.threads:
        os.environ["VGGNB_THREADS"] = str(options.threads)
    try:
        # Keras and our own notes print; with --json, stdout is for the document alone.
        document = options.json or getattr(options, "csv", False)
        with contextlib.redirect_stdout(sys.stderr) if document else contextlib.nullcontext():
            options.verb(options)
        return 0
    except VggnbError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(mendable(error, error.filename or "the current folder"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        said = str(error) or "Interrupted. What was finished is kept; run the same command again."
        print(said, file=sys.stderr)
        return 130
