"""Widgets without a browser: controls are set and pressed here as a person would, and their values are read."""

import ast
import io
import re
import signal
import socket
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace as Thing

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from vggnb.predict import OUT_OF_DISTRIBUTION, Prediction
from vggnb.storage import VggnbError
from vggnb.widgets import (
    BatchPreview,
    DatasetBrowser,
    ThresholdExplorer,
    TrainingProgress,
    TryYourOwn,
    app,
    batches,
    controls,
    panels,
    training,
    uploads,
)
from vggnb.widgets.uploads import MAX_UPLOAD, uploaded

EIGHT = int(ipywidgets.__version__.split(".")[0]) >= 8
HOSTILE = "<img src=x onerror=alert(1)>"


def jpeg(colour=(200, 30, 30), size=(64, 48)):
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


def hand_in(upload, files):
    """What a browser does when files were chosen, in this version's form."""
    if EIGHT:
        about = {"type": "image/jpeg", "last_modified": datetime(2026, 1, 1)}
        value = tuple({"name": n, "size": len(c), "content": memoryview(c), **about} for n, c in files)
    else:
        value = {n: {"metadata": {"name": n}, "content": c} for n, c in files}
    upload.set_trait("value", value)


@pytest.fixture
def no_widgets(monkeypatch):
    for module in (panels, uploads, controls, training, batches):
        monkeypatch.setattr(module, "ipywidgets", None)


@pytest.fixture
def predictions():
    p = np.array([0.1, 0.2, 0.6, 0.4, 0.7, 0.9])
    return Thing(labels=np.array([0, 0, 0, 1, 1, 1]), probabilities=np.stack([1 - p, p], axis=1))


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


def test_time_left_is_shown_but_never_printed(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    progress = TrainingProgress(10)
    progress.on_train_begin()
    now[0] += 6
    progress.on_epoch_end(0, {"loss": 0.6, "accuracy": 0.7})
    progress.on_epoch_end(1, {"loss": 0.5, "accuracy": 0.75})
    assert progress.words.value == "epoch 2 of 10, loss 0.50, accuracy 0.75, 24 s left"
    assert bytes(progress.image.value).startswith(b"\x89PNG")
    progress.on_train_end()
    assert progress.bar.bar_style == "warning"  # stopped early
    assert capsys.readouterr().out == "Training for 10 epochs.\n" and str(progress) == "Training for 10 epochs."


def test_training_progress_has_no_other_attributes():
    with pytest.raises(AttributeError):
        TrainingProgress(1).validation_data  # noqa: B018


def test_after_going_on_the_time_left_counts_only_what_this_training_did(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    progress = TrainingProgress(10)
    progress.on_train_begin()
    now[0] += 3
    progress.on_epoch_end(5, {"loss": 0.5})
    assert progress.words.value.endswith("12 s left")


def test_the_stop_button_ends_the_training_and_it_can_be_continued(fit_tiny, base, manifest, best, tmp_path):
    from vggnb.features import extract
    from vggnb.train import Stopped, fit, start_run

    class StopsInEpoch2(TrainingProgress):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.button.click()
            super().on_epoch_end(epoch, logs)

    features = extract(manifest, best, *base, store=tmp_path / "store", progress=False)
    run = start_run(tmp_path / "run", manifest, best, weights="none", source=base[1])
    with pytest.raises(Stopped, match="Stopped at epoch 2; run this again to continue"):
        fit(run, features, progress=StopsInEpoch2)
    assert fit(run, features, progress=False) == fit_tiny(manifest, best)[0].history()


def test_presses_are_not_sent_to_the_thread_that_trains():
    """What ipykernel 7.4 remembers when a cell writes to a control, and must forget."""
    progress = TrainingProgress(2)
    progress.button.comm._reply_subshell_id = None
    progress.on_train_begin()
    assert not hasattr(progress.button.comm, "_reply_subshell_id")


def test_curves_of_a_continued_training_begin_where_it_went_on(monkeypatch):
    drawn = []
    curves = training.figures.learning_curves
    monkeypatch.setattr(training.figures, "learning_curves", lambda history: drawn.append(history) or curves(history))
    progress = TrainingProgress(10)
    for epoch in (5, 6):
        progress.on_epoch_end(epoch, {"loss": 0.5, "accuracy": 0.7})
    (line,) = [line for line in curves(drawn[-1]).axes[0].lines if len(line.get_xdata()) > 1]
    assert [x for x, y in line.get_xydata() if y == 0.5] == [6, 7]


def test_a_stopped_training_says_how_it_goes_on():
    progress = TrainingProgress(10)
    progress.on_epoch_end(0, {"loss": 0.5})
    progress.button.click()
    progress.on_train_end()
    assert progress.words.value.endswith("run the cell again to go on") and progress.bar.bar_style == "warning"


# Dataset browser


def test_dataset_browser_shows_what_the_census_flags(noisy_files):
    rows = [Thing(path=f"{k}.jpg", split="train", class_name="a", label=0, notes="") for k in range(3)]
    pair = Thing(paths=("0.jpg", "2.jpg"))
    data = Thing(dataset=Path("x"), classes=("a",), rows=rows, pairs=[pair], leaks=[], conflicts=[])
    browser = DatasetBrowser(data)
    browser.flag_choice.value = "there twice"
    assert [row.path for row in browser.rows()] == ["0.jpg", "2.jpg"]
    assert captions(browser) == "train, all classes, there twice: images 1 to 2 of 2"


def captions(browser):
    return browser.words.value


def test_dataset_browser_turns_pages(manifest):
    browser = DatasetBrowser(manifest)
    assert captions(browser) == "train, all classes: images 1 to 12 of 16" and browser.back.disabled
    first = browser.image.value
    browser.forward.click()
    assert captions(browser) == "train, all classes: images 13 to 16 of 16" and browser.forward.disabled
    assert browser.image.value != first
    browser.back.click()
    assert browser.image.value == first
    browser.forward.click()
    browser.class_choice.value = "dog"
    assert captions(browser) == "train, dog: images 1 to 8 of 8" and browser.back.disabled and browser.forward.disabled
    browser.split_choice.value = "test"
    assert captions(browser) == "test, dog: images 1 to 6 of 6"
    assert [row.path for row in browser.rows()] == [f"test/dog/dog_{k}.{'png' if k % 2 else 'jpg'}" for k in range(6)]
    browser.class_choice.value = None
    assert captions(browser) == "test, all classes: images 1 to 12 of 12"
    assert Image.open(io.BytesIO(browser.image.value)).format == "JPEG"


def test_dataset_browser_without_images_of_a_class_and_with_hostile_names(noisy_files):
    rows = [Thing(path="a.jpg", split="train", class_name=HOSTILE, label=0)]
    data = Thing(dataset=Path("x"), classes=(HOSTILE, "dog"), rows=rows)
    browser = DatasetBrowser(data)
    browser.class_choice.value = HOSTILE
    assert "<" not in captions(browser) and "&lt;img src=x" in captions(browser)
    browser.show(class_name="dog")
    assert captions(browser) == "train, dog: images 0" and browser.image.value == b""
    browser.show(page=7)
    assert browser.page == 0
    with pytest.raises(VggnbError, match="no images"):
        DatasetBrowser(Thing(dataset="x", classes=("a", "b"), rows=[]))


def test_what_is_called_from_code_moves_the_controls(manifest, predictions):
    browser = DatasetBrowser(manifest)
    browser.show(split="test", class_name="dog")
    assert (browser.split_choice.value, browser.class_choice.value) == ("test", "dog")
    explorer = ThresholdExplorer(predictions, ("cat", "dog"))
    explorer.show(0.35, cost_ratio=50)
    assert (explorer.slider.value, explorer.cost_slider.value) == (0.35, 50)
    assert "from probability 0.35 on" in explorer.words.value and explorer.cost == 1


# Batch preview


def test_batches_come_in_the_order_of_training(manifest, best):
    from vggnb.generators import make_dataset

    recipe = best.with_(batch_size=12)
    preview = BatchPreview(manifest, recipe)
    assert preview.words.value == "epoch 1, batch 1 of 2, as they are: 12 images, cat 7, dog 5"
    ours = []
    for preview_batch in (1, 2):
        preview.batch_box.value = preview_batch
        ours.append(preview.pictures())
    assert "batch 2 of 2" in preview.words.value and ": 4 images" in preview.words.value
    for (images, labels), (pixels, truth) in zip(
        ours, make_dataset(manifest, "train", recipe, training=True), strict=True
    ):
        assert np.array_equal(images, pixels.numpy()) and np.array_equal(labels, truth.numpy())


def test_a_batch_is_seen_in_eight_ways(manifest, best):
    preview = BatchPreview(manifest, best)
    plain, picture = preview.pictures()[0], preview.image.value
    preview.view_choice.value = batches.VIEWS.index("mirrored")
    assert np.array_equal(preview.pictures()[0], plain[:, :, ::-1]) and preview.image.value != picture
    preview.view_choice.value = batches.VIEWS.index("upside down")
    assert np.array_equal(preview.pictures()[0], plain[:, ::-1, ::-1])
    preview.view_choice.value = batches.VIEWS.index("a quarter turn to the left")
    assert np.array_equal(preview.pictures()[0][0], np.rot90(plain[0]))
    preview.view_choice.value = batches.EACH
    first = preview.views()
    assert len(set(first)) > 3 and preview.views() == first
    preview.epoch_box.value = 2
    assert preview.views() != first and "each picture its own" in preview.words.value


def test_a_batch_without_a_file_and_with_hostile_names(monkeypatch):
    row = Thing(path="a.jpg", split="train", class_name=HOSTILE, label=0)
    manifest = Thing(dataset="x", classes=(HOSTILE, "dog"), of=lambda split: [row, row] if split == "train" else [])
    recipe = Thing(seed=0, batch_size=2, image_size=32)
    found = iter([np.zeros((32, 32, 3), np.uint8)])

    def read(manifest, one, recipe):
        for pixels in found:
            return pixels
        raise VggnbError("The file is gone.", one.path, "Look for it.")

    monkeypatch.setattr("vggnb.generators.read_row", read)
    preview = BatchPreview(manifest, recipe)
    assert preview.words.value.endswith("dog 0; 1 cannot be read") and "<" not in preview.words.value
    preview.epoch_box.value = 2
    assert preview.image.value == b""
    with pytest.raises(VggnbError, match="no images in test"):
        BatchPreview(manifest, recipe, split="test")


# Threshold explorer


def test_threshold_explorer_follows_the_slider(predictions):
    explorer = ThresholdExplorer(predictions, ("cat", "dog"))
    assert explorer.counts().tolist() == [[2, 1], [1, 2]]
    assert str(explorer) == (
        "dog is said from probability 0.50 on; sensitivity 0.67 (2 of 3 dog told right); "
        "specificity 0.67 (2 of 3 cat told right); misses 1, false alarms 1: cost 2 at 1 for a miss."
    )
    assert re.sub(r"</?(b|div)\b[^>]*>", "", explorer.words.value).replace("<br>", "; ") + "." == str(explorer)
    before = explorer.image.value
    explorer.slider.value = 0.35
    assert explorer.counts().tolist() == [[2, 1], [0, 3]] and explorer.image.value != before
    assert "sensitivity 1.00 (3 of 3 dog" in explorer.words.value
    explorer.slider.value = 1.0
    assert explorer.counts().tolist() == [[3, 0], [3, 0]]
    assert Image.open(io.BytesIO(explorer.image.value)).format == "PNG"


def test_a_miss_may_cost_more_than_a_false_alarm(predictions):
    explorer = ThresholdExplorer(predictions, ("cat", "dog"))
    explorer.cost_slider.value = 5.0
    assert explorer.cost == 6 and "cost 6 at 5 for a miss" in explorer.words.value
    explorer.slider.value = 0.35
    assert explorer.cost == 1


def test_threshold_explorer_of_the_other_class(predictions):
    explorer = ThresholdExplorer(predictions, ("cat", "dog"), "cat")
    explorer.show(0.85)  # cat from 0.85 on
    assert explorer.counts().tolist() == [[1, 2], [0, 3]]
    assert "sensitivity 0.33 (1 of 3 cat" in str(explorer) and "specificity 1.00 (3 of 3 dog" in str(explorer)


def test_threshold_explorer_agrees_with_the_report(best_run):
    from vggnb.evaluate import judge, predict_split

    run, _ = best_run
    explorer = ThresholdExplorer(predict_split(run, "test", progress=False), run.classes)
    assert np.array_equal(explorer.counts(), judge(run, "test", progress=False).confusion)


def test_threshold_explorer_refuses_what_it_cannot_divide(predictions):
    with pytest.raises(VggnbError, match="divides two classes"):
        ThresholdExplorer(predictions, ("a", "b", "c"))
    with pytest.raises(VggnbError, match="'fish' is not a class"):
        ThresholdExplorer(predictions, ("cat", "dog"), "fish")


# Try your own


def test_both_forms_of_an_upload():
    seven = Thing(value={"a.jpg": {"metadata": {}, "content": b"abc"}})
    eight = Thing(value=({"name": "a.jpg", "content": memoryview(b"abc")},))
    assert uploaded(seven) == uploaded(eight) == [("a.jpg", b"abc")]
    assert uploaded(Thing(value={})) == uploaded(Thing(value=())) == []


def test_try_your_own_ranks_classes_and_names_broken_files(bundle):
    panel = TryYourOwn(bundle)
    hand_in(panel.upload, [("moon.jpg", jpeg()), ("page.jpg", b"<html>hello</html>"), ("empty.jpg", b"")])
    text = panel.words.value
    assert "<b>moon.jpg</b>" in text and "<td>cat</td>" in text and "<td>dog</td>" in text
    assert "<b>page.jpg</b>: Not a photograph: it is a web page or a drawing." in text
    assert "<b>empty.jpg</b>: The file is empty (0 bytes)." in text
    (_, ranked), *_ = panel.answers
    words = ranked.removesuffix(f" ({OUT_OF_DISTRIBUTION})").replace(",", "").split()
    assert sorted(words[::2]) == ["cat", "dog"]
    shares = [float(share) for share in words[1::2]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=0.02)


def test_an_answer_is_the_one_of_predict(bundle):
    from vggnb.predict import predict_images

    (expected,) = predict_images(bundle, [("x", jpeg((9, 99, 9)))])
    ((_, said),) = TryYourOwn(bundle).answer([("x", jpeg((9, 99, 9)))])
    assert said.startswith(f"{expected.class_name} {expected.probability:.2f}")


def test_names_are_shown_escaped_and_never_used_as_paths(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    panel = TryYourOwn(bundle)
    files = [(HOSTILE, jpeg()), ("../../x.jpg", jpeg()), ("a\u202egpj.exe", b"nothing")]
    hand_in(panel.upload, files)
    text = panel.words.value
    assert "<img src=x" not in text and "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "<b>../../x.jpg</b>" in text and "\u202e" not in text
    assert text.count("<img") == 4  # of each picture a small copy and a heat map, both made by us
    assert [name for name, _ in panel.answers] == [name for name, _ in files]
    assert list(tmp_path.iterdir()) == [] and not (tmp_path.parent.parent / "x.jpg").exists()


def test_class_names_are_escaped(monkeypatch):
    answer = Prediction("a.jpg", {HOSTILE: 0.75, "dog": 0.25})
    monkeypatch.setattr("vggnb.predict.predict_images", lambda bundle, files: [answer for _ in files])
    panel = TryYourOwn(None)
    panel.answer([("a.jpg", jpeg())])
    assert "<img src=x" not in panel.words.value and "width:75.0%" in panel.words.value


def test_a_file_that_is_too_large_is_refused_before_it_is_opened(monkeypatch):
    asked = []
    monkeypatch.setattr("vggnb.predict.predict_images", lambda bundle, files: asked.extend(files) or [])
    panel = TryYourOwn(None)
    panel.answer([("huge.jpg", bytes(MAX_UPLOAD + 1))])
    assert asked == [] and "8.0 MB; the limit is 8 MB. Make the picture smaller." in panel.words.value


UPLOADS = {
    "bomb.png": (None, "the limit is 50 million"),
    "drawing.svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "a web page or a drawing",
    ),
    "page.jpg": (b"<html><script>alert(1)</script></html>", "a web page or a drawing"),
    "photos.jpg": (b"PK\x03\x04" + bytes(40), "an archive or a document"),
    "empty.jpg": (b"", "The file is empty"),
    "../../x": (b"nothing", "Not a picture"),
    HOSTILE: (b"nothing", "Not a picture"),
    "$x_$\u202egpj": (b"nothing", "Not a picture"),
}


@pytest.fixture(scope="module")
def bomb():
    data = io.BytesIO()
    Image.new("L", (10_000, 6_000)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize("name", UPLOADS)
def test_a_hostile_upload_is_refused_at_once_with_a_sentence(name, bundle, bomb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, words = UPLOADS[name]
    panel, start = TryYourOwn(bundle), time.process_time()
    ((_, said),) = panel.answer([(name, bomb if data is None else data)])
    assert time.process_time() - start < 1
    assert words in said and said.endswith(".")
    text = panel.words.value
    assert "\u202e" not in text and not re.search(r"<(?!/?(p|b)>)", text)  # no tag but our own two
    assert list(tmp_path.iterdir()) == [] and not (tmp_path.parent.parent / "x").exists()


def test_a_picture_unlike_the_training_data_is_warned_about(monkeypatch):
    panel = TryYourOwn(None)
    for unlike in (True, False):
        answer = Prediction("a.jpg", {"dog": 1.0}, out_of_distribution=unlike)
        monkeypatch.setattr("vggnb.predict.predict_images", lambda bundle, files, answer=answer: [answer])
        ((_, said),) = panel.answer([("a.jpg", jpeg())])
        assert (uploads.OUT_OF_DISTRIBUTION in panel.words.value) == (OUT_OF_DISTRIBUTION in said) == unlike


# The app


def test_the_app_refuses_what_it_cannot_serve(best_run, tmp_path, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: name)  # wherever this runs, Voila is there
    with pytest.raises(VggnbError, match="no run in this folder"):
        app.check(tmp_path, 8866)
    with socket.socket() as other:
        other.bind((app.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(VggnbError, match=f"port {port} cannot be used .Address already in use"):
            app.check(best_run[0].folder, port)
    with pytest.raises(VggnbError, match="port 70000 cannot be used"):
        app.check(best_run[0].folder, 70_000)
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VggnbError, match="needs Voila") as error:
        app.check(best_run[0].folder, 8866)
    assert "vggnb[app]" in error.value.remedy


def test_the_app_is_served_on_this_machine_only_and_leaves_nothing_behind(best_run, monkeypatch):
    started, folders = [], []

    class Server:
        def __init__(self, command, *, cwd, env):
            started.append((command, env))
            folders.append(Path(cwd))
            assert (folders[0] / "app.ipynb").is_file()

        def wait(self):
            return 0

        def terminate(self):
            pass

    told = []
    monkeypatch.setattr(app, "check", lambda run, port: None)
    monkeypatch.setattr(app, "prepare", lambda run: None)
    monkeypatch.setattr(app.subprocess, "Popen", Server)
    app.serve(best_run[0].folder, port=8877, tell=told.append)
    ((command, environment),) = started
    assert {"--Voila.ip=127.0.0.1", "--port=8877", "--no-browser"} <= set(command)
    assert sum("ip=" in part for part in command) == 1
    assert environment[app.RUN] == str(best_run[0].folder) and not folders[0].exists()
    assert told == ["Open http://127.0.0.1:8877/ in a browser on this machine. Ctrl+C ends it."]


def test_a_server_that_fails_is_told(best_run, monkeypatch):
    class Server:
        def __init__(self, command, **_):
            pass

        def wait(self):
            return 1

        def terminate(self):
            pass

    monkeypatch.setattr(app, "check", lambda run, port: None)
    monkeypatch.setattr(app, "prepare", lambda run: None)
    monkeypatch.setattr(app.subprocess, "Popen", Server)
    with pytest.raises(VggnbError, match="ended with the code 1"):
        app.serve(best_run[0].folder, tell=lambda text: None)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_however_the_app_is_ended_its_server_ends_too(name, best_run, monkeypatch):
    ended = []

    class Server:
        def __init__(self, command, **_):
            pass

        def wait(self):
            if not ended:
                signal.raise_signal(getattr(signal, name))

        def terminate(self):
            ended.append(name)

    monkeypatch.setattr(app, "check", lambda run, port: None)
    monkeypatch.setattr(app, "prepare", lambda run: None)
    monkeypatch.setattr(app.subprocess, "Popen", Server)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="The app has ended"):
        app.serve(best_run[0].folder, tell=lambda text: None)
    assert ended == [name] and signal.getsignal(signal.SIGTERM) is before


def test_what_the_app_shows(own_run, bundle, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setenv(app.RUN, "any")
    said = Thing(labels=np.array([0, 1]), probabilities=np.array([[0.9, 0.1], [0.2, 0.8]]))
    for answer, words in ((said, "is said from probability 0.50 on"), ("There are no images <here>.", "&lt;here&gt;")):
        monkeypatch.setattr(app, "prepare", lambda run, answer=answer: (own_run, bundle, answer))
        app.show()
        texts = [part.value for part in leaves(shown[-1]) if isinstance(part, ipywidgets.HTML)]
        assert any("not a diagnostic device" in text for text in texts) and any(words in text for text in texts)


def leaves(view):
    """The controls inside boxes."""
    inside = [leaf for part in getattr(view, "children", ()) for leaf in leaves(part)]
    return inside or [view]


# Without a kernel, without ipywidgets, and in a real kernel


def test_words_stand_in_where_there_is_no_kernel(manifest, predictions, best, capsys):
    explorer, preview = ThresholdExplorer(predictions, ("cat", "dog")), BatchPreview(manifest, best)
    for panel in (DatasetBrowser(manifest), preview, explorer, TryYourOwn(None)):
        panel._ipython_display_()
        assert capsys.readouterr().out == f"{panel}\n"


def test_everything_answers_without_ipywidgets(no_widgets, manifest, predictions, bundle, best, capsys):
    browser, explorer = DatasetBrowser(manifest), ThresholdExplorer(predictions, ("cat", "dog"))
    browser.show(split="test", class_name="dog")
    assert str(browser) == "test, dog: images 1 to 6 of 6" and browser.view is None
    explorer.show(0.35)
    assert "sensitivity 1.00" in str(explorer)
    preview = BatchPreview(manifest, best)
    preview.show(seen=4)
    assert str(preview).startswith("epoch 1, batch 1 of 1, mirrored: 16 images") and preview.view is None
    panel = TryYourOwn(bundle)
    assert "predict_files" in str(panel)
    assert "moon.jpg" in str(panel.answer([("moon.jpg", jpeg())]) and panel)
    progress = TrainingProgress(2)
    progress.on_train_begin()
    progress.on_epoch_end(0, {"loss": 0.5})
    progress.on_train_end()
    assert capsys.readouterr().out == "Training for 2 epochs.\nepoch 1 of 2, loss 0.50\n"


def test_in_a_real_kernel():
    """A figure: picture, then sentence. A widget: live view, and words for the saved page. No object addresses."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "import numpy as np\nfrom types import SimpleNamespace as T\nfrom vggnb import figures, widgets\n"
        "report = T(confusion=np.array([[3, 1], [0, 4]]), classes=('cat', 'dog'))",
        "figures.confusion_matrix(report)",
        "p = np.array([0.1, 0.9])\n"
        "widgets.ThresholdExplorer(T(labels=np.array([0, 1]), probabilities=np.stack([1 - p, p], 1)), ('cat', 'dog'))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=600).execute()
    nothing, figure, widget = (cell.outputs for cell in notebook.cells)
    assert nothing == []
    assert [output.output_type for output in figure] == ["display_data", "stream"]
    assert figure[0].metadata["image/png"]["alt"] in figure[1].text and "7 of 8 images right" in figure[1].text
    assert widget[0].data["text/plain"].startswith("dog is said from probability 0.50 on")
    assert "model_id" in widget[0].data["application/vnd.jupyter.widget-view+json"]
    assert "0x" not in str([output.get("data", {}).get("text/plain") for output in figure + widget])


def test_rich_output_is_made_by_widgets_only():
    """They escape; anywhere else a name could become a tag."""
    package = Path(app.__file__).parents[1]
    named = {}
    for path in package.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}
        imported = re.findall(r"(?m)^\s*from IPython.*? import (.+)$", path.read_text("utf-8"))
        named[path.relative_to(package).as_posix()] = names | {n.strip() for line in imported for n in line.split(",")}
    rich = {"HTML", "HTMLMath", "Markdown", "SVG", "Latex", "Javascript", "IFrame"}
    assert {path for path, names in named.items() if names & rich} == {
        "widgets/app.py",
        "widgets/batches.py",
        "widgets/controls.py",
        "widgets/training.py",
        "widgets/uploads.py",
    }
