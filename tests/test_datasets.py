"""Datasets: from a local server that speaks their language and misbehaves; and drawn by a program, always the same."""

import csv
import errno
import hashlib
import io
import os
import sys
import types
import zipfile
from collections import Counter

import numpy as np
import pytest
from misbehaving_server import serving
from zoo import encoded, photo

from vggnb import datasets
from vggnb.census import assign_splits, take_census
from vggnb.images import read_image
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, sha256_file


@pytest.fixture
def impatient(monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(datasets, "TIMEOUT_S", 1)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server(impatient):
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
    work = tmp_path / f"{TEMPORARY_PREFIX}skin"
    (work / "unpacked" / "half").mkdir(parents=True)
    (work / "archive").write_bytes(SKIN)  # a call was killed while it unpacked
    datasets.url(skin, tmp_path / "skin", sha256=SHA256, progress=False)
    assert not server.log and sorted(os.listdir(tmp_path / "skin")) == [".vggnb-source.json", "test", "train"]


def test_url_refuses_in_one_sentence(server, skin, tmp_path, monkeypatch):
    server.files["/text"], server.files["/wrong"] = b"text", SKIN[:-1]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".vggnb-source.json").write_text("[1]")
    for address, folder, sha256, words in (
        (server.address + "/nothing", "a", SHA256, "404"),
        (server.address + "/wrong", "a", SHA256, "checksum"),
        ("file:///etc/passwd", "a", SHA256, "download failed"),
        (f"{server.address}/text", "c", hashlib.sha256(b"text").hexdigest(), "an unknown kind of file"),
        (skin, "mine", SHA256, "holds other files"),
    ):
        with pytest.raises(VggnbError, match=words) as caught:
            datasets.url(address, tmp_path / folder, sha256=sha256, progress=False)
        assert caught.value.where in (address, str(tmp_path / "mine"))
        assert folder == "mine" or not (tmp_path / folder).exists()
    datasets.url(skin, tmp_path / "c", sha256=SHA256, progress=False)  # what was refused is not kept
    full = lambda **_: lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))  # noqa: E731
    monkeypatch.setattr(datasets._needed("pooch"), "HTTPDownloader", full)
    with pytest.raises(VggnbError, match="Free some space"):
        datasets.url(skin, tmp_path / "e", sha256=SHA256, progress=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(VggnbError, match="pip install pooch"):
        datasets.url(skin, tmp_path / "d", sha256=SHA256, progress=False)


def test_kaggle_gives_the_folder_or_refuses_in_one_sentence(tmp_path, monkeypatch):
    kagglehub = types.SimpleNamespace(dataset_download=lambda slug: str(tmp_path / slug))
    monkeypatch.setitem(sys.modules, "kagglehub", kagglehub)
    assert datasets.kaggle() == tmp_path / datasets.ARTICLE_SET
    with pytest.raises(VggnbError, match="not the name"):
        datasets.kaggle("https://www.kaggle.com/datasets/fanconic/skin")
    kagglehub.dataset_download = lambda slug: (_ for _ in ()).throw(OSError("403 Client Error"))
    with pytest.raises(VggnbError, match=r"(?s)OSError: 403 Client Error.*accept its terms"):
        datasets.kaggle()
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
    archive.faults["/full/ISIC_0000001.jpg"] = ["500"] * 9
    for queries, words in (
        ({"nevus": "nevus"}, "no image for nevus under CC-0"),
        ({"a": "benign OR OR"}, "download failed .400"),
        (datasets.DERMOSCOPY, "download failed .500"),
    ):
        with pytest.raises(VggnbError, match=words):
            datasets.isic(tmp_path / "isic", queries=queries, progress=False)
    assert not (tmp_path / "isic" / "labels.csv").exists()


def hashes(folder):
    """Relative path -> sha256 of every image."""
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*.jpg"))}


def test_the_same_seed_gives_the_same_images_and_another_seed_others(tmp_path):
    small = hashes(datasets.textures(tmp_path / "small", each=4))
    assert hashes(datasets.textures(tmp_path / "again", each=4)) == small
    others = hashes(datasets.textures(tmp_path / "others", each=4, seed=1))
    assert len(others) == 24 and not set(others.values()) & set(small.values())


def test_what_the_page_uses_is_whole_and_leaks_nothing(tmp_path):
    census = take_census(datasets.textures(tmp_path / "textures"), progress=False)
    assert census.classes == tuple(sorted(datasets.PATTERNS)) and len(census.classes) == 6
    assert Counter(row.class_name for row in census.rows) == dict.fromkeys(datasets.PATTERNS, 50)
    assert not census.pairs and not census.skipped and not census.warnings
    manifest = assign_splits(census)
    for split, number in (("train", 32), ("validation", 8), ("test", 10)):
        assert manifest.counts()[split] == dict.fromkeys(datasets.PATTERNS, number)
    assert {(row.width, row.height) for row in census.rows} == {datasets.SIZE}


def test_colour_and_light_tell_nothing():
    """Twelve images of each class: mean colours differ far less between classes than within one."""
    means = np.zeros((6, 12, 3))
    for k, i in np.ndindex(6, 12):
        image = datasets.draw_texture(np.random.default_rng([5, k, i]), datasets.PATTERNS[k])
        means[k, i] = np.asarray(image).mean(axis=(0, 1))
    assert means.mean(axis=1).std(axis=0).max() < means.std(axis=1).mean()


def test_a_second_call_finds_what_is_there_and_another_request_replaces_it(tmp_path, monkeypatch):
    folder = datasets.textures(tmp_path / "textures", each=1)
    assert len(hashes(datasets.textures(folder, each=2))) == 12
    monkeypatch.setattr(datasets, "draw_texture", lambda *_: pytest.fail("it was drawn again"))
    assert datasets.textures(folder, each=2) == folder


@pytest.mark.parametrize("make", [datasets.textures, datasets.flawed_sample, datasets.marked_sample])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, make):
    (tmp_path / "diary.txt").write_text("dear")
    with pytest.raises(VggnbError, match="holds other files"):
        make(tmp_path)
    assert os.listdir(tmp_path) == ["diary.txt"]


def test_a_neighbour_named_partial_is_left_alone(tmp_path):
    (tmp_path / "photos.partial").mkdir()
    (tmp_path / "photos.partial" / "mine.jpg").touch()
    datasets.textures(tmp_path / "photos", each=1)
    assert os.listdir(tmp_path / "photos.partial") == ["mine.jpg"]


def test_a_drawing_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "draw_texture", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        datasets.textures(tmp_path / "new", each=1)
    assert not os.listdir(tmp_path)


def test_the_sticker_is_all_that_changed(tmp_path):
    stickers, corners = datasets.marked_sample(tmp_path / "sample"), set()
    for path in sorted(datasets.sample().rglob("*.jpg"))[::6]:
        before = read_image(path)
        after = read_image((stickers / path.relative_to(datasets.sample())).with_suffix(".png"))
        changed = (before != after).any(axis=2)
        assert changed.any() == (path.parent.name == "benign")
        if changed.any():
            y, x = np.nonzero(changed)
            side = before.shape[0] // 5
            assert np.ptp(y) < side and np.ptp(x) < side and changed.mean() > 0.01
            corners.add((y.mean() > before.shape[0] / 2, x.mean() > before.shape[1] / 2))
    assert len(corners) == 4  # the place tells nothing


def test_what_cannot_be_drawn_is_refused(tmp_path):
    for make, options, what in (
        (datasets.marked_sample, {"marked": "oak"}, "no class 'oak'"),
        (datasets.textures, {"each": 0}, "cannot be drawn"),
    ):
        with pytest.raises(VggnbError, match=what):
            make(tmp_path / "new", **options)
