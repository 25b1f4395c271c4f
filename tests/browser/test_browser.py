"""A real browser: JupyterLab and the app in headless Chromium, controls moved as a person would."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: make browser"),
]
ROOT = Path(__file__).resolve().parents[2]
SHOTS = Path(__file__).parent / "screenshots"
PHOTO = ROOT / "data/sample/test"
TIMEOUT = 150_000  # milliseconds


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process):
    """Asking for the page itself would start a kernel."""
    for _ in range(240):
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.25)
    pytest.fail(f"port {port} does not answer")


def wait_for(address, process):
    for _ in range(240):
        assert process.poll() is None, "the server ended"
        try:
            return urllib.request.urlopen(address, timeout=2).status
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"{address} does not answer")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    own = {"VGGNB_HOME": str(tmp_path_factory.mktemp("home")), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own, "VGGNB_PROFILE": "quick", "VGGNB_WEIGHTS": "offline", "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="module")
def lab(environment, tmp_path_factory):
    """JupyterLab's address over a folder with copies of the pages, and the folder."""
    folder, port = tmp_path_factory.mktemp("pages"), free_port()
    for page in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        shutil.copy(page, folder)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--IdentityProvider.token=", "--expose-app-in-browser", "--log-level=ERROR"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    wait_for(f"http://127.0.0.1:{port}/lab", process)
    yield f"http://127.0.0.1:{port}", folder
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(exist_ok=True)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def open_page(browser, address):
    page = browser.new_page(viewport={"width": 1200, "height": 1400})
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    return page


def run_all(page, name):
    """Run every cell of the open notebook and give the errors."""
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    errors = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
        .flatMap(cell => cell.outputs || []).filter(o => o.output_type == 'error').map(o => o.evalue)"""
    done = """() => { const cells = window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
        .filter(cell => cell.cell_type == 'code');
        return document.querySelectorAll('.jp-InputPrompt').length &&
          window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'idle' && window.__started }"""
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'busy'", timeout=30_000
    )
    page.evaluate("() => { window.__started = true }")
    page.wait_for_function(done)
    page.wait_for_timeout(1500)
    page.screenshot(path=SHOTS / f"{name}.png")
    return page.evaluate(errors)


def move_and_read(page):
    """Move the threshold slider with the keyboard; what the sentence said before and after."""
    words = page.get_by_text("is said from probability").first
    words.scroll_into_view_if_needed()
    before = words.inner_text()
    page.locator(".noUi-handle").first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("old => !document.body.innerText.includes(old)", arg=before)
    return before, page.get_by_text("is said from probability").first.inner_text()


def upload(page, tmp_path):
    """Hand in a good and a broken picture; wait for both answers."""
    good, broken = next(PHOTO.rglob("*.jpg")), tmp_path / "broken.jpg"
    broken.write_bytes(good.read_bytes()[:300])
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=re.compile("Upload")).first.click()
    chooser.value.set_files([str(good), str(broken)])
    page.get_by_text("where the model looked").or_(page.get_by_alt_text("where the model looked")).first.wait_for()
    return good.name, page.locator(".widget-html", has_text="broken.jpg").first.inner_text()


@pytest.fixture(scope="module")
def trained(environment):
    """A run on the sample, where the pages look for it."""
    out = Path(environment["VGGNB_HOME"]) / "runs" / "app"
    command = [sys.executable, "-m", "vggnb", "run", "--out", str(out), "--quiet"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return out


def test_the_app(browser, environment, trained, tmp_path):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "vggnb", "app", str(trained), "--port", str(port)], env=environment
    )
    try:
        wait_for_port(port, process)
        page = open_page(browser, f"http://127.0.0.1:{port}/")
        page.get_by_text("is said from probability").first.wait_for()
        before, after = move_and_read(page)
        assert before != after and "0.50" in before
        name, words = upload(page, tmp_path)
        page.screenshot(path=SHOTS / "app.png", full_page=True)
        assert name in words and "broken.jpg: The file is" in words
        assert re.search(r"benign\s+[01]\.\d\d", words)
    finally:
        process.send_signal(2)
        process.wait(20)


@pytest.mark.parametrize("stem", ["02_census", "06_evaluate", "08_predict"])
def test_a_page_runs_in_jupyterlab(browser, lab, stem, tmp_path):
    address, _ = lab
    page = open_page(browser, f"{address}/lab/tree/{stem}.ipynb?reset")
    assert run_all(page, stem) == []
    if stem == "08_predict":
        name, words = upload(page, tmp_path)
        page.screenshot(path=SHOTS / "08_upload.png")
        assert name in words and "broken.jpg: The file is" in words
    page.close()
