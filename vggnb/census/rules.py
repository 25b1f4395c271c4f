"""The rules by which a folder is understood: words in names, and what is refused with which message.

    in the dataset                                       is read as
    train/ test/ [validation/], each of class folders    splits; also dev/, valid/, eval/, evaluation/, train_set/
    seg_train/ seg_test/; train_images/ test_images/     splits, where the rest of the names or the classes agree
    class folders                                        not split: `assign_splits` does it
    cat/train/ cat/test/ dog/train/ dog/test/            splits inside class folders
    images/..., train/train/...                          one folder of folders is looked through
    test/ of images alone, or of one unknown folder      images without labels: listed, for `vggnb predict`
    the same splits or classes once more, deeper         a copy: listed, its bytes are compared
    links to folders of images, and to images            what they lead to, unless that is in the dataset already
    a .csv or .tsv file                                  a table (`tables.read_table`)

Which folder is what: `tree`; the whole dataset: `layout`. Anything ambiguous is refused (`PROBLEMS`).
"""

import re
from collections.abc import Iterable

_SPLITS = {
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
PROBLEMS = {  # what is wrong, and what to do; {table} points to tables beside the images
    "missing": ("There is no such dataset folder.", "Check the path; on Colab, mount Drive first."),
    "archive": (
        "The dataset is an archive.",
        "Unpack it first: page 2 and the command line do so, or stage_if_remote(dataset, folder).",
    ),
    "empty": ("The dataset folder is empty.{links}", "Put one folder of images for each class in it."),
    "flat": (
        "{images} directly in {place}, in no class folder.{boxes}",
        "Move them into one folder for each class, for example cat/ and dog/. {table}",
    ),
    "pieces": (
        "{names} look like parts of one collection, not like classes: {images} in no class folder.",
        "Move the images into one folder for each class, for example cat/ and dog/. {table}",
    ),
    "masks": (
        "Each class folder holds {names}: masks or labels would be used as images.",
        "Move files that are not training images out of the dataset.",
    ),
    "unclear": (
        "It is not clear which folders are the classes: {names} all hold {inside}.",
        "If the classes are {inside}: name one of the outer folders as the dataset, or call the outer ones train and "
        "test. Otherwise move the images up. {table}",
    ),
    "one class": ("Only {name!r} found; a classifier needs at least 2 class folders.", "{table}"),
    "same classes": (
        "{name}/ holds the same classes as the splits; its name is not that of a split.",
        "Rename it to {missing}, merge it into a split, or move it out of the dataset.",
    ),
    "several datasets": (
        "There are {n} datasets with splits of their own: {names}.",
        "Name one of them, or merge them: train with train, test with test.",
    ),
    "splits in some": (
        "Some class folders hold split folders (train, test); {name}/ holds something else too.",
        "Give every class folder the same split folders, or none. If {split}/ is the whole dataset, name {split}/.",
    ),
    "links": (
        "Links that cannot be followed stand where folders of the dataset should be: {links}.",
        "Put the folders themselves in their places, or remove the links.",
    ),
    "classes differ": (
        "The class folders differ between the splits: {differences}.",
        "Give {first} every class that the other splits have.",
    ),
    "named like splits": (
        "The class folders are named like splits: {names}.",
        "Put the images of each class into a folder named after it.",
    ),
}


def split_word(name: str) -> str | None:
    """The split that a folder's name, or a table's cell, means: 'train', 'validation', 'test' or None."""
    return _SPLITS.get(_without_set(name))


def is_evaluation(name: str) -> bool:
    """Whether the word means test, or validation where there is a test folder, too."""
    return _without_set(name) in _EVALUATION


def is_unlabelled(name: str) -> bool:
    """Whether a folder's name means that its images have no label."""
    return re.sub(r"[\W_]", "", name.casefold()).startswith(_UNLABELLED)


def _without_set(name: str) -> str:
    return re.sub(r"[ _-]?set$", "", name.strip().casefold())


def _tokens(name: str) -> list[str]:
    """The words of a name in lower case: ['asl', 'train'] for 'aslTrain_2'."""
    return [word.casefold() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]


def split_tokens(name: str) -> list[str]:
    """The words of a name that mean a split: ['train'] for 'train_station'."""
    return [word for word in _tokens(name) if word in _SPLITS]


def split_in_name(name: str) -> tuple[str, str] | None:
    """The split that a longer name holds, and the rest of it: ('train', 'seg_*') for 'seg_train'; None for none."""
    words = split_tokens(name)
    if len({_SPLITS[word] for word in words}) == 1:
        rest = re.sub(re.escape(words[0]), "*", name.casefold(), count=1)
        return _SPLITS[words[0]], re.sub(r"\d+", "", rest)
    found = _INSIDE.findall(name.casefold())
    return (_SPLITS[found[0]], _INSIDE.sub("*", name.casefold())) if len(found) == 1 else None


def is_only_split(rest: str) -> bool:
    """Whether what `split_in_name` left over names no class: '*_images', '*'."""
    return _PIECES | {"set", "my", "new", "final"} >= set(_tokens(rest))


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
