"""Build the site.

    python docs/build.py [--to build/site]

Sphinx reads a copy of docs/ and of the committed, executed notebooks, laid out as in the project so that links hold,
with one page for each module of the library. Nothing is executed and nothing is fetched.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"__init__", "__main__", "cli", "__pycache__"}  # the command line has a page of its own


def modules() -> dict[str, str]:
    """The library's modules and packages, each with the first sentence of its docstring."""
    sentences = {}
    for path in sorted((ROOT / "vggnb").iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if path.stem not in LEFT_OUT and source.suffix == ".py" and source.is_file():
            text = ast.get_docstring(ast.parse(source.read_text("utf-8"))) or ""
            sentences[path.stem] = text.partition("\n\n")[0].replace("\n", " ")
    return sentences


def lay_out(source: Path) -> None:
    """What Sphinx reads: README (parts of it are included), changelog, docs, notebooks, and a page for each module."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("*.py", "static", "__pycache__"))
    (source / "notebooks").mkdir()
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "notebooks").glob("[0-9]*.ipynb")]:
        shutil.copy(path, source / path.relative_to(ROOT))
    (source / "docs" / "index.md").rename(source / "index.md")
    index = (source / "index.md").read_text("utf-8")
    links = re.sub(r"(\]\(|(?m:^))(?!\w+:|\.\./|#)([\w./]+\.(?:md|jpg))", r"\1docs/\2", index)
    (source / "index.md").write_text(links.replace("../", ""), "utf-8")
    library = source / "docs" / "library"
    library.mkdir()
    with (source / "docs" / "library.md").open("a", encoding="utf-8") as contents:
        for name, sentence in modules().items():
            page = f"# {name}\n\n```{{eval-rst}}\n.. automodule:: vggnb.{name}\n   :members:\n```\n"
            (library / f"{name}.md").write_text(page, "utf-8")
            contents.write(f"- [{name}](library/{name}.md): {sentence}\n")


def build(target: Path) -> None:
    """Build into `target`, which is made anew; Sphinx's warnings are errors.

    Raises:
        SystemExit: there were warnings; they are on stderr.
    """
    source = target.with_name(f"{target.name}-source")
    lay_out(source)
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "docs")]
    environment = os.environ | {"COLUMNS": "100", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([*command, "-d", f"{source}/.doctrees", str(source), str(target)], env=environment)
    if done.returncode:
        raise SystemExit(done.returncode)
    for folder in (source, target.with_name("jupyter_execute")):  # the second is left by myst-nb
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "site", help="default: build/site")
    target = parser.parse_args().to.resolve()
    build(target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"The site is in {target} ({size / 1e6:.0f} MB): open {target / 'index.html'}")


if __name__ == "__main__":
    main()
