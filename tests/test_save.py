"""A bundle comes back the same wherever it is moved, damage is seen, and saving never destroys what it replaces."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from programs import TESTS, told_by
from safetensors.numpy import load_file, save_file
from small_bundle import RECIPE, save_small, small_vgg

from vggnb import paths
from vggnb.generators import read_row
from vggnb.save import exports, load_bundle, open_or_save, purpose_of, save_bundle, saving, verify
from vggnb.save.bundle import read_manifest
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, sha256_file, write_json


@pytest.fixture(scope="module")
def pixels(best_run):
    """The test images as the network sees them."""
    run, _ = best_run
    return np.stack([read_row(run.manifest, row, run.recipe) for row in run.manifest.of("test")]).astype(np.float32)


@pytest.fixture(scope="module")
def expected(best_run, base, pixels):
    """The probabilities of the run's own classifier for them."""
    return best_run[0].classifier(base[0]).predict_on_batch(pixels)


@pytest.fixture
def small(tmp_path):
    """A bundle of a small VGG-16, in which the test runs."""
    with small_vgg():
        save_small(tmp_path / "pets")
        yield tmp_path / "pets"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def hashes(folder):
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def change_manifest(folder, **changes):
    """Put another bundle.json in the place of the one that may be a link to the shared one."""
    document = json.loads((folder / "bundle.json").read_bytes())
    write_json(folder / "bundle.json", document | changes)


# What is saved


def test_the_list_of_files_is_what_lies_there(saved):
    folder, files = saved
    assert sorted(hashes(folder)) == sorted([file.path for file in files] + ["bundle.json"])
    for file in files:
        assert file.sha256 == sha256_file(folder / file.path) and file.bytes == (folder / file.path).stat().st_size
    assert names(folder.parent) == [folder.name]


def test_a_loaded_bundle_predicts_what_the_run_predicts(bundle, pixels, expected):
    probabilities, features = bundle.forward(pixels)
    assert np.abs(probabilities - expected).max() <= 1e-6 and features.shape == (len(pixels), 2944)
    assert bundle.classes == ("cat", "dog") and bundle.recipe.image_size == 32
    assert "pets" in str(bundle) and "Evaluate the model" in str(bundle)


def test_what_must_travel_with_the_weights_does(saved, best_run, bundle):
    folder, run = saved[0], best_run[0]
    document = json.loads((folder / "bundle.json").read_text())
    assert document["classes"] == json.loads((folder / "labels.json").read_text()) == ["cat", "dog"]
    assert bundle.recipe == run.recipe and "EXIF" in document["decoding"]
    assert document["temperature"] == run.calibration().temperature and document["model_sha256"] == run.model_sha256()
    assert document["precision"] == "float32" and document["versions"]["keras"]
    card = json.loads((folder / "card.json").read_text())
    assert "RANDOM" in card["weights"] and card["images"]["train"] == {"cat": 8, "dog": 8}
    assert card["purpose"] == bundle.purpose
    ours, theirs = run.ranges(), bundle.ranges
    assert np.array_equal(ours.low, theirs.low) and np.array_equal(ours.high, theirs.high)
    assert (ours.limit, ours.images, ours.reason) == (theirs.limit, theirs.images, theirs.reason)


@pytest.mark.parametrize(
    "names, medical",
    [(("sample", "benign", "malignant"), True), (("ISIC2019", "a", "b"), True), (("photos", "Melanoma", "other"), True),
     (("solar-cells", "defective", "functional"), False)],
)  # fmt: skip
def test_only_medical_data_carry_the_medical_warning(names, medical):
    assert ("not a diagnostic device" in purpose_of(*names)) == medical


def test_a_moved_bundle_opens_from_anywhere(own_bundle, tmp_path, monkeypatch, pixels, expected):
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = own_bundle.rename(tmp_path / "far" / "away" / "with a new name")
    monkeypatch.chdir(moved)
    engines = ["tensorflow"] + ["onnxruntime"] * bool(list(moved.glob("*.onnx")))  # Colab lacks what writes ONNX
    for engine in engines:
        assert np.abs(load_bundle(".", engine=engine).forward(pixels)[0] - expected).max() <= 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_bundle_opens_in_16_bits_and_answers_in_float32(precision, saved, pixels, expected):
    bundle = load_bundle(saved[0], precision=precision)
    assert bundle.model.get_layer("block2_conv1").compute_dtype == precision
    probabilities, features = bundle.forward(pixels)
    assert probabilities.dtype == features.dtype == np.float32
    assert 0 < np.abs(probabilities - expected).max() < 0.1


# What is missing, damaged or something else


def test_the_bundle_loads_without_a_file_that_it_does_not_need_and_verifying_tells(own_bundle):
    (own_bundle / "VGG_pets.keras").unlink()
    assert load_bundle(own_bundle).classes == ("cat", "dog")
    with pytest.raises(VggnbError, match="lacks VGG_pets.keras"):
        verify(own_bundle)


@pytest.mark.parametrize("file", ["model.safetensors", "labels.json"])
def test_a_needed_file_that_is_gone_cut_or_has_a_flipped_bit_is_told_by_name(file, small):
    data = (small / file).read_bytes()
    (small / file).unlink()
    with pytest.raises(VggnbError, match=f"lacks {file}"):
        load_bundle(small)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (b"", bytes(flipped)):
        (small / file).write_bytes(damaged)
        with pytest.raises(VggnbError, match="its hash does not match bundle.json") as told:
            load_bundle(small)
        assert told.value.where == str(small / file)


def test_a_flipped_bit_in_any_export_is_seen(own_bundle):
    for file in [file for file in hashes(own_bundle) if file.startswith("VGG_")]:
        data = bytearray((own_bundle / file).read_bytes())
        data[len(data) // 2] ^= 1
        os.rename(own_bundle / file, own_bundle.with_name("whole"))
        (own_bundle / file).write_bytes(data)
        with pytest.raises(VggnbError, match="its hash does not match") as told:
            verify(own_bundle)
        assert told.value.where == str(own_bundle / file)
        if file.endswith(".onnx"):
            with pytest.raises(VggnbError, match="damaged or comes from another save"):
                load_bundle(own_bundle, engine="onnxruntime")
        os.rename(own_bundle.with_name("whole"), own_bundle / file)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"classes": ["dog", "cat"]}, "may be in another order"),
        ({"decoder": "1"}, "by another version"),
        ({"format": 2, "versions": {"vggnb": "0.9.0"}}, "(?s)by another version.*Use vggnb 0.9.0"),
        *(({"files": files}, "does not describe a bundle") for files in (None, 5, [])),
        ({"out_of_distribution": [1]}, "does not describe a bundle"),
        ({"out_of_distribution": {"limit": 0.1}}, "out-of-distribution images are incomplete"),
        ({"format": 2, "versions": "x"}, "does not describe a bundle"),
        ({"files": {}}, "its hash does not match bundle.json"),
        ({"recipe": {}}, "Not a recipe"),
        ({"recipe": RECIPE.with_(hidden=16, ridge=0.0).to_dict()}, "do not fit the recipe"),
    ],
    ids=str,
)
def test_a_changed_bundle_json_is_refused(changes, words, small):
    change_manifest(small, **changes)
    with pytest.raises(VggnbError, match=words):
        load_bundle(small)


def test_what_is_no_bundle_is_told(tmp_path, saved):
    for text in ("{", "[]", '{"name": "My web page"}'):
        (tmp_path / "bundle.json").write_text(text)
        with pytest.raises(VggnbError, match="bundle.json"):
            load_bundle(tmp_path)
    (tmp_path / "bundle.json").unlink()
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(VggnbError, match="no bundle in this folder"):
            load_bundle(folder)
    with pytest.raises(VggnbError, match="a bundle is a folder") as told:
        load_bundle(saved[0] / "VGG_pets.keras")
    assert str(saved[0]) in told.value.remedy
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(VggnbError, match=r"by vggnb 0\.1"):
        load_bundle(tmp_path)
    with pytest.raises(VggnbError, match="no engine 'jax'"):
        load_bundle(saved[0], engine="jax")


# Verifying


def test_verifying_finds_the_same_as_saving(saved, quick_verify):
    folder, files = saved
    again = {file.path: file for file in verify(folder)}
    for file in files:
        assert (again[file.path].sha256, again[file.path].format) == (file.sha256, file.format)
        assert (again[file.path].max_difference is None) == (file.max_difference is None)


def test_verifying_sees_numbers_of_another_model(small):
    tensors = load_file(small / "model.safetensors")
    tensors["probabilities/kernel"] = np.ascontiguousarray(tensors["probabilities/kernel"][:, ::-1])
    save_file(tensors, small / "model.safetensors")
    files = json.loads((small / "bundle.json").read_bytes())["files"]
    files["model.safetensors"]["sha256"] = sha256_file(small / "model.safetensors")
    change_manifest(small, files=files)
    with pytest.raises(VggnbError, match="differ from the model's"):
        verify(small)


@pytest.mark.parametrize("found", [1e-4, float("nan")])
def test_a_bundle_whose_file_does_not_come_back_the_same_is_not_kept(found, small, monkeypatch):
    before = hashes(small)
    with monkeypatch.context() as patch:  # which `small` patches, too
        patch.setattr(exports, "_in_fresh_process", lambda job: dict.fromkeys(job["kinds"], found))
        with pytest.raises(VggnbError, match="differ from the model's"):
            save_small(small, seed=1)
    assert hashes(small) == before


# What is there before


@pytest.mark.parametrize("place, name, error", [
    (saving, "write_exports", RuntimeError("Unable to flush file")), (saving, "verify_exports", KeyboardInterrupt()),
    (saving.shutil, "copyfile", OSError(errno.ENOSPC, "No space left on device")),
], ids=str)  # fmt: skip
def test_saving_over_a_bundle_keeps_the_old_one_when_it_fails(place, name, error, small, monkeypatch):
    before, works, calls = hashes(small), getattr(place, name), []

    def failing(*arguments):
        calls.append(arguments)
        if name == "copyfile" and len(calls) < len(before):  # the disk fills up at the last file
            return works(*arguments)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing)
        with pytest.raises((KeyboardInterrupt, VggnbError)):
            save_small(small, seed=1)
    assert hashes(small) == before and names(small.parent) == ["pets"]


def test_a_bundle_replaces_another_and_leaves_nothing_of_it(small):
    for formats, kept in ((("json", "savedmodel"), {"VGG_pets.json", "VGG_pets.weights.h5"}), ((), set())):
        save_small(small, seed=2, formats=formats)
        folders = {"VGG_pets.savedmodel"} if formats else set()
        assert set(names(small)) == {"bundle.json", "card.json", "labels.json", "model.safetensors"} | kept | folders
        assert load_bundle(small).name == "pets"


def test_of_a_savedmodel_only_its_own_files_are_removed(small):
    model, elsewhere = small / "VGG_pets.savedmodel", small.parent / "elsewhere"
    (model / "assets").mkdir(parents=True)
    for name in ("old.pb", "assets/old", "diary.txt"):
        (model / name).write_text(name)
    files = json.loads((small / "bundle.json").read_bytes())["files"]
    old = {f"VGG_pets.savedmodel/{name}": {} for name in ("old.pb", "assets/old", "assets/../diary.txt")}
    change_manifest(small, files=files | old)
    save_small(small, seed=1, formats=())
    assert names(model) == ["diary.txt"]
    model.rename(elsewhere)
    model.symlink_to(elsewhere)
    change_manifest(small, files=files | old)
    save_small(small, seed=2, formats=())
    assert names(elsewhere) == ["diary.txt"] and load_bundle(small).name == "pets"


def test_files_of_the_users_in_a_bundles_folder_are_left_alone(small):
    mine = ["diary.txt", "notes/VGG_pets.keras", ".DS_Store", "../mine.json", "../VGG_mine.keras"]
    (small / "notes").mkdir()
    for name in mine:
        (small / name).write_text("dear")
    files = json.loads((small / "bundle.json").read_bytes())["files"]
    change_manifest(small, files=files | {name: {} for name in (*mine, "VGG_pets.savedmodel/../../VGG_mine.keras")})
    (small / f"{TEMPORARY_PREFIX}0-VGG_pets.keras").write_bytes(b"of a saving that was killed")
    save_small(small, seed=1, formats=())
    (small / "bundle.json").unlink()  # a saving that was killed
    save_small(small, seed=2, formats=())
    assert load_bundle(small).name == "pets" and not list(small.glob(f"{TEMPORARY_PREFIX}*"))
    assert [(small / name).read_text() for name in mine] == ["dear"] * len(mine)


@pytest.mark.parametrize("name", ["VGG_pets.h5", "model.safetensors", "labels.json", "bundle.json"])
def test_a_users_own_file_under_one_of_our_names_is_refused(name, tmp_path):
    if name.endswith("safetensors"):
        save_file({"a": np.zeros(3)}, tmp_path / name)
    else:
        (tmp_path / name).write_text('{"files": {}}' if name == "bundle.json" else "mine")
    before = hashes(tmp_path)
    with small_vgg(), pytest.raises(VggnbError, match=f"something other than a bundle: {name}"):
        save_small(tmp_path)
    assert hashes(tmp_path) == before


def test_saving_into_the_folder_in_which_one_is(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with small_vgg():
        for seed in (0, 1):
            save_small(".", seed=seed)
            assert read_manifest(".")["model_sha256"] == str(seed)
    assert names(tmp_path) == ["here"]


def test_a_bundle_does_not_go_into_the_dataset(best_run):
    run, _ = best_run
    with pytest.raises(VggnbError):
        save_bundle(run, run.manifest.dataset / "bundle")
    assert "bundle" not in names(run.manifest.dataset)
    run = replace(run, manifest=replace(run.manifest, dataset=run.folder.parent))  # a table lies there
    saving.check_place(run.folder / "bundle", run, "The bundle")
    with pytest.raises(VggnbError, match="inside the dataset"):
        saving.check_place(run.folder.parent / "bundle", run, "The bundle")


def test_on_drive_every_file_is_written_elsewhere_first_and_copied_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CONTENT", tmp_path)
    folder, begun, written = tmp_path / "drive" / "MyDrive" / "pets", [], saving.write_exports

    def write_exports(model, recipe, place, name, *rest):
        begun.append((place.is_relative_to(tmp_path / "drive"), name))
        return written(model, recipe, place, name, *rest)

    monkeypatch.setattr(saving, "write_exports", write_exports)
    with small_vgg():
        for name, plain in (("Skin (new)", "Skin_new"), ("../../x", "x"), ("日本", "model"), ("a" * 60, "a" * 40)):
            save_small(folder, name=name, formats=())
            assert begun.pop() == (False, plain) and load_bundle(folder).name == plain


def test_a_bundle_is_saved_when_there_is_none_or_one_of_an_earlier_training(best_run, small, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(saving, "save_bundle", lambda run, folder, name: made.append(name))
    monkeypatch.setattr(saving, "load_bundle", lambda folder: folder)
    run, empty = best_run[0], small.parent / "none"
    assert open_or_save(run, empty, name="a") == empty and "No bundle 'none' yet" in capsys.readouterr().out
    open_or_save(run, small, name="b")
    assert "from an earlier training" in capsys.readouterr().out
    change_manifest(small, model_sha256=run.model_sha256())
    open_or_save(run, small, name="c")
    assert made == ["a", "b"] and capsys.readouterr().out == ""
    monkeypatch.setattr(saving, "chosen_threshold", lambda run: {"threshold": 0.3})
    monkeypatch.setattr("vggnb.storage.os.replace", lambda *_: os.stat("/no such file"))
    with pytest.raises(VggnbError, match="Storage error"):  # and not: the bundle has the threshold
        saving.update_threshold(run, small)


@pytest.mark.slow
def test_a_kill_at_any_rename_leaves_the_old_bundle_the_new_one_or_one_that_says_it_is_not_whole(tmp_path):
    told, _ = told_by(TESTS / "killed_saving.py", tmp_path / "pets")
    assert told["states"] == ["old", *["refused"] * (told["renames"] - 1), "new"]
    assert told["names"] == ["VGG_pets.keras", "bundle.json", "card.json", "labels.json", "model.safetensors"]
