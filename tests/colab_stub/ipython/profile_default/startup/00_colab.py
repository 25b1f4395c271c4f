"""Runs at the start of a test kernel: the shell says that it is Colab's, and /content may lie elsewhere."""

import os
from pathlib import Path

from google.colab._shell import Shell

get_ipython().__class__ = Shell  # noqa: F821  a name that IPython provides

if "VGGNB_STUB_CONTENT" in os.environ:
    import vggnb.paths

    vggnb.paths.CONTENT = Path(os.environ["VGGNB_STUB_CONTENT"])
