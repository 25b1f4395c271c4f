"""What a census costs and finds, beside CleanVision on the same images; how the search for near pairs grows.

    python benchmarks/census.py [DATASET] [--cleanvision PYTHON] [--many 100000] [--json]

Twenty exact copies in the other split, twenty images saved again (rotated, flipped, smaller, recoded) and ten copies
under another class are planted in a copy of the dataset. PYTHON is an interpreter that has CleanVision, which the
project itself does not need: `python -m venv cv && cv/bin/pip install cleanvision`, then `--cleanvision cv/bin/python`.
Each census runs in a process of its own; starting the process and importing is not counted, for neither. Without
DATASET, the sample.
"""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image
from tell import tell, with_json

from vggnb.census import Census, Row, near_duplicates, take_census
from vggnb.images import read_image
from vggnb.paths import sample_folder

OURS = """
import json, resource, sys, time
from vggnb.census import take_census
start = time.perf_counter()
census = take_census(sys.argv[1], progress=False)
seconds = time.perf_counter() - start
pairs = [sorted(pair.paths) for pair in census.pairs]
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(json.dumps({"seconds": seconds, "files": census.total_files, "pairs": pairs, "memory_mb": memory}))
"""
THEIRS = """
import contextlib, io, itertools, json, os, sys, time
from cleanvision import Imagelab
with contextlib.redirect_stdout(io.StringIO()):
    start = time.perf_counter()
    lab = Imagelab(data_path=sys.argv[1], verbose=False)
    lab.find_issues(verbose=False)
    seconds = time.perf_counter() - start
sets = [s for kind in ("exact_duplicates", "near_duplicates") for s in lab.info[kind]["sets"]]
pairs = [sorted(os.path.relpath(p, sys.argv[1]) for p in pair) for s in sets for pair in itertools.combinations(s, 2)]
print(json.dumps({"seconds": seconds, "files": len(lab.issues), "pairs": pairs}))
"""


def run(python: str, script: str, folder: Path) -> dict:
    """What a script prints about a folder; of a failure, its last line."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([python, "-c", script, folder], capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def best_of(times: int, python: str, script: str, folder: Path) -> dict:
    """The fastest of some runs."""
    return min((run(python, script, folder) for _ in range(times)), key=lambda result: result.get("seconds", 0))


def saved_again(image: Image.Image, k: int) -> Image.Image:
    """The k-th way to save an image again."""
    small = image.resize((image.width * 3 // 5, image.height * 3 // 5))
    turns = [image.transpose(turn) for turn in Image.Transpose if turn != Image.Transpose.TRANSPOSE]
    return [image, small, *turns, small.transpose(Image.Transpose.ROTATE_90), image.convert("L")][k % 10]


def plant(rows: list[Row], folder: Path) -> dict[str, set[tuple[str, str]]]:
    """Plant copies of evenly spaced images; kind -> pairs of paths."""
    chosen = iter([rows[k] for k in np.linspace(0, len(rows) - 1, 50).astype(int)])
    others = {row.class_name: next(r.class_name for r in rows if r.label != row.label) for row in rows}
    elsewhere = {row.split: next((r.split for r in rows if r.split != row.split), row.split) for row in rows}
    planted: dict[str, set[tuple[str, str]]] = {"exact": set(), "near": set(), "other class": set()}
    for kind, count in (("exact", 20), ("near", 20), ("other class", 10)):
        for k in range(count):
            row = next(chosen)
            name = others[row.class_name] if kind == "other class" else row.class_name
            split = elsewhere[row.split] if kind == "exact" else row.split
            path = Path(row.path).with_name(f"planted-{kind.replace(' ', '-')}-{k}.jpg").as_posix()
            path = path.replace(f"{row.split}/", f"{split}/", 1).replace(f"{row.class_name}/", f"{name}/", 1)
            if kind == "near":
                saved_again(Image.fromarray(read_image(folder / row.path)), k).save(folder / path, quality=60 + k)
            else:
                shutil.copy2(folder / row.path, folder / path)
            planted[kind].add(tuple(sorted((row.path, path))))
    return planted


def finding(result: dict, planted: dict[str, set]) -> dict:
    """How many planted pairs were found, and how many others."""
    if "failed" in result:
        return {"failed": result["failed"]}
    found = {tuple(pair) for pair in result["pairs"]}
    counts = {kind: f"{len(pairs & found)} of {len(pairs)}" for kind, pairs in planted.items()}
    return counts | {"others": len(found - set().union(*planted.values()))}


def distances(census: Census) -> dict:
    """Bits that differ, in tens: unrelated images, and each image saved again in ten ways."""
    images = [Image.fromarray(read_image(census.dataset / row.path)) for row in census.rows]
    hashes = [near_duplicates.hash_of(image.convert("L")) for image in images]
    table = np.stack([h for h in hashes if h is not None])
    pairs, copies = near_duplicates.distances(table, *np.triu_indices(len(table), 1)), []
    for k, (image, known) in enumerate(zip(images, hashes, strict=True)):
        file = io.BytesIO()
        saved_again(image, k).save(file, "JPEG", quality=60)
        copy = near_duplicates.hash_of(Image.open(file).convert("L"))
        if known is not None and copy is not None:
            copies.append(int(near_duplicates.distances(np.stack([known, copy]), np.array([0]), np.array([1]))[0]))
    tens = {"unrelated": np.bincount(pairs // 10).tolist(), "copies": np.bincount(np.array(copies) // 10).tolist()}
    limits = {"limit": near_duplicates.LIMIT, "nearest_unrelated": int(pairs.min()), "farthest_copy": max(copies)}
    return (
        tens
        | limits
        | {
            "missed": sum(d > near_duplicates.LIMIT for d in copies),
            "false": int((pairs <= near_duplicates.LIMIT).sum()),
        }
    )


def growth() -> dict[str, float]:
    """Seconds of the search among generated hashes."""
    seconds = {}
    for n in (1_000, 10_000, 100_000):
        hashes = np.random.default_rng(0).integers(0, 2**64, (n, 2, 4), np.uint64)
        start = time.perf_counter()
        near_duplicates.near_pairs(hashes)
        seconds[str(n)] = time.perf_counter() - start
    return seconds


def many_files(count: int, folder: Path) -> dict:
    """A census of generated files in two classes."""
    random = np.random.default_rng(0)
    for k in range(count):
        file = folder / "many" / "ab"[k % 2] / str(k // 1000) / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(file, compress_level=1)
    return run(sys.executable, OURS, folder / "many")


def measure(options: argparse.Namespace) -> dict:
    """All of it, one after the other."""
    dataset = options.dataset or sample_folder()
    census = take_census(dataset, progress=False)
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        folder = Path(scratch) / "data"
        for row in census.rows:
            (folder / row.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(census.dataset / row.path, folder / row.path)
        clean = best_of(3, sys.executable, OURS, folder)
        theirs = best_of(3, options.cleanvision, THEIRS, folder) if options.cleanvision else {}
        planted = plant(list(census.rows), folder)
        find = {"ours": finding(run(sys.executable, OURS, folder), planted)}
        if options.cleanvision:
            find["cleanvision"] = finding(run(options.cleanvision, THEIRS, folder), planted)
        (folder / next(iter(planted["exact"]))[0]).write_bytes(b"\xff\xd8\xff cut")
        scripts = (("ours", sys.executable, OURS), ("cleanvision", options.cleanvision, THEIRS))
        broken = {name: run(python, script, folder) for name, python, script in scripts if python}
        many = many_files(options.many, Path(scratch)) if options.many else {}
    rate, their_rate = (r["files"] / r["seconds"] if "seconds" in r else None for r in (clean, theirs))
    return {
        "images": len(census.rows),
        "files_per_s": rate,
        "cleanvision_files_per_s": their_rate,
        "over_cleanvision": rate / their_rate if their_rate else None,
        "planted": find,
        "with_a_broken_file": {name: r.get("failed", "goes on") for name, r in broken.items()},
        "distances": distances(census),
        "growth": growth(),
        "many": {key: many[key] for key in ("files", "seconds", "memory_mb") if key in many},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--cleanvision", metavar="PYTHON", help="an interpreter that has CleanVision")
    parser.add_argument("--many", type=int, default=0, help="also take a census of that many generated files")
    options = with_json(parser).parse_args()
    tell(measure(options), as_json=options.json)


if __name__ == "__main__":
    main()
