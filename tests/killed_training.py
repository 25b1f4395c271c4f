"""Train a small head and die: `python killed_training.py FOLDER EPOCH RENAME`.

The process kills itself at the end of an epoch, or at the nth rename of a file that it writes, whichever comes first.
"""

import os
import signal
import sys
from pathlib import Path

import keras
import small_run
from faults import inject

from vggnb.train import fit


class Killed(keras.callbacks.Callback):
    """A progress that kills the process."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run = small_run.start_small(folder)
    with inject("rename", int(sys.argv[3]), "kill", under=folder):
        fit(run, small_run.features(), progress=lambda epochs: Killed())
