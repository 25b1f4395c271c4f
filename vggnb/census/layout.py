"""What folder the user has, and where its class folders are.

Accepted: train / validation / test folders (or some of them) of class folders, class folders that are not split,
either of them inside wrapper folders, split folders inside class folders, and the same data twice; or a table
(`tables.read_table`). What could be meant in two ways is refused. Nothing here opens an image.
"""

import contextlib
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vggnb.census.entries import (
    UNSPLIT,
    Entry,
    Layout,
    are_pieces,
    check_names,
    is_annotation,
    is_unlabelled,
    is_usual,
    listed,
    split_tokens,
    split_word,
)
from vggnb.census.tables import read_table
from vggnb.census.tree import copies_of, is_documents, splits_of, unwrap
from vggnb.folders import Folder, Skipped, counted, is_named_like_an_image, shown, walk
from vggnb.paths import SPLITS
from vggnb.staging import name_source
from vggnb.staging.kinds import SPREADSHEETS, TABLES, check_unpacked, is_archive, no_archive
from vggnb.storage import VggnbError

OUTSIDE = "It lies outside the class folders. Move it into one if it is an image to use; else leave it."
NO_LABEL = "It lies in a folder without labels. Predict its class after training, or move it into a class folder."
SAME_FILE = "It is a link to a file of the same class that is counted already. Nothing to do."
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar", ".7z")
_TOOLS = (".ipynb_checkpoints", ".git", ".cache", ".thumbnails", ".Trash", ".AppleDouble", ".vscode", ".fseventsd")
_NO_CLASS = Folder("", "")


def read_layout(dataset: Path) -> Layout:
    """Find the class folders of a dataset, or read its table.

    Raises:
        VggnbError: there is nothing, or nothing that can be understood; the text names all that stands in the way.
    """
    dataset = Path(os.path.abspath(dataset))
    try:
        layout = _read(dataset)
    except VggnbError as error:
        raise name_source(error, dataset) from error
    return replace(layout, obstacles=tuple(name_source(obstacle, dataset) for obstacle in layout.obstacles))


def _read(dataset: Path) -> Layout:
    if not dataset.exists():
        raise VggnbError("There is no such dataset folder.", dataset, "Check the path; on Colab, mount Drive first.")
    if not dataset.is_dir():
        if dataset.suffix.lower() in TABLES:
            return read_table(dataset)
        if is_archive(dataset):
            remedy = "Unpack it first: page 2 and the command line do so, or stage_if_remote(dataset, folder)."
            raise VggnbError("The dataset is an archive.", dataset, remedy)
        raise no_archive(dataset)
    check_unpacked(dataset, dataset)
    return _Reader(dataset).layout()


class _Reader:
    """Reads one folder; what is to be said of it gathers in lists."""

    def __init__(self, dataset: Path):
        self.dataset = dataset
        self.root, self.strays, self.system = walk(dataset)
        self.sentences: list[str] = []
        self.warnings: list[str] = []
        self.obstacles: list[VggnbError] = []

    def layout(self) -> Layout:
        if not self.root.is_filled():
            links = f" It holds only links or pipes: {listed(s.path for s in self.strays)}." if self.strays else ""
            remedy = "Put one folder of images for each class in it."
            raise VggnbError(f"The dataset folder is empty.{links}", self.dataset, remedy)
        top = unwrap(self.root)
        self._wrapped(self.root, top)
        self._check_archives(top)
        self._check_siblings()
        splits = splits_of(top)
        copies = copies_of(top, splits)
        table = self._split_table(top, splits, copies) if splits else self._unsplit_table(top, copies)
        if table == {UNSPLIT: {}}:
            self.obstacles.append(self._flat(top))
            table = {UNSPLIT: {self.dataset.name: top}}
        classes = self._classes(table)
        self._check_vanished(top, splits)
        self._remark(top, table, copies, classes)
        inner = [path for copy in copies for path in copy.all_files()]
        entries = self._entries(table)
        claimed = {entry.path for entry in entries}.union(inner, (stray.path for stray in self.strays))
        self.strays += [Skipped(path, OUTSIDE) for path in self.root.all_files() if path not in claimed]
        self.strays.sort(key=lambda stray: stray.path)
        lists = (self.strays, sorted(inner), self.system, self.warnings, self.obstacles)
        return Layout(self.dataset, tuple(self.sentences), classes, tuple(entries), *map(tuple, lists))

    def _wrapped(self, outer: Folder, inner: Folder) -> None:
        if outer is not inner:
            self.sentences.append(f"The folders lie deeper, in {shown(inner.path)}/.")
        documents = [folder for folder in outer.all_folders() if is_documents(folder)]
        self.sentences += [f"{shown(folder.path)}/ holds no images." for folder in documents[:3]]

    def _split_table(self, top: Folder, splits: dict[str, Folder], copies: list[Folder]) -> dict[str, dict]:
        """Class folders by split and name, for a dataset that is split."""
        present = [split for split in SPLITS if split in splits]
        inside = {split: unwrap(splits[split], split=split) for split in present}
        first = next(iter(inside))
        self._wrapped(splits[first], inside[first])
        known = set(inside[first].folders)
        table = {}
        for split, folder in inside.items():
            filled = folder.filled()
            odd = len(filled) == 1 and filled[0].name not in known and len(known) > 1 and filled[0].images()
            if split != first and known and (not filled or odd):
                self._unlabelled(splits[split])
            elif not filled:
                raise self._flat(folder)
            else:
                table[split] = folder.folders
        for split, folder in splits.items():
            if split in table and not (split_word(folder.name) == split and is_usual(folder.name)):
                self.sentences.append(f"{shown(folder.path)}/ is taken as the {split} split.")
        self._check_beside(top, [*splits.values(), *copies], known, table)
        return table

    def _check_beside(self, top: Folder, taken: list[Folder], known: set[str], table: dict) -> None:
        """What lies beside the split folders: the same classes under an unknown name, or images without labels."""
        for folder in top.filled():
            inside = unwrap(folder)
            if folder in taken or any(inside is other or other in inside.folders.values() for other in taken):
                continue
            if known & {inner.name for inner in inside.filled()} and folder.holds_images():
                what = f"{shown(folder.path)}/ holds the same classes as the splits; its name is not that of a split."
                missing = [split for split in SPLITS if split not in table]
                remedy = f"Rename it to {' or '.join(missing)}, merge it into a split, or move it out of the dataset."
                if missing:
                    self.obstacles.append(VggnbError(what, self.dataset / folder.path, remedy))
                else:
                    self.warnings.append(f"{what} It is not used.")
            elif folder.holds_images():
                self._unlabelled(folder)

    def _unlabelled(self, folder: Folder) -> None:
        """Say what to do with images that lie in no class folder."""
        files = list(folder.all_files())
        self.strays += [Skipped(path, NO_LABEL) for path in files]
        place = shown(str(self.dataset / folder.path))
        words = f"{shown(folder.path)}/ holds {counted(len(files), 'file')} without labels, not used."
        table = f" If {listed(self._tables(), 3)} holds the labels: a table of path,label,split can be the dataset."
        self.sentences.append(f"{words} After training: vggnb predict RUN {place}.{table if self._tables() else ''}")

    def _unsplit_table(self, top: Folder, copies: list[Folder]) -> dict[str, dict[str, Folder]]:
        """Class folders by split and name, where the outer folders are classes: not split, or each split inside."""
        classes = {name: folder for name, folder in top.folders.items() if folder not in copies}
        for name in [name for name in classes if is_unlabelled(name) and len(classes) > 2]:
            self._unlabelled(classes.pop(name))
        parts = {name: splits_of(folder) for name, folder in classes.items()}
        if not any(parts.values()):
            self._check_meant(classes)
            return {UNSPLIT: classes}
        if len(classes) > 1 and all(
            part and all(len(unwrap(split).filled()) > 1 for split in part.values()) for part in parts.values()
        ):
            what = f"There are {len(classes)} datasets with splits of their own: {listed(classes)}."
            raise VggnbError(what, self.dataset, "Name one of them, or merge them: train with train, test with test.")
        for name, folder in classes.items():
            odd = sorted(other.name for other in folder.filled() if other not in parts[name].values())
            if folder.is_filled() and (folder.images() or odd or not parts[name]):
                split = next(shown(other.path) for other in classes.values() if parts[other.name])
                what = f"Some class folders hold split folders (train, test); {shown(name)}/ holds something else too."
                remedy = "Give every class folder the same split folders, or none. "
                raise VggnbError(what, folder.path, f"{remedy}If {split}/ is the whole dataset, name {split}/.")
        self.sentences.append("Each class folder holds its own split folders.")
        present = [split for split in SPLITS if any(split in found for found in parts.values())]
        return {split: {name: found.get(split, _NO_CLASS) for name, found in parts.items()} for split in present}

    def _check_meant(self, classes: dict[str, Folder]) -> None:
        """Refuse to train on folders that became classes by accident."""
        names, filled = list(classes), [folder for folder in classes.values() if folder.is_filled()]
        inside = [frozenset(inner.name for inner in unwrap(f).filled()) for f in filled]
        shared = frozenset.intersection(*inside) if inside else frozenset()
        if len(shared) > 1 and are_pieces(shared):
            what = f"Each class folder holds {listed(sorted(shared))}: masks or labels would be used as images."
            remedy = "Move what is no image to train on out of the dataset."
            self.obstacles.append(VggnbError(what, self.dataset, remedy))
        elif len(filled) > 1 and len(shared) > 1 and not any(folder.images() for folder in filled):
            what = f"It is not clear which folders are the classes: {listed(names)} all hold {listed(sorted(shared))}."
            remedy = (
                f"If the classes are {listed(sorted(shared), 3)}: name one of the outer folders as the dataset, or "
            )
            remedy += f"call the outer ones train and test. Otherwise move the images up. {self._table_hint()}"
            self.obstacles.append(VggnbError(what, self.dataset, remedy))
        elif are_pieces(names):
            count = sum(folder.images() for folder in filled)
            what = f"{listed(f'{name}/' for name in names)} look like parts of one collection, not like classes: "
            what += f"{counted(count, 'image')} in no class folder."
            remedy = "Move the images into one folder for each class, for example cat/ and dog/."
            self.obstacles.append(VggnbError(what, self.dataset, f"{remedy} {self._table_hint()}".strip()))
        elif len(filled) == 1 and filled[0].images() and len(names) == 1 and self._tables():
            what = f"Only {names[0]!r} found; a classifier needs at least 2 class folders."
            self.obstacles.append(VggnbError(what, self.dataset, self._table_hint()))

    def _tables(self) -> list[str]:
        """Tables and spreadsheets beside the folders or in them."""
        near = (path for path in self.root.all_files() if path.count("/") < 2)
        return sorted(path for path in near if path.lower().endswith(TABLES + SPREADSHEETS))

    def _table_hint(self) -> str:
        """Points to the tables beside the images."""
        if not (tables := self._tables()):
            return "Or name a table: a .csv file with the columns path,label."
        return (
            f"Or, if {listed(tables, 3)} says which image is what: name its columns path and label (.csv, UTF-8) and "
            f"give this file as the dataset, as in {shown(str(self.dataset / tables[0]))}"
        )

    def _flat(self, folder: Folder) -> VggnbError:
        name = f"{shown(folder.path)}/" if folder.path else "the dataset"
        count, noun = (n, "image") if (n := folder.images()) else (len(folder.files), "file")
        what = f"{counted(count, noun)} lie{'s' * (count == 1)} directly in {name}, in no class folder."
        if any(is_annotation(other.name) for other in (*self.root.folders.values(), *folder.folders.values())):
            what += " With folders of labels or masks beside them this looks like a dataset for detection or "
            what += "segmentation; vggnb names the class of a whole image."
        remedy = f"Move them into one folder for each class, for example cat/ and dog/. {self._table_hint()}"
        return VggnbError(what, self.dataset / folder.path, remedy)

    def _check_archives(self, top: Folder) -> None:
        """Archives beside the folders may hold a class."""
        archives = [name for name in top.files if name.lower().endswith(_ARCHIVES)]
        if archives:
            words = f"{counted(len(archives), 'archive')} beside the folders, not opened: {listed(archives)}."
            self.warnings.append(f"{words} Unpack what holds images to use.")

    def _check_siblings(self) -> None:
        """Whether the folder that was named is the train folder of a larger dataset."""
        if split_word(self.dataset.name) != "train":
            return
        with contextlib.suppress(OSError):  # the folder above may be closed
            beside = [path.name for path in self.dataset.parent.iterdir() if path.is_dir() and split_word(path.name)]
            if len(beside) > 1:
                words = (
                    f"Not used: {listed(sorted(set(beside) - {self.dataset.name}))} beside {shown(self.dataset.name)}/."
                )
                self.warnings.append(f"{words} To use all, name the folder that holds them.")

    def _check_vanished(self, top: Folder, splits: dict[str, Folder]) -> None:
        """Refuse to leave out what stands where a class folder or a split should be."""
        shortcuts = [Skipped(path, "a Windows shortcut") for path in top.all_files() if path.endswith(".lnk")]
        links = [stray for stray in self.strays if "link" in stray.reason and not PurePosixPath(stray.path).suffix]
        places = {unwrap(folder).path for folder in splits.values()} or {top.path}
        lost = []
        for stray in (*links, *shortcuts):
            place, _, name = stray.path.rpartition("/")
            if place in places or place == top.path and split_word(name.removesuffix(".lnk")):
                lost.append(f"{shown(stray.path)} ({stray.reason.partition('.')[0]})")
        if lost:
            what = f"Links that cannot be followed stand where folders of the dataset should be: {'; '.join(lost)}."
            remedy = "Put the folders themselves in their places, or remove the links."
            self.obstacles.append(VggnbError(what, self.dataset, remedy))
        hidden = {path.split("/")[0] for path in self.system if "/" in path and is_named_like_an_image(path)}
        hidden = {name for name in hidden if name.startswith(".") and not name.startswith(_TOOLS)}
        if hidden:
            self.warnings.append(f"Hidden folders are not used: {listed(sorted(hidden))}.")

    def _classes(self, table: dict[str, dict[str, Folder]]) -> tuple[str, ...]:
        """The one class list of all splits."""
        check_names({name for folders in table.values() for name in folders}, self.dataset)
        first = next(iter(table))
        classes, problems = sorted(table[first]), []
        for split, folders in table.items():
            lacks, extra = sorted(set(classes) - set(folders)), sorted(set(folders) - set(classes))
            if extra:
                parts = [f"{split} lacks: {listed(lacks)}"] * bool(lacks) + [f"{split} has extra: {listed(extra)}"]
                problems.append(f"{'; '.join(parts)} ({first} has {classes[:20]}, {split} has {sorted(folders)[:20]})")
            elif lacks:
                self.warnings.append(f"{split} has no folder for {listed(lacks)}.")
        if problems:
            what = f"The class folders differ between the splits: {'; '.join(problems)}."
            raise VggnbError(what, self.dataset, f"Give {first} every class that the other splits have.")
        taken = [name for name in classes if split_tokens(name)]
        if len(taken) == len(classes) and UNSPLIT not in table:
            what = f"The class folders are named like splits: {listed(classes)}."
            raise VggnbError(what, self.dataset, "Put the images of each class into a folder named after it.")
        if taken and len(classes) > 1:
            self.warnings.append(f"{listed(f'{name}/' for name in taken)}: taken as a class, not as a split.")
        names = f"{counted(len(classes), 'class folder')} ({listed(classes)})"
        found = [f"Found {names}, not split."]
        if UNSPLIT not in table:
            found = [f"Found {' and '.join(table)}, {'each ' * (len(table) > 1)}with {names}."]
            found += [f"There is no {split} split." for split in SPLITS if split not in table]
        self.sentences[:0] = found
        return tuple(classes)

    def _remark(self, top: Folder, table: dict, copies: list[Folder], classes: tuple[str, ...]) -> None:
        for copy in copies:
            words = "looks like a second copy of the dataset; the outer one is used."
            self.sentences.append(f"{shown(copy.path)}/ {words}")
        for folder in top.folders.values():
            if split_word(folder.name) and not folder.is_filled() and folder.name not in classes:
                self.sentences.append(f"{shown(folder.path)}/ is empty and counts as absent.")
        deep = [folder for folders in table.values() for folder in folders.values() if folder.filled()]
        if deep:
            words = "Sub-folders of a class folder count as that class, for example in"
            self.sentences.append(f"{words} {shown(deep[0].path)}/.")

    def _entries(self, table: dict[str, dict[str, Folder]]) -> list[Entry]:
        """Files in class folders in order of their paths; a second link to a file of a class is a stray."""
        entries = [
            Entry(path, split, name)
            for split, folders in table.items()
            for name, folder in folders.items()
            for path in folder.all_files()
        ]
        links = {f"{folder.path}/{name}".lstrip("/") for folder in self.root.all_folders() for name in folder.links}
        if not links:
            return sorted(entries, key=lambda entry: entry.path)
        seen, kept = set(), []
        for entry in sorted(entries, key=lambda entry: (entry.path in links, entry.path)):
            key = (entry.split, entry.class_name, os.path.realpath(self.dataset / entry.path))
            if key in seen:
                self.strays.append(Skipped(entry.path, SAME_FILE))
            else:
                kept.append(entry)
            seen.add(key)
        return sorted(kept, key=lambda entry: entry.path)
