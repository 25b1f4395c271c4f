"""The frozen part of the network is run once for each image; what is stored is what would be computed."""

import errno
import os
import resource
import shutil
from dataclasses import replace

import numpy as np
import pytest
from faults import every
from PIL import Image

from vggnb import device, paths
from vggnb import features as module
from vggnb import model as models
from vggnb.features import extract, store_key
from vggnb.features.store import INDEX, Stored, keep, restore, write_shard
from vggnb.generators import read_rows
from vggnb.model import build_extractor
from vggnb.storage import VggnbError, sha256_bytes


@pytest.fixture
def get(base, best, tmp_path):
    """A function: (manifest) -> features, from a store of the test's own; `get.store` is its folder."""

    def get(manifest, recipe=best, **options):
        return extract(manifest, recipe, *base, **{"store": get.store, "progress": False, **options})

    get.store = tmp_path / "store"
    return get


@pytest.fixture(scope="module")
def made(base, best, manifest, tmp_path_factory):
    """Features of the manifest and the folder of the store that they are in."""
    store = tmp_path_factory.mktemp("made") / "store"
    return extract(manifest, best, *base, store=store, progress=False), store


@pytest.fixture
def get_again(get, made):
    """The same function as `get`; its store holds the manifest's features already."""
    shutil.copytree(made[1], get.store)
    return get


def test_features_are_those_of_each_image_in_the_manifests_order(made, manifest, base, best):
    features, _ = made
    assert features.rows == manifest.of("train") + manifest.of("validation"), "the test split is left alone"
    assert features.values.shape == (24, 2944) and features.values.dtype == np.float32
    pixels = read_rows(manifest, features.rows, best).astype(np.float32)
    expected = build_extractor(base[0], best)(pixels, training=False).numpy()
    assert np.allclose(features.values, expected, rtol=1e-4, atol=1e-3)
    assert len({value.tobytes() for value in features.values}) == 24
    part = features.of("validation")
    assert part.rows == manifest.of("validation") and np.array_equal(part.values, features.values[16:])
    assert part.labels.tolist() == [row.label for row in part.rows]
    assert features.of("test").values.shape == (0, 2944) and features.of("test").labels.shape == (0,)


def test_nothing_is_forwarded_the_second_time_nor_for_another_recipe_with_the_same_pixels(
    get_again, made, manifest, best, monkeypatch
):
    monkeypatch.setattr(models, "build_extractor", None)  # calling it would fail
    for recipe in (best, best.with_(pools=((5, "average"),), standardise=False, ridge=0.0, epochs=9, seed=5)):
        second = get_again(manifest, recipe)
        assert (second.images_forwarded, second.from_store) == (0, 24)
        assert np.array_equal(made[0].values, second.values)
    assert (made[0].images_forwarded, made[0].from_store) == (24, 0)


def test_other_pixels_weights_and_decoders_have_another_place_in_the_store(best, base, monkeypatch):
    changes = [{"image_size": 40}, {"resize": "nearest"}, {"preprocessing": "rescale"}]
    keys = [store_key(best, base[1]), store_key(best, replace(base[1], sha256="0" * 64))]
    keys += [store_key(best.with_(**change), base[1]) for change in changes]
    monkeypatch.setattr(module, "DECODER_VERSION", "another")
    assert len({*keys, store_key(best, base[1])}) == 6


def test_a_changed_image_costs_exactly_one_row_even_with_the_same_size_and_time(get_again, made, own_photos, survey):
    before, path = survey(own_photos), own_photos / "train" / "cat" / "cat_0.jpg"
    status, data = path.stat(), path.read_bytes()
    Image.new("RGB", (44, 36), "orange").save(path)
    path.write_bytes(path.read_bytes().ljust(len(data), b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = get_again(survey(own_photos))
    assert (after.images_forwarded, after.from_store) == (1, 23)
    changed = [row.path for row, a, b in zip(after.rows, made[0].values, after.values, strict=True) if (a != b).any()]
    assert changed == ["train/cat/cat_0.jpg"]
    late = get_again(before, store=get_again.store.parent / "late")
    assert [path for path, _ in late.unreadable] == changed, "changed after the census: left out, not mislabelled"


def test_only_the_images_of_the_damaged_shard_are_made_again(get, manifest, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BATCHES", 1)
    monkeypatch.setattr(device, "batch_size", lambda size: 10)
    first, shards = get(manifest), list(get.store.rglob("*.npy"))
    assert len(shards) == 3
    largest = max(shards, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    second = get(manifest)
    assert second.images_forwarded == 10 and np.allclose(first.values, second.values, rtol=1e-5, atol=1e-4)


def test_an_interrupted_extraction_goes_on_where_it_stopped(get, manifest, monkeypatch):
    monkeypatch.setattr(device, "batch_size", lambda size: 10)
    network, calls = module.VGG16.__call__, []

    def interrupted(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return network(self, pixels)

    monkeypatch.setattr(module.VGG16, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get(manifest)
    assert get(manifest).images_forwarded == 4


def test_unreadable_images_are_named_and_the_others_are_extracted(get, made, own_photos, survey):
    manifest = survey(own_photos)
    (own_photos / "train" / "dog" / "dog_3.png").unlink()
    (own_photos / "validation" / "cat" / "cat_1.png").write_bytes(b"no image")
    features = get(manifest)
    assert [path for path, _ in features.unreadable] == ["train/dog/dog_3.png", "validation/cat/cat_1.png"]
    assert len(features.rows) == len(features.values) == 22
    assert "left out: train/dog/dog_3.png" in str(features)
    value = {row.path: value for row, value in zip(made[0].rows, made[0].values, strict=True)}
    expected = [value[row.path] for row in features.rows]
    assert np.allclose(features.values, expected, rtol=1e-4, atol=1e-3), "no value moved to another row"
    shutil.rmtree(own_photos / "test")
    with pytest.raises(VggnbError, match="None of the images can be read"):
        get(manifest, splits=("test",))


def test_the_speed_is_without_starting_and_compiling_on_any_number_of_workers():
    answers = [(5 + second, 10) for second in (1, 2, 3, 4) for _ in range(2)]  # two workers that start for 5 s
    assert module._rate(answers[::-1], 2, 0.0) == 20
    assert module._rate(answers[:1], 2, 0.0) == 10 / 6
    assert module._rate([], 2, 0.0) == 0


def test_duplicates_are_forwarded_once(get, own_photos, survey):
    shutil.copy(own_photos / "train" / "cat" / "cat_0.jpg", own_photos / "train" / "cat" / "again.jpg")
    features = get(survey(own_photos))
    assert features.images_forwarded == 24 and len(features.rows) == 25
    values = {row.path: value for row, value in zip(features.rows, features.values, strict=True)}
    assert np.array_equal(values["train/cat/cat_0.jpg"], values["train/cat/again.jpg"])


# The store: rows on disk are those that were written, or none


def names(count, start=0):
    return [sha256_bytes(str(k).encode()) for k in range(start, start + count)]


def numbered(count, start=0):
    """Values of rows; each is the row's number."""
    return np.full((count, 3), np.arange(start, start + count)[:, None], np.float32)


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 1 and 4 rows."""
    for count, start in ((5, 0), (1, 5), (4, 6)):
        write_shard(tmp_path, names(count, start), numbered(count, start))
    return tmp_path


def test_the_wanted_are_found_in_the_order_of_their_names_and_new_shards_are_taken_up(folder):
    values = Stored(folder, set(names(10))).values([names(10)[k] for k in (9, 0, 5, 5, 3)])
    assert values.shape == (5, 3) and values.dtype == np.float32 and values[:, 2].tolist() == [9, 0, 5, 5, 3]
    stored, files = Stored(folder, {*names(2), "0" * 64, *names(1, 10)}), sorted(folder.iterdir())
    write_shard(folder, names(1, 5), numbered(1, 5))
    assert set(stored.places) == set(names(2)) and sorted(folder.iterdir()) == files, "the same rows, the same file"
    write_shard(folder, names(1, 10), numbered(1, 10))
    stored.refresh()
    assert stored.values(names(1, 10)).tolist() == [[10.0] * 3]
    assert Stored(folder / "absent", set(names(2))).places == {}


def test_flipped_bits_and_cuts_are_all_noticed(tmp_path, capsys):
    random = np.random.default_rng(0)
    values = random.normal(size=(12, 40)).astype(np.float32)
    path = write_shard(tmp_path, names(12), values)
    data = path.read_bytes()
    spoilt = [data[:length] for length in (0, 1, len(data) // 2, len(data) - 1)]
    for at in random.choice(len(data), 16, replace=False):
        spoilt.append(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
    for damaged in spoilt:
        path.write_bytes(damaged)
        assert Stored(tmp_path, set(names(12))).places == {} and not path.exists()
        assert "Damaged" in capsys.readouterr().out


@pytest.mark.parametrize("operation, error", [("write", errno.ENOSPC), ("write", "short"), ("rename", errno.EIO)])
def test_whatever_fails_while_writing_the_shard_is_there_whole_or_not_at_all(operation, error, tmp_path, capsys):
    for plan in every(operation, error, under=tmp_path):
        folder, failed = tmp_path / str(plan.nth), False
        plan.armed = False
        write_shard(folder, names(3), numbered(3))
        plan.armed = True
        try:
            write_shard(folder, names(4, 3), numbered(4, 3))
        except VggnbError as caught:
            failed = bool(caught.where and caught.remedy)
        plan.disarm()
        for count in (3 if failed else 7, 7):
            stored = Stored(folder, set(names(7)))
            assert set(stored.places) == set(names(count))
            assert np.array_equal(stored.values(names(count)), numbered(count))
            write_shard(folder, names(4, 3), numbered(4, 3))
    assert plan.nth > 1 and capsys.readouterr().out == ""


def test_more_shards_are_read_than_files_may_be_open(tmp_path):
    for k in range(40):
        write_shard(tmp_path, names(1, k), numbered(1, k))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        assert np.array_equal(Stored(tmp_path, set(names(40))).values(names(40)[::-1]), numbered(40)[::-1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_shards_are_kept_elsewhere_as_few_files_and_come_back(folder, tmp_path_factory):
    drive, fresh = tmp_path_factory.mktemp("drive") / "features", tmp_path_factory.mktemp("fresh")
    keep(Stored(folder, set(names(20))), drive)
    restore(fresh, drive)
    assert len(list(drive.glob("*.npy"))) == len(list(fresh.iterdir())) == 1, "three shards became one"
    assert np.array_equal(Stored(fresh, set(names(10))).values(names(10)), numbered(10))
    write_shard(fresh, names(2, 10), numbered(2, 10))
    for one in (fresh, fresh, folder):
        keep(Stored(one, set(names(20))), drive)
    assert len(list(drive.glob("*.npy"))) == 2, "only what is new is written"
    shard = next(drive.glob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1])
    restore(tmp_path_factory.mktemp("without"), drive)
    assert not shard.exists(), "what is damaged there is written again"
    keep(Stored(fresh, set(names(20))), drive)
    restore(third := tmp_path_factory.mktemp("third"), drive)
    assert np.array_equal(Stored(third, set(names(20))).values(names(12)), numbered(12))
    (drive / INDEX).unlink()
    restore(empty := tmp_path_factory.mktemp("empty"), drive)
    assert not list(empty.iterdir()), "without an index nothing was finished"


def test_features_kept_on_drive_need_no_image_in_the_next_runtime(get, manifest, monkeypatch, tmp_path):
    (drive := tmp_path / "content" / "drive" / "MyDrive").mkdir(parents=True)
    monkeypatch.setattr(paths, "CONTENT", tmp_path / "content")
    monkeypatch.delenv("VGGNB_HOME")
    get.store = tmp_path / "content" / "vggnb" / "features"
    first = get(manifest)
    shutil.rmtree(get.store)  # another runtime
    again = get(manifest)
    assert (first.images_forwarded, again.images_forwarded) == (24, 0) and (first.values == again.values).all()
    assert len(list(drive.glob("vggnb/features/*/*.npy"))) == 1
