"""A model as a web page: the graph computes what Keras does, and nothing is written that does not."""

import base64
import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vggnb import share
from vggnb.cli import main
from vggnb.evaluate import evaluate
from vggnb.generators import read_row
from vggnb.metrics.calibration import share_outside
from vggnb.predict import Rule
from vggnb.save import check_images
from vggnb.share import share_page
from vggnb.storage import VggnbError

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
SIZES = {"int8": 17e6, "float16": 31e6, "float32": 61e6}  # of the largest graph, in bytes
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Two small files in place of those that npm fetches: a page is written here, not opened."""
    monkeypatch.setattr(share, "RUNTIME", tmp_path / "runtime")
    share.RUNTIME.mkdir()
    for name in (share.CODE, share.WASM):
        (share.RUNTIME / name).write_bytes(name.encode())


def computed(run, weights, images):
    """What the graph of a run gives, and its size."""
    from vggnb.share.graph import classifier_graph

    data = classifier_graph(run.classifier(), run.recipe, run.ranges(), weights=weights).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return *session.run(None, {"raw_rgb": images}), len(data)


# The graph


@pytest.mark.parametrize("name", ["best_run", "article_run", "run3"])
def test_the_graph_gives_the_probabilities_of_keras(name, request):
    run = request.getfixturevalue(name)[0]
    rows = run.manifest.of("test")[:8]
    images = np.stack([read_row(run.manifest, row, run.recipe) for row in rows]).astype(np.float32)
    ours = np.array(run.classifier()(images, training=False))
    for weights, limit in {"int8": share.LIMITS["int8"], "float16": 1e-3, "float32": 1e-5}.items():
        found, _, size = computed(run, weights, images)
        assert np.abs(found - ours).max() <= limit and size < SIZES[weights]
        assert (found.argmax(axis=1) == ours.argmax(axis=1)).all()


def test_the_graph_counts_features_outside_their_range(best_run, bundle):
    images = check_images(32)
    features = bundle.forward(images)[1]
    expected = share_outside(features, bundle.ranges.low, bundle.ranges.high)
    assert expected.max() > 0.1
    assert np.abs(computed(best_run[0], "float32", images)[1] - expected).max() < 0.002


# The page


def test_a_page_and_what_it_says_of_itself(best_run, runtime, tmp_path, capsys):
    run, folder = best_run[0], tmp_path / "page"
    assert main(["share", str(run.folder), "--to", str(folder), "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"files", "weights", "bytes", "images_compared", "same_class", "max_difference"} <= document.keys()
    assert {one["path"] for one in document["files"]} == share.FILES == {path.name for path in folder.iterdir()}
    for one in document["files"]:
        data = (folder / one["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])
    assert document["bytes"] == sum(one["bytes"] for one in document["files"])
    assert document["images_compared"] == 20 == document["same_class"]  # validation and test of the fixture
    assert document["max_difference"] <= share.LIMITS["int8"] and document["weights"] == "int8"
    html = (folder / "index.html").read_text("utf-8")
    assert "the same class for 20 of 20" in html and "CC BY 4.0" in html
    assert "diagnostic" not in html  # cats and dogs
    assert "Microsoft" in (folder / "notices.txt").read_text("utf-8")
    single = share_page(run.folder, folder, single_file=True, weights="float16", progress=False)  # in its place
    assert [path.name for path in folder.iterdir()] == ["index.html"] and len(single.files) == 1
    assert single.bytes > 29e6 * 4 / 3 and single.max_difference < share.LIMITS["float16"]
    html = (folder / "index.html").read_text("utf-8")  # its policy has the hashes of the scripts and the style in it
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    inside = re.findall(r"<style>(.*?)</style>|<script>(.*?)</script>", html, re.DOTALL)
    assert len(inside) == 3 and "'self'" not in policy and "unsafe-inline" not in policy
    for pair in inside:
        hashed = base64.b64encode(hashlib.sha256("".join(pair).encode()).digest()).decode()
        assert f"'sha256-{hashed}'" in policy


def test_a_bundle_alone_is_compared_on_random_images(saved, runtime, tmp_path):
    bundle = shutil.copytree(saved[0], tmp_path / "elsewhere" / "pets")
    page = share_page(bundle, tmp_path / "page", progress=False)
    assert page.images_compared == 8 and "random images" in page.comparison


def test_a_page_decides_by_the_threshold_that_was_chosen(own_run, runtime, tmp_path):
    evaluate(own_run, "validation", sensitivity=0.9, progress=False, draws=20)
    share_page(own_run.folder, tmp_path / "page", progress=False)
    html = (tmp_path / "page" / "index.html").read_text("utf-8")
    about = json.loads(re.search(r'id="about">(.*?)</script>', html)[1])
    assert about["rule"]["positive"] == "dog" and 0 < about["rule"]["threshold"] < 1
    assert "dog from probability" in html and "a sensitivity of at least 0.9" in html


def test_names_are_words_on_the_page(bundle, saved):
    card = json.loads((saved[0] / "card.json").read_text("utf-8"))
    hostile = json.loads(json.dumps(card).replace('"cat"', json.dumps(HOSTILE))) | {"name": HOSTILE}
    named = SimpleNamespace(name=HOSTILE, classes=(HOSTILE, "dog"), recipe=bundle.recipe, ranges=None)
    page = SimpleNamespace(comparison="", weights="int8")
    binaries = {share.CODE: b"", share.WASM: b"", share.GRAPH: b""}
    for single, rule in ((False, Rule()), (True, Rule("dog", 0.0))):
        files = share.page_files(named, rule, hostile, page, binaries, single)
        html = files["index.html"].decode()
        assert "<img" not in html and "&lt;img src=x" in html
        about = json.loads(re.search(r'id="about">(.*?)</script>', html)[1])
        assert about["classes"] == [HOSTILE, "dog"]
        assert about["rule"] == ({"positive": "dog", "threshold": 0.0} if single else None)


# What is refused; then nothing is written


def refused(run, folder, words, **options):
    before = sorted(folder.rglob("*")) if folder.exists() else None
    with pytest.raises(VggnbError, match=words):
        share_page(run.folder, folder, progress=False, **options)
    assert (sorted(folder.rglob("*")) if folder.exists() else None) == before


def test_nothing_is_written_where_probabilities_differ(best_run, runtime, tmp_path, monkeypatch):
    monkeypatch.setitem(share.LIMITS, "int8", 0.0)
    refused(best_run[0], tmp_path / "page", "a probability changes by .* nothing was written")


def test_what_is_no_page_is_never_overwritten(best_run, runtime, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("<!DOCTYPE html> my own")
    refused(best_run[0], mine, "something other than a page: index.html")
    assert (mine / "index.html").read_text() == "<!DOCTYPE html> my own"
    (mine / "index.html").write_text(share.BEGINNING)
    (mine / "diary.txt").touch()
    refused(best_run[0], mine, "something other than a page: diary.txt")
    refused(best_run[0], best_run[0].manifest.dataset / "page", "dataset")


def test_a_full_disk_leaves_the_earlier_page(best_run, runtime, tmp_path, monkeypatch):
    folder, write = tmp_path / "page", Path.write_bytes
    share_page(best_run[0].folder, folder, progress=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, data):
        if path.name.endswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    for name in ("model.onnx", "index.html"):  # the first of them on the scratch disk
        with pytest.raises(VggnbError, match=f"(?s)No space left.*{name}"):
            share_page(best_run[0].folder, folder, weights="float16", progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_missing_is_named(best_run, runtime, tmp_path, monkeypatch):
    refused(best_run[0], tmp_path / "page", "no weights 'int4'", weights="int4")
    for address in ("s3://bucket/page", "https://example.org/page"):
        with pytest.raises(VggnbError, match="address"):
            share_page(best_run[0].folder, address, progress=False)
    (share.RUNTIME / share.WASM).unlink()
    refused(best_run[0], tmp_path / "page", "(?s)not in this copy of vggnb.*make web")


def test_on_colab_onnx_is_installed_on_demand(monkeypatch):
    there, commands = set(), []
    monkeypatch.setattr(share.importlib.util, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr(share.subprocess, "run", lambda command, **_: commands.append(command) or there.update(command))
    with pytest.raises(VggnbError, match="Not installed: onnx and onnxruntime"):
        share._need_onnx()
    monkeypatch.setattr(share, "environment", lambda: "colab")
    share._need_onnx()
    assert commands[0][-2:] == ["onnx", "onnxruntime"] and len(commands) == 1
