"""A bundle comes back the same from every file in it, wherever it is moved, and never destroys what it replaces."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from small_bundle import seal

from vggnb.generators import read_row
from vggnb.recipe import Recipe
from vggnb.save import ARTICLE, FORMATS, check_images, load_bundle, open_or_save, proof, save_bundle, verify
from vggnb.save import bundle as save
from vggnb.save.spec import write_manifest
from vggnb.staging import stage_if_remote
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, sha256_file


@pytest.fixture(scope="module")
def pixels(best_run):
    """The test pictures as the network sees them."""
    run, _ = best_run
    return np.stack([read_row(run.manifest, row, run.recipe) for row in run.manifest.of("test")]).astype(np.float32)


@pytest.fixture(scope="module")
def expected(best_run, base, pixels):
    """What the run's own classifier says about them."""
    return best_run[0].classifier(base[0]).predict_on_batch(pixels)


@pytest.fixture(scope="module")
def model(best_run, base):
    """The run's classifier."""
    return best_run[0].classifier(base[0])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rewrite(path, change):
    """Change a file by putting another in its place: the bundle's large file is a link to the shared one."""
    data = bytearray(path.read_bytes())
    change(data)
    path.unlink()
    path.write_bytes(data)


def flip(at):
    def change(data):
        data[int(len(data) * at)] ^= 1

    return change


def test_every_format_comes_back_in_a_fresh_process_within_1e_5(saved):
    _, files = saved
    differences = {file.format: file.max_difference for file in files if file.max_difference is not None}
    assert set(differences) == set(FORMATS)
    assert max(differences.values()) <= 1e-5


def test_the_list_of_files_is_what_lies_there(saved):
    folder, files = saved
    assert names(folder) == sorted([file.path for file in files] + ["manifest.json"])
    for file in files:
        assert file.sha256 == sha256_file(folder / file.path) and file.bytes == (folder / file.path).stat().st_size
    assert {"VGG_pets.json", "VGG_pets.h5", "VGG_pets.weights.h5", "VGG_pets.keras"} <= set(names(folder))
    assert names(folder.parent) == [folder.name]


def test_a_loaded_bundle_says_what_the_run_says(bundle, pixels, expected):
    assert np.abs(bundle.model.predict_on_batch(pixels) - expected).max() <= 1e-5
    assert bundle.classes == ("cat", "dog") and bundle.recipe.image_size == 32
    assert "pets" in str(bundle) and "not a diagnostic device" in str(bundle)


@pytest.mark.parametrize("kind", ["h5", "keras", "json"])
def test_each_file_opens_as_the_article_opens_it(kind, saved, pixels, expected):
    folder, _ = saved
    if kind == "json":
        model = keras.models.model_from_json((folder / "VGG_pets.json").read_text())
        model.load_weights(folder / "VGG_pets.weights.h5")
    else:
        model = keras.models.load_model(folder / f"VGG_pets.{kind}", compile=False)
    assert np.abs(model.predict_on_batch(pixels) - expected).max() <= 1e-5


def test_what_must_travel_with_the_weights_does(saved, best_run):
    folder, _ = saved
    run, _ = best_run
    assert json.loads((folder / "labels.json").read_text()) == ["cat", "dog"]
    facts = json.loads((folder / "recipe.json").read_text())
    assert Recipe.from_dict(facts["recipe"]) == run.recipe and "EXIF" in facts["decoding"]
    card = json.loads((folder / "card.json").read_text())
    assert "RANDOM" in card["weights"] and card["images"]["train"] == {"cat": 8, "dog": 8}
    assert "must not be used" in card["purpose"]


def test_a_moved_bundle_opens_from_anywhere(own_bundle, tmp_path, monkeypatch, pixels, expected):
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = own_bundle.rename(tmp_path / "far" / "away" / "with a new name")
    monkeypatch.chdir(moved)
    assert np.abs(load_bundle(".").model(pixels).numpy() - expected).max() <= 1e-5


@pytest.mark.parametrize("file", ["VGG_pets.weights.h5", "labels.json", "recipe.json"])
@pytest.mark.parametrize("at", [0, 0.5, 0.999])
def test_one_flipped_bit_is_refused_with_the_files_name(file, at, own_bundle):
    rewrite(own_bundle / file, flip(at))
    with pytest.raises(VggnbError, match="checksum differs") as told:
        load_bundle(own_bundle)
    assert told.value.where == str(own_bundle / file)


@pytest.mark.parametrize("file", ["VGG_pets.weights.h5", "labels.json", "recipe.json"])
def test_a_needed_file_that_is_gone_is_told_by_name(file, own_bundle):
    (own_bundle / file).unlink()
    with pytest.raises(VggnbError, match=f"lacks {file}"):
        load_bundle(own_bundle)


def test_a_missing_optional_file_does_not_stop_the_loading_but_the_verifying(own_bundle):
    assert "VGG_pets.keras" not in names(own_bundle)
    assert load_bundle(own_bundle).classes == ("cat", "dog")
    with pytest.raises(VggnbError, match="lacks VGG_pets"):
        verify(own_bundle)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"name": "My web page", "icons": []}', '{"name": 1, "decoder": 1, "files": {}, "models": {}}'],
)
def test_another_programs_manifest_is_no_bundle(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(VggnbError) as told:
        load_bundle(tmp_path)
    assert "manifest.json" in told.value.where


def test_a_folder_without_a_bundle_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(VggnbError, match="no bundle in this folder"):
            load_bundle(folder)


def test_weights_for_another_number_of_classes_are_refused(own_bundle):
    (own_bundle / "labels.json").write_text('["cat", "dog", "owl"]')
    seal(own_bundle, lambda document: document.update(classes=["cat", "dog", "owl"], check=[[0.5, 0.25, 0.25]] * 8))
    with pytest.raises(VggnbError, match="do not fit the recipe") as told:
        load_bundle(own_bundle)
    assert told.value.where.endswith(".weights.h5")


def test_class_names_in_another_order_are_refused_with_the_reason(own_bundle):
    (own_bundle / "labels.json").write_text('["dog", "cat"]')
    with pytest.raises(VggnbError, match="in another order than the network's outputs"):
        load_bundle(own_bundle)


def test_a_bundle_of_another_decoder_is_refused(own_bundle):
    seal(own_bundle, lambda document: document.update(decoder="1"))
    with pytest.raises(VggnbError, match="decoded by rule '1'"):
        load_bundle(own_bundle)


@pytest.fixture
def without(saved, tmp_path):
    """A function: the bundle without some of its files with numbers."""

    def without(*endings):
        folder = tmp_path / "bundle"
        folder.mkdir()
        for path in saved[0].iterdir():
            if path.name not in [f"VGG_pets.{ending}" for ending in endings]:
                os.link(path, folder / path.name)
        return folder

    return without


@pytest.mark.parametrize("gone", [["weights.h5"], ["weights.h5", "keras"]])
def test_the_numbers_come_from_the_next_file_when_one_is_gone(gone, without, pixels, expected):
    assert np.abs(load_bundle(without(*gone)).model.predict_on_batch(pixels) - expected).max() <= 1e-5


def written_by(folder, keras_version):
    """The bundle says that another Keras wrote it."""
    document = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()  # a link to the shared one
    write_manifest(folder, document | {"versions": {"keras": keras_version}})


def unreadable(monkeypatch, *endings):
    """This Keras cannot read these files; the list tells which were tried."""
    tried, load = [], keras.Model.load_weights

    def load_weights(model, path):
        tried.append(path.name.partition(".")[2])
        if tried[-1] in endings:
            raise ValueError("an unknown layout")
        load(model, path)

    monkeypatch.setattr(keras.Model, "load_weights", load_weights)
    return tried


def test_what_another_keras_wrote_and_this_one_cannot_read_is_passed_over_in_order(
    without, monkeypatch, pixels, expected, capsys
):
    folder = without()
    written_by(folder, "4.0.0")
    tried = unreadable(monkeypatch, "weights.h5", "keras")
    assert np.abs(load_bundle(folder).model.predict_on_batch(pixels) - expected).max() <= 1e-5
    assert tried == ["weights.h5", "keras", "h5"]
    assert capsys.readouterr().out.splitlines() == [
        f"Keras {keras.__version__} cannot read VGG_pets.weights.h5, which Keras 4.0.0 wrote.",
        "The numbers come from VGG_pets.keras.",
        f"Keras {keras.__version__} cannot read VGG_pets.keras, which Keras 4.0.0 wrote.",
        "The numbers come from VGG_pets.h5.",
    ]


@pytest.mark.parametrize("writer, tries", [("4.0.0", 3), (keras.__version__, 1)])
def test_when_none_can_be_read_or_the_same_keras_wrote_it_that_is_an_error(writer, tries, without, monkeypatch):
    folder = without()
    written_by(folder, writer)
    tried = unreadable(monkeypatch, "weights.h5", "keras", "h5")
    with pytest.raises(VggnbError, match="do not fit the recipe: an unknown layout"):
        load_bundle(folder)
    assert len(tried) == tries


def test_a_damaged_file_is_refused_not_passed_over_whoever_wrote_it(without):
    folder = without()
    written_by(folder, "4.0.0")
    rewrite(folder / "VGG_pets.weights.h5", flip(0.5))
    with pytest.raises(VggnbError, match="checksum differs"):
        load_bundle(folder)


def test_the_numbers_of_another_model_are_refused_although_every_checksum_fits(best_run, base, own_bundle):
    other = best_run[0].classifier(base[0])
    last = other.get_layer("probabilities")
    last.set_weights([values[..., ::-1] for values in last.get_weights()])
    (own_bundle / "VGG_pets.weights.h5").unlink()
    other.save_weights(own_bundle / "VGG_pets.weights.h5")
    seal(own_bundle)
    with pytest.raises(VggnbError, match="are of another model: its answers differ"):
        load_bundle(own_bundle)


def test_verifying_sees_weights_that_say_something_else(own_bundle, quick_verify):
    document = json.loads((own_bundle / "manifest.json").read_text())
    document["models"] = {"weights": document["models"]["weights"]}
    kept = {"labels.json", "recipe.json", *document["models"].values()}
    document["files"] = {name: about for name, about in document["files"].items() if name in kept}
    document["check"] = [row[::-1] for row in document["check"]]
    write_manifest(own_bundle, document)
    (weights,) = [file for file in verify(own_bundle) if file.format == "weights"]
    assert weights.max_difference > 1e-3


def test_the_pictures_for_comparing_tell_models_apart(model):
    images = check_images(32)
    assert images.shape == (8, 32, 32, 3) and images.dtype == np.float32 and 0 <= images.min() <= images.max() <= 255
    assert np.array_equal(images, check_images(32))
    said = model.predict_on_batch(images)
    assert len(np.unique(said[:, 0])) == 8


@pytest.mark.parametrize("difference", [1e-4, float("nan")])
def test_a_bundle_that_does_not_come_back_the_same_is_not_kept(difference, best_run, model, own_bundle, monkeypatch):
    before = {name: sha256_file(own_bundle / name) for name in names(own_bundle)}
    trusted = save.verify

    def doubtful(folder, **options):
        return [replace(file, max_difference=difference) for file in trusted(folder, **options)]

    monkeypatch.setattr(save, "verify", doubtful)
    monkeypatch.setattr(proof.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "{}", ""))
    with pytest.raises(VggnbError, match="does not come back the same"):
        save_bundle(best_run[0], own_bundle, formats=[], model=model)
    assert {name: sha256_file(own_bundle / name) for name in names(own_bundle)} == before
    assert not list(own_bundle.parent.glob(f"{TEMPORARY_PREFIX}*"))


def test_a_file_that_does_not_load_again_is_told_and_not_kept(best_run, model, tmp_path, monkeypatch):
    dead = subprocess.CompletedProcess([], 1, "", "Traceback ...\nOSError: unable to open file")
    monkeypatch.setattr(proof.subprocess, "run", lambda *_, **__: dead)
    with pytest.raises(VggnbError, match="cannot be loaded again: OSError: unable to open file") as told:
        save_bundle(best_run[0], tmp_path / "bundle", formats=[], model=model)
    assert told.value.where == str(tmp_path / "bundle")  # not the temporary folder, which is gone
    assert names(tmp_path) == []


FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "place, name, error",
    [
        (keras.Model, "save_weights", FULL_DISK),
        (keras.Model, "save_weights", RuntimeError("Unable to flush file")),
        (keras.Model, "save", FULL_DISK),
        (save, "write_json", FULL_DISK),
        (save, "build_card", FULL_DISK),
        (keras.Model, "predict", KeyboardInterrupt()),
        (save, "verify", FULL_DISK),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_saving_over_a_bundle_keeps_the_old_one_when_saving_fails(
    place, name, error, best_run, model, own_bundle, monkeypatch
):
    def failing(*_, **__):
        raise error

    before = {name: sha256_file(own_bundle / name) for name in names(own_bundle)}
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing)
        expected_error = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else VggnbError
        with pytest.raises(expected_error):
            save_bundle(best_run[0], own_bundle, formats=["keras"] * (name == "save"), model=model)
    assert {name: sha256_file(own_bundle / name) for name in names(own_bundle)} == before
    assert not list(own_bundle.parent.glob(f"{TEMPORARY_PREFIX}*"))
    assert load_bundle(own_bundle).classes == ("cat", "dog")


def test_a_bundle_replaces_another_as_a_whole(best_run, model, own_bundle, quick_verify):
    save_bundle(best_run[0], own_bundle, name="again", formats=["json"], model=model)
    assert names(own_bundle) == [
        "VGG_again.json", "VGG_again.weights.h5", "card.json", "labels.json", "feature_ranges.json", "manifest.json",
        "recipe.json",
    ]  # fmt: skip
    assert load_bundle(own_bundle).name == "again"


@pytest.mark.parametrize("with_manifest", [None, '{"name": "My web page"}', "{"])
def test_a_folder_that_holds_other_things_is_refused_and_left_alone(with_manifest, best_run, model, tmp_path):
    (tmp_path / "diary.txt").write_text("dear")
    if with_manifest is not None:
        (tmp_path / "manifest.json").write_text(with_manifest)
    with pytest.raises(VggnbError, match="something else than a bundle: diary.txt"):
        save_bundle(best_run[0], tmp_path, model=model)
    assert (tmp_path / "diary.txt").read_text() == "dear"


def test_a_bundle_to_which_someone_added_a_file_is_not_replaced(best_run, model, own_bundle):
    (own_bundle / "notes.txt").write_text("mine")
    with pytest.raises(VggnbError, match="notes.txt"):
        save_bundle(best_run[0], own_bundle, model=model)
    assert (own_bundle / "notes.txt").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_told(best_run, model, tmp_path):
    (tmp_path / "bundle").write_text("x")
    with pytest.raises(VggnbError, match="A file stands"):
        save_bundle(best_run[0], tmp_path / "bundle", formats=[], model=model)
    assert (tmp_path / "bundle").read_text() == "x"


def test_an_unknown_format_is_told_before_anything_is_built(best_run, tmp_path):
    with pytest.raises(VggnbError, match="no format 'tflite'") as told:
        save_bundle(best_run[0], tmp_path / "bundle", formats=["keras", "tflite"], model=None)
    assert all(kind in told.value.remedy for kind in FORMATS) and names(tmp_path) == []


def test_the_articles_formats_are_the_articles_three_files():
    assert [FORMATS[kind] for kind in ARTICLE] == [".json", ".h5", ".weights.h5"]


@pytest.mark.parametrize(
    "name, safe",
    [("Skin", "Skin"), ("my photos", "my_photos"), ("../../etc", "etc"), ("日本", "model"), ("a" * 99, "a" * 40)],
)
def test_a_name_is_made_safe_for_every_file_system(name, safe):
    assert save._safe_name(name) == safe


def test_an_untrained_run_cannot_be_saved(best_run, tmp_path):
    run = replace(best_run[0], folder=tmp_path)
    with pytest.raises(VggnbError, match="not trained yet"):
        save_bundle(run, tmp_path / "bundle")


def test_a_bundle_that_is_there_is_opened_not_saved_again(best_run, own_bundle, capsys):
    before = sha256_file(own_bundle / "manifest.json")
    assert open_or_save(best_run[0], own_bundle, name="pets").classes == ("cat", "dog")
    assert sha256_file(own_bundle / "manifest.json") == before and capsys.readouterr().out == ""


def test_the_fresh_process_finds_the_library_from_any_folder(saved, tmp_path, monkeypatch):
    """`verify` is `python -m vggnb.save.proof FOLDER` with this library on the path; here with a shell's own eyes."""
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(proof.subprocess, "run", lambda command, **options: asked.append((command, options)) or DONE)
    verify(saved[0])
    ((command, options),) = asked
    assert command[:4] == [sys.executable, "-P", "-m", "vggnb.save.proof"] and os.path.isabs(command[4])
    first = options["env"]["PYTHONPATH"].split(os.pathsep)[0]
    assert os.path.isfile(os.path.join(first, "vggnb", "save", "proof.py"))


def test_on_drive_a_bundle_is_made_on_the_local_disk_and_copied_whole(
    best_run, saved, tmp_path, monkeypatch, quick_verify
):
    drive, places = tmp_path / "content" / "drive" / "MyDrive", []
    drive.mkdir(parents=True)
    monkeypatch.setattr(save.machine, "CONTENT", tmp_path / "content")
    real = save._write_model
    monkeypatch.setattr(save, "_write_model", lambda *all_: places.append(all_[1]) or real(*all_))
    save_bundle(best_run[0], drive / "pets", name="pets")
    assert not places[0].is_relative_to(tmp_path / "content") and not places[0].exists()
    assert names(drive / "pets") == names(saved[0]) and names(drive) == ["pets"]
    assert load_bundle(drive / "pets").classes == ("cat", "dog")


DONE = subprocess.CompletedProcess([], 0, "{}\n", "")


@pytest.mark.parametrize("name", [".git/config", ".env", ".gitattributes"])
def test_hidden_files_are_the_users_too(name, best_run, model, own_bundle, tmp_path):
    for folder in (own_bundle, tmp_path / "new"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
        with pytest.raises(VggnbError, match=f"something else than a bundle: {name.partition('/')[0]}"):
            save_bundle(best_run[0], folder, model=model)
        assert (folder / name).read_text() == "mine"


def test_what_a_system_leaves_in_every_folder_does_not_stop_a_save(best_run, model, own_bundle):
    for name in (".DS_Store", "._VGG_pets.keras", "Thumbs.db"):
        (own_bundle / name).write_text("x")
    save_bundle(best_run[0], own_bundle, formats=[], model=model)
    assert not (own_bundle / ".DS_Store").exists()


def test_a_bundle_of_an_earlier_training_is_saved_anew_and_that_is_said(best_run, own_bundle, capsys):
    card = json.loads((own_bundle / "card.json").read_text())
    (own_bundle / "card.json").write_text(json.dumps(card | {"model_sha256": "0" * 64}))
    open_or_save(best_run[0], own_bundle, name="pets")
    assert "of an earlier training: saving it anew" in capsys.readouterr().out
    assert json.loads((own_bundle / "card.json").read_text())["model_sha256"] == best_run[0].model_sha256()


def test_what_was_put_into_the_folder_while_saving_is_kept(best_run, own_bundle, model, monkeypatch, quick_verify):
    real = save._proven
    monkeypatch.setattr(save, "_proven", lambda *all_: (own_bundle / "notes.txt").write_text("mine") and real(*all_))
    with pytest.raises(VggnbError, match="something else than a bundle: notes.txt"):
        save_bundle(best_run[0], own_bundle, model=model)
    assert (own_bundle / "notes.txt").read_text() == "mine" and load_bundle(own_bundle)


def test_the_folder_in_which_one_is_and_a_mounted_disk_are_not_replaced(best_run, own_bundle, model, monkeypatch):
    monkeypatch.chdir(own_bundle)
    with pytest.raises(VggnbError, match="the folder in which you are"):
        save_bundle(best_run[0], Path(), model=model)
    monkeypatch.chdir(own_bundle.parent)
    monkeypatch.setattr(save.os.path, "ismount", lambda path: path == own_bundle)
    with pytest.raises(VggnbError, match="a disk is mounted") as told:
        save_bundle(best_run[0], own_bundle, model=model)
    assert str(own_bundle / "bundle") in told.value.remedy


def test_a_bundle_among_the_pictures_is_refused(best_run, model, tmp_path):
    run = replace(best_run[0], manifest=replace(best_run[0].manifest, dataset=tmp_path))
    with pytest.raises(VggnbError, match="inside the dataset"):
        save_bundle(run, tmp_path / "new" / "bundle", model=model)
    assert not list(tmp_path.iterdir())


def test_a_bundle_among_the_images_of_which_there_is_a_copy_is_refused(
    best_run, own_photos, model, tmp_path, monkeypatch
):
    monkeypatch.setattr("vggnb.paths.CONTENT", tmp_path)
    (tmp_path / "drive").mkdir()
    own_photos = own_photos.rename(tmp_path / "drive" / "pets")
    copy = stage_if_remote(own_photos, tmp_path / "near", progress=False)
    run = replace(best_run[0], manifest=replace(best_run[0].manifest, dataset=copy))
    with pytest.raises(VggnbError, match="inside the dataset"):
        save_bundle(run, own_photos / "bundle", model=model)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(best_run, model, tmp_path, monkeypatch):
    monkeypatch.setattr(save.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    with pytest.raises(VggnbError, match="MB, and 1 MB are free"):
        save_bundle(best_run[0], tmp_path / "bundle", model=model)
    assert names(tmp_path) == []


def test_a_module_in_the_current_folder_is_not_taken_for_pythons_own(saved, tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise ImportError('mine')")
    monkeypatch.chdir(tmp_path)
    assert max(file.max_difference or 0 for file in verify(saved[0])) <= 1e-5


def test_the_fresh_process_says_what_is_wrong_not_what_to_do(tmp_path):
    with pytest.raises(VggnbError, match="loaded again: .*Storage error"):
        proof._in_fresh_process(tmp_path, "vggnb.save.proof")
