"""`python -m vggnb` is the command `vggnb`."""

import sys

from vggnb.cli import main

if __name__ == "__main__":
    sys.exit(main())
