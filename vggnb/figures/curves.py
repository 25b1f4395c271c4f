"""Figures of probabilities: ROC and precision-recall curves, thresholds, the reliability diagram, differences."""

import numpy as np
from matplotlib.axes import Axes

from vggnb.figures.canvas import (
    BLUE,
    FAINT,
    LINES,
    VERMILION,
    WIDTH,
    Drawing,
    cue,
    drawing,
    key,
    label,
    named,
    new_axes,
    styled,
)
from vggnb.folders import shown
from vggnb.metrics import LOWER_IS_BETTER, METRICS, calibration_error, reliability
from vggnb.storage import VggnbError


@styled
def roc_curve(scored, *, threshold: float | None = 0.5, ax: Axes | None = None) -> Drawing:
    """Sensitivity against 1 - specificity at every threshold.

    Args:
        scored: {name: (labels, scores)}; labels bool or 0 and 1 (n,), scores (n,) larger for positive.
        threshold: where to put a filled mark on each curve; None for nowhere.

    Raises:
        VggnbError: labels are not of two kinds.
    """
    from sklearn import metrics as sk  # takes a second to import

    ax = new_axes(ax, size=(6.4, 4.8))
    ax.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
    ax.text(0.52, 0.49, "chance", color=FAINT, fontsize=10, rotation=45, rotation_mode="anchor", va="top")
    handles, labels, words = [], [], []
    for index, (name, (truth, scores)) in enumerate(scored.items()):
        truth, scores = checked_scores(truth, scores)
        false, true, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
        area, colour = sk.auc(false, true), cue(index)["color"]
        handles += ax.plot(false, true, lw=2, ls=LINES[index % len(LINES)], color=colour)
        text = f"{shown(name)} AUC {area:.2f} ({truth.sum()} positive, {(~truth).sum()} negative)"
        if threshold is not None:
            x, y = (float((scores[kind] >= threshold).mean()) for kind in (~truth, truth))
            ax.plot(x, y, ms=9, mec="white", clip_on=False, zorder=3, **cue(index))
            text += f", at threshold {threshold:.2f} sensitivity {y:.2f}, specificity {1 - x:.2f}"
        labels.append(f"{label(name)}  AUC {area:.2f}")
        words.append(text)
    key(ax, handles, labels, loc="lower right", handlelength=3.5)
    mark = "" if threshold is None else f" (mark: threshold {threshold:.2f})"
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=f"ROC curve{mark}")
    ax.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)")
    return drawing(ax, "; ".join(words) + ".")


def checked_scores(truth, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool (n,) and scores as float (n,).

    Raises:
        VggnbError: labels are not of two kinds.
    """
    truth, scores = np.asarray(truth).astype(bool), np.asarray(scores, float)
    if truth.all() or not truth.any():
        what = f"This curve needs positive and negative images; here are {truth.sum()} and {(~truth).sum()}."
        raise VggnbError(what, "labels", "Pass labels as true for the positive class, and images of both classes.")
    return truth, scores


@styled
def precision_recall_curve(scored) -> Drawing:
    """Precision against recall at every threshold.

    Args:
        scored: as for `roc_curve`.
    """
    from sklearn import metrics as sk

    ax = new_axes(size=(6.4, 4.8))
    handles, labels, words = [], [], []
    for index, (name, (truth, scores)) in enumerate(scored.items()):
        truth, scores = checked_scores(truth, scores)
        precision, recall, _ = sk.precision_recall_curve(truth, scores)
        average, share = sk.average_precision_score(truth, scores), truth.mean()
        look = {"ls": LINES[index % len(LINES)], "color": cue(index)["color"]}
        handles += ax.step(recall, precision, where="post", lw=2, **look)
        ax.axhline(share, color=FAINT, ls=":", lw=1)
        ax.text(0.02, share, f"chance: {share:.2f}", color=FAINT, fontsize=10, va="bottom")
        labels.append(f"{label(name)}  average precision {average:.2f}".strip())
        counts = f"{truth.sum()} positive, {(~truth).sum()} negative"
        words.append(f"{shown(name)} average precision {average:.2f}, chance {share:.2f} ({counts})".strip())
    key(ax, handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=3.5, borderaxespad=0)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xlabel="recall (sensitivity)", ylabel="precision")
    return drawing(ax, "; ".join(words) + ".")


@styled
def threshold_curves(truth, scores, *, threshold: float = 0.5) -> Drawing:
    """What moving the threshold does: sensitivity falls, specificity rises.

    Args:
        truth: bool or 0 and 1 (n,). scores: (n,), probability of the positive class.
        threshold: the one in use; it gets a line.
    """
    truth, scores = checked_scores(truth, scores)
    ax = new_axes(size=(WIDTH, 4.0))
    cuts = np.unique(np.concatenate([[0, threshold, 1], scores, np.nextafter(scores, 2)]))
    curves = {
        "sensitivity": [(scores[truth] >= cut).mean() for cut in cuts],
        "specificity": [(scores[~truth] < cut).mean() for cut in cuts],
    }
    at, words = int(np.searchsorted(cuts, threshold)), []
    looks = zip((VERMILION, BLUE), ("-", "--"), ("left", "right"), strict=True)
    for (name, values), (colour, line, side) in zip(curves.items(), looks, strict=True):
        ax.plot(cuts, values, color=colour, ls=line, lw=2)
        x, y = (0.01, 1.02) if side == "left" else (0.99, 1.02)
        ax.text(x, y, name, color=colour, ha=side, va="bottom", fontsize=11)
        ax.plot(threshold, values[at], "o" if side == "left" else "s", color=colour, ms=8, mec="white", zorder=3)
        words.append(f"{name} {values[at]:.2f}")
    ax.axvline(threshold, color=FAINT, ls=":", lw=1.5)
    ax.text(threshold, 0.02, f" threshold {threshold:.2f}: {', '.join(words)} ", fontsize=10,
            ha="left" if threshold < 0.5 else "right")  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1.1), yticks=np.linspace(0, 1, 6), ylabel="share of the class that is right")
    ax.set(xlabel="threshold: the positive class is predicted from this probability on")
    counts = f"{truth.sum()} positive and {(~truth).sum()} negative images"
    return drawing(ax, f"At threshold {threshold:.2f}: {', '.join(words)}, on {counts}.")


@styled
def differences(comparison, *, names: tuple[str, str] = ("first", "second")) -> Drawing:
    """Second minus first for every metric, with its interval: one that holds 0 is not significant.

    Args:
        comparison: what `evaluate.compare` gave.
        names: of the two models.
    """
    values, words = comparison.differences, []
    ax = new_axes(size=(WIDTH, 1.3 + 0.42 * len(values)))
    for row, (metric, one) in enumerate(values.items()):
        significant = one.low > 0 or one.high < 0
        look = {"color": VERMILION if significant else BLUE}
        ax.plot([one.low, one.high], [row, row], lw=2.5, solid_capstyle="butt", **look)
        ax.plot(one.value, row, "D" if significant else "o", ms=8, mec="white", **look)
        text = f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
        verdict = "significant" if significant else "not significant"
        ax.text(1.03, row, f"{text}\n{verdict}", transform=ax.get_yaxis_transform(), va="center", fontsize=9, **look)
        words.append(f"{METRICS[metric]} {text}, {verdict}")
    ax.axvline(0, color=FAINT, ls=":", lw=1.5)
    ticks = [f"{METRICS[m]}\n(lower is better)" if m in LOWER_IS_BETTER else METRICS[m] for m in values]
    ax.set_yticks(range(len(values)), ticks)
    reach = max(max(abs(one.low), abs(one.high)) for one in values.values()) * 1.1
    first, second = (label(name) for name in names)
    ax.set(xlim=(-reach, reach), ylim=(len(values) - 0.4, -0.6))
    ax.set_xlabel(f"{second} minus {first}, with 95 % interval", parse_math=False)
    text = f"{shown(names[1])} minus {shown(names[0])} on {comparison.n} images: {'; '.join(words)}."
    return drawing(ax, text)


@styled
def reliability_diagram(predictions, *, ax: Axes | None = None) -> Drawing:
    """Confidence against accuracy, bin by bin, with the number of images in each.

    Args:
        predictions: anything with `labels` (n,) and `probabilities` (n, classes), or {name: one of these}.
    """
    ax = new_axes(ax, size=(6.4, 4.8))
    handles, labels = ax.plot([0, 1], [0, 1], color=FAINT, ls=":"), ["perfectly calibrated"]
    words, lowest = [], 1.0
    for index, (name, one) in enumerate(named(predictions).items()):
        confidence, share, count = reliability(one.labels, one.probabilities)
        error, look = float(calibration_error(one.labels, one.probabilities)[0]), cue(index)
        handles += ax.plot(confidence, share, lw=1.2, ms=6, ls=LINES[index % len(LINES)], **look)
        ax.scatter(confidence, share, s=60 + 300 * count / count.sum(), edgecolor="white", alpha=0.9, zorder=3, **look)
        row = -0.08 * (index + 1)  # under the axis: how many images each mark stands for
        ax.text(1.04, row, "images", va="center", fontsize=9, color=look["color"])
        for x, n in zip(confidence, count, strict=True):
            ax.text(x, row, str(n), ha="center", va="center", fontsize=9, color=look["color"])
        labels.append(f"{label(name)}  calibration error {error:.2f}".strip())
        marks = zip(confidence, share, count, strict=True)
        steps = ", ".join(f"confidence {x:.2f}, accuracy {y:.2f} (n={n})" for x, y, n in marks)
        words.append(f"{shown(name)} calibration error {error:.2f} over {count.sum()} images: {steps}".strip())
        lowest = min(lowest, float(confidence.min()))
    ax.axhline(0, color=FAINT, lw=0.8)
    key(ax, handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=3.5, borderaxespad=0)
    ax.set(xlim=(lowest - 0.04, 1.02), ylim=(-0.08 * (len(handles) - 0.4), 1.05), yticks=np.linspace(0, 1, 6))
    ax.set(xlabel="confidence: probability of the predicted class", ylabel="accuracy")
    return drawing(ax, "; ".join(words) + ".")
