"""Controls in a notebook: browse images, preview batches, watch training, move the threshold, try your own images."""

from vggnb.widgets.controls import Panel, TrainingProgress, batch_preview, dataset_browser, threshold_explorer
from vggnb.widgets.uploads import try_your_own

__all__ = ["Panel", "TrainingProgress", "batch_preview", "dataset_browser", "threshold_explorer", "try_your_own"]
