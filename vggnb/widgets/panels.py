"""What the widgets share: how they show themselves, and what stands in where they cannot."""

try:
    import ipywidgets
except ImportError:  # everything still answers in words
    ipywidgets = None

VIEW = "application/vnd.jupyter.widget-view+json"


def side_by_side(*controls):
    """Controls side by side; what does not fit goes into the next line."""
    return ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"})


class Panel:
    """Something with a view and words (`str`) for it: as the last line of a cell it shows the one or the other.

    A view's picture is drawn first, which takes a while, then shown together with its words.
    """

    view = None

    def _ipython_display_(self) -> None:
        from IPython import get_ipython
        from IPython.display import display

        if self.view is None or getattr(get_ipython(), "kernel", None) is None:
            print(self)
        else:
            live = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
            display({VIEW: live, "text/plain": str(self)}, raw=True)  # the text is what a saved page shows
