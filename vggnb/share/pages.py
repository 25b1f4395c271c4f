"""The files of a page that runs a model in the browser, and serving them on this machine.

Everything that comes from a run (names of classes, sentences) is escaped by the template; the scripts set text, never
HTML. The Content-Security-Policy lets the page run its own scripts and load its own files, nothing else.
"""

import base64
import contextlib
import hashlib
import http.server
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from vggnb.folders import shown
from vggnb.images import MAX_BYTES, MAX_PIXELS
from vggnb.metrics import METRICS
from vggnb.predict import Rule
from vggnb.save.bundle import NOT_A_DEVICE, Bundle
from vggnb.storage import VggnbError, storage_errors

if TYPE_CHECKING:
    from vggnb.share import SharedPage

HERE = Path(__file__).parent
RUNTIME = HERE / "runtime"
CODE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"  # of the npm package onnxruntime-web
GRAPH, NOTICES = "model.onnx", "notices.txt"
TEXTS = ("page.css", "pixels.js", "page.js")
FILES = {"index.html", *TEXTS, CODE, WASM, GRAPH, NOTICES}  # of a page; nothing else is ever overwritten
BEGINNING = "<!DOCTYPE html>\n<!-- A page that vggnb share wrote -->"
CREDITS = """The ImageNet weights of VGG-16: Karen Simonyan and Andrew Zisserman, Visual Geometry Group, Oxford;
Creative Commons Attribution 4.0 (https://creativecommons.org/licenses/by/4.0/); retrained and rounded here.

The page: vggnb, MIT licence.

ONNX Runtime Web, and what it contains:

"""
HOST = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
    ".wasm": "application/wasm", ".txt": "text/plain; charset=utf-8", "": "application/octet-stream",
}  # fmt: skip


def read_runtime() -> dict[str, bytes]:
    """The files of a page that come from npm, by name.

    Raises:
        VggnbError: they were not fetched.
    """
    with storage_errors(RUNTIME):
        if not all((RUNTIME / name).is_file() for name in (CODE, WASM)):
            what = "ONNX Runtime Web, which runs the model in a browser, is not in this copy of vggnb."
            raise VggnbError(what, RUNTIME, "Run make web in the checkout (it needs npm), or install a wheel of vggnb.")
        return {name: (RUNTIME / name).read_bytes() for name in (CODE, WASM)}


def page_files(
    bundle: Bundle, rule: Rule, card: dict, page: "SharedPage", binaries: dict[str, bytes], single_file: bool
) -> dict[str, bytes]:
    """Name -> bytes of all files of a page, `index.html` first.

    Args:
        page: the comparison that the page states.
        binaries: the runtime and the graph, by name.
    """
    texts = {name: (HERE / "page" / name).read_text("utf-8") for name in TEXTS}
    notices = CREDITS + _licences()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else shown(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("index.html").render(
        beginning=Markup(BEGINNING),
        name=card["name"],
        card=card,
        medical=card["purpose"] == NOT_A_DEVICE,
        rule=rule,
        about=_about(bundle, rule, binaries),
        page=page,
        metric_names=METRICS,
        megabytes=round(sum(map(len, binaries.values())) / 1e6),
        single_file=single_file,
        texts={name: Markup(text) for name, text in texts.items()},
        hashes={name: _integrity(text.encode()) for name, text in texts.items()},
        inside={name: base64.b64encode(data).decode() for name, data in binaries.items()},
        notices=notices,
    )
    index = {"index.html": html.encode("utf-8", "surrogateescape")}
    beside = {name: text.encode() for name, text in texts.items()} | binaries | {NOTICES: notices.encode()}
    return index if single_file else index | beside


def _about(bundle: Bundle, rule: Rule, binaries: dict[str, bytes]) -> dict:
    """What the scripts must know of the model."""
    point = {"positive": shown(rule.positive), "threshold": rule.threshold} if rule.threshold is not None else None
    parts = {"code": CODE, "wasm": WASM, "graph": GRAPH}
    return {
        "classes": list(map(shown, bundle.classes)),
        "size": bundle.recipe.image_size,
        "resize": bundle.recipe.resize,
        "limit": bundle.ranges.limit if bundle.ranges else None,
        "rule": point,
        "most": {"bytes": MAX_BYTES, "pixels": MAX_PIXELS},
        "files": {kind: {"name": name, "integrity": _integrity(binaries[name])} for kind, name in parts.items()},
    }


def _integrity(data: bytes) -> str:
    """A hash as the web writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(data).digest()).decode()}"


def _licences() -> str:
    """ONNX Runtime's licence and those of what it contains, from its Python package."""
    import onnxruntime

    paths = (Path(onnxruntime.__file__).parent / name for name in ("LICENSE", "ThirdPartyNotices.txt"))
    return "\n\n".join(path.read_text("utf-8", "replace") for path in paths if path.is_file())


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = TYPES

    def log_message(self, *_):
        pass


def serve_page(folder: Path, tell: Callable[[str], None]) -> None:
    """Serve a page on this machine only, at a free port, until interrupted.

    Args:
        tell: gets the sentence with the address.
    """
    with http.server.ThreadingHTTPServer((HOST, 0), partial(_Handler, directory=str(folder))) as server:
        tell(f"Open http://{HOST}:{server.server_port}/ in a browser on this machine. Ctrl+C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
