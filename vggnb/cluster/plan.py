"""How long an archive takes and what it needs: arithmetic, to be done before anybody asks for machines."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggnb.census import Row
from vggnb.folders import duration
from vggnb.images import read_image

GFLOP = 30.7  # of an image of 224 pixels: the 13 convolutions; benchmarks/forward.py counts them
RAY_SHARE = 0.9  # of what the same cores do without Ray; benchmarks/cluster.py measured 0.92
DRIVER_ROWS_PER_S = 20_000  # that one driver can hand out and note; benchmarks/cluster.py --scale
BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))


@dataclass(frozen=True)
class Speed:
    """Images of 224 pixels a second, and whether somebody measured that or it is assumed."""

    where: str
    images_per_s: float
    measured: bool = False

    def times(self, workers: int, where: str) -> "Speed":
        """So many of them as a cluster, Ray's share taken off; nobody measured that."""
        return replace(self, where=where, images_per_s=RAY_SHARE * workers * self.images_per_s, measured=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.images_per_s:.1f} images/s, {'measured' if self.measured else 'assumed'}"


def on_paper(where: str, tflops: float, *, used: float = 0.5) -> Speed:
    """What a card does that reaches a share of the float32 operations a second (in 10^12) that its maker names."""
    return Speed(where, used * tflops * 1000 / GFLOP)


@dataclass(frozen=True)
class Plan:
    """What it takes to fill the store for an archive.

    Attributes:
        picture_bytes: of a file, on average.
        record_bytes: of an image in the store.
    """

    archive: str
    images: int
    speed: Speed
    record_bytes: int
    picture_bytes: float = 0.3e6

    @property
    def seconds(self) -> float:
        """For all images."""
        return self.images / self.speed.images_per_s

    @property
    def store_bytes(self) -> int:
        """Of all features."""
        return self.images * self.record_bytes

    @property
    def read_bytes_per_s(self) -> float:
        """What the storage must give all the time, or the network waits."""
        return self.picture_bytes * self.speed.images_per_s

    def __str__(self) -> str:
        known = "measured" if self.speed.measured else "assumed"
        rate = f"{self.speed.images_per_s:.1f} images/s"
        return f"{self.archive:<16} {self.speed.where:<24} {known:<9}{rate:>16} {duration(self.seconds):>12}"


def size(count: float) -> str:
    """Bytes as people say them: '118 GB'."""
    one, unit = next((one, unit) for one, unit in BYTES if count >= one or one == 1)
    number = count / one
    return f"{number:.{int(number < 10 and one > 1)}f} {unit}"


def decoding_speed(dataset: Path, rows: Sequence[Row]) -> float:
    """Pictures a second that one core reads, decodes and makes 224 pixels wide and high, measured on these."""
    start = time.perf_counter()
    for row in rows:
        read_image(dataset / row.path, size=224)
    return len(rows) / (time.perf_counter() - start)
