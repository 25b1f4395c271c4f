"""Try the model on your own images: ranked classes with a heat map, or one sentence if a file is not an image.

Colab's own upload control loses files of more than 1 MB without a message (jupyter-widgets/ipywidgets#3452), so that
the browser sends a file in parts there, each by a call of the kernel.
"""

import base64
import io
import itertools
from collections.abc import Callable
from html import escape

import ipywidgets
from PIL import Image

from vggnb import figures, predict
from vggnb.folders import shown
from vggnb.images import decode, read_image
from vggnb.machine import environment
from vggnb.widgets.controls import Panel, View

MOST_CLASSES = 10  # with a bar
MOST_MAPS = 4  # images with a heat map: each takes about a second at 224 pixels
SMALL = 120  # pixels of a thumbnail's longer side
HINT = "Choose one or more images. Jupyter silently drops uploads of more than 10 MB in total; for larger files use "
HINT += "predict_files(bundle, ['photo.jpg']), or vggnb app, which accepts up to 100 MB."
OUT_OF_DISTRIBUTION = "This image is out-of-distribution (unlike the training images): "
OUT_OF_DISTRIBUTION += "the prediction may be meaningless."
PART = 600_000  # bytes of a file in one call
NUMBERS = itertools.count()


def try_your_own(model, *, hint: str = HINT) -> "Panel | Upload":
    """Upload images and see their ranked classes. Nothing leaves this session and nothing is kept.

    Args:
        model: a trained run, or what `save.load_bundle` returns.
        hint: the text shown before anything is uploaded.
    """
    bundle = model
    if hasattr(model, "manifest"):  # a run
        from vggnb.save.saving import bundle_of  # TensorFlow: not before it is needed

        bundle = bundle_of(model)
    threshold = "chosen" if bundle.threshold else None

    def show(files: list[tuple[str, bytes]]) -> View:
        if not files:
            return View(hint)
        predictions = predict.predict_images(bundle, files, threshold=threshold)
        return View("\n".join(map(str, predictions)), html=_html(bundle, files, predictions))

    if environment() == "colab":
        return Upload(show)
    chooser = ipywidgets.FileUpload(accept="image/*", multiple=True)
    return Panel(lambda upload: show(uploaded(upload)), upload=chooser)


def uploaded(value) -> list[tuple[str, bytes]]:
    """(name, bytes) of each file: ipywidgets 7 gives a dict by name, 8 a tuple of dicts. A name is never a path."""
    items = value.items() if isinstance(value, dict) else [(file["name"], file) for file in value]
    return [(name, bytes(file["content"])) for name, file in items]


class Upload:
    """An upload button for Colab: files chosen in the browser -> what `draw` makes of them, shown below the button.

    Args:
        draw: from [(name, bytes)] to a View.
    """

    def __init__(self, draw: Callable[[list[tuple[str, bytes]]], View]):
        self.draw, self.name, self.files = draw, f"vggnb-upload-{next(NUMBERS)}", {}
        self.shown = View("Choose one or more images.")

    def receive(self, name: str | None = None, part: str = "", before: int = 0):
        """A part of a file, in base64, and how many came before it; without a name, all files are there."""
        from IPython.display import JSON

        if name is not None:
            if not before:  # an earlier upload may have failed
                self.files = {}
            self.files.setdefault(name, bytearray()).extend(base64.b64decode(part))
            return JSON({})
        files, self.files = [(name, bytes(data)) for name, data in self.files.items()], {}
        self.shown = self.draw(files)
        return JSON({"html": self.shown.html or escape(self.shown.text)})

    def __str__(self) -> str:
        return self.shown.text

    def _ipython_display_(self) -> None:
        from google.colab import output
        from IPython.display import display

        output.register_callback(self.name, self.receive)
        display({"text/html": self.button(), "text/plain": str(self)}, raw=True)

    def button(self) -> str:
        """The button, and the script that sends what was chosen."""
        return _rendered("upload.html", name=self.name, part=PART, text=str(self))


def _html(bundle, files, predictions) -> str:
    """All predictions, the first MOST_MAPS with a heat map; every name is escaped."""
    images, maps, has_maps = [], MOST_MAPS, bundle.model is not None  # onnxruntime gives no gradients
    for (name, data), one in zip(files, predictions, strict=True):
        images.append({"name": shown(name), "error": one.error, "out_of_distribution": one.out_of_distribution})
        if not one.error:
            small = io.BytesIO()
            image = Image.fromarray(decode(data, enough=SMALL).pixels)  # the uploaded bytes never reach the page
            image.thumbnail((SMALL, SMALL))
            image.save(small, "JPEG", quality=80)
            classes = [(shown(kind), p) for kind, p in list(one.probabilities.items())[:MOST_CLASSES]]
            heat = _heat_map(bundle, data, one) if has_maps and maps > 0 else None
            images[-1] |= {"thumbnail": _address(small.getvalue()), "classes": classes, "heat": heat}
            maps -= 1
    rule = next((str(one.rule) for one in predictions if not one.error), "")
    words = {"rule": rule, "warning": OUT_OF_DISTRIBUTION, "more": has_maps and maps < 0, "most": MOST_MAPS}
    return _rendered("answers.html", images=images, **words)


def _rendered(template: str, **values) -> str:
    from jinja2 import Environment, PackageLoader

    return Environment(autoescape=True, loader=PackageLoader("vggnb", "widgets")).get_template(template).render(values)


def _heat_map(bundle, data: bytes, prediction) -> tuple[str, str]:
    """The Grad-CAM of the predicted class: address of the image, and its sentence."""
    from vggnb.explain import grad_cam  # TensorFlow: not before it is needed

    name = prediction.class_name
    pixels = read_image(data, size=bundle.recipe.image_size, resize=bundle.recipe.resize)
    heat = grad_cam(bundle.model, pixels, class_index=bundle.classes.index(name))
    drawing = figures.heatmap_overlay(pixels, {f"for {name}": heat})
    return _address(drawing.image()), drawing.sentence


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
