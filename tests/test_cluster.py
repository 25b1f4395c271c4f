"""The store that one process or a cluster fills is the same, whatever dies meanwhile."""

import socket
import sys
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import standin
from faults import killed_at
from programs import TESTS, told_by

from vggnb import features as module
from vggnb.features import LocalEngine, extract, fill_store, rehearsal
from vggnb.storage import VggnbError

IMAGES = 160  # in the cluster; 20 in a block


@pytest.fixture
def fill(tmp_path):
    """A function: manifest -> features, with the stand-in network."""

    def fill(manifest, **options):
        how = {"weights": "none", "store": tmp_path / "store", "network": standin.Standin, **options}
        return fill_store(manifest, how.pop("recipe", standin.RECIPE), progress=False, **how)

    return fill


@pytest.fixture
def many(tmp_path):
    return standin.many_images(tmp_path / "many", 50)


@pytest.fixture
def ray_engine():
    pytest.importorskip("ray", reason="needs Ray: pip install 'vggnb[cluster]'")
    from vggnb.features import ray_engine

    return ray_engine


def test_a_second_time_nothing_is_forwarded(fill, many):
    first, second = fill(many), fill(many)
    assert (len(first.rows), first.images_forwarded, first.from_store) == (50, 50, 0)
    assert np.array_equal(first.values, second.values)
    assert second.to_dict() == {
        "rows": 50, "images_forwarded": 0, "from_store": 50, "workers": 1, "images_per_s": 0.0,
        "precision": "float32", "unreadable": [], "seconds": second.seconds,
    }  # fmt: skip


def test_training_finds_everything_in_the_store(manifest, best, base, tmp_path):
    filled = fill_store(manifest, best, weights="none", store=tmp_path / "store", progress=False)
    features = extract(manifest, best, *base, store=tmp_path / "store", progress=False)
    assert (filled.images_forwarded, features.images_forwarded) == (24, 0)
    assert np.array_equal(filled.values, features.values)


def test_what_cannot_be_done_is_refused_first(fill, many, manifest, tmp_path):
    with pytest.raises(VggnbError, match="no engine 'spark'"):
        fill(many, engine="spark")
    with pytest.raises(VggnbError, match="inside the dataset"):
        fill(many, store=tmp_path / "many" / "store")
    assert not (tmp_path / "many" / "store").exists()
    with pytest.raises(VggnbError, match="names no image of train or validation"):
        fill(replace(manifest, rows=manifest.of("test")))


def test_features_that_do_not_arrive_in_the_store_are_missed(fill, many, monkeypatch):
    monkeypatch.setattr(LocalEngine, "run", lambda self, rows, folder: [(time.time(), len(rows), [])])
    with pytest.raises(VggnbError, match="features of 50 images are not in the store"):
        fill(many)


def test_a_kill_loses_only_what_was_not_written(fill, many, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BATCHES", 1)
    assert killed_at(lambda: fill(many), "rename", 2, under=tmp_path / "store")
    features = fill(many)
    assert (features.from_store, features.images_forwarded) == (32, 18)
    assert np.array_equal(features.values, fill(many, store=tmp_path / "fresh").values)


def test_memory_does_not_grow_with_the_number_of_images(fill, tmp_path):
    """500 images more are 14 MB of pixels."""
    peaks = []
    for count in (100, 600):
        manifest = standin.many_images(tmp_path / str(count), count)
        tracemalloc.start()
        fill(manifest, recipe=standin.RECIPE.with_(image_size=96), store=tmp_path / f"store-{count}")
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4, peaks


def test_without_ray_the_package_is_named_and_a_rehearsal_uses_the_local_engine(fill, many, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vggnb.features.ray_engine", raising=False)
    with pytest.raises(VggnbError, match="Ray Data is not installed") as caught:
        fill(many, engine="ray")
    assert "vggnb[cluster]" in caught.value.remedy
    monkeypatch.setattr(rehearsal.importlib.util, "find_spec", lambda name: None)
    cluster = rehearsal.Rehearsal()
    assert "not installed" in capsys.readouterr().out
    assert fill(many, engine=cluster.engine, address=cluster.address).images_forwarded == 50
    cluster.close()


def test_an_address_where_no_ray_answers_is_refused_at_once(fill, many, ray_engine):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(VggnbError, match="No Ray cluster answers") as caught:
        fill(many, engine="ray", address=address)
    assert caught.value.where == address and "ray start --head" in caught.value.remedy


@pytest.mark.parametrize("cpus, gpus, found", [
    ([2, 2], [0, 0], (2, 0, 2)), ([1, 1], [0, 0], (2, 0, 1)), ([64], [0], (8, 0, 8)), ([4, 8], [0, 0], (3, 0, 4)),
    ([0, 2], [0, 0], (1, 0, 2)), ([4, 4], [2, 1], (3, 1, 0)),
])  # fmt: skip
def test_a_worker_for_each_gpu_or_group_of_cores(cpus, gpus, found, ray_engine):
    nodes = [{"CPU": cpu, "GPU": gpu} for cpu, gpu in zip(cpus, gpus, strict=True)]
    assert ray_engine.pool(nodes, None) == found
    with pytest.raises(VggnbError, match="has no usable CPU"):
        ray_engine.pool([{}], None)
    for count in (max(gpus) + 1, -1):
        with pytest.raises(VggnbError, match=f"cannot have {count} GPUs: no machine .* more than {max(gpus)}"):
            ray_engine.pool(nodes, count)


@pytest.mark.cluster
@pytest.mark.slow
def test_two_nodes_give_what_one_process_gives_whatever_dies_or_differs(tmp_path, monkeypatch, ray_engine):
    """One test, so that the cluster is started once."""
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("VGGNB_THREADS", "1")
    found = told_by(TESTS / "cluster_faults.py", tmp_path, IMAGES, timeout=1200)[0]
    same = found["vgg16"]
    assert same["rows"] and same["most"] <= 1e-5 and (same["images_forwarded"], same["workers"]) == (24, 2)
    for fault in (found["killed"], found["removed"]):
        assert fault["in_time"] and fault["same"] and fault["images_forwarded"] == IMAGES
    driver = found["driver"]
    assert driver["same"] and 0 < driver["left"] < IMAGES and driver["images_forwarded"] == IMAGES - driver["left"]
    assert "differ in weights or precision" in found["errors"]["weights"]
    assert "Versions differ: vggnb" in found["errors"]["versions"]
    for what in ("store", "dataset"):
        assert f"does not see the {what}" in found["errors"][what]
