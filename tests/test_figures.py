"""Figures: the sentence says the numbers that are drawn, any name can be drawn, and nothing stays open."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Thing

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn import metrics as sk

from vggnb import figures
from vggnb.figures import canvas, charts, galleries
from vggnb.metrics import calibration_error, reliability
from vggnb.storage import VggnbError

HOSTILE = [
    "$x_$ and \\foo$",
    "<img onerror=alert(1)>",
    "a\u202egnp.exe\nnext",
    "_hidden",
    "\udcff 猫 😀",
    "x" * 255,
    "",
]


def row(path, split="train", class_name="cat", label=0, width=60, height=40):
    return Thing(path=path, split=split, class_name=class_name, label=label, width=width, height=height)


def noise(path="", size=(40, 60)):
    return np.random.default_rng(len(str(path))).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.fixture
def random():
    return np.random.default_rng(1)


@pytest.fixture
def data():
    """A census of two classes in three splits."""
    classes = ("cat", "dog")
    rows = [
        row(f"{split}/{name}/{name}_{i}.jpg", split, name, label, 60 + i, 40)
        for split, n in (("train", 9), ("validation", 3), ("test", 4))
        for label, name in enumerate(classes)
        for i in range(n)
    ]
    counts = {split: dict.fromkeys(classes, n) for split, n in (("train", 9), ("validation", 3), ("test", 4))}
    pairs = [
        Thing(first=rows[0], second=rows[1], kind="near", distance=7),
        Thing(first=rows[0], second=rows[-1], kind="exact", distance=0),
    ]
    brightness = np.arange(len(rows), dtype=np.float32)
    return Thing(
        dataset=Path("/x"), classes=classes, rows=rows, pairs=pairs, brightness=brightness, counts=lambda: counts
    )


@pytest.fixture
def predictions(random):
    """Of 80 images of two classes, with ties."""
    p = random.random(80).round(2)
    labels = (random.random(80) < p).astype(int)
    paths = tuple(f"test/{k}.jpg" for k in range(80))
    return Thing(paths=paths, labels=labels, probabilities=np.stack([1 - p, p], axis=1))


def history(n=5, validation=True):
    values = {"loss": np.linspace(0.91, 0.42, n), "accuracy": np.linspace(0.52, 0.87, n)}
    if validation:
        values |= {"val_loss": np.linspace(0.83, 0.55, n), "val_accuracy": 0.7 + 0.1 * np.sin(np.arange(n))}
    rows = tuple({"epoch": k + 1, **{name: float(v[k]) for name, v in values.items()}} for k in range(n))
    return Thing(rows=rows)


def report(value=0.8, names=("accuracy", "auc", "ece")):
    metrics = {
        name: Thing(value=value - 0.1 * k, low=value - 0.1 * k - 0.05, high=value - 0.1 * k + 0.07)
        for k, name in enumerate(names)
    }
    return Thing(metrics=metrics, baseline=0.55, confusion=np.array([[30, 10], [5, 35]]), classes=("cat", "dog"))


def texts(drawing):
    return [text.get_text() for ax in drawing.axes for text in ax.texts]


def lines(drawing):
    return [np.asarray(line.get_xydata(), float) for ax in drawing.axes for line in ax.lines]


def is_drawn(drawing, values):
    """Whether one of the lines has these points."""
    return any(len(line) == len(values) and np.allclose(line, values) for line in lines(drawing))


# What is stated is what is drawn


def test_class_counts(data):
    drawing = figures.class_counts(data)
    assert sorted(bar.get_width() for bar in drawing.axes[0].patches) == [3, 3, 4, 4, 9, 9]
    assert drawing.sentence == (
        "train 18 images (cat 9, dog 9); validation 6 images (cat 3, dog 3); test 8 images (cat 4, dog 4)."
    )
    assert texts(drawing) == ["train 9", "train 9", "validation 3", "validation 3", "test 4", "test 4"]
    assert len({bar.get_hatch() for bar in drawing.axes[0].patches}) == 3  # a second cue besides colour


def test_class_counts_leaves_many_classes_out_and_says_so():
    counts = {"train": {f"kind {k}": k for k in range(100)}, "test": {f"kind {k}": 0 for k in range(100)}}
    drawing = figures.class_counts(counts)
    assert "76 more classes are not drawn" in drawing.sentence and "test" not in drawing.sentence


def test_sizes_and_brightness(data):
    drawing = figures.sizes_and_brightness(data)
    assert "32 images of 9 sizes: width 60 to 68" in drawing.sentence and "height 40 to 40" in drawing.sentence
    medians = [float(np.median(data.brightness[[r.label == k for r in data.rows]])) for k in (0, 1)]
    assert f"cat {medians[0]:.0f}, dog {medians[1]:.0f}" in drawing.sentence
    assert [f"{m:.0f}" for m in medians] == [text.get_text() for text in drawing.axes[1].texts]


def test_preprocessing_histograms_name_the_channels_as_they_come(random):
    raw = random.integers(0, 256, (4, 16, 16, 3)) * (1.0, 0.5, 0.25)
    drawing = figures.preprocessing_histograms({"rescale": raw / 255, "caffe": raw[..., ::-1] - 100})
    red, blue = raw[..., 0].mean(), raw[..., 2].mean()
    assert f"red {red / 255:.2f}, green" in drawing.sentence and f"caffe: {raw.min() - 100:.2f}" in drawing.sentence
    assert f"blue {blue - 100:.2f}, green" in drawing.sentence and f"red {red - 100:.2f}" in drawing.sentence


def test_learning_curves_draw_every_epoch_and_say_first_last_and_best():
    drawing = figures.learning_curves(history(5))
    loss, accuracy = ([r[name] for r in history(5).rows] for name in ("loss", "val_accuracy"))
    for values in (loss, accuracy):
        assert is_drawn(drawing, np.stack([np.arange(1, 6), values], axis=1))
    assert "5 epochs: loss 0.91 to 0.42, training accuracy 0.52 to 0.87" in drawing.sentence
    best = int(np.argmax(accuracy))
    assert f"best {accuracy[best]:.2f} in epoch {best + 1}" in drawing.sentence
    with_start = Thing(rows=({"epoch": 0, "loss": 1.0, "accuracy": 0.5}, *history(5, validation=False).rows))
    drawing = figures.learning_curves(with_start)  # the state before training
    assert is_drawn(drawing, np.stack([np.arange(6), [1.0, *loss]], axis=1)) and "5 epochs: loss 1.00" in str(drawing)


def test_learning_curves_of_several_of_keras_and_without_validation():
    keras_history = Thing(history={"loss": [1.0, 0.5], "accuracy": [0.5, 0.75]})
    drawing = figures.learning_curves({"_mine": history(3, validation=False), "keras": keras_history})
    assert drawing.sentence.startswith("_mine: 3 epochs: loss 0.91 to 0.42")
    assert "keras: 2 epochs: loss 1.00 to 0.50, training accuracy 0.50 to 0.75." in drawing.sentence
    titles = [ax.get_title("left") for ax in drawing.axes]
    assert titles == ["_mine  loss", "_mine  accuracy", "keras  loss", "keras  accuracy"]
    assert figures.learning_curves(history(1)).sentence.startswith("1 epoch:")
    solved = Thing(rows=())  # a head without epochs
    drawing = figures.learning_curves({"article": history(3), "best": solved})
    assert drawing.sentence.endswith("; best: solved exactly, without epochs.") and len(drawing.axes) == 2
    assert figures.learning_curves(solved).sentence == "Solved exactly, without epochs."


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class():
    drawing = figures.confusion_matrix(report())
    assert texts(drawing) == ["30\n75 %", "10\n25 %", "5\n12 %", "35\n88 %"]
    assert drawing.sentence == (
        "65 of 80 images right (81 %): cat 30 of 40, dog 35 of 40; "
        "most frequent mistake: cat predicted as dog, 10 times."
    )


@pytest.mark.parametrize("k", [2, 5, 12, 40])
def test_confusion_matrix_of_any_size(k, random):
    counts = random.integers(0, 9, (k, k))
    counts[0] = 0  # a class without images
    drawing = figures.confusion_matrix(Thing(confusion=counts, classes=[f"class number {i}" for i in range(k)]))
    assert f"{np.trace(counts)} of {counts.sum()} images right" in drawing.sentence
    assert len(drawing.image()) < 150_000


def test_cells_can_be_read():
    for share in np.linspace(0, 1, 101):
        rgb = np.array(mpl.colormaps["Blues"](share)[:3])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        text = 1.0 if charts._readable_on(share) == "white" else 0.0
        assert (max(linear, text) + 0.05) / (min(linear, text) + 0.05) >= 4.5  # WCAG 2, AA


def test_roc_curve_is_scikit_learns(predictions):
    truth, scores = predictions.labels == 1, predictions.probabilities[:, 1]
    drawing = figures.roc_curve({"best": (truth, scores)})
    false, true, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    assert is_drawn(drawing, np.stack([false, true], axis=1))
    assert f"AUC {sk.roc_auc_score(truth, scores):.2f}" in drawing.sentence
    found, alarmed = (scores[truth] >= 0.5).mean(), (scores[~truth] >= 0.5).mean()
    assert is_drawn(drawing, [[alarmed, found]])  # the mark
    assert f"sensitivity {found:.2f}, specificity {1 - alarmed:.2f}" in drawing.sentence


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0, 2.0])
def test_the_mark_of_a_threshold_is_where_the_threshold_puts_it(threshold, predictions):
    truth, scores = predictions.labels == 1, predictions.probabilities[:, 1]
    drawing = figures.roc_curve({"": (truth, scores)}, threshold=threshold)
    assert is_drawn(drawing, [[(scores[~truth] >= threshold).mean(), (scores[truth] >= threshold).mean()]])


def test_roc_curve_needs_two_kinds():
    with pytest.raises(VggnbError, match="positive and negative"):
        figures.roc_curve({"x": ([1, 1], [0.2, 0.3])})


def test_metric_intervals_draw_values_and_ends():
    drawing = figures.metric_intervals({"article": report(0.7), "best": report(0.8)})
    for value in (0.7, 0.8):
        dots = [line for line in lines(drawing) if len(line) == 1 and np.isclose(line[0, 0], value)]
        ends = [line for line in lines(drawing) if np.allclose(line[:, 0], (value - 0.05, value + 0.07))]
        assert dots and ends
    assert "accuracy: article 0.70 (0.65 to 0.77), best 0.80 (0.75 to 0.87); AUC: article 0.60" in drawing.sentence
    assert "most frequent class is right for 0.55" in drawing.sentence
    assert figures.metric_intervals(report(0.7)).sentence.startswith("accuracy: 0.70 (0.65 to 0.77); AUC")


def test_reliability_is_the_calibration_error_of_metrics(predictions):
    labels, probabilities = predictions.labels, predictions.probabilities
    drawing = figures.reliability_diagram(predictions)
    error = calibration_error(labels, probabilities)[0]
    assert f"calibration error {error:.2f} over 80 images" in drawing.sentence
    confidence, accuracy, count = reliability(labels, probabilities)
    assert count.sum() == 80 and is_drawn(drawing, np.stack([confidence, accuracy], axis=1))


# Images


def test_contact_sheet_spreads_its_examples(data, noisy_files):
    drawing = figures.contact_sheet(data, examples=3)
    assert len(drawing.axes[0].images) == 18
    assert "train/cat 3 of 9, train/dog 3 of 9" in drawing.sentence
    assert [t for t in texts(drawing) if t.startswith("cat_")][:3] == ["cat_0.jpg", "cat_4.jpg", "cat_8.jpg"]


def test_a_image_that_cannot_be_read_gets_a_tile_that_says_so(data, monkeypatch):
    def read(path):
        if path.name == "cat_0.jpg":
            raise VggnbError("The file is cut short.", path, "Copy it again.")
        return noise(path)

    monkeypatch.setattr(galleries, "read_image", read)
    drawing = figures.contact_sheet(data)
    assert "cannot\nbe read" in texts(drawing)


def test_figures_read_real_folders(manifest):
    drawing = figures.contact_sheet(manifest, examples=2)
    assert len(drawing.axes[0].images) == 12
    assert figures.images(manifest, manifest.of("test")[:3]).sentence.startswith("3 images: test/cat/cat_0.jpg")


def test_duplicate_pairs_put_leaks_first(data, noisy_files):
    drawing = figures.duplicate_pairs(data)
    assert drawing.sentence.startswith(
        "2 of 2 pairs: train/cat/cat_0.jpg and test/dog/dog_3.jpg (LEAK, CONFLICT, duplicate);"
    )
    assert "train/cat/cat_1.jpg (near-duplicate (7 bits))" in drawing.sentence
    data.pairs = []
    assert figures.duplicate_pairs(data).sentence == "There are no duplicates among 32 images."


def test_resize_comparison_measures_what_it_shows():
    image = noise(size=(200, 300))
    near, soft = (
        np.asarray(Image.fromarray(image).resize((50, 50), kind), int)
        for kind in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR)
    )
    difference = np.abs(near - soft).mean(axis=2)
    drawing = figures.resize_comparison(image, size=50)
    assert (
        f"differ by {difference.mean():.1f} of 255 levels on average and {difference.max():.0f} at most"
        in drawing.sentence
    )
    assert np.array_equal(drawing.axes[2].images[0].get_array(), difference)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("scale", [1, 255])
def test_batch_grid(one_hot, scale, random):
    images, labels = random.random((5, 16, 16, 3)) * scale, np.array([0, 1, 1, 0, 1])
    drawing = figures.batch_grid(images, np.eye(2)[labels] if one_hot else labels, ("cat", "dog"))
    assert "5 images of 16 x 16 pixels" in drawing.sentence and "cat 2, dog 3" in drawing.sentence
    shown = np.asarray(drawing.axes[0].images[0].get_array())
    assert np.abs(shown - images[0] * 255 / scale).max() <= 0.5 + 1e-6


def test_prediction_gallery_shows_the_most_confident_mistakes_then_the_least_confident_others(
    data, predictions, noisy_files
):
    drawing = figures.prediction_gallery(predictions, data, most=8)
    best, sure = predictions.probabilities.argmax(axis=1), predictions.probabilities.max(axis=1)
    wrong = best != predictions.labels
    worst = max(np.flatnonzero(wrong), key=lambda k: sure[k])
    marks = [text for text in texts(drawing) if "wrong" in text or "right" in text]
    assert marks == ["✗ wrong"] * 4 + ["✓ right"] * 4  # a second cue besides colour
    assert drawing.sentence.startswith(
        f"{wrong.sum()} mistakes among 80 images; the most confident: test/{worst}.jpg (predicted "
    )
    captions = [text for text in texts(drawing) if "predicted" in text]
    assert captions[0].startswith(f"{worst}.jpg") and captions[0].endswith(f"{sure[worst]:.2f}")
    assert captions[4].endswith(f"{sure[~wrong].min():.2f}")


@pytest.mark.parametrize("mistakes", [0, 1, 6])
def test_prediction_gallery_with_few_of_a_kind(data, mistakes, noisy_files):
    labels = np.array([0] * 6)
    probabilities = np.array([[0.3, 0.7]] * mistakes + [[0.8, 0.2]] * (6 - mistakes))
    predictions = Thing(paths=tuple("abcdef"), labels=labels, probabilities=probabilities)
    drawing = figures.prediction_gallery(predictions, data, most=4)
    marks = [text for text in texts(drawing) if text in ("✗ wrong", "✓ right")]
    assert len(marks) == 4 and marks.count("✗ wrong") == min(mistakes, 4 if mistakes == 6 else 2)


def test_answers_say_what_is_wrong_with_a_file(noisy_files):
    good = Thing(path="/a/b/moon.jpg", class_name="cat", probability=0.814, error=None)
    bad = Thing(path="../../x.jpg", class_name=None, probability=None, error="The file is empty (0 bytes).")
    drawing = figures.predictions([good, bad])
    assert drawing.sentence == "moon.jpg: cat 0.81; x.jpg: The file is empty (0 bytes)."
    assert "x.jpg\nno prediction" in texts(drawing) and "moon.jpg\ncat 0.81" in texts(drawing)


def test_heatmap_overlay_says_where_and_how_much():
    heat = np.full((40, 60), -0.5)
    heat[10:20, 30:45] = 0.25
    drawing = figures.heatmap_overlay(noise(), {"occlusion": heat, "nothing": -np.ones((40, 60))})
    assert "occlusion: hottest (0.25, +) 62 % from the left, 36 % from the top; 6 % of the image" in drawing.sentence
    assert "nothing: no heat anywhere" in drawing.sentence
    assert figures.heatmap_overlay(noise(), heat).sentence.startswith("heat: hottest (0.25, +)")


# Any name can be drawn


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_drawn(name, predictions, noisy_files):
    other, classes = "zebra", (name, "zebra")
    rows = [row(f"train/{name}/{name}.jpg", "train", name, 0), row("test/b.jpg", "test", other, 1)]
    hostile = Thing(
        dataset=Path("/x"),
        classes=classes,
        rows=rows,
        pairs=[Thing(first=rows[0], second=rows[1], kind="near", distance=3)],
        brightness=np.array([3.0, 200.0]),
        counts=lambda: {"train": {name: 1, other: 0}, "test": {name: 0, other: 1}},
    )
    predictions.paths = (f"{name}.jpg",) * 80
    answer = Thing(path=f"{name}.jpg", class_name=name, probability=0.5, error=None)
    judged = report()
    judged.classes = classes
    truth = (predictions.labels == 1, predictions.probabilities[:, 1])
    drawings = [
        figures.class_counts({"train": {name: 3, other: 2}}),
        figures.sizes_and_brightness(hostile),
        figures.contact_sheet(hostile),
        figures.images(hostile, rows),
        figures.duplicate_pairs(hostile),
        figures.batch_grid(np.zeros((2, 8, 8, 3)), [0, 1], classes),
        figures.learning_curves({name: history()}),
        figures.confusion_matrix(judged),
        figures.roc_curve({name: truth}),
        figures.metric_intervals({name: report(), other: report()}),
        figures.reliability_diagram({name: predictions}),
        figures.prediction_gallery(predictions, hostile),
        figures.predictions([answer]),
        figures.heatmap_overlay(noise(), {name: np.eye(40, 60)}),
    ]
    for drawing in drawings:
        assert drawing.image()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")
        assert drawing.sentence.isprintable() and drawing.sentence.endswith(".")


@pytest.mark.parametrize(
    "name, text",
    [
        ("benign", "benign"),
        ("_x", "_x"),
        ("a\nb", "'a\\nb'"),
        ("a\u202eb", "'a\\u202eb'"),
        ("猫", "\\u732b"),
        ("a" * 40, "a" * 12 + "…" + "a" * 11),
    ],
)
def test_labels(name, text):
    assert canvas.label(name) == text


def test_a_key_shows_names_that_begin_with_an_underscore(predictions):
    truth = (predictions.labels == 1, predictions.probabilities[:, 1])
    drawing = figures.roc_curve({"_mine": truth, "$x_$": truth})
    labels = [text.get_text() for text in drawing.axes[0].get_legend().get_texts()]
    assert labels[0].startswith("_mine  AUC") and labels[1].startswith("$x_$  AUC")


# How a drawing shows itself


def test_a_drawing_shows_the_image_and_prints_the_sentence(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.append((bundle, options)))
    drawing = figures.confusion_matrix(report())
    drawing._ipython_display_()
    (bundle, options), *more = shown
    assert not more and bundle["image/png"] == drawing.image() and options["raw"]
    assert options["metadata"]["image/png"]["alt"] == drawing.sentence
    assert capsys.readouterr().out == drawing.sentence + "\n"
    assert str(drawing) == repr(drawing) == drawing.sentence


def test_drawings_are_small_and_always_the_same(data, draw, monkeypatch):
    image = np.asarray(draw(np.random.default_rng(0), 1, (400, 300)))
    monkeypatch.setattr(galleries, "read_image", lambda path: image)
    for make in (
        lambda: figures.class_counts(data),
        lambda: figures.contact_sheet(data),
        lambda: figures.learning_curves({name: history(50) for name in "abcd"}),
    ):
        first, second = make().image(), make().image()
        assert first == second and len(first) < 150_000


def test_figures_draw_in_your_axes(predictions):
    truth = (predictions.labels == 1, predictions.probabilities[:, 1])
    figure = Figure()
    axes = figure.subplots(2, 2).flat
    drawings = [
        figures.class_counts({"train": {"$x_$": 3}}, ax=axes[0]),
        figures.confusion_matrix(report(), ax=axes[1]),
        figures.roc_curve({"$a_$": truth}, ax=axes[2]),
        figures.metric_intervals(report(), ax=axes[3]),
    ]
    for ax, drawing in zip(axes, drawings, strict=False):
        assert drawing.axes == (ax,) and drawing.figure is figure
    figure.savefig("/dev/null", format="png")  # in the reader's own style, names still as they are


def test_the_readers_settings_stay():
    with mpl.rc_context({"font.size": 33, "text.parse_math": True}):
        figures.confusion_matrix(report()).image()
        assert mpl.rcParams["font.size"] == 33 and mpl.rcParams["text.parse_math"]


def test_nothing_stays_open_and_nothing_heavy_is_imported():
    code = (
        "import sys, numpy as np, vggnb.figures as f;"
        "from types import SimpleNamespace as T;"
        "f.confusion_matrix(T(confusion=np.eye(2, dtype=int), classes='ab')).image();"
        "assert not {'tensorflow', 'keras', 'matplotlib.pyplot', 'sklearn', 'IPython'} & set(sys.modules), sys.modules"
    )
    home = str(Path(galleries.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=home)


def test_figures_of_nothing_say_so():
    """A census with no usable image, and an empty list of predictions."""
    nothing = Thing(dataset=Path("/x"), classes=("cat",), rows=(), pairs=(), brightness=np.zeros(0), counts=dict)
    none = Thing(paths=(), labels=np.zeros(0, int), probabilities=np.zeros((0, 2)))
    for drawing in (
        figures.class_counts(nothing),
        figures.class_counts({"train": {"cat": 0}}),
        figures.contact_sheet(nothing),
        figures.sizes_and_brightness(nothing),
        figures.duplicate_pairs(nothing),
        figures.images(nothing, []),
        figures.predictions([]),
        figures.probability_bars([]),
        figures.prediction_gallery(none, nothing),
        figures.batch_grid(np.zeros((0, 8, 8, 3)), np.zeros(0), ("cat",)),
    ):
        assert drawing.sentence.startswith(("There is no", "There are no")) and drawing.image()
