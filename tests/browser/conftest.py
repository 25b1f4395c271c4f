"""Servers and a headless Chromium for the tests in a real browser: each starts once, what it writes is temporary."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from browsing import CHROMIUM, ROOT, SHOTS, TIMEOUT_MS, answers, free_port

SETTINGS = {  # every cell is in the page, and no question pops up
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of all servers: a home of their own, the quick profile, and nothing of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VGGNB_", "JUPYTER"))}
    own = {"VGGNB_PROFILE": "quick", "VGGNB_WEIGHTS": "offline", "VGGNB_THREADS": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}
    folders = {
        name: str(tmp_path_factory.mktemp(name.lower()))
        for name in ("VGGNB_HOME", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_RUNTIME_DIR")
    }
    for name, setting in SETTINGS.items():
        path = Path(folders["JUPYTERLAB_SETTINGS_DIR"]) / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    return kept | own | folders | {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}


@pytest.fixture(scope="session")
def serve(environment):
    """A function: command (with its port), port -> the address, when it answers. All servers end with the session."""
    running = []

    def serve(command, port, **options):
        process = subprocess.Popen([sys.executable, "-m", *command], env=environment, **options)
        running.append((process, port))
        end = time.monotonic() + TIMEOUT_MS / 1000
        while not answers("127.0.0.1", port):  # asking for a page of the app would start a kernel
            assert process.poll() is None, f"{command[0]} ended with {process.poll()}"
            assert time.monotonic() < end, f"{command[0]} does not answer"
            time.sleep(0.1)
        return f"http://127.0.0.1:{port}"

    yield serve
    for process, _ in running:
        process.terminate()
    for process, port in running:
        process.wait()
        assert not answers("127.0.0.1", port), "a server outlives the command that started it"


@pytest.fixture(scope="session")
def lab(serve, tmp_path_factory):
    """JupyterLab over a folder with copies of the pages: (address, folder)."""
    folder, port = tmp_path_factory.mktemp("pages"), free_port()
    for page in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        shutil.copy(page, folder)
    command = ["jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--expose-app-in-browser", "--log-level=CRITICAL"]
    return serve(command, port, cwd=folder), folder


@pytest.fixture(scope="session")
def trained(environment):
    """A run on the sample, where the pages look for it."""
    folder = Path(environment["VGGNB_HOME"]) / "runs" / "sample" / "best"
    command = [sys.executable, "-m", "vggnb", "train", "sample", "--out", str(folder), "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: make browser")
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir()
    sync_api.expect.set_options(timeout=TIMEOUT_MS / 3)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """A function: address -> the page there. No page may ever open a dialog, as an injected script would."""
    pages, dialogs = [], []

    def visit(address):
        page = chromium.new_page(viewport={"width": 1200, "height": 1500})
        page.set_default_timeout(TIMEOUT_MS)
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        pages.append(page)
        return page

    yield visit
    for page in pages:
        page.close()
    assert dialogs == []
