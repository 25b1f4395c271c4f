"""Images of the ISIC Archive (isic-archive.com) through its public API, version 2: no account is needed.

The archive has no checksums; a file counts as whole when its length is what the archive says and it decodes.
"""

import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vggnb.datasets.requesting import get
from vggnb.folders import read_ahead
from vggnb.images import decode
from vggnb.storage import VggnbError, csv_text, make_folder, write_bytes

API = "https://api.isic-archive.com/api/v2"
DERMOSCOPY = {
    "benign": "diagnosis_1:Benign AND image_type:dermoscopic",
    "malignant": "diagnosis_1:Malignant AND image_type:dermoscopic",
}
TABLE = "labels.csv"
_AT_ONCE = 4  # downloads; be kind to the archive


@dataclass(frozen=True)
class Record:
    """An image as the archive describes it; `group` is its lesion's id, else its patient's."""

    isic_id: str
    class_name: str
    group: str
    licence: str
    attribution: str
    address: str
    size: int

    @property
    def path(self) -> str:
        """Relative to the dataset."""
        return f"{self.class_name}/{self.isic_id}.jpg"


def isic(
    target: Path,
    *,
    queries: Mapping[str, str] = DERMOSCOPY,
    each: int = 200,
    licences: tuple[str, ...] = ("CC-0",),
    progress: bool = True,
) -> Path:
    """Download images by diagnosis, and return the table (path, label, group) that is the dataset.

    Class folders and ATTRIBUTION.txt are beside the table. A second call downloads only what is missing.

    Args:
        queries: class name -> the archive's search words (https://www.isic-archive.com, "Search").
        each: at most so many images a class.
        licences: only images under these: "CC-0", "CC-BY", "CC-BY-NC".

    Raises:
        VggnbError: the archive does not answer, refuses the words, has no such image, or some could not be fetched.
    """
    for name in queries:
        if not re.fullmatch(r"\w[\w -]*", name):
            raise VggnbError(f"'{name}' cannot be a class folder.", "queries", "Use letters, digits and spaces.")
    target = make_folder(Path(target).absolute())
    records: dict[str, Record] = {}
    for class_name, query in queries.items():
        found = list(_take(_search(query), class_name, each, licences))
        if not found:
            what = f"The archive has no image for {class_name} under {', '.join(licences)}."
            raise VggnbError(what, query, "Check the search words, or allow more licences.")
        for record in found:
            if record.isic_id in records:
                what = f"{record.isic_id} is {records[record.isic_id].class_name} and {class_name}."
                raise VggnbError(what, query, "Make the search words of the classes exclude each other.")
            records[record.isic_id] = record
    _fetch_all(list(records.values()), target, progress)
    write_bytes(target / "ATTRIBUTION.txt", _attribution(records.values()).encode())
    rows = [(record.path, record.class_name, record.group) for record in records.values()]
    write_bytes(target / TABLE, csv_text([("path", "label", "group"), *rows]).encode())
    return target / TABLE


def _search(query: str) -> Iterator[dict]:
    """All results for some search words, page after page."""
    address = f"{API}/images/search/?{urllib.parse.urlencode({'query': query, 'limit': 100})}"
    while address:
        if urllib.parse.urlsplit(address)[:2] != urllib.parse.urlsplit(API)[:2]:
            raise VggnbError("The archive's next page lies on another server.", address, "Try again later.")
        try:
            page = json.loads(get(address))
            yield from page["results"]
            address = page["next"] if page["results"] else None
        except VggnbError as error:
            if "(400" in error.what:
                remedy = "Try the words at https://www.isic-archive.com first."
                raise VggnbError("The archive does not understand the search words.", query, remedy) from error
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise _unexpected(error) from error


def _take(results: Iterator[dict], class_name: str, each: int, licences) -> Iterator[Record]:
    """The first results whose licence is wanted."""
    taken = 0
    for result in results:
        if taken == each:
            return
        try:
            licence, name = result["copyright_license"], result["isic_id"]
            if licence not in licences or not result.get("public", True):
                continue
            file = result["files"]["full"]
            facts = {key: value for part in result["metadata"].values() for key, value in part.items()}
            group = facts.get("lesion_id") or facts.get("patient_id") or ""
            size = int(file.get("size") or 0)
            record = Record(name, class_name, group, licence, result["attribution"], file["url"], size)
            if not re.fullmatch(r"ISIC_\d+", name):
                raise ValueError(name)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unexpected(error) from error
        taken += 1
        yield record


def _fetch_all(records: list[Record], target: Path, progress: bool) -> None:
    """Download what is missing, some at once; then name what could not be downloaded."""
    from vggnb.progress import tqdm

    for record in records:
        make_folder(target / record.class_name)
    found = read_ahead(lambda record: _fetch(record, target / record.path), records, workers=_AT_ONCE)
    errors = list(tqdm(found, "downloading", len(records), unit="images", disable=not progress))
    failed = [f"{record.isic_id}: {error.what}" for record, error in zip(records, errors, strict=True) if error]
    if failed:
        what = f"{len(failed)} of {len(records)} images could not be fetched ({'; '.join(failed[:3])})."
        raise VggnbError(what, target, "Run this again: what has arrived is kept.")


def _fetch(record: Record, path: Path) -> VggnbError | None:
    """Download one image if it is not there already; return the error, if any."""
    try:
        if not (path.exists() and _is_whole(path.read_bytes(), record.size)):
            data = get(record.address)
            if not _is_whole(data, record.size):
                return VggnbError("It arrived damaged.", record.isic_id, "Run this again.")
            write_bytes(path, data)
    except VggnbError as error:
        return error


def _is_whole(data: bytes, size: int) -> bool:
    """Whether this is an image, as long as the archive says."""
    try:
        decode(data)
    except VggnbError:
        return False
    return size in (0, len(data))


def _attribution(records) -> str:
    """Whom to name: by holder and licence, then image by image."""
    holders = Counter((record.attribution, record.licence) for record in records)
    lines = ["Images from the ISIC Archive, https://www.isic-archive.com", ""]
    lines += [f"{count} images: {holder} ({licence})" for (holder, licence), count in sorted(holders.items())]
    lines += ["", *(f"{record.isic_id}: {record.attribution} ({record.licence})" for record in records)]
    return "\n".join(lines) + "\n"


def _unexpected(error: object) -> VggnbError:
    what = f"The archive answered in a way that this version does not understand ({error!r})."
    return VggnbError(what, API, "Look for a newer vggnb, or download the images in the browser.")
