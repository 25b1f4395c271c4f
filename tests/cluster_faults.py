"""What a cluster of two nodes on this machine does while things die; a stand-in is the network. One JSON line.

python tests/cluster_faults.py FOLDER IMAGES
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import standin

import vggnb
from vggnb.census import Manifest
from vggnb.features import fill_store
from vggnb.features.ray_engine import ray
from vggnb.features.rehearsal import Rehearsal
from vggnb.features.store import open_shard
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError

LOG = Path(standin.LOG)


def pace(seconds):
    LOG.with_name(f"{LOG.name}.pace").write_text(str(seconds))


def fill(manifest, store, **options):
    how = {"weights": "none", "engine": "ray", "network": standin.Standin, "progress": False, **options}
    return fill_store(manifest, how.pop("recipe", standin.RECIPE), store=store, **how)


def stored(store):
    """All records, sorted by image and value: equal lists of bytes mean equal features."""
    shards = [open_shard(path) for path in store.rglob("[!.]*.npy")]
    return sorted({record.tobytes() for shard in shards for record in shard})


def batches():
    return [int(line.split()[0]) for line in LOG.read_text().splitlines()] if LOG.exists() else []


def under_fault(manifest, store, expected, fault):
    """Fill a store; `fault` gets the process of a worker after some batches."""
    LOG.unlink(missing_ok=True)
    pace(0.3)
    result = []
    filling = threading.Thread(target=lambda: result.append(fill(manifest, store)), daemon=True)
    filling.start()
    while len(batches()) < 3 and filling.is_alive():
        time.sleep(0.05)
    alive = filling.is_alive()
    fault(batches()[-1])
    pace(0)
    filling.join(300)
    return {"in_time": alive, "same": stored(store) == expected, **result[0].to_dict()}


def driver_killed(manifest, store, expected, address):
    """Kill the driver in the middle, then do it again."""
    LOG.unlink(missing_ok=True)
    pace(0.3)
    with subprocess.Popen([sys.executable, __file__, "--drive", store, manifest.dataset, address]) as child:
        while len(stored(store)) < 20:
            assert child.poll() is None, "the driver ended by itself"
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    while (left := len(stored(store))) != (time.sleep(3), len(stored(store)))[1]:  # Ray ends a lost driver's workers
        pass
    pace(0)
    again = fill(manifest, store)
    return {"left": left, "same": stored(store) == expected, **again.to_dict()}


def errors(manifest, folder):
    """What is said where the machines differ."""

    def told(manifest=manifest, store=folder / "no", **options):
        try:
            fill(manifest, store, **options)
        except VggnbError as error:
            return str(error)

    found = {"weights": told(network=standin.Other)}
    version, vggnb.__version__ = vggnb.__version__, "0.0"
    found["versions"] = told()
    vggnb.__version__ = version
    here = Path.cwd()  # a path that means something else in every process
    os.chdir(folder)
    found["store"] = told(store="/proc/self/cwd/store")
    found["dataset"] = told(manifest=Manifest(Path("/proc/self/cwd/images"), ("a",), manifest.rows))
    os.chdir(here)
    return found


def vgg16(manifest, folder):
    """The largest difference between what both engines give, as a part of the largest number of an image."""
    manifest = Manifest(manifest.dataset, manifest.classes, manifest.rows[:24])
    how = {"weights": "none", "network": None, "recipe": Recipe.best().with_(image_size=32)}
    local, cluster = (fill(manifest, folder / name, engine=name, **how) for name in ("local", "ray"))
    a, b = local.values, cluster.values
    most = float((np.abs(a - b).max(axis=1) / np.abs(a).max(axis=1)).max())
    return {**cluster.to_dict(), "rows": local.rows == cluster.rows, "most": most}


def main(folder: Path, images: int) -> None:
    manifest = standin.many_images(folder / "images", images)
    manifest.write(folder / "images.csv")
    pace(0)
    fill(manifest, folder / "expected", engine="local")
    expected, found, cluster = stored(folder / "expected"), {}, Rehearsal()
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        found["errors"] = errors(manifest, folder)
        found["vgg16"] = vgg16(manifest, folder)
        found["killed"] = under_fault(manifest, folder / "killed", expected, lambda one: os.kill(one, signal.SIGKILL))
        found["driver"] = driver_killed(manifest, folder / "driver", expected, cluster.address)
        found["removed"] = under_fault(manifest, folder / "removed", expected, lambda _: cluster.remove_node())
    finally:
        ray.shutdown()
        cluster.close()
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "--drive":
        ray.init(address=sys.argv[4], log_to_driver=False, logging_level="ERROR")
        fill(Manifest.read(Path(f"{sys.argv[3]}.csv")), Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]))
