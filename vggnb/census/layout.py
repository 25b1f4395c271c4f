"""What folder the user has, and where its class folders are, by `rules`. Names only; nothing is opened."""

import contextlib
import os
from pathlib import Path, PurePosixPath

from vggnb.archives import SPREADSHEETS, TABLES, check_unpacked, is_archive, no_archive
from vggnb.census import rules
from vggnb.census.rules import UNSPLIT, Entry, Layout
from vggnb.census.tables import read_table
from vggnb.folders import Folder, Skipped, counted, is_named_like_an_image, listed, shown, walk
from vggnb.paths import SPLITS
from vggnb.staging import name_source
from vggnb.storage import VggnbError

OUTSIDE = "It lies outside the class folders. Move it into one if it is an image to use; else leave it."
NO_LABEL = "It lies in a folder without labels. Predict its class after training, or move it into a class folder."
SAME_FILE = "It is a link to a file of the same class that is counted already. Nothing to do."
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar", ".7z")
_TOOLS = {".ipynb_checkpoints", ".git", ".cache", ".thumbnails", ".Trash", ".AppleDouble"}


def read_layout(dataset: Path) -> Layout:
    """Find the class folders of a dataset, or read its table.

    Raises:
        VggnbError: there is nothing, or nothing that can be understood; the text names all that stands in the way.
    """
    dataset = Path(os.path.abspath(dataset))
    try:
        if dataset.is_dir():
            check_unpacked(dataset, dataset)
            return _Reader(dataset).layout()
        if not dataset.exists():
            remedy = "Check the path; on Colab, mount Drive first."
            raise VggnbError("There is no such folder or file.", dataset, remedy)
        if dataset.suffix.lower() in TABLES:
            return read_table(dataset)
        if not is_archive(dataset):
            raise no_archive(dataset)
        remedy = "Unpack it first: page 2 and the command line do so, or stage_if_remote(dataset, folder)."
        raise VggnbError("The dataset is an archive.", dataset, remedy)
    except VggnbError as error:
        raise name_source(error, dataset) from error


class _Reader:
    """Reads one folder; what people should know gathers in lists."""

    def __init__(self, dataset: Path):
        self.dataset = dataset
        self.root, self.strays, self.system = walk(dataset)
        self.sentences: list[str] = []
        self.warnings: list[str] = []
        self.obstacles: list[VggnbError] = []
        near = (path for path in self.root.all_files() if path.count("/") < 2)
        self.tables = sorted(path for path in near if path.lower().endswith(TABLES + SPREADSHEETS))
        self.or_table = "Or name a table: a .csv file with the columns path,label."
        if self.tables:
            self.or_table = f"Or, if {listed(self.tables, 3)} lists the label of each image: name its columns path and "
            self.or_table += f"label (.csv, UTF-8) and give this file as the dataset, as in {dataset / self.tables[0]}"

    def layout(self) -> Layout:
        if not self.root.is_filled():
            links = f" It holds only links or pipes: {listed(s.path for s in self.strays)}." if self.strays else ""
            what, remedy = f"The dataset folder is empty.{links}", "Put one folder of images for each class in it."
            raise VggnbError(what, self.dataset, remedy)
        top = rules.unwrap(self.root)
        self._wrapped(self.root, top)
        splits = rules.splits_of(top)
        copies = rules.copies_of(top, splits)
        table = self._split_table(top, splits, copies) if splits else self._unsplit_table(top, copies)
        if table == {UNSPLIT: {}}:
            self.obstacles.append(self._flat(top))
            table = {UNSPLIT: {self.dataset.name: top}}
        classes = self._classes(table)
        self._check_links(top, splits)
        self._remark(top, table, copies, classes)
        entries = self._entries(table)
        inner = sorted(path for copy in copies for path in copy.all_files())
        claimed = {entry.path for entry in entries}.union(inner, (stray.path for stray in self.strays))
        self.strays += [Skipped(path, OUTSIDE) for path in self.root.all_files() if path not in claimed]
        self.strays.sort(key=lambda stray: stray.path)
        lists = (self.strays, inner, self.system, self.warnings, self.obstacles)
        return Layout(self.dataset, tuple(self.sentences), classes, tuple(entries), *map(tuple, lists))

    def _flat(self, folder: Folder) -> VggnbError:
        count, noun = (n, "image") if (n := folder.images()) else (len(folder.files), "file")
        place = f"{shown(folder.path)}/" if folder.path else "the dataset"
        what = f"{counted(count, noun)} lie{'s' * (count == 1)} directly in {place}, in no class folder."
        if any(rules.is_annotation(other.name) for other in (*self.root.folders.values(), *folder.folders.values())):
            what += " With folders of labels or masks beside them this looks like a dataset for detection or "
            what += "segmentation; vggnb predicts the class of a whole image."
        remedy = f"Move them into one folder for each class, for example cat/ and dog/. {self.or_table}"
        return VggnbError(what, self.dataset / folder.path, remedy)

    def _wrapped(self, outer: Folder, inner: Folder) -> None:
        if outer is not inner:
            self.sentences.append(f"The folders lie deeper, in {shown(inner.path)}/.")
        documents = [folder for folder in outer.all_folders() if rules.is_documents(folder)]
        self.sentences += [f"{shown(folder.path)}/ holds no images." for folder in documents[:3]]

    def _split_table(self, top: Folder, splits: dict[str, Folder], copies: list[Folder]) -> dict[str, dict]:
        """Class folders by split and name, for a dataset that is split."""
        inside = {split: rules.unwrap(splits[split], split=split) for split in SPLITS if split in splits}
        first = next(iter(inside))
        self._wrapped(splits[first], inside[first])
        known, table = set(inside[first].folders), {}
        for split, folder in inside.items():
            filled, name = folder.filled(), splits[split].name
            odd = len(filled) == 1 and filled[0].name not in known and len(known) > 1 and filled[0].images()
            if split != first and known and (not filled or odd):
                self._unlabelled(splits[split])
                continue
            if not filled:
                raise self._flat(folder)
            table[split] = folder.folders
            if rules.split_word(name) != split or not name.strip().casefold().startswith(split[:3]):
                self.sentences.append(f"{shown(splits[split].path)}/ is taken as the {split} split.")
        self._check_beside(top, [*splits.values(), *copies], known, table)
        return table

    def _check_beside(self, top: Folder, taken: list[Folder], known: set[str], table: dict) -> None:
        """What lies beside the split folders: the same classes under an unknown name, or images without labels."""
        for folder in top.filled():
            inside = rules.unwrap(folder)
            if folder in taken or any(inside is other or other in inside.folders.values() for other in taken):
                continue
            if known & {inner.name for inner in inside.filled()} and folder.holds_images():
                what = f"{shown(folder.path)}/ holds the same classes as the splits; its name is not that of a split."
                if missing := " or ".join(split for split in SPLITS if split not in table):
                    remedy = f"Rename it to {missing}, merge it into a split, or move it out of the dataset."
                    self.obstacles.append(VggnbError(what, self.dataset / folder.path, remedy))
                else:
                    self.warnings.append(f"{what} It is not used.")
            elif folder.holds_images():
                self._unlabelled(folder)

    def _unlabelled(self, folder: Folder) -> None:
        """List images that lie in no class folder, and what to do with them."""
        files = list(folder.all_files())
        self.strays += [Skipped(path, NO_LABEL) for path in files]
        words = f"{shown(folder.path)}/ holds {counted(len(files), 'file')} without labels, not used. After training: "
        words += f"vggnb predict RUN {shown(str(self.dataset / folder.path))}."
        if self.tables:
            words += f" If {listed(self.tables, 3)} holds the labels: a table of path,label,split can be the dataset."
        self.sentences.append(words)

    def _unsplit_table(self, top: Folder, copies: list[Folder]) -> dict[str, dict[str, Folder]]:
        """Class folders by split and name, where the outer folders are classes: not split, or each split inside."""
        classes = {name: folder for name, folder in top.folders.items() if folder not in copies}
        for name in [name for name in classes if rules.is_unlabelled(name) and len(classes) > 2]:
            self._unlabelled(classes.pop(name))
        parts = {name: rules.splits_of(folder) for name, folder in classes.items()}
        if not any(parts.values()):
            self._check_meant(classes)
            return {UNSPLIT: classes}
        if len(classes) > 1 and all(
            part and all(len(rules.unwrap(split).filled()) > 1 for split in part.values()) for part in parts.values()
        ):
            what = f"There are {len(classes)} datasets with splits of their own: {listed(classes)}."
            remedy = "Name one of them, or merge them: train with train, test with test."
            raise VggnbError(what, self.dataset, remedy)
        for name, folder in classes.items():
            odd = [other for other in folder.filled() if other not in parts[name].values()]
            if folder.is_filled() and (folder.images() or odd or not parts[name]):
                what = f"Some class folders hold split folders (train, test); {shown(name)}/ has none, or holds other "
                what += "files as well."
                split = next(shown(other.path) for other in classes.values() if parts[other.name])
                remedy = "Give every class folder the same split folders, or none. "
                remedy += f"If {split}/ is the whole dataset, name {split}/."
                raise VggnbError(what, self.dataset / folder.path, remedy)
        self.sentences.append("Each class folder holds its own split folders.")
        present = [split for split in SPLITS if any(split in found for found in parts.values())]
        return {split: {name: found.get(split, Folder("", "")) for name, found in parts.items()} for split in present}

    def _check_meant(self, classes: dict[str, Folder]) -> None:
        """Refuse to train on folders that became classes by accident."""
        filled = [folder for folder in classes.values() if folder.is_filled()]
        shared = (
            set.intersection(*({inner.name for inner in rules.unwrap(f).filled()} for f in filled)) if filled else set()
        )
        inside, images = listed(sorted(shared)), sum(folder.images() for folder in filled)
        if len(shared) > 1 and rules.are_pieces(shared):
            what = f"Each class folder holds {inside}: masks or labels would be used as images."
            remedy = "Move files that are not training images out of the dataset."
        elif len(filled) > 1 and len(shared) > 1 and not images:
            what = f"It is not clear which folders are the classes: {listed(classes)} all hold {inside}."
            remedy = (
                f"If the classes are {inside}: name one of the outer folders as the dataset, or call the outer ones "
            )
            remedy += f"train and test. Otherwise move the images up. {self.or_table}"
        elif rules.are_pieces(classes):
            what = f"{listed(f'{name}/' for name in classes)} look like parts of one collection, not like classes: "
            what += f"{counted(images, 'image')} in no class folder."
            remedy = f"Move the images into one folder for each class, for example cat/ and dog/. {self.or_table}"
        elif images and len(classes) == 1 and self.tables:
            what = f"Only {next(iter(classes))!r} found; a classifier needs at least 2 class folders."
            remedy = self.or_table
        else:
            return
        self.obstacles.append(VggnbError(what, self.dataset, remedy))

    def _check_links(self, top: Folder, splits: dict[str, Folder]) -> None:
        """Refuse to leave out what stands where a class folder or a split should be."""
        links = [stray for stray in self.strays if "link" in stray.reason and not PurePosixPath(stray.path).suffix]
        links += [Skipped(path, "a Windows shortcut") for path in top.all_files() if path.endswith(".lnk")]
        places = {rules.unwrap(folder).path for folder in splits.values()} or {top.path}
        lost = []
        for stray in links:
            place, _, name = stray.path.rpartition("/")
            if place in places or place == top.path and rules.split_word(name.removesuffix(".lnk")):
                lost.append(f"{shown(stray.path)} ({stray.reason.partition('.')[0]})")
        if lost:
            what = f"Links that cannot be followed stand where folders of the dataset should be: {'; '.join(lost)}."
            remedy = "Put the folders themselves in their places, or remove the links."
            self.obstacles.append(VggnbError(what, self.dataset, remedy))

    def _classes(self, table: dict[str, dict[str, Folder]]) -> tuple[str, ...]:
        """The one class list of all splits."""
        rules.check_names({name for folders in table.values() for name in folders}, self.dataset)
        first = next(iter(table))
        classes, differences = sorted(table[first]), []
        for split, folders in table.items():
            lacks, extra = sorted(set(classes) - set(folders)), sorted(set(folders) - set(classes))
            if extra:
                parts = [f"{split} lacks: {listed(lacks)}"] * bool(lacks) + [f"{split} has extra: {listed(extra)}"]
                both = f"{first} has {classes[:20]}, {split} has {sorted(folders)[:20]}"
                differences.append(f"{'; '.join(parts)} ({both})")
            elif lacks:
                self.warnings.append(f"{split} has no folder for {listed(lacks)}.")
        if differences:
            what = f"The class folders differ between the splits: {'; '.join(differences)}."
            raise VggnbError(what, self.dataset, f"Give {first} every class that the other splits have.")
        taken = [name for name in classes if rules.split_tokens(name)]
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
        """What else people should know."""
        copied = "looks like a second copy of the dataset; the outer one is used."
        self.sentences += [f"{shown(copy.path)}/ {copied}" for copy in copies]
        for folder in top.folders.values():
            if rules.split_word(folder.name) and not folder.is_filled() and folder.name not in classes:
                self.sentences.append(f"{shown(folder.path)}/ is empty and counts as absent.")
        if deep := [folder for folders in table.values() for folder in folders.values() if folder.filled()]:
            words = "Sub-folders of a class folder count as that class, for example in"
            self.sentences.append(f"{words} {shown(deep[0].path)}/.")
        if archives := [name for name in top.files if name.lower().endswith(_ARCHIVES)]:
            words = f"{counted(len(archives), 'archive')} beside the folders, not opened: {listed(archives)}."
            self.warnings.append(f"{words} Unpack those that hold images you want to use.")
        hidden = {path.split("/")[0] for path in self.system if path.startswith(".") and is_named_like_an_image(path)}
        if hidden := sorted(name for name in hidden - _TOOLS if not is_named_like_an_image(name)):
            self.warnings.append(f"Hidden folders are not used: {listed(hidden)}.")
        with contextlib.suppress(OSError):  # the folder above may be closed
            here = self.dataset.name
            above = self.dataset.parent.iterdir() if rules.split_word(here) == "train" else ()
            if others := sorted(x.name for x in above if x.is_dir() and rules.split_word(x.name) and x.name != here):
                words = f"Not used: {listed(others)} beside {shown(here)}/."
                self.warnings.append(f"{words} To use all, name the folder that holds them.")

    def _entries(self, table: dict[str, dict[str, Folder]]) -> list[Entry]:
        """Files in class folders in order of their paths; a second link to a file of a class is a stray."""
        links = {path for folder in self.root.all_folders() for path in folder.links}
        entries = [
            Entry(path, split, name)
            for split, folders in table.items()
            for name, folder in folders.items()
            for path in folder.all_files()
        ]
        kept: dict[tuple, Entry] = {}
        for entry in sorted(entries, key=lambda entry: (entry.path in links, entry.path)):
            place = os.path.realpath(self.dataset / entry.path) if links else entry.path
            if kept.setdefault((entry.split, entry.class_name, place), entry) is not entry:
                self.strays.append(Skipped(entry.path, SAME_FILE))
        return sorted(kept.values(), key=lambda entry: entry.path)
