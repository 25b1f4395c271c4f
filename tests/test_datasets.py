"""Real datasets, from a local server that speaks their language and misbehaves."""

import csv
import hashlib
import io
import json
import os
import sys
import zipfile

import pytest
from misbehaving_server import serving
from PIL import Image

from vggnb import datasets
from vggnb.datasets import isic_archive as isic
from vggnb.datasets import requesting, sources
from vggnb.storage import VggnbError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(requesting, "PAUSES", (0, 0, 0))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def soon(monkeypatch):
    """A server that says nothing is given up after a second."""
    monkeypatch.setattr(requesting, "TIMEOUT_S", 1)


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


# any address with a checksum


def test_url_is_fetched_checked_and_unpacked_once(server, skin, tmp_path):
    target = datasets.url(skin, tmp_path / "skin", sha256="SHA256:" + SHA256.upper(), progress=False)
    assert (target / "train/malignant/2.jpg").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["skin"]
    assert datasets.url(skin, target, sha256=SHA256, progress=False) == target
    assert len(server.log) == 1, "what is whole is not fetched again"


def test_url_is_tried_again_after_a_transient_failure(server, skin, tmp_path, soon):
    server.faults["/skin.zip"] = ["cut", "503", "slow"]
    target = datasets.url(skin, tmp_path / "skin", sha256=SHA256, progress=False)
    assert (target / "test/benign/3.jpg").read_bytes() == b"3" and len(server.log) == 4


def test_url_whose_archive_has_arrived_is_not_fetched_again(server, skin, tmp_path):
    (tmp_path / "skin.partial" / "unpacked" / "half").mkdir(parents=True)
    (tmp_path / "skin.partial" / SHA256).write_bytes(SKIN)  # a call was killed while it unpacked
    datasets.url(skin, tmp_path / "skin", sha256=SHA256, progress=False)
    assert not server.log and sorted(os.listdir(tmp_path / "skin")) == [".vggnb-source.json", "test", "train"]


def test_url_refuses_in_one_sentence(server, skin, tmp_path, monkeypatch):
    server.files["/text"], server.files["/wrong"] = b"text", SKIN[:-1]
    (tmp_path / "mine").mkdir()
    text = hashlib.sha256(b"text").hexdigest()
    for address, folder, sha256, words in (
        (server.address + "/nothing", "a", SHA256, "404"),
        (server.address + "/wrong", "a", SHA256, "checksum"),
        (skin, "a", "abc", "no SHA-256"),
        ("file:///etc/passwd", "a", SHA256, "InvalidSchema"),
        ("http://127.0.0.1:9/x", "a", SHA256, "download failed"),
        (f"{server.address}/text", "b", text, "not a .zip"),
        (skin, "mine", SHA256, "holds something else"),
    ):
        with pytest.raises(VggnbError, match=words):
            datasets.url(address, tmp_path / folder, sha256=sha256, progress=False)
        assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(VggnbError, match="pip install pooch"):
        datasets.url(skin, tmp_path / "c", sha256=SHA256, progress=False)


# Kaggle


@pytest.fixture
def kaggle(server, monkeypatch, tmp_path):
    kaggle_env = pytest.importorskip("kagglesdk.kaggle_env")
    pytest.importorskip("kagglehub")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, server.address)
    server.files[sources.ARTICLE_SET] = SKIN
    return server


def test_kaggle_fetches_the_articles_set_once(kaggle):
    folder = datasets.kaggle()
    assert (folder / "train/malignant/2.jpg").read_bytes() == b"two"
    downloads = [path for path in kaggle.log if path.endswith("DownloadDataset")]
    assert datasets.kaggle() == folder
    assert downloads == [path for path in kaggle.log if path.endswith("DownloadDataset")] and len(downloads) == 1


@pytest.mark.parametrize(
    ("faults", "message"),
    [(["403"], "accept its terms"), (["404"], "no such dataset"), (["", "wrong"], "arrived damaged")],
)
def test_kaggle_refuses_in_one_sentence(kaggle, faults, message):
    kaggle.faults[sources.ARTICLE_SET] = faults
    with pytest.raises(VggnbError, match=f"(?s){message}"):
        datasets.kaggle()
    assert datasets.kaggle().is_dir(), "the next call does it"


def test_kaggle_without_network_or_package_or_name(kaggle, monkeypatch):
    with pytest.raises(VggnbError, match="not the name"):
        datasets.kaggle("https://www.kaggle.com/datasets/fanconic/skin")
    kaggle.server_close()
    kaggle.shutdown()
    with pytest.raises(VggnbError, match="Check the network"):
        datasets.kaggle()
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(VggnbError, match="pip install kagglehub"):
        datasets.kaggle()


# the ISIC Archive


def image(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 90, 70)).save(buffer, "JPEG")
    return buffer.getvalue()


def record(server, number, licence="CC-0", lesion=None, **clinical):
    """A result as api.isic-archive.com gives it (ImageMarkup/isic, core/api/image.py)."""
    name, data = f"ISIC_{number:07d}", image(number % 256)
    server.files[f"/full/{name}.jpg"] = data
    files = {"full": {"url": f"{server.address}/full/{name}.jpg?Expires=1&Signature=x", "size": len(data)}}
    if lesion:
        clinical["lesion_id"] = lesion
    metadata = {"acquisition": {"pixels_x": 40, "pixels_y": 30, "image_type": "dermoscopic"}, "clinical": clinical}
    return {
        "isic_id": name,
        "copyright_license": licence,
        "attribution": "Hospital Clínic, Ünited",
        "public": True,
        "metadata": metadata,
        "files": files,
    }


@pytest.fixture
def archive(server, monkeypatch):
    monkeypatch.setattr(isic, "API", server.address + "/api/v2")
    benign, malignant = isic.DERMOSCOPY.values()
    server.records[benign] = [
        record(server, n, "CC-BY-NC" if n % 5 == 0 else "CC-0", f"IL_{n // 2}") for n in range(1, 12)
    ]
    server.records[malignant] = [record(server, n, patient_id=f"IP_{n}") for n in range(100, 104)]
    return server


def rows(table):
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_isic_gives_a_table_with_groups_and_an_attribution(archive, tmp_path):
    table = datasets.isic(tmp_path / "isic", each=7, progress=False)
    found = rows(table)
    assert [row["label"] for row in found].count("benign") == 7, "two of the first nine have another licence"
    assert {row["group"] for row in found if row["label"] == "benign"} == {"IL_0", "IL_1", "IL_2", "IL_3", "IL_4"}
    assert {row["group"] for row in found if row["label"] == "malignant"} == {f"IP_{n}" for n in range(100, 104)}
    for row in found:
        assert (table.parent / row["path"]).read_bytes() == image(int(row["path"][-11:-4]) % 256)
    text = (table.parent / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    assert "11 images: Hospital Clínic, Ünited (CC-0)" in text and "ISIC_0000101: " in text
    assert sorted(os.listdir(table.parent)) == ["ATTRIBUTION.txt", "benign", "labels.csv", "malignant"]


def test_isic_fetches_only_what_is_missing(archive, tmp_path, soon):
    archive.faults["/api/v2/images/search/"] = ["500", "", "slow"]
    archive.faults["/full/ISIC_0000001.jpg"] = ["cut", "503"]
    table = datasets.isic(tmp_path / "isic", progress=False)
    names = sorted(row["path"] for row in rows(table))
    (table.parent / names[0]).unlink()
    (table.parent / names[1]).write_bytes((table.parent / names[1]).read_bytes()[:-50])
    (table.parent / names[2]).write_bytes(bytes(len((table.parent / names[2]).read_bytes())))
    archive.log.clear()
    datasets.isic(tmp_path / "isic", progress=False)
    fetched = sorted(path.split("/")[-1] for path in archive.log if path.startswith("/full"))
    assert fetched == [name.split("/")[-1] for name in names[:3]]


def test_isic_names_what_could_not_be_fetched_and_keeps_the_rest(archive, tmp_path):
    archive.faults["/full/ISIC_0000001.jpg"] = ["500"] * 4
    archive.files["/full/ISIC_0000103.jpg"] = archive.files["/full/ISIC_0000103.jpg"][:-40] + bytes(40)[:39]
    with pytest.raises(VggnbError, match=r"2 of 13 .*ISIC_0000001.*500.*ISIC_0000103.*damaged"):
        datasets.isic(tmp_path / "isic", progress=False)
    assert not (tmp_path / "isic" / "labels.csv").exists()
    archive.files["/full/ISIC_0000103.jpg"] = image(103)
    archive.log.clear()
    datasets.isic(tmp_path / "isic", progress=False)
    assert sum(path.startswith("/full") for path in archive.log) == 2


def test_isic_other_words_and_licences(archive, tmp_path):
    archive.records["diagnosis_3:Nevus"] = [record(archive, 300, "CC-BY-NC"), record(archive, 301, "CC-BY")]
    words = {"nevus": "diagnosis_3:Nevus", "malignant": isic.DERMOSCOPY["malignant"]}
    with pytest.raises(VggnbError, match="no image for nevus under CC-0"):
        datasets.isic(tmp_path / "a", queries=words, progress=False)
    table = datasets.isic(tmp_path / "b", queries=words, licences=("CC-0", "CC-BY"), progress=False)
    assert [row["path"] for row in rows(table)][0] == "nevus/ISIC_0000301.jpg"


def test_isic_refuses_in_one_sentence(archive, tmp_path, monkeypatch):
    def refused(message, **queries):
        with pytest.raises(VggnbError, match=message):
            datasets.isic(tmp_path / "isic", queries=queries, progress=False)

    benign = isic.DERMOSCOPY["benign"]
    refused("does not understand the search words", a="benign OR OR")
    refused("is a and b", a=benign, b=benign)
    with pytest.raises(VggnbError, match="cannot be a class folder"):
        datasets.isic(tmp_path / "isic", queries={"../evil": benign})
    archive.records["names"] = [{**record(archive, 1), "isic_id": "../../evil"}]
    refused("does not understand", a="names")
    archive.records["shape"] = [{"isic_id": "ISIC_1"}]
    refused("does not understand", a="shape")
    other = {"copyright_license": "none", "isic_id": "ISIC_1"}
    for page in (b"<html>", json.dumps({"next": "http://evil.example/", "results": [other]}).encode()):
        monkeypatch.setattr(isic, "get", lambda address: page)  # noqa: B023
        refused("another server" if b"evil" in page else "does not understand", a=benign)
