"""A bundle: a trained model in a folder, with exports for other programs that open without vggnb.

What needs Keras is imported when it is first used: `predict` in onnxruntime starts without it.
"""

import importlib

from vggnb.save.bundle import ENGINES, Bundle, check_images, load_bundle, purpose_of

LATER = dict.fromkeys(("SavedFile", "open_or_save", "save_bundle", "update_threshold", "verify"), "saving")
LATER |= {"available": "exports"}

__all__ = ["ENGINES", "Bundle", "check_images", "load_bundle", "purpose_of", *LATER]  # noqa: PLE0604


def __getattr__(name: str):
    """What is imported only when it is used."""
    if name in LATER:
        return getattr(importlib.import_module(f"vggnb.save.{LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
