"""The upload button for Colab in a real browser, where `invokeFunction` goes straight to the kernel's function."""

import os

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
from vggnb.widgets.controls import View  # noqa: E402
from vggnb.widgets.uploads import Upload  # noqa: E402

pytestmark = pytest.mark.browser
COLAB = """
window.google = {colab: {kernel: {invokeFunction: async (name, values) =>
  ({data: {"application/json": await window.receive(values)}})}}};
"""


def test_photos_of_twelve_megabytes_arrive_whole(chromium, tmp_path):
    received, calls = [], []

    def draw(files):
        received.append(dict(files))
        return View("", html=f"<p>answer {len(received)}</p>")

    upload = Upload(draw)

    def receive(values):
        calls.append(values)
        return upload.receive(*values).data

    photos = {"photo.jpg": os.urandom(12_000_001), "süß 2.png": b"x"}
    for name, data in photos.items():
        (tmp_path / name).write_bytes(data)
    page = chromium.new_page()
    page.expose_function("receive", receive)
    page.set_content(f"<script>{COLAB}</script>" + upload.button())
    for turn in (1, 2):  # a second upload begins anew
        page.locator("input").set_input_files([tmp_path / name for name in photos])
        sync_api.expect(page.get_by_text(f"answer {turn}")).to_be_visible(timeout=30_000)
        assert received[-1] == photos and len(calls) == turn * (21 + 1 + 1)
    page.close()
