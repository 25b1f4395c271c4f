"""The tree of a dataset: wrapper folders, split folders, second copies. Names and folders only; nothing is opened."""

from vggnb.census.rules import is_annotation, is_evaluation, is_only_split, split_in_name, split_word
from vggnb.folders import Folder, shown
from vggnb.paths import SPLITS
from vggnb.storage import VggnbError


def unwrap(folder: Folder, *, split: str | None = None) -> Folder:
    """Go down while there is nothing but one folder of folders; in the folder of a split also through its namesake.

    Folders of labels or documents beside it do not count; what else there is, even if it is empty, does.
    """
    while not folder.images():
        beside = [inner for inner in folder.folders.values() if not is_documents(inner)]
        if len(filled := [inner for inner in beside if inner.is_filled()]) != 1:
            break
        (only,) = filled
        name = split_word(only.name) or (split and (split_in_name(only.name) or (None,))[0])
        if name not in (None, split) or not only.filled() or not (len(beside) == 1 or splits_of(only)):
            break
        folder = only
    return folder


def splits_of(top: Folder) -> dict[str, Folder]:
    """Folders by split, in order; {} where there are none, or the word is the name of a class (car, bus, train)."""
    filled = top.filled()
    strict = {folder: word for folder in filled if (word := split_word(folder.name))}
    loose = {folder: found for folder in filled if folder not in strict and (found := split_in_name(folder.name))}
    plain = [folder for folder in filled if folder not in strict and folder not in loose]
    flat_plain = any(folder.images() for folder in plain)
    if len(strict) == 1 and flat_plain and all(folder.images() for folder in strict):
        strict = {}
    if not strict and (flat_plain and any(folder.images() for folder in loose) or not agree(loose)):
        loose = {}
    found: dict[str, Folder] = {}
    named = [*strict.items(), *((folder, split) for folder, (split, _) in loose.items())]
    for folder, split in sorted(named, key=lambda item: is_evaluation(item[0].name)):
        if split in found and is_evaluation(folder.name) and "validation" not in found:
            split = "validation"
        elif split in found and folder in loose and found[split] in strict:
            continue  # "test" beside "test-more"; looked at as what lies beside the splits
        elif split in found:
            both = f"{shown(found[split].path)}/ and {shown(folder.path)}/"
            raise VggnbError(f"Two folders mean {split}: {both}.", both, "Keep one, or merge them into one.")
        found[split] = folder
    return {split: found[split] for split in SPLITS if split in found}


def copies_of(top: Folder, splits: dict[str, Folder]) -> list[Folder]:
    """Folders beside the splits or classes that hold the same splits or classes once more.

    Splits that a folder beside the others holds, and these do not, are added to them.
    """
    beside = [folder for folder in top.folders.values() if folder not in splits.values()]
    copies = []
    for folder in beside:
        inner = unwrap(folder)
        if splits:
            found = splits_of(inner)
            if found.keys() & splits.keys():
                copies.append(folder)
            for split in found.keys() - splits.keys() if folder not in copies else ():
                splits[split] = found[split]
        elif not inner.files and len(inner.folders) > 1:
            if set(inner.folders) == {other.name for other in beside if other is not folder}:
                copies.append(folder)
    return copies


def is_documents(folder: Folder) -> bool:
    """Whether a folder holds labels or documents only, by its name and by those of its files."""
    return is_annotation(folder.name) and folder.is_filled() and not folder.holds_images()


def agree(loose: dict[Folder, tuple[str, str]]) -> bool:
    """Whether names such as seg_train and seg_test mean splits: they differ in that word only, or hold the same."""
    splits, rests = {split for split, _ in loose.values()}, [rest for _, rest in loose.values()]
    if len(splits) < 2:
        return False
    inside = [{inner.name for inner in folder.filled()} for folder in loose]
    return len(set(rests)) < len(rests) or all(map(is_only_split, rests)) or len(set.intersection(*inside)) > 1
