"""The quickstart's calls, on a small dataset with faults: what they show, what they reuse, what one takes home."""

import base64
import functools
import io
import shutil
import sys
import types
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from vggnb import colab, features, workflow
from vggnb.paths import open_workspace
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError
from vggnb.widgets import try_your_own


@pytest.fixture
def dataset(photos3, monkeypatch, tmp_path):
    """Three classes, opened; one file is no image, and one image is in two classes."""
    folder = shutil.copytree(photos3, tmp_path / "trees")
    (folder / "train" / "oak" / "notes.txt").write_text("ask Ann")
    shutil.copy(folder / "train/oak/oak_0.jpg", folder / "train/ash/oak_again.jpg")
    monkeypatch.setenv("VGGNB_WEIGHTS", "none")
    recipe = Recipe.best().with_(image_size=32)
    return workflow.open_dataset(open_workspace(dataset=folder), recipe, progress=False)


def test_a_dataset_shows_its_splits_and_its_problems(dataset):
    html, text = dataset._repr_html_(), str(dataset)
    for words in ("trees: 55 images in 3 classes", "validation", "skipped: train/oak/notes.txt", "Conflict: 1 pair"):
        assert words in html, words
    assert "train/oak/notes.txt" in text and "Conflict: 1 pair" in text and repr(dataset) == text
    many = replace(dataset, census=replace(dataset.census, skipped=21 * dataset.census.skipped))
    assert "and 16 more skipped files: print(dataset) lists the first 20" in many._repr_html_()


def test_a_link_to_a_file_holds_whatever_its_name_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a#b?.html").touch()
    assert 'href="a%23b%3F.html"' in workflow.Results((tmp_path / "a#b?.html",))._repr_html_()


def test_what_cannot_be_trained_on_is_shown_before_it_is_refused(photos, tmp_path, capsys):
    shutil.copytree(photos / "train" / "cat", tmp_path / "one" / "train" / "cat")
    with pytest.raises(VggnbError, match="at least 2 classes"):
        workflow.open_dataset(open_workspace(dataset=tmp_path / "one"), progress=False)
    assert "8 files = 8 used" in capsys.readouterr().out


def test_a_run_of_the_same_images_and_choices_is_opened_and_another_one_gets_a_folder(dataset, capsys):
    run = workflow.train(dataset, progress=False)
    assert run.folder == dataset.workspace.runs / "best"
    assert "ash, birch, oak" in run._repr_html_() and "images of train and validation" in run._repr_html_()
    before = (run.folder / "run.json").read_bytes()
    capsys.readouterr()
    again = workflow.train(dataset, progress=False)
    assert again.folder == run.folder and "Already trained" in capsys.readouterr().out
    assert (run.folder / "run.json").read_bytes() == before
    weighted = workflow.train(dataset, class_weights=True, progress=False)
    assert weighted.folder.name == "best-2" and weighted.recipe.class_weights


def _page(refused, run, folder, *, weights, **options):
    """What `share_page` does is tested elsewhere; it takes seconds."""
    if weights in refused:
        raise VggnbError(f"Too coarse in {weights}.", folder, "Mend it.")
    folder.mkdir()
    (folder / "index.html").write_text("<!DOCTYPE html>")


@pytest.mark.parametrize("where, refused", [("local", ["int8"]), ("colab", ["int8", "float16"])])
def test_take_home_writes_report_and_model_with_the_page_that_can_be_and_in_colab_downloads_both(
    own_run, where, refused, monkeypatch
):
    downloads = []
    monkeypatch.setattr(workflow, "environment", lambda: where)
    monkeypatch.setattr(colab, "download", downloads.append)
    monkeypatch.setattr("vggnb.share.share_page", functools.partial(_page, refused))
    monkeypatch.setattr("vggnb.save.saving._verified", lambda *_: {})
    results, run = workflow.take_home(own_run, progress=False), own_run.folder
    report, archive = results.files
    assert report == run / "report.html" and archive.name.endswith("-model.zip")
    assert downloads == (list(results.files) if where == "colab" else [])
    names = {name.partition("/")[2] for name in zipfile.ZipFile(archive).namelist()}
    assert {"bundle/bundle.json", "bundle/model.safetensors"} <= names
    assert not [name for name in names if ".vggnb-tmp" in name]
    assert ("page/index.html" in names) == (where == "local")
    assert ("The web page was left out: Too coarse in float16. Mend it." in results.notes) == (where == "colab")
    assert "report.html" in str(results)
    monkeypatch.chdir(run)
    assert ('href="report.html"' in results._repr_html_()) == (where == "local"), "Colab has no links to files"


def test_a_large_photo_reaches_the_model_in_parts_in_colab(best_run, monkeypatch, draw):
    callbacks, shown = {}, []
    output = types.SimpleNamespace(register_callback=callbacks.__setitem__)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
    monkeypatch.setattr("vggnb.widgets.uploads.environment", lambda: "colab")
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    image = io.BytesIO()
    draw(np.random.default_rng(0), 1, (1800, 1600)).save(image, "BMP")  # 8.6 MB
    control = try_your_own(best_run[0])
    control._ipython_display_()
    ((name, call),) = callbacks.items()
    assert f'invokeFunction("{name}"' in shown[0]["text/html"] and "{{" not in shown[0]["text/html"]
    data = image.getvalue()
    call("photo.bmp", "AAAA", 0)  # an upload that failed
    for number, start in enumerate(range(0, len(data), 600_000)):
        call("photo.bmp", base64.b64encode(data[start : start + 600_000]).decode(), number)
    html = call().data["html"]
    assert "photo.bmp" in html and "<table>" in html and "cat" in html
    assert "cannot" not in str(control) and control.files == {}


def test_a_long_computation_is_announced_with_what_would_make_it_faster(monkeypatch, capsys):
    monkeypatch.setattr(features, "environment", lambda: "colab")
    monkeypatch.setattr(features, "device_words", lambda: "2 CPU cores, no GPU seen")
    features._announce(20, 100, "float32")
    assert capsys.readouterr().out == ""
    features._announce(150, 600, "float32")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "600 images pass through VGG-16 once: about 2 minutes (2 CPU cores, no GPU seen, float32)."
    assert "Runtime > Change runtime type > T4 GPU" in second
    monkeypatch.setattr(features, "device_words", lambda: "2 CPU cores, 1 NVIDIA GPU")
    features._announce(150, 600, "float16")
    assert "T4" not in capsys.readouterr().out
