"""A real browser: the pages in JupyterLab, and the app, in headless Chromium; controls moved as a person would.

Screenshots of everything lie in tests/browser/screenshots afterwards.
"""

import csv
import re

import numpy as np
import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
from browsing import SHOTS, Notebook, answers, free_port  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = "broken <img src=x onerror=alert(1)>.jpg"


# JupyterLab


def browse(notebook, *_):
    """Page 2: choose a class and turn a page."""
    control = notebook.output(re.compile(r"images \d+ to \d+ of"))
    control.locator("select").nth(1).select_option("malignant")
    sync_api.expect(control).to_contain_text("train, malignant: images 1 to 12 of")
    before = control.locator("img").get_attribute("src")
    control.get_by_label("page").fill("2")
    control.get_by_label("page").press("Enter")
    sync_api.expect(control).to_contain_text("train, malignant: images 13 to 24 of")
    sync_api.expect(control.locator("img")).not_to_have_attribute("src", before)
    control.screenshot(path=SHOTS / "02_browser.png")


def preview(notebook, *_):
    """Page 3: another batch, mirrored."""
    control = notebook.output(re.compile(r"epoch \d+, batch \d+ of"))
    control.locator("select").select_option("mirrored, no rotation")
    sync_api.expect(control).to_contain_text(re.compile(r"batch 1 of \d+, mirrored, no rotation: 32 images"))
    control.get_by_label("batch").fill("2")
    control.get_by_label("batch").press("Enter")
    sync_api.expect(control).to_contain_text(re.compile(r"batch 2 of \d+, mirrored, no rotation: \d+ images"))
    control.screenshot(path=SHOTS / "03_batches.png")


def watched(notebook, *_):
    """Page 5: the dashboard shows how it ended."""
    control = notebook.output("epoch 50 of 50")
    sync_api.expect(control).to_contain_text("s in all")
    sync_api.expect(control.locator("img")).to_be_visible()
    control.screenshot(path=SHOTS / "05_training.png")


def move(notebook, run, _):
    """Page 6: the threshold."""
    move_threshold(notebook.page, run)
    notebook.output("is predicted from probability").screenshot(path=SHOTS / "06_threshold.png")


def try_photos(notebook, _, folder):
    """Page 8: a good and a broken photo."""
    upload(notebook.page, photos(folder))
    notebook.output("Grad-CAM, ").screenshot(path=SHOTS / "08_upload.png")


ACTIONS = {"02_census": browse, "03_generators": preview, "05_train": watched, "06_evaluate": move}
ACTIONS |= {"08_predict": try_photos}


@pytest.mark.parametrize("stem", ACTIONS)
def test_a_page_runs_in_jupyterlab_and_its_control_answers(stem, visit, lab, request, tmp_path):
    run = request.getfixturevalue("trained") if stem >= "06" else None
    notebook = Notebook(visit, lab[0], f"{stem}.ipynb")
    notebook.start()
    notebook.wait()
    assert notebook.errors() == [] and notebook.not_run() == []
    notebook.shoot(stem)
    text = notebook.page.locator(".jp-Notebook").inner_text()
    assert "Loading widget" not in text and "Error displaying widget" not in text
    ACTIONS[stem](notebook, run, tmp_path)
    notebook.shut_down()


STOPPED = """
from vggnb.census import open_manifest
from vggnb.features import extract
from vggnb.model import build_base
from vggnb.paths import open_workspace
from vggnb.recipe import Recipe
from vggnb.train import fit, start_run
from vggnb.widgets import TrainingProgress

ws = open_workspace()
manifest, recipe = open_manifest(ws), Recipe.article().with_(image_size=32, epochs=50_000)
base, source = build_base(recipe, "none")
features = extract(manifest, recipe, base, source, store=ws.features, progress=False)
run = start_run(ws.runs / "stopped", manifest, recipe, weights="none", source=source)
history = fit(run, features, progress=TrainingProgress)
"""


def test_curves_grow_and_the_stop_button_of_the_notebook_ends_a_training(visit, lab):
    nbformat = pytest.importorskip("nbformat")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}  # without it, JupyterLab asks
    cells = [nbformat.v4.new_code_cell(STOPPED.strip())]
    page = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(page, lab[1] / "stopped.ipynb")
    notebook = Notebook(visit, lab[0], "stopped.ipynb")
    notebook.start()
    control = notebook.output(re.compile(r"epoch \d+ of 50000"))
    sync_api.expect(control.locator("img")).to_be_visible()  # at least two epochs are done
    control.screenshot(path=SHOTS / "training.png")
    notebook.interrupt()
    notebook.wait()
    assert len(notebook.errors()) == 1
    notebook.shut_down()


# What both do. A control's words are shown after its picture, so who has read them can take a photo of both.


def photos(folder):
    """Files to upload: a soft picture, and one that is cut short under a name that would like to be a tag."""
    small = np.random.default_rng(3).integers(60, 220, (8, 10, 3)).astype(np.uint8)
    good, broken = folder / "good.jpg", folder / HOSTILE
    Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(good, quality=90)
    broken.write_bytes(good.read_bytes()[:300])
    return [good, broken]


def upload(page, files):
    """Hand in a good and a broken picture, and perhaps more; read all answers."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=re.compile("Upload")).click()
    chooser.value.set_files([str(path) for path in files])
    answer = page.locator(".widget-html", has_text="good.jpg").first
    sync_api.expect(answer.get_by_alt_text("heat map").first).to_be_visible()
    words = answer.inner_text()
    assert f"{HOSTILE}: The file is" in words  # the tag is words, and the reason is a sentence
    shares = [float(share) for share in re.findall(r"(?:benign|malignant)\s+([01]\.\d\d)", words)]
    assert len(shares) == 2 * (len(files) - 1) and shares[0] >= shares[1] and abs(sum(shares[:2]) - 1) < 0.02
    return words


def move_threshold(page, run):
    """Move the slider with the keyboard; the words then tell the matrix of the new threshold."""
    control = page.locator(".widget-vbox", has_text="is predicted from probability").last
    sync_api.expect(control).to_contain_text("from probability 0.50")
    before = control.locator("img").get_attribute("src")
    handle = control.locator(".noUi-handle").first
    for _ in range(4):
        handle.press("PageDown")
    moved = control.locator(".widget-readout").first.inner_text()
    assert 0 < float(moved) < 0.5
    sync_api.expect(control).to_contain_text(f"from probability {moved}")
    words = control.inner_text()
    found, of_found = map(int, re.search(r"sensitivity \S+ \((\d+) of (\d+)\)", words).groups())
    left, of_left = map(int, re.search(r"specificity \S+ \((\d+) of (\d+)\)", words).groups())
    assert [[left, of_left - left], [of_found - found, found]] == matrix(run, float(moved))
    assert matrix(run, float(moved)) != matrix(run, 0.5)
    sync_api.expect(control.locator("img")).not_to_have_attribute("src", before)


def matrix(run, threshold):
    """The confusion matrix on validation, counted here from what the run says."""
    counts = [[0, 0], [0, 0]]
    with open(run / "validation.csv", newline="") as file:
        for row in csv.DictReader(file):
            counts[int(row["label"])][int(float(row["malignant"]) >= threshold)] += 1
    return counts


# The app


def test_the_app(visit, serve, trained, tmp_path):
    port = free_port()
    address = serve(["vggnb", "app", str(trained), "--port", str(port)], port)
    assert not answers("127.0.0.2", port)  # bound to every address of this machine, it would
    page = visit(address)
    page.get_by_text("is predicted from probability").first.wait_for()
    move_threshold(page, trained)
    large, noise = tmp_path / "phone.jpg", np.random.default_rng(0).integers(0, 256, (2400, 3200, 3), np.uint8)
    Image.fromarray(noise).save(large, quality=99)
    assert large.stat().st_size > 12e6  # more than Jupyter takes in one message
    words = upload(page, [*photos(tmp_path), large])
    assert "phone.jpg" in words and "phone.jpg:" not in words  # no error
    assert "not a diagnostic device" in page.locator("body").inner_text()
    page.screenshot(path=SHOTS / "app.png", full_page=True)
