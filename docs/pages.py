"""A Sphinx extension: how the executed notebooks become pages, and formulas without MathJax."""

import hashlib
import re
from base64 import b64decode

import nbformat
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

IMAGES = ("image/png", "image/jpeg")
BADGE = re.compile(r"(?m)^\[!\[Open In Colab\].*\n+")  # its image lies elsewhere; the site has a button of its own
PROGRESS = re.compile(r"\d+%\|.*[\d?]/[\d?]")  # a bar of tqdm
sentences = {}  # of figures, by the SHA-256 of their bytes: myst-nb names their files so


def read(text):
    """A notebook without progress bars and badge; the setup cell folded; the figures' sentences noted."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        cell.source = BADGE.sub("", cell.source) if cell.cell_type == "markdown" else cell.source
        if cell.cell_type != "code":
            continue
        if "setup" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [*cell.metadata["tags"], "hide-input"]
            cell.metadata["mystnb"] = {
                f"code_prompt_{verb.lower()}": f"{verb} the setup cell" for verb in ("Show", "Hide")
            }
        cell.outputs = list(filter(None, map(without_progress, cell.outputs)))
        printed = [output.text.strip() for output in cell.outputs if output.output_type == "stream"]
        for output in cell.outputs:
            for kind in set(IMAGES) & set(output.get("data", {})):
                alt = output.metadata.get(kind, {}).get("alt") or " ".join(printed)
                sentences[hashlib.sha256(b64decode(output.data[kind])).hexdigest()] = alt
    return notebook


def without_progress(output):
    """The output without progress bars, which stand still in a saved page; None if nothing else is in it."""
    if output.output_type == "stream":
        lines = re.split(r"(?<=[\r\n])", output.text)
        output.text = "".join(line for line in lines if not PROGRESS.search(line))
        return output if output.text.strip() else None
    data = output.get("data", {})
    return None if set(data) == {"text/plain"} and PROGRESS.search(data["text/plain"]) else output


def describe_figures(app, doctree):
    """Give each figure of a notebook its sentence as alternative text."""
    for image in doctree.findall(nodes.image):
        name = image["uri"].rpartition("/")[2].partition(".")[0]
        if name in sentences:
            image["alt"] = sentences[name]


def mathml(translator, node):
    """Write a formula as MathML, which browsers draw themselves."""
    translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


# A search shows the first words of what it finds; a browser does not let pages that were opened as files read them.
SEARCH = 'DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";'


def setup(app):
    """Called by Sphinx."""
    app.add_js_file(None, body=SEARCH)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("doctree-read", describe_figures)
    return {"parallel_read_safe": False}
