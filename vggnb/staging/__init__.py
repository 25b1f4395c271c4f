"""A packed or slow dataset -> a copy on the fast local disk, with file names unchanged.

- `archives`: zip and tar, unpacked with limits, all or nothing
- `copying`: a folder of Google Drive, copied so that an interrupted copy continues; `stage_if_remote` chooses
- `kinds`: files that are not a dataset, and what to do about them
- `disk`: repeated reads, names that the local disk can hold
"""

from vggnb.staging.archives import unpack
from vggnb.staging.copying import check_apart, name_source, stage_if_remote
from vggnb.staging.kinds import is_archive

__all__ = ["check_apart", "is_archive", "name_source", "stage_if_remote", "unpack"]
