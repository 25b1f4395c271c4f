"""A checkpoint is exactly what was written, or it is not used; whatever fails, the old one or the new one is there."""

import errno
import json

import numpy as np
import pytest
from faults import OPERATIONS, every, killed_at

from vggnb.checkpoints import Checkpoints, State, read_state, to_bytes
from vggnb.storage import VggnbError


def state(epoch):
    """A small state, another one for each epoch."""
    random = np.random.default_rng(epoch)
    arrays = {"model/000": random.random((4, 3), np.float32), "optimizer/000": np.array(epoch, np.int64)}
    return State(
        epoch, arrays, {"history": [{"epoch": k + 1, "loss": 0.1 + k} for k in range(epoch)], "card": {"a": 1}}
    )


def same(one, other):
    """Whether two states are equal to the last bit."""
    return one.sha256("") == other.sha256("") and one.about["card"] == other.about["card"] and one.epoch == other.epoch


@pytest.fixture
def kept(tmp_path):
    """Checkpoints of epochs 8 and 9."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "head")
    for epoch in (7, 8, 9):
        checkpoints.write(state(epoch))
    return checkpoints


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_the_newest_comes_back_and_the_one_before_it_is_kept(kept):
    assert same(kept.newest(), state(9)) and names(kept) == ["head-000008.ckpt", "head-000009.ckpt"]
    assert not same(state(8), state(9))


def test_there_is_none_before_the_first_and_after_the_last(kept, tmp_path):
    assert Checkpoints(tmp_path / "nowhere", "head").newest() is None
    assert Checkpoints(kept.folder, "fine-tune").newest() is None
    kept.clear()
    assert kept.newest() is None and not kept.folder.exists()


def test_the_hash_is_of_numbers_and_history():
    changed = state(9).arrays | {"model/000": np.nextafter(state(9).arrays["model/000"], 1)}
    other = State(9, changed, state(9).about)
    assert other.sha256("model/") != state(9).sha256("model/")
    assert other.sha256("optimizer/") == state(9).sha256("optimizer/")
    assert State(9, state(9).arrays, {"history": []}).sha256("") != state(9).sha256("")


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_all_flips_and_cuts_are_noticed(damage, kept, capsys):
    path = kept.paths()[0]
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    places = random.choice(len(whole), 20 if damage == "cut" else 64, replace=False)
    for place in [*places.tolist(), 0, len(whole) - 1]:
        data = bytearray(whole)
        if damage == "cut":
            data = data[:place]
        else:
            data[place] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        with pytest.raises(VggnbError, match="damaged"):
            read_state(path)
        assert same(kept.newest(), state(8))
        assert "head-000009.ckpt is damaged" in capsys.readouterr().out
        assert (kept.folder / "damaged" / path.name).read_bytes() == bytes(data)
    path.write_bytes(whole)
    assert same(kept.newest(), state(9)) and capsys.readouterr().out == ""


def test_a_damaged_one_is_told_in_one_sentence_with_what_happens_next(kept, capsys):
    kept.paths()[0].write_bytes(b"")
    assert kept.newest().epoch == 8
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "damaged" in said and "after epoch 8" in said


def test_when_all_are_damaged_it_stops_names_them_and_changes_nothing(kept, capsys):
    for path in kept.paths():
        path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(VggnbError) as told:
            kept.newest()
        assert "head-000008.ckpt" in told.value.what and "head-000009.ckpt" in told.value.what
        assert "fresh=True" in told.value.remedy and told.value.where == str(kept.folder)
    assert names(kept) == ["head-000008.ckpt", "head-000009.ckpt"] and capsys.readouterr().out == ""


def test_storage_that_does_not_answer_is_no_damage(kept):
    for plan in every("open", errno.EIO, under=kept.folder):
        try:
            assert kept.newest().epoch == 9 and not plan.fired
        except VggnbError as error:
            assert "storage" in error.what and plan.fired
        plan.disarm()
        assert names(kept) == ["head-000008.ckpt", "head-000009.ckpt"]
    assert plan.nth > 1


FAULTS = [(operation, error) for operation in OPERATIONS for error in (errno.ENOSPC, errno.EIO)] + [("write", "short")]


@pytest.mark.parametrize("operation, error", FAULTS)
def test_whatever_fails_while_writing_the_old_or_the_new_is_there(operation, error, tmp_path):
    for plan in every(operation, error, under=tmp_path):
        checkpoints = Checkpoints(tmp_path / str(plan.nth), "head")
        plan.armed = False
        checkpoints.write(state(1))
        plan.armed = True
        failed = False
        try:
            checkpoints.write(state(2))
        except VggnbError as told:
            failed = True
            assert told.where and told.remedy
        plan.disarm()
        found = checkpoints.newest()
        assert same(found, state(found.epoch)) and found.epoch in ((1, 2) if failed else (2,))
        assert all(name.endswith(".ckpt") for name in names(checkpoints))
    assert plan.nth > 1


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "rename"])
def test_a_kill_at_each_step_of_writing_leaves_the_old_or_the_new(operation, tmp_path):
    for nth in range(1, 20):
        checkpoints = Checkpoints(tmp_path / str(nth), "head")
        checkpoints.write(state(1))
        died = killed_at(lambda c=checkpoints: c.write(state(2)), operation, nth, under=checkpoints.folder)
        found = checkpoints.newest()
        assert same(found, state(found.epoch))
        assert all(name.endswith(".ckpt") for name in names(checkpoints))
        if not died:
            assert found.epoch == 2 and nth > 1
            return
    raise AssertionError("still dying")


def test_nothing_but_numbers_and_plain_values_is_in_the_file(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(to_bytes(state(3)))
    assert json.dumps(read_state(path).about) and b"pickle" not in path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        to_bytes(State(1, {}, {"loss": float("nan")}))
