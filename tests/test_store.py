"""Rows on disk: those that were written, or none."""

import errno
import shutil

import numpy as np
import pytest
from faults import every

from vggnb.features.store import INDEX, Stored, keep, restore, write_shard
from vggnb.storage import VggnbError, sha256_bytes


def names(count, start=0):
    return [sha256_bytes(str(k).encode()) for k in range(start, start + count)]


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 1 and 4 rows; the value of a row is its number."""
    start = 0
    for count in (5, 1, 4):
        write_shard(tmp_path, names(count, start), np.full((count, 3), np.arange(start, start + count)[:, None], "f4"))
        start += count
    return tmp_path


def test_values_come_in_the_order_of_the_names(folder):
    values = Stored(folder, set(names(10))).values([names(10)[k] for k in (9, 0, 5, 5, 3)])
    assert values.shape == (5, 3) and values.dtype == np.float32 and values[:, 2].tolist() == [9, 0, 5, 5, 3]


def test_only_the_wanted_are_found_and_new_shards_are_taken_up(folder):
    stored = Stored(folder, {*names(2), "0" * 64, names(1, 10)[0]})
    assert set(stored.places) == set(names(2))
    write_shard(folder, names(1, 10), np.full((1, 3), 10, np.float32))
    stored.refresh()
    assert stored.values(names(1, 10)).tolist() == [[10.0] * 3]
    assert Stored(folder / "absent", set(names(2))).places == {}


def test_the_same_rows_give_the_same_file(folder):
    before = sorted(folder.iterdir())
    write_shard(folder, names(1, 5), np.full((1, 3), 5, np.float32))
    assert sorted(folder.iterdir()) == before


def test_flipped_bits_and_cuts_are_all_noticed(tmp_path, capsys):
    random = np.random.default_rng(0)
    values = random.normal(size=(12, 40)).astype(np.float32)
    path = write_shard(tmp_path, names(12), values)
    data, spoilt = path.read_bytes(), []
    for at in random.choice(len(data) * 8, 32, replace=False):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << (at % 8)
        spoilt.append(bytes(flipped))
    spoilt += [data[:length] for length in (0, 1, len(data) // 2, len(data) - 1)]
    for damaged in spoilt:
        path.write_bytes(damaged)
        assert Stored(tmp_path, set(names(12))).places == {} and not path.exists()
        assert "damaged" in capsys.readouterr().out
    write_shard(tmp_path, names(12), values)
    assert np.array_equal(Stored(tmp_path, set(names(12))).values(names(12)), values)


@pytest.mark.parametrize("operation, error", [("write", errno.ENOSPC), ("write", "short"), ("rename", errno.EIO)])
def test_whatever_fails_while_writing_the_shard_is_there_whole_or_not_at_all(operation, error, tmp_path, capsys):
    values = np.random.default_rng(0).normal(size=(7, 40)).astype(np.float32)
    for plan in every(operation, error, under=tmp_path):
        folder, failed = tmp_path / str(plan.nth), False
        plan.armed = False
        write_shard(folder, names(3), values[:3])
        plan.armed = True
        try:
            write_shard(folder, names(4, 3), values[3:])
        except VggnbError as caught:
            failed = bool(caught.where and caught.remedy)
        plan.disarm()
        check_whole(folder, values, 3 if failed else 7)
        write_shard(folder, names(4, 3), values[3:])
        check_whole(folder, values, 7)
    assert plan.nth > 1 and capsys.readouterr().out == ""


def check_whole(folder, values, count):
    """So many rows are found, each with its values."""
    stored = Stored(folder, set(names(7)))
    assert set(stored.places) == set(names(count)) and np.array_equal(stored.values(names(count)), values[:count])


def test_shards_are_kept_elsewhere_as_few_files_and_come_back(folder, tmp_path_factory):
    drive, fresh = tmp_path_factory.mktemp("drive") / "features", tmp_path_factory.mktemp("fresh")
    keep(folder, drive)
    restore(fresh, drive)
    assert len(list(drive.glob("*.npy"))) == len(list(fresh.iterdir())) == 1, "three shards became one"
    assert Stored(fresh, set(names(10))).values(names(10))[:, 0].tolist() == list(range(10))
    write_shard(fresh, names(2, 10), np.full((2, 3), 10, np.float32))
    keep(fresh, drive), keep(fresh, drive), keep(folder, drive)
    assert len(list(drive.glob("*.npy"))) == 2, "only what is new is written"
    (drive / INDEX).unlink()
    restore(empty := tmp_path_factory.mktemp("empty"), drive)
    assert not list(empty.iterdir()), "without an index nothing was finished"


def test_features_kept_on_drive_need_no_image_in_the_next_runtime(photos, monkeypatch, tmp_path):
    from vggnb import paths
    from vggnb.census import assign_splits, take_census
    from vggnb.features import extract
    from vggnb.model import build_base
    from vggnb.recipe import Recipe

    content, recipe = tmp_path / "content", Recipe.best().with_(image_size=32)
    (content / "drive" / "MyDrive").mkdir(parents=True)
    monkeypatch.setattr(paths, "CONTENT", content)
    monkeypatch.delenv("VGGNB_HOME")
    manifest = assign_splits(take_census(photos, progress=False))
    base, source = build_base(recipe, "none")
    first = extract(manifest, recipe, base, source, store=content / "vggnb" / "features", progress=False)
    shutil.rmtree(content / "vggnb")  # another runtime
    again = extract(manifest, recipe, base, source, store=content / "vggnb" / "features", progress=False)
    assert (first.images_forwarded, again.images_forwarded) == (24, 0) and (first.values == again.values).all()
    assert len(list(content.glob("drive/MyDrive/vggnb/features/*/*.npy"))) == 1
