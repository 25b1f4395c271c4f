"""Scores of a classifier and their uncertainty: arrays in, numbers out; no TensorFlow, no images.

- `predictions`: probabilities for labelled images; mistakes among them
- `intervals`: 95 % intervals: Wilson, bootstrap, both with groups
- `scores`: every metric, its baseline, the one calibration error
- `threshold`: the decision threshold, chosen on validation images
- `comparison`: two models on the same images
- `report`: all of these together
- `temperature`: temperature scaling
- `ood`: out-of-distribution images
"""

from vggnb.metrics.comparison import Comparison, compare_predictions
from vggnb.metrics.intervals import Interval, wilson
from vggnb.metrics.predictions import (
    Mistake,
    Predictions,
    find_mistakes,
    least_confident,
    positive_class,
    predicted_classes,
    relabel_list,
)
from vggnb.metrics.report import Report, report_on
from vggnb.metrics.scores import LOWER_IS_BETTER, METRICS, bootstrap_auc, calibration_error, reliability
from vggnb.metrics.threshold import OperatingPoint, choose_threshold

__all__ = [
    "LOWER_IS_BETTER", "METRICS", "Comparison", "Interval", "Mistake", "OperatingPoint", "Predictions", "Report",
    "bootstrap_auc", "calibration_error", "choose_threshold", "compare_predictions", "find_mistakes",
    "least_confident", "positive_class", "predicted_classes", "relabel_list", "reliability", "report_on", "wilson",
]  # fmt: skip
