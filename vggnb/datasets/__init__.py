"""Where images come from: the sample, solar cells, Kaggle, the ISIC Archive, or any address -> a dataset folder.

- `sources`: Kaggle, or any address with a checksum
- `requesting`: HTTP requests that are tried again
- `isic_archive`: the ISIC Archive's public interface
- `flawed`: the sample with faults planted in it
- `shortcut`: the sample with a sticker that gives the class away
- `patterns`: six classes that a program draws
- `made`: what a program draws is made once
"""

from vggnb.datasets.flawed import flawed_sample
from vggnb.datasets.isic_archive import isic
from vggnb.datasets.patterns import textures
from vggnb.datasets.shortcut import marked_sample
from vggnb.datasets.sources import kaggle, url
from vggnb.paths import sample_folder as sample
from vggnb.solar import solar_cells

__all__ = ["flawed_sample", "isic", "kaggle", "marked_sample", "sample", "solar_cells", "textures", "url"]
