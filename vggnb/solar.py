"""2,624 real images with a published task, installed by pip: which solar cells are defective?

Electroluminescence images, 300 x 300 pixels, of 44 modules; experts stated for each how sure they were of a defect. See
Deitsch et al. 2019 (doi 10.1016/j.solener.2019.02.067): fine-tuned VGG-19 88.42 %, SVM 82.44 % accuracy.

As in published work, the split is random. Neighbouring wafers of one ingot, and cells imaged twice, then lie in both
train and test: the census lists them as near-duplicates, and `evaluate` reports the scores with and without them.
"""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from vggnb.folders import html_table
from vggnb.storage import VggnbError, csv_text, make_folder, read_json, write_bytes

PACKAGE = "elpv-dataset"
NAME = "solar-cells"  # of the table
DEFECTIVE = 0.5  # stated probability from which on a cell counts as defective; there are 0, 1/3, 2/3 and 1
TEST_SHARE = 0.25
PUBLISHED = {"SVM, hand-made features (paper)": 0.8244, "fine-tuned VGG-19 (paper)": 0.8842}  # arXiv 1807.02894
HEADER = ("model", "accuracy", "AUC", "without near-duplicates", "training")
LICENCE = """Images: ELPV dataset, CC BY-NC-SA 4.0 (not for commercial use). If you publish, cite:
  Deitsch, Christlein, Berger, Buerhop-Lutz, Maier, Gallwitz, Riess: Automatic classification of defective photovoltaic
  module cells in electroluminescence images. Solar Energy 185, 2019, 455-468. doi 10.1016/j.solener.2019.02.067
  Buerhop-Lutz et al.: A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery.
  EU PVSEC 2018. doi 10.4229/35thEUPVSEC20182018-5CV.3.15"""


def solar_cells(folder: Path, *, seed: int = 0, most: int | None = None) -> Path:
    """Write a table (path, label, split) over the installed images of solar cells, and give it; nothing is copied.

    A quarter is for test, drawn with the same share of each stated probability and cell type. Licence and citation are
    printed.

    Args:
        folder: where the table goes, outside the package.
        seed: of the split, and of the choice of images.
        most: the number of images, if not all; drawn with the same shares.

    Raises:
        VggnbError: the package is not installed or incomplete, or the table cannot be written.
    """
    from sklearn.model_selection import train_test_split

    def drawn(cells: list, **size) -> list:
        kinds = [f"{cell[1]:.2f} {cell[2]}" for cell in cells]
        try:
            return train_test_split(cells, random_state=seed, stratify=kinds, **size)
        except ValueError:
            what = f"{most} images cannot be drawn with the same shares."
            raise VggnbError(what, "most", "Use 100 to 2600, or None for all.") from None

    cells, name = _cells(), NAME
    if most is not None and most < len(cells):
        cells, name = sorted(drawn(cells, train_size=most)[0]), f"{NAME}-{most}"
    test, rows = set(drawn(cells, test_size=TEST_SHARE)[1]), [("path", "label", "split")]
    for cell in cells:
        label = "defective" if cell[1] >= DEFECTIVE else "functional"
        rows.append((str(cell[0]), label, "test" if cell in test else "train"))
    table, data = make_folder(Path(folder).absolute()) / f"{name}.csv", csv_text(rows).encode()
    if not table.is_file() or table.read_bytes() != data:
        write_bytes(table, data)
    print(LICENCE)
    return table


def _cells() -> list[tuple[Path, float, str]]:
    """Path, stated probability of a defect and cell type ("mono", "poly") of each image; nothing is imported."""
    remedy = f'Install it: pip install {PACKAGE} (or pip install "vggnb[solar]").'
    try:
        files = importlib.metadata.files(PACKAGE) or []
        labels = Path(next(file for file in files if file.name == "labels.csv").locate())
        lines = [line.split() for line in labels.read_text("utf-8").splitlines() if line.strip()]
        return sorted((labels.parent / path, float(probability), kind) for path, probability, kind in lines)
    except importlib.metadata.PackageNotFoundError:
        raise VggnbError(f"The dataset needs the package {PACKAGE} (91 MB).", PACKAGE, remedy) from None
    except (StopIteration, OSError, ValueError) as error:
        raise VggnbError(f"The package {PACKAGE} is incomplete ({error}).", PACKAGE, remedy) from error


@dataclass(frozen=True, repr=False)
class FullResults:
    """Model, accuracy, AUC, accuracy without near-duplicates of training images, and time of training."""

    title: str
    rows: list[tuple[str, ...]]

    def __repr__(self) -> str:
        lines = ["{:<32} {:>9} {:>7} {:>24} {:>8}".format(*row) for row in (HEADER, *self.rows)]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        return html_table(HEADER, self.rows, title=self.title)


def full_results(document: dict | None = None) -> FullResults:
    """What `benchmarks/solar_cells.py` measured on all images, by default the committed JSON, and published scores."""
    package = Path(__file__).absolute().parent
    for folder in (package / "_results", package.parent / "benchmarks" / "results"):
        if document is None and (folder / "solar_cells.json").is_file():
            document = read_json(folder / "solar_cells.json")
    title, rows = "Only the published accuracies: benchmarks/solar_cells.py was not run.", []
    if document:
        title = f"Means of {len(document['seeds'])} random splits, {document['image_size']} pixels; "
        title += f"{document['machine']}, {document['date']}"
        for name, one in document["recipes"].items():
            scores = (f"{one[key]:.3f}" for key in ("accuracy", "auc", "accuracy_without_leaks"))
            rows.append((name, *scores, f"{one['seconds']:.0f} s"))
    return FullResults(title, rows + [(name, f"{score:.3f}", "-", "-", "-") for name, score in PUBLISHED.items()])
