"""Under `pytest --nbval`, the pages run as they were built: same profile, and a fresh home that they share.

VGGNB_THREADS and TensorFlow's own variables may be set from outside, to see whether the outputs hold on other paths.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

spec = importlib.util.spec_from_file_location("notebooks_build", Path(__file__).with_name("build.py"))
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

threads = os.environ.get("VGGNB_THREADS", build.ENVIRONMENT["VGGNB_THREADS"])
home = Path(tempfile.mkdtemp(prefix="vggnb-home-")).resolve()


def pytest_configure():
    """Set the environment that the kernels inherit."""
    environment = build.page_environment(home) | {"VGGNB_THREADS": threads}
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def pytest_unconfigure():
    """Remove the home."""
    shutil.rmtree(home, ignore_errors=True)
