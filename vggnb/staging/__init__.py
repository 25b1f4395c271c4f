"""A dataset on the fast local disk: one archive copied and unpacked, or a copy that resumes and is verified.

- `archives`: zip and tar, unpacked with limits, all or nothing; `listing` decides what an archive may hold
- `reading`: reads with a deadline and retries
- `strip`: pictures without EXIF and GPS, pixel for pixel the same
- `copying`: the copy, `stage`; `near_copy` makes it only where it is needed
- `staged`: which staged file came from which
"""

from vggnb.staging.archives import extract, is_archive
from vggnb.staging.copying import near_copy, stage
from vggnb.staging.staged import check_apart, staged_files

__all__ = ["check_apart", "extract", "is_archive", "near_copy", "stage", "staged_files"]
