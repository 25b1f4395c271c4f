"""The units in this process: the next one is decoded while the network works."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vggnb.census import Row
from vggnb.cluster.work import Answer, Job, Worker, decode
from vggnb.storage import VggnbError


class LocalEngine:
    """One worker, this process."""

    workers, lost = 1, 0

    def __init__(self, job: Job):
        self._job, self._worker = job, Worker(job)
        if not isinstance(key := self._worker.key(), str):
            raise VggnbError(*key)
        self.key = key

    def run(self, units: Iterable[tuple[Row, ...]], folder: Path) -> Iterator[Answer]:
        """Answers, in the units' order."""
        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for rows in units:
                job, ahead = ahead, pool.submit(decode, self._job, rows)
                if job:
                    yield self._worker.forward(folder, job.result())
            if ahead:
                yield self._worker.forward(folder, ahead.result())

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *_) -> None:
        pass
