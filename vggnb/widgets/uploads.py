"""Try the model on your own images: upload, ranked classes with a heat map, or one sentence for what is no image."""

import base64
import io
from html import escape

import ipywidgets
from PIL import Image

from vggnb import figures, predict
from vggnb.folders import shown
from vggnb.images import decode, read_image
from vggnb.widgets.panel import Panel, View

MOST_CLASSES = 10  # with a bar
MOST_MAPS = 4  # images with a heat map: each takes about a second at 224 pixels
SMALL = 120  # pixels of a thumbnail's longer side
HINT = "Choose one or several images. Jupyter drops more than 10 MB at once without a message; for larger files use "
HINT += "predict_files(bundle, ['photo.jpg']), or vggnb app, which takes 100 MB."
OUT_OF_DISTRIBUTION = "This image is out of distribution: unlike the training images. The prediction may mean nothing."


def try_your_own(bundle, *, hint: str = HINT) -> Panel:
    """Upload images and see their ranked classes. Nothing leaves this session and nothing is kept.

    Args:
        bundle: what `save.load_bundle` returns.
        hint: what stands there before anything is uploaded.
    """
    threshold = "chosen" if bundle.threshold else None

    def draw(upload) -> View:
        files = uploaded(upload)
        predictions = predict.predict_images(bundle, files, threshold=threshold) if files else []
        if not files:
            return View(hint)
        return View("\n".join(map(str, predictions)), html=_html(bundle, files, predictions))

    return Panel(draw, upload=ipywidgets.FileUpload(accept="image/*", multiple=True))


def uploaded(value) -> list[tuple[str, bytes]]:
    """(name, bytes) of each file: ipywidgets 7 gives a dict by name, 8 a tuple of dicts. A name is never a path."""
    items = value.items() if isinstance(value, dict) else [(file["name"], file) for file in value]
    return [(name, bytes(file["content"])) for name, file in items]


def _html(bundle, files, predictions) -> str:
    """All predictions, the first MOST_MAPS with a heat map."""
    parts, maps = [], 0
    for (name, data), one in zip(files, predictions, strict=True):
        if one.error:
            parts.append(f"<p><b>{escape(shown(name))}</b>: {escape(one.error)}</p>")
            continue
        maps += 1
        parts.append(_prediction_html(name, data, one, _heat_map(bundle, data, one) if maps <= MOST_MAPS else ""))
    more = f"<p>Heat maps are shown for the first {MOST_MAPS} images.</p>"
    rule = next((f"<p>Predicted: {escape(str(one.rule))}.</p>" for one in predictions if not one.error), "")
    return "".join(parts) + rule + (more if maps > MOST_MAPS else "")


def _heat_map(bundle, data: bytes, prediction) -> str:
    """The Grad-CAM of the predicted class, as a figure with its caption."""
    from vggnb.explain import grad_cam  # TensorFlow: not before it is needed

    name = prediction.class_name
    pixels = read_image(data, size=bundle.recipe.image_size, resize=bundle.recipe.resize)
    heat = grad_cam(bundle.model, pixels, class_index=bundle.classes.index(name))
    drawing = figures.heatmap_overlay(pixels, {f"for {name}": heat})
    picture = _image_html(drawing.image(), "heat map", "width:100%")
    caption = f"<figcaption>{escape(f'Grad-CAM, {drawing.sentence}')}</figcaption>"
    return f'<figure style="margin:0;flex:1 1 24em;max-width:34em">{picture}{caption}</figure>'


def _prediction_html(name: str, data: bytes, prediction, heat_map: str) -> str:
    """One image's prediction: name, thumbnail, a bar for each class, the predicted one first, and the heat map."""
    rows = []
    for kind, share in list(prediction.probabilities.items())[:MOST_CLASSES]:
        bar = f'<div style="background:#0072B2;height:0.8em;width:{100 * share:.1f}%"></div>'
        cells = f'<td style="width:8em;background:#8883">{bar}</td><td style="text-align:right">{share:.2f}</td>'
        rows.append(f"<tr><td>{escape(shown(kind))}</td>{cells}</tr>")
    warning = f"<p>⚠ <b>{OUT_OF_DISTRIBUTION}</b></p>" if prediction.out_of_distribution else ""
    title = f"<p><b>{escape(shown(name))}</b></p>"
    left = f'<div style="flex:0 1 17em">{title}{_thumbnail(data)}<table>{"".join(rows)}</table>{warning}</div>'
    style = "display:flex;flex-wrap:wrap;gap:1em 2em;margin:1em 0;line-height:1.4;overflow-wrap:anywhere"
    return f'<div style="{style}">{left}{heat_map}</div>'


def _thumbnail(data: bytes) -> str:
    """A small copy of what was decoded; the uploaded bytes themselves never reach the page."""
    picture, small = Image.fromarray(decode(data, enough=SMALL).pixels), io.BytesIO()
    picture.thumbnail((SMALL, SMALL))
    picture.save(small, "JPEG", quality=80)
    return _image_html(small.getvalue(), "thumbnail")


def _image_html(data: bytes, words: str, style: str = "") -> str:
    """An image that we made ourselves, inside the page."""
    return f'<img alt="{words}" style="{style}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
