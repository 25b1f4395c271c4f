"""Every file under the dataset folder, judged: used, skipped (why), twice, leaking; and the split manifest.

- `layout`: which folder is what, or `tables`: which line of a CSV
- `verdicts`: one file, opened and judged; `verdict_store` remembers it
- `twins`: the same picture in other bytes
- `rows`: one usable picture; pairs of them
- `survey`: `take_census`: all of these together
- `manifest`: every image that is used, with its split, in a file
- `splits`: which picture is for training, which for choosing, which for judging
"""

from vggnb.census.layout import read_layout
from vggnb.census.manifest import Manifest
from vggnb.census.rows import Pair, Row
from vggnb.census.splits import assign_splits, open_manifest
from vggnb.census.survey import Census, take_census

__all__ = ["Census", "Manifest", "Pair", "Row", "assign_splits", "open_manifest", "read_layout", "take_census"]
