"""The command line: `parser` lists the verbs, `verbs` runs them, `steps` holds what they share."""

import contextlib
import os
import sys

from vggnb.storage import VggnbError, mendable


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 for success; 2 for an error that the user can fix (one message on stderr); 130 if interrupted. If
        stdout is closed (`| head`), the program ends silently with 141, as others do.
    """
    if sys.stderr is None:  # it was closed (2>&-); what is printed to None lands on stdout
        sys.stderr = open(os.devnull, "w")
        os.dup2(sys.stderr.fileno(), 2)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # any name can be printed, whatever the terminal can show
    try:
        from vggnb.cli.parser import make_parser  # takes a moment, in which people interrupt, too

        options = make_parser().parse_args(arguments)
        options.stdout = sys.stdout
        if options.threads:
            os.environ["VGGNB_THREADS"] = str(options.threads)
        document = options.json or getattr(options, "csv", False)  # then stdout is for the document alone
        with contextlib.redirect_stdout(sys.stderr) if document else contextlib.nullcontext():
            return options.verb(options) or 0
    except VggnbError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(mendable(error, error.filename or "the current folder"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or "Interrupted. Run the same command again to continue.", file=sys.stderr)
        return 130
