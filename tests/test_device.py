"""TensorFlow and Keras are as vggnb needs them whatever the user set; precision follows from the hardware alone."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from programs import TESTS

from vggnb import device
from vggnb.device import cpu_flags, decide_precision
from vggnb.features import extract, store_key
from vggnb.model import build_base, build_classifier, build_extractor, build_head, compiled, precision_of
from vggnb.paths import open_workspace, sample_folder
from vggnb.recipe import Recipe
from vggnb.save import load_bundle, save_bundle
from vggnb.storage import VggnbError
from vggnb.train import open_run, train


def test_the_flags_are_those_that_linux_lists(tmp_path):
    (path := tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n\n")
    assert cpu_flags(path) == {"fpu", "avx512_bf16", "amx_bf16"}
    assert cpu_flags(tmp_path / "none") == set()


@pytest.mark.parametrize("flags, capability, found", [
    ({"sse4_2", "avx2"}, None, "float32, for a CPU with no 16-bit arithmetic"),
    ({"avx512_bf16", "fpu"}, None, "bfloat16, for a CPU with avx512_bf16"),
    ({"amx_bf16", "amx_tile"}, None, "bfloat16, for a CPU with amx_bf16"),
    ({"amx_bf16"}, (6, 1), "float32, for a GPU of compute capability 6.1"),
    ({"amx_bf16"}, (7, 5), "float16, for a GPU of compute capability 7.5"),
    ({"avx2"}, (8, 0), "bfloat16, for a GPU of compute capability 8.0"),
])  # fmt: skip
def test_a_processor_with_a_unit_for_16_bits_uses_it(flags, capability, found, monkeypatch):
    monkeypatch.setattr(device, "cpu_flags", lambda: flags)
    monkeypatch.setattr(device.tf.config, "list_physical_devices", lambda kind: ["a GPU"] * bool(capability))
    details = {"compute_capability": capability}
    monkeypatch.setattr(device.tf.config.experimental, "get_device_details", lambda gpu: details)
    assert decide_precision("auto") == (found.split(",")[0], f"Precision: {found}.")
    assert decide_precision("float16") == ("float16", "Precision: float16, as requested.")
    with pytest.raises(VggnbError, match="no precision 'double'"):
        decide_precision("double")


def test_the_sample_is_float32_and_a_named_dataset_is_auto(photos, monkeypatch):
    monkeypatch.delenv("VGGNB_PRECISION")
    assert open_workspace().precision == open_workspace(dataset=sample_folder()).precision == "float32"
    assert open_workspace(dataset=photos).precision == "auto"
    monkeypatch.setenv("VGGNB_PRECISION", "bfloat16")
    assert open_workspace().precision == "bfloat16" and "bfloat16" in str(open_workspace())
    monkeypatch.setenv("VGGNB_PRECISION", "double")
    with pytest.raises(VggnbError, match="no precision 'double'"):
        open_workspace()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_features_in_16_bits_are_close_and_have_a_place_of_their_own(precision, best, base, manifest, tmp_path):
    half, source = build_base(best, "none", precision=precision)
    assert precision_of(half) == source.precision == precision and source.sha256 == base[1].sha256
    assert {weight.dtype for weight in half.weights} == {"float32"}
    assert [layer.compute_dtype for layer in half.layers[1:3]] == ["float32", precision]
    assert precision in str(source) and "float32" not in str(base[1])
    assert store_key(best, source) != store_key(best, base[1])
    few = {"splits": ("test",), "store": tmp_path, "progress": False}
    found, exact = extract(manifest, best, half, source, **few), extract(manifest, best, *base, **few)
    assert (found.precision, exact.precision) == (precision, "float32") and f"in {precision}" in str(found)
    assert found.images_forwarded == exact.images_forwarded == 12 and found.values.dtype == np.float32
    difference = np.abs(found.values - exact.values).mean() / np.abs(exact.values).mean()
    assert 0 < difference < 0.02


def test_a_batch_that_overflows_float16_is_computed_again_in_float32(best):
    exact, _ = build_base(best, "none")
    half, _ = build_base(best, "none", precision="float16")
    for base in (exact, half):
        layer = base.get_layer("block2_conv1")
        layer.set_weights([values * 1000 for values in layer.get_weights()])
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    recipe = best.with_(standardise=False, ridge=0.0)
    head = build_head(recipe, 2)
    size = np.abs(compiled(build_extractor(exact, best))(images)).max(axis=0)
    kernel = np.random.default_rng(0).normal(0, 0.1, (2944, 2)) / np.maximum(size, 1e-6)[:, None]
    head.get_layer("output").set_weights([kernel, np.zeros(2)])
    for built in (lambda base: build_extractor(base, best), lambda base: build_classifier(base, head, recipe)):
        expected, alone = compiled(built(exact))(images), built(half)(images.astype(np.float32)).numpy()
        assert not np.allclose(alone, expected, rtol=0.1), "else this tests nothing"
        assert np.isfinite(expected).all() and np.array_equal(compiled(built(half))(images), expected)


SETTINGS = """
import vggnb.device
import keras
keras.mixed_precision.set_global_policy("mixed_float16")
from test_device import numbers
print(numbers())
"""


def numbers() -> str:
    """What must not depend on global settings: outputs to the bit, and what is saved."""
    images, found = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32), []
    for recipe in (Recipe.best(), Recipe.article()):
        recipe = recipe.with_(image_size=32)
        base, _ = build_base(recipe, "none")
        models = build_extractor(base, recipe), build_classifier(base, build_head(recipe, 3), recipe)
        found += [compiled(model)(images) for model in models] + [np.frombuffer(models[1].to_json().encode(), np.uint8)]
    return " ".join(hashlib.sha256(one.tobytes()).hexdigest() for one in found)


def python(code, **environment):
    """Run code in a fresh process: (exit status, what it printed, what it wrote to stderr)."""
    variables = {name: value for name, value in os.environ.items() if name not in ("KERAS_BACKEND", "KERAS_HOME")}
    variables["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    if threads := device.tf.config.threading.get_intra_op_parallelism_threads():
        variables["VGGNB_THREADS"] = str(threads)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables | environment)
    return done.returncode, done.stdout, done.stderr


def test_the_users_global_settings_change_no_number_and_nothing_that_is_saved(tmp_path):
    settings = {"image_data_format": "channels_first", "epsilon": 1e-07, "floatx": "float16", "backend": "theano"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    status, found, error = python(SETTINGS, KERAS_HOME=str(tmp_path))
    assert status == 0, error
    assert found.split() == numbers().split()


def test_another_backend_is_refused_in_one_sentence():
    status, _, complaint = python("import vggnb.weights", KERAS_BACKEND="jax")
    assert status == 1 and complaint.count("vggnb.storage.VggnbError") == 1
    assert "Keras is set to the backend jax by KERAS_BACKEND; vggnb needs tensorflow." in complaint


def test_a_run_keeps_its_precision_and_its_files_are_float32(best, manifest, tmp_path, quick_verify):
    recipe = best.with_(ridge=30.0)
    how = {"weights": "none", "store": tmp_path / "store", "progress": False}
    run, features = train(manifest, recipe, tmp_path / "run", precision="bfloat16", **how)
    assert features.precision == run.source.precision == open_run(tmp_path / "run").source.precision == "bfloat16"
    assert precision_of(open_run(tmp_path / "run").classifier()) == "bfloat16"
    again, features = train(manifest, recipe, tmp_path / "run", precision="auto", **how)
    assert again.source.precision == "bfloat16" and features.images_forwarded == 0
    with pytest.raises(VggnbError, match="its precision is bfloat16, here float32"):
        train(manifest, recipe, tmp_path / "run", precision="float32", **how)
    files = save_bundle(run, tmp_path / "bundle", formats=["keras"])
    assert all(file.max_difference < 1e-5 for file in files if file.max_difference is not None)
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["precision"] == "bfloat16"
    assert json.loads((tmp_path / "bundle" / "card.json").read_text())["precision"] == "bfloat16"
    assert precision_of(load_bundle(tmp_path / "bundle").model) == "bfloat16"
    assert precision_of(load_bundle(tmp_path / "bundle", precision="float32").model) == "float32"
