"""The perceptual hash and the search for near-duplicates."""

import io

import numpy as np
import pytest
from PIL import Image
from zoo import encoded, photo

from vggnb.census import near_duplicates
from vggnb.census.near_duplicates import LIMIT, components, hash_of, near_pairs


def hashed(image: Image.Image) -> np.ndarray:
    return hash_of(image.convert("L"))


def distance(a: np.ndarray, b: np.ndarray) -> int:
    """By the search itself; 999 where it finds no pair."""
    pairs = near_pairs(np.stack([a, b]))
    return int(pairs[0, 2]) if len(pairs) else 999


def recoded(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, "JPEG", quality=quality)))


def random_hashes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, (n, 2, 4), np.uint64)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(photo(1, width=90, height=70))


def test_a_flipped_or_rotated_copy_or_one_that_was_saved_again_is_found(picture):
    for transpose in Image.Transpose:
        assert distance(hashed(picture), hashed(picture.transpose(transpose))) <= 6, transpose
    for name, copy in {
        "recoded": recoded(picture, 30),
        "smaller": picture.resize((45, 35)),
        "larger": picture.resize((300, 233), Image.Resampling.BICUBIC),
        "squeezed": picture.resize((60, 70)),
        "brighter": picture.point(lambda level: min(255, level * 11 // 10)),
        "all of it": recoded(picture.transpose(Image.Transpose.TRANSVERSE).resize((50, 64)), 60),
    }.items():
        assert distance(hashed(picture), hashed(copy)) <= LIMIT, name


def test_two_hundred_unrelated_images_make_no_pair():
    assert len(near_pairs(np.stack([hashed(Image.fromarray(photo(seed))) for seed in range(200)]))) == 0


def test_plain_images_have_no_hash_and_photos_have_one():
    white = np.full((40, 40), 255, np.uint8)
    ramp, line = white.copy(), white.copy()
    ramp[:], line[11:14] = np.linspace(0, 255, 40).astype(np.uint8), 0
    assert [hash_of(Image.fromarray(plain)) for plain in (white, ramp, line)] == [None] * 3
    assert all(hashed(Image.fromarray(photo(seed))) is not None for seed in range(50))


def slow_pairs(hashes: np.ndarray) -> set[tuple[int, int]]:
    i, j = np.triu_indices(len(hashes), 1)
    near = near_duplicates.distances(hashes, i, j) <= LIMIT
    return set(zip(i[near].tolist(), j[near].tolist(), strict=True))


def test_the_search_finds_what_comparing_all_pairs_finds():
    hashes = random_hashes(300, seed=0)
    random = np.random.default_rng(1)
    for k in range(60):  # a copy with up to five of the low bits and twenty of the others changed
        copy = hashes[k].copy()
        for bit in [*random.choice(63, 5, replace=False), *random.choice(range(64, 256), 20, replace=False)]:
            copy[0, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
        hashes[299 - k] = copy
    slow = slow_pairs(hashes)
    assert len(slow) == 60
    assert {tuple(pair) for pair in near_pairs(hashes)[:, :2].tolist()} == slow


@pytest.mark.parametrize("seed", range(2))
def test_frames_of_a_film_give_enough_pairs_and_not_all(seed, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_PIECE", 500)
    random = np.random.default_rng(seed)
    hashes, kinds = random_hashes(180, seed), random.integers(0, 4, 180)
    for k in range(1, 180):  # each frame differs a little from the one before; three films
        if k % 60:
            hashes[k] = hashes[k - 1]
            for bit in random.choice(range(64, 256), 2, replace=False):
                hashes[k, 0, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    everything = slow_pairs(hashes)
    found = {(i, j) for i, j, _ in near_pairs(hashes, kinds=kinds).tolist()}
    assert found <= everything and len(found) < len(everything) / 4
    assert components(found) == components(everything)
    assert len(near_pairs(hashes)) == sum(len(group) - 1 for group in components(everything))
    for pairs in (everything, found):
        pairs |= {(j, i) for i, j in pairs}
    assert {(i, kinds[j]) for i, j in everything if kinds[i] != kinds[j]} == {
        (i, kinds[j]) for i, j in found if kinds[i] != kinds[j]
    }


def test_pairs_come_once_in_order_and_nothing_and_one_image_make_no_pair(picture):
    hashes = np.stack([hashed(Image.fromarray(photo(5))), hashed(picture), hashed(picture), hashed(picture)])
    assert near_pairs(hashes).tolist() == [[1, 2, 0], [1, 3, 0]]
    assert near_pairs(hashes, kinds=np.array([0, 0, 1, 2])).tolist() == [[1, 2, 0], [1, 3, 0], [2, 3, 0]]
    assert near_pairs(hashes[:0]).shape == near_pairs(hashes[:1]).shape == (0, 3)
