"""The page of `vggnb share` in a real browser: the same pixels and classes as in Python, and no request elsewhere."""

import base64
import json
import re
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
pytest.importorskip("onnxruntime", reason="needs the extra export")
from browsing import ROOT, SHOTS  # noqa: E402
from zoo import encoded, turned  # noqa: E402

from vggnb.images import read_image  # noqa: E402
from vggnb.predict import open_model, predict_files  # noqa: E402
from vggnb.share import CODE, FILES, LIMITS, RUNTIME, WASM, share_page  # noqa: E402

MISSING = [name for name in (CODE, WASM) if not (RUNTIME / name).is_file()]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason="needs npm: make web")]
HOSTILE = "broken <img src=x onerror=alert(1)>.jpg"
REFUSED = {HOSTILE: "cut short", "empty.jpg": "empty", "huge.png": "60000 x 60000", "page.png": "Not an image"}
REFUSED |= {"print.jpg": "CMYK", "deep.png": "16 bits"}
READ = """async ([data, size, resize]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  return Array.from(resized(await decoded(new File([bytes], "one"), about.most), size, resize));
}"""


@pytest.fixture(scope="module")
def files(draw, tmp_path_factory):
    """Images of the kinds that people have, and files that must be refused."""
    folder, random = tmp_path_factory.mktemp("files"), np.random.default_rng(5)
    photo = draw(random, 1, (130, 90))
    soft = Image.fromarray(np.tile(np.arange(0, 260, 2, dtype=np.uint8), (90, 1)))
    clear = photo.copy()
    clear.putalpha(soft)
    good = {
        "plain.jpg": photo, "plain.png": photo, "plain.webp": photo, "plain.gif": photo, "plain.bmp": photo,
        "grey.jpg": photo.convert("L"), "grey.png": photo.convert("L"), "palette.png": photo.quantize(16),
        "transparent.png": clear, "transparent.webp": clear,
    }  # fmt: skip
    for name, image in good.items():
        image.save(folder / name)
    photo.resize((1300, 900)).save(folder / "large.jpg", quality=90)
    for orientation in (2, 6, 8):
        (folder / f"turned{orientation}.jpg").write_bytes(turned(orientation, orientation))
    photo.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / HOSTILE).write_bytes((folder / "plain.jpg").read_bytes()[:900])
    (folder / "empty.jpg").touch()
    (folder / "huge.png").write_bytes(resized_header(encoded(np.zeros((9, 9, 3), np.uint8)), 60_000))
    (folder / "page.png").write_bytes(b"<!doctype html><title>no image at all</title>")
    return sorted(folder.iterdir())


def resized_header(png: bytes, side: int) -> bytes:
    """A PNG that claims to be a square of so many pixels a side."""
    head = png[12:16] + struct.pack(">II", side, side) + png[24:29]  # the chunk IHDR: type, width, height, the rest
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


@pytest.fixture(scope="module")
def served(best_run, tmp_path_factory):
    """`vggnb share --serve`: its address, and the document that it printed."""
    folder = tmp_path_factory.mktemp("shared") / "page"
    command = [sys.executable, "-m", "vggnb", "share", best_run[0].folder, "--to", folder, "--serve", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        document = json.loads(process.stdout.readline())
        found = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in process.stderr)
        yield next(filter(None, found))[0], document
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def choose(page, files):
    """Choose files; name -> the answer, or the sentence why there is none."""
    sync_api.expect(page.get_by_role("status")).to_have_text("Ready: choose images.")
    page.get_by_label("Choose images").set_input_files([str(path) for path in files])
    items = page.locator("#results > li")
    sync_api.expect(items.locator(".predicted, .refused")).to_have_count(len(files))
    found = {}
    for item in items.all():
        answer, name = item.get_attribute("data-answer"), item.locator(".name").inner_text()
        found[name] = json.loads(answer) if answer else item.locator(".refused").inner_text()
    return found


@pytest.mark.parametrize("form", ["folder", "single file"])
def test_a_page_predicts_what_python_does(form, visit, best_run, served, files, request, tmp_path):
    if form == "folder":
        address = served[0]
    else:
        share_page(best_run[0].folder, tmp_path / "page", single_file=True, progress=False)
        address = (tmp_path / "page" / "index.html").as_uri()
    page, requests, problems = visit("about:blank"), [], []
    page.on("request", lambda one: requests.append(one.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    found = choose(page, files)
    good = [path for path in files if path.name not in REFUSED]
    bundle = open_model(best_run[0].folder)
    for path, ours in zip(good, predict_files(bundle, good), strict=True):
        theirs, expected = found.pop(path.name), [ours.probabilities[name] for name in bundle.classes]
        assert theirs["class"] == ours.class_name, path.name
        assert np.abs(np.subtract(theirs["probabilities"], expected)).max() <= LIMITS["int8"], path.name
    assert found.keys() == REFUSED.keys() and all(words in found[name] for name, words in REFUSED.items())
    assert problems == []
    own = {address, *(address + name for name in FILES)} if form == "folder" else {address}
    assert {url for url in requests if not url.startswith("blob:")} <= own
    page.screenshot(path=SHOTS / f"share_{form.replace(' ', '_')}.png", full_page=True)
    page.get_by_role("button", name="Remove all").press("Enter")
    sync_api.expect(page.locator("#results > li")).to_have_count(0)
    sync_api.expect(page.get_by_label("Choose images")).to_be_focused()


def test_a_page_has_the_pixels_of_python(visit, served, files):
    page = visit(served[0])
    for path in (path for path in files if path.name not in REFUSED):
        data = base64.b64encode(path.read_bytes()).decode()
        for size, resize in ((32, "bilinear"), (97, "bilinear"), (41, "nearest")):
            found = np.array(page.evaluate(READ, [data, size, resize])).reshape(size, size, 3)
            apart = np.abs(found - read_image(path, size=size, resize=resize).astype(int)).max()
            # A large JPEG is decoded at reduced size in Python; transparency is rounded by the browser.
            bound = {"large.jpg": 6, "transparent.webp": 1, "transparent.png": 1}.get(path.name, 0)
            assert apart <= bound, (path.name, size, resize, apart)


def test_a_page_without_its_model_says_so(visit, served):
    page = visit((Path(served[1]["folder"]) / "index.html").as_uri())  # a folder cannot be opened as a file
    sync_api.expect(page.get_by_role("status")).to_contain_text("Put its folder on a web server")
    page = visit("about:blank")
    page.route("**/model.onnx", lambda route: route.fulfill(body=b"damaged on its way"))
    page.goto(served[0])
    sync_api.expect(page.get_by_role("status")).to_contain_text("could not be loaded")


def test_on_a_phone_nothing_is_wider_than_the_screen(visit, served, files):
    page = visit(served[0])
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark")
    choose(page, files[:4])
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.screenshot(path=SHOTS / "share_phone_dark.png", full_page=True)
