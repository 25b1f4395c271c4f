"""2,624 real images with a published task, installed by pip: which solar cells are defective?

Electroluminescence images, 300 x 300 pixels, of 44 modules; people stated for each how sure they are of a defect. See
Deitsch et al. 2019 (doi 10.1016/j.solener.2019.02.067): fine-tuned VGG-19 88.42 %, SVM 82.44 % accuracy.

As in published work, the split is random. Neighbouring wafers of one ingot, and cells imaged twice, then lie in both
train and test: the census lists them as near-duplicates, and `evaluate` reports the scores with and without them.
"""

import importlib.metadata
from pathlib import Path

from vggnb.storage import VggnbError, csv_text, make_folder, write_bytes

PACKAGE = "elpv-dataset"
TABLE = "solar-cells.csv"
DEFECTIVE = 0.5  # stated probability from which on a cell counts as defective; there are 0, 1/3, 2/3 and 1
TEST_SHARE = 0.25
LICENCE = """Images: ELPV dataset, CC BY-NC-SA 4.0 (not for commercial use). If you publish, cite:
  Deitsch, Christlein, Berger, Buerhop-Lutz, Maier, Gallwitz, Riess: Automatic classification of defective photovoltaic
  module cells in electroluminescence images. Solar Energy 185, 2019, 455-468. doi 10.1016/j.solener.2019.02.067
  Buerhop-Lutz et al.: A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery.
  EU PVSEC 2018. doi 10.4229/35thEUPVSEC20182018-5CV.3.15"""


def solar_cells(folder: Path, *, seed: int = 0) -> Path:
    """Write a table (path, label, split) over the installed images of solar cells, and give it; nothing is copied.

    A quarter is for test, drawn with the same share of each stated probability and cell type. Licence and citation are
    printed.

    Args:
        folder: where the table goes, outside the package.
        seed: of the split.

    Raises:
        VggnbError: the package is not installed or incomplete, or the table cannot be written.
    """
    from sklearn.model_selection import train_test_split

    cells = _cells()
    strata = [f"{probability:.2f} {kind}" for _, probability, kind in cells]
    chosen = train_test_split(range(len(cells)), test_size=TEST_SHARE, random_state=seed, stratify=strata)[1]
    test, rows = set(chosen), [("path", "label", "split")]
    for index, (path, probability, _) in enumerate(cells):
        label = "defective" if probability >= DEFECTIVE else "functional"
        rows.append((str(path), label, "test" if index in test else "train"))
    table, data = make_folder(Path(folder).absolute()) / TABLE, csv_text(rows).encode()
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
        cells = [(labels.parent / path, float(probability), kind) for path, probability, kind in lines]
    except importlib.metadata.PackageNotFoundError:
        raise VggnbError(f"The dataset needs the package {PACKAGE} (91 MB).", PACKAGE, remedy) from None
    except (StopIteration, OSError, ValueError) as error:
        raise VggnbError(f"The package {PACKAGE} is incomplete ({error}).", PACKAGE, remedy) from error
    return sorted(cells)
