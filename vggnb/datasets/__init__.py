"""Where images come from: the sample, solar cells, Kaggle, the ISIC Archive, or any address -> a dataset folder."""

from vggnb.datasets.downloads import isic, kaggle, url
from vggnb.datasets.patterns import textures
from vggnb.datasets.samples import flawed_sample, marked_sample
from vggnb.paths import sample_folder as sample
from vggnb.solar import full_results, solar_cells

__all__ = [
    "flawed_sample", "full_results", "isic", "kaggle", "marked_sample",
    "sample", "solar_cells", "textures", "url",
]  # fmt: skip
