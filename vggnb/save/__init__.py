"""A bundle: the article's three files and the facts that must travel with them, proven to come back the same.

- `spec`: what a bundle says about itself, checked without TensorFlow
- `filling`: the numbers of a bundle into a network that was built here
- `runtimes`: an export in its own runtime, without TensorFlow; `open_onnx`
- `exports`: SavedModel, ONNX and LiteRT from a model
- `proof`: `verify`: what was saved comes back the same
- `bundle`: `save_bundle`, `load_bundle`
- `without_tensorflow`: a complete program of its own that shows how others use a bundle

What needs Keras is imported when it is first asked for: `predict` in onnxruntime starts without it.
"""

import importlib

from vggnb.save.runtimes import OnnxBundle, check_images, open_onnx
from vggnb.save.spec import ARTICLE, EXPORTS, FORMATS

IN_BUNDLE = ("Bundle", "SavedFile", "load_bundle", "open_or_save", "save_bundle", "verify")

__all__ = [*IN_BUNDLE, "ARTICLE", "EXPORTS", "FORMATS", "OnnxBundle", "check_images", "open_onnx"]  # noqa: PLE0604


def __getattr__(name: str):
    """What `bundle` gives, which imports Keras."""
    if name in IN_BUNDLE:
        return getattr(importlib.import_module("vggnb.save.bundle"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
