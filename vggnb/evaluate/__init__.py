"""Probabilities -> judgement: each number with its 95 % interval, beside what guessing would get.

- `predictions`: what a model said about labelled images, asked once and kept
- `intervals`: how far a number may be off
- `metrics`: every number of a judgement
- `judgement`: `judge`, `judge_folder`: the report of a run on its test images, or on another folder
- `operating`: from which probability on the positive class is said, chosen on validation
- `compare`: two models on the same images
- `mistakes`: what a model got wrong, and a list of labels to look at again
"""

from vggnb.evaluate.compare import Comparison, compare
from vggnb.evaluate.intervals import Interval, bootstrap_weights, wilson
from vggnb.evaluate.judgement import Report, judge, judge_folder, judge_predictions
from vggnb.evaluate.metrics import positive_class, weighted_auc, weighted_ece
from vggnb.evaluate.mistakes import (
    Mistake,
    confused_pairs,
    find_mistakes,
    least_certain,
    relabel_list,
)
from vggnb.evaluate.operating import OperatingPoint, choose_threshold
from vggnb.evaluate.predictions import Predictions, predict_rows, predict_split

__all__ = [
    "Comparison",
    "Interval",
    "Mistake",
    "OperatingPoint",
    "Predictions",
    "Report",
    "bootstrap_weights",
    "choose_threshold",
    "compare",
    "confused_pairs",
    "find_mistakes",
    "judge",
    "judge_folder",
    "judge_predictions",
    "least_certain",
    "positive_class",
    "predict_rows",
    "predict_split",
    "relabel_list",
    "weighted_auc",
    "weighted_ece",
    "wilson",
]
