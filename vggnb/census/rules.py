"""The rules by which a folder is understood: words in names, wrapper folders, splits, second copies; and the result.

docs/what_can_i_bring.md shows what each kind of folder is read as; `layout` applies the rules to a dataset, and refuses
what is ambiguous.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vggnb.folders import Folder, Skipped, listed, shown
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError

UNSPLIT = "unsplit"

_SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "development": "validation", "test": "test", "testing": "test", "eval": "test",
    "evaluation": "test",
}  # fmt: skip
_UNLABELLED = ("unlabeled", "unlabelled", "unannotated", "unsorted", "unsup", "tosort")
_INSIDE = re.compile("train(?:ing)?|valid(?:ation)?|val|test(?:ing)?")
_ANNOTATIONS = {
    "annotation", "annotations", "attributes", "bbox", "bboxes", "boxes", "code", "csv", "docs", "groundtruth", "gt",
    "json", "label", "labels", "lists", "mask", "masks", "meta", "metadata", "papers", "parts", "scripts",
    "segmentation", "segmentations", "truth", "ground", "txt", "xml",
}  # fmt: skip
_IMAGES = {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpg", "jpeg", "png"}
_PIECES = _IMAGES | {"batch", "chunk", "data", "dataset", "disk", "fold", "folder", "part", "shard", "split", "volume"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that lies where an image of a class belongs; `path` is POSIX and relative to the dataset."""

    path: str
    split: str
    class_name: str
    group: str = ""


@dataclass(frozen=True)
class Layout:
    """How a dataset was understood."""

    dataset: Path
    sentences: tuple[str, ...]  # the same as text for the user
    classes: tuple[str, ...]  # sorted by code point; a label is an index into it
    entries: tuple[Entry, ...]  # files in class folders, in order of their paths
    strays: tuple[Skipped, ...] = ()  # files that no class can claim: beside the class folders, links, pipes
    copies: tuple[str, ...] = ()  # of what looks like a second copy of the dataset; the census compares the bytes
    system_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[VggnbError, ...] = ()  # what stands in the way of training though not of a survey

    def __str__(self) -> str:
        return "\n".join([shown(str(self.dataset)), *self.sentences])


def check_names(names: Iterable[str], where: Path) -> None:
    """Refuse class names that differ only by case, spaces or the Unicode form of a letter, or are not text."""
    alike = defaultdict(list)
    for name in sorted(names):
        code_points = " ".join(f"U+{ord(char):04X}" for char in name)
        alike[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(f"{name!r} ({code_points})")
    if several := [" and ".join(group) for group in alike.values() if len(group) > 1]:
        what = f"Class names that people cannot tell apart: {'; '.join(several)}."
        remedy = "Use one spelling: rename or merge the folders, or correct the labels in the table."
        raise VggnbError(what, where, remedy)
    if no_text := sorted(name for name in names if any("\ud800" <= char <= "\udfff" for char in name)):
        raise VggnbError(f"Class names that are not UTF-8 text: {listed(no_text)}.", where, "Rename these folders.")


def split_word(name: str) -> str | None:
    """The split that a folder's name, or a table's cell, means: 'train', 'validation', 'test' or None."""
    return _SPLITS.get(re.sub(r"[ _-]?set$", "", name.strip().casefold()))


def _is_evaluation(folder: Folder) -> bool:
    """Whether its name means validation where there is a test folder, too; else test."""
    return any(word.startswith("eval") for word in _tokens(folder.name))


def is_unlabelled(name: str) -> bool:
    """Whether a folder's name means that its images have no label."""
    return re.sub(r"[\W_]", "", name.casefold()).startswith(_UNLABELLED)


def _tokens(name: str) -> list[str]:
    """The words of a name in lower case: ['asl', 'train'] for 'aslTrain_2'."""
    return [word.casefold() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]


def split_tokens(name: str) -> list[str]:
    """The words of a name that mean a split: ['train'] for 'train_station'."""
    return [word for word in _tokens(name) if word in _SPLITS]


def _split_in_name(name: str) -> tuple[str, str] | None:
    """The split that a longer name holds, and the rest of it: ('train', 'seg_*') for 'seg_train'; None for none."""
    words = split_tokens(name)
    if len({_SPLITS[word] for word in words}) == 1:
        rest = re.sub(re.escape(words[0]), "*", name.casefold(), count=1)
        return _SPLITS[words[0]], re.sub(r"\d+", "", rest)
    found = _INSIDE.findall(name.casefold())
    return (_SPLITS[found[0]], _INSIDE.sub("*", name.casefold())) if len(found) == 1 else None


def is_annotation(name: str) -> bool:
    """Whether a folder's name means that it holds labels, boxes or masks and not the images of a class."""
    return _is_one_of(name, _ANNOTATIONS, _PIECES)


def are_pieces(names: Iterable[str]) -> bool:
    """Whether folders are pieces of one collection and not classes: images_part_1, images_part_2; images and masks."""
    names = list(names)
    stems = {re.sub(r"[\d\W_]+", " ", name).strip().casefold() for name in names}
    numbered = len(stems) == 1 and any(char.isdigit() for name in names for char in name)
    if numbered and not _PIECES.isdisjoint(_tokens(names[0])):
        return True
    return len(names) > 1 and all(is_annotation(name) or _is_one_of(name, _IMAGES, {"set", "data"}) for name in names)


def _is_one_of(name: str, wanted: set[str], ignored: set[str]) -> bool:
    words = set(_tokens(name)) - _SPLITS.keys() - ignored
    return bool(words) and words <= wanted


def unwrap(folder: Folder, *, split: str | None = None) -> Folder:
    """Go down while there is nothing but one folder of folders; in the folder of a split also through its namesake.

    Folders of labels or documents beside it do not count; what else there is, even if it is empty, does.
    """
    while not folder.images():
        beside = [inner for inner in folder.folders.values() if not is_documents(inner)]
        if len(filled := [inner for inner in beside if inner.is_filled()]) != 1:
            break
        (only,) = filled
        name = split_word(only.name) or (split and (_split_in_name(only.name) or (None,))[0])
        if name not in (None, split) or not only.filled() or not (len(beside) == 1 or splits_of(only)):
            break
        folder = only
    return folder


def splits_of(top: Folder) -> dict[str, Folder]:
    """Folders by split, in order; {} where there are none, or the word is the name of a class (car, bus, train)."""
    filled = top.filled()
    strict = {folder: word for folder in filled if (word := split_word(folder.name))}
    loose = {folder: found for folder in filled if folder not in strict and (found := _split_in_name(folder.name))}
    flat_plain = any(folder.images() for folder in filled if folder not in strict and folder not in loose)
    if len(strict) == 1 and flat_plain and all(folder.images() for folder in strict):
        strict = {}
    if not strict and (flat_plain and any(folder.images() for folder in loose) or not _agree(loose)):
        loose = {}
    found: dict[str, Folder] = {}
    named = [*strict.items(), *((folder, split) for folder, (split, _) in loose.items())]
    for folder, split in sorted(named, key=lambda item: _is_evaluation(item[0])):
        if split in found and folder in loose and found[split] in strict:
            continue  # "test" beside "test-more"; looked at as what lies beside the splits
        if split in found and _is_evaluation(folder) and "validation" not in found:
            split = "validation"
        elif split in found:
            both = f"{shown(found[split].path)}/ and {shown(folder.path)}/"
            raise VggnbError(f"Two folders mean {split}: {both}.", both, "Keep one, or merge them into one.")
        found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def _agree(loose: dict[Folder, tuple[str, str]]) -> bool:
    """Whether names such as seg_train and seg_test mean splits: they differ in that word only, or hold the same."""
    splits, rests = {split for split, _ in loose.values()}, [rest for _, rest in loose.values()]
    if len(splits) < 2:
        return False
    only_split = all(_PIECES | {"set", "my", "new", "final"} >= set(_tokens(rest)) for rest in rests)  # '*_images', '*'
    inside = [{inner.name for inner in folder.filled()} for folder in loose]
    return only_split or len(set(rests)) < len(rests) or len(set.intersection(*inside)) > 1


def copies_of(top: Folder, splits: dict[str, Folder]) -> list[Folder]:
    """Folders beside the splits or classes that hold the same splits or classes once more.

    Splits that a folder beside the others holds, and these do not, are added to them.
    """
    beside = [folder for folder in top.folders.values() if folder not in splits.values()]
    copies = []
    for folder in beside:
        inner = unwrap(folder)
        if not splits and not inner.files and len(inner.folders) > 1:
            if set(inner.folders) == {other.name for other in beside if other is not folder}:
                copies.append(folder)
        elif splits and (found := splits_of(inner)):
            if found.keys() & splits.keys():
                copies.append(folder)
            else:
                splits |= found
    return copies


def is_documents(folder: Folder) -> bool:
    """Whether a folder holds labels or documents only, by its name and by those of its files."""
    return is_annotation(folder.name) and folder.is_filled() and not folder.holds_images()
