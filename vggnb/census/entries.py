"""What a dataset was understood to be (`Layout`), and what the names of its folders and classes mean."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vggnb.folders import Skipped, shown
from vggnb.storage import VggnbError

UNSPLIT = "unsplit"
_WORDS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "development": "validation", "test": "test", "testing": "test", "eval": "test",
    "evaluation": "test",
}  # fmt: skip
_EVALUATION = ("eval", "evaluation")  # test, or validation where there is a test folder
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
    """What was understood of a dataset.

    Attributes:
        sentences: the same for people.
        classes: sorted by code point; a label is an index into it.
        entries: files in class folders, in order of their paths.
        strays: files that no class can claim: beside the class folders, links, pipes.
        copies: files of what looks like a second copy of the dataset; the census compares the bytes.
        system_files: what operating systems and tools leave behind; never opened.
        warnings: what a person should look at before training.
        obstacles: what stands in the way of training though not of a survey.
    """

    dataset: Path
    sentences: tuple[str, ...]
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    strays: tuple[Skipped, ...] = ()
    copies: tuple[str, ...] = ()
    system_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[VggnbError, ...] = ()

    def __str__(self) -> str:
        return "\n".join([shown(str(self.dataset)), *self.sentences])


def split_word(name: str) -> str | None:
    """The split that a folder's name, or a table's cell, means: 'train', 'validation', 'test' or None."""
    return _WORDS.get(_word(name))


def is_evaluation(name: str) -> bool:
    """Whether the word means test, or validation where there is a test folder, too."""
    return _word(name) in _EVALUATION


def is_usual(name: str) -> bool:
    """Whether nothing need be said about a split's name: 'train', 'Validation', 'test_set'."""
    return _word(name).startswith(("train", "val", "test"))


def is_unlabelled(name: str) -> bool:
    """Whether a folder's name says that its images have no label."""
    return re.sub(r"[\W_]", "", name.casefold()).startswith(_UNLABELLED)


def _word(name: str) -> str:
    return re.sub(r"[ _-]?set$", "", name.strip().casefold())


def tokens(name: str) -> list[str]:
    """The words of a name in lower case: ['asl', 'train'] for 'aslTrain_2'."""
    return [word.casefold() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]


def split_in_name(name: str) -> tuple[str, str] | None:
    """The split that a longer name holds, and the rest of it: ('train', 'seg_*') for 'seg_train'; None for none."""
    words = split_tokens(name)
    if len({_WORDS[word] for word in words}) == 1:
        rest = re.sub(re.escape(words[0]), "*", name.casefold(), count=1)
        return _WORDS[words[0]], re.sub(r"\d+", "", rest)
    found = _INSIDE.findall(name.casefold())
    return (_WORDS[found[0]], _INSIDE.sub("*", name.casefold())) if len(found) == 1 else None


def split_tokens(name: str) -> list[str]:
    """The words of a name that mean a split: ['train'] for 'train_station'."""
    return [word for word in tokens(name) if word in _WORDS]


def says_only_split(rest: str) -> bool:
    """Whether what `split_in_name` left over says nothing about a class: '*_images', '*'."""
    return all(word in _PIECES | {"set", "my", "new", "final"} for word in tokens(rest))


def is_annotation(name: str) -> bool:
    """Whether a folder's name says that it holds labels, boxes or masks and not the images of a class."""
    words = set(tokens(name)) - set(_WORDS) - _PIECES
    return bool(words) and words <= _ANNOTATIONS


def are_pieces(names: Iterable[str]) -> bool:
    """Whether folders are pieces of one collection and not classes: images_part_1, images_part_2; images and masks."""
    names = list(names)
    stems = {re.sub(r"[\d\W_]+", " ", name).strip().casefold() for name in names}
    numbered = len(stems) == 1 and any(char.isdigit() for name in names for char in name)
    if numbered and not _PIECES.isdisjoint(tokens(names[0])):
        return True
    return len(names) > 1 and all(is_annotation(name) or _is_images(name) for name in names)


def _is_images(name: str) -> bool:
    words = set(tokens(name)) - set(_WORDS) - {"set", "data"}
    return bool(words) and words <= _IMAGES


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names that are safe to print, the first of many: 'cat, dog'."""
    names = [shown(name) for name in names]
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def check_names(names: set[str], where: object) -> None:
    """Refuse class names that people or programs cannot tell apart or write down; all of them at once.

    Raises:
        VggnbError: names that differ only by case, spaces or the Unicode form of a letter, or are not text.
    """
    same = defaultdict(list)
    for name in sorted(names):
        same[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    alike = [
        " and ".join(f"{name!r} ({' '.join(f'U+{ord(char):04X}' for char in name)})" for name in group)
        for group in same.values()
        if len(group) > 1
    ]
    if alike:
        what = f"Class names that people cannot tell apart: {'; '.join(alike)}."
        raise VggnbError(what, where, "Rename one of the folders, or move its images into the other.")
    bytes_ = [name for name in names if any("\ud800" <= char <= "\udfff" for char in name)]
    if bytes_:
        what = f"Class names that are not UTF-8 text: {listed(sorted(bytes_))}."
        raise VggnbError(what, where, "Rename these folders.")
