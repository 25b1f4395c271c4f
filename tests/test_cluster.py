"""The store that one process or a cluster fills is the same, whatever dies meanwhile."""

import importlib.util
import json
import os
import socketserver
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standin

from vggnb.census.manifest import stream_rows
from vggnb.cluster import fill_store, rehearsal
from vggnb.cluster.plan import Plan, Speed, on_paper, size
from vggnb.cluster.units import Missing, is_manifest
from vggnb.features import extract
from vggnb.folders import duration
from vggnb.shards import whole_shards
from vggnb.storage import VggnbError

SCRIPT = Path(__file__).with_name("cluster_faults.py")
SKIN = Path(__file__).resolve().parents[2] / "shared" / "data" / "skin_small"


@pytest.fixture
def fill(tmp_path):
    """A function: manifest file -> what `fill_store` says, with the stand-in network and small units."""

    def fill(manifest, **options):
        how = {"weights": "none", "store": tmp_path / "store", "network": standin.Standin, "unit_rows": 8}
        return fill_store(manifest, standin.RECIPE, progress=False, **(how | options))

    return fill


def test_shards_are_even_and_a_second_time_nothing_is_forwarded(fill, tmp_path):
    manifest = standin.pictures(tmp_path / "many", 50)
    first, second = fill(manifest), fill(manifest)
    assert (first.rows, first.images_forwarded, first.from_store, first.shards) == (50, 50, 0, 7)
    assert {shard.count for shard in whole_shards(first.folder)} == {7, 8}
    assert (second.images_forwarded, second.from_store, second.shards) == (0, 50, 0)


def test_only_a_damaged_shard_is_made_again(fill, tmp_path):
    manifest = standin.pictures(tmp_path / "many", 50)
    shard = next(fill(manifest).folder.glob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert fill(manifest).images_forwarded in (7, 8)


def test_unreadable_pictures_are_named_and_a_copy_stands_in_for_its_lost_twin(fill, own_photos, survey, tmp_path):
    first, *_ = sorted((own_photos / "train" / "cat").iterdir())
    (first.parent / "zz_copy.jpg").write_bytes(first.read_bytes())
    manifest = survey(own_photos)
    manifest.write(tmp_path / "manifest.csv")
    first.unlink()
    (own_photos / "train" / "dog" / "dog_3.png").write_bytes(b"other")
    filled = fill(tmp_path / "manifest.csv")
    assert filled.unreadable == (("train/dog/dog_3.png", "The file changed since the census."),)
    assert filled.images_forwarded == 23
    assert "left out: train/dog/dog_3.png" in str(filled)


def test_copies_count_once_as_forwarded_and_when_none_can_be_read_that_is_told(fill, own_photos, survey, tmp_path):
    first, *_ = sorted((own_photos / "train" / "cat").iterdir())
    (copy := first.parent / "zz_copy.jpg").write_bytes(first.read_bytes())
    manifest = survey(own_photos)
    names = {f"train/cat/{first.name}", "train/cat/zz_copy.jpg"}
    twins = replace(manifest, rows=tuple(row for row in manifest.rows if row.path in names))
    twins.write(path := tmp_path / "manifest.csv")
    filled = fill(path)
    assert (filled.rows, filled.images_forwarded, filled.from_store) == (2, 1, 1)
    first.unlink()
    copy.unlink()
    with pytest.raises(VggnbError, match="None of the images can be read"):
        fill(path, store=tmp_path / "another")


def test_no_dataset_and_no_rows_are_told_as_what_they_are(fill, own_photos, survey, tmp_path):
    manifest = survey(own_photos)
    manifest.write(path := tmp_path / "manifest.csv")
    own_photos.rename(tmp_path / "moved")
    with pytest.raises(VggnbError, match="dataset's folder is not there"):
        fill(path)
    replace(manifest, rows=manifest.of("test")).write(path)
    with pytest.raises(VggnbError, match="names no image of train or validation"):
        fill(path)


def test_a_manifest_is_streamed_as_it_was_written(manifest, tmp_path):
    manifest.write(path := tmp_path / "manifest.csv")
    assert tuple(stream_rows(path, ("train", "validation", "test"))) == manifest.rows
    assert is_manifest(path) and not is_manifest(tmp_path / "absent.csv")
    missing = Missing(iter(manifest.rows))
    units = list(missing.units(10))
    missing.close()
    assert [row for unit in units for row in unit] == list(manifest.rows) and {len(unit) for unit in units} == {9}


def test_training_finds_everything_in_the_store(manifest, best, base, tmp_path):
    manifest.write(path := tmp_path / "manifest.csv")
    filled = fill_store(path, best, weights="none", store=tmp_path / "store", progress=False)
    features = extract(manifest, best, *base, store=tmp_path / "store", progress=False)
    assert (filled.images_forwarded, features.images_forwarded) == (24, 0)
    alone = extract(manifest, best, *base, store=tmp_path / "alone", progress=False)
    assert np.allclose(features.values, alone.values, rtol=1e-5, atol=1e-4)


def test_an_unknown_engine_and_another_file_are_told(fill, tmp_path):
    manifest = standin.pictures(tmp_path / "many", 2)
    with pytest.raises(VggnbError, match="no engine 'spark'"):
        fill(manifest, engine="spark")
    whole = manifest.read_text()
    for text in ("path,label\na.png,a\n", whole + "x" * 200_000):
        manifest.write_text(text)
        with pytest.raises(VggnbError, match="Not a manifest"):
            fill(manifest)


def test_a_store_among_the_pictures_is_refused(fill, tmp_path):
    manifest = standin.pictures(tmp_path / "many", 2)
    with pytest.raises(VggnbError, match="inside the dataset"):
        fill(manifest, store=tmp_path / "many" / "store")
    assert not (tmp_path / "many" / "store").exists()


def test_without_ray_the_way_to_it_is_told(fill, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("machines", "distributed"):
        monkeypatch.delitem(sys.modules, f"vggnb.cluster.{name}", raising=False)
    with pytest.raises(VggnbError, match="Ray is not installed") as told:
        fill(standin.pictures(tmp_path / "many", 2), engine="ray")
    assert "vggnb[cluster]" in told.value.remedy


@pytest.mark.parametrize("who", ["nobody", "somebody else"])
def test_an_address_where_no_ray_answers_is_told_at_once(who, fill, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'vggnb[cluster]'")
    with socketserver.TCPServer(("127.0.0.1", 0), Polite) as server:
        address = f"127.0.0.1:{server.server_address[1]}"
        if who == "nobody":
            server.server_close()
        else:
            threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(VggnbError, match="No Ray cluster answers") as told:
            fill(standin.pictures(tmp_path / "many", 2), engine="ray", address=address)
    assert told.value.where == address and "ray start --head" in told.value.remedy
    assert ("not Ray" in told.value.what) == (who != "nobody")


class Polite(socketserver.BaseRequestHandler):
    """Answers, and is not Ray."""

    def handle(self):
        self.request.recv(100)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_rehearsal_without_ray_is_the_local_engine(fill, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rehearsal.importlib.util, "find_spec", lambda name: None)
    cluster = rehearsal.Rehearsal()
    assert "not installed" in capsys.readouterr().out
    filled = fill(standin.pictures(tmp_path / "many", 5), engine=cluster.engine, address=cluster.address)
    cluster.close()
    assert (filled.engine, filled.images_forwarded) == ("local", 5)


def test_a_node_that_starts_too_slowly_gets_another_try():
    answers = iter([Exception("timed out"), "a node"])

    def start():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    assert rehearsal._started(start) == "a node"
    with pytest.raises(VggnbError, match="Ray did not start"):
        rehearsal._started(lambda: 1 / 0)


def test_who_dies_once_dies_once_and_never_the_caller(tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(rehearsal, "vgg16", standin.Standin)
    monkeypatch.setattr(rehearsal.os, "kill", lambda process, _: killed.append(process))
    network, pixels = rehearsal.dies_once(), np.zeros((1, 96, 96, 3), np.uint8)
    network(None).forward(tmp_path, ["0" * 64], pixels)
    assert not killed
    for _ in range(2):
        network(None, spared=-1).forward(tmp_path, ["0" * 64], pixels)
    assert killed == [os.getpid()]


def test_a_plan_is_a_division():
    card = on_paper("card", 6.14, used=0.5)
    plan = Plan("all", 1_000_000, card, record_bytes=11_840, picture_bytes=0.3e6)
    assert card.images_per_s == pytest.approx(100) and plan.seconds == pytest.approx(10_000)
    assert (size(plan.store_bytes), size(plan.read_bytes_per_s)) == ("12 GB", "30 MB")
    assert (size(5), size(0), size(2500)) == ("5 bytes", "0 bytes", "2.5 kB")
    assert "2.8 hours" in str(plan) and "assumed" in str(plan)
    here = Speed("here", 10.0, measured=True)
    assert here.times(2, "two").images_per_s < 20 and not here.times(2, "two").measured
    assert list(map(duration, (0, 1.5, 119, 120, 7199, 7200, 172_800))) == [
        "0 s", "2 s", "119 s", "2.0 min", "120 min", "2.0 hours", "2.0 days",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What `cluster_faults.py` saw."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("needs Ray: pip install 'vggnb[cluster]'")
    folder = tmp_path_factory.mktemp("faults")
    paths = os.pathsep.join(map(str, (SCRIPT.parent.parent, SCRIPT.parent)))
    environment = {**os.environ, "PYTHONPATH": paths, "STANDIN_LOG": str(folder / "log"), "VGGNB_THREADS": "1"}
    command = [sys.executable, SCRIPT, folder, *([SKIN] if SKIN.is_dir() else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"peace"')))


@pytest.mark.cluster
@pytest.mark.slow
def test_two_nodes_write_the_files_that_one_process_writes(faults):
    assert faults["peace"]["same"] and faults["peace"]["files"] and faults["peace"]["workers"] == 2


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "removed"])
def test_what_dies_takes_nothing_with_it_and_costs_one_shard_at_most(fault, faults):
    told = faults[fault]
    assert told["faults"] == 5 and told["lost"] >= 5 and told["same"]
    assert told["twice"] <= told["faults"] * told["unit"]


@pytest.mark.cluster
@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_stopped(faults):
    told = faults["driver"]
    assert told["same"] and told["left"] > 0 and told["run"] == told["of"] - told["left"]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("what, words", [
    ("weights", "networks differ"), ("versions", "Versions differ: vggnb"), ("store", "does not see the store"),
    ("dataset", "does not see the pictures"), ("elsewhere", "do not arrive in the store"),
    ("gpus", "No machine of the cluster has more than 0 GPUs"), ("fewer", "cannot take -1 GPUs"),
])  # fmt: skip
def test_what_the_machines_cannot_do_together_is_told(what, words, faults):
    assert words in faults["errors"][what]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not SKIN.is_dir(), reason="the real pictures are not here (../shared/data)")
def test_vgg16_gives_real_pictures_the_features_that_one_process_gives(faults):
    told = faults["vgg16"]
    assert told["same"] and told["records"] == told["images"] > 100 and told["most"] <= 1e-5
