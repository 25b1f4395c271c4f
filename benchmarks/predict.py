"""From a cold start to the first answer, and photos a second: `vggnb predict` in TensorFlow and in onnxruntime.

    python benchmarks/predict.py [BUNDLE] [PHOTO...] [--photos 64] [--image-size 224] [--repeat 3] [--json]

Cold is the whole command in a fresh process, from its start to its end, for one photo; the files are in the system's
cache. Photos a second include reading and decoding, after one batch that warms up. Below that each export in its own
runtime, in a fresh process: importing the runtime and loading the file, and images a second without decoding.
Without BUNDLE, one is trained on the sample at --image-size and saved with all exports; without photos, the sample's.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tell import document, parser, where

from vggnb.paths import sample_folder
from vggnb.predict import predict_files
from vggnb.save import ENGINES, check_images, load_bundle
from vggnb.save.bundle import load_export, read_manifest
from vggnb.save.exports import EXPORTS


def sample_bundle(folder: Path, size: int, weights: str) -> Path:
    """A bundle of the sample with every export."""
    from vggnb.census import assign_splits, take_census
    from vggnb.recipe import Recipe
    from vggnb.save import save_bundle
    from vggnb.train import train

    with contextlib.redirect_stdout(sys.stderr):
        manifest = assign_splits(take_census(sample_folder(), progress=False))
        recipe = Recipe.best().with_(image_size=size)
        run, _ = train(manifest, recipe, folder / "run", weights=weights, store=folder / "features", progress=False)
        save_bundle(run, folder / "bundle", formats=EXPORTS)
    return folder / "bundle"


def fresh(*command: object) -> tuple[float, str]:
    """Seconds and the standard output of a fresh process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start, done.stdout


def cold(bundle: Path, photo: Path, engine: str, repeat: int) -> float:
    """Seconds of the fastest of a few cold starts."""
    words = ("-m", "vggnb", "predict", bundle, photo, "--engine", engine, "--json", "--quiet")
    return min(fresh(*words)[0] for _ in range(repeat))


def rate_of_photos(bundle: Path, photos: list[Path], engine: str, repeat: int) -> float:
    """Photos a second in one process, decoding included."""
    opened = load_bundle(bundle, engine=engine)
    predict_files(opened, photos[0])
    predict_files(opened, photos[:32])  # the size of batch that is measured
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        predict_files(opened, photos)
        times.append(time.perf_counter() - start)
    return len(photos) / min(times)


def time_export(kind: str, path: Path, size: int, *, repeat: int = 3) -> tuple[float, float]:
    """Seconds to import an export's runtime (unless that was done before) and to load the file; and images a second.

    Args:
        size: pixels a side; the images are in memory already, 32 at a time, and the fastest of `repeat` times counts.
    """
    start = time.perf_counter()
    run = load_export(kind, path)
    loading, seconds = time.perf_counter() - start, []
    images = check_images(size).repeat(4, axis=0)
    run(images)
    for _ in range(repeat):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return loading, len(images) / min(seconds)


def image_size(bundle: Path) -> int:
    """Pixels a side."""
    return read_manifest(bundle)["recipe"]["image_size"]


def export_alone(bundle: Path, kind: str, repeat: int) -> dict:
    """Seconds to load one export, imports included, and images a second."""
    path, size = next(bundle.glob(f"VGG_*{EXPORTS[kind]}")), image_size(bundle)
    return dict(zip(("load_s", "images_per_s"), time_export(kind, path, size, repeat=repeat), strict=True))


def measure(options, scratch: Path) -> dict:
    """All of it; every number comes from a process of its own."""
    bundle = options.bundle or sample_bundle(scratch, options.image_size, options.weights)
    photos = options.photo or sorted(sample_folder().rglob("*.jpg"))
    photos = (photos * options.photos)[: options.photos]
    listed = scratch / "photos.json"
    listed.write_text(json.dumps([str(path) for path in photos]))
    cold_s = {engine: cold(bundle, photos[0], engine, options.repeat) for engine in ENGINES}
    part = (__file__, "--repeat", options.repeat, "--part")
    rates = {engine: json.loads(fresh(*part, engine, listed, bundle)[1]) for engine in ENGINES}
    exports = [kind for kind in EXPORTS if list(bundle.glob(f"VGG_*{EXPORTS[kind]}"))]
    return {
        "cold_s": cold_s,
        "onnxruntime_cold_over_tensorflow": cold_s["onnxruntime"] / cold_s["tensorflow"],
        "photos_per_s": rates,
        "exports": {kind: json.loads(fresh(*part, kind, listed, bundle)[1]) for kind in exports},
        "photos": len(photos),
        "image_size": image_size(bundle),
        **where("tensorflow", "keras", "onnxruntime"),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("bundle", nargs="?", type=Path)
    arguments.add_argument("photo", nargs="*", type=Path)
    arguments.add_argument("--photos", type=int, default=64, help="so many; those that are named come again if need be")
    arguments.add_argument("--repeat", type=int, default=3, help="the fastest of so many counts")
    arguments.add_argument("--part", nargs=2, metavar=("WHAT", "LIST"), help=argparse.SUPPRESS)  # in a fresh process
    options = arguments.parse_args()
    if options.part:
        what, listed = options.part
        photos = [Path(path) for path in json.loads(Path(listed).read_text())]
        known = what in ENGINES
        rate = rate_of_photos if known else export_alone
        print(json.dumps(rate(options.bundle, *([photos, what] if known else [what]), options.repeat)))
        return
    with tempfile.TemporaryDirectory(prefix="vggnb-bench-") as scratch:
        result = measure(options, Path(scratch))
    if options.json:
        document(result)
        return
    print(f"{'':<14} {'cold start to answer':>22} {'photos a second':>16}")
    for engine in ENGINES:
        print(f"{engine:<14} {result['cold_s'][engine]:>20.2f} s {result['photos_per_s'][engine]:>16.1f}")
    print(f"onnxruntime's cold start over TensorFlow's: {result['onnxruntime_cold_over_tensorflow']:.2f}\n")
    print(f"{'export':<14} {'load':>22} {'images a second':>16}")
    for kind, one in result["exports"].items():
        print(f"{kind:<14} {one['load_s']:>20.2f} s {one['images_per_s']:>16.1f}")
    for name in ("photos", "image_size", "machine", "date"):
        print(f"{name:<14} {result[name]}")


if __name__ == "__main__":
    main()
