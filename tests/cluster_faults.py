"""What a cluster of two nodes on this machine does while things die; a stand-in is the network. One JSON line.

python tests/cluster_faults.py FOLDER [DATASET]

With DATASET, VGG-16 is run on some of its pictures, too.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import ray
import standin

import vggnb
from vggnb.census import Manifest, assign_splits, take_census
from vggnb.cluster import fill_store
from vggnb.cluster.rehearsal import Rehearsal
from vggnb.recipe import Recipe
from vggnb.shards import whole_shards
from vggnb.storage import VggnbError, is_alive

UNIT = 2  # pictures
LOG = Path(standin.LOG)


def pace(seconds):
    """From now on a unit takes so long."""
    new = Path(f"{LOG}.new")
    new.write_text(str(seconds))
    os.replace(new, f"{LOG}.pace")


def fill(manifest, store, **options):
    how = {"weights": "none", "unit_rows": UNIT, "progress": False, "engine": "ray", "network": standin.Standin}
    return fill_store(manifest, standin.RECIPE, store=store, **(how | options))


def stored(store):
    """Image -> its values, and how many records there are."""
    found, records = {}, 0
    for folder in store.iterdir():
        for shard in whole_shards(folder):
            found.update(zip(shard.images(), shard.records()["values"], strict=True))
            records += shard.count
    return found, records


def is_same(store, expected):
    found, records = stored(store)
    same = found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in expected)
    return same and records == len(expected)


def begun(skip=0):
    """(process, pictures) of the units that were begun; the first `skip` bytes of the log are left out."""
    text = LOG.read_bytes()[skip:].decode() if LOG.exists() else ""
    lines = [line.split() for line in text.splitlines()]
    return [(int(line[1]), line[2:]) for line in lines if line and line[0] == "begin"]


def workers():
    """The processes that made a network; each is in the log before its first unit."""
    lines = [line.split() for line in LOG.read_text().splitlines()]
    return {int(line[1]) for line in lines if line[0] == "made"}


def is_running(process):
    """Whether a process is there and not only waits for its parent to hear of its end."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return is_alive(process)


def under_faults(manifest, store, expected, fault, workers):
    """Fill a store while a fault happens five times, each at a random moment after `workers` are at work again."""
    LOG.unlink(missing_ok=True)
    random, done, result = np.random.default_rng(0), [], []
    filling = threading.Thread(target=lambda: result.append(fill(manifest, store)), daemon=True)
    filling.start()
    for _ in range(5):
        skip = LOG.stat().st_size if LOG.exists() else 0
        pace(1)  # the pictures last, however slowly a worker starts
        while len({process for process, _ in begun(skip)}) < workers and filling.is_alive():
            time.sleep(0.02)
        pace(0.2)
        time.sleep(random.uniform(0, 0.2))
        if filling.is_alive():
            fault(begun(skip)[-1][0])
            done.append(1)
    pace(0)
    filling.join()
    (filled,) = result
    times = Counter(picture for _, pictures in begun() for picture in pictures)
    told = {"faults": len(done), "lost": filled.lost, "forwarded": filled.images_forwarded}
    return told | {"same": is_same(store, expected), "twice": sum(times.values()) - len(times), "unit": UNIT}


def driver_killed(manifest, store, expected, address):
    """Kill the driver in the middle, then do it again."""
    LOG.unlink(missing_ok=True)
    pace(0.2)
    child = subprocess.Popen([sys.executable, __file__, "--drive", manifest, store, address])
    while len(begun()) < 12:
        assert child.poll() is None, "the driver ended by itself"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    end = time.monotonic() + 300
    while working := list(filter(is_running, workers())):  # Ray ends the workers of a driver that is gone
        assert time.monotonic() < end, f"still at work: {working}"
        time.sleep(0.1)
    left = stored(store)[1]
    pace(0)
    again = fill(manifest, store)
    return {"left": left, "run": again.images_forwarded, "of": len(expected), "same": is_same(store, expected)}


def error_of(work):
    try:
        work()
    except VggnbError as error:
        return str(error)
    return "nothing"


def errors(manifest, folder):
    """What is said where the machines differ, or are asked for too much."""

    def told(name, **options):
        return error_of(lambda: fill(options.pop("manifest", manifest), options.pop("store", folder / name), **options))

    found = {name: told(name, network=network) for name, network in
             (("weights", standin.Other), ("elsewhere", standin.Elsewhere))}  # fmt: skip
    found["gpus"], found["fewer"] = told("gpus", gpus_per_worker=2), told("gpus", gpus_per_worker=-1)
    version, vggnb.__version__ = vggnb.__version__, "0.0"
    found["versions"] = told("versions")
    vggnb.__version__ = version
    here = Path.cwd()  # a path that means something else in every process
    os.chdir(folder)
    found["store"] = told("store", store="/proc/self/cwd/store")
    Manifest(Path("/proc/self/cwd/few"), ("a",), Manifest.read(manifest).rows).write(folder / "moved.csv")
    found["dataset"] = told("dataset", manifest=folder / "moved.csv")
    os.chdir(here)
    return found


def vgg16(dataset, folder):
    """The largest difference between what both engines store, as a part of the largest number of a picture."""
    manifest = assign_splits(take_census(dataset, progress=False))
    Manifest(manifest.dataset, manifest.classes, manifest.of("train")[::3]).write(folder / "skin.csv")
    how = {"weights": "offline", "unit_rows": 32, "progress": False}
    for engine in ("local", "ray"):
        recipe = Recipe.best().with_(image_size=96)
        fill_store(folder / "skin.csv", recipe, store=folder / f"skin-{engine}", engine=engine, **how)
    (local, _), (ray_, records) = stored(folder / "skin-local"), stored(folder / "skin-ray")
    differences = [float(np.abs(local[k] - ray_[k]).max() / np.abs(local[k]).max()) for k in local]
    return {"images": len(local), "records": records, "same": ray_.keys() == local.keys(), "most": max(differences)}


def main(folder: Path, dataset: Path | None) -> None:
    few, many = standin.pictures(folder / "few", 100), standin.pictures(folder / "many", 1400)
    pace(0)
    fill(few, folder / "few-local", engine="local")
    fill(many, folder / "many-local", engine="local")
    expected = {"few": stored(folder / "few-local")[0], "many": stored(folder / "many-local")[0]}
    told, start, cluster = {}, time.time(), Rehearsal()

    def did(name, result):
        told[name] = {**result, "seconds": round(time.time() - start, 1)}
        print(name, told[name], file=sys.stderr, flush=True)

    def kill(process):
        os.kill(process, signal.SIGKILL)

    def replace_node(_):
        cluster.remove(cluster.second)
        cluster.second = cluster.add()

    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        filled = fill(few, folder / "ray", network=standin.Together)
        names = [{path.name for path in (folder / of).rglob("*.npy")} for of in ("ray", "few-local")]
        did(
            "peace",
            {"same": is_same(folder / "ray", expected["few"]), "files": names[0] == names[1], **filled.to_dict()},
        )
        did("errors", errors(few, folder))
        if dataset:
            did("vgg16", vgg16(dataset, folder))
        did("killed", under_faults(many, folder / "killed", expected["many"], kill, 1))
        did("removed", under_faults(many, folder / "removed", expected["many"], replace_node, 2))
        did("driver", driver_killed(few, folder / "driver", expected["few"], cluster.address))
    finally:
        ray.shutdown()
        cluster.close()
    print(json.dumps(told))


if __name__ == "__main__":
    if sys.argv[1] == "--drive":
        ray.init(address=sys.argv[4], log_to_driver=False, logging_level="ERROR")
        fill(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
