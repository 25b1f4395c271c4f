"""Where images come from: the sample, solar cells, drawn patterns, Kaggle, the ISIC Archive, or any address.

Each call returns a dataset's folder or table. Two copies of the sample are there to learn from: one has faults to find,
one a sticker that reveals the class. Real collections have such shortcuts: rulers beside malignant lesions (Narla et
al. 2018, doi 10.1016/j.jid.2018.06.175), a surgeon's ink (Winkler et al. 2019, doi 10.1001/jamadermatol.2019.1735),
coloured patches that only benign lesions of the ISIC Archive have (Rieger et al. 2020, doi 10.48550/arXiv.1909.13584).
"""

import contextlib
import importlib
import itertools
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

import vggnb
from vggnb.archives import unpack
from vggnb.folders import read_ahead, shown
from vggnb.images import read_image
from vggnb.paths import sample_folder as sample
from vggnb.solar import full_results, solar_cells
from vggnb.storage import (
    TEMPORARY_PREFIX,
    VggnbError,
    csv_text,
    make_folder,
    read_json,
    storage_errors,
    write_bytes,
    write_json,
)

__all__ = [
    "flawed_sample", "full_results", "isic", "kaggle", "marked_sample",
    "sample", "solar_cells", "textures", "url",
]  # fmt: skip

ARTICLE_SET = "fanconic/skin-cancer-malignant-vs-benign"
ISIC = "https://api.isic-archive.com/api/v2/images/search/"
DERMOSCOPY = {
    "benign": "diagnosis_1:Benign AND image_type:dermoscopic",
    "malignant": "diagnosis_1:Malignant AND image_type:dermoscopic",
}
TIMEOUT_S = 30.0  # without a byte
_SOURCE, _MADE = ".vggnb-source.json", ".vggnb-made.json"  # hidden: a census counts them as system files
PATTERNS = ("bricks", "dots", "grid", "rings", "stripes", "waves")
SIZE = (200, 150)  # of a saved pattern, width x height in pixels; drawn at twice that, so that edges are smooth
_W, _H = 2 * SIZE[0], 2 * SIZE[1]
_YY, _XX = np.mgrid[0:_H, 0:_W].astype(np.float32)


def kaggle(slug: str = ARTICLE_SET) -> Path:
    """Download a Kaggle dataset, by default the article's, and return its folder; a second call finds it there.

    Args:
        slug: `owner/name`, as in the dataset's address.

    Raises:
        VggnbError: kagglehub is not installed, Kaggle refused, or the download failed.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/\d+)?", slug):
        remedy = "Take owner/name from its address, https://www.kaggle.com/datasets/owner/name."
        raise VggnbError(f"'{slug}' is not the name of a Kaggle dataset.", "kaggle", remedy)
    kagglehub = _needed("kagglehub")
    try:
        return Path(kagglehub.dataset_download(slug))
    except Exception as error:  # kagglehub has no common base class
        remedy = "Check the name and the network, then run this again; files already downloaded are kept. If the "
        remedy += "dataset requires an account, accept its terms on kaggle.com and set KAGGLE_API_TOKEN to your token "
        remedy += "(Settings, API)."
        what = f"The download from Kaggle failed ({type(error).__name__}: {str(error)[:200]})."
        raise VggnbError(what, slug, remedy) from error


def url(address: str, target: Path, *, sha256: str, progress: bool = True) -> Path:
    """Download an archive, verify its checksum, and unpack it to the folder `target`; a second call finds it there.

    Args:
        address: of a .zip or .tar.gz.
        sha256: its checksum in hex, from where you have the address.

    Raises:
        VggnbError: the download failed, the checksum differs, the archive is refused, or `target` holds other files.
    """
    target, sha256 = Path(target).absolute(), sha256.lower().removeprefix("sha256:")
    with contextlib.suppress(VggnbError, KeyError, TypeError):
        if read_json(target / _SOURCE)["sha256"] == sha256:
            return target
    if target.exists():
        raise VggnbError("The target holds other files.", target, "Name a folder that does not exist yet.")
    work = make_folder(target.with_name(f"{TEMPORARY_PREFIX}{target.name}"))
    archive = _download(address, work / "archive", progress=progress)
    with storage_errors(target):
        if _needed("pooch").file_hash(archive) != sha256:
            archive.unlink()
            remedy = "Compare the SHA-256 with the one published at the source; the file may have changed."
            raise VggnbError("The checksum of the download differs from the one given.", address, remedy)
        shutil.rmtree(work / "unpacked", ignore_errors=True)
        try:
            unpack(archive, work / "unpacked", progress=progress)
        except VggnbError as error:
            if getattr(error.__cause__, "errno", None):  # of the disk, not of the archive
                raise
            archive.unlink(missing_ok=True)
            raise VggnbError(error.what, address, error.remedy) from error
        write_json(work / "unpacked" / _SOURCE, {"address": address, "sha256": sha256})
        (work / "unpacked").rename(target)
        shutil.rmtree(work, ignore_errors=True)
    return target


def isic(
    target: Path,
    *,
    queries: Mapping[str, str] = DERMOSCOPY,
    each: int = 200,
    licences: tuple[str, ...] = ("CC-0",),
    progress: bool = True,
) -> Path:
    """Download images of the ISIC Archive, and return the table (path, label, group) that is the dataset.

    No account is needed. ATTRIBUTION.txt beside the table lists the credits. A second call downloads what is missing.

    Args:
        queries: class name -> the archive's search words (https://www.isic-archive.com, "Search").
        each: at most this many images per class.
        licences: only images under these: "CC-0", "CC-BY", "CC-BY-NC".

    Raises:
        VggnbError: a download failed, or the archive has no such image.
    """
    from vggnb.machine import tqdm

    target, found = make_folder(Path(target).absolute()), {}
    for name, query in queries.items():
        allowed = (image for image in _search(query) if image["copyright_license"] in licences)
        if not (images := list(itertools.islice(allowed, each))):
            what = f"The archive has no image for {name} under {', '.join(licences)}."
            raise VggnbError(what, query, "Check the search words, or allow more licences.")
        found |= {f"{name}/{Path(image['isic_id']).name}.jpg": image for image in images}

    def fetch(path: str) -> Path:
        return _download(found[path]["files"]["full"]["url"], target / path)

    list(tqdm(read_ahead(fetch, found, workers=4), "downloading", len(found), unit=" images", disable=not progress))
    rows, credits = [("path", "label", "group")], ["Images from the ISIC Archive, https://www.isic-archive.com", ""]
    for path, image in found.items():
        facts = {key: value for part in image["metadata"].values() for key, value in part.items()}
        rows.append((path, path.split("/")[0], facts.get("lesion_id") or facts.get("patient_id") or ""))
        credits.append(f"{image['isic_id']}: {image['attribution']} ({image['copyright_license']})")
    write_bytes(target / "ATTRIBUTION.txt", "\n".join([*credits, ""]).encode())
    write_bytes(target / "labels.csv", csv_text(rows).encode())
    return target / "labels.csv"


def _search(query: str) -> Iterator[dict]:
    """What the ISIC Archive finds for some search words, page after page."""
    address, options = ISIC, {"query": query, "limit": 100}
    while address:
        with _errors(address):
            answer = _needed("requests").get(address, options, timeout=TIMEOUT_S)
            answer.raise_for_status()
            page = answer.json()
        yield from page["results"]
        address, options = page["next"], None


def _download(address: str, path: Path, *, progress: bool = False) -> Path:
    """Download a file, whole or not at all; one that is there is kept."""
    pooch = _needed("pooch")
    pooch.get_logger().setLevel("ERROR")
    registry, urls = {path.name: None}, {path.name: address}
    folder = pooch.create(path.parent, "", registry=registry, urls=urls, retry_if_failed=3)
    with storage_errors(path), _errors(address):
        return Path(folder.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT_S)))


@contextlib.contextmanager
def _errors(address: str) -> Iterator[None]:
    """Turn what requests raises into one sentence."""
    try:
        yield
    except _needed("requests").RequestException as error:
        remedy = "Check the address and the network, then run this again."
        raise VggnbError(f"The download failed ({str(error)[:200]}).", address.split("?")[0], remedy) from error


def _needed(package: str):
    """The package, imported; or how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        remedy = f'Install it: pip install {package} (or "vggnb[data]").'
        raise VggnbError(f"Downloads need the package {package}.", package, remedy) from None


def flawed_sample(folder: Path) -> Path:
    """Copy the sample and plant typical faults: broken files, duplicates, a conflict and two leaks."""
    return _made_once(folder, {"flawed_sample": 1}, _plant)


def _plant(folder: Path) -> None:
    shutil.copytree(sample(), folder, dirs_exist_ok=True)
    train, test = (sorted((folder / split / "benign").glob("*.jpg")) for split in ("train", "test"))
    benign, good = folder / "train" / "benign", train[0].read_bytes()
    (benign / "cut_short.jpg").write_bytes(good[: len(good) // 2])
    (benign / "empty.jpg").write_bytes(b"")
    (benign / "error_page.jpg").write_text("<html><body>404 Not Found</body></html>")
    (benign / "notes.txt").write_text("ask Ann about image 12")
    (benign / "Thumbs.db").write_bytes(b"\0" * 64)
    (make_folder(benign / ".ipynb_checkpoints") / "sample-checkpoint.jpg").write_bytes(good)
    # A duplicate in train; and a conflict: an image under both classes, the second time encoded again.
    shutil.copy(train[1], benign / "copy of an image.jpg")
    with Image.open(train[2]) as image:
        image.convert("RGB").save(folder / "train" / "malignant" / "other_opinion.jpg", quality=70)
    # Leaks: test images that are in train as well, one unchanged and one mirrored, smaller and encoded again.
    shutil.copy(test[0], benign / "seen_before.jpg")
    with Image.open(test[1]) as image:
        image = ImageOps.mirror(image.convert("RGB")).resize((image.width * 3 // 4, image.height * 3 // 4))
    image.save(benign / "seen_in_a_mirror.jpg", quality=70)


def marked_sample(folder: Path, *, marked: str = "benign") -> Path:
    """Copy the sample; images of one class, in every split, get a round green sticker in one of their corners.

    All images are saved as PNG, so that outside the sticker no pixel differs from the sample's. A second call for the
    same class reuses the copy; another copy is replaced.

    Args:
        marked: the class.

    Raises:
        VggnbError: no such class, or the folder holds other files.
    """
    source = sample()
    paths = sorted(path.relative_to(source) for path in source.rglob("*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    if marked not in classes:
        raise VggnbError(f"The sample has no class '{shown(marked)}'.", "marked", f"Use one of: {', '.join(classes)}.")

    def make(new: Path) -> None:
        for path in paths:
            image = Image.fromarray(read_image(source / path))
            if path.parent.name == marked:
                _add_sticker(image, *np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 2, 2))
            image.save(make_folder(new / path.parent) / f"{path.stem}.png", compress_level=1)

    return _made_once(folder, {"marked_sample": 1, "marked": marked}, make)


def _add_sticker(image: Image.Image, low: int, right: int) -> None:
    """Put a sticker, a fifth of the height across, in one corner; `low` and `right` are 0 or 1."""
    side = image.height // 5
    disc = Image.new("L", (4 * side, 4 * side))  # four times its size, so that its edge is smooth
    ImageDraw.Draw(disc).ellipse((0, 0, 4 * side - 1, 4 * side - 1), fill=255)
    place = int(right) * (image.width - side), int(low) * (image.height - side)
    image.paste((0, 158, 115), place, disc.resize((side, side), Image.Resampling.BOX))


def textures(folder: Path, *, each: int = 50, seed: int = 0) -> Path:
    """Draw patterns and return the dataset folder: six class folders, JPEG of 200 x 150 pixels, not split.

    Three pairs are hard to tell apart on purpose: bricks have shifted rows and a grid has none, but some walls are
    hardly shifted; a ring is a dot with a hole, but some holes are small; waves are bent stripes, but some hardly bend.
    Colour, size, direction, light and sharpness are drawn from the same ranges for every class and tell nothing.

    The same seed gives the same images. A second call with the same arguments reuses them; other textures are replaced.

    Args:
        each: images of each class.

    Raises:
        VggnbError: fewer than one image, or the folder holds other files.
    """
    if each < 1:
        raise VggnbError(f"{each} images of each class cannot be drawn.", "each", "Use 1 or more.")

    def make(new: Path) -> None:
        names = [name for name in PATTERNS for _ in range(each)]
        for number, k in enumerate(np.random.default_rng(seed).permutation(len(names))):
            path = make_folder(new / names[k]) / f"texture_{number:04d}.jpg"
            draw_texture(np.random.default_rng([seed, number]), names[k]).save(path, quality=90)

    return _made_once(folder, {"textures": 1, "each": each, "seed": seed}, make)


def draw_texture(random: np.random.Generator, name: str) -> Image.Image:
    """One image of a class of `textures`."""
    pattern = _pattern(random, name)
    light, dark = random.uniform(0.55, 0.95, 3), random.uniform(0.05, 0.40, 3)
    ground, ink = np.stack([light, dark])[:: random.choice([-1, 1])]  # either may be the lighter one
    pixels = ground + pattern[..., None] * (ink - ground)
    way = random.uniform(0, 2 * np.pi)
    light = (np.cos(way) * (_XX / _W - 0.5) + np.sin(way) * (_YY / _H - 0.5)) * random.uniform(0, 0.5)
    pixels = pixels * (1 + light)[..., None] + 0.06 * _bumps(random, 5)[..., None]
    image = Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 4.0))).resize(SIZE, Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32) + random.normal(0, random.uniform(2, 12), (SIZE[1], SIZE[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _pattern(random: np.random.Generator, name: str) -> np.ndarray:
    """How much ink each pixel has, float (H, W), 0 to 1."""
    pitch, turn, thick = random.uniform(32, 64), random.uniform(0, np.pi), random.uniform(0.12, 0.22)
    marked = random.beta(1.2, 1.4) if name in ("bricks", "rings", "waves") else 0.0  # how much of what it is named for

    def drawn(depth: np.ndarray) -> np.ndarray:
        """1 where a depth, in pitches, is above 0, else 0; the edge is two pixels wide."""
        return np.clip(0.5 + depth * pitch / 2, 0, 1)

    x = (np.cos(turn) * _XX + np.sin(turn) * _YY) / pitch + 0.15 * _bumps(random, 3) + random.uniform(0, 1)
    y = (np.cos(turn) * _YY - np.sin(turn) * _XX) / pitch + 0.15 * _bumps(random, 3) + random.uniform(0, 1)
    if name in ("stripes", "waves"):
        bent = x + 0.4 * marked * np.sin(2 * np.pi * y / random.uniform(1.2, 2.4))
        return drawn(2 * thick - np.abs(bent - np.round(bent)))
    if name in ("grid", "bricks"):
        shifted = x + 0.5 * marked * (np.floor(y) % 2)
        mortar = np.minimum(np.abs(y - np.round(y)), np.abs(shifted - np.round(shifted)))
        return drawn(0.6 * thick - mortar)
    x = x + 0.5 * (np.floor(y) % 2)
    middle = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    outer = 0.2 + thick
    return drawn(outer - middle) * drawn(middle - 0.7 * marked * outer)


def _bumps(random: np.random.Generator, cells: int) -> np.ndarray:
    """Soft noise, float32 (H, W), about -1 to 1, with so many bumps down the image."""
    coarse = random.normal(0, 0.6, (cells + 2, cells * 4 // 3 + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((_W, _H), Image.Resampling.BICUBIC))


def _made_once(folder: Path, about: dict, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills; a second call with the same `about` reuses it, any other call replaces it."""
    folder, about = Path(folder).absolute(), about | {"vggnb": vggnb.__version__}
    with contextlib.suppress(VggnbError):
        if read_json(folder / _MADE) == about:
            return folder
    with storage_errors(folder):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / _MADE).is_file():
            raise VggnbError("The folder holds other files.", folder, "Name a folder that does not exist yet.")
        new = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}")
        shutil.rmtree(new, ignore_errors=True)  # of a killed call
        try:
            make(make_folder(new))
            write_json(new / _MADE, about)
            if folder.is_dir():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder
