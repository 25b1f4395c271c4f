"""Files in, ranked class names out: the pixels of training, and one bad file never stops the others."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vggnb import predict
from vggnb.generators import read_row
from vggnb.predict import Prediction, predict_files, predict_images
from vggnb.storage import VggnbError


@pytest.fixture(scope="module")
def rows(manifest):
    """Of the test pictures."""
    return manifest.of("test")


def test_answers_are_the_classifiers_on_the_pixels_of_training(bundle, best_run, base, manifest, rows):
    run, _ = best_run
    pixels = np.stack([read_row(manifest, row, run.recipe) for row in rows]).astype(np.float32)
    expected = run.classifier(base[0]).predict_on_batch(pixels)
    answers = predict_files(bundle, [manifest.dataset / row.path for row in rows])
    for answer, row, truth in zip(answers, rows, expected, strict=True):
        assert answer.path == str(manifest.dataset / row.path) and answer.error is None
        found = [answer.probabilities[name] for name in bundle.classes]
        assert np.abs(np.array(found) - truth).max() <= 1e-5
        assert answer.class_name == bundle.classes[truth.argmax()]
        assert answer.probability == max(found) and sum(found) == pytest.approx(1, abs=1e-6)


def test_classes_come_from_most_to_least_probable(bundle, manifest, rows):
    for answer in predict_files(bundle, [manifest.dataset / row.path for row in rows]):
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)


def test_one_bad_file_among_good_ones_is_answered_in_its_row(bundle, own_photos, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    folder = own_photos / "test" / "cat"
    (folder / "cat_1.png").write_bytes((folder / "cat_1.png").read_bytes()[:50])
    (folder / "cat_2.jpg").write_bytes(b"")
    answers = predict_files(bundle, sorted(folder.iterdir()))
    assert [bool(answer.error) for answer in answers] == [False, True, True, False, False, False]
    assert "cut short" in answers[1].error and "empty" in answers[2].error
    alone = predict_files(bundle, [folder / "cat_3.png"])
    assert alone[0].probabilities == pytest.approx(answers[3].probabilities, abs=1e-5), "no answer moved to another row"


def test_only_bad_files_are_answered_too(bundle):
    answers = predict_images(bundle, [("a", b""), ("b", b"words")])
    assert all(answer.error and answer.class_name is None for answer in answers)


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_the_size_of_the_batch_changes_nothing(batch, bundle, manifest, rows, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", batch)
    answers = predict_files(bundle, [manifest.dataset / row.path for row in rows])
    assert [answer.path for answer in answers] == [str(manifest.dataset / row.path) for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        (alone,) = predict_images(bundle, [("x", (manifest.dataset / row.path).read_bytes())])
        assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_a_folder_stands_for_its_files_at_any_depth_without_system_files(bundle, own_photos):
    folder = own_photos / "test"
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "._cat_0.jpg").write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.jpg").write_bytes(b"x")
    answers = predict_files(bundle, [folder])
    assert [os.path.relpath(answer.path, folder) for answer in answers] == sorted(
        f"{name}/{name}_{k}.{'png' if k % 2 else 'jpg'}" for name in ("cat", "dog") for k in range(6)
    )
    assert not any(answer.error for answer in answers)


def test_one_path_need_not_be_in_a_list(bundle, manifest, rows):
    path = manifest.dataset / rows[0].path
    assert predict_files(bundle, path) == predict_files(bundle, str(path)) == predict_files(bundle, [path])


def test_a_missing_path_is_told_by_name(bundle, tmp_path):
    with pytest.raises(VggnbError, match="no such file or folder") as told:
        predict_files(bundle, [tmp_path / "none.jpg"])
    assert told.value.where == str(tmp_path / "none.jpg")


def test_an_empty_folder_is_told_by_name(bundle, tmp_path):
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    (tmp_path / "empty" / ".git" / "x").write_text("x")
    with pytest.raises(VggnbError, match="no files in this folder"):
        predict_files(bundle, [tmp_path / "empty"])


def test_a_picture_turned_by_its_camera_gets_the_answer_of_the_upright_one(bundle, manifest, rows):
    upright = Image.open(manifest.dataset / rows[1].path).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for image, options in [(upright, {}), (upright.transpose(Image.Transpose.ROTATE_90), {"exif": exif})]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        files.append(("a.png", buffer.getvalue()))
    plain, turned = predict_images(bundle, files)
    assert plain.probabilities == turned.probabilities


def test_the_name_of_an_upload_is_a_label_never_a_path(bundle, manifest, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = (manifest.dataset / rows[0].path).read_bytes()
    (answer,) = predict_images(bundle, [("../../etc/passwd", data)])
    assert answer.path == "../../etc/passwd" and not answer.error and not list(tmp_path.iterdir())


def test_any_file_name_can_be_predicted_and_printed(bundle, manifest, rows, tmp_path):
    source = manifest.dataset / rows[0].path
    for name in [
        "a b.jpg",
        "-rf",
        "*[1].jpg",
        "日本.jpg",
        "line\nbreak.jpg",
        os.fsdecode(b"raw\xff.jpg"),
        "\u202egpj.exe",
    ]:
        shutil.copy(source, tmp_path / name)
    answers = predict_files(bundle, [tmp_path])
    assert len(answers) == 7 and not any(answer.error for answer in answers)
    for answer in answers:
        words = str(answer)
        assert "\n" not in words and "\u202e" not in words and words.encode()


def test_an_answer_is_plain_json():
    good = Prediction("a.jpg", {"dog": 0.75, "cat": 0.25})
    bad = Prediction("b.jpg", {}, "It is empty.")
    assert json.loads(json.dumps([good.to_dict(), bad.to_dict()])) == [
        {"path": "a.jpg", "class": "dog", "probability": 0.75, "probabilities": {"dog": 0.75, "cat": 0.25}},
        {"path": "b.jpg", "error": "It is empty."},
    ]
    assert str(good) == "a.jpg: dog 0.75, cat 0.25" and str(bad) == "b.jpg: It is empty."
