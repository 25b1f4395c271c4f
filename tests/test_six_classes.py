"""Figures of six classes can be read: no words lie on others or leave the picture, and the words are the numbers."""

import itertools
import math
from types import SimpleNamespace as Thing

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vggnb import figures
from vggnb.metrics import Predictions, report_on
from vggnb.predict import Prediction

SHORT = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
LONG = tuple(f"{name} from the street, washed" for name in SHORT)
CLASSES = pytest.mark.parametrize("classes", [SHORT, LONG], ids=["short", "long"])


def report_of(classes):
    """A report on 90 images of six classes, of which the last two are often taken for each other."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 15)
    scores = random.normal(size=(90, 6)) + 2.5 * np.eye(6)[labels]
    scores[labels == 5, 4] += 2.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return report_on(Predictions(tuple(map(str, range(90))), labels, probabilities), classes, draws=20)


def words_of(drawing):
    """Every visible text of a figure with its box in pixels, and whether it is turned."""
    canvas = FigureCanvasAgg(drawing.figure)
    canvas.draw()
    renderer, found = canvas.get_renderer(), []
    for ax in drawing.axes:
        some = [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        if ax.axison:
            some += [*ax.get_xticklabels(), *ax.get_yticklabels()]
        some += ax.get_legend().get_texts() if ax.get_legend() else []
        for text in some:
            if text.get_visible() and text.get_text().strip():
                found.append((text.get_text(), text.get_window_extent(renderer), text.get_rotation()))
    return found


def unreadable(drawing):
    """Pairs of texts that lie on each other, and texts that leave the picture."""
    width, height = drawing.figure.get_size_inches() * drawing.figure.dpi
    texts, problems = words_of(drawing), []
    for text, box, _ in texts:
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            problems.append(f"{text!r} leaves the picture")
    for (one, first, turn), (other, second, turned) in itertools.combinations(texts, 2):
        if turn and turn == turned and turn % 90:  # the boxes of turned labels overlap, their lines need not
            apart = math.hypot(first.x1 - second.x1, first.y1 - second.y1) * math.sin(math.radians(turn))
            overlap = apart < 11 * drawing.figure.dpi / 72
        else:
            overlap = min(first.x1, second.x1) - max(first.x0, second.x0) > 1
            overlap &= min(first.y1, second.y1) - max(first.y0, second.y0) > 1
        if overlap:
            problems.append(f"{one!r} lies on {other!r}")
    return problems


def answers(classes):
    """Four answers: one that is sure and right, three of a model that hesitates."""
    shares = np.random.default_rng(1).dirichlet(np.ones(6), 4)
    shares[0] = np.eye(6)[0]
    ranked = [dict(sorted(zip(classes, map(float, row), strict=True), key=lambda pair: -pair[1])) for row in shares]
    return [Prediction(f"folder/texture_{k:04d}.jpg", row) for k, row in enumerate(ranked)]


def noise(path):
    return np.random.default_rng(len(path)).integers(0, 256, (30, 40, 3), np.uint8)


@CLASSES
def test_figures_of_six_classes_can_be_read(classes, noisy_files):
    report = report_of(classes)
    maps = {f"for {name}": np.random.default_rng(2).random((96, 96)) for name in classes[:3]}
    for drawing in (
        figures.confusion_matrix(report),
        figures.class_results(report),
        figures.metric_intervals({"article": report, "best": report}),
        figures.probability_bars(answers(classes), truths=classes[:4]),
        figures.heatmap_overlay(noise("x").repeat(3, axis=0), maps),
    ):
        assert unreadable(drawing) == []
        assert drawing.figure.get_size_inches()[0] <= 8 and drawing.sentence.endswith(".")


def test_words_on_each_other_are_seen():
    drawing = figures.confusion_matrix(report_of(SHORT))
    drawing.axes[0].text(0, 0, "here I am, too")
    drawing.axes[0].text(9, 9, "and I am gone")
    assert len(unreadable(drawing)) >= 2


def test_the_most_frequent_mistake_is_framed_and_said():
    report = report_of(SHORT)
    drawing = figures.confusion_matrix(report)
    (frame,) = drawing.axes[0].patches
    assert frame.get_xy() == (3.5, 4.5)  # trash, taken for plastic
    assert f"trash predicted as plastic, {report.confusion[5, 4]} times" in drawing.sentence
    alone = Thing(confusion=np.diag([3, 4, 5]), classes="abc")
    assert not figures.confusion_matrix(alone).axes[0].patches


def test_class_results_are_scikit_learns():
    from sklearn.metrics import precision_recall_fscore_support

    report = report_of(SHORT)
    truth, said = (np.repeat(np.indices((6, 6))[axis].ravel(), report.confusion.ravel()) for axis in (0, 1))
    precision, recall, f1, number = precision_recall_fscore_support(truth, said)
    drawing = figures.class_results(report)
    for k, name in enumerate(SHORT):
        assert f"{name} ({number[k]} images): recall {recall[k]:.2f} (" in drawing.sentence
        assert f"precision {precision[k]:.2f}, F1 {f1[k]:.2f}" in drawing.sentence
    points = [line.get_xydata() for line in drawing.axes[0].lines]
    for k in range(6):
        assert any(len(line) == 1 and np.allclose(line, [[recall[k], k - 0.17]]) for line in points)
        assert any(len(line) == 1 and np.allclose(line, [[precision[k], k + 0.17]]) for line in points)


def test_a_class_that_is_never_said():
    confusion = {"n": 3, "recall": {"value": 0.0, "low": 0.0, "high": 0.56}, "precision": None, "f1": 0.0}
    drawing = figures.class_results(Thing(per_class={"a": confusion}))
    assert "precision - (never predicted)" in drawing.sentence and drawing.image()


def test_bars_are_the_probabilities(noisy_files):
    some = answers(SHORT)
    drawing = figures.probability_bars(some, truths=SHORT[:4])
    for below, one, truth in zip(drawing.axes[4:], some, SHORT, strict=False):
        widths = {SHORT[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in below.patches}
        assert widths == pytest.approx(one.probabilities)
        (marked,) = [text.get_text() for text in below.texts if "true" in text.get_text()]
        assert marked == f"{one.probabilities[truth]:.2f} true"
    first = some[0]
    assert drawing.sentence.startswith(
        f"texture_0000.jpg (true: cardboard): {first.class_name} {first.probability:.2f}"
    )


def test_bars_without_answers_or_truths(noisy_files):
    broken = Prediction("a.jpg", {}, "It is empty.")
    assert figures.probability_bars([broken]).sentence == "There is no image to show."
    drawing = figures.probability_bars([broken, *answers(SHORT)])
    assert "a.jpg" not in drawing.sentence and "true" not in drawing.sentence
