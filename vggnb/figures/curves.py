"""Curves: training by epoch, ROC, precision and recall, the decision threshold, reliability."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vggnb.figures import canvas
from vggnb.figures.canvas import FAINT, PALE, WIDTH, Drawing, drawing, empty, key, label, named, new_axes, styled
from vggnb.figures.charts import confusion_matrix
from vggnb.folders import counted, shown
from vggnb.metrics import calibration_error, reliability
from vggnb.metrics.scores import BINS
from vggnb.storage import VggnbError

SQUARE = (6.4, 4.8)
TRAINING = {"color": canvas.SPLIT_COLOURS["train"], "ls": "--", "lw": 1.4, "marker": "o", "mfc": "white"}
VALIDATION = {"color": canvas.SPLIT_COLOURS["validation"], "ls": "-", "lw": 2, "marker": "s"}


def _titled(name: str, text: str) -> str:
    return f"{label(name)}: {text}" if name else text


@styled
def learning_curves(history) -> Drawing:
    """Loss and accuracy by epoch: training dashed with open marks, validation solid with filled ones.

    Args:
        history: of `train.fit`, or {name: history}, which get a row each. Its rows may begin with epoch 0, the state
            before training; a head that was solved exactly has none.
    """
    runs, solved = {}, []
    for name, one in named(history).items():
        if one.rows:
            runs[name] = {column: [row[column] for row in one.rows] for column in one.rows[0]}
        else:
            solved.append(
                f"{shown(name)}: solved exactly, without epochs" if name else "Solved exactly, without epochs"
            )
    if not runs:
        return empty("; ".join(solved) + ".")
    axes = new_axes(len(runs), 2, size=(WIDTH, 0.9 + 2.7 * len(runs)), sharex=True, sharey="col")
    for row, (name, columns) in zip(axes, runs.items(), strict=True):
        for ax, number in zip(row, ("loss", "accuracy"), strict=True):
            for words, column, look in (("training", number, TRAINING), ("validation", f"val_{number}", VALIDATION)):
                if values := columns.get(column):
                    every = max(1, len(values) // 8)
                    ax.plot(columns["epoch"], values, label=words, markevery=every, ms=5, clip_on=False, **look)
            ax.set_title(_titled(name, number), parse_math=False)
            ax.grid(axis="y", color=PALE, lw=0.8)
            ax.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
    low, high = axes[0, 1].get_ylim()
    axes[0, 1].set_ylim(min(0.5, low), max(1.0, high))
    first = min(one["epoch"][0] for one in runs.values())
    axes[0, 0].set(xlim=(first - 0.4, None), ylim=(0, None))
    for ax in axes[-1]:
        ax.set_xlabel("epoch" if first else "epoch (0: before training)")
    axes[0, 0].figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    words = [*(_course(name, columns) for name, columns in runs.items()), *solved]
    return drawing([*axes.flat], "; ".join(words) + ".")


def _course(name: str, columns: dict[str, list[float]]) -> str:
    """What happened from the first epoch to the last."""
    parts = []
    for column, words in (("loss", "loss"), ("accuracy", "training accuracy"), ("val_loss", "validation loss")):
        if column in columns:
            parts.append(f"{words} {columns[column][0]:.2f} to {columns[column][-1]:.2f}")
    if values := columns.get("val_accuracy"):
        best = f"best {max(values):.2f} in epoch {columns['epoch'][int(np.argmax(values))]}"
        parts.append(f"validation accuracy {values[0]:.2f} to {values[-1]:.2f}, {best}")
    return f"{shown(name)}{': ' if name else ''}{counted(columns['epoch'][-1], 'epoch')}: {', '.join(parts)}"


def _checked(truth, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool (n,) and scores as float (n,), if the labels are of two kinds."""
    truth, scores = np.asarray(truth).astype(bool), np.asarray(scores, float)
    if truth.all() or not truth.any():
        what = f"This curve needs positive and negative images; there are {truth.sum()} and {(~truth).sum()}."
        raise VggnbError(what, "labels", "Pass labels as true for the positive class, and images of both classes.")
    return truth, scores


@styled
def roc_curve(scored, *, threshold: float = 0.5) -> Drawing:
    """Sensitivity against 1 - specificity at every threshold.

    Args:
        scored: {name: (labels, scores)}; labels bool or 0 and 1 (n,), scores (n,) larger for positive.
        threshold: where to put a filled mark on each curve.

    Raises:
        VggnbError: there are not two kinds of labels.
    """
    from sklearn import metrics as sk  # takes a second to import

    ax = new_axes(size=SQUARE)[0, 0]
    handles, labels, words = [], [], []
    for place, (name, (truth, scores)) in enumerate(scored.items()):
        truth, scores = _checked(truth, scores)
        false, true, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
        area, (colour, marker, line) = sk.auc(false, true), canvas.model_look(place, len(scored))
        handles += ax.plot(false, true, line, lw=2, color=colour)
        x, y = (float((scores[kind] >= threshold).mean()) for kind in (~truth, truth))
        ax.plot(x, y, marker, color=colour, ms=9, mec="white", clip_on=False, zorder=3)
        labels.append(_titled(name, f"AUC {area:.2f}"))
        text = f"{shown(name)} AUC {area:.2f} ({truth.sum()} positive, {(~truth).sum()} negative)".strip()
        words.append(f"{text}, at threshold {threshold:.2f} sensitivity {y:.2f}, specificity {1 - x:.2f}")
    handles += ax.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
    key(ax, handles, [*labels, "chance"], loc="lower right", handlelength=3.5)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set_title(f"ROC curve (mark: threshold {threshold:.2f})")
    ax.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    return drawing(ax, "; ".join(words) + ".")


@styled
def precision_recall_curve(truth, scores) -> Drawing:
    """Precision against recall at every threshold.

    Args:
        truth: bool or 0 and 1 (n,).
        scores: float (n,), larger for positive.
    """
    from sklearn import metrics as sk

    truth, scores = _checked(truth, scores)
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    average, share = sk.average_precision_score(truth, scores), truth.mean()
    ax, (colour, *_) = new_axes(size=SQUARE)[0, 0], canvas.model_look(0, 1)
    handles = ax.step(recall, precision, where="post", lw=2, color=colour)
    handles += [ax.axhline(share, color=FAINT, ls=":", lw=1)]
    key(ax, handles, [f"average precision {average:.2f}", f"chance {share:.2f}"], above=True, ncols=2, handlelength=3.5)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xlabel="recall (sensitivity)", ylabel="precision")
    counts = f"{truth.sum()} positive, {(~truth).sum()} negative"
    return drawing(ax, f"average precision {average:.2f}, chance {share:.2f} ({counts}).")


@styled
def threshold_curves(truth, scores, *, threshold: float = 0.5) -> Drawing:
    """How the probabilities of both classes are spread, and what moving the threshold does.

    Args:
        truth: bool or 0 and 1 (n,).
        scores: float (n,), probability of the positive class.
        threshold: the one in use; it gets a line.
    """
    truth, scores = _checked(truth, scores)
    strip, ax = new_axes(2, 1, size=(WIDTH, 4.6), sharex=True, height_ratios=(1, 2))[:, 0]
    _histograms(strip, truth, scores, threshold)
    cuts = np.unique(np.concatenate([[0, threshold, 1], scores, np.nextafter(scores, 2)]))
    at, words, handles = int(np.searchsorted(cuts, threshold)), [], []
    below = [np.searchsorted(np.sort(scores[kind]), cuts) / kind.sum() for kind in (truth, ~truth)]
    curves = {"sensitivity": (1 - below[0], "o-", canvas.POSITIVE), "specificity": (below[1], "s--", canvas.NEGATIVE)}
    for name, (values, line, colour) in curves.items():
        handles += ax.plot(cuts, values, line, color=colour, lw=2, ms=8, mec="white", markevery=[at])
        words.append(f"{name} {values[at]:.2f}")
    ax.axvline(threshold, color=FAINT, ls=":", lw=1.5)
    key(ax, handles, words, above=True, ncols=2, handlelength=3.5)
    ax.set(xlim=(0, 1), ylim=(0, 1.03), yticks=np.linspace(0, 1, 6), ylabel="share of the class\nthat is right")
    ax.set(xlabel="threshold: the positive class is predicted from this probability on")
    counts = f"{truth.sum()} positive and {(~truth).sum()} negative images"
    return drawing([ax, strip], f"At threshold {threshold:.2f}: {', '.join(words)}, on {counts}.")


def _histograms(ax: Axes, truth: np.ndarray, scores: np.ndarray, threshold: float, **text) -> None:
    """Of the positive class's probability, of the images of either class; a line at the threshold."""
    handles, edges = [], np.linspace(0, 1, 21)
    for kind, colour, hatch in ((~truth, canvas.NEGATIVE, ""), (truth, canvas.POSITIVE, "///")):
        look = {"fc": (colour, 0.35), "ec": colour, "lw": 1.5, "hatch": hatch, "fill": True}
        handles.append(ax.stairs(np.histogram(scores[kind], edges)[0], edges, **look))
    handles.append(ax.axvline(threshold, color=FAINT, ls=":", lw=1.5))
    words = [f"negative ({(~truth).sum()})", f"positive ({truth.sum()})", f"threshold {threshold:.2f}"]
    key(ax, handles, words, above=True, columnspacing=1.2, **{"ncols": 3, **text})
    ax.set(xlim=(0, 1), ylabel="images", xlabel="")


@styled
def operating_point(report, scored, *, threshold: float) -> Drawing:
    """The confusion matrix at a threshold and, beside it, the probabilities of both classes and the threshold.

    Args:
        report: anything with `confusion`, int (2, 2), and `classes`.
        scored: labels (bool) and scores (float) of the images, (n,) each.
    """
    left, right = new_axes(1, 2, size=(WIDTH, 3.6))[0]
    sentence = confusion_matrix(report, ax=left).sentence
    _histograms(right, *map(np.asarray, scored), threshold, fontsize=9, ncols=2)
    right.set_xlabel("probability of the positive class")
    return drawing((left, right), sentence)


@styled
def reliability_diagram(predictions) -> Drawing:
    """Confidence against accuracy, bin by bin, and below it how many images are in each bin.

    Args:
        predictions: anything with `labels` (n,) and `probabilities` (n, classes), or {name: one of these}.
    """
    several = named(predictions)
    ax, strip = new_axes(2, 1, size=(6.4, 5.6), sharex=True, height_ratios=(4, 1.1))[:, 0]
    handles, labels = ax.plot([0, 1], [0, 1], color=FAINT, ls=":"), ["perfectly calibrated"]
    words, lowest, most = [], 0.5, 0
    for place, (name, one) in enumerate(several.items()):
        confidence, accuracy, count = reliability(one.labels, one.probabilities)
        error = float(calibration_error(one.labels, one.probabilities)[0])
        colour, marker, line = canvas.model_look(place, len(several))
        handles += ax.plot(confidence, accuracy, marker + line, color=colour, lw=1.5, ms=8, mec="white")
        labels.append(_titled(name, f"calibration error {error:.2f}"))
        width = 0.8 / BINS / len(several)
        bins = (np.minimum(np.floor(confidence * BINS), BINS - 1) + 0.5) / BINS
        bins += width * (place - (len(several) - 1) / 2)
        strip.bar_label(strip.bar(bins, count, width * 0.9, color=colour), fontsize=9, padding=1)
        means = [np.average(values, weights=count) for values in (confidence, accuracy)]
        text = f"mean confidence {means[0]:.2f}, accuracy {means[1]:.2f} ({counted(int(count.sum()), 'image')})"
        words.append(f"{shown(name)} calibration error {error:.2f}, {text}".strip())
        lowest, most = min(lowest, np.floor(confidence.min() * BINS) / BINS), max(most, count.max())
    key(ax, handles, labels, above=True, handlelength=3.5)
    ax.set(xlim=(lowest - 0.01, 1.01), ylim=(-0.02, 1.03), yticks=np.linspace(0, 1, 6), ylabel="accuracy")
    strip.set(xlabel="confidence: probability of the predicted class", ylabel="images", ylim=(0, 1.35 * most))
    strip.set_yticks([])
    return drawing([ax, strip], "; ".join(words) + ".")
