"""Datasets from Kaggle, the ISIC Archive, or any address with a checksum."""

import contextlib
import importlib
import itertools
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from vggnb.archives import is_archive, unpack
from vggnb.folders import read_ahead
from vggnb.storage import (
    VggnbError,
    csv_text,
    make_folder,
    read_json,
    sha256_file,
    storage_errors,
    write_bytes,
    write_json,
)  # fmt: skip

ARTICLE_SET = "fanconic/skin-cancer-malignant-vs-benign"
ISIC = "https://api.isic-archive.com/api/v2/images/search/"
DERMOSCOPY = {
    "benign": "diagnosis_1:Benign AND image_type:dermoscopic",
    "malignant": "diagnosis_1:Malignant AND image_type:dermoscopic",
}
RETRIES = 3  # after a failed download
TIMEOUT_S = 30.0  # without a byte
_SOURCE = ".vggnb-source.json"  # hidden: a census counts it as a system file


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
        code = getattr(getattr(error, "response", None), "status_code", None)
        what = f"The download from Kaggle failed ({type(error).__name__}: {str(error)[:200]})."
        remedy = "Check the network, then run this again: downloaded files are kept."
        if code in (401, 403):
            what = f"Kaggle refused ({code}): this dataset asks for an account, or its terms are not accepted."
            remedy = "Open it on kaggle.com and accept its terms; put your token in KAGGLE_API_TOKEN (Settings, API)."
        elif code == 404:
            what, remedy = "Kaggle has no such dataset.", "Check owner/name in its address."
        raise VggnbError(what, slug, remedy) from error


def url(address: str, target: Path, *, sha256: str, progress: bool = True) -> Path:
    """Download an archive, verify its checksum, and unpack it to the folder `target`; a second call finds it there.

    Args:
        address: of a .zip or .tar.gz.
        sha256: its checksum in hex, from where you have the address.

    Raises:
        VggnbError: the download failed, the checksum differs, the archive is refused, or `target` holds something else.
    """
    target, sha256 = Path(target).absolute(), sha256.lower().removeprefix("sha256:")
    if target.exists():
        if (target / _SOURCE).exists() and read_json(target / _SOURCE)["sha256"] == sha256:
            return target
        raise VggnbError("The target holds something else.", target, "Name a folder that does not exist yet.")
    work = make_folder(target.with_name(target.name + ".partial"))
    archive = _download(address, work / "archive", progress=progress)
    with storage_errors(target):
        if sha256_file(archive) != sha256:
            archive.unlink()
            what = "The checksum of the download differs from the one given."
            raise VggnbError(what, address, "Compare the SHA-256 with its source; the file may have been changed.")
        if not is_archive(archive):
            raise VggnbError("The download is not a .zip or .tar file.", address, "Check the address.")
        shutil.rmtree(work / "unpacked", ignore_errors=True)
        unpack(archive, work / "unpacked", progress=progress)
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
    from vggnb.progress import tqdm

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
    folder = pooch.create(
        path.parent, "", registry={path.name: None}, urls={path.name: address}, retry_if_failed=RETRIES
    )
    with _errors(address):
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
