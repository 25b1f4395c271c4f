"""A model for other programs gives the same probabilities there, and no file of a bundle is trusted unseen."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggnb
from vggnb.predict import predict_files
from vggnb.save import EXPORTS, check_images, exports, load_bundle, open_onnx, proof, runtimes, save_bundle, verify
from vggnb.storage import VggnbError, sha256_file

HOME = Path(vggnb.__file__).resolve().parents[1]
PROGRAM = HOME / "vggnb" / "save" / "without_tensorflow.py"


@pytest.fixture
def own(exported, tmp_path):
    """The bundle with every export, in a copy made of links: replace a file, never write into one."""
    return shutil.copytree(exported[0], tmp_path / "own", copy_function=os.link)


@pytest.fixture(scope="module")
def in_onnx(exported):
    """The bundle in onnxruntime."""
    return open_onnx(exported[0])


@pytest.fixture(scope="module")
def pictures(photos):
    """Of the test split."""
    return sorted(path for path in (photos / "test").rglob("*.*"))


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rewrite(path, data):
    path.unlink()
    path.write_bytes(data)


# Coming back the same


def test_every_export_says_the_same_in_its_own_runtime_in_a_fresh_process(exported):
    folder, files = exported
    found = {file.format: file.max_difference for file in files if file.max_difference is not None}
    assert set(found) == {"weights", *EXPORTS} and max(found.values()) <= 1e-4, found
    assert files_below(folder) == sorted([file.path for file in files] + ["manifest.json"])
    for file in files:
        assert file.sha256 == sha256_file(folder / file.path) and file.bytes == (folder / file.path).stat().st_size


@pytest.mark.parametrize("kind", EXPORTS)
def test_batches_of_any_size_get_the_answers_of_single_pictures(kind, exported):
    run = runtimes.load_export(kind, exported[0] / f"VGG_pets{EXPORTS[kind]}")
    images = check_images(32)
    together = run(images)[0]
    assert np.abs(np.concatenate([run(images[k : k + 1])[0] for k in range(8)]) - together).max() <= 1e-5
    assert run(images[:3])[0].shape == (3, 2) and np.allclose(together.sum(axis=1), 1, atol=1e-5)


def test_an_export_that_says_something_else_is_not_kept(best_run, tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "_in_fresh_process", lambda folder, *_: {"VGG_pets.savedmodel": 1.5e-4})
    with pytest.raises(VggnbError, match="does not come back the same"):
        save_bundle(best_run[0], tmp_path / "bundle", formats=["savedmodel"])
    assert list(tmp_path.iterdir()) == []


def test_verify_does_not_run_the_exports_of_others(exported, monkeypatch):
    asked = []
    monkeypatch.setattr(proof, "_in_fresh_process", lambda folder, module, *words: asked.append((module, *words)) or {})
    verify(exported[0])
    assert asked == [("vggnb.save.proof",)]
    verify(exported[0], run_exports=True)
    assert asked[2:] == [("vggnb.save.runtimes", kind) for kind in EXPORTS]


def test_nothing_of_this_machine_is_in_an_export(exported):
    for path in exported[0].rglob("*"):
        if path.is_file():
            assert not any(word in path.read_bytes() for word in (os.fsencode(HOME), b"/tmp/", b"site-packages")), path


def test_an_export_in_one_command(best_run, capsys, tmp_path, quick_verify):
    from vggnb.cli import main

    assert (
        main(["save", str(best_run[0].folder), "--to", str(tmp_path / "b"), "--formats", "savedmodel", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert {file["format"] for file in found["files"]} == {"facts", "weights", "savedmodel"} and found["left_out"] == {}


# What may be absent


@pytest.mark.parametrize(
    "gone", ["VGG_pets.savedmodel", "VGG_pets.onnx", "VGG_pets.tflite", "feature_ranges.json", "card.json"]
)
def test_the_bundle_works_without_any_optional_file(gone, own, pictures):
    path = own / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert predict_files(load_bundle(own), pictures[:1])[0].class_name in ("cat", "dog")
    if gone.endswith("onnx"):
        with pytest.raises(VggnbError, match="lacks VGG_pets.onnx"):
            open_onnx(own)
    else:
        assert predict_files(open_onnx(own), pictures[:1])[0].class_name in ("cat", "dog")


def test_a_moved_bundle_opens_from_anywhere(own, tmp_path, monkeypatch, pictures, in_onnx):
    (tmp_path / "far" / "away").mkdir(parents=True)
    monkeypatch.chdir(own.rename(tmp_path / "far" / "away" / "with a new name"))
    assert predict_files(open_onnx("."), pictures) == predict_files(in_onnx, pictures)


def test_a_bundle_without_onnx_says_how_to_get_one(saved):
    with pytest.raises(VggnbError, match="holds no ONNX file") as told:
        open_onnx(saved[0])
    assert "--formats all" in told.value.remedy


def without(monkeypatch, *names):
    """Make modules look as if they were not installed."""
    find = exports.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def test_a_missing_extra_is_told_before_anything_is_built(best_run, tmp_path, monkeypatch):
    without(monkeypatch, "tf2onnx", "ai_edge_litert")
    for kind, module in [("onnx", "tf2onnx"), ("litert", "ai_edge_litert")]:
        with pytest.raises(VggnbError, match=f"{kind} needs {module}") as told:
            save_bundle(best_run[0], tmp_path / "b", formats=[kind])
        assert 'pip install "vggnb[export]"' in told.value.remedy and not (tmp_path / "b").exists()


def test_all_leaves_out_what_cannot_be_written_here_and_says_so(best_run, tmp_path, monkeypatch, capsys):
    from vggnb.cli import main

    without(monkeypatch, "tf2onnx", "ai_edge_litert")
    asked = []
    monkeypatch.setattr("vggnb.save.bundle.save_bundle", lambda run, to, formats: asked.extend(formats) or [])
    assert main(["save", str(best_run[0].folder), "--to", str(tmp_path / "b"), "--json"]) == 0
    assert asked == ["json", "h5", "weights", "keras", "savedmodel"]
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert set(left_out) == {"onnx", "litert"} and all("vggnb[export]" in reason for reason in left_out.values())


def test_a_missing_runtime_is_told(exported, monkeypatch):
    without(monkeypatch, "onnxruntime")
    with pytest.raises(VggnbError, match="onnxruntime is not installed") as told:
        open_onnx(exported[0])
    assert "vggnb[export]" in told.value.remedy


# Damaged and hostile files


@pytest.mark.parametrize(
    "name", ["VGG_pets.onnx", "VGG_pets.savedmodel/variables/variables.index", "feature_ranges.json"]
)
def test_a_flipped_bit_is_seen(name, own):
    data = bytearray((own / name).read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(own / name, data)
    with pytest.raises(VggnbError, match="checksum differs") as told:
        verify(own)
    assert told.value.where == str(own / name)
    if "savedmodel" not in name:
        with pytest.raises(VggnbError, match="checksum differs"):
            open_onnx(own)


def test_a_file_added_inside_the_saved_model_keeps_the_bundle_from_being_replaced(best_run, own):
    (own / "VGG_pets.savedmodel" / "notes.txt").write_text("mine")
    with pytest.raises(VggnbError, match=r"VGG_pets.savedmodel/notes.txt"):
        save_bundle(best_run[0], own, formats=[])
    assert (own / "VGG_pets.savedmodel" / "notes.txt").read_text() == "mine"


def test_a_manifest_cannot_lead_out_of_the_folder(own):
    document = json.loads((own / "manifest.json").read_text())
    about = next(iter(document["files"].values()))
    for name in ("x.savedmodel/../../y", "x.savedmodel/", "/x.savedmodel/y", "x.savedmodel//y", "a/b.onnx"):
        rewrite(own / "manifest.json", json.dumps({**document, "files": {**document["files"], name: about}}).encode())
        with pytest.raises(VggnbError, match="not a bundle's manifest"):
            load_bundle(own)


# Used from elsewhere


def test_a_wrong_number_of_threads_is_not_the_files_fault(exported, monkeypatch):
    monkeypatch.setenv("VGGNB_THREADS", "abc")
    with pytest.raises(VggnbError, match="^Not a number of threads"):
        open_onnx(exported[0])


def test_both_engines_give_the_same_answers(bundle, in_onnx, pictures):
    for keras, onnx in zip(predict_files(bundle, pictures), predict_files(in_onnx, pictures), strict=True):
        assert keras.path == onnx.path and keras.probabilities == pytest.approx(onnx.probabilities, abs=1e-5)
        assert keras.out_of_distribution == onnx.out_of_distribution


def test_both_engines_give_the_same_features(bundle, in_onnx):
    (_, ours), (_, theirs) = (one.run(check_images(32)) for one in (bundle, in_onnx))
    assert ours.shape == theirs.shape == (8, 2944) and np.abs(ours - theirs).max() <= 1e-3 * np.abs(ours).max()


LIGHT = """
import json, sys
from vggnb.cli import main
code = main(sys.argv[1:])
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = sorted(loaded & {"tensorflow", "keras", "sklearn", "matplotlib", "h5py", "onnx"})
print(json.dumps([code, heavy]), file=sys.stderr)
"""


def test_predict_in_onnxruntime_starts_without_tensorflow_and_keras(exported, pictures):
    words = ["predict", str(exported[0]), str(pictures[0]), "--engine", "onnxruntime", "--json"]
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], capture_output=True, text=True, cwd=HOME)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []], done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["class"] in ("cat", "dog")


def odd_pictures(folder, draw):
    """Of each kind that a decoder may read another way."""
    random = np.random.default_rng(5)
    photo, large = draw(random, 0), draw(random, 1, size=(1200, 900))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray((random.integers(0, 65536, (40, 40))).astype(np.uint16))
    clear = photo.convert("RGBA")
    clear.putalpha(Image.fromarray(random.integers(0, 256, (36, 44)).astype(np.uint8)))
    kinds = {
        "plain.png": (photo, {}), "turned.jpg": (photo, {"exif": exif}), "large.jpg": (large, {"quality": 90}),
        "grey16.png": (grey16, {}), "clear.png": (clear, {}), "palette.png": (photo.convert("P"), {}),
        "cmyk.jpg": (photo.convert("CMYK"), {}), "grey.jpg": (photo.convert("L"), {}),
        "one.bmp": (photo.convert("1"), {}),
        "size.png": (photo.resize((32, 32)), {}), "moving.gif": (photo.convert("P"), {"save_all": True}),
    }  # fmt: skip
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return sorted(folder.iterdir())


def test_another_program_that_follows_recipe_json_gets_the_same_probabilities(exported, in_onnx, draw, tmp_path):
    paths = odd_pictures(tmp_path, draw)
    command = [sys.executable, str(PROGRAM), str(exported[0]), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line, answer in zip(done.stdout.splitlines(), predict_files(in_onnx, paths), strict=True):
        said = json.loads(line)
        assert said.pop("path") == answer.path and said == pytest.approx(answer.probabilities, abs=1e-6), answer.path


def test_that_program_goes_on_after_a_bad_photo_and_a_class_may_be_called_path(own, in_onnx, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"words")
    Image.fromarray(np.full((40, 40), 0.5, np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((40, 40), 70_000, np.int32)).save(tmp_path / "large.tiff")
    rewrite(own / "labels.json", b'["path", "dog"]')
    paths = sorted(tmp_path.glob("*.*"))
    command = [sys.executable, str(PROGRAM), str(own), *map(str, paths)]
    said = list(map(json.loads, subprocess.run(command, capture_output=True, check=True).stdout.splitlines()))
    assert [line["path"] for line in said] == list(map(str, paths)) and len(said) == 3
    assert "cannot identify" in said[0]["error"] and "floating-point" in said[1]["error"]
    (ours,) = predict_files(in_onnx, paths[2])
    assert said[2]["dog"] == pytest.approx(ours.probabilities["dog"], abs=1e-6)


def test_that_program_is_short_and_knows_nothing_of_this_library():
    source = PROGRAM.read_text("utf-8")
    lines = [line for line in source.splitlines() if line.strip()]
    assert "vggnb" not in source and "tensorflow" not in source.replace("without_tensorflow", "") and len(lines) <= 32
    buffer = io.StringIO(source)
    assert max(map(len, buffer)) <= 120


def test_that_program_says_what_is_missing(exported, tmp_path):
    for name in ("labels.json", "recipe.json"):
        shutil.copy(exported[0] / name, tmp_path)
    done = subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "holds no .onnx file" in done.stderr and "Traceback" not in done.stderr
