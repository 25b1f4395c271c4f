"""Stub of the module whose class name tells code that it runs on Colab."""

from ipykernel.zmqshell import ZMQInteractiveShell


class Shell(ZMQInteractiveShell):
    """Colab's shell class, as far as its repr goes."""
