"""Widgets without a browser: controls are set here as a person would, and what they show is read."""

import io
import json
import re
import socket
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace as Thing

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from vggnb.predict import Prediction
from vggnb.storage import VggnbError
from vggnb.widgets import Panel, TrainingProgress, app, batch_preview, controls, dataset_browser, threshold_explorer
from vggnb.widgets.controls import RANDOM, TRANSFORMS, View
from vggnb.widgets.uploads import OUT_OF_DISTRIBUTION, try_your_own, uploaded

HOSTILE = "<img src=x onerror=alert(1)>"


def jpeg(colour=(200, 30, 30), size=(64, 48)):
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


def upload(panel, *files):
    """What a browser does when files were chosen, in the form of this version."""
    about = {"type": "image/jpeg", "last_modified": datetime(2026, 1, 1)}
    if ipywidgets.__version__ >= "8":
        value = tuple({"name": n, "size": len(c), "content": memoryview(c), **about} for n, c in files)
    else:
        value = {n: {"metadata": {"name": n}, "content": c} for n, c in files}
    panel.controls["upload"].set_trait("value", value)


@pytest.fixture
def predictions():
    p = np.array([0.1, 0.2, 0.6, 0.4, 0.7, 0.9])
    return Thing(labels=np.array([0, 0, 0, 1, 1, 1]), probabilities=np.stack([1 - p, p], axis=1))


def test_a_panel_draws_again_whenever_a_control_changes_and_escapes_its_text(capsys):
    panel = Panel(lambda n: View(f"<b>{n}</b>", b"\xff" * (n > 2)), n=ipywidgets.IntText(value=1))
    assert panel.words.value == "&lt;b&gt;1&lt;/b&gt;" and panel.image.layout.display == "none"
    panel.set(n=3)
    panel._ipython_display_()
    assert capsys.readouterr().out == "<b>3</b>\n", "where there is no kernel, its text is printed"
    assert str(panel) == "<b>3</b>" and panel.image.value == b"\xff" and panel.image.layout.display is None


# Training progress


def test_training_progress_is_a_keras_callback():
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["accuracy"])
    x, y, progress = np.ones((8, 2)), np.ones(8), TrainingProgress(3)
    history = model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=[progress], verbose=0).history
    assert progress.bar.value == progress.bar.max == 3 and progress.bar.bar_style == "success"
    last = f"epoch 3 of 3, loss {history['loss'][-1]:.2f}, accuracy {history['accuracy'][-1]:.2f}, validation accuracy"
    assert progress.words.value.startswith(last) and progress.words.value.endswith("s in all")


def test_time_left_counts_only_what_this_training_did_and_is_never_printed(monkeypatch, capsys):
    now, drawn, curves = [100.0], [], controls.figures.learning_curves
    monkeypatch.setattr(controls.figures, "learning_curves", lambda rows: drawn.append(curves(rows)) or drawn[-1])
    monkeypatch.setattr(controls.time, "monotonic", lambda: now[0])
    progress = TrainingProgress(10)
    progress.on_train_begin()
    now[0] += 6
    progress.on_epoch_end(4, {"loss": 0.6, "accuracy": 0.7})
    progress.on_epoch_end(5, {"loss": 0.5, "accuracy": 0.75})
    assert progress.words.value == "epoch 6 of 10, loss 0.50, accuracy 0.75, 12 s left"
    (line,) = [line for line in drawn[-1].axes[0].lines if len(line.get_xdata()) > 1]
    assert list(line.get_xdata()) == [5, 6], "it continues an earlier training"
    progress.on_train_end()
    assert progress.bar.bar_style == "warning"  # stopped early
    never = TrainingProgress(3)
    never.on_train_end()
    assert never.words.value == "0 s in all"
    assert capsys.readouterr().out == f"{progress}\n" and "stop button" in str(progress)


# Dataset browser


def test_dataset_browser_pages_through_split_and_class(manifest):
    browser = dataset_browser(manifest)
    assert str(browser) == "train, all classes: images 1 to 12 of 16"
    first = browser.image.value
    browser.set(page=2)
    assert str(browser) == "train, all classes: images 13 to 16 of 16" and browser.image.value != first
    browser.set(class_name="dog", split="test")
    assert str(browser) == "test, dog: images 1 to 6 of 6"
    assert Image.open(io.BytesIO(browser.image.value)).format in ("JPEG", "PNG")


def test_dataset_browser_shows_what_the_census_found_and_escapes_names(noisy_files):
    rows = [Thing(path=f"{k}.jpg", split="train", class_name=HOSTILE, label=0, notes="") for k in range(3)]
    pair = Thing(paths=("0.jpg", "2.jpg"))
    data = Thing(dataset=Path("x"), classes=(HOSTILE, "dog"), rows=rows, pairs=[pair], leaks=[], conflicts=[])
    browser = dataset_browser(data)
    browser.set(flag="duplicate", class_name=HOSTILE)
    assert str(browser).endswith("duplicate: images 1 to 2 of 2")
    assert "<" not in browser.words.value and "&lt;img src=x" in browser.words.value
    browser.set(class_name="dog")
    assert str(browser) == "train, dog, duplicate: images 0" and browser.image.value == b""
    with pytest.raises(VggnbError, match="no images"):
        dataset_browser(Thing(dataset="x", classes=("a", "b"), rows=[]))


# Batch preview


def test_batches_come_in_the_order_of_training_and_can_be_transformed(manifest, best, monkeypatch):
    from vggnb import figures
    from vggnb.generators import make_dataset

    drawn, grid = [], figures.batch_grid
    monkeypatch.setattr(
        figures, "batch_grid", lambda images, *rest: drawn.append((images, *rest)) or grid(images, *rest)
    )
    recipe = best.with_(batch_size=12)
    preview = batch_preview(manifest, recipe)
    assert str(preview) == "epoch 1, batch 1 of 2, no rotation: 12 images, cat 7, dog 5"
    preview.set(batch=2)
    assert "batch 2 of 2" in str(preview) and ": 4 images" in str(preview)
    batches = make_dataset(manifest, "train", recipe, training=True)
    for (images, labels, _), (pixels, truth) in zip(drawn, batches, strict=True):
        assert np.array_equal(images, pixels.numpy()) and np.array_equal(labels, truth.numpy())
    plain = drawn[-1][0]
    preview.set(transform=TRANSFORMS.index("mirrored, no rotation"))
    assert np.array_equal(drawn[-1][0], plain[:, :, ::-1])
    preview.set(transform=TRANSFORMS.index("rotated 90° left"))
    assert np.array_equal(drawn[-1][0][0], np.rot90(plain[0]))
    preview.set(transform=RANDOM)
    first = drawn[-1][0]
    preview.refresh()
    assert np.array_equal(drawn[-1][0], first) and "random flips and rotations" in str(preview)


def test_a_batch_with_an_unreadable_file(manifest, best, monkeypatch):
    def read(manifest, row, recipe):
        raise VggnbError("The file is gone.", row.path, "Look for it.")

    monkeypatch.setattr("vggnb.generators.read_row", read)
    preview = batch_preview(manifest, best)
    assert str(preview).endswith("0 images, cat 0, dog 0; 16 cannot be read") and preview.image.value == b""


# Threshold explorer


@pytest.mark.parametrize("positive, threshold, cost, text", [
    (None, 0.5, 5, "dog is predicted from probability 0.50; sensitivity 0.67 (2 of 3); specificity 0.67 (2 of 3); "
     "1 missed, 1 false alarm; cost 6 if a miss costs 5 times a false alarm."),
    (None, 1.0, 1, "sensitivity 0.00 (0 of 3); specificity 1.00 (3 of 3); 3 missed, 0 false alarms"),
    ("cat", 0.85, 1, "cat is predicted from probability 0.85; sensitivity 0.33 (1 of 3); specificity 1.00 (3 of 3"),
])  # fmt: skip
def test_threshold_explorer_counts(positive, threshold, cost, text, predictions):
    explorer = threshold_explorer(predictions, ("cat", "dog"), positive)
    before = explorer.image.value
    explorer.set(threshold=threshold, cost=cost)
    assert text in str(explorer) and (explorer.image.value == before) == (threshold == 0.5)
    assert "; ".join(re.sub("</?b>", "", explorer.words.value).split("<br>")) + "." == str(explorer)


@pytest.mark.parametrize("classes, positive, words", [(("a", "b", "c"), None, "two classes"), (("a", "b"), "c", "'c'")])
def test_threshold_explorer_refuses_what_it_cannot_separate(classes, positive, words, predictions):
    with pytest.raises(VggnbError, match=words):
        threshold_explorer(predictions, classes, positive)


# Try your own


def test_both_forms_of_an_upload():
    seven = {"a.jpg": {"metadata": {}, "content": b"abc"}}
    eight = ({"name": "a.jpg", "content": memoryview(b"abc")},)
    assert uploaded(seven) == uploaded(eight) == [("a.jpg", b"abc")]
    assert uploaded({}) == uploaded(()) == []


def test_uploads_are_predicted_and_broken_files_are_named(bundle, tmp_path, monkeypatch):
    from vggnb.predict import predict_images

    monkeypatch.chdir(tmp_path)
    panel = try_your_own(bundle)
    assert "10 MB" in str(panel)
    files = [("moon.jpg", jpeg()), (HOSTILE, jpeg()), ("../../x.jpg", b"<html>hello</html>"), ("a\u202egpj.exe", b"")]
    upload(panel, *files)
    text = panel.words.value
    assert str(panel) == "\n".join(map(str, predict_images(bundle, files)))
    assert "<b>moon.jpg</b>" in text and "<td>cat</td>" in text and "<td>dog</td>" in text
    assert (
        "<b>../../x.jpg</b>: Not a photograph: it is a web page or a drawing." in text and "The file is empty" in text
    )
    assert "<img src=x" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text and "\u202e" not in text
    assert text.count("<img") == 4  # of each image a thumbnail and a heat map, both made by us
    assert list(tmp_path.iterdir()) == [] and not (tmp_path.parent.parent / "x.jpg").exists()
    panel = try_your_own(replace(bundle, model=None))  # as in onnxruntime
    upload(panel, *files)
    assert panel.words.value.count("<img") == 2 and str(panel) == "\n".join(map(str, predict_images(bundle, files)))


def test_the_threshold_that_was_chosen_decides_and_is_named(bundle, monkeypatch):
    monkeypatch.setattr("vggnb.widgets.uploads._heat_map", lambda *_: "")
    for threshold, name in ((1e-9, "cat"), (1 - 1e-9, "dog")):
        point = {"threshold": threshold, "positive": "cat", "aim": "a sensitivity of at least 0.9", "images": 24}
        panel = try_your_own(replace(bundle, threshold=point))
        upload(panel, ("moon.jpg", jpeg()))
        assert str(panel).startswith(f"moon.jpg: {name}") and "at least 0.9" in panel.words.value


def test_class_names_are_escaped_and_out_of_distribution_is_warned_about(monkeypatch):
    monkeypatch.setattr("vggnb.widgets.uploads._heat_map", lambda *_: "")
    for unusual in (True, False):
        one = Prediction("a.jpg", {HOSTILE: 0.75, "dog": 0.25}, out_of_distribution=unusual)
        monkeypatch.setattr("vggnb.predict.predict_images", lambda *_, one=one, threshold: [one])
        panel = try_your_own(Thing(threshold=None, model=None))
        upload(panel, ("a.jpg", jpeg()))
        assert "<img src=x" not in panel.words.value and "width:75.0%" in panel.words.value
        assert (OUT_OF_DISTRIBUTION in panel.words.value) == unusual


# The app


def test_the_app_refuses_what_it_cannot_serve(best_run, tmp_path, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: name)  # wherever this runs, Voila is there
    with socket.socket() as other:
        other.bind((app.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        for folder, number, words in (
            (tmp_path, 8866, "no run in this folder"),
            (best_run[0].folder, port, f"port {port} cannot be used .Address already in use"),
            (best_run[0].folder, 70_000, "port 70000 cannot be used"),
        ):
            with pytest.raises(VggnbError, match=words):
                app.check(folder, number)
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VggnbError, match=r"(?s)needs Voila.*vggnb\[app\]"):
        app.check(best_run[0].folder, 8866)


def test_the_app_is_served_on_this_machine_only_and_leaves_nothing_behind(best_run, monkeypatch):
    started, printed = [], []

    def launch(arguments):
        assert app.CELL in "".join(json.loads(Path(arguments[0]).read_text())["cells"][0]["source"])
        started.extend(arguments)

    voila = ModuleType("voila.app")
    voila.Voila = Thing(launch_instance=launch)
    monkeypatch.setitem(sys.modules, "voila", ModuleType("voila"))
    monkeypatch.setitem(sys.modules, "voila.app", voila)
    for name in ("check", "prepare"):
        monkeypatch.setattr(app, name, lambda *_: None)
    for name in (app.RUN, "PYTHONPATH", "JUPYTER_PREFER_ENV_PATH"):
        monkeypatch.setenv(name, "")
    app.serve(best_run[0].folder, port=8877, tell=printed.append)
    assert {"--Voila.ip=127.0.0.1", "--port=8877", "--no-browser"} <= set(started) and not Path(started[0]).exists()
    assert app.os.environ[app.RUN] == str(best_run[0].folder)
    assert printed == ["Open http://127.0.0.1:8877/ in a browser on this machine. Ctrl+C ends it."]


@pytest.mark.parametrize("answer, words", [
    (Thing(labels=np.array([0, 1]), probabilities=np.array([[0.9, 0.1], [0.2, 0.8]])), "predicted from probability"),
    ("There are no images <here>.", "&lt;here&gt;"),
])  # fmt: skip
def test_what_the_app_shows(answer, words, own_run, bundle, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setenv(app.RUN, "any")
    monkeypatch.setattr(app, "prepare", lambda run: (own_run, bundle, answer))
    app.show()
    texts = [part.value for part in leaves(shown[-1]) if isinstance(part, ipywidgets.HTML)]
    assert any("before you rely on it" in text for text in texts) and any(words in text for text in texts)


def leaves(view):
    """The controls inside boxes."""
    inside = [leaf for part in getattr(view, "children", ()) for leaf in leaves(part)]
    return inside or [view]


# Without a kernel, and in a real one


def test_in_a_real_kernel():
    """A figure: image, then sentence. A panel: live view, and text for the saved page. No object addresses."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "import numpy as np\nfrom types import SimpleNamespace as T\nfrom vggnb import figures, widgets\n"
        "report = T(confusion=np.array([[3, 1], [0, 4]]), classes=('cat', 'dog'))",
        "figures.confusion_matrix(report)",
        "p = np.array([0.1, 0.9])\n"
        "widgets.threshold_explorer(T(labels=np.array([0, 1]), probabilities=np.stack([1 - p, p], 1)), ('cat', 'dog'))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=600).execute()
    nothing, figure, widget = (cell.outputs for cell in notebook.cells)
    assert nothing == []
    assert "7 of 8" in figure[0].metadata["image/png"]["alt"]
    assert widget[0].data["text/plain"].startswith("dog is predicted from probability 0.50")
    assert "model_id" in widget[0].data["application/vnd.jupyter.widget-view+json"]
    assert "0x" not in str([output.get("data", {}).get("text/plain") for output in figure + widget])


def test_rich_output_is_made_by_widgets_only():
    """They escape; anywhere else a name could become a tag."""
    package, rich = Path(app.__file__).parents[1], r"\b(HTML|HTMLMath|Markdown|SVG|Latex|Javascript|IFrame)\("
    found = [path for path in package.rglob("*.py") if re.search(rich, path.read_text("utf-8"))]
    assert {path.relative_to(package).as_posix() for path in found} == {"widgets/app.py", "widgets/controls.py"}
