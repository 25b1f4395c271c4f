"""Where images come from: the sample, Kaggle, the ISIC Archive, or any URL -> a dataset folder."""

from pathlib import Path

from vggnb import paths


def sample() -> Path:
    """The dataset folder of generated pictures that comes with vggnb. It teaches nothing about skin."""
    return paths.sample_folder()
