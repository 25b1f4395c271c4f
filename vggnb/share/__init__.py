"""A trained model as a web page that runs in the reader's browser: nothing is installed, and no image is sent anywhere.

`page/` is the template with its style and scripts; `runtime/` is ONNX Runtime Web, which `make web` fetches and every
wheel holds. Everything that comes from a run (names of classes, sentences) is escaped by the template; the scripts set
text, never HTML. The Content-Security-Policy lets the page run its own scripts and load its own files, nothing else.
"""

import base64
import contextlib
import hashlib
import http.server
import importlib.util
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from vggnb.folders import counted, is_system, shown
from vggnb.images import MAX_BYTES, MAX_PIXELS, read_image
from vggnb.machine import environment, tqdm
from vggnb.metrics import METRICS
from vggnb.predict import Rule, choose_rule, open_model
from vggnb.save.bundle import CARD, INSTALL, NOT_A_DEVICE, Bundle, check_images, load_export, read_manifest
from vggnb.storage import (
    VggnbError,
    check_no_address,
    make_folder,
    read_json,
    replacing,
    sha256_bytes,
    storage_errors,
    write_bytes,
)  # fmt: skip

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
LIMITS = {"int8": 0.05, "float16": 0.005, "float32": 0.0005}  # of the change of a probability
MOST_IMAGES = 120  # that are compared
BATCH = 16


@dataclass(frozen=True)
class SharedPage:
    """What `share_page` wrote, and how the page's model compares with the one in Python."""

    folder: str
    files: tuple[dict, ...]  # path, bytes and sha256 of each
    weights: str
    bytes: int
    compared_on: str  # a description of the images
    images_compared: int
    same_class: int  # number of images
    max_difference: float  # the largest, of a probability

    @property
    def comparison(self) -> str:
        """The comparison in a sentence."""
        same = f"the same class for {self.same_class} of {self.images_compared}"
        text = f"Compared with the model in Python on {self.images_compared} {self.compared_on}: {same}; "
        return text + f"largest difference in probability {self.max_difference:.4f}."

    def __str__(self) -> str:
        size = f"{self.bytes / 1e6:.1f} MB in {counted(len(self.files), 'file')}, weights in {self.weights}"
        use = "Open its index.html, or put it" if len(self.files) == 1 else "Put the folder"
        return f"The page is in {self.folder}: {size}.\n{self.comparison}\n{use} on any static web host."

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self) | {"files": list(self.files)}


def share_page(
    run_or_bundle: Path, folder: Path, *, weights: str = "int8", single_file: bool = False, progress: bool = True
) -> SharedPage:
    """Write a web page that runs a model in the browser, offline.

    The page's model is compared with the one in Python before anything is written.

    Args:
        run_or_bundle: folder of a trained run, or of a bundle; only a run (or a bundle in one) knows the images of its
            dataset, with which the page's model is verified.
        folder: new, empty, or an earlier page, which is replaced. Any static web host can serve it.
        weights: how they are stored: "int8" (16 MB), "float16" (30 MB) or "float32" (59 MB).
        single_file: write one index.html with everything inside, which also opens by double click.

    Raises:
        VggnbError: no such model or weights, a folder that holds something else, ONNX or the page's runtime is not
            installed, or the probabilities of the page's model are too different.
    """
    if weights not in LIMITS:
        raise VggnbError(f"There are no weights '{weights}'.", "--weights", f"Use {', '.join(LIMITS)}.")
    check_no_address(folder, "The page", "--to")
    folder, path = Path(folder).absolute(), Path(run_or_bundle)
    with storage_errors(RUNTIME):
        is_there = all((RUNTIME / name).is_file() for name in (CODE, WASM))
    if not is_there:
        what = "ONNX Runtime Web, which runs the model in a browser, is not in this copy of vggnb."
        raise VggnbError(what, RUNTIME, "Run make web in the checkout (it needs npm), or install a wheel of vggnb.")
    _need_onnx()
    from vggnb.share.graph import classifier_graph

    run = _run_of(path)
    if run:
        from vggnb.save.saving import check_place

        check_place(folder, run, "The page")
    _check_replaceable(folder)
    bundle = open_model(path, precision="float32")  # so does the page compute
    rule = choose_rule(bundle, "chosen" if bundle.threshold else None)
    graph = classifier_graph(bundle.model, bundle.recipe, bundle.ranges, weights=weights).SerializeToString()
    with tempfile.TemporaryDirectory(prefix="vggnb-") as scratch:
        write_bytes(Path(scratch) / GRAPH, graph)
        found = _compared(bundle, rule, load_export("onnx", Path(scratch) / GRAPH), run, progress)
    if not found["max_difference"] <= LIMITS[weights]:  # nan is wrong, too
        change = f"With weights in {weights}, a probability changes by {found['max_difference']:.3f}"
        remedy = "Use --weights float16, which is twice as large." if weights == "int8" else "Please report this."
        raise VggnbError(f"{change}; nothing was written.", path, remedy)
    if run:
        from vggnb.save.card import build_card

        card = build_card(run, run.manifest.dataset.name.strip("_"))  # with its latest results
    else:
        card = read_json(bundle.folder / CARD)
    page = SharedPage(str(folder), (), weights, 0, **found)
    with storage_errors(RUNTIME):
        binaries = {name: (RUNTIME / name).read_bytes() for name in (CODE, WASM)} | {GRAPH: graph}
    files = page_files(bundle, rule, card, page, binaries, single_file)
    make_folder(folder)
    with contextlib.ExitStack() as together:  # a full disk leaves the earlier page; index.html is replaced first
        for name, data in reversed(files.items()):
            with storage_errors(folder / name):
                together.enter_context(replacing(folder / name)).write_bytes(data)
    with storage_errors(folder):
        for name in FILES - files.keys():
            (folder / name).unlink(missing_ok=True)
    written = [{"path": name, "bytes": len(data), "sha256": sha256_bytes(data)} for name, data in files.items()]
    return replace(page, files=tuple(written), bytes=sum(map(len, files.values())))


def _need_onnx() -> None:
    """Refuse to begin without onnx and onnxruntime; on Colab, pip installs them."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing and environment() == "colab":
        print(f"Installing {' and '.join(missing)} ...")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=False)
        importlib.invalidate_caches()
        missing = [name for name in missing if importlib.util.find_spec(name) is None]
    if missing:
        raise VggnbError(f"Not installed: {' and '.join(missing)}.", "share", INSTALL)


def _run_of(path: Path):
    """The run in this folder, or the one around this bundle if it still is of this model; None for other bundles."""
    from vggnb.train import open_run

    if (path / "run.json").is_file():
        return open_run(path)
    if ((around := path.absolute().parent) / "run.json").is_file():
        run = open_run(around)
        if run.model_sha256() == read_manifest(path)["model_sha256"]:
            return run
    return None


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but a page."""
    with storage_errors(folder):
        names = [one.name for one in folder.iterdir() if not is_system(one.name)] if folder.exists() else []
        index = folder / "index.html"
        ours = index.is_file() and index.read_bytes()[: len(BEGINNING)] == BEGINNING.encode()
    if other := sorted(set(names) - FILES) if ours else names:
        what = f"This folder holds something other than a page: {shown(other[0])}."
        raise VggnbError(what, folder, f"Name a new folder, such as --to {folder / 'page'}.")


def _compared(bundle: Bundle, rule: Rule, forward: Callable, run, progress: bool) -> dict:
    """The page's model beside the bundle's, on images of validation and test; on random ones where there are none."""
    rows = [row for row in run.manifest.rows if row.split != "train"] if run else []
    images, words = [], "images of the dataset's validation and test splits"
    for row in rows[:: math.ceil(len(rows) / MOST_IMAGES) or 1]:
        with contextlib.suppress(VggnbError):
            path = run.manifest.dataset / row.path
            images.append(read_image(path, size=bundle.recipe.image_size, resize=bundle.recipe.resize))
    if not images:
        images, words = list(check_images(bundle.recipe.image_size)), "random images (the dataset is not here)"
    pairs = []
    with tqdm(total=len(images), desc="Comparing", unit="image", disable=not progress) as bar:
        for start in range(0, len(images), BATCH):
            batch = np.stack(images[start : start + BATCH])
            pairs.append((bundle.forward(batch)[0], forward(batch)[0]))
            bar.update(len(batch))
    python, page = (np.concatenate(side) for side in zip(*pairs, strict=True))

    def predicted(probabilities: np.ndarray) -> str:
        return next(iter(rule.ranked(dict(zip(bundle.classes, probabilities, strict=True)))))

    return {
        "compared_on": words,
        "images_compared": len(images),
        "same_class": sum(predicted(one) == predicted(other) for one, other in zip(python, page, strict=True)),
        "max_difference": float(np.abs(python - page).max()),
    }


def page_files(
    bundle: Bundle, rule: Rule, card: dict, page: SharedPage, binaries: dict[str, bytes], single_file: bool
) -> dict[str, bytes]:
    """Name -> bytes of all files of a page, `index.html` first; `binaries` are the runtime and the graph, by name."""
    import onnxruntime

    licences = (Path(onnxruntime.__file__).parent / name for name in ("LICENSE", "ThirdPartyNotices.txt"))
    notices = CREDITS + "\n\n".join(path.read_text("utf-8", "replace") for path in licences if path.is_file())
    texts = {name: (HERE / "page" / name).read_text("utf-8") for name in TEXTS}
    parts = {"code": CODE, "wasm": WASM, "graph": GRAPH}
    decision = None  # the most probable class
    if rule.threshold is not None:
        decision = {"positive": shown(rule.positive), "threshold": rule.threshold}
    about = {  # what the scripts must know of the model
        "classes": list(map(shown, bundle.classes)),
        "size": bundle.recipe.image_size,
        "resize": bundle.recipe.resize,
        "limit": bundle.ranges.limit if bundle.ranges else None,
        "rule": decision,
        "most": {"bytes": MAX_BYTES, "pixels": MAX_PIXELS},
        "files": {kind: {"name": name, "integrity": _integrity(binaries[name])} for kind, name in parts.items()},
    }
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else shown(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = templates.get_template("index.html").render(
        beginning=Markup(BEGINNING),
        name=card["name"],
        card=card,
        medical=card["purpose"] == NOT_A_DEVICE,
        rule=rule,
        about=about,
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


def _integrity(data: bytes) -> str:
    """A hash as the web writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(data).digest()).decode()}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # whatever this machine takes these endings for
        ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
        ".wasm": "application/wasm", ".txt": "text/plain; charset=utf-8", "": "application/octet-stream",
    }  # fmt: skip

    def log_message(self, *_):
        pass


def serve_page(folder: Path, tell: Callable[[str], None]) -> None:
    """Serve a page on this machine only, at a free port, until interrupted; `tell` gets a sentence with the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        tell(f"Open http://127.0.0.1:{server.server_port}/ in a browser on this machine. Ctrl+C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
