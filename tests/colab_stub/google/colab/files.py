"""Stub of google.colab.files: what a test puts into `to_upload` is uploaded; downloads are noted, and in a file."""

import os
from pathlib import Path

to_upload: dict[str, bytes] = {}
downloads: list[str] = []


def upload(target_dir=""):
    """Write the files as the real one does, which asks first."""
    for name, data in to_upload.items():
        (Path(target_dir) / name).write_bytes(data)
    return {os.path.join(target_dir, name): data for name, data in to_upload.items()}


def download(filename):
    """The real one hands the file to the browser."""
    if not os.path.exists(filename):
        raise FileNotFoundError(filename)
    downloads.append(filename)
    if "VGGNB_STUB_DOWNLOADS" in os.environ:
        with open(os.environ["VGGNB_STUB_DOWNLOADS"], "a") as file:
            file.write(f"{filename}\n")
