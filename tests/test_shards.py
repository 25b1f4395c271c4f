"""Rows on disk: those that were written, or none."""

import errno
import os

import numpy as np
import pytest
from faults import OPERATIONS, every, killed_at

from vggnb.shards import StoredRows, find_rows, write_shard
from vggnb.storage import TEMPORARY_PREFIX, VggnbError, sha256_bytes


def names(count, start=0):
    return [sha256_bytes(str(k).encode()) for k in range(start, start + count)]


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 1 and 4 rows; the value of a row is its number."""
    start = 0
    for count in (5, 1, 4):
        values = np.arange(start, start + count, dtype=np.float16)[:, None, None] + np.zeros((1, 2, 3), np.float16)
        write_shard(tmp_path, names(count, start), values)
        start += count
    return tmp_path


def stored(folder, order):
    shards, found = find_rows(folder, set(names(10)))
    return StoredRows(shards, [found[name] for name in np.array(names(10))[order]])


def test_rows_come_in_the_order_that_is_asked_for(folder):
    order = [9, 0, 5, 5, 3]
    rows = stored(folder, order)
    assert rows.shape == (5, 2, 3) and len(rows) == 5 and rows.dtype == np.float32
    assert rows[:].dtype == np.float32 and rows[:][:, 1, 2].tolist() == order
    assert rows[1:3][:, 0, 0].tolist() == [0, 5] and rows[np.array([4, 0])][:, 0, 0].tolist() == [3, 9]
    assert rows[np.array([True, False, False, False, True])][:, 0, 0].tolist() == [9, 3]
    assert rows[2].shape == (2, 3) and rows[2][0, 0] == 5 and rows[-1][0, 0] == 3
    assert np.asarray(rows)[:, 0, 0].tolist() == order
    part = rows.rows([0, 4])
    assert isinstance(part, StoredRows) and part.shape == (2, 2, 3) and part[:][:, 0, 0].tolist() == [9, 3]


def test_no_rows_have_a_shape_too(folder):
    rows = stored(folder, [1, 2]).rows([])
    assert rows.shape == (0, 2, 3) and rows[:].shape == (0, 2, 3)


def test_only_the_wanted_are_found(folder):
    shards, found = find_rows(folder, {*names(2), "0" * 64})
    assert len(shards) == 3 and set(found) == set(names(2))
    assert find_rows(folder / "absent", set(names(2))) == ([], {})


def test_the_same_rows_give_the_same_file(folder):
    before = sorted(folder.iterdir())
    write_shard(folder, names(1, 5), np.full((1, 2, 3), 5, np.float16))
    assert sorted(folder.iterdir()) == before


def test_64_flipped_bits_and_20_cuts_are_all_noticed(tmp_path, capsys):
    random = np.random.default_rng(0)
    values = random.normal(size=(12, 40)).astype(np.float32)
    path = write_shard(tmp_path, names(12), values).path
    data = path.read_bytes()
    spoilt = []
    for at in random.choice(len(data) * 8, 64, replace=False):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << (at % 8)
        spoilt.append(bytes(flipped))
    spoilt += [data[:size] for size in [0, len(data) - 1, *random.integers(1, len(data) - 1, 18)]]
    for bytes_ in spoilt:
        path.write_bytes(bytes_)
        assert find_rows(tmp_path, set(names(12))) == ([], {}) and not path.exists()
        assert "damaged" in capsys.readouterr().out
    write_shard(tmp_path, names(12), values)
    shards, found = find_rows(tmp_path, set(names(12)))
    assert len(found) == 12 and np.array_equal(StoredRows(shards, list(found.values()))[:], values)


FAULTS = [(operation, errno.EIO) for operation in OPERATIONS if operation != "listdir"]  # nothing is listed
FAULTS += [("write", "short"), ("write", errno.ENOSPC), ("mkdir", errno.ENOSPC)]


@pytest.mark.parametrize("operation, error", FAULTS)
def test_whatever_fails_while_writing_the_shard_is_there_whole_or_not_at_all(operation, error, tmp_path, capsys):
    """It is told, unless only a folder's own list of names was not flushed; the next try succeeds."""
    values = np.random.default_rng(0).normal(size=(7, 40)).astype(np.float32)
    for plan in every(operation, error, under=tmp_path):
        folder, told = tmp_path / str(plan.nth), False
        plan.armed = False
        write_shard(folder, names(3), values[:3])
        plan.armed = True
        try:
            write_shard(folder, names(4, 3), values[3:])
        except VggnbError as error_:
            told = bool(error_.where and error_.remedy)
        plan.disarm()
        check_whole(folder, values, {3, 7} if told else {7})
        assert told or not plan.fired or operation in ("fsync", "mkdir", "stat")
        write_shard(folder, names(4, 3), values[3:])
        check_whole(folder, values, {7})
        assert len(os.listdir(folder)) == 2 or operation == "unlink", "nothing else is left"
    assert plan.nth > 1 and capsys.readouterr().out == ""


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "rename", "unlink"])
def test_a_kill_at_each_step_of_writing_leaves_the_shard_whole_or_not_at_all(operation, tmp_path, capsys):
    values, died = np.random.default_rng(0).normal(size=(7, 40)).astype(np.float32), True
    for nth in range(1, 20):
        folder = tmp_path / str(nth)
        write_shard(folder, names(3), values[:3])
        died = killed_at(lambda at=folder: write_shard(at, names(4, 3), values[3:]), operation, nth, under=folder)
        check_whole(folder, values, {3, 7} if died else {7})
        write_shard(folder, names(4, 3), values[3:])
        check_whole(folder, values, {7})
        if not died:
            break
    assert not died and nth > 1 and capsys.readouterr().out == ""


def check_whole(folder, values, counts):
    """So many rows are found, each with its values."""
    shards, found = find_rows(folder, set(names(7)))
    assert len(found) in counts and set(found) == set(names(len(found)))
    assert np.array_equal(StoredRows(shards, [found[name] for name in names(len(found))])[:], values[: len(found)])


def test_what_another_process_is_writing_is_left_alone_and_old_leavings_are_swept(folder):
    writing, left = (folder / f"{TEMPORARY_PREFIX}{k}-{'0' * 64}.npy" for k in "ab")
    for path in (writing, left):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    shards, _ = find_rows(folder, set())
    assert len(shards) == 3 and writing.exists() and not left.exists()


def test_a_file_of_another_kind_is_told_by_name(tmp_path):
    data = b"\x93NUMPX not an array"
    path = tmp_path / f"{sha256_bytes(data)}.npy"
    path.write_bytes(data)
    with pytest.raises(VggnbError, match="Not a feature file") as told:
        find_rows(tmp_path, set())
    assert told.value.where == str(path)
