"""What Ray costs beside the local engine on the same cores; with --scale, how driver and time grow with the archive.

    python benchmarks/cluster.py [DATASET] [--images 480] [--image-size 224] [--repeats 2] [--json]
    python benchmarks/cluster.py --scale [ROWS ...] [--json]

Overhead: both engines fill an empty store from the same manifest, in turn, each time in a fresh process; the fastest
of the repeats is told. "whole" is a process from call to end, TensorFlow's and Ray's start included; "forward" is from
the first unit to the last answer. Nothing else should run meanwhile. Without DATASET, the sample.

Scale: manifests of 10^4, 10^5 and 10^6 rows (or of so many as are named), each in a fresh process on a Ray cluster of
this machine. The pictures are files of 32 x 32 pixels; the network is a stand-in without TensorFlow.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tell import parser, tell, where

from vggnb.census import Manifest, assign_splits, take_census
from vggnb.cluster import fill_store
from vggnb.paths import sample_folder
from vggnb.recipe import Recipe
from vggnb.shards import whole_shards, write_shard
from vggnb.storage import sha256_bytes

SIDE = 32
MB = 1 << (20 if sys.platform == "darwin" else 10)  # in what the system tells memory


class Standin:
    """In place of VGG-16: some of a picture's own pixels."""

    key = "standin"

    def __init__(self, job):
        pass

    def forward(self, folder, hashes, pixels):
        """See `vggnb.cluster.work.Network`."""
        values = pixels.reshape(len(pixels), -1)[:, ::48].astype(np.float32)
        return [write_shard(folder, hashes, values).path.name]


def run(*command) -> tuple[float, dict]:
    """Seconds of a fresh Python process, and the document that it prints last."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, json.loads(done.stdout.strip().splitlines()[-1])


def overhead(options) -> dict:
    """Both engines, in turn."""
    manifest = assign_splits(take_census(options.dataset or sample_folder(), progress=False))
    rows = (manifest.of("train") + manifest.of("validation"))[: options.images]
    found = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        Manifest(manifest.dataset, manifest.classes, rows).write(path := Path(scratch) / "manifest.csv")
        for k in range(options.repeats):
            for engine, all_s in found.items():
                how = ("--engine", engine, "--store", Path(scratch) / f"{engine}{k}", "--weights", options.weights)
                how += ("--image-size", options.image_size, "--json", "--quiet")
                whole_s, told = run("-m", "vggnb", "extract", path, *how)
                all_s.append((whole_s, told["forward_s"]))
    result = {"images": len(rows), "image_size": options.image_size}
    for engine, all_s in found.items():
        whole_s, forward_s = map(min, zip(*all_s, strict=True))
        result[engine] = {"whole_s": whole_s, "forward_s": forward_s, "images_per_s": len(rows) / forward_s}
    ratios = {name: result["local"][f"{name}_s"] / result["ray"][f"{name}_s"] for name in ("whole", "forward")}
    return result | {"ray_over_local": ratios}


def make_pictures(folder: Path, count: int, manifests: dict[int, Path]) -> None:
    """So many tiny files, each with its own bytes, and manifests of the first few, more, and all of them."""
    Image.new("RGB", (SIDE, SIDE), (90, 60, 40)).save(start := folder / "start.png")
    picture = start.read_bytes()
    for path in manifests.values():
        Manifest(folder, ("a",), ()).write(path)
    files = {most: path.open("a") for most, path in manifests.items()}
    for k in range(count):
        name, data = f"{k // 1000}/{k}.png", picture + str(k).encode()
        if k % 1000 == 0:
            (folder / str(k // 1000)).mkdir()
        (folder / name).write_bytes(data)
        for most, file in files.items():
            if k < most:
                file.write(f"{name},{sha256_bytes(data)},{SIDE},{SIDE},PNG,a,0,train,,\r\n")
    for file in files.values():
        file.close()


def scale(rows: list[int]) -> dict:
    """The same with more and more pictures."""
    result: dict = {"rows": {}}
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        manifests = {n: Path(scratch) / f"{n}.csv" for n in rows}
        (pictures := Path(scratch) / "pictures").mkdir()
        make_pictures(pictures, max(rows), manifests)
        for n, manifest in manifests.items():
            _, result["rows"][f"{n:,}"] = run(__file__, "--fill", manifest, Path(scratch) / f"store{n}")
            print(f"{n:,} rows done", json.dumps(result["rows"][f"{n:,}"]), file=sys.stderr, flush=True)
    table = list(result["rows"].values())
    cpu_s, peaks = ([line[name] for line in table] for name in ("driver_cpu_s", "driver_peak_mb"))
    if len(rows) > 1:
        for name in ("seconds", "forward_s"):
            slope, _ = np.polyfit(np.log(rows), np.log([line[name] for line in table]), 1)
            result[f"exponent_of_{name}"] = float(slope)
        result["rows_per_driver_cpu_s"] = (rows[-1] - rows[0]) / (cpu_s[-1] - cpu_s[0])
    return result | {"driver_memory_spread_mb": max(peaks) - min(peaks)}


def fill(manifest: str, store: str) -> dict:
    """One filling, in this process, and what it took."""
    recipe = Recipe.best().with_(image_size=SIDE)
    filled = fill_store(
        Path(manifest), recipe, weights="none", store=Path(store), engine="ray", network=Standin, progress=False
    )
    used = resource.getrusage(resource.RUSAGE_SELF)  # Ray's threads in this process included, its servers not
    cpu_s = used.ru_utime + used.ru_stime
    counts = np.array([shard.count for shard in whole_shards(filled.folder)])
    if counts.sum() != filled.rows:
        raise SystemExit(f"{filled.rows} rows, but {counts.sum()} records")
    return {
        "seconds": filled.seconds,
        "forward_s": filled.forward_s,
        "rows_per_s": filled.rows / filled.seconds,
        "driver_peak_mb": used.ru_maxrss / MB,
        "driver_cpu_s": cpu_s,
        "shards": len(counts),
        "largest_over_even": float(counts.max() / counts.mean()),
        "smallest_over_even": float(counts.min() / counts.mean()),
    }


def main() -> None:
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--images", type=int, default=480)
    arguments.add_argument("--repeats", type=int, default=2)
    arguments.add_argument("--scale", nargs="*", type=int, metavar="ROWS")
    arguments.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)  # one size, in a process of its own
    options = arguments.parse_args()
    if options.fill:
        print(json.dumps(fill(*options.fill)))
        return
    sizes = options.scale or [10**4, 10**5, 10**6]
    result = overhead(options) if options.scale is None else scale(sizes)
    result |= where("vggnb", "ray")
    tell(result, as_json=options.json)


if __name__ == "__main__":
    main()
