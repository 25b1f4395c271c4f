"""One process at a time on a run: who is second is told who is first, and the dead are not waited for."""

import json
import os
import re
import socket
import time

import pytest
from faults import killed
from faults.kill import _fork

from vggnb import lock as lock_module
from vggnb.lock import BEAT_S, LOCK, STALE_S, held
from vggnb.storage import VggnbError

OWNER = f"{LOCK}/owner.json"


@pytest.fixture
def folder(tmp_path):
    """A run's folder."""
    (tmp_path / "skin1").mkdir()
    return tmp_path / "skin1"


def locked_by(folder, **changes):
    """A lock that somebody made."""
    owner = {"host": "elsewhere", "pid": 4711, "token": "t", "since": time.time(), "heartbeat": time.time()} | changes
    (folder / LOCK).mkdir()
    (folder / OWNER).write_text(json.dumps(owner))


def waiting_for(path):
    """Spin until a file is there."""
    limit = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_a_lock_is_there_while_it_is_held_and_gone_afterwards(folder):
    with held(folder) as lock:
        owner = json.loads((folder / OWNER).read_text())
        assert owner["pid"] == os.getpid() and owner["host"] == socket.gethostname()
        lock.check()
    assert list(folder.iterdir()) == []


def test_the_second_is_told_who_holds_it(folder):
    with held(folder), pytest.raises(VggnbError) as told, held(folder):
        pass
    holder = re.escape(f"pid {os.getpid()} on {socket.gethostname()}")
    assert re.fullmatch(rf"Run 'skin1' is in use by {holder} since \d\d:\d\d \(heartbeat \d s ago\)\.", told.value.what)
    assert told.value.where == str(folder)


def test_of_two_processes_exactly_one_wins_each_of_twenty_times(folder):
    for trial in range(20):
        place = folder / f"trial{trial}"
        place.mkdir()

        def compete(name, place=place):
            waiting_for(place.parent / f"go{place.name}")
            try:
                with held(place):
                    (place.parent / f"{place.name}-{name}").write_text("won")
                    waiting_for(place.parent / f"{place.name}-{'b' if name == 'a' else 'a'}")
            except VggnbError as error:
                (place.parent / f"{place.name}-{name}").write_text(error.what)

        children = {name: _fork(lambda name=name: compete(name)) for name in "ab"}
        (folder / f"go{place.name}").touch()
        for child in children.values():
            os.waitpid(child, 0)
        said = {name: (folder / f"{place.name}-{name}").read_text() for name in "ab"}
        assert sorted(said.values())[-1] == "won" and list(said.values()).count("won") == 1, said
        winner = next(name for name in "ab" if said[name] == "won")
        loser = next(text for text in said.values() if text != "won")
        assert f"pid {children[winner]} " in loser
        assert list(place.iterdir()) == []


def test_of_two_that_take_over_from_a_dead_one_exactly_one_wins(folder):
    for trial in range(20):
        place = folder / f"trial{trial}"
        place.mkdir()
        locked_by(place, heartbeat=time.time() - STALE_S - 1)

        def compete(name, place=place):
            waiting_for(place.parent / f"go{place.name}")
            try:
                with held(place):
                    (place.parent / f"{place.name}-{name}").write_text("won")
                    waiting_for(place.parent / f"{place.name}-{'b' if name == 'a' else 'a'}")
            except VggnbError:
                (place.parent / f"{place.name}-{name}").write_text("lost")

        children = [_fork(lambda name=name: compete(name)) for name in "ab"]
        (folder / f"go{place.name}").touch()
        for child in children:
            os.waitpid(child, 0)
        assert sorted((folder / f"{place.name}-{name}").read_text() for name in "ab") == ["lost", "won"]
        assert list(place.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once(folder):
    def hold():
        with held(folder):
            time.sleep(60)

    assert killed(hold, after_s=0, sign=folder / OWNER) and (folder / OWNER).exists()
    with held(folder) as lock:
        lock.check()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("silent_s, opens", [(0, False), (STALE_S - 5, False), (STALE_S + 5, True)])
def test_another_computers_lock_opens_after_90_seconds_of_silence(silent_s, opens, folder):
    locked_by(folder, heartbeat=time.time() - silent_s)
    if opens:
        with held(folder) as lock:
            lock.check()
    else:
        with pytest.raises(VggnbError, match="pid 4711 on elsewhere since"), held(folder):
            pass
        assert json.loads((folder / OWNER).read_text())["token"] == "t"


@pytest.mark.parametrize(
    "content",
    [None, b"", b'{"host"', b"{}", b"[]", b"3", b'{"host": null, "pid": null, "token": "t", "since": 1.0}',
     b'{"host": "a", "pid": 1, "token": "t", "since": 1e300, "heartbeat": NaN}'],
)  # fmt: skip
def test_a_lock_whose_maker_died_before_it_signed_opens_after_a_moment(content, folder, monkeypatch):
    monkeypatch.setattr(lock_module, "PATIENCE_S", 0.1)
    (folder / LOCK).mkdir()
    if content is not None:
        (folder / OWNER).write_bytes(content)
    with pytest.raises(VggnbError, match="has just begun"), held(folder):
        pass
    os.utime(folder / LOCK, (time.time() - 60, time.time() - 60))
    with held(folder):
        pass


def test_a_link_that_leads_nowhere_in_place_of_the_lock_is_told(folder, monkeypatch):
    monkeypatch.setattr(lock_module, "PATIENCE_S", 0.1)
    (folder / LOCK).symlink_to(folder / "nowhere")
    with pytest.raises(VggnbError, match="stands where this run's lock") as told, held(folder):
        pass
    assert told.value.where == str(folder / LOCK)


def test_a_heartbeat_ahead_of_the_clock_is_told_with_the_folder_to_remove(folder):
    locked_by(folder, heartbeat=time.time() + 7200)
    with pytest.raises(VggnbError, match=r"heartbeat 7[12]\d\d s ahead of this computer's clock") as told, held(folder):
        pass
    assert str(folder / LOCK) in told.value.remedy


def test_what_a_killed_takeover_left_does_not_block_for_ever(folder):
    locked_by(folder, heartbeat=time.time() - STALE_S - 1)
    guard = folder / f"{LOCK}-takeover"
    guard.mkdir()
    os.utime(guard, (time.time() - STALE_S - 1,) * 2)
    with held(folder):
        assert not guard.exists()


def test_a_takeover_in_progress_is_waited_for_and_then_told(folder, monkeypatch):
    monkeypatch.setattr(lock_module, "PATIENCE_S", 0.2)
    locked_by(folder, heartbeat=time.time() - STALE_S - 1)
    (folder / f"{LOCK}-takeover").mkdir()
    with pytest.raises(VggnbError, match="in use"), held(folder):
        pass


def test_the_heart_beats(folder, monkeypatch):
    monkeypatch.setattr(lock_module, "BEAT_S", 0.02)
    with held(folder):
        first, limit = json.loads((folder / OWNER).read_text())["heartbeat"], time.monotonic() + 120
        while json.loads((folder / OWNER).read_text())["heartbeat"] == first:
            assert time.monotonic() < limit
            time.sleep(0.01)
    assert BEAT_S * 3 <= STALE_S


def test_who_lost_the_lock_notices_and_leaves_it_alone(folder, monkeypatch):
    with held(folder) as lock:
        other = json.dumps(lock.owner | {"token": "other"})
        (folder / OWNER).write_text(other)
        with pytest.raises(VggnbError, match="taken over"):
            lock.check()
        monkeypatch.setattr(lock_module, "BEAT_S", 0)
        lock._beat()  # ends: this heart has nothing to beat for
    assert (folder / OWNER).read_text() == other  # not ours to remove


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    with pytest.raises(VggnbError) as told, held(tmp_path / "gone"):
        pass
    assert told.value.where == str(tmp_path / "gone" / LOCK)
