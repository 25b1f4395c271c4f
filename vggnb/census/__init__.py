"""Every file under the dataset folder: used, or skipped (why); duplicates and leaks; and the split manifest.

- `rules`, `layout`: which folder is what; `tables`: the same from a CSV file
- `scan`: one file, decoded and measured; `near_duplicates`: the same image in other bytes
- `survey`: `take_census`: all of these together, and what to look at before training
- `splits`: which image is for training, validation and test; `manifest`: every image that is used, in a file
"""

from vggnb.census.layout import read_layout
from vggnb.census.manifest import Manifest, Row
from vggnb.census.near_duplicates import Pair
from vggnb.census.splits import assign_splits, open_census, open_manifest
from vggnb.census.survey import Census, take_census

__all__ = [
    "Census", "Manifest", "Pair", "Row", "assign_splits", "open_census", "open_manifest", "read_layout", "take_census",
]  # fmt: skip
