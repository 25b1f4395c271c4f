"""Verdicts kept in one sqlite3 file, so that a second census opens only the files that changed."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from vggnb.census import verdicts
from vggnb.census.verdicts import Verdict
from vggnb.folders import shown


class VerdictCache:
    """Verdicts by (absolute path, size, mtime_ns, version) in one sqlite3 file; without a file it keeps nothing.

    A damaged or locked file never stops a census: `trouble` says in words that everything was looked at anew.
    """

    def __init__(self, file: Path | None):
        self.trouble = ""
        self._file, self._base, self._added = file, None, 0

    def __enter__(self) -> "VerdictCache":
        if self._file is not None:
            columns = ", ".join(("path BLOB PRIMARY KEY", "size", "mtime_ns", "version", *Verdict.__slots__))
            with self._troubles():
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._base = sqlite3.connect(self._file, timeout=10)
                self._base.execute(f"CREATE TABLE IF NOT EXISTS verdicts ({columns})")
        return self

    def __exit__(self, *_) -> None:
        if self._base is not None:
            with self._troubles():
                self._base.commit()
        if self._base is not None:
            self._base.close()

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        """Go on without the file after the first thing that it does not do."""
        try:
            yield
        except (sqlite3.Error, OSError, TypeError) as error:
            remedy = "Every file was looked at anew. Delete it, or name another place."
            self.trouble = f"The census cache {shown(str(self._file))} cannot be used ({error}). {remedy}"
            if self._base is not None:
                self._base.close()
            self._base = None

    def find(self, path: Path) -> Verdict | None:
        """The kept verdict on a file, if the file is unchanged."""
        if self._base is None:
            return None
        with self._troubles():
            query = "SELECT * FROM verdicts WHERE path = ? AND size = ? AND mtime_ns = ? AND version = ?"
            row = self._base.execute(query, (os.fsencode(path), *verdicts.stamp(path), verdicts.VERSION)).fetchone()
            return None if row is None else Verdict(*row[4:])

    def keep(self, path: Path, stamp: tuple[int, int], verdict: Verdict) -> Verdict:
        """Keep a verdict, unless the file could not be read, which may pass."""
        if self._base is not None and verdict.sha256:
            with self._troubles():
                values = (os.fsencode(path), *stamp, verdicts.VERSION, *astuple(verdict))
                self._base.execute(f"INSERT OR REPLACE INTO verdicts VALUES ({', '.join('?' * len(values))})", values)
                self._added += 1
                if self._added % 200 == 0:
                    self._base.commit()
        return verdict
