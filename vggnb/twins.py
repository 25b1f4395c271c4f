"""The same picture twice: a perceptual hash in eight orientations, and a search that does not compare all pairs."""

import numpy as np
from PIL import Image

HASH_VERSION = "1"  # part of the census cache's key: raise it when the same pixels would give another hash
SIDE, WAVES = 32, 16  # the grey thumbnail and its lowest cosine waves
LIMIT = 40  # of 255 bits that may differ
STRONG = 32  # of the 63 lowest waves that must be above one grey level, or the picture is too plain to have a hash
_BANDS, _BAND_BITS = 3, 21
_PIECE = 1 << 21  # candidate pairs looked at together: bounds the memory


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


def near_pairs(hashes: np.ndarray, *, limit: int = LIMIT) -> np.ndarray:
    """Pairs of pictures whose hashes differ in at most `limit` of 255 bits in one of the eight orientations.

    Args:
        hashes: uint64 (n, 2, 4).

    Returns:
        int64 (pairs, 3): i < j and their distance, in order.
    """
    found = [np.empty((0, 3), np.int64)]
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
                found += _compare(hashes[:, 0], turned, order, first, after - first, limit)
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    is_first = np.ones(len(pairs), bool)
    is_first[1:] = (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1)
    return pairs[is_first]


def all_distances(hashes: np.ndarray) -> np.ndarray:
    """The distance of every pair, for evidence on small sets: int64 (n * (n - 1) / 2,), 0 to 255."""
    best = np.full((len(hashes), len(hashes)), 255, np.int64)
    for turn in range(8):
        turned = hashes[:, turn // 4] ^ _MIRRORS[turn % 4]
        differ = np.bitwise_count(hashes[:, None, 0] ^ turned[None]).sum(axis=2, dtype=np.int64)
        np.minimum(best, differ, out=best)
    return best[np.triu_indices(len(hashes), 1)]


def _band(words: np.ndarray, shift: np.uint64) -> np.ndarray:
    return ((words >> shift) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _compare(upright, turned, order, first, counts, limit):
    """Yield int64 (pairs, 3) for the candidates in each query's bucket, a bounded piece at a time."""
    queries = np.flatnonzero(counts)
    while len(queries):
        total = np.cumsum(counts[queries])
        take = max(1, int(np.searchsorted(total, _PIECE)))
        some, queries = queries[:take], queries[take:]
        sizes = counts[some]
        j = np.repeat(some, sizes)
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        i = order[np.repeat(first[some], sizes) + offsets]
        i, j = i[i < j], j[i < j]
        distance = np.bitwise_count(upright[i] ^ turned[j]).sum(axis=1, dtype=np.int64)
        near = distance <= limit
        if near.any():
            yield np.column_stack([i[near], j[near], distance[near]])
