"""A bundle with one changed bit, or cut short anywhere, is seen before it is used; a kill leaves the old or the new."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from faults import CUTS, FLIPS, damaged
from programs import told_by
from small_bundle import CLASSES, NAME, RECIPE, WIDTHS, save_small, small_model, small_vgg

from vggnb.metrics.ood import fit_ranges
from vggnb.save import bundle, exports, load_bundle, open_onnx, proof, runtimes, save_bundle, verify
from vggnb.save.spec import EXPORTS, FORMATS, MANIFEST, NUMBERS, read_manifest, read_spec, write_manifest
from vggnb.storage import VggnbError

ROOT = Path(__file__).resolve().parents[1]
MODELS = {f"{NAME}{ending}": kind for kind, ending in FORMATS.items()}
FILES = [*MODELS, "labels.json", "recipe.json", "card.json", MANIFEST]
INSIDE = ("fingerprint.pb", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index")
FOR_OTHERS = [
    f"{NAME}.onnx",
    f"{NAME}.tflite",
    "feature_ranges.json",
    *(f"{NAME}.savedmodel/{file}" for file in INSIDE),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small bundle."""
    folder = tmp_path_factory.mktemp("small") / "pets"
    with small_vgg():
        save_small(folder)
    return folder


@pytest.fixture
def own_small(whole, tmp_path):
    """A copy of it, and VGG-16 is small."""
    folder = tmp_path / "pets"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with small_vgg():
        yield folder


@pytest.fixture(scope="module")
def for_others(tmp_path_factory):
    """A small bundle with every export and with what its training data was like."""
    if left_out := exports.here()[1]:
        pytest.skip(f"needs the extra export: {left_out}")
    folder = tmp_path_factory.mktemp("exported") / "pets"
    with small_vgg():
        seen = np.random.default_rng(0).random((60, sum(WIDTHS[block] for block, _ in RECIPE.pools)), np.float32)
        ranges, manifest = fit_ranges(seen[:40], seen[40:]), SimpleNamespace(dataset=Path("pets"))
        run = SimpleNamespace(classes=CLASSES, recipe=RECIPE, manifest=manifest, ranges=lambda: ranges)
        save_bundle(run, folder, formats=EXPORTS, model=small_model())
    return folder


@pytest.mark.parametrize("file", FOR_OTHERS)
def test_every_flipped_bit_and_every_cut_of_a_file_for_other_programs_is_seen(file, for_others, tmp_path, monkeypatch):
    folder, tried = shutil.copytree(for_others, tmp_path / "pets"), 0
    for module, name in ((proof, "_main"), (runtimes, "read_json")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it was used"))
    data = (folder / file).read_bytes()
    with small_vgg():
        for what, other in damaged(data, file):
            (folder / file).write_bytes(other)
            for opening in openings_for_others(file):
                with pytest.raises(VggnbError) as told:
                    opening(folder)
                assert told.value.where == str(folder / file) and "checksum differs" in told.value.what, what
            tried += 1
    assert tried >= FLIPS + CUTS


def openings_for_others(file):
    """Exports are never run by `verify` here; ONNX alone is opened by us, and what it is like by both engines."""
    yield verify
    if file.endswith(".onnx"):
        yield open_onnx
    if file == "feature_ranges.json":
        yield lambda folder: runtimes.read_ranges(read_spec(folder))
        yield lambda folder: runtimes.read_ranges(read_spec(folder, ("onnx",)))


def test_these_are_all_files_and_whole_ones_are_opened(for_others):
    with small_vgg():
        files = {file.path for file in verify(for_others)}
        assert files == {*FOR_OTHERS, f"{NAME}.weights.h5", "labels.json", "recipe.json", "card.json"}
        assert load_bundle(for_others).ranges.limit is not None
        opened = open_onnx(for_others)
    answers = opened.run(runtimes.check_images(RECIPE.image_size))[0]
    assert np.abs(answers - np.array(read_manifest(for_others)["check"])).max() <= exports.TOLERANCE


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_and_every_cut_is_seen_before_the_file_is_used(file, own_small, monkeypatch):
    monkeypatch.setattr(bundle, "rebuild", lambda *_: pytest.fail("it was used"))
    monkeypatch.setattr(proof, "_main", lambda *_: pytest.fail("it was used"))
    data, tried = (own_small / file).read_bytes(), 0
    for what, other in damaged(data, file):
        (own_small / file).write_bytes(other)
        for opening in openings(file):
            with pytest.raises(VggnbError) as told:
                opening(own_small)
            assert told.value.where == str(own_small / file), what
        tried += 1
    assert tried >= FLIPS + CUTS


def openings(file):
    """All ways to come to use a file: verifying; loading; loading when it is the only one with numbers."""
    if file in (*MODELS, "card.json") and MODELS.get(file) != "weights":
        yield verify
        if MODELS.get(file) in NUMBERS:
            yield lambda folder: read_spec(folder, (MODELS[file],))
    else:
        yield load_bundle


def test_the_whole_one_is_verified_and_loaded(own_small):
    assert {file.path for file in verify(own_small)} == set(FILES) - {MANIFEST}
    assert load_bundle(own_small).classes == ("cat", "dog")


def test_a_manifest_carries_the_checksum_of_itself_with_zeros_in_its_place(own_small):
    data = (own_small / MANIFEST).read_bytes()
    written = json.loads(data)["sha256"]
    assert list(json.loads(data))[-1] == "sha256"
    assert hashlib.sha256(data.replace(written.encode(), b"0" * 64)).hexdigest() == written


def test_zeros_elsewhere_in_a_manifest_do_not_disturb(own_small):
    document = read_manifest(own_small)
    document["versions"] = {"keras": "0" * 64, "x\udc80": "größer"}
    write_manifest(own_small, document)
    assert read_manifest(own_small)["versions"]["keras"] == "0" * 64


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_after_thirty_kills_while_saving_over_a_bundle_it_is_the_old_or_the_new_one(tmp_path):
    """And after one at each rename; what they left is gone after the next save. Takes half a minute."""
    found, _ = told_by("-m", "faults.saves", tmp_path / "bundles", 30)
    assert found["kills"] == 30 and found["renames"] >= 5
    assert found["neither"] == 0 or not found["swaps"], "so often no bundle was there before somebody asked for it"
    assert set(found["states"]) == {"old", "new"} and found["left_by_kills"] > 0
    assert found["left_at_the_end"] == ["pets"]
