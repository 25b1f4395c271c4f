"""One usable image (a row), and the same image twice (a pair; how pairs are found)."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vggnb.census.near_duplicates import near_pairs
from vggnb.folders import shown


@dataclass(frozen=True, slots=True)
class Row:
    """One usable image.

    Attributes:
        path: POSIX, relative to the dataset; undecodable bytes as surrogates (`os.fsencode` gives them back).
        width: in pixels, of the upright image; so is `height`.
        format: by content: 'JPEG', 'PNG', 'GIF', 'BMP', 'WEBP', 'TIFF', 'AVIF' and the like.
        label: index of `class_name` in the class list.
        split: 'train', 'validation', 'test' or, before `assign_splits`, 'unsplit'.
        group: rows with the same group, if not '', stay in one split.
        notes: remarks, joined by '; '.
    """

    path: str
    sha256: str
    width: int
    height: int
    format: str
    class_name: str
    label: int
    split: str
    group: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same image twice: the same bytes ('exact', distance 0) or almost the same hash ('near', bits of 255)."""

    first: Row
    second: Row
    kind: str
    distance: int

    @property
    def paths(self) -> tuple[str, str]:
        """Their paths."""
        return self.first.path, self.second.path

    def __str__(self) -> str:
        first, second = (f"{shown(r.path)} [{r.split}, {shown(r.class_name)}]" for r in (self.first, self.second))
        return f"{first} {'=' if self.kind == 'exact' else '~'} {second}, {self.kind}, distance {self.distance}"


def find_pairs(rows: Iterable[Row], hashes: dict[str, bytes]) -> tuple[Pair, ...]:
    """Duplicates and near-duplicates.

    An image with many copies is paired with the first copy in every other split and class, not with every copy: each
    leak and each conflict of a row is found, and a thousand copies do not make a million pairs.

    Args:
        hashes: sha256 -> the 64 bytes of `near_duplicates.hash_of`; images without one are compared by bytes alone.

    Returns:
        Pairs in order of their paths.
    """
    same_bytes: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        same_bytes[row.sha256].append(row)
    same_hash: dict[bytes, list[Row]] = defaultdict(list)
    for digest, copies in same_bytes.items():
        if digest in hashes:
            same_hash[hashes[digest]] += copies
    found: dict[tuple[str, str], Pair] = {}

    def add(left: list[Row], right: list[Row], distance: int) -> None:
        for a, b in _firsts(left, right):
            kind = "exact" if a.sha256 == b.sha256 else "near"
            found.setdefault((a.path, b.path), Pair(a, b, kind, distance))

    for copies in (*same_bytes.values(), *same_hash.values()):
        if len(copies) > 1:
            add(copies, copies, 0)
    cells = list(same_hash.values())
    table = np.frombuffer(b"".join(same_hash), np.uint64).reshape(-1, 2, 4)
    numbers: dict[frozenset, int] = {}
    kinds = [numbers.setdefault(frozenset((r.split, r.label) for r in cell), len(numbers)) for cell in cells]
    for i, j, distance in near_pairs(table, kinds=np.array(kinds, np.int64)).tolist():
        add(cells[i], cells[j], distance)
    return tuple(found[key] for key in sorted(found))


def _firsts(left: list[Row], right: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Each row with the first one of every split and class on the other side, in order of the two paths."""
    for side, other in ((left, right), (right, left)):
        firsts: dict[tuple[str, int], Row] = {}
        for row in other:
            firsts.setdefault((row.split, row.label), row)
        for row in side:
            for first in firsts.values():
                if row.path != first.path:
                    yield (row, first) if row.path < first.path else (first, row)


def components(links: Iterable[tuple[Hashable, Hashable]]) -> list[list]:
    """Groups of the things that links connect, directly or through others; sorted, and so are their members."""
    links = list(links)
    things = sorted({thing for link in links for thing in link})
    number = {thing: k for k, thing in enumerate(things)}
    ends = np.array([(number[a], number[b]) for a, b in links], np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(links)), tuple(ends)), shape=(len(things), len(things)))
    labels = connected_components(graph, directed=False)[1] if things else ()
    members = defaultdict(list)
    for thing, label in zip(things, labels, strict=True):
        members[label].append(thing)
    return list(members.values())
