"""A file's bytes, damaged in every way that matters: one bit is another, or the end is missing."""

import random
from collections.abc import Iterator

FLIPS, CUTS = 64, 20


def damaged(data: bytes, seed: str) -> Iterator[tuple[str, bytes]]:
    """The bytes with one flipped bit, 64 times, and cut short, at least 20 times: (what was done, bytes)."""
    chance = random.Random(seed)
    for bit in chance.sample(range(8 * len(data)), min(FLIPS, 8 * len(data))):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(flipped)
    for length in {0, 1, len(data) - 1, *chance.sample(range(len(data)), min(CUTS, len(data)))}:
        yield f"cut to {length}", data[:length]
