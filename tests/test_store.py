"""Rows on disk: those that were written, or none."""

import errno
import io
import shutil

import numpy as np
import pytest
from faults import every

from vggnb.features.store import INDEX, Stored, keep, restore, write_shard
from vggnb.storage import VggnbError, sha256_bytes


def names(count, start=0):
    return [sha256_bytes(str(k).encode()) for k in range(start, start + count)]


def look(folder, wanted):
    """What of the wanted is stored in a folder."""
    stored = Stored(folder, set(wanted))
    stored.refresh()
    return stored


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 1 and 4 rows; the value of a row is its number."""
    start = 0
    for count in (5, 1, 4):
        values = np.arange(start, start + count, dtype=np.float16)[:, None, None] + np.zeros((1, 2, 3), np.float16)
        write_shard(tmp_path, names(count, start), values)
        start += count
    return tmp_path


def test_rows_come_in_the_order_that_is_asked_for(folder):
    order = [9, 0, 5, 5, 3]
    rows = look(folder, names(10)).rows(np.array(names(10))[order])
    assert rows.shape == (5, 2, 3) and len(rows) == 5 and rows.dtype == np.float32
    assert rows[:].dtype == np.float32 and rows[:][:, 1, 2].tolist() == order
    assert rows[1:3][:, 0, 0].tolist() == [0, 5] and rows[np.array([4, 0])][:, 0, 0].tolist() == [3, 9]
    assert rows[np.array([True, False, False, False, True])][:, 0, 0].tolist() == [9, 3]
    assert rows[2].shape == (2, 3) and rows[2][0, 0] == 5 and rows[-1][0, 0] == 3
    assert np.asarray(rows)[:, 0, 0].tolist() == order
    assert rows.rows([0, 4])[:][:, 0, 0].tolist() == [9, 3]
    assert rows.rows([]).shape == (0, 2, 3) and rows.rows([])[:].shape == (0, 2, 3)


def test_only_the_wanted_are_found_and_new_shards_are_taken_up(folder):
    stored = look(folder, {*names(2), "0" * 64, names(1, 10)[0]})
    assert set(stored.places) == set(names(2))
    write_shard(folder, names(1, 10), np.full((1, 2, 3), 10, np.float16))
    stored.refresh()
    assert stored.rows(names(1, 10))[:].tolist() == [[[10.0] * 3] * 2]
    assert look(folder / "absent", names(2)).places == {}


def test_the_same_rows_give_the_same_file(folder):
    before = sorted(folder.iterdir())
    write_shard(folder, names(1, 5), np.full((1, 2, 3), 5, np.float16))
    assert sorted(folder.iterdir()) == before


def test_flipped_bits_and_cuts_are_all_noticed(tmp_path, capsys):
    random = np.random.default_rng(0)
    values = random.normal(size=(12, 40)).astype(np.float32)
    path = write_shard(tmp_path, names(12), values)
    data = path.read_bytes()
    spoilt = []
    for at in random.choice(len(data) * 8, 32, replace=False):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << (at % 8)
        spoilt.append(bytes(flipped))
    spoilt += [data[:size] for size in [0, len(data) - 1, *random.integers(1, len(data) - 1, 8)]]
    for bytes_ in spoilt:
        path.write_bytes(bytes_)
        assert look(tmp_path, names(12)).places == {} and not path.exists()
        assert "damaged" in capsys.readouterr().out
    write_shard(tmp_path, names(12), values)
    assert np.array_equal(look(tmp_path, names(12)).rows(names(12))[:], values)


@pytest.mark.parametrize("operation, error", [("write", errno.ENOSPC), ("write", "short"), ("rename", errno.EIO)])
def test_whatever_fails_while_writing_the_shard_is_there_whole_or_not_at_all(operation, error, tmp_path, capsys):
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
        check_whole(folder, values, 3 if told else 7)
        write_shard(folder, names(4, 3), values[3:])
        check_whole(folder, values, 7)
    assert plan.nth > 1 and capsys.readouterr().out == ""


def check_whole(folder, values, count):
    """So many rows are found, each with its values."""
    stored = look(folder, names(7))
    assert set(stored.places) == set(names(count))
    assert np.array_equal(stored.rows(names(count))[:], values[:count])


def test_a_file_of_another_kind_is_refused_by_name(tmp_path):
    for data in (b"\x93NUMPX not an array", npy(np.zeros(3)), b"PK\x03\x04"):
        path = tmp_path / f"{sha256_bytes(data)}.npy"
        path.write_bytes(data)
        with pytest.raises(VggnbError, match="Not a feature file") as told:
            look(tmp_path, [])
        assert told.value.where == str(path)
        path.unlink()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_shards_are_kept_elsewhere_as_few_files_and_come_back(folder, tmp_path_factory):
    drive, fresh = tmp_path_factory.mktemp("drive") / "features", tmp_path_factory.mktemp("fresh")
    keep(folder, drive)
    restore(fresh, drive)
    assert len(list(drive.glob("*.npy"))) == len(list(fresh.iterdir())) == 1, "three shards became one"
    assert look(fresh, names(10)).rows(names(10))[:][:, 0, 0].tolist() == list(range(10))
    write_shard(fresh, names(2, 10), np.full((2, 2, 3), 10, np.float16))
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
