"""What Ray costs beside the local engine on the same cores.

    python benchmarks/cluster.py [DATASET] [--images 480] [--image-size 224] [--repeats 1] [--json]

Both engines fill an empty store from the same manifest, in turn, each time in a fresh process; the fastest of the
repeats counts. "images_per_s" is without start-up and compiling, "whole_s" a process from call to end. Nothing else
should run meanwhile. Without DATASET, the sample, each image several times under other bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tell import main, parser, where

from vggnb.census import assign_splits, take_census
from vggnb.paths import sample_folder
from vggnb.storage import sha256_bytes


def manifest_of(dataset: Path, count: int, folder: Path) -> Path:
    """A manifest of so many images; those that lack are copies with a byte more at their end."""
    manifest = assign_splits(take_census(dataset, progress=False))
    rows, copies = manifest.rows, []
    for k in range(count):
        row = rows[k % len(rows)]
        data = (manifest.dataset / row.path).read_bytes() + b"\0" * (k // len(rows))
        (folder / f"{k}").write_bytes(data)
        copies.append(replace(row, path=f"{k}", sha256=sha256_bytes(data), split="train"))
    replace(manifest, dataset=folder, rows=tuple(copies)).write(path := folder.with_suffix(".csv"))
    return path


def extracted(engine: str, manifest: Path, store: Path, options) -> tuple[float, dict]:
    """Seconds of a fresh process, and what it printed."""
    command = [sys.executable, "-m", "vggnb", "extract", manifest, "--engine", engine, "--store", store, "--json"]
    command += ["--weights", options.weights, "--image-size", options.image_size, "--precision", "float32", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start, json.loads(done.stdout)


def measure(options) -> dict:
    """Both engines, in turn."""
    found = {"local": {"images_per_s": 0.0, "whole_s": float("inf")}, "ray": {"images_per_s": 0.0, "whole_s": 1e9}}
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        (folder := Path(scratch) / "images").mkdir()
        manifest = manifest_of(options.dataset or sample_folder(), options.images, folder)
        for k in range(options.repeats):
            for engine, best in found.items():
                whole_s, rows = extracted(engine, manifest, Path(scratch) / f"{engine}{k}", options)
                best["images_per_s"] = max(best["images_per_s"], rows["images_per_s"])
                best["whole_s"] = min(best["whole_s"], whole_s)
    ratio = found["ray"]["images_per_s"] / found["local"]["images_per_s"]
    result = {"images": options.images, "image_size": options.image_size, **found, "ray_over_local": ratio}
    return result | where("vggnb", "ray")


if __name__ == "__main__":
    arguments = parser(__doc__, dataset=True)
    arguments.add_argument("--images", type=int, default=480)
    arguments.add_argument("--repeats", type=int, default=1)
    main(measure, arguments)
