"""The store that one process or a cluster fills is the same, whatever dies meanwhile."""

import importlib.util
import os
import socketserver
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import standin
from programs import TESTS, told_by

from vggnb.features import extract, extraction, fill_store, rehearsal
from vggnb.features.extraction import Job
from vggnb.storage import VggnbError


@pytest.fixture
def fill(tmp_path):
    """A function: manifest -> features, with the stand-in network."""

    def fill(manifest, **options):
        how = {"weights": "none", "store": tmp_path / "store", "network": standin.Standin, **options}
        return fill_store(manifest, standin.RECIPE, progress=False, **how)

    return fill


@pytest.fixture
def many(tmp_path):
    return standin.many_images(tmp_path / "many", 50)


def test_a_second_time_nothing_is_forwarded(fill, many):
    first, second = fill(many), fill(many)
    assert (len(first.rows), first.images_forwarded, first.from_store) == (50, 50, 0)
    assert (second.images_forwarded, second.from_store) == (0, 50)
    assert np.array_equal(first.values[:], second.values[:])
    assert second.to_dict() == {
        "rows": 50, "images_forwarded": 0, "from_store": 50, "workers": 1, "images_per_s": 0.0,
        "precision": "float32", "unreadable": [], "seconds": second.seconds,
    }  # fmt: skip


def test_training_finds_everything_in_the_store(manifest, best, base, tmp_path):
    filled = fill_store(manifest, best, weights="none", store=tmp_path / "store", progress=False)
    features = extract(manifest, best, *base, store=tmp_path / "store", progress=False)
    assert (filled.images_forwarded, features.images_forwarded) == (24, 0)
    assert np.array_equal(filled.values[:], features.values)


def test_what_cannot_be_done_is_refused_first(fill, many, manifest, tmp_path):
    with pytest.raises(VggnbError, match="no engine 'spark'"):
        fill(many, engine="spark")
    with pytest.raises(VggnbError, match="inside the dataset"):
        fill(many, store=tmp_path / "many" / "store")
    assert not (tmp_path / "many" / "store").exists()
    with pytest.raises(VggnbError, match="names no image of train or validation"):
        fill(replace(manifest, rows=manifest.of("test")))


def test_features_that_do_not_arrive_in_the_store_are_missed(fill, many, tmp_path, monkeypatch):
    class Elsewhere(extraction.LocalEngine):
        def run(self, rows, folder):
            (tmp_path / "elsewhere").mkdir()
            return super().run(rows, tmp_path / "elsewhere")

    monkeypatch.setattr(extraction, "LocalEngine", Elsewhere)
    with pytest.raises(VggnbError, match="features of 50 images are not in the store"):
        fill(many)


def test_without_ray_the_package_to_install_is_named(fill, many, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vggnb.features.ray_engine", raising=False)
    with pytest.raises(VggnbError, match="Ray Data is not installed") as told:
        fill(many, engine="ray")
    assert "vggnb[cluster]" in told.value.remedy


@pytest.mark.parametrize("listening", [False, True])
def test_an_address_where_no_ray_answers_is_refused_at_once(listening, fill, many):
    pytest.importorskip("ray", reason="needs Ray: pip install 'vggnb[cluster]'")
    with socketserver.TCPServer(("127.0.0.1", 0), NotRay) as server:
        address = f"127.0.0.1:{server.server_address[1]}"
        if listening:
            threading.Thread(target=server.handle_request, daemon=True).start()
        else:
            server.server_close()
        with pytest.raises(VggnbError, match="No Ray cluster answers") as told:
            fill(many, engine="ray", address=address)
    assert told.value.where == address and "ray start --head" in told.value.remedy
    assert ("not Ray" in told.value.what) == listening


class NotRay(socketserver.BaseRequestHandler):
    """Answers as a web server does."""

    def handle(self):
        self.request.recv(100)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("cpus, gpus, found", [
    ([2, 2], [0, 0], (2, 2)), ([1, 1], [0, 0], (2, 1)), ([64], [0], (8, 8)), ([4, 8], [0, 0], (3, 4)),
    ([0, 2], [0, 0], (1, 2)), ([4, 4], [2, 1], (3, 0)),
])  # fmt: skip
def test_a_worker_for_each_gpu_or_group_of_cores(cpus, gpus, found):
    pytest.importorskip("ray", reason="needs Ray: pip install 'vggnb[cluster]'")
    from vggnb.features.ray_engine import _cores_each, _workers_on

    nodes = [{"Resources": {"CPU": cpu, "GPU": gpu}} for cpu, gpu in zip(cpus, gpus, strict=True)]
    each = min(max(gpus), 1)
    cores = 0 if each else _cores_each(nodes)
    assert (sum(_workers_on(node, each, cores) for node in nodes), cores) == found
    with pytest.raises(VggnbError, match="has no CPU"):
        _cores_each([{"Resources": {}}])


def test_a_rehearsal_without_ray_is_the_local_engine(fill, many, monkeypatch, capsys):
    monkeypatch.setattr(rehearsal.importlib.util, "find_spec", lambda name: None)
    cluster = rehearsal.Rehearsal()
    assert "not installed" in capsys.readouterr().out
    assert fill(many, engine=cluster.engine, address=cluster.address).images_forwarded == 50
    cluster.close()


def test_a_worker_dies_once_and_never_the_caller(manifest, tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(rehearsal.os, "kill", lambda process, _: killed.append(process))
    job = Job(manifest, standin.RECIPE, "none", tmp_path, "pools", "float32", None)
    network, pixels = rehearsal.dies_once(standin.Standin), np.zeros((1, 32, 32, 3), np.uint8)
    network(job)(pixels)
    assert not killed
    for _ in range(2):
        network(job, spared=-1)(pixels)
    assert killed == [os.getpid()]


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What `cluster_faults.py` saw."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("needs Ray: pip install 'vggnb[cluster]'")
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STANDIN_LOG", str(folder / "log"))
        patch.setenv("VGGNB_THREADS", "1")
        return told_by(TESTS / "cluster_faults.py", folder, timeout=1200)[0]


@pytest.mark.cluster
@pytest.mark.slow
def test_two_nodes_give_what_one_process_gives(faults):
    found = faults["vgg16"]
    assert found["rows"] and found["most"] <= 1e-5 and (found["images_forwarded"], found["workers"]) == (60, 2)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "removed"])
def test_a_worker_or_a_node_that_dies_takes_nothing_with_it(fault, faults):
    found = faults[fault]
    assert found["in_time"] and found["same"] and found["images_forwarded"] == found["rows"] == 400


@pytest.mark.cluster
@pytest.mark.slow
def test_after_a_killed_driver_only_what_is_missing_is_computed(faults):
    found = faults["driver"]
    assert found["same"] and 0 < found["left"] < 400 and found["images_forwarded"] == 400 - found["left"]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("what, words", [
    ("weights", "differ in weights or precision"), ("versions", "Versions differ: vggnb"),
    ("store", "does not see the store"),
    ("dataset", "does not see the dataset"), ("gpus", "no machine of the cluster has more than 0"),
    ("fewer", "cannot have -1 GPUs"),
])  # fmt: skip
def test_what_the_machines_cannot_do_together_is_refused(what, words, faults):
    assert words in faults["errors"][what]
