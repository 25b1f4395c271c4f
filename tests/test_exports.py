"""A model for other programs: each file opens with its own plain loader, without vggnb, and predicts the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import vggnb
from vggnb.predict import predict_files
from vggnb.save import check_images, exports, load_bundle, runtimes, save_bundle, saving
from vggnb.save.bundle import load_export
from vggnb.storage import VggnbError

HOME = Path(vggnb.__file__).resolve().parents[1]
PROGRAM = HOME / "vggnb" / "save" / "without_tensorflow.py"


@pytest.fixture(scope="module")
def in_onnx(exported):
    """The bundle in onnxruntime."""
    return load_bundle(exported[0], engine="onnxruntime")


@pytest.fixture(scope="module")
def images(photos):
    """Files of the test split."""
    return sorted(path for path in (photos / "test").rglob("*.*"))


@pytest.fixture(scope="module")
def article_saved(article_run, tmp_path_factory):
    """The same for `article`: (folder, files)."""
    folder = tmp_path_factory.mktemp("article") / "pets"
    return folder, save_bundle(article_run[0], folder, formats="all")


# Opening without vggnb


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("name", ["saved", "article_saved"])
def test_each_file_was_opened_by_its_plain_loader_where_vggnb_cannot_be_imported_and_predicts_the_same(name, request):
    """In fresh processes; that vggnb cannot be imported in them is tested below."""
    folder, files = request.getfixturevalue(name)
    differences = {file.format: file.max_difference for file in files if file.max_difference is not None}
    assert set(differences) == {*exports.available()[0], "safetensors"} and max(differences.values()) <= 1e-5
    images, keras_file = check_images(32), keras.models.load_model(folder / "VGG_pets.keras")
    ours = load_bundle(folder, precision="float32").forward(images)[0]
    assert np.abs(keras_file.predict(images, verbose=0) - ours).max() <= 1e-5


@pytest.mark.slow
def test_only_layers_of_keras_are_in_a_file_and_no_initializer_that_an_older_keras_cannot_read(saved, article_saved):
    for folder, _ in (saved, article_saved):
        text = (folder / "VGG_pets.json").read_text("utf-8")
        assert "vggnb" not in text and "GlorotUniform" not in text and "Normalization" not in text
        layers = json.loads(text)["config"]["layers"]
        assert {layer["module"].split(".")[0] for layer in layers} == {"keras"}
        assert not any(layer["registered_name"] for layer in layers)
        assert [layer["name"] for layer in layers[:3]] == ["raw_rgb", "preprocessing", "block1_conv1"]


# What may be absent or wrong


def test_a_file_that_does_not_open_is_told_and_nothing_is_kept(best_run, tmp_path, monkeypatch):
    written = saving.write_exports

    def spoilt(*arguments):
        paths = written(*arguments)
        paths["keras"].write_bytes(b"words")
        return paths

    monkeypatch.setattr(saving, "write_exports", spoilt)
    with pytest.raises(VggnbError, match=r"cannot be opened again \(keras\)"):
        save_bundle(best_run[0], tmp_path / "bundle", formats=["keras"])
    assert list(tmp_path.iterdir()) == []


def test_vggnb_cannot_be_imported_where_files_are_verified(tmp_path):
    (tmp_path / "model.json").write_text(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).to_json())
    spy = tmp_path / "keras.py"
    spy.write_text("import sys\ntry:\n    import vggnb\nexcept ImportError:\n    sys.exit('no vggnb here')")
    np.savez(tmp_path / "check.npz", images=np.zeros((1, 2)), probabilities=np.zeros((1, 1)))
    files = {"json": str(tmp_path / "model.json"), "weights": ""}
    job = {"kinds": ["json"], "files": files, "architecture": "", "check": str(tmp_path / "check.npz"), "threads": 1}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HOME)])}
    done = subprocess.run([sys.executable, "-P", runtimes.__file__], input=json.dumps(job), capture_output=True,
                          text=True, env=environment)  # fmt: skip
    assert "no vggnb here" in done.stderr


@pytest.mark.parametrize("words, kinds", [
    ("article", ["json", "h5", "weights"]), (" H5 ,.keras", ["h5", "keras"]), ("weights.h5", ["weights"]),
    (["json"], ["json", "weights"]), ("saved_model,tf, Saved-Model", ["savedmodel"]), ("all", exports.available()[0]),
    ("safetensors", []), ((), []),
])  # fmt: skip
def test_formats_by_their_names(words, kinds):
    assert exports.choose_formats(words) == kinds


@pytest.mark.parametrize("words", ["", "h5,", "pickle", "h5;keras"])
def test_an_unknown_format_names_those_there_are(words):
    with pytest.raises(VggnbError, match="There is no format") as told:
        exports.choose_formats(words)
    assert "savedmodel, onnx, litert" in told.value.remedy


def without(monkeypatch, *names):
    """Make modules look as if they were not installed."""
    find = exports.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def test_a_missing_extra_is_told_before_anything_is_built_and_all_leaves_it_out(best_run, tmp_path, monkeypatch):
    without(monkeypatch, "tf2onnx", "ai_edge_litert")
    for word, module in [("onnx", "tf2onnx"), ("tflite", "ai_edge_litert")]:
        with pytest.raises(VggnbError, match=f"not installed: {module}") as told:
            save_bundle(best_run[0], tmp_path / "b", formats=[word])
        assert 'pip install "vggnb[export]"' in told.value.remedy and not (tmp_path / "b").exists()
    assert exports.choose_formats("all") == ["json", "h5", "weights", "keras", "savedmodel"]
    assert set(exports.available()[1]) == {"onnx", "litert"}


def test_a_bundle_without_onnx_says_how_to_get_one(own_bundle):
    document = json.loads((own_bundle / "bundle.json").read_bytes())
    files = {file: about for file, about in document["files"].items() if about["format"] != "onnx"}
    (own_bundle / "bundle.json").unlink()
    (own_bundle / "bundle.json").write_text(json.dumps(document | {"files": files}))
    with pytest.raises(VggnbError, match="holds no ONNX file") as told:
        load_bundle(own_bundle, engine="onnxruntime")
    assert "--formats all" in told.value.remedy


def test_a_missing_runtime_and_a_refused_file_are_told(exported, monkeypatch, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"words")
    with pytest.raises(VggnbError, match="onnxruntime cannot open the file"):
        load_export("onnx", tmp_path / "a.onnx")
    without(monkeypatch, "onnxruntime")
    with pytest.raises(VggnbError, match="onnxruntime is not installed") as told:
        load_bundle(exported[0], engine="onnxruntime")
    assert "vggnb[export]" in told.value.remedy


@pytest.mark.parametrize("kind", exports.EXPORTS)
def test_an_export_takes_batches_of_any_size(kind, exported):
    run = load_export(kind, exported[0] / f"VGG_pets{exports.EXPORTS[kind]}")
    images = check_images(32)
    together = run(images)[0]
    assert np.abs(np.concatenate([run(images[k : k + 1])[0] for k in range(8)]) - together).max() <= 1e-5
    assert run(images[:3])[0].shape == (3, 2) and np.allclose(together.sum(axis=1), 1, atol=1e-5)


def test_nothing_of_this_machine_is_in_a_file(saved):
    for path in saved[0].rglob("*"):
        if path.is_file():
            assert not any(word in path.read_bytes() for word in (os.fsencode(HOME), b"/tmp/", b"site-packages")), path


# Used from elsewhere


def test_both_engines_give_the_same_predictions_and_features(bundle, in_onnx, images):
    for keras_, onnx in zip(predict_files(bundle, images), predict_files(in_onnx, images), strict=True):
        assert keras_.path == onnx.path and keras_.probabilities == pytest.approx(onnx.probabilities, abs=1e-5)
        assert keras_.out_of_distribution == onnx.out_of_distribution
    (_, ours), (_, theirs) = (one.forward(check_images(32)) for one in (bundle, in_onnx))
    assert ours.shape == theirs.shape == (8, 2944) and np.abs(ours - theirs).max() <= 1e-3 * np.abs(ours).max()


LIGHT = """
import json, sys
from vggnb.cli import main
code = main(sys.argv[1:])
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = sorted(loaded & {"tensorflow", "keras", "sklearn", "matplotlib", "h5py", "onnx"})
print(json.dumps([code, heavy]), file=sys.stderr)
"""


def test_predict_in_onnxruntime_starts_without_tensorflow_and_keras(exported, images):
    words = ["predict", str(exported[0]), str(images[0]), "--engine", "onnxruntime", "--json"]
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], capture_output=True, text=True, cwd=HOME)
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []], done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["class"] in ("cat", "dog") and "out_of_distribution" in answer


def odd_images(folder, draw):
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


def test_another_program_that_follows_bundle_json_gets_the_same_probabilities(exported, in_onnx, draw, tmp_path):
    source = PROGRAM.read_text("utf-8")
    assert "vggnb" not in source and "tensorflow" not in source.replace("without_tensorflow", "")
    paths = odd_images(tmp_path, draw)
    command = [sys.executable, "-I", str(PROGRAM), str(exported[0]), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line, answer in zip(done.stdout.splitlines(), predict_files(in_onnx, paths), strict=True):
        found = json.loads(line)
        assert found.pop("path") == answer.path and found == pytest.approx(answer.probabilities, abs=1e-6), answer.path
