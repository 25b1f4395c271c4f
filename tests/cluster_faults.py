"""What a cluster of two nodes on this machine does while things die; a stand-in is the network. One JSON line.

python tests/cluster_faults.py FOLDER
"""

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
from ray.cluster_utils import Cluster

import vggnb
from vggnb.cluster import fill_store
from vggnb.shards import whole_shards
from vggnb.storage import VggnbError

UNIT = 2  # pictures
LOG = Path(standin.LOG)
HURRY = Path(f"{LOG}.hurry")
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


def fill(manifest, store, engine="ray", network=standin.Standin):
    how = {"weights": "none", "unit_rows": UNIT, "progress": False}
    return fill_store(manifest, standin.RECIPE, store=store, engine=engine, network=network, **how)


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


def under_faults(manifest, store, expected, fault, workers):
    """Fill a store while a fault happens five times, each at a random moment after `workers` are at work again."""
    LOG.unlink(missing_ok=True)
    HURRY.unlink(missing_ok=True)
    random, done = np.random.default_rng(0), []

    result: list = []
    filling = threading.Thread(target=lambda: result.append(fill(manifest, store)), daemon=True)
    filling.start()
    for _ in range(5):
        skip = LOG.stat().st_size if LOG.exists() else 0
        while len({process for process, _ in begun(skip)}) < workers and filling.is_alive():
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.2))
        if filling.is_alive():
            fault(begun(skip)[-1][0])
            done.append(1)
    HURRY.touch()
    filling.join()
    (filled,) = result
    times = Counter(picture for _, pictures in begun() for picture in pictures)
    told = {"faults": len(done), "lost": filled.lost, "forwarded": filled.images_forwarded}
    return told | {"same": is_same(store, expected), "twice": sum(times.values()) - len(times), "unit": UNIT}


def driver_killed(manifest, store, expected, address):
    """Kill the driver in the middle, then do it again."""
    LOG.unlink(missing_ok=True)
    HURRY.unlink(missing_ok=True)
    child = subprocess.Popen([sys.executable, __file__, "--drive", manifest, store, address])
    while len(begun()) < 12:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(3)  # Ray ends the workers of a driver that is gone
    left = stored(store)[1]
    HURRY.touch()
    again = fill(manifest, store)
    return {"left": left, "run": again.images_forwarded, "of": len(expected), "same": is_same(store, expected)}


def error_of(work):
    try:
        work()
    except VggnbError as error:
        return str(error)
    return "nothing"


def errors(manifest, folder):
    """What is said where the machines differ."""
    told = {"weights": error_of(lambda: fill(manifest, folder / "weights", network=standin.Other))}
    version, vggnb.__version__ = vggnb.__version__, "0.0"
    told["versions"] = error_of(lambda: fill(manifest, folder / "versions"))
    vggnb.__version__ = version
    here = Path.cwd()
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    told["store"] = error_of(lambda: fill(manifest, "/proc/self/cwd/store"))
    os.chdir(here)
    return told


def main(folder: Path) -> None:
    few, many = standin.pictures(folder / "few", 100), standin.pictures(folder / "many", 1400)
    HURRY.touch()
    fill(few, folder / "few-local", "local")
    fill(many, folder / "many-local", "local")
    expected = {"few": stored(folder / "few-local")[0], "many": stored(folder / "many-local")[0]}
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 2, "health_check_timeout_ms": 1000}
    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "_system_config": quick, "include_dashboard": False}
    )
    second = [cluster.add_node(**NODE)]
    told, start = {}, time.time()

    def did(name, result):
        told[name] = {**result, "seconds": round(time.time() - start, 1)}
        print(name, told[name], file=sys.stderr, flush=True)

    def kill(process):
        os.kill(process, signal.SIGKILL)

    def replace_node(_):
        cluster.remove_node(second[0], allow_graceful=False)
        second[0] = cluster.add_node(**NODE)

    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        filled = fill(few, folder / "ray")
        names = [{path.name for path in (folder / of).rglob("*.npy")} for of in ("ray", "few-local")]
        did(
            "peace",
            {"same": is_same(folder / "ray", expected["few"]), "files": names[0] == names[1], **filled.to_dict()},
        )
        did("errors", errors(few, folder))
        did("killed", under_faults(many, folder / "killed", expected["many"], kill, 1))
        did("removed", under_faults(many, folder / "removed", expected["many"], replace_node, 2))
        did("driver", driver_killed(few, folder / "driver", expected["few"], cluster.address))
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(told))


if __name__ == "__main__":
    if sys.argv[1] == "--drive":
        ray.init(address=sys.argv[4], log_to_driver=False, logging_level="ERROR")
        fill(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]))
