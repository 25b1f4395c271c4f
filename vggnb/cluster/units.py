"""The rows of a manifest, a unit at a time: what is missing in the store, each picture once, never all in memory."""

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path

from vggnb.census import Row

UNIT_ROWS = 256  # at most; eight batches of 32, as in a shard of the local store


def is_manifest(path: Path) -> bool:
    """Whether a file begins as a manifest does; a table of a user's own does not."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(20).startswith(b'# {"vggnb_manifest')
    return False


class Index:
    """Which pictures the store has or will have; on the disk, so that ten million need no memory."""

    def __init__(self, folder: Path):
        self._base = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
        for order in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -32000"):
            self._base.execute(f"PRAGMA {order}")
        self._base.execute("CREATE TABLE pictures (sha256 BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def add(self, sha256: str) -> bool:
        """Add a picture; whether it is new."""
        return bool(self._base.execute("INSERT OR IGNORE INTO pictures VALUES (?)", [bytes.fromhex(sha256)]).rowcount)

    def forget(self, sha256: str) -> None:
        """The picture will not come, at least not from this file."""
        self._base.execute("DELETE FROM pictures WHERE sha256 = ?", [bytes.fromhex(sha256)])

    def __contains__(self, sha256: str) -> bool:
        found = self._base.execute("SELECT 1 FROM pictures WHERE sha256 = ?", [bytes.fromhex(sha256)])
        return found.fetchone() is not None

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()


class Missing:
    """The missing rows, spooled to a temporary file so that their number is known before the first unit is made.

    Attributes:
        count: how many.
    """

    def __init__(self, rows: Iterable[Row]):
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")
        self.count = 0
        try:
            for row in rows:
                self._file.write(json.dumps(astuple(row)) + "\n")
                self.count += 1
        except BaseException:  # the manifest cannot be read to its end
            self.close()
            raise

    def units(self, most: int = UNIT_ROWS) -> Iterator[tuple[Row, ...]]:
        """The rows in as few units as there must be; their sizes differ by one at most."""
        number = -(-self.count // most)
        self._file.seek(0)
        for k in range(number):
            size = self.count * (k + 1) // number - self.count * k // number
            yield tuple(Row(*json.loads(self._file.readline())) for _ in range(size))

    def close(self) -> None:
        """The file vanishes."""
        self._file.close()
