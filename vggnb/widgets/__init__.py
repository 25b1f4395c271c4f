"""Controls in a notebook: watch training, browse the dataset, move the threshold, try your own photo."""

from vggnb.widgets.controls import DatasetBrowser, ThresholdExplorer
from vggnb.widgets.training import TrainingProgress
from vggnb.widgets.uploads import TryYourOwn

__all__ = ["DatasetBrowser", "ThresholdExplorer", "TrainingProgress", "TryYourOwn"]
