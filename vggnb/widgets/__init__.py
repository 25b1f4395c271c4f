"""Controls in a notebook: browse the dataset, look at batches, watch training, move the threshold, try a photo."""

from vggnb.widgets.batches import BatchPreview
from vggnb.widgets.controls import DatasetBrowser, ThresholdExplorer
from vggnb.widgets.training import TrainingProgress
from vggnb.widgets.uploads import TryYourOwn

__all__ = ["BatchPreview", "DatasetBrowser", "ThresholdExplorer", "TrainingProgress", "TryYourOwn"]
