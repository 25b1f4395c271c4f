"""Scores of a classifier and their uncertainty: arrays in, numbers out; no TensorFlow, no images."""

from vggnb.metrics.calibration import OperatingPoint, choose_threshold
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
from vggnb.metrics.report import Comparison, Report, compare_predictions, report_on
from vggnb.metrics.scores import LOWER_IS_BETTER, METRICS, bootstrap_auc, calibration_error, reliability

__all__ = [
    "LOWER_IS_BETTER", "METRICS", "Comparison", "Interval", "Mistake", "OperatingPoint", "Predictions", "Report",
    "bootstrap_auc", "calibration_error", "choose_threshold", "compare_predictions", "find_mistakes",
    "least_confident", "positive_class", "predicted_classes", "relabel_list", "reliability", "report_on", "wilson",
]  # fmt: skip
