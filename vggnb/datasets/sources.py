"""Where images come from: Kaggle, or any address with a checksum."""

import re
import shutil
from pathlib import Path

from vggnb.datasets import requesting
from vggnb.datasets.requesting import needed, with_attempts
from vggnb.staging import is_archive, unpack
from vggnb.storage import VggnbError, make_folder, read_json, storage_errors, write_json

ARTICLE_SET = "fanconic/skin-cancer-malignant-vs-benign"
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
    try:
        return Path(needed("kagglehub").dataset_download(slug))
    except VggnbError:
        raise
    except Exception as error:  # kagglehub has no common base class
        raise _kaggle_error(error, slug) from error


def url(address: str, target: Path, *, sha256: str, progress: bool = True) -> Path:
    """Download an archive, verify its checksum, and unpack it to the folder `target`; a second call finds it there.

    Args:
        address: of a .zip or .tar.gz.
        sha256: its checksum in hex, from where you have the address.

    Raises:
        VggnbError: pooch is not installed, the download failed, the checksum differs, the archive is refused.
    """
    target, sha256 = Path(target).absolute(), sha256.lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise VggnbError("That is no SHA-256: it has 64 hexadecimal digits.", sha256, "Copy it again.")
    if target.exists():
        if (target / _SOURCE).exists() and read_json(target / _SOURCE)["sha256"] == sha256:
            return target
        raise VggnbError("The target holds something else.", target, "Name a folder that does not exist yet.")
    work = make_folder(target.with_name(target.name + ".partial"))
    archive = _checked_download(address, work, sha256, progress)
    with storage_errors(target):
        if not is_archive(archive):
            raise VggnbError("What came is not a .zip or .tar.", address, "Check the address.")
        shutil.rmtree(work / "unpacked", ignore_errors=True)
        unpack(archive, work / "unpacked", progress=progress)
        write_json(work / "unpacked" / _SOURCE, {"address": address, "sha256": sha256})
        (work / "unpacked").rename(target)
        shutil.rmtree(work, ignore_errors=True)
    return target


def _checked_download(address: str, work: Path, sha256: str, progress: bool) -> Path:
    """Download with pooch; a file that is there already with this checksum is kept."""
    pooch = needed("pooch")
    pooch.get_logger().setLevel("ERROR")

    def attempt() -> str:
        loader = pooch.HTTPDownloader(progressbar=progress, timeout=requesting.TIMEOUT_S, **requesting.OPTIONS)
        return pooch.retrieve(address, f"sha256:{sha256}", fname=sha256, path=work, downloader=loader)

    try:
        return Path(with_attempts(attempt, address))
    except ValueError as error:
        what = "The checksum of what came differs from the one given."
        raise VggnbError(what, address, "Compare the SHA-256 with its source; someone changed the file.") from error


def _kaggle_error(error: Exception, slug: str) -> VggnbError:
    """What went wrong, and what to do about it."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code in (401, 403):
        what = f"Kaggle refused ({code}): this dataset asks for an account, or its terms are not accepted."
        remedy = "Open it on kaggle.com and accept its terms; put your token in KAGGLE_API_TOKEN (Settings, API)."
    elif code == 404:
        what, remedy = "Kaggle has no such dataset.", "Check owner/name in its address."
    elif type(error).__name__ == "DataCorruptionError":
        what, remedy = "The download arrived damaged.", "Run this again."
    else:
        what = f"The download from Kaggle failed ({type(error).__name__}: {str(error)[:200]})."
        remedy = "Check the network, then run this again: what has arrived is kept."
    return VggnbError(what, slug, remedy)
