"""Where things are on Colab, Kaggle, Binder and a laptop: the dataset, the folders for runs and features, Drive."""

import dataclasses
import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

import vggnb
from vggnb import colab
from vggnb.machine import KAGGLE_WORKING, environment
from vggnb.solar import PACKAGE, solar_cells
from vggnb.storage import (
    VggnbError,
    check_no_address,
    check_outside,
    check_writable,
    make_folder,
    read_json,
    sha256_bytes,
    write_json,
)

CONTENT = Path("/content")  # Colab's fast local disk; what is on it ends with the runtime
IMAGE_SIZES = {"quick": 96, "full": 224}
WEIGHTS = ("imagenet", "offline", "none")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
SPLITS = ("train", "validation", "test")
LAST, SAMPLE, SOLAR, FOLDER, UPLOAD = SOURCES = (
    "as last time", "sample", "solar cells", "folder or zip on Drive", "upload a zip",
)  # fmt: skip  # of the form in every page's setup cell
CHOICE = "source.json"  # in the home folder: what was last chosen in the form
_DRIVE = re.compile(r"/?(content/)?(drive/)?(My ?Drive/)?")  # how the path of a folder on Drive may begin
_QUOTED = re.compile(r"""\s*(['"]?)(.*)\1\s*""", re.DOTALL)  # as "Copy as path" gives it


@dataclass(frozen=True)
class Workspace:
    """Where everything is; the attributes hold absolute paths."""

    environment: str
    profile: str
    dataset: Path
    home: Path
    runs: Path
    features: Path
    weights: str
    precision: str

    @property
    def image_size(self) -> int:
        """Pixels a side in this profile."""
        return IMAGE_SIZES[self.profile]

    @property
    def training(self) -> dict:
        """What `train`, `open_or_train` and `fill_store` take besides images and recipe: weights, store, precision."""
        return {"weights": self.weights, "store": self.features, "precision": self.precision}

    @property
    def staged(self) -> Path:
        """Folder for copies of datasets, on the fast local disk."""
        return self.features.parent / "staged"

    @property
    def census_file(self) -> Path:
        """Cache of the census: a second census opens only the files that changed."""
        digest = sha256_bytes(os.fsencode(self.dataset))[:8]
        return self.home / "census" / f"{self.dataset.stem}-{digest}.json.gz"

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {name: str(value) for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        lines = {
            "environment": self.environment,
            "profile": f"{self.profile}, images of {self.image_size} x {self.image_size} pixels",
            "dataset": "the sample that comes with vggnb" if self.dataset in _samples() else self._short(self.dataset),
            "runs": self._short(self.runs),
            "features": self._short(self.features),
            "weights": self.weights if self.weights in WEIGHTS else self._short(Path(self.weights)),
            "precision": self.precision,
        }
        note = "<home> is ws.home; ws.runs, ws.dataset and ws.features are whole paths"
        if self.environment == "colab" and not self.home.is_relative_to(CONTENT / "drive"):
            note += f". Drive is not mounted: what is in {self.home} ends with this runtime"
        return "\n".join(f"{name:<12} {value}" for name, value in lines.items()) + f"\n({note})"

    __repr__ = __str__

    def _short(self, path: Path) -> str:
        """The path from `<home>` or `~`, so that printed pages do not depend on the machine."""
        for base, name in ((self.home, "<home>"), (Path.home(), "~")):
            if path.is_relative_to(base):
                return "/".join((name, *path.relative_to(base).parts))
        return path.as_posix()


def open_workspace(
    source: str = "", path: str = "", *, dataset: Path | str | None = None, project: str = "vggnb"
) -> Workspace:
    """Find the dataset and the folders for runs and features.

    On Colab, Drive is mounted if the dataset lies there. The only file that may be written remembers the choice.

    Args:
        source: one of SOURCES, as in the setup cell's form; else VGGNB_DATASET, or the sample.
        path: of a folder or archive; on Colab, on Drive, such as `MyDrive/my_images`.
        dataset: a folder, an archive, a table, or the name `sample` or `solar-cells`; takes precedence over `source`,
            `path` and VGGNB_DATASET.
        project: name of the home folder, which holds `runs`, on Colab; on Drive if that is mounted.

    Raises:
        VggnbError: an unknown value, a folder that is missing or cannot be written to, Drive cannot be mounted.
    """
    where, weights = environment(), _weights()
    if where == "colab" and (source == FOLDER or _is_on_drive(os.environ.get("VGGNB_DATASET", ""))):
        colab.mount(CONTENT / "drive")
    home = _home(where, project)
    dataset = _chosen(where, home, source, path) if dataset is None else _located(dataset, home)
    if dataset.is_dir():
        check_outside(home, dataset, "The folder for runs and features", "VGGNB_HOME")
    is_sample, path = dataset in _samples(), Path(os.path.abspath(dataset))  # not ".."
    name = "sample" if is_sample else path.name if dataset.is_dir() else path.stem
    check_writable(home)
    if source in (SAMPLE, SOLAR, FOLDER, UPLOAD):
        write_json(make_folder(home) / CHOICE, {"source": source, "dataset": str(dataset)})
    profile = _choice("VGGNB_PROFILE", "full" if where == "colab" and not is_sample else "quick", IMAGE_SIZES)
    # The numbers of the sample are the same everywhere: float32.
    precision = _choice("VGGNB_PRECISION", "float32" if is_sample else "auto", PRECISIONS)
    # Features are many small reads: on Colab they are read and written on the local disk; see `kept_on_drive`.
    local = CONTENT / project if where == "colab" and _is_on_drive(home) else home
    return Workspace(where, profile, dataset, home, home / "runs" / name, local / "features", weights, precision)


def kept_on_drive(folder: Path) -> Path | None:
    """Where on Google Drive a folder of Colab's local disk is kept for the next runtime; None: it is not kept."""
    drive, folder = CONTENT / "drive" / "MyDrive", Path(folder).absolute()
    is_local = folder.is_relative_to(CONTENT) and not _is_on_drive(folder)
    if not is_local or "VGGNB_HOME" in os.environ or not drive.is_dir():
        return None
    return drive / folder.relative_to(CONTENT)


def _choice(variable: str, default: str, choices) -> str:
    """The value of an environment variable, if it is one of the choices."""
    value = os.environ.get(variable) or default
    if value not in choices:
        kind = variable.removeprefix("VGGNB_").lower()
        raise VggnbError(f"There is no {kind} '{value}'.", variable, f"Use {', '.join(choices)}.")
    return value


def _home(where: str, project: str) -> Path:
    """VGGNB_HOME; else a folder of Drive, if mounted, or of Colab's disk, what Kaggle keeps, or the user's data."""
    if named := os.environ.get("VGGNB_HOME"):
        check_no_address(named, "The folder for runs and features", "VGGNB_HOME")
        return Path(os.path.expanduser(named)).absolute()
    if where == "colab":
        if (state := colab.mount_state(CONTENT / "drive")) == "dropped":
            colab.mount(CONTENT / "drive")
        return (CONTENT if state == "absent" else CONTENT / "drive" / "MyDrive") / project
    if where == "kaggle":
        return KAGGLE_WORKING / project
    return platformdirs.user_data_path(project, appauthor=False)  # not the cache: the system may empty that


def _chosen(where: str, home: Path, source: str, path: str) -> Path:
    """The dataset by the form, by VGGNB_DATASET, or the sample."""
    if source not in ("", *SOURCES):
        raise VggnbError(f"There is no source '{source}'.", "SOURCE", f"Use one of: {', '.join(SOURCES)}.")
    named, option = os.environ.get("VGGNB_DATASET"), "PATH in the setup cell"
    if source == LAST and not named and (home / CHOICE).is_file():
        remedy, option = "Choose another SOURCE in the setup cell.", f"SOURCE and {option}"
        try:
            last = read_json(home / CHOICE, remedy)
            source, path = last["source"], str(last["dataset"])
        except (KeyError, TypeError) as error:
            raise VggnbError("This file is damaged.", home / CHOICE, remedy) from error
    if source == SAMPLE:
        return sample_folder()
    if source == SOLAR:
        if where == "colab":
            colab.install(PACKAGE)
        return solar_cells(home / "solar-cells")
    if source == UPLOAD and where == "colab" and not path:
        return colab.upload(home / "uploads")
    if source in (FOLDER, UPLOAD):
        return _existing(where, home, path, option)
    if named or os.environ.get("VGGNB_PROFILE") == "full":
        if not named and not (home / "dataset").exists():
            remedy = "Set it to your folder, archive or table, or set VGGNB_PROFILE=quick to use the sample."
            raise VggnbError("The full profile needs your dataset.", "VGGNB_DATASET", remedy)
        return _existing(where, home, named or "", "VGGNB_DATASET")
    return sample_folder()


def _existing(where: str, home: Path, text: str, option: str) -> Path:
    """The dataset of this name, on Colab also on Drive; without a name, the project's own dataset folder."""
    found = _located(text, home, option) if text.strip() else home / "dataset"
    if where == "colab" and text.strip() and not found.exists():
        inside = _DRIVE.sub("", _unquoted(text), count=1)
        places = (CONTENT / "drive" / "MyDrive" / inside, CONTENT / "drive" / inside)  # the second: shared drives
        found = next(filter(Path.exists, places), places[0])
    if not found.exists():
        names = [one.name for one in found.parent.iterdir()] if found.parent.is_dir() else []
        close = ", ".join(difflib.get_close_matches(found.name, names, cutoff=0.5))
        remedy = f"Set {option} to your folder, archive or table" + (f"; there is {close}." if close else ".")
        raise VggnbError("There is no such folder or file.", found, remedy)
    return found


def _located(dataset: Path | str, home: Path, option: str = "DATASET") -> Path:
    """The path of a dataset; `sample` and `solar-cells` are names, unless something here is called so."""
    text = os.fspath(dataset)
    text = text if os.path.lexists(os.path.expanduser(text)) else _unquoted(text)
    check_no_address(text, "The dataset", option)
    path = Path(os.path.expanduser(text)).absolute()
    if os.path.lexists(path) or text not in ("sample", "solar-cells"):
        return path
    return sample_folder() if text == "sample" else solar_cells(home / "solar-cells")


def _unquoted(text: str) -> str:
    return _QUOTED.fullmatch(text)[2].strip()


def _is_on_drive(path: Path | str) -> bool:
    return Path(path).is_relative_to(CONTENT / "drive")


def _weights() -> str:
    weights = os.environ.get("VGGNB_WEIGHTS") or "imagenet"
    path = Path(os.path.expanduser(weights)).absolute()
    if weights not in WEIGHTS and not path.is_file():
        remedy = "Set VGGNB_WEIGHTS to imagenet, offline, none, or an existing weights file."
        raise VggnbError("There is no such weights file.", f"VGGNB_WEIGHTS={weights}", remedy)
    return weights if weights in WEIGHTS else str(path)


def _samples() -> tuple[Path, Path]:
    """Where the sample lies in an installed package and in a checkout."""
    package = Path(vggnb.__file__).absolute().parent
    return package / "_sample", package.parent / "data" / "sample"


def sample_folder() -> Path:
    """The dataset folder that comes with vggnb."""
    for folder in _samples():
        if (folder / "train").is_dir():
            return folder
    raise VggnbError("The sample is missing.", _samples()[1], "Install vggnb again, or run python data/make_sample.py.")


def make_project_folders(folder: Path | None = None, *, project: str = "vggnb") -> str:
    """Make the project folder, `dataset` in it, and train, validation and test in that (article steps 1 and 2).

    A dataset folder that holds anything is left exactly as it is. The folders are given as text.

    Args:
        folder: the project folder; by default `MyDrive/<project>` on Colab, VGGNB_HOME elsewhere.
        project: its name, where none is given.
    """
    root = make_folder(Path(os.path.expanduser(folder)).absolute() if folder else _home(environment(), project))
    dataset = make_folder(root / "dataset")
    if not any(dataset.iterdir()):
        for split in SPLITS:
            make_folder(dataset / split)
    inside = sorted(path.name for path in dataset.iterdir() if path.is_dir() and path.name[:1] != ".")
    inside.sort(key=lambda name: (*SPLITS, name).index(name))
    top = "/".join(root.parts[root.parts.index("MyDrive") :]) if "MyDrive" in root.parts else "<project>"
    lines = [f"{top}/", "  dataset/", *(f"    {name}/" for name in inside[:10])]
    return "\n".join(lines + ["    ..."] * (len(inside) > 10))


def mount_drive() -> Path | None:
    """Mount Google Drive on Colab and give its MyDrive folder; elsewhere print that there is none (article step 5)."""
    if environment() != "colab":
        print("Not on Colab: there is no Drive to mount.")
        return None
    colab.mount(CONTENT / "drive")
    print("Drive is mounted: your files are in MyDrive.")
    return CONTENT / "drive" / "MyDrive"
