"""The same picture twice: a perceptual hash in eight orientations, and a search that does not compare all pairs.

The hash holds the signs of the 255 lowest cosine waves of a 32 x 32 grey thumbnail (a pHash). Turning or mirroring a
picture swaps waves and flips signs, nothing else, so that eight orientations cost one transform. Two hashes are
compared only if, in one of three bands of 21 of their lowest bits, they differ by at most one: that finds every pair
with at most five of these 63 bits changed, and most with a few more.

`LIMIT` was measured on 600 dermoscopic pictures and 330 photographs of rubbish. No two unrelated pictures (233 985
pairs) were nearer than 54. Of 5 270 copies (JPEG down to quality 25, WebP 50, scaled by 0.3 to 1.7, squeezed, turned,
mirrored, brightened, grey, several at once) 3 were farther than 40. Of 310 pictures cropped by 2 % on every side, 287
were found. With a dHash of 64 bits unrelated pictures came as near as 0, with a pHash of 64 bits as near as 3.
`benchmarks/census.py` prints such evidence for any data set.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

HASH_VERSION = "1"  # part of the census cache's key: raise it when the same pixels would give another hash
SIDE, WAVES = 32, 16  # the grey thumbnail and its lowest cosine waves
LIMIT = 40  # of 255 bits that may differ
STRONG = 32  # of the 63 lowest waves that must be above one grey level, or the picture is too plain to have a hash
_BANDS, _BAND_BITS = 3, 21
_PIECE = 1 << 19  # candidate pairs looked at together: bounds the memory


def _order() -> np.ndarray:
    """Bit -> flat index of its wave: the 64 lowest waves first, dealt in turn to the three bands of the search."""
    low = [row * WAVES + column for row in range(8) for column in range(8)][1:]
    dealt = [wave for band in range(_BANDS) for wave in low[band::_BANDS]] + [0]
    high = [wave for wave in range(WAVES * WAVES) if wave not in set(dealt)]
    return np.array(dealt + high)


_ORDER = _order()
_COSINES = np.cos(np.pi * np.outer(np.arange(WAVES), 2 * np.arange(SIDE) + 1) / (2 * SIDE)).astype(np.float32)


def _pack(bits: np.ndarray) -> np.ndarray:
    """From bool (..., 16, 16) to uint64 (..., 4)."""
    flat = bits.reshape(*bits.shape[:-2], -1)[..., _ORDER]
    return np.ascontiguousarray(np.packbits(flat, axis=-1, bitorder="little")).view(np.uint64)


def _mirror_masks() -> np.ndarray:
    """uint64 (4, 4): the bits that change sign when a picture is mirrored not at all, across, down, or both."""
    odd = np.arange(WAVES) % 2 == 1
    none, across, down = np.zeros((WAVES, WAVES), bool), np.tile(odd, (WAVES, 1)), np.tile(odd[:, None], (1, WAVES))
    return _pack(np.stack([none, across, down, across ^ down]))


_MIRRORS = _mirror_masks()


def hash_of(grey: Image.Image) -> np.ndarray | None:
    """The signs of the lowest cosine waves of an upright grey picture, and of its transpose.

    Returns:
        uint64 (2, 4), or None for a picture so plain that its signs are noise.
    """
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    waves = _COSINES @ (thumbnail - thumbnail.mean()) @ _COSINES.T / (SIDE / 2)
    if np.count_nonzero(np.abs(waves[:8, :8]) > 1) < STRONG:
        return None
    return _pack(np.stack([waves, waves.T]) > 0)


def near_pairs(hashes: np.ndarray, *, kinds: np.ndarray | None = None) -> np.ndarray:
    """Pairs of pictures whose hashes differ in at most LIMIT of 255 bits in one of the eight orientations.

    Among many that look the same (frames of a film) not every pair is given: enough to connect them all, and for each
    picture one of every other kind.

    Args:
        hashes: uint64 (n, 2, 4).
        kinds: int (n,), such as a number for split and class; without them all pictures are of one kind.

    Returns:
        int64 (pairs, 3): i < j and their distance, in order.
    """
    enough = _Enough(np.zeros(len(hashes), np.int64) if kinds is None else kinds)
    for band in range(_BANDS):
        shift = np.uint64(band * _BAND_BITS)
        keys = _band(hashes[:, 0, 0], shift)
        order = np.argsort(keys, kind="stable")
        starts = np.zeros((1 << _BAND_BITS) + 1, np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS), out=starts[1:])
        for turn in range(8):
            turned = hashes[:, turn // 4] ^ _MIRRORS[turn % 4]
            asked = _band(turned[:, 0], shift)
            for probe in [0, *(1 << bit for bit in range(_BAND_BITS))]:
                first, after = starts[asked ^ probe], starts[(asked ^ probe) + 1]
                for i, j in _candidates(order, first, after - first):
                    near = np.bitwise_count(hashes[i, 0] ^ turned[j]).sum(axis=1) <= LIMIT
                    enough.add(i[near], j[near])
    i, j = enough.pairs()
    return np.column_stack([i, j, distances(hashes, i, j)])


def distances(hashes: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Bits that differ between pictures `i` and `j` in the orientation where they are fewest: int64, 0 to 255."""
    best = np.full(len(i), 255, np.int64)
    for turn in range(8):
        turned = hashes[j, turn // 4] ^ _MIRRORS[turn % 4]
        np.minimum(best, np.bitwise_count(hashes[i, 0] ^ turned).sum(axis=1, dtype=np.int64), out=best)
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


class _Enough:
    """Of a stream of pairs keeps a tree through all that are connected, and for each item one of every other kind."""

    def __init__(self, kinds: np.ndarray):
        self._kinds = np.unique(kinds, return_inverse=True)[1]
        self._group = np.arange(len(kinds))  # the lowest item that each is known to be connected with
        self._told = np.empty(0, np.int64)  # item and kind together, for which there is a pair
        self._kept: list[np.ndarray] = []

    def add(self, i: np.ndarray, j: np.ndarray) -> None:
        """Look at some more pairs."""
        if len(i):
            chosen = self._connecting(i, j)
            chosen[self._telling(i, j)] = True
            self._kept.append(np.stack([i[chosen], j[chosen]]))

    def pairs(self) -> np.ndarray:
        """Two rows, i < j, in order and without repetition."""
        kept = np.concatenate([np.empty((2, 0), np.int64), *self._kept], axis=1)
        return np.unique(kept, axis=1)

    def _connecting(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Which pairs connect what was not connected; for each group that is joined to a lower one, the first."""
        chosen = np.zeros(len(i), bool)
        while True:
            low, high = np.sort([self._group[i], self._group[j]], axis=0)
            apart = np.flatnonzero(low != high)
            if not len(apart):
                return chosen
            joined, first = np.unique(high[apart], return_index=True)
            chosen[apart[first]] = True
            above = np.arange(len(self._group))
            above[joined] = low[apart[first]]
            while (above[above] != above).any():
                above = above[above]
            self._group = above[self._group]

    def _telling(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Indices of pairs that are the first to show an item one of another kind."""
        differ = np.flatnonzero(self._kinds[i] != self._kinds[j])
        items, others = np.concatenate([i[differ], j[differ]]), np.concatenate([j[differ], i[differ]])
        keys, first = np.unique(items * (len(self._kinds) + 1) + self._kinds[others], return_index=True)
        fresh = ~np.isin(keys, self._told)
        self._told = np.concatenate([self._told, keys[fresh]])
        return differ[first[fresh] % max(1, len(differ))]
