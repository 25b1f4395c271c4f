"""The same image twice: a perceptual hash in eight orientations, and a search that does not compare all pairs.

The hash holds the signs of the 255 lowest frequencies of the cosine transform of a 32 x 32 grey thumbnail (a pHash).
A flip or a rotation by a quarter turn swaps frequencies and changes signs, nothing else: eight orientations cost one
transform. Two hashes are compared only if, in one of three bands of 21 of their lowest bits, they differ by at most
one: that finds every pair with at most five of these 63 bits changed, and most with a few more.

`LIMIT` was measured on 600 dermoscopic images and 330 photographs of rubbish: no two unrelated images (233 985 pairs)
were nearer than 54; of 5 270 copies (recoded, scaled, squeezed, rotated, flipped, brightened, grey) 3 were farther
than 40. `benchmarks/census.py` prints such evidence for any dataset.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from vggnb.census.manifest import Row
from vggnb.folders import shown

HASH_VERSION = "1"  # part of the census cache's key: raise it when the same pixels would give another hash
SIDE, SIGNS = 32, 16  # the grey thumbnail and its lowest frequencies
LIMIT = 40  # of 255 bits that may differ
STRONG = 32  # of the 63 lowest frequencies that must be above one grey level, or the image is too plain to have a hash
_BANDS, _BAND_BITS = 3, 21
_PIECE = 1 << 19  # candidate pairs looked at together: bounds the memory
_FREQUENCIES = np.arange(SIGNS * SIGNS).reshape(SIGNS, SIGNS)
_LOW = _FREQUENCIES[:8, :8].ravel()
_ORDER = np.concatenate(  # bit -> frequency: the 63 lowest, dealt in turn to the bands; the mean; the others
    [_LOW[1:].reshape(_BAND_BITS, _BANDS).T.ravel(), [0], np.delete(_FREQUENCIES.ravel(), _LOW)]
)


def _pack(bits: np.ndarray) -> np.ndarray:
    """From bool (..., 16, 16) to uint64 (..., 4)."""
    flat = bits.reshape(*bits.shape[:-2], -1)[..., _ORDER]
    return np.ascontiguousarray(np.packbits(flat, axis=-1, bitorder="little")).view(np.uint64)


_ACROSS, _DOWN = np.broadcast_arrays(odd := np.arange(SIGNS) % 2 == 1, odd[:, None])
_FLIPS = _pack(np.stack([_ACROSS & False, _ACROSS, _DOWN, _ACROSS ^ _DOWN]))  # what a flip changes: none, one, both


def hash_of(grey: Image.Image) -> np.ndarray | None:
    """The signs of the lowest frequencies of an upright grey image, and of its transpose.

    Returns:
        uint64 (2, 4), or None for an image so plain that its signs are noise.
    """
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    frequencies = dctn(thumbnail - thumbnail.mean())[:SIGNS, :SIGNS] / (2 * SIDE)
    if np.count_nonzero(np.abs(frequencies[:8, :8]) > 1) < STRONG:
        return None
    return _pack(np.stack([frequencies, frequencies.T]) > 0)


def near_pairs(hashes: np.ndarray, *, kinds: np.ndarray | None = None) -> np.ndarray:
    """Pairs of images whose hashes differ in at most LIMIT of 255 bits in one of the eight orientations.

    Among many that look the same (frames of a video) not every pair is returned: enough to connect them all, and for
    each image one of every other kind.

    Args:
        hashes: uint64 (n, 2, 4).
        kinds: int (n,), such as a number for split and class; without them all images are of one kind.

    Returns:
        int64 (pairs, 3): i < j and their distance, in order.
    """
    kept = _Kept(np.zeros(len(hashes), np.int64) if kinds is None else kinds)
    for band in range(_BANDS):
        keys = _band(hashes[:, 0], band)
        order = np.argsort(keys, kind="stable")
        starts = np.zeros((1 << _BAND_BITS) + 1, np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS), out=starts[1:])
        for view in range(8):
            oriented = _oriented(hashes, view)
            wanted = _band(oriented, band)
            for probe in [0, *(1 << bit for bit in range(_BAND_BITS))]:
                first, after = starts[wanted ^ probe], starts[(wanted ^ probe) + 1]
                for i, j in _candidates(order, first, after - first):
                    near = np.bitwise_count(hashes[i, 0] ^ oriented[j]).sum(axis=1) <= LIMIT
                    kept.add(i[near], j[near])
    i, j = np.unique(np.concatenate(kept.pairs, axis=1), axis=1)
    return np.column_stack([i, j, distances(hashes, i, j)])


def distances(hashes: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Bits that differ between images `i` and `j`, in the orientation where they are fewest: int64, 0 to 255."""
    views = (
        np.bitwise_count(hashes[i, 0] ^ _oriented(hashes[j], view)).sum(axis=1, dtype=np.int64) for view in range(8)
    )
    return np.minimum.reduce([*views])


def _oriented(hashes: np.ndarray, view: int) -> np.ndarray:
    return hashes[:, view // 4] ^ _FLIPS[view % 4]


def _band(words: np.ndarray, band: int) -> np.ndarray:
    return ((words[:, 0] >> np.uint64(band * _BAND_BITS)) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _candidates(order: np.ndarray, first: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each query j with every i < j in its bucket `order[first:first + count]`, a bounded piece at a time."""
    queries = np.flatnonzero(counts)
    while len(queries):
        take = max(1, int(np.searchsorted(np.cumsum(counts[queries]), _PIECE)))
        some, queries = queries[:take], queries[take:]
        sizes = counts[some]
        j = np.repeat(some, sizes)
        i = order[np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes - first[some], sizes)]
        yield i[i < j], j[i < j]


class _Kept:
    """Of a stream of pairs, a spanning tree of what they connect, and for each image one pair with every other kind."""

    def __init__(self, kinds: np.ndarray):
        self._kinds = np.unique(kinds, return_inverse=True)[1]
        self._component = np.arange(len(kinds))
        self._seen = np.empty(0, np.int64)  # image and kind as one number, for which there is a pair
        self.pairs = [np.empty((2, 0), np.int64)]

    def add(self, i: np.ndarray, j: np.ndarray) -> None:
        if not len(i):
            return
        ends = np.sort([self._component[i], self._component[j]], axis=0)
        edges, first = np.unique(ends, axis=1, return_index=True)
        first, edges = first[edges[0] != edges[1]], edges[:, edges[0] != edges[1]].astype(np.int32)
        graph = csr_array((first + 1.0, tuple(edges)), shape=(len(self._component),) * 2)
        # Older versions of SciPy take no other indices.
        graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
        self._component = connected_components(graph, directed=False)[1][self._component]
        connecting = minimum_spanning_tree(graph).data.astype(np.int64) - 1
        differ = np.flatnonzero(self._kinds[i] != self._kinds[j])
        images, others = np.concatenate([i[differ], j[differ]]), np.concatenate([j[differ], i[differ]])
        keys, first = np.unique(images * (len(self._kinds) + 1) + self._kinds[others], return_index=True)
        new = ~np.isin(keys, self._seen)
        self._seen = np.concatenate([self._seen, keys[new]])
        chosen = np.union1d(connecting, differ[first[new] % max(1, len(differ))])
        self.pairs.append(np.stack([i[chosen], j[chosen]]))


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
    """Duplicates and near-duplicates, in order of their paths.

    An image with many copies is paired with the first copy in every other split and class, not with every copy: each
    leak and each conflict of a row is found, and a thousand copies do not make a million pairs.

    Args:
        hashes: sha256 -> the 64 bytes of `hash_of`; images without one are compared by bytes alone.
    """
    same_bytes: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        same_bytes[row.sha256].append(row)
    same_hash: dict[bytes, list[Row]] = defaultdict(list)
    for digest, copies in same_bytes.items():
        if digest in hashes:
            same_hash[hashes[digest]] += copies
    cells = list(same_hash.values())
    table = np.frombuffer(b"".join(same_hash), np.uint64).reshape(-1, 2, 4)
    numbers: dict[frozenset, int] = {}
    kinds = [numbers.setdefault(frozenset((r.split, r.label) for r in cell), len(numbers)) for cell in cells]
    alike = [(copies, copies, 0) for copies in (*same_bytes.values(), *cells) if len(copies) > 1]
    for i, j, distance in near_pairs(table, kinds=np.array(kinds, np.int64)).tolist():
        alike.append((cells[i], cells[j], distance))
    found: dict[tuple[str, str], Pair] = {}
    for left, right, distance in alike:
        for a, b in _firsts(left, right):
            kind = "exact" if a.sha256 == b.sha256 else "near"
            found.setdefault((a.path, b.path), Pair(a, b, kind, distance))
    return tuple(found[key] for key in sorted(found))


def _firsts(left: list[Row], right: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Each row with the first one of every split and class on the other side, in order of the two paths."""
    for side, other in ((left, right), (right, left)):
        firsts = {(row.split, row.label): row for row in reversed(other)}
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
    members = defaultdict(list)
    for thing, label in zip(things, connected_components(graph, directed=False)[1] if things else (), strict=True):
        members[label].append(thing)
    return list(members.values())
