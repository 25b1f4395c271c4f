"""One helper behind all controls: draw again whenever a value changes."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import ipywidgets

VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class View:
    """What a panel shows for the values of its controls.

    Attributes:
        text: plain text; a saved page shows it in place of the controls.
        image: PNG or JPEG bytes; empty for none.
        html: instead of the text, while the page is running; whoever makes it escapes what comes from data.
    """

    text: str
    image: bytes = b""
    html: str | None = None


class Panel:
    """Controls, and below them what `draw` returns for their values. Core controls only (ipywidgets 7.7 and 8).

    Args:
        draw: gets the value of each control under its name.
        controls: ipywidgets.
    """

    def __init__(self, draw: Callable[..., View], **controls):
        self.draw, self.controls = draw, controls
        self.words, self.image = ipywidgets.HTML(), ipywidgets.Image(layout={"max_width": "100%"})
        row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
        self.view = ipywidgets.VBox([row, self.words, self.image])
        for control in controls.values():
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def set(self, **values) -> None:
        """Move controls from code."""
        for name, value in values.items():
            self.controls[name].value = value

    def refresh(self) -> None:
        """Draw for the present values."""
        self.shown = self.draw(**{name: control.value for name, control in self.controls.items()})
        self.image.value = self.shown.image  # first: it takes longest to arrive
        self.image.layout.display = None if self.shown.image else "none"
        self.words.value = escape(self.shown.text) if self.shown.html is None else self.shown.html

    def __str__(self) -> str:
        return self.shown.text

    def _ipython_display_(self) -> None:
        display_view(self.view, str(self))


def display_view(view, text: str) -> None:
    """Show controls in a notebook, with a text for the saved page; where there is no notebook, print the text."""
    from IPython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        print(text)
    else:
        live = {"version_major": 2, "version_minor": 0, "model_id": view.model_id}
        display({VIEW: live, "text/plain": text}, raw=True)
