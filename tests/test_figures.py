"""Figures: the sentence states the numbers that are drawn, any name can be drawn, and all words can be read."""

import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Thing

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from sklearn import metrics as sk

from vggnb import figures
from vggnb.figures import canvas, galleries
from vggnb.metrics import Predictions, calibration_error, compare_predictions, reliability, report_on
from vggnb.model import build_head, empty_base
from vggnb.predict import Prediction
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError

HOSTILE = [
    ("$x_$ and \\foo$", "_<img onerror=alert(1)>"), ("a\u202egnp.exe\nnext", "\udcff 猫 😀" + "x" * 255),
]  # fmt: skip
TWO = ("cat", "dog")
SIX = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
NEAR, LEAK = (1, "near", 7), (-1, "exact", 0)  # other image, kind, distance
LONG = tuple(f"{name} from the street, washed" for name in SIX)


def noise(path="", size=(40, 60)):
    return np.random.default_rng(len(str(path))).integers(0, 256, (*size, 3)).astype(np.uint8)


def census_of(classes):
    """Of two classes in three splits, with a leak and a near-duplicate."""
    sizes = {"train": 9, "validation": 3, "test": 4}
    rows = [
        Thing(path=f"{split}/{kind}/{kind}_{i}.jpg", split=split, class_name=kind, label=k, width=60 + i, height=40)
        for split, n in sizes.items()
        for k, kind in enumerate(classes)
        for i in range(n)
    ]
    near, leak = (Thing(first=rows[0], second=rows[k], kind=kind, distance=d) for k, kind, d in (NEAR, LEAK))
    counts = {split: dict.fromkeys(classes, n) for split, n in sizes.items()}
    facts = {"pairs": [near, leak], "brightness": np.arange(len(rows), dtype=np.float32), "counts": lambda: counts}
    return Thing(dataset=Path("/x"), classes=classes, rows=rows, **facts)


@pytest.fixture
def data():
    return census_of(TWO)


def predictions_of(k, n=90, right=1.5):
    """Of k classes, with ties; the last class is often predicted as the one before it."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % k
    scores = random.normal(size=(n, k)).round(1) + right * np.eye(k)[labels]
    scores[labels == k - 1, k - 2] += 2.0 * (k > 2)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(tuple(f"test/{i}.jpg" for i in range(n)), labels, shares)


def report_of(classes, right=1.5):
    return report_on(predictions_of(len(classes), right=right), classes, draws=20)


@pytest.fixture
def scored():
    """Labels and scores of the positive class."""
    found = predictions_of(2)
    return found.labels == 1, found.probabilities[:, 1]


def history(n=5, validation=True, first=1):
    values = {"epoch": np.arange(n) + first, "loss": np.linspace(0.91, 0.42, n), "accuracy": np.linspace(0.52, 0.87, n)}
    if validation:
        values |= {"val_loss": np.linspace(0.83, 0.55, n), "val_accuracy": 0.7 + 0.1 * np.sin(np.arange(n))}
    return Thing(rows=[{name: column[k].item() for name, column in values.items()} for k in range(n)])


def files_predicted(classes):
    """Four images: one with a certain prediction, three with doubts."""
    shares = np.random.default_rng(1).dirichlet(np.ones(len(classes)), 4)
    shares[0] = np.eye(len(classes))[0]
    ranked = [dict(sorted(zip(classes, map(float, one), strict=True), key=lambda pair: -pair[1])) for one in shares]
    return [Prediction(f"folder/texture_{k:04d}.jpg", one) for k, one in enumerate(ranked)]


def every_figure(classes):
    """A figure of each kind, of two classes or more."""
    found, report, data = predictions_of(len(classes)), report_of(classes), census_of(classes[:2])
    both, curves = classes[:2], (found.labels == 1, found.probabilities[:, 1])
    comparison = compare_predictions(found, predictions_of(len(classes), right=3), classes, draws=20)
    yield figures.sizes_and_brightness(data)
    yield figures.contact_sheet(data)
    yield figures.images(data, data.rows[:3])
    yield figures.duplicate_pairs(data)
    yield figures.batch_grid(np.zeros((2, 8, 8, 3)), [0, 1], classes)
    yield figures.preprocessing_histograms({"rescale": noise()[None] / 255, "caffe": noise()[None] - 100.0})
    yield figures.learning_curves(dict(zip(both, (history(), history(20, first=0)), strict=True)))
    yield figures.confusion_matrix(report)
    yield figures.class_results(report)
    yield figures.metric_intervals(dict.fromkeys(both, report))
    yield figures.differences(comparison, names=both)
    yield figures.roc_curve(dict.fromkeys(both, curves))
    yield figures.precision_recall_curve(*curves)
    yield figures.threshold_curves(*curves, threshold=0.07)
    yield figures.operating_point(report_of(TWO), curves, threshold=0.4)
    yield figures.reliability_diagram(dict.fromkeys(both, found))
    yield figures.prediction_gallery(found, Thing(dataset=Path("/x"), classes=classes))
    yield figures.predictions([*files_predicted(classes), Prediction("b.jpg", {}, "It is empty.")])
    yield figures.probability_bars(files_predicted(classes), truths=classes[:1] * 4)
    yield figures.heatmap_overlay(noise(), {f"for {name}": np.eye(40, 60) for name in classes[:3]})
    yield figures.resize_comparison(noise(size=(200, 300)))


def texts(drawing):
    return [text.get_text() for ax in drawing.axes for text in ax.texts]


def is_drawn(drawing, values):
    """Whether one of the lines has these points."""
    lines = [np.asarray(line.get_xydata(), float) for ax in drawing.axes for line in ax.lines]
    return any(len(line) == len(values) and np.allclose(line, values) for line in lines)


# What is stated is what is drawn


def test_sizes_and_brightness(data):
    drawing = figures.sizes_and_brightness(data)
    assert "32 images of 9 sizes: width 60 to 68" in drawing.sentence and "height 40 to 40" in drawing.sentence
    assert [sum(line.get_data().values) for line in drawing.axes[0].patches] == [32, 32]
    for k, box in enumerate(drawing.axes[1].patches):
        brightness = data.brightness[[r.label == k for r in data.rows]]
        first, middle, third = np.quantile(brightness, [0.25, 0.5, 0.75])
        assert (box.get_x(), box.get_width()) == (first, third - first) and f"{TWO[k]} {middle:.0f}" in drawing.sentence
        assert drawing.axes[1].texts[k].get_text() == f"{middle:.0f}"


def test_preprocessing_histograms_name_the_channels_as_they_come():
    raw = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)) * (1.0, 0.5, 0.25)
    drawing = figures.preprocessing_histograms({"rescale": raw / 255, "caffe": raw[..., ::-1] - 100})
    for ax in drawing.axes:
        assert [sum(line.get_data().values) for line in ax.patches] == pytest.approx([100] * 3)  # % of the pixels
    red, blue = raw[..., 0].mean(), raw[..., 2].mean()
    assert f"red {red / 255:.2f}, green" in drawing.sentence and f"blue {blue - 100:.2f}, green" in drawing.sentence


@pytest.mark.parametrize("first", [0, 1])  # with or without the state before training
def test_learning_curves_draw_every_epoch(first):
    some = history(5, first=first)
    drawing = figures.learning_curves(some)
    loss, accuracy = ([r[name] for r in some.rows] for name in ("loss", "val_accuracy"))
    assert all(is_drawn(drawing, np.stack([np.arange(5) + first, values], axis=1)) for values in (loss, accuracy))
    assert f"{4 + first} epochs: loss 0.91 to 0.42, training accuracy 0.52 to 0.87" in drawing.sentence
    assert f"best {max(accuracy):.2f} in epoch {np.argmax(accuracy) + first}" in drawing.sentence


def test_learning_curves_of_several_and_without_epochs():
    solved = Thing(rows=())
    drawing = figures.learning_curves({"_mine": history(3, validation=False), "best": solved})
    assert drawing.sentence.startswith(
        "_mine: 3 epochs: loss 0.91 to 0.42, training accuracy 0.52 to 0.87; best: solved"
    )
    assert [ax.get_title("left") for ax in drawing.axes] == ["_mine: loss", "_mine: accuracy"]
    assert figures.learning_curves(solved).sentence == "Solved exactly, without epochs."


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class():
    report = Thing(confusion=np.array([[30, 10], [5, 35]]), classes=TWO)
    drawing = figures.confusion_matrix(report)
    assert texts(drawing) == ["30\n75 %", "10\n25 %", "5\n12 %", "35\n88 %"]
    assert drawing.sentence.startswith(
        "65 of 80 images right (81 %): cat 30 of 40, dog 35 of 40; most frequent mistake"
    )
    report = report_of(SIX)
    drawing = figures.confusion_matrix(report)
    (frame,) = drawing.axes[0].patches
    assert frame.get_xy() == (3.5, 4.5)  # trash, predicted as plastic
    assert f"trash predicted as plastic, {report.confusion[5, 4]} times" in drawing.sentence
    assert not figures.confusion_matrix(Thing(confusion=np.diag([3, 0, 5]), classes="abc")).axes[0].patches
    counts = np.arange(1600).reshape(40, 40)
    drawing = figures.confusion_matrix(Thing(confusion=counts, classes=[f"class number {i}" for i in range(40)]))
    assert texts(drawing) == [] and f"{np.trace(counts)} of {counts.sum()} images right" in drawing.sentence


def test_class_results():
    report = report_of(SIX)
    drawing = figures.class_results(report)
    for k, (name, one) in enumerate(report.per_class.items()):
        recall, precision = one["recall"]["value"], one["precision"]
        assert f"{name} ({one['n']} images): recall {recall:.2f} (" in drawing.sentence
        assert f"precision {precision:.2f}, F1 {one['f1']:.2f}" in drawing.sentence
        assert is_drawn(drawing, [[recall, k - 0.17]]) and is_drawn(drawing, [[precision, k + 0.17]])
    never = {"n": 3, "recall": {"value": 0.0, "low": 0.0, "high": 0.56}, "precision": None, "f1": 0.0}
    none = {"n": 0, "recall": None, "precision": None, "f1": None}
    drawing = figures.class_results(Thing(per_class={"a": never, "b": none}))
    assert "precision - (never predicted)" in drawing.sentence and drawing.sentence.endswith("b: no images.")


@pytest.mark.parametrize("threshold", [0.0, 0.25, 2.0])
def test_roc_curve_is_scikit_learns_and_the_mark_is_at_the_threshold(threshold, scored):
    truth, scores = scored
    drawing = figures.roc_curve({"best": scored}, threshold=threshold)
    false, true, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    assert is_drawn(drawing, np.stack([false, true], axis=1))
    assert f"AUC {sk.roc_auc_score(truth, scores):.2f}" in drawing.sentence
    found, alarmed = (scores[truth] >= threshold).mean(), (scores[~truth] >= threshold).mean()
    assert is_drawn(drawing, [[alarmed, found]])
    assert f"sensitivity {found:.2f}, specificity {1 - alarmed:.2f}" in drawing.sentence
    drawing = figures.threshold_curves(truth, scores, threshold=threshold)
    assert f"sensitivity {found:.2f}, specificity {1 - alarmed:.2f}, on 45 positive" in drawing.sentence
    curve, strip = drawing.axes[0].lines[0].get_xydata(), drawing.axes[1]
    assert all(np.isclose(y, (scores[truth] >= x).mean()) for x, y in curve)
    kinds = [np.histogram(scores[kind], np.linspace(0, 1, 21))[0] for kind in (~truth, truth)]
    assert np.array_equal([one.get_data().values for one in strip.patches], kinds)
    assert all(list(ax.lines[-1].get_xdata()) == [threshold] * 2 for ax in drawing.axes)


def test_precision_recall_curve_is_scikit_learns(scored):
    drawing = figures.precision_recall_curve(*scored)
    precision, recall, _ = sk.precision_recall_curve(*scored)
    assert is_drawn(drawing, np.stack([recall, precision], axis=1))
    average, share = sk.average_precision_score(*scored), scored[0].mean()
    assert drawing.sentence == f"average precision {average:.2f}, chance {share:.2f} (45 positive, 45 negative)."


@pytest.mark.parametrize("draw", [lambda *one: figures.roc_curve({"x": one}), figures.precision_recall_curve])
def test_curves_need_two_kinds(draw):
    with pytest.raises(VggnbError, match="positive and negative"):
        draw([1, 1], [0.2, 0.3])


def test_metric_intervals_draw_values_ends_and_baselines():
    reports = {"article": report_of(TWO, right=0.5), "best": report_of(TWO)}
    drawing = figures.metric_intervals(reports)
    drawn = [line.get_xdata() for line in drawing.axes[0].lines]
    for one in (report.metrics["auc"] for report in reports.values()):
        assert all(any(np.array_equal(x, ends) for x in drawn) for ends in ([one.value], [one.low, one.high]))
    first, second = (report.metrics["accuracy"] for report in reports.values())
    assert drawing.sentence.startswith(f"accuracy: article {first}, best {second}; balanced accuracy: article")
    assert "most frequent class is right for 0.50" in drawing.sentence


def test_differences_draw_each_interval_and_its_verdict():
    found = compare_predictions(predictions_of(2, right=0.2), predictions_of(2, right=2), TWO, draws=50)
    drawing = figures.differences(found, names=("old", "new"))
    for row, (name, one) in enumerate(found.differences.items()):
        assert is_drawn(drawing, [[one.low, row], [one.high, row]]) and is_drawn(drawing, [[one.value, row]])
        verdict = "not significant" if one.low <= 0 <= one.high else "significant"
        assert f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})\n{verdict}" in texts(drawing), name
    assert drawing.sentence.startswith("new minus old on 90 images: accuracy +")


def test_reliability_is_the_calibration_error_of_metrics():
    found = predictions_of(2)
    drawing = figures.reliability_diagram(found)
    error, mean = calibration_error(found.labels, found.probabilities)[0], found.probabilities.max(axis=1).mean()
    assert drawing.sentence.startswith(f"calibration error {error:.2f}, mean confidence {mean:.2f}, accuracy ")
    confidence, accuracy, count = reliability(found.labels, found.probabilities)
    assert is_drawn(drawing, np.stack([confidence, accuracy], axis=1))
    assert [bar.get_height() for bar in drawing.axes[1].patches] == [*count]


# Images


def test_contact_sheet_spreads_its_examples(data, noisy_files):
    drawing = figures.contact_sheet(data, examples=3)
    assert len(drawing.axes[0].images) == 18
    assert "train/cat 3 of 9, train/dog 3 of 9" in drawing.sentence
    assert [t for t in texts(drawing) if t.startswith("cat_")][:3] == ["cat_0.jpg", "cat_4.jpg", "cat_8.jpg"]


def test_an_image_that_cannot_be_read_gets_a_tile_that_says_so(data, monkeypatch):
    def read(path):
        if path.name == "cat_0.jpg":
            raise VggnbError("The file is cut short.", path, "Copy it again.")
        return noise(path)

    monkeypatch.setattr(galleries, "read_image", read)
    assert "cannot\nbe read" in texts(figures.contact_sheet(data))


def test_duplicate_pairs_name_leaks_and_conflicts(data, noisy_files):
    drawing = figures.duplicate_pairs(data)
    leak = "2 of 2 pairs: train/cat/cat_0.jpg and test/dog/dog_3.jpg (leak, conflict, duplicate);"
    assert drawing.sentence.startswith(leak) and "train/cat/cat_1.jpg (near-duplicate (7 bits))" in drawing.sentence
    assert {"1. leak, conflict, duplicate", "2. near-duplicate (7 bits)"} <= {*texts(drawing)}
    assert len(drawing.axes[0].patches) == 2 and len(drawing.axes[0].images) == 4  # each pair in a frame


def test_resize_comparison_measures_what_it_shows():
    image = noise(size=(200, 300))
    kinds = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)
    near, soft = (np.asarray(Image.fromarray(image).resize((50, 50), kind), int) for kind in kinds)
    difference = np.abs(near - soft).mean(axis=2)
    drawing = figures.resize_comparison(image, size=50)
    words = f"differ by {difference.mean():.1f} of 255 levels on average and {difference.max():.0f} at most"
    assert words in drawing.sentence and np.array_equal(drawing.axes[2].images[0].get_array(), difference)


@pytest.mark.parametrize("one_hot, scale", [(False, 1), (True, 255)])
def test_batch_grid(one_hot, scale):
    images, labels = np.random.default_rng(0).random((5, 16, 16, 3)) * scale, np.array([0, 1, 1, 0, 1])
    drawing = figures.batch_grid(images, np.eye(2)[labels] if one_hot else labels, TWO)
    assert "5 images of 16 x 16 pixels" in drawing.sentence and "cat 2, dog 3" in drawing.sentence
    shown = np.asarray(drawing.axes[0].images[0].get_array())
    assert np.abs(shown - images[0] * 255 / scale).max() <= 0.5 + 1e-6


def test_prediction_gallery_shows_the_most_confident_mistakes_then_the_least_confident_others(data, noisy_files):
    found = predictions_of(2, 80)
    drawing = figures.prediction_gallery(found, data, most=8)
    confidence, wrong = found.probabilities.max(axis=1), found.probabilities.argmax(axis=1) != found.labels
    worst = max(np.flatnonzero(wrong), key=lambda k: confidence[k])
    marks = [text for text in texts(drawing) if "wrong" in text or "right" in text]
    assert marks == ["✗ wrong"] * 4 + ["✓ right"] * 4  # a second cue besides colour
    words = f"{wrong.sum()} mistakes among 80 images; the most confident: test/{worst}.jpg (predicted "
    assert drawing.sentence.startswith(words)
    captions = [text for text in texts(drawing) if "predicted" in text]
    assert captions[0].startswith(f"{worst}.jpg") and captions[0].endswith(f"{confidence[worst]:.2f}")
    assert captions[4].endswith(f"{confidence[~wrong].min():.2f}")
    for mistakes, drawn in ((0, 0), (1, 1), (6, 4)):
        probabilities = np.array([[0.3, 0.7]] * mistakes + [[0.8, 0.2]] * (6 - mistakes))
        few = Predictions(tuple("abcdef"), np.zeros(6, int), probabilities)
        marks = [text for text in texts(figures.prediction_gallery(few, data, most=4)) if text[0] in "✗✓"]
        assert len(marks) == 4 and marks.count("✗ wrong") == drawn


def test_predictions_say_what_is_wrong_with_a_file(noisy_files):
    good = Prediction("/a/b/moon.jpg", {"cat": 0.814, "dog": 0.186}, out_of_distribution=True)
    drawing = figures.predictions([good, Prediction("../../x.jpg", {}, "The file is empty (0 bytes).")])
    assert drawing.sentence == "moon.jpg: cat 0.81 (out-of-distribution); x.jpg: The file is empty (0 bytes)."
    assert "x.jpg\nno prediction" in texts(drawing)


def test_bars_are_the_probabilities(noisy_files):
    some = files_predicted(SIX)
    drawing = figures.probability_bars(some, truths=SIX[:4])
    for below, one, truth in zip(drawing.axes[4:], some, SIX, strict=False):
        assert [bar.get_width() for bar in below.patches] == [one.probabilities[name] for name in SIX]
        assert f"{one.probabilities[truth]:.2f} true" in [text.get_text() for text in below.texts]
    assert drawing.sentence.startswith("texture_0000.jpg (true: cardboard): cardboard 1.00")
    drawing = figures.probability_bars([Prediction("a.jpg", {}, "It is empty."), *some])
    assert "a.jpg" not in drawing.sentence and "true" not in drawing.sentence


def test_heatmap_overlay_says_where_and_how_much():
    heat = np.full((40, 60), -0.5)
    heat[10:20, 30:45] = 0.25
    drawing = figures.heatmap_overlay(noise(), {"occlusion": heat, "nothing": -np.ones((40, 60))})
    assert "occlusion: hottest (0.25, +) 62 % from the left, 36 % from the top; 6 % of the image" in drawing.sentence
    assert "nothing: no heat anywhere" in drawing.sentence
    assert is_drawn(drawing, [[37, 14.5]]) and np.array_equal(drawing.axes[1].images[1].get_array(), heat > 0)
    assert figures.heatmap_overlay(noise(), heat).sentence.startswith("heat: hottest (0.25, +)")


def test_figures_of_nothing_say_so():
    """A census with no usable image, and an empty list of predictions."""
    nothing = Thing(dataset=Path("/x"), classes=("cat",), rows=(), pairs=(), brightness=np.zeros(0), counts=dict)
    none = Predictions((), np.zeros(0, int), np.zeros((0, 2)))
    drawings = [getattr(figures, n)(nothing) for n in ("contact_sheet", "sizes_and_brightness", "duplicate_pairs")]
    drawings += [figures.images(nothing, []), figures.prediction_gallery(none, nothing), figures.predictions([])]
    drawings += [figures.probability_bars([Prediction("a.jpg", {}, "It is empty.")])]
    drawings += [figures.batch_grid(np.zeros((0, 8, 8, 3)), np.zeros(0), ("cat",))]
    for drawing in drawings:
        assert drawing.sentence.startswith(("There is no", "There are no")) and drawing.image()


# Diagrams


def test_the_pipeline_names_the_page_of_each_step():
    drawing = figures.pipeline()
    assert "census (page 2)" in str(drawing) and "bundle (pages 7, 8)" in str(drawing)


@pytest.mark.parametrize("counts, words", [
    ({"train": {"a": 3, "b": 1}, "test": {"a": 1, "b": 0}}, "the head learns from these; test, 1 image"),
    ({"train": {"a": 3}, "validation": {"a": 0}}, "train, 3 images: the head learns from these."),
    ({"unsplit": {"a": 3}}, "The images are not split."),
])  # fmt: skip
def test_splits_are_drawn_with_their_sizes_and_uses(counts, words):
    assert words in str(figures.three_splits(Thing(counts=lambda: counts)))


@pytest.mark.parametrize("name, classes, words", [
    ("article", ("good", "bent"), "features 512, hidden 512, output 2. Output: probabilities of good, bent."),
    ("best", ("a", "b", "c"), "features 2,944, standardise 2,944, output 3."),
])  # fmt: skip
def test_vgg16_is_drawn_from_the_model_itself(name, classes, words):
    recipe = Recipe.named(name).with_(image_size=32)
    drawing = figures.vgg16_with_head(empty_base(32), build_head(recipe, len(classes)), classes)
    assert "block 1, 2 convolutions, 32 x 32 x 64; block 2, 2 convolutions, 16 x 16 x 128" in str(drawing)
    assert words in str(drawing)


@pytest.mark.parametrize("shape, words", [
    ((120, 160, 3), "one side shrinks 1.33 times as much as the other; cropped, 25 % of it is lost; padded, 25 %"),
    ((160, 40, 3), "4.00 times"),
    ((50, 50, 3), "it is square already"),
])  # fmt: skip
def test_three_ways_to_a_square(shape, words):
    drawing = figures.three_squares(np.zeros(shape, np.uint8), size=32)
    assert words in str(drawing)
    assert [ax.images[0].get_array().shape for ax in drawing.axes] == [shape, *[(32, 32, 3)] * 3]


# Any name can be drawn, and all words can be read


@pytest.mark.parametrize(
    "name, text",
    [("benign", "benign"), ("_x", "_x"), ("a\nb", "'a\\nb'"), ("a\u202eb", "'a\\u202eb'"), ("猫", "\\u732b"),
     ("a" * 40, "a" * 12 + "…" + "a" * 11)],
)  # fmt: skip
def test_labels(name, text):
    assert canvas.label(name) == text


def unreadable(drawing):
    """Pairs of texts that lie on each other, and texts that leave the figure."""
    agg = FigureCanvasAgg(drawing.figure)
    agg.draw()
    some = []
    for ax in drawing.axes:
        some += [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            some += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        some += ax.get_legend().get_texts() if ax.get_legend() else []
    some = [text for text in some if text.get_visible() and text.get_text().strip()]
    found = [(text.get_text(), text.get_window_extent(agg.get_renderer()), text.get_rotation()) for text in some]
    (width, height), dpi = drawing.figure.get_size_inches() * drawing.figure.dpi, drawing.figure.dpi
    problems = [name for name, box, _ in found if min(box.x0, box.y0, width - box.x1, height - box.y1) < 0]
    for (one, first, turn), (other, second, turned) in itertools.combinations(found, 2):
        if turn and turn == turned and turn % 90:  # the boxes of rotated labels overlap, their lines need not
            apart = math.hypot(first.x1 - second.x1, first.y1 - second.y1) * math.sin(math.radians(turn))
            overlap = apart < 11 * dpi / 72
        else:
            overlap = min(first.x1, second.x1) - max(first.x0, second.x0) > 1
            overlap &= min(first.y1, second.y1) - max(first.y0, second.y0) > 1
        problems += [(one, other)] * bool(overlap)
    return problems


@pytest.mark.parametrize("classes", [TWO, SIX, LONG, *HOSTILE], ids=ascii)
def test_any_name_is_drawn_and_all_words_can_be_read(classes, noisy_files):
    for drawing in every_figure(classes):
        assert unreadable(drawing) == [] and drawing.figure.get_size_inches()[0] <= 8
        assert drawing.sentence.isprintable() and drawing.sentence.endswith(".")
        assert drawing.image()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0") and len(drawing.image()) < 300_000


# How a drawing shows itself


def test_a_drawing_shows_the_figure_and_prints_the_sentence(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.append((bundle, options)))
    drawing = figures.confusion_matrix(report_of(TWO))
    drawing._ipython_display_()
    (bundle, options), *more = shown
    assert not more and bundle["image/png"] == drawing.image() and options["raw"]
    about = options["metadata"]["image/png"]
    assert (about["alt"], about["width"], about["height"]) == (drawing.sentence, *drawing.size)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines) == drawing.sentence and max(map(len, lines)) <= 90
    assert str(drawing) == repr(drawing) == drawing.sentence


def test_figures_leave_your_settings(scored):
    with mpl.rc_context({"font.size": 33, "text.parse_math": True}):
        drawing = figures.roc_curve({"_$a_$": scored})
        assert drawing.axes[0].get_legend().get_texts()[0].get_text().startswith("_$a_$: AUC")
        assert drawing.axes[0].title.get_size() == 12 and mpl.rcParams["font.size"] == 33
        drawing.figure.savefig("/dev/null", format="png")  # in the reader's own style, names still as they are
        assert mpl.rcParams["text.parse_math"]


def test_nothing_heavy_is_imported():
    code = (
        "import sys, numpy as np, vggnb.figures as f;"
        "from types import SimpleNamespace as T;"
        "f.confusion_matrix(T(confusion=np.eye(2, dtype=int), classes='ab')).image();"
        "print({'tensorflow', 'keras', 'matplotlib.pyplot', 'sklearn', 'IPython'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
