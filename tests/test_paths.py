"""Where things are: profiles, folders, the form of the setup cell, Drive."""

import errno
import json
import os
import sys
import types
from pathlib import Path

import pytest

from vggnb import paths
from vggnb.storage import VggnbError, check_outside

STUB = Path(__file__).parent / "colab_stub"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No VGGNB_ variable, its own data folder, no trace of Colab."""
    for name in [name for name in os.environ if name.startswith(("VGGNB_", "COLAB_", "KAGGLE_", "BINDER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def sample(monkeypatch, tmp_path):
    """A stand-in for the sample folder."""
    folder = tmp_path / "sample"
    (folder / "train").mkdir(parents=True)
    monkeypatch.setattr(paths, "_samples", lambda: (tmp_path / "nowhere", folder))
    return folder


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A simulated Colab; gives the stub's drive module."""
    import google

    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_2026")
    monkeypatch.setattr(paths, "CONTENT", tmp_path / "content")
    monkeypatch.syspath_prepend(str(STUB))
    monkeypatch.setattr(google, "__path__", [str(STUB / "google"), *google.__path__])
    from google.colab import drive

    monkeypatch.setattr(drive, "calls", [])
    monkeypatch.setattr(drive, "behaviour", "ok")
    return drive


def test_default_workspace_is_quick_on_the_sample_and_printed_the_same_on_every_machine(sample, monkeypatch, tmp_path):
    ws = paths.open_workspace()
    assert (ws.environment, ws.profile, ws.image_size, ws.weights) == ("local", "quick", 96, "imagenet")
    assert ws.dataset == sample and ws.home == tmp_path / "data" / "vggnb" and ws.to_dict()["runs"] == str(ws.runs)
    assert not ws.home.exists(), "looking makes no folder"
    monkeypatch.setenv("VGGNB_HOME", str(tmp_path / "elsewhere"))
    assert str(paths.open_workspace()) == repr(ws)
    assert str(tmp_path) not in str(ws) and "<home>/runs" in str(ws)


def test_full_profile_asks_for_a_dataset_and_takes_it(monkeypatch, tmp_path):
    monkeypatch.setenv("VGGNB_PROFILE", "full")
    with pytest.raises(VggnbError, match="(?s)needs your dataset.*VGGNB_DATASET.*VGGNB_PROFILE=quick"):
        paths.open_workspace()
    for name in ("my images ", "my images"):
        (mine := tmp_path / name).mkdir()
        assert paths.open_workspace(dataset=mine).dataset == mine
    monkeypatch.setenv("VGGNB_DATASET", f" '{mine}' ")  # as pasted
    ws = paths.open_workspace()
    assert (ws.dataset, ws.image_size) == (mine, 224)
    monkeypatch.delenv("VGGNB_DATASET")
    paths.make_project_folders()
    assert paths.open_workspace().dataset == paths.open_workspace().home / "dataset"


@pytest.mark.parametrize("name, value, message", [
    ("VGGNB_PROFILE", "fast", "no profile 'fast'.*quick"),
    ("VGGNB_DATASET", "/no/such/folder", "no such folder.*/no/such/folder.*VGGNB_DATASET"),
    ("VGGNB_WEIGHTS", "resnet", "no such weights file.*resnet.*offline"),
])  # fmt: skip
def test_unknown_values_are_refused_with_a_way_out(sample, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(VggnbError, match=f"(?s){message}"):
        paths.open_workspace()


@pytest.mark.parametrize("name", ["file", "file/deeper", "closed/vggnb"])
def test_a_home_that_cannot_be_written_to_is_refused_at_once(sample, monkeypatch, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "closed")  # root may write anywhere
    monkeypatch.setenv("VGGNB_HOME", str(tmp_path / name))
    with pytest.raises(VggnbError, match="A file stands where a folder is needed|You do not have permission"):
        paths.open_workspace()


def test_project_folders_are_made_once_and_left_alone_after(tmp_path):
    splits = "<project>/\n  dataset/\n    train/\n    validation/\n    test/"
    assert paths.make_project_folders(tmp_path / "skin") == splits
    assert len(list((tmp_path / "skin" / "dataset").iterdir())) == 3
    own = tmp_path / "own" / "dataset" / "cats"
    own.mkdir(parents=True)
    (own / "1.jpg").write_bytes(b"image")
    assert paths.make_project_folders(tmp_path / "own") == "<project>/\n  dataset/\n    cats/", "it stays unsplit"
    for k in range(10):
        (own.parent / f"dogs{k}").mkdir()
    assert paths.make_project_folders(tmp_path / "own").endswith("\n    dogs8/\n    ...")
    assert (own / "1.jpg").read_bytes() == b"image"


def test_colab_asks_for_drive_only_where_the_data_lie_there(colab, sample, monkeypatch, tmp_path):
    ws, content = paths.open_workspace("as last time"), tmp_path / "content"
    assert (ws.environment, ws.profile, ws.dataset) == ("colab", "quick", sample), "nothing is remembered yet"
    assert ws.runs == content / "vggnb/runs/sample" and not colab.calls
    assert "ends with this runtime" in str(ws)
    (content / "drive").mkdir(parents=True)
    with pytest.raises(VggnbError, match="no such folder or file"):
        paths.open_workspace("folder or zip on Drive", "MyDrive/parts")
    with pytest.raises(VggnbError, match="(?s)this is a web address.*Download it first"):
        paths.open_workspace("folder or zip on Drive", "https://drive.example.org/drive/folders/1a2b")
    mine = content / "drive/MyDrive/parts"
    (mine / "bent").mkdir(parents=True)
    with pytest.raises(VggnbError) as caught:
        paths.open_workspace("folder or zip on Drive", "MyDrive/partz")
    assert "there is parts" in caught.value.remedy
    on_drive = ["MyDrive/parts", "parts", "drive/MyDrive/parts", "/content/drive/My Drive/parts/", "'MyDrive/parts'"]
    for path in (*on_drive, f'"{mine}" '):
        ws = paths.open_workspace("folder or zip on Drive", path)
        assert (ws.dataset, ws.profile, ws.image_size) == (mine, "full", 224), path
    assert ws.runs == content / "drive/MyDrive/vggnb/runs/parts", "runs belong on Drive"
    assert ws.features == content / "vggnb/features" and ws.staged == content / "vggnb/staged"
    assert paths.kept_on_drive(ws.features) == content / "drive/MyDrive/vggnb/features"
    assert "ends with this runtime" not in str(ws) and len(colab.calls) == 1
    monkeypatch.setenv("VGGNB_HOME", str(content / "own"))
    ws = paths.open_workspace()
    assert ws.runs.parent.parent == ws.features.parent == content / "own" and paths.kept_on_drive(ws.features) is None


def test_the_choice_of_last_time_is_remembered_until_the_form_says_otherwise(sample, monkeypatch, tmp_path):
    (mine := tmp_path / "parts").mkdir()
    assert paths.open_workspace("folder or zip on Drive", str(mine)).dataset == mine
    assert paths.open_workspace("as last time").dataset == mine
    assert paths.open_workspace().dataset == sample, "a script that chooses nothing gets the sample"
    (other := tmp_path / "other").mkdir()
    monkeypatch.setenv("VGGNB_DATASET", str(other))
    assert paths.open_workspace("as last time").dataset == other
    monkeypatch.delenv("VGGNB_DATASET")
    mine.rmdir()
    with pytest.raises(VggnbError, match="(?s)no such folder or file.*Set SOURCE and PATH in the setup cell"):
        paths.open_workspace("as last time")
    assert paths.open_workspace("sample").dataset == paths.open_workspace("as last time").dataset == sample
    with pytest.raises(VggnbError, match="no source 'samples'.*\n.*\n.*as last time, sample, solar cells"):
        paths.open_workspace("samples")
    for damaged in ([], {}, "sample", {"source": None}):
        (tmp_path / "data" / "vggnb" / paths.CHOICE).write_text(json.dumps(damaged))
        with pytest.raises(VggnbError, match="(?s)damaged.*Choose another SOURCE"):
            paths.open_workspace("as last time")


def test_an_uploaded_zip_lies_in_the_home_folder(colab, monkeypatch, tmp_path):
    from google.colab import files

    monkeypatch.setattr(files, "to_upload", {"parts.zip": b"PK"})
    ws = paths.open_workspace("upload a zip")
    assert ws.dataset == tmp_path / "content/vggnb/uploads/parts.zip" and ws.dataset.read_bytes() == b"PK"
    assert paths.open_workspace("as last time").dataset == ws.dataset and ws.profile == "full"
    monkeypatch.setattr(files, "to_upload", {})
    with pytest.raises(VggnbError, match="Nothing was uploaded"):
        paths.open_workspace("upload a zip")
    assert not colab.calls


def test_drive_is_mounted_once_and_only_on_colab(colab, tmp_path, capsys, monkeypatch):
    assert paths.mount_drive() == tmp_path / "content/drive/MyDrive"
    assert "account whose Drive holds your images" in capsys.readouterr().out
    assert paths.mount_drive() == tmp_path / "content/drive/MyDrive"
    assert len(colab.calls) == 1, "what is mounted is not mounted again"
    assert "Drive is mounted" in capsys.readouterr().out
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    assert paths.mount_drive() is None and "Not on Colab" in capsys.readouterr().out


@pytest.mark.parametrize("behaviour, message, remedy", [
    ("refused", "mount failed", "allow access"), ("credential", "was not granted", "tick every box"),
    ("files", "holds files", "delete runtime"), ("timeout", "did not answer in time", "too many files"),
    ("not_implemented", "cannot mount Drive", "hosted Colab"),
    ("empty", "MyDrive folder is not there", "Restart session"), (None, "not a Colab kernel", "in a notebook cell"),
    (ImportError, "not a Colab kernel", "in a notebook cell"),
])  # fmt: skip
def test_failed_mounts_say_what_to_do(colab, monkeypatch, behaviour, message, remedy):
    colab.behaviour = behaviour
    if behaviour in (None, ImportError):  # a subprocess
        module = None if behaviour is None else types.ModuleType("empty")
        monkeypatch.setitem(sys.modules, "google.colab", module)
    with pytest.raises(VggnbError, match=message) as caught:
        paths.open_workspace("folder or zip on Drive", "parts")
    assert remedy in caught.value.remedy and "another SOURCE" in caught.value.remedy


def test_a_dropped_mount_is_mounted_by_force(colab, monkeypatch, tmp_path):
    errors, stat = [OSError(errno.ENOTCONN, "Transport endpoint is not connected")], os.stat

    def failing(path, **options):
        if errors and str(path).endswith("MyDrive"):
            raise errors.pop()
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    assert paths.mount_drive() == tmp_path / "content/drive/MyDrive"
    assert colab.calls[0]["force_remount"] is True


def test_where_runs_and_features_cannot_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("VGGNB_HOME", "s3://bucket/home")
    with pytest.raises(VggnbError, match="(?s)this is an address.*Mount.*VGGNB_HOME"):
        paths.open_workspace()
    check_outside(Path("a:b"), tmp_path, "The feature store", "--store")
    (tmp_path / "pets").mkdir()
    monkeypatch.setenv("VGGNB_HOME", str(tmp_path / "pets" / "home"))
    with pytest.raises(VggnbError, match="inside the dataset"):
        paths.open_workspace(dataset=tmp_path / "pets")
    assert not list((tmp_path / "pets").iterdir())
