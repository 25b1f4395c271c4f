"""The one progress bar: tqdm's, as text."""

import sys

from tqdm import std


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook; IPython is not imported to find out."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return "IPKernelApp" in getattr(shell, "config", {})


class tqdm(std.tqdm):  # noqa: N801
    """tqdm's bar. In a notebook it is text that clears itself at the end, so that a saved page holds no stale bar."""

    def __init__(self, *args, **options):
        notebook = {"file": sys.stdout, "leave": False} if in_notebook() else {}
        super().__init__(*args, **{**notebook, **options})
