"""Runs at the start of a test kernel: the shell says that it is Colab's."""

from google.colab._shell import Shell

get_ipython().__class__ = Shell  # noqa: F821  a name that IPython provides
