"""The store that one process or a cluster fills is the same, whatever dies meanwhile."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin

from vggnb.cluster import fill_store
from vggnb.cluster.units import Missing, is_manifest, stream_rows
from vggnb.features import extract
from vggnb.shards import whole_shards
from vggnb.storage import VggnbError

SCRIPT = Path(__file__).with_name("cluster_faults.py")


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
    manifest.write_text("path,label\na.png,a\n")
    with pytest.raises(VggnbError, match="Not a manifest"):
        fill(manifest)


def test_without_ray_the_way_to_it_is_told(fill, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vggnb.cluster.distributed", raising=False)
    with pytest.raises(VggnbError, match="Ray is not installed") as told:
        fill(standin.pictures(tmp_path / "many", 2), engine="ray")
    assert "vggnb[cluster]" in told.value.remedy


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What `cluster_faults.py` saw."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("needs Ray: pip install 'vggnb[cluster]'")
    folder = tmp_path_factory.mktemp("faults")
    paths = os.pathsep.join(map(str, (SCRIPT.parent.parent, SCRIPT.parent)))
    environment = {**os.environ, "PYTHONPATH": paths, "STANDIN_LOG": str(folder / "log"), "VGGNB_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, folder], capture_output=True, text=True, timeout=300, env=environment
    )  # fmt: skip
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
])  # fmt: skip
def test_machines_that_differ_are_told(what, words, faults):
    assert words in faults["errors"][what]
