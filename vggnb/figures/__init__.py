"""Every figure by name: data in, a `Drawing` out.

A drawing on the last line of a cell is shown, and one sentence with its numbers is printed. `drawing.image()` is
the figure as a file, `drawing.sentence` the sentence.
"""

from vggnb.figures.canvas import Drawing
from vggnb.figures.charts import (
    class_results,
    confusion_matrix,
    differences,
    metric_intervals,
    preprocessing_histograms,
    sizes_and_brightness,
)
from vggnb.figures.curves import (
    learning_curves,
    operating_point,
    precision_recall_curve,
    reliability_diagram,
    roc_curve,
    threshold_curves,
)
from vggnb.figures.diagrams import (
    heatmap_overlay,
    pipeline,
    resize_comparison,
    three_splits,
    three_squares,
    vgg16_with_head,
)
from vggnb.figures.galleries import (
    batch_grid,
    contact_sheet,
    duplicate_pairs,
    images,
    prediction_gallery,
    predictions,
    probability_bars,
)

__all__ = [
    "Drawing", "batch_grid", "class_results", "confusion_matrix", "contact_sheet", "differences",
    "duplicate_pairs", "heatmap_overlay", "images", "learning_curves", "metric_intervals", "operating_point",
    "pipeline", "precision_recall_curve", "prediction_gallery", "predictions", "preprocessing_histograms",
    "probability_bars", "reliability_diagram", "resize_comparison", "roc_curve", "sizes_and_brightness",
    "three_splits", "three_squares", "threshold_curves", "vgg16_with_head",
]  # fmt: skip
