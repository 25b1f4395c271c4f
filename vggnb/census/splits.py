"""Which image is for training, which for choosing, which for judging."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from vggnb.census.layout import UNSPLIT
from vggnb.census.manifest import LEAK, Manifest
from vggnb.census.rows import Row, tied_together
from vggnb.census.survey import Census, take_census
from vggnb.folders import counted, shown
from vggnb.paths import SPLITS, Workspace
from vggnb.staging import near_copy
from vggnb.storage import VggnbError


def open_manifest(workspace: Workspace, *, seed: int = 0) -> Manifest:
    """Stage the workspace's dataset where that is needed, take its census and assign its splits, all in one.

    What was done before is not done again: staged files stay, and the census opens only the files that changed.
    """
    dataset = near_copy(workspace.dataset, workspace.staged)
    return assign_splits(take_census(dataset, cache=workspace.census_file, progress=False), seed=seed)


def assign_splits(census: Census, *, validation_share: float = 0.2, test_share: float = 0.2, seed: int = 0) -> Manifest:
    """Give every image a split; a pure function of the rows, the shares and the seed.

    The user's own validation and test images stay what they are. What is missing is cut from train (or from the unsplit
    folders), by class: `test_share` of it for test, then `validation_share` of what is left for validation. Twins and
    rows of one group stay together. Of a picture that is in two splits the later one is marked (`Manifest.leaking`).

    Raises:
        VggnbError: the census cannot be trained on, or a class is too small to be cut.
    """
    census.check_trainable()
    _check_shares(validation_share=validation_share, test_share=test_share)
    said: list[str] = []
    rows = census.rows
    blocks = _blocks(rows, census)
    free = [block for block in blocks if all(row.split in ("train", UNSPLIT) for row in block)]
    own = {row.split for row in rows}
    missing = [split for split in ("test", "validation") if split not in own]
    _check_sizes(census, free, missing)
    free = [free[k] for k in np.random.default_rng(seed).permutation(len(free))]
    where = {row.path: "train" if row.split == UNSPLIT else row.split for row in rows}
    for split, share in (("test", test_share), ("validation", validation_share)):
        if split in missing:
            before = sum(map(len, free))
            free, cut = _cut(free, share, keep=2 if split == "test" and "validation" in missing else 1)
            where.update((row.path, split) for block in cut for row in block)
            said.append(_sentence(split, sum(map(len, cut)), before, own, seed))
    rows = [replace(row, split=where[row.path]) for row in with_groups(rows, census)]
    return Manifest(census.dataset, census.classes, tuple(_mark_leaks(rows, census, said)), tuple(said))


def _sentence(split: str, n: int, of: int, own: set[str], seed: int) -> str:
    source = "the unsplit images" if UNSPLIT in own else "train"
    untouched = "; test is as it was" if "test" in own else ""
    return f"{split.capitalize()}: {n} of {of} images were cut from {source}, by class, with seed {seed}{untouched}."


def _earlier_first(census: Census) -> list[tuple[Row, Row]]:
    """The leaks, each with the row of the earlier split first."""
    order = (UNSPLIT, *SPLITS)
    return [sorted((pair.first, pair.second), key=lambda row: order.index(row.split)) for pair in census.leaks]


def _mark_leaks(rows: list[Row], census: Census, said: list[str]) -> Iterable[Row]:
    """Write into the notes of the later row of each leak where else its picture is."""
    marks = {late.path: early for early, late in _earlier_first(census)}
    if marks:
        said.append(f"Leaks: {counted(len(marks), 'image')} in an earlier split too, marked in the notes.")
    for row in rows:
        if row.path in marks:
            early = marks[row.path]
            mark = f"{LEAK} {'train' if early.split == UNSPLIT else early.split} as {early.path}"
            row = replace(row, notes="; ".join(filter(None, [row.notes, mark])))
        yield row


def with_groups(rows: Sequence[Row], census: Census) -> list[Row]:
    """The rows, each with the name of what belongs together: the user's own groups, and twins."""
    named = {row.path: _group(block) for block in _blocks(rows, census) for row in block}
    return [replace(row, group=named[row.path]) for row in rows]


def _blocks(rows: Sequence[Row], census: Census) -> list[list[Row]]:
    """Rows that must stay together, as lists; the order depends on the paths alone."""
    by_path = {row.path: row for row in rows}
    firsts: dict[str, str] = {}
    links = [(path, path) for path in by_path]
    links += [(row.path, firsts.setdefault(row.group, row.path)) for row in rows if row.group]
    links += [pair.paths for pair in census.pairs if all(path in by_path for path in pair.paths)]
    return [[by_path[path] for path in block] for block in tied_together(links)]


def _group(block: list[Row]) -> str:
    """The name of a block: the user's own, or its first path; '' for a row alone."""
    given = min((row.group for row in block if row.group), default="")
    return given or (block[0].path if len(block) > 1 else "")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            raise VggnbError(f"{name} = {share} is out of range.", name, "Use a share between 0 and 1, such as 0.2.")


def _check_sizes(census: Census, free: list[list[Row]], missing: list[str]) -> None:
    """Refuse a class that has fewer blocks than parts are to be made of it."""
    blocks = Counter(label for block in free for label in {row.label for row in block})
    for label, name in enumerate(census.classes):
        n = blocks[label]
        if missing and n <= len(missing):
            what = f"Class '{shown(name)}' has {counted(n, 'distinct image')} (twins and groups count once):"
            what += f" too few to cut {' and '.join(missing)} from."
            remedy = "Add pictures of it, remove the class, or bring your own split folders."
            raise VggnbError(what, census.dataset, remedy)


def _cut(blocks: list[list[Row]], share: float, *, keep: int) -> tuple[list[list[Row]], list[list[Row]]]:
    """Take blocks until about `share` of each class is taken; at least one, and at least `keep` are left.

    Returns:
        The blocks that are left and those taken, in the order given.
    """
    sizes = Counter(row.label for block in blocks for row in block)
    open_blocks = Counter(label for block in blocks for label in {row.label for row in block})
    wanted = {label: max(1, round(share * n)) for label, n in sizes.items()}
    got, taken = Counter(), set()

    def take(k: int, *, at_most: dict) -> None:
        adds = Counter(row.label for row in blocks[k])
        if all(got[label] + n <= at_most[label] and open_blocks[label] > keep for label, n in adds.items()):
            taken.add(k)
            got.update(adds)
            open_blocks.subtract(adds.keys())

    for k in range(len(blocks)):
        take(k, at_most=wanted)
    for label in [label for label in wanted if not got[label]]:  # a class of large blocks only: one of them must do
        own = [k for k, block in enumerate(blocks) if any(row.label == label for row in block)]
        for k in sorted(own, key=lambda k: len(blocks[k])):
            if not got[label]:
                take(k, at_most=sizes)
    return [b for k, b in enumerate(blocks) if k not in taken], [b for k, b in enumerate(blocks) if k in taken]
