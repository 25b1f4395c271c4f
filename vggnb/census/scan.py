"""One file -> one scan: an image and what was measured on it, or the reason why it cannot be used.

Files are read once, in threads: Pillow releases the interpreter lock while it decodes. A cache keeps the scans.
"""

import contextlib
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from PIL import Image, ImageStat

from vggnb import images
from vggnb.census.near_duplicates import HASH_VERSION, hash_of
from vggnb.folders import IMAGE_FORMATS, read_ahead
from vggnb.staging import with_retries
from vggnb.storage import GONE, VggnbError, mendable, sha256_bytes, write_bytes

VERSION = f"{images.DECODER_VERSION}.{HASH_VERSION}.3"


@dataclass(frozen=True, slots=True)
class Scan:
    """What one file is."""

    reason: str  # why it cannot be used, or ''
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    notes: str = ""
    brightness: float = 0.0  # mean grey level, 0 to 255
    hash: str = ""  # hex of the 64 bytes of `hash_of`, or '' where the image is too plain


def scan_file(path: Path) -> Scan:
    """Read, hash, decode and measure one file; only storage that is gone (Drive was disconnected) is an error."""
    try:
        size = os.stat(path).st_size
        if size > images.MAX_BYTES:
            return Scan(f"{size / 1e6:.0f} MB; the limit is {images.MAX_BYTES // 10**6} MB. Make it smaller.")
        data = with_retries(path.read_bytes)
    except OSError as error:
        if error.errno in GONE:
            raise mendable(error, path) from error
        return Scan(f"It cannot be read ({error.strerror}). Check that it opens in another program, or leave it out.")
    digest = sha256_bytes(data)
    try:
        image = images.decode(data)
    except VggnbError as error:
        return Scan(f"{error.what} {error.remedy}", digest)
    except Exception as error:  # what no decoder should do; one file never stops a census
        return Scan(f"Decoding it failed ({type(error).__name__}: {error}). Leave it out, and report it.", digest)
    (height, width), ending, notes = image.pixels.shape[:2], Path(path).suffix.lower(), list(image.notes)
    if IMAGE_FORMATS.get(ending, image.format) != image.format:
        notes.append(f"{image.format} named {ending}")
    if min(width, height) < 32:
        notes.append(f"tiny ({width} x {height})")
    elif max(width, height) > 4 * min(width, height):
        notes.append(f"extreme shape ({width} x {height})")
    grey = Image.fromarray(image.pixels).convert("L")
    if (hashed := hash_of(grey)) is None:
        notes.append("too plain to be compared with others")
    brightness, hashed = round(ImageStat.Stat(grey).mean[0], 2), "" if hashed is None else hashed.tobytes().hex()
    return Scan("", digest, width, height, image.format, "; ".join(notes), brightness, hashed)


def scan_files(dataset: Path, paths: Sequence[str], *, cache: Path | None = None, progress: bool = True) -> list[Scan]:
    """Scan files in parallel; scans are in the order of `paths`.

    Args:
        cache: a file that keeps the scans, so that the next call opens only the files that changed.
    """
    from vggnb.machine import tqdm

    known = _read_cache(cache, dataset) if cache else {}
    stamps = {path: _stamp(dataset / path) for path in paths}  # taken before: a change while it is read shows next time
    scans = {path: known[path][1] for path in paths if path in known and known[path][0] == stamps[path]}
    missing = [path for path in paths if path not in scans]
    try:
        found = read_ahead(lambda path: scan_file(dataset / path), missing)
        with tqdm(total=len(paths), initial=len(scans), desc="census", unit="file", disable=not progress) as bar:
            for path, scan in zip(missing, found, strict=True):
                scans[path] = scan
                bar.update()
    finally:  # an interrupted census keeps what it has seen
        if cache and missing:  # not the files that could not be read, which may pass
            files = {path: (stamps[path], astuple(scan)) for path, scan in scans.items() if scan.sha256}
            document = {"version": VERSION, "dataset": str(dataset), "files": files}
            with contextlib.suppress(VggnbError):  # a full disk
                write_bytes(cache, gzip.compress(json.dumps(document).encode(), compresslevel=1))
    return [scans[path] for path in paths]


def _stamp(path: Path) -> list[int]:
    """Size and time of a file."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    return [-1, -1]


def _read_cache(cache: Path, dataset: Path) -> dict[str, tuple[list[int], Scan]]:
    """The scans of an earlier census of this dataset; none where it is absent or damaged (gzip has a checksum)."""
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, gzip.zlib.error):
        document = json.loads(gzip.decompress(Path(cache).read_bytes()))
        if (document["version"], document["dataset"]) == (VERSION, str(dataset)):
            return {path: (stamp, Scan(*values)) for path, (stamp, values) in document["files"].items()}
    return {}
