"""A bundle: the article's three files and the facts that must travel with them, proven to come back the same.

- `guard`: what may be in a model file; looked at before Keras opens it
- `spec`: what a bundle says about itself, checked without TensorFlow
- `numbers`: the numbers of a bundle into a network that was built here
- `bundle`: `save_bundle`, `verify`, `load_bundle`
"""

from vggnb.save.bundle import Bundle, SavedFile, check_images, load_bundle, open_or_save, save_bundle, verify
from vggnb.save.spec import ARTICLE, FORMATS

__all__ = [
    "ARTICLE", "Bundle", "FORMATS", "SavedFile", "check_images", "load_bundle", "open_or_save",
    "save_bundle", "verify",
]  # fmt: skip
