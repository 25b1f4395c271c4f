"""Try the model on your own photo: upload, ranked answer, or one plain sentence for a file that is none."""

import base64
import io
from collections.abc import Sequence
from html import escape
from types import SimpleNamespace

from PIL import Image

from vggnb import figures
from vggnb.folders import shown
from vggnb.images import read_image
from vggnb.widgets.panels import Panel, ipywidgets

MAX_UPLOAD = 8_000_000  # bytes: a whole file is one message, and Jupyter's server refuses those above about 10 MB
MOST_CLASSES = 10  # with a bar
MOST_MAPS = 4  # pictures with a heat map: each takes about a second at 224 pixels
UNLIKE = "This picture is unlike the training data: the answer may mean nothing."


class TryYourOwn(Panel):
    """Upload one or several photos, read the ranked classes. Nothing leaves this session and nothing is kept.

    Args:
        bundle: what `save.load_bundle` gives.
    """

    def __init__(self, bundle):
        self.bundle, self.answers = bundle, []
        if ipywidgets:
            self.upload = ipywidgets.FileUpload(accept="image/*", multiple=True)
            self.words = ipywidgets.HTML("Choose one or several pictures, up to 8 MB each.")
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
        from vggnb.predict import predict_images  # Keras: not before it is needed

        good = [(name, data) for name, data in files if len(data) <= MAX_UPLOAD]
        said = iter(predict_images(self.bundle, good))
        self.answers, rows = [], []
        for name, data in files:
            if len(data) > MAX_UPLOAD:
                limit = f"{len(data) / 1e6:.1f} MB; the limit is {MAX_UPLOAD // 10**6} MB. Make the picture smaller."
                one = SimpleNamespace(error=limit, probabilities={})
            else:
                one = next(said)
            ranked = ", ".join(f"{shown(kind)} {p:.2f}" for kind, p in one.probabilities.items())
            self.answers.append((name, one.error or ranked))
            mapped = sum("where the model looked" in row for row in rows) < MOST_MAPS
            rows.append(_answer_html(name, data, one, self._heat(data, one) if mapped and not one.error else ""))
        if self.view is not None and files:
            self.words.value = "".join(rows)
        return self.answers

    def _heat(self, data: bytes, answer) -> str:
        """Where the model looked for the most probable class, as a picture in HTML."""
        if self.view is None or self.bundle is None:
            return ""
        from vggnb.explain import grad_cam  # TensorFlow: not before it is needed

        recipe, kind = self.bundle.recipe, next(iter(answer.probabilities))
        pixels = read_image(data, size=recipe.image_size, resize=recipe.resize)
        heat = grad_cam(self.bundle.model, pixels, class_index=self.bundle.classes.index(kind))
        return _picture_html(figures.heatmap_overlay(pixels, {kind: heat}).image(), "where the model looked", 320)


def uploaded(upload) -> list[tuple[str, bytes]]:
    """(name, bytes) of each file of a FileUpload: ipywidgets 7 gives a dict by name, 8 a tuple of dicts."""
    value = upload.value
    items = value.items() if isinstance(value, dict) else [(file["name"], file) for file in value]
    return [(name, bytes(file["content"])) for name, file in items]


def _answer_html(name: str, data: bytes, answer, heat: str = "") -> str:
    """One file's answer: its picture, its name, a bar for each class, the most probable first, and the heat map."""
    title = f"<b>{escape(shown(name))}</b>"
    if answer.error:
        return f"<p>{title}: {escape(answer.error)}</p>"
    bars = []
    for kind, share in list(answer.probabilities.items())[:MOST_CLASSES]:
        bar = f'<div style="background:#0072B2;height:0.8em;width:{100 * share:.1f}%"></div>'
        cell = f'<td style="width:12em;background:#8883">{bar}</td>'
        bars.append(f'<tr><td>{escape(shown(kind))}</td>{cell}<td style="text-align:right">{share:.2f}</td></tr>')
    warning = f"<p>⚠ <b>{UNLIKE}</b></p>" if getattr(answer, "unlike", None) else ""
    table = f"<div>{title}<table>{''.join(bars)}</table>{warning}</div>"
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em;margin:1em 0">{_thumbnail(data)}{table}{heat}</div>'


def _thumbnail(data: bytes) -> str:
    """A small copy of what was decoded; the uploaded bytes themselves never reach the page."""
    picture, small = Image.fromarray(read_image(data)), io.BytesIO()
    picture.thumbnail((120, 120))
    picture.save(small, "JPEG", quality=80)
    return _picture_html(small.getvalue(), "your picture, made small")


def _picture_html(data: bytes, words: str, width: int | None = None) -> str:
    """A JPEG that we made ourselves, inside the page."""
    size = f' width="{width}"' if width else ""
    return f'<img alt="{words}"{size} src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
