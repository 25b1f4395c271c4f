"""An upload button for Colab that takes large photos: its widgets lose files of more than 1 MB without a message.

The browser sends a file in parts, each by a call of the kernel; see jupyter-widgets/ipywidgets#3452.
"""

import base64
import itertools
from collections.abc import Callable
from html import escape

from vggnb.widgets.panel import View

PART = 600_000  # bytes of a file in one call
NUMBERS = itertools.count()
BUTTON = """
<input type="file" id="{name}" accept="image/*" multiple><div id="{name}-shown">{text}</div>
<script>(() => {{
  const input = document.getElementById("{name}"), shown = document.getElementById("{name}-shown");
  const call = (...values) => google.colab.kernel.invokeFunction("{name}", values, {{}});
  input.onchange = async () => {{
    try {{
      for (const file of input.files) {{
        const bytes = new Uint8Array(await file.arrayBuffer());
        for (let start = 0; start === 0 || start < bytes.length; start += {part}) {{
          shown.textContent = `Uploading ${{file.name}}: ${{Math.round(100 * start / (bytes.length || 1))}} %`;
          let text = "";
          for (const byte of bytes.subarray(start, start + {part})) text += String.fromCharCode(byte);
          await call(file.name, btoa(text));
        }}
      }}
      shown.textContent = "Predicting ...";
      shown.innerHTML = (await call()).data["application/json"].html;
    }} catch (error) {{
      shown.textContent = `The upload failed (${{error}}). Run this cell again.`;
    }}
    input.value = "";
  }};
}})()</script>"""


class Upload:
    """Files chosen in the browser -> what `draw` makes of them, shown below the button.

    Args:
        draw: from [(name, bytes)] to a View.
    """

    def __init__(self, draw: Callable[[list[tuple[str, bytes]]], View]):
        self.draw, self.name, self.files = draw, f"vggnb-upload-{next(NUMBERS)}", {}
        self.shown = View("Choose one or several images.")

    def receive(self, name: str | None = None, part: str = ""):
        """A part of a file, in base64; without a name, all files are there."""
        from IPython.display import JSON

        if name is not None:
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
        html = BUTTON.format(name=self.name, part=PART, text=escape(str(self)))
        display({"text/html": html, "text/plain": str(self)}, raw=True)
