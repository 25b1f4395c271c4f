"""How Sphinx makes the site; `docs/build.py` calls it. Nothing here reaches the network, nor do the pages."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs"), str(ROOT)]  # `pages`, and vggnb from this checkout

from sphinx.ext.autodoc.mock import _MockObject  # noqa: E402

from vggnb import __version__  # noqa: E402

_MockObject.__or__ = lambda self, other: self  # an annotation such as keras.Model | None

project = "vggnb"
author = "the vggnb authors"
copyright = "the vggnb authors"
version = release = __version__
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxarg.ext",
    "pages",
]
exclude_patterns = ["README.md"]  # parts of it are included
suppress_warnings = ["myst.header"]  # a page may go from its title to a third-level heading

# The notebooks: executed already (make notebooks), and cleaned by `pages`.
nb_execution_mode = "off"
nb_custom_formats = {".ipynb": "pages.read"}
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"  # of blocks without a language
html_math_renderer = "mathml"  # by the browser itself: no MathJax
copybutton_prompt_text = "$ "

# The library: signatures and docstrings; what is heavy is not imported.
autodoc_mock_imports = ["tensorflow", "keras", "ray", "onnx", "onnxruntime"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "literal"  # single backticks are code
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "vggnb"
html_favicon = "icon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_theme_options = {
    "home_page_in_toc": True,
    **dict.fromkeys(("navbar_start", "navbar_center", "navbar_end", "navbar_persistent"), []),  # no bar above the page
    "max_navbar_depth": 1,  # modules are listed on their page
    "show_toc_level": 2,
    "use_fullscreen_button": False,
    "use_sidenotes": False,
    "footer_content_items": ["copyright.html", "extra-footer.html"],
    "extra_footer": "<p>This teaches a method. It is not a diagnostic device.</p>",
}

# The Colab button, only where the owner of a published copy has named it: https://github.com/OWNER/NAME[@TAG].
_repository, _, _ref = os.environ.get("VGGNB_REPOSITORY", "").strip().rstrip("/").partition("@")
if _repository:
    html_theme_options |= {
        "repository_url": _repository,
        "repository_branch": _ref or f"v{__version__}",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }
