"""Near-duplicates: a perceptual hash in eight orientations, and a search that does not compare all pairs.

The hash holds the signs of the 255 lowest frequencies of the cosine transform of a 32 x 32 grey thumbnail (a pHash).
A flip or a rotation by a quarter turn swaps frequencies and changes signs, nothing else: eight orientations cost one
transform. Two hashes are compared only if, in one of three bands of 21 of their lowest bits, they differ by at most
one: that finds every pair with at most five of these 63 bits changed, and most with a few more.

`LIMIT` was measured on 600 dermoscopic images and 330 photographs of rubbish: no two unrelated images (233 985 pairs)
were nearer than 54; of 5 270 copies (recoded, scaled, squeezed, rotated, flipped, brightened, grey) 3 were farther
than 40. `benchmarks/census.py` prints such evidence for any dataset.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

HASH_VERSION = "1"  # part of the census cache's key: raise it when the same pixels would give another hash
SIDE, SIGNS = 32, 16  # the grey thumbnail and its lowest frequencies
LIMIT = 40  # of 255 bits that may differ
STRONG = 32  # of the 63 lowest frequencies that must be above one grey level, or the image is too plain to have a hash
_BANDS, _BAND_BITS = 3, 21
_PIECE = 1 << 19  # candidate pairs looked at together: bounds the memory


def _order() -> np.ndarray:
    """Bit -> flat index of its frequency: the 64 lowest first, dealt in turn to the three bands of the search."""
    low = [row * SIGNS + column for row in range(8) for column in range(8)][1:]
    dealt = [k for band in range(_BANDS) for k in low[band::_BANDS]] + [0]
    high = [k for k in range(SIGNS * SIGNS) if k not in set(dealt)]
    return np.array(dealt + high)


_ORDER = _order()


def _pack(bits: np.ndarray) -> np.ndarray:
    """From bool (..., 16, 16) to uint64 (..., 4)."""
    flat = bits.reshape(*bits.shape[:-2], -1)[..., _ORDER]
    return np.ascontiguousarray(np.packbits(flat, axis=-1, bitorder="little")).view(np.uint64)


def _flip_masks() -> np.ndarray:
    """uint64 (4, 4): the bits that change when an image is flipped not at all, left to right, upside down, or both."""
    odd = np.arange(SIGNS) % 2 == 1
    across, down = np.broadcast_arrays(odd, odd[:, None])
    return _pack(np.stack([across & False, across, down, across ^ down]))


_FLIPS = _flip_masks()


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
        shift = np.uint64(band * _BAND_BITS)
        keys = _band(hashes[:, 0, 0], shift)
        order = np.argsort(keys, kind="stable")
        starts = np.zeros((1 << _BAND_BITS) + 1, np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS), out=starts[1:])
        for view in range(8):
            oriented = hashes[:, view // 4] ^ _FLIPS[view % 4]
            wanted = _band(oriented[:, 0], shift)
            for probe in [0, *(1 << bit for bit in range(_BAND_BITS))]:
                first, after = starts[wanted ^ probe], starts[(wanted ^ probe) + 1]
                for i, j in _candidates(order, first, after - first):
                    near = np.bitwise_count(hashes[i, 0] ^ oriented[j]).sum(axis=1) <= LIMIT
                    kept.add(i[near], j[near])
    i, j = kept.pairs()
    return np.column_stack([i, j, distances(hashes, i, j)])


def distances(hashes: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Bits that differ between images `i` and `j`, in the orientation where they are fewest: int64, 0 to 255."""
    best = np.full(len(i), 255, np.int64)
    for view in range(8):
        oriented = hashes[j, view // 4] ^ _FLIPS[view % 4]
        np.minimum(best, np.bitwise_count(hashes[i, 0] ^ oriented).sum(axis=1, dtype=np.int64), out=best)
    return best


def _band(words: np.ndarray, shift: np.uint64) -> np.ndarray:
    return ((words >> shift) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _candidates(order: np.ndarray, first: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each query j with every i < j in its bucket `order[first:first + count]`, a bounded piece at a time."""
    queries = np.flatnonzero(counts)
    while len(queries):
        take = max(1, int(np.searchsorted(np.cumsum(counts[queries]), _PIECE)))
        some, queries = queries[:take], queries[take:]
        sizes = counts[some]
        j = np.repeat(some, sizes)
        places = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes - first[some], sizes)
        i = order[places]
        yield i[i < j], j[i < j]


class _Kept:
    """Of a stream of pairs, a spanning tree of what they connect, and for each image one pair with every other kind."""

    def __init__(self, kinds: np.ndarray):
        self._kinds = np.unique(kinds, return_inverse=True)[1]
        self._component = np.arange(len(kinds))
        self._seen = np.empty(0, np.int64)  # image and kind as one number, for which there is a pair
        self._pairs = [np.empty((2, 0), np.int64)]

    def add(self, i: np.ndarray, j: np.ndarray) -> None:
        """Check more pairs, and keep those that are needed."""
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
        self._pairs.append(np.stack([i[chosen], j[chosen]]))

    def pairs(self) -> np.ndarray:
        """Two rows, i < j, in order and without repetition."""
        return np.unique(np.concatenate(self._pairs, axis=1), axis=1)
