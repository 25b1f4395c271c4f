"""The units on the machines of a Ray cluster: a network for each machine or GPU, whatever dies meanwhile.

The queue of units stays here, not with the workers. A worker that dies takes nothing with it: its units go to another
one, less the pictures whose shards had arrived. (Handed to Ray's own restarting actors, a unit would wait for a
machine that may never come back.) Decoding is a plain Ray task, which Ray itself repeats where it must.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vggnb.census import Row
from vggnb.cluster.machines import (
    SAME_PATH,
    RayError,
    RayTaskError,
    check_machines,
    connect,
    gpus_each,
    pinned,
    ray,
)
from vggnb.cluster.work import Answer, Job, Worker, decode
from vggnb.shards import whole_shards
from vggnb.storage import VggnbError

AHEAD = 2  # units a worker holds: one at work, one being decoded
TRIES = 3  # deaths that a unit, or a machine, may cause before it is held to be the reason
PATIENCE_S = 60.0  # without any worker, before giving up; a machine may be coming back
LOOK_S = 1.0  # between two looks at which machines there are


@dataclass
class _Place:
    """A worker: its machine, its actor, and the units that it has."""

    node: str
    actor: object
    units: list[tuple[Row, ...]] = field(default_factory=list)
    ready: bool = False


class RayEngine:
    """Workers on a cluster.

    Attributes:
        workers: at work now.
        lost: died so far.
    """

    def __init__(self, job: Job, store: Path, *, address: str | None = None, gpus_per_worker: int | None = None):
        self._job, self._places, self._waiting = job, [], {}
        self._decode = ray.remote(num_cpus=1)(decode)
        self.lost, self.key = 0, None
        self._deaths: Counter[str] = Counter()
        self._tried: Counter[str] = Counter()
        self._last = "no machine with the asked resources"
        self._looked, self._alone_since = 0.0, time.monotonic()
        self._ours = not ray.is_initialized()
        if self._ours:
            connect(address)
        try:
            self._gpus = gpus_each(gpus_per_worker)
            check_machines(store, job.dataset)
            while self.key is None:
                self._look()
                list(self._collect())
        except BaseException:
            self.__exit__()
            raise

    @property
    def workers(self) -> int:
        """Workers that are ready."""
        return sum(place.ready for place in self._places)

    def run(self, units: Iterable[tuple[Row, ...]], folder: Path) -> Iterator[Answer]:
        """Answers, in the order in which they come."""
        self._folder, self._again = folder, deque()
        self._told = {path.name for path in folder.glob("[!.]*.npy")}
        self._units = iter(units)
        while True:
            self._look()
            self._hand_out()
            if not any(place.units for place in self._places) and not self._again:
                if (unit := next(self._units, None)) is None:
                    return
                self._again.append(unit)
                self._hand_out()
            yield from self._collect()

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_) -> None:
        for place in self._places:
            ray.kill(place.actor)
        self._places = []
        if self._ours:
            ray.shutdown()

    def _look(self) -> None:
        """Start workers on machines that have none yet."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        alive = [node for node in ray.nodes() if node["Alive"]]
        for node in alive:
            name = node["NodeID"]
            if not self._gave_up(node):
                have = sum(place.node == name for place in self._places)
                for _ in range(have, self._room(node["Resources"])):
                    self._start(name, node["Resources"])
        if self._places:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > PATIENCE_S or any(self._gave_up(node) for node in alive):
            remedy = "Look at that machine's memory and at Ray's logs; what was finished is kept, run this again."
            raise VggnbError(f"No worker is left ({self._last}).", "the Ray cluster", remedy)

    def _gave_up(self, node: dict) -> bool:
        return self._deaths[node["NodeID"]] >= TRIES

    def _room(self, resources: dict) -> int:
        """How many workers a machine takes."""
        return int(resources.get("GPU", 0) // self._gpus) if self._gpus else int(resources.get("CPU", 0) >= 1)

    def _start(self, node: str, resources: dict) -> None:
        # A worker counts as no CPU: it is pinned, and the tasks that decode for it need the CPUs that Ray counts.
        options = {"num_cpus": 0, "num_gpus": self._gpus, "max_restarts": 0, "scheduling_strategy": pinned(node)}
        threads = None if self._gpus else int(resources["CPU"])
        place = _Place(node, ray.remote(Worker).options(**options).remote(self._job, threads))
        self._places.append(place)
        self._waiting[place.actor.key.remote()] = place, None

    def _hand_out(self) -> None:
        """Give every worker as many units as it may hold; the emptiest first."""
        for held in range(AHEAD):
            for place in self._places:
                if place.ready and len(place.units) <= held:
                    unit = next(self._units, None)  # a unit that may have killed a worker waits for the others
                    if unit is None and not self._again:
                        return
                    unit = unit or self._again.popleft()
                    self._hand(place, unit)

    def _hand(self, place: _Place, unit: tuple[Row, ...]) -> None:
        pixels = self._decode.options(scheduling_strategy=pinned(place.node, soft=True)).remote(self._job, unit)
        place.units.append(unit)
        self._waiting[place.actor.forward.remote(self._folder, pixels)] = place, unit

    def _collect(self) -> Iterator[Answer]:
        """What came back within a moment."""
        if not self._waiting:
            time.sleep(0.05)
            return
        done, _ = ray.wait(list(self._waiting), timeout=LOOK_S)
        for ref in done:  # one at most
            yield from self._took(ref)

    def _took(self, ref) -> list[Answer]:
        place, unit = self._waiting.pop(ref)
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            remedy = "The last lines say what; what was finished is kept, run this again."
            raise VggnbError(f"A worker failed:\n{str(error)[-2000:]}", place.node, remedy) from None
        except RayError as error:
            return self._lost(place, error)
        if unit is None:
            return self._is_ready(place, answer)
        if answer.shards and not (self._folder / answer.shards[0]).exists():  # of a machine that joined later, for one
            raise VggnbError("A machine's shards do not arrive in the store.", f"machine {place.node[:12]}", SAME_PATH)
        place.units.remove(unit)
        self._deaths[place.node] = 0
        self._told.update(answer.shards)
        return [answer]

    def _is_ready(self, place: _Place, key) -> list[Answer]:
        if not isinstance(key, str):
            raise VggnbError(*key)
        if self.key not in (None, key):
            what = "The workers' networks differ: not all have the same weights, or decode alike."
            remedy = "Give all machines the same weights (--weights) and the same vggnb, then run this again."
            raise VggnbError(what, f"machine {place.node[:12]}: {key}, another one: {self.key}", remedy)
        self.key, place.ready = key, True
        return []

    def _lost(self, place: _Place, error: Exception) -> list[Answer]:
        """A worker, or a unit's pixels, are gone: what it had arrived or goes back to the queue."""
        self._last = str(error).strip().splitlines()[0]
        self.lost += 1
        self._deaths[place.node] += 1
        self._places.remove(place)
        self._waiting = {ref: (of, unit) for ref, (of, unit) in self._waiting.items() if of is not place}
        ray.kill(place.actor)
        self._looked = 0.0
        answers = []
        for unit in place.units:
            answer, rest = self._arrived(unit)
            answers += [answer] * bool(answer.forwarded)
            if rest:
                self._again.append(rest)
        if place.units:
            self._blame(place.units[0])
        return answers

    def _arrived(self, unit: tuple[Row, ...]) -> tuple[Answer, tuple[Row, ...]]:
        """What of a lost unit was written before the end, and the rows that were not."""
        wanted, names, there = {row.sha256 for row in unit}, [], set()
        for shard in whole_shards(self._folder, but=self._told):
            if wanted.issuperset(images := shard.images()):
                names.append(shard.path.name)
                there.update(images)
        self._told.update(names)
        return Answer(len(there), tuple(names)), tuple(row for row in unit if row.sha256 not in there)

    def _blame(self, unit: tuple[Row, ...]) -> None:
        """A unit that was at work in too many deaths is told, not tried for ever."""
        self._tried[unit[0].sha256] += 1
        if self._tried[unit[0].sha256] >= TRIES:
            remedy = "Is the machine's memory too small? Else leave these pictures out, then run this again."
            where = f"{self._job.dataset}: {unit[0].path} and {len(unit) - 1} more"
            raise VggnbError(f"{TRIES} workers died at the same pictures ({self._last}).", where, remedy)
