"""Which image is for training, validation and test."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vggnb.census.manifest import LEAK, Manifest, Row
from vggnb.census.near_duplicates import components
from vggnb.census.rules import UNSPLIT
from vggnb.census.survey import Census, take_census
from vggnb.folders import counted, shown
from vggnb.paths import SPLITS, Workspace
from vggnb.recipe import Recipe
from vggnb.staging import stage_if_remote
from vggnb.storage import VggnbError


def open_census(workspace: Workspace, *, max_files: int | None = None, progress: bool = True) -> Census:
    """The census of the workspace's dataset, or of its local copy if it is an archive or on a slow disk.

    Earlier work is not repeated: staged files stay, and only the files that changed are opened.

    Args:
        max_files: most files that an archive may hold.
    """
    limits = {"max_files": max_files} if max_files else {}
    known = workspace.census_file.is_file()
    dataset = stage_if_remote(workspace.dataset, workspace.staged, known=known, progress=progress, **limits)
    return take_census(dataset, cache=workspace.census_file, progress=progress)


def open_manifest(workspace: Workspace, recipe: Recipe | None = None) -> Manifest:
    """Stage the workspace's dataset where that is needed, take its census and assign its splits, in one call.

    Args:
        recipe: its `validation_share` and `seed` decide the split; without one, the defaults of `assign_splits`.
    """
    options = {} if recipe is None else {"validation_share": recipe.validation_share, "seed": recipe.seed}
    progress = workspace.environment == "colab"  # where files are copied from Drive; saved pages need no bars
    return assign_splits(open_census(workspace, progress=progress), **options)


def assign_splits(census: Census, *, validation_share: float = 0.2, test_share: float = 0.2, seed: int = 0) -> Manifest:
    """Give every image a split; a pure function of the rows, the shares and the seed.

    The user's own validation and test images are not changed. What is missing is taken from train (or from the unsplit
    folders), stratified by class: `test_share` of it for test, then `validation_share` of what is left for validation.
    Duplicates, near-duplicates and rows of one group stay together. Of an image that is in two splits the later one is
    marked (`Manifest.leaking`).

    Raises:
        VggnbError: the census cannot be trained on, or a class is too small to be split.
    """
    census.check_trainable()
    for name, share in (("validation_share", validation_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise VggnbError(f"{name} = {share} is out of range.", name, "Use a share between 0 and 1, such as 0.2.")
    own = {row.split for row in census.rows}
    missing = [split for split in ("test", "validation") if split not in own]
    free = [block for block in _blocks(census.rows, census) if all(row.split in ("train", UNSPLIT) for row in block)]
    blocks = Counter(label for block in free for label in {row.label for row in block})
    small = [f"{shown(name)} {blocks[k]}" for k, name in enumerate(census.classes) if blocks[k] <= len(missing)]
    if missing and small:
        what = f"Too few distinct images to cut {' and '.join(missing)} from (near-duplicates and groups count once): "
        remedy = f"Add images until each class has at least {len(missing) + 1}, remove the class, or bring your own "
        raise VggnbError(f"{what}{', '.join(small)}.", census.dataset, f"{remedy}split folders.")
    free = [free[k] for k in np.random.default_rng(seed).permutation(len(free))]
    where = {row.path: "train" if row.split == UNSPLIT else row.split for row in census.rows}
    sentences: list[str] = []
    for split in missing:
        share, before = test_share if split == "test" else validation_share, sum(map(len, free))
        free, cut = _cut(free, share, keep=2 if split == "test" and "validation" in missing else 1)
        where.update((row.path, split) for block in cut for row in block)
        source = "the unsplit images" if UNSPLIT in own else "train"
        cut_from = f"{sum(map(len, cut))} of {before} images were cut from {source}, by class, with seed {seed}"
        sentences.append(f"{split.capitalize()}: {cut_from}{'; test is unchanged' if 'test' in own else ''}.")
    earlier: dict[str, dict[str, str]] = defaultdict(dict)  # path -> earlier split -> path of the same image there
    for first, last in census.leaks_in_order():
        earlier[last.path].setdefault("train" if first.split == UNSPLIT else first.split, first.path)
    marks = {
        path: f"{LEAK} " + " and in ".join(f"{split} as {found[split]}" for split in SPLITS if split in found)
        for path, found in earlier.items()
    }
    if marks:
        sentences.append(f"Leaks: {counted(len(marks), 'image')} in an earlier split too, marked in the notes.")
    rows = tuple(
        replace(row, split=where[row.path], notes="; ".join(filter(None, [row.notes, marks.get(row.path)])))
        for row in with_groups(census.rows, census)
    )
    return Manifest(census.dataset, census.classes, rows, tuple(sentences))


def with_groups(rows: Sequence[Row], census: Census) -> list[Row]:
    """The rows, each with the name of what belongs together: the user's own groups, duplicates and near-duplicates."""
    named: dict[str, str] = {}
    for block in _blocks(rows, census):  # the user's own name, or the first path; '' for a row alone
        given = min((row.group for row in block if row.group), default=block[0].path if len(block) > 1 else "")
        named |= dict.fromkeys((row.path for row in block), given)
    return [replace(row, group=named[row.path]) for row in rows]


def _blocks(rows: Sequence[Row], census: Census) -> list[list[Row]]:
    """Rows that must stay together, as lists; the order depends on the paths alone."""
    by_path = {row.path: row for row in rows}
    firsts: dict[str, str] = {}
    links = [(path, path) for path in by_path]
    links += [(row.path, firsts.setdefault(row.group, row.path)) for row in rows if row.group]
    links += [pair.paths for pair in census.pairs if by_path.keys() >= set(pair.paths)]
    return [[by_path[path] for path in block] for block in components(links)]


def _cut(blocks: list[list[Row]], share: float, *, keep: int) -> tuple[list[list[Row]], list[list[Row]]]:
    """The blocks that are left and those taken: about `share` of each class, at least one; at least `keep` are left."""
    sizes = [Counter(row.label for row in block) for block in blocks]
    total = Counter(row.label for block in blocks for row in block)
    left = Counter(label for size in sizes for label in size)
    wanted = {label: max(1, round(share * n)) for label, n in total.items()}
    got, taken = Counter(), set()

    def take(k: int, limit: dict[int, int]) -> None:
        if k not in taken and all(got[c] + n <= limit[c] and left[c] > keep for c, n in sizes[k].items()):
            taken.add(k)
            got.update(sizes[k])
            left.subtract(sizes[k].keys())

    for k in range(len(blocks)):
        take(k, wanted)
    for k in sorted(range(len(blocks)), key=lambda k: len(blocks[k])):  # a class of large blocks only: the smallest
        if any(not got[label] for label in sizes[k]):
            take(k, total)
    return [b for k, b in enumerate(blocks) if k not in taken], [b for k, b in enumerate(blocks) if k in taken]
