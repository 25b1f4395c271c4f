"""What the tests in a real browser share: where things are, and a notebook that is open in JupyterLab."""

import shutil
import socket
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).resolve().parents[2]
SHOTS = Path(__file__).parent / "screenshots"
TIMEOUT_MS = 240_000  # for one thing to happen; a machine may be slow
WIDGET = "window.jupyterapp.shell.currentWidget"
CELLS = f"{WIDGET}.content.model.toJSON().cells.filter(cell => cell.cell_type == 'code')"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(host, port):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


class Notebook:
    """A notebook, open in JupyterLab."""

    def __init__(self, visit, address, name):
        self.page = visit(f"{address}/doc/tree/{name}?reset")
        self.page.wait_for_function(f"() => window.jupyterapp && {WIDGET}?.sessionContext?.session?.kernel")
        self.page.evaluate(f"async () => {{ await {WIDGET}.context.ready; await {WIDGET}.sessionContext.ready }}")

    def start(self):
        """Run all cells; do not wait."""
        run = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.evaluate(f"() => {{ window.ended = null; {run}.then(all => {{ window.ended = [all] }}) }}")

    def wait(self):
        """Until the last cell has run, or one failed."""
        self.page.wait_for_function("() => window.ended", timeout=3 * TIMEOUT_MS)

    def interrupt(self):
        """Press the notebook's stop button."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")

    def errors(self):
        outputs = self.page.evaluate(f"() => {CELLS}.flatMap(cell => cell.outputs)")
        return [f"{one['ename']}: {one['evalue']}" for one in outputs if one["output_type"] == "error"]

    def not_run(self):
        """Sources of the cells that were not reached."""
        return self.page.evaluate(f"() => {CELLS}.filter(cell => !cell.execution_count).map(cell => cell.source)")

    def output(self, words):
        """The output that holds these words."""
        return self.page.locator(".jp-OutputArea-output", has_text=words).first

    def shoot(self, name):
        """A picture of the whole notebook."""
        panel = self.page.locator(".jp-WindowedPanel-outer")
        height = panel.evaluate("panel => panel.scrollHeight")
        self.page.set_viewport_size({"width": 1200, "height": min(height + 120, 15_000)})
        drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        panel.evaluate(f"async panel => {{ panel.scrollTop = 0; await {drawn} }}")
        self.page.screenshot(path=SHOTS / f"{name}.png")
        self.page.set_viewport_size({"width": 1200, "height": 1500})

    def shut_down(self):
        self.page.evaluate(f"() => {WIDGET}.sessionContext.shutdown()")
