"""Run what must be a program of its own: it kills itself, measures itself, or opens what may do harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def told_by(*words, timeout=None) -> tuple[object, str]:
    """What Python says when it runs these words: the JSON of its last line, and all that it printed."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, environment = [sys.executable, *map(str, words)], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout
