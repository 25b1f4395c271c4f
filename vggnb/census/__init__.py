"""Every file under the dataset folder: used, or skipped (why); duplicates and leaks; and the split manifest.

- `layout`: which folder is what, by the table in `rules` (`tree`); `tables`: the same from a CSV file
- `scan`: one file, decoded and measured; a cache of scans
- `near_duplicates`: the same image in other bytes
- `rows`: one usable image; pairs of them
- `survey`: `take_census`: all of these together; `warn`: what to look at before training
- `manifest`: every image that is used, with its split, in a file
- `splits`: which image is for training, validation and test
"""

from vggnb.census.layout import read_layout
from vggnb.census.manifest import Manifest
from vggnb.census.rows import Pair, Row
from vggnb.census.splits import assign_splits, open_census, open_manifest
from vggnb.census.survey import Census, take_census

__all__ = [
    "Census",
    "Manifest",
    "Pair",
    "Row",
    "assign_splits",
    "open_census",
    "open_manifest",
    "read_layout",
    "take_census",
]
