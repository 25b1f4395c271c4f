"""Try the model on your own photo: upload, ranked answer, or one plain sentence for a file that is none."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from vggnb import figures, predict
from vggnb.folders import counted, shown
from vggnb.images import decode, read_image
from vggnb.predict import Prediction
from vggnb.widgets.panels import Panel, ipywidgets

MAX_UPLOAD = 8_000_000  # bytes; all files together are one message, and Jupyter silently drops those above 10 MB
MOST_CLASSES = 10  # with a bar
MOST_MAPS = 4  # pictures with a heat map: each takes about a second at 224 pixels
SMALL = 120  # pixels of a small copy's longer side
OUT_OF_DISTRIBUTION = "This picture is out-of-distribution: the answer may mean nothing."


class TryYourOwn(Panel):
    """Upload one or several photos, read the ranked classes. Nothing leaves this session and nothing is kept.

    Args:
        bundle: what `save.load_bundle` gives.
    """

    def __init__(self, bundle):
        self.bundle, self.answers = bundle, []
        if ipywidgets:
            self.upload = ipywidgets.FileUpload(accept="image/*", multiple=True)
            self.words = ipywidgets.HTML("Choose one or several pictures, together up to 8 MB.")
            self.view = ipywidgets.VBox([self.upload, self.words])
            self.upload.observe(lambda change: self.answer(uploaded(self.upload)), names="value")

    def __str__(self) -> str:
        lines = [f"{shown(name)}: {said}" for name, said in self.answers]
        return "\n".join(lines) or "Run this page to upload a photo, or type predict_files(bundle, ['photo.jpg'])."

    def answer(self, files: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
        """Answer for files in memory, (name, bytes) each; a name is shown and never used as a path.

        Returns:
            (name, ranked classes or what is wrong with the file) of each.
        """
        if self.view is not None and files:
            self.words.value = f"Looking at {counted(len(files), 'file')} ..."
        good = [(name, data) for name, data in files if len(data) <= MAX_UPLOAD]
        said = iter(predict.predict_images(self.bundle, good))
        answers = [next(said) if len(data) <= MAX_UPLOAD else _too_large(name, data) for name, data in files]
        self.answers = [(name, one.words) for (name, _), one in zip(files, answers, strict=True)]
        if self.view is not None and files:
            self.words.value = self._html(files, answers)
        return self.answers

    def _html(self, files: Sequence[tuple[str, bytes]], answers: Sequence[Prediction]) -> str:
        """All answers, those that can have a heat map with one, up to MOST_MAPS."""
        parts, maps = [], 0
        for (name, data), one in zip(files, answers, strict=True):
            if one.error:
                parts.append(f"<p><b>{escape(shown(name))}</b>: {escape(one.error)}</p>")
                continue
            parts.append(_answer_html(name, data, one, self._heat(data, one) if maps < MOST_MAPS else ""))
            maps += 1
        more = f"<p>Where the model looked is shown for the first {MOST_MAPS} pictures.</p>"
        return "".join(parts) + (more if maps > MOST_MAPS else "")

    def _heat(self, data: bytes, answer: Prediction) -> str:
        """Where the model looked for the most probable class, as a figure with its words."""
        if self.bundle is None:
            return ""
        from vggnb.explain import grad_cam  # TensorFlow: not before it is needed

        recipe, kind = self.bundle.recipe, answer.class_name
        pixels = read_image(data, size=recipe.image_size, resize=recipe.resize)
        heat = grad_cam(self.bundle.model, pixels, class_index=self.bundle.classes.index(kind))
        drawing = figures.heatmap_overlay(pixels, {f"for {kind}": heat})
        words = f"Where the model looked (Grad-CAM), {drawing.sentence}"
        picture = _picture_html(drawing.image(), "where the model looked", "width:100%")
        style = "margin:0;flex:1 1 24em;max-width:34em"
        return f'<figure style="{style}">{picture}<figcaption>{escape(words)}</figcaption></figure>'


def uploaded(upload) -> list[tuple[str, bytes]]:
    """(name, bytes) of each file of a FileUpload: ipywidgets 7 gives a dict by name, 8 a tuple of dicts."""
    value = upload.value
    items = value.items() if isinstance(value, dict) else [(file["name"], file) for file in value]
    return [(name, bytes(file["content"])) for name, file in items]


def _too_large(name: str, data: bytes) -> Prediction:
    limit = f"{len(data) / 1e6:.1f} MB; the limit is {MAX_UPLOAD // 10**6} MB. Make the picture smaller."
    return Prediction(name, {}, limit)


def _answer_html(name: str, data: bytes, answer: Prediction, heat: str) -> str:
    """One picture's answer: its name, a small copy, a bar for each class, the most probable first, and the heat map."""
    bars = []
    for kind, share in list(answer.probabilities.items())[:MOST_CLASSES]:
        bar = f'<div style="background:#0072B2;height:0.8em;width:{100 * share:.1f}%"></div>'
        cell = f'<td style="width:8em;background:#8883">{bar}</td>'
        number = f'<td style="text-align:right">{share:.2f}</td>'
        bars.append(f"<tr><td>{escape(shown(kind))}</td>{cell}{number}</tr>")
    warning = f"<p>⚠ <b>{OUT_OF_DISTRIBUTION}</b></p>" if answer.out_of_distribution else ""
    title = f"<p><b>{escape(shown(name))}</b></p>"
    said = f'<div style="flex:0 1 17em">{title}{_thumbnail(data)}<table>{"".join(bars)}</table>{warning}</div>'
    style = "display:flex;flex-wrap:wrap;gap:1em 2em;margin:1em 0;line-height:1.4;overflow-wrap:anywhere"
    return f'<div style="{style}">{said}{heat}</div>'


def _thumbnail(data: bytes) -> str:
    """A small copy of what was decoded; the uploaded bytes themselves never reach the page."""
    picture, small = Image.fromarray(decode(data, enough=SMALL).pixels), io.BytesIO()
    picture.thumbnail((SMALL, SMALL))
    picture.save(small, "JPEG", quality=80)
    return _picture_html(small.getvalue(), "your picture, made small")


def _picture_html(data: bytes, words: str, style: str = "") -> str:
    """A JPEG that we made ourselves, inside the page."""
    return f'<img alt="{words}" style="{style}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
