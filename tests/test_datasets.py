"""Real datasets, from a local server that speaks their language and misbehaves."""

import csv
import hashlib
import io
import os
import sys
import types
import zipfile

import pytest
from misbehaving_server import serving
from zoo import encoded, photo

from vggnb import datasets
from vggnb.storage import VggnbError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(datasets, "TIMEOUT_S", 1)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server():
    with serving() as running:
        yield running


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


SKIN = zipped({"train/benign/1.jpg": b"\xff\xd8" * 50_000, "train/malignant/2.jpg": b"two", "test/benign/3.jpg": b"3"})
SHA256 = hashlib.sha256(SKIN).hexdigest()


@pytest.fixture
def skin(server):
    server.files["/skin.zip"] = SKIN
    return f"{server.address}/skin.zip"


def test_url_is_fetched_checked_and_unpacked_once(server, skin, tmp_path):
    server.faults["/skin.zip"] = ["cut", "503", "slow"]
    target = datasets.url(skin, tmp_path / "skin", sha256="SHA256:" + SHA256.upper(), progress=False)
    assert (target / "train/malignant/2.jpg").read_bytes() == b"two" and os.listdir(tmp_path) == ["skin"]
    assert datasets.url(skin, target, sha256=SHA256, progress=False) == target
    assert len(server.log) == 4, "what is whole is not fetched again"


def test_url_whose_archive_has_arrived_is_not_fetched_again(server, skin, tmp_path):
    (tmp_path / "skin.partial" / "unpacked" / "half").mkdir(parents=True)
    (tmp_path / "skin.partial" / "archive").write_bytes(SKIN)  # a call was killed while it unpacked
    datasets.url(skin, tmp_path / "skin", sha256=SHA256, progress=False)
    assert not server.log and sorted(os.listdir(tmp_path / "skin")) == [".vggnb-source.json", "test", "train"]


def test_url_refuses_in_one_sentence(server, skin, tmp_path, monkeypatch):
    server.files["/text"], server.files["/wrong"] = b"text", SKIN[:-1]
    (tmp_path / "mine").mkdir()
    text = hashlib.sha256(b"text").hexdigest()
    for address, folder, sha256, words in (
        (server.address + "/nothing", "a", SHA256, "404"),
        (server.address + "/wrong", "a", SHA256, "checksum"),
        ("file:///etc/passwd", "a", SHA256, "download failed"),
        ("http://127.0.0.1:9/x", "b", SHA256, "download failed"),
        (f"{server.address}/text", "c", text, "not a .zip"),
        (skin, "mine", SHA256, "holds something else"),
    ):
        with pytest.raises(VggnbError, match=words):
            datasets.url(address, tmp_path / folder, sha256=sha256, progress=False)
        assert folder == "mine" or not (tmp_path / folder).exists()
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(VggnbError, match="pip install pooch"):
        datasets.url(skin, tmp_path / "d", sha256=SHA256, progress=False)


@pytest.mark.parametrize(
    ("code", "message"), [(401, "accept its terms"), (403, "accept its terms"), (404, "no such"), (None, "boom")]
)
def test_kaggle_gives_the_folder_or_refuses_in_one_sentence(tmp_path, monkeypatch, code, message):
    kagglehub = types.SimpleNamespace(dataset_download=lambda slug: str(tmp_path / slug))
    monkeypatch.setitem(sys.modules, "kagglehub", kagglehub)
    assert datasets.kaggle() == tmp_path / datasets.ARTICLE_SET
    error = OSError("boom")
    error.response = types.SimpleNamespace(status_code=code)
    kagglehub.dataset_download = lambda slug: (_ for _ in ()).throw(error)
    with pytest.raises(VggnbError, match=message):
        datasets.kaggle()
    with pytest.raises(VggnbError, match="not the name"):
        datasets.kaggle("https://www.kaggle.com/datasets/fanconic/skin")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(VggnbError, match="pip install kagglehub"):
        datasets.kaggle()


def record(server, number, licence="CC-0", **clinical):
    """A result as api.isic-archive.com gives it (ImageMarkup/isic, core/api/image.py)."""
    path = f"/full/ISIC_{number:07d}.jpg"
    server.files[path] = encoded(photo(number), "JPEG")
    return {
        "isic_id": f"ISIC_{number:07d}",
        "copyright_license": licence,
        "attribution": "Hospital Clínic, Ünited",
        "metadata": {"acquisition": {"image_type": "dermoscopic"}, "clinical": clinical},
        "files": {"full": {"url": f"{server.address}{path}?Expires=1&Signature=x"}},
    }


@pytest.fixture
def archive(server, monkeypatch):
    monkeypatch.setattr(datasets, "ISIC", server.address + "/isic")
    benign, malignant = datasets.DERMOSCOPY.values()
    licence = {5: "CC-BY-NC", 10: "CC-BY-NC"}
    server.records[benign] = [record(server, n, licence.get(n, "CC-0"), lesion_id=f"IL_{n // 2}") for n in range(1, 12)]
    server.records[malignant] = [record(server, n, patient_id=f"IP_{n}") for n in range(100, 104)]
    return server


def test_isic_gives_a_table_with_groups_and_an_attribution_and_fetches_what_is_missing(archive, tmp_path):
    archive.faults["/full/ISIC_0000001.jpg"] = ["cut", "503"]
    table = datasets.isic(tmp_path / "isic", each=7, progress=False)
    with open(table, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["label"] for row in found].count("benign") == 7, "two of the first nine have another licence"
    assert {row["group"] for row in found if row["label"] == "benign"} == {"IL_0", "IL_1", "IL_2", "IL_3", "IL_4"}
    assert {row["group"] for row in found if row["label"] == "malignant"} == {f"IP_{n}" for n in range(100, 104)}
    for row in found:
        assert (table.parent / row["path"]).read_bytes() == archive.files[f"/full/{row['path'].split('/')[1]}"]
    assert "ISIC_0000101: Hospital Clínic, Ünited (CC-0)" in (table.parent / "ATTRIBUTION.txt").read_text("utf-8")
    assert sorted(os.listdir(table.parent)) == ["ATTRIBUTION.txt", "benign", "labels.csv", "malignant"]
    (table.parent / found[0]["path"]).unlink()
    archive.log.clear()
    datasets.isic(tmp_path / "isic", each=7, progress=False)
    assert [path for path in archive.log if path.startswith("/full")] == [f"/full/{found[0]['path'].split('/')[1]}"]


def test_isic_refuses_in_one_sentence(archive, tmp_path):
    archive.records["nevus"] = [record(archive, 300, "CC-BY-NC")]
    for queries, words in (
        ({"nevus": "nevus"}, "no image for nevus under CC-0"),
        ({"a": "benign OR OR"}, "download failed .400"),
    ):
        with pytest.raises(VggnbError, match=words):
            datasets.isic(tmp_path / "isic", queries=queries, progress=False)
    archive.faults["/full/ISIC_0000001.jpg"] = ["500"] * 9
    with pytest.raises(VggnbError, match="download failed .500"):
        datasets.isic(tmp_path / "isic", progress=False)
    assert not (tmp_path / "isic" / "labels.csv").exists()
