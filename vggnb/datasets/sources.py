"""Where images come from: Kaggle, or any address with a checksum."""

import re
import shutil
from pathlib import Path

from vggnb.datasets.fetching import download
from vggnb.staging.archives import extract, is_archive
from vggnb.storage import VggnbError, make_folder, read_json, storage_errors, write_json

ARTICLE_SET = "fanconic/skin-cancer-malignant-vs-benign"
_SOURCE = ".vggnb-source.json"  # hidden: a census counts it as a system file


def kaggle(slug: str = ARTICLE_SET) -> Path:
    """Download a dataset of Kaggle, by default the article's, and give its folder; a second call finds it there.

    Args:
        slug: `owner/name`, as in the dataset's address.

    Raises:
        VggnbError: kagglehub is not installed, Kaggle refused, or the download failed.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/\d+)?", slug):
        remedy = "Take owner/name from its address, https://www.kaggle.com/datasets/owner/name."
        raise VggnbError(f"'{slug}' is not the name of a Kaggle dataset.", "kaggle", remedy)
    try:
        import kagglehub
    except ImportError:
        raise _needs("kagglehub", "Kaggle") from None
    try:
        return Path(kagglehub.dataset_download(slug))
    except Exception as error:  # kagglehub has no common base class
        raise _kaggle_error(error, slug) from error


def url(address: str, target: Path, *, sha256: str, progress: bool = True) -> Path:
    """Download an archive, check it, unpack it to the folder `target`, and give that; a second call finds it there.

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
        unpacked = work / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        extract(archive, unpacked, progress=progress)
        write_json(unpacked / _SOURCE, {"address": address, "sha256": sha256})
        unpacked.rename(target)
        shutil.rmtree(work, ignore_errors=True)
    return target


def _checked_download(address: str, work: Path, sha256: str, progress: bool) -> Path:
    """Let pooch keep the file and compare its checksum, with a downloader that resumes."""
    try:
        import pooch
    except ImportError:
        raise _needs("pooch", "downloads") from None
    from tqdm.auto import tqdm

    part = work / f"{sha256}.part"
    resumed = part.exists()

    def resuming(address: str, output_file, pooch_) -> None:
        done = part.stat().st_size if part.exists() else 0
        with tqdm(initial=done, unit="B", unit_scale=True, desc="downloading", disable=not progress) as bar:
            download(address, part, tell=bar.update)
        shutil.move(part, output_file)

    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(pooch.retrieve(address, f"sha256:{sha256}", fname=sha256, path=work, downloader=resuming))
    except ValueError as error:
        if resumed:  # what an earlier call left may have been of another version: once more, from the start
            return _checked_download(address, work, sha256, progress)
        what = "The checksum of what came differs from the one given."
        raise VggnbError(what, address, "Compare the SHA-256 with its source; someone changed the file.") from error


def _needs(package: str, what: str) -> VggnbError:
    remedy = f'Install it: pip install {package} (or pip install "vggnb[data]").'
    return VggnbError(f"{what[0].upper()}{what[1:]} need the package {package}.", package, remedy)


def _kaggle_error(error: Exception, slug: str) -> VggnbError:
    """Put what Kaggle or the network says in words a learner can act on."""
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
