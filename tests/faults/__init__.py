"""Make storage fail or the program die at any chosen moment, and try them all.

with inject("write", 3, errno.ENOSPC, under=folder) as plan: ...      # the third write below `folder` fails
for plan in every("rename", errno.EIO, under=folder): ...             # SQLite's loop: fail the 1st, 2nd, 3rd, ...
killed(function, after_s=0.02)                                        # run it in a child, SIGKILL the child
"""

from faults.kill import killed, killed_at
from faults.plan import OPERATIONS, Plan, every, inject

__all__ = ["OPERATIONS", "Plan", "every", "inject", "killed", "killed_at"]
