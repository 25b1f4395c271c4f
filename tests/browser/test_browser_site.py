"""The site in Chromium, from its files and without a network: errors, search, and whether everyone can read it."""

import os
import subprocess
import sys

import pytest
from browsing import ROOT, SHOTS

PAGES = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
READ = ("index", f"notebooks/{PAGES[2].stem}", f"notebooks/{PAGES[6].stem}", "docs/glossary", "docs/commands")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SQUEEZED = """() => [...document.querySelectorAll("article img")].filter(img =>
    Math.abs(img.naturalWidth / img.naturalHeight * img.height / img.width - 1) > 0.02).map(img => img.src)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    pytest.importorskip("myst_nb", reason="needs the extra docs: make setup")
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, str(ROOT / "docs" / "build.py"), "--to", str(folder)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def show(chromium, site):
    """A function: address in the site -> the page; at the end nothing was asked of the network, and no error shown."""
    context, trouble = chromium.new_context(viewport=DESKTOP), []

    def only_files(route):
        address = route.request.url
        if address.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            trouble.append(f"asked for {address}")
            route.abort()

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # as what is still on its way is when the next page opens
            trouble.append(f"{page.url}: no {request.url}")

    context.route("**/*", only_files)
    page = context.new_page()
    page.on("console", lambda message: trouble.append(f"{page.url}: {message.text}") if message.type == "error" else 0)
    page.on("pageerror", lambda error: trouble.append(f"{page.url}: {error}"))
    page.on("requestfailed", failed)

    def show(address):
        page.goto(address if ":" in address else f"{site.as_uri()}/{address}")
        return page

    yield show
    context.close()
    assert trouble == []


def test_every_page_opens_without_an_error(show, site):
    """That links and anchors lead somewhere is seen without a browser, in test_site.py."""
    for path in (path for path in site.rglob("*.html") if "_static" not in path.parts):
        show(path.as_uri())


@pytest.mark.parametrize("word", ["calibration", "leak", "augmentation"])
def test_search_finds(show, word):
    page = show(f"search.html?q={word}")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any("/notebooks/" in address for address in found), found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", READ)
def test_everyone_can_read(show, name, scheme):
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    page = show("about:blank")
    page.emulate_media(color_scheme=scheme)
    show(f"{name}.html")
    page.add_style_tag(content="* { transition: none !important }")  # colours are compared when they have come to rest
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    found = sync_playwright.Axe().run(page, options={"preload": False}).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], [node["html"][:200] for node in one["nodes"][:5]]) for one in serious]
    page.screenshot(path=SHOTS / f"site-{name.replace('/', '-')}-{scheme}.png")


def test_a_page_fits_a_phone(show):
    show("index.html").set_viewport_size(PHONE)
    for name in READ:
        page = show(f"{name}.html")
        page.screenshot(path=SHOTS / f"site-{name.replace('/', '-')}-phone.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        assert page.evaluate(SQUEEZED) == [], name
