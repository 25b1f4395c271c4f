"""Look at what training gets: the batches of each epoch, and the same pictures turned and mirrored."""

import math
from html import escape

import numpy as np

from vggnb import figures
from vggnb.folders import counted, shown
from vggnb.storage import VggnbError
from vggnb.widgets.panels import Panel, ipywidgets, side_by_side

VIEWS = (  # in the order of `generators.turned`
    "as they are", "a quarter turn to the left", "upside down", "a quarter turn to the right", "mirrored",
    "mirrored, a quarter turn to the left", "mirrored, upside down", "mirrored, a quarter turn to the right",
)  # fmt: skip
EACH = len(VIEWS)  # the view by chance, another one for each picture in each epoch
CHOICES = (*VIEWS, "each picture its own, another one in each epoch")


class BatchPreview(Panel):
    """The batches of an epoch in the order of training, as they are or seen in one of eight ways (augmentation)."""

    def __init__(self, manifest, recipe, *, split: str = "train"):
        self.manifest, self.recipe, self.members = manifest, recipe, manifest.of(split)
        if not self.members:
            remedy = "Look at the census for the reasons."
            raise VggnbError(f"There are no images in {split}.", manifest.dataset, remedy)
        self.batches = math.ceil(len(self.members) / recipe.batch_size)
        self.epoch, self.batch, self.seen = 1, 1, 0
        if ipywidgets:
            self.epoch_box = ipywidgets.BoundedIntText(value=1, min=1, max=9999, description="epoch")
            self.batch_box = ipywidgets.BoundedIntText(value=1, min=1, max=self.batches, description="batch")
            choices = [(words, number) for number, words in enumerate(CHOICES)]
            self.view_choice = ipywidgets.Dropdown(options=choices, value=0, description="seen")
            self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(format="jpeg")
            controls = side_by_side(self.epoch_box, self.batch_box, self.view_choice)
            self.view = ipywidgets.VBox([controls, self.words, self.image])
            self.epoch_box.observe(lambda change: self.show(epoch=change["new"]), names="value")
            self.batch_box.observe(lambda change: self.show(batch=change["new"]), names="value")
            self.view_choice.observe(lambda change: self.show(seen=change["new"]), names="value")
            self._draw()

    def show(self, **choice) -> None:
        """Go to another `epoch` or `batch`, from 1, or look in another way: `seen` is an index of CHOICES."""
        if all(getattr(self, name) == value for name, value in choice.items()):
            return
        for name, value in choice.items():
            setattr(self, name, value)
        self._draw()

    def rows(self) -> list:
        """The rows of the batch, in the order of training."""
        from vggnb.generators import epoch_order  # TensorFlow: not before it is needed

        order = epoch_order(len(self.members), seed=self.recipe.seed, epoch=self.epoch - 1)
        first = (self.batch - 1) * self.recipe.batch_size
        return [self.members[k] for k in order[first : first + self.recipe.batch_size]]

    def views(self) -> list[int]:
        """How each picture of the batch is seen, an index of VIEWS; what is by chance is the same at every look."""
        rows = self.rows()
        if self.seen < EACH:
            return [self.seen] * len(rows)
        return np.random.default_rng([self.recipe.seed, self.epoch, self.batch]).integers(EACH, size=len(rows)).tolist()

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """What is shown: pixels uint8 (b, size, size, 3) and labels int (b,), without files that cannot be read."""
        from vggnb.generators import read_row, turned

        images, labels = [], []
        for one, view in zip(self.rows(), self.views(), strict=True):
            try:
                pixels = read_row(self.manifest, one, self.recipe)
                images.append(turned(pixels[None], view)[0])
            except (VggnbError, OSError):
                continue
            labels.append(one.label)
        size = self.recipe.image_size
        return np.array(images, np.uint8).reshape(-1, size, size, 3), np.array(labels, int)

    def __str__(self) -> str:
        rows = self.rows()
        number = [(name, sum(one.label == label for one in rows)) for label, name in enumerate(self.manifest.classes)]
        kinds = ", ".join(f"{shown(name)} {count}" for name, count in number)
        place = f"epoch {self.epoch}, batch {self.batch} of {self.batches}"
        return f"{place}, {CHOICES[self.seen]}: {counted(len(rows), 'image')}, {kinds}"

    def _draw(self) -> None:
        if self.view is None:
            return
        self.epoch_box.value, self.batch_box.value, self.view_choice.value = self.epoch, self.batch, self.seen
        images, labels = self.pictures()
        lost = len(self.rows()) - len(images)
        picture = figures.batch_grid(images, labels, self.manifest.classes).image() if len(images) else b""
        words = escape(str(self)) + (f"; {lost} cannot be read" if lost else "")
        self.image.value, self.words.value = picture, words
