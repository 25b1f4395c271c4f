"""Where things are on Colab, Kaggle, Binder and a laptop: the profile, the folders, Google Drive, the versions.

Environment variables: VGGNB_PROFILE, VGGNB_HOME, VGGNB_DATASET, VGGNB_WEIGHTS, VGGNB_THREADS.
"""

import dataclasses
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import vggnb
from vggnb import machine
from vggnb.machine import KAGGLE_WORKING, environment, mount_drive
from vggnb.storage import VggnbError, make_folder, resolved, storage_errors

IMAGE_SIZES = {"quick": 96, "full": 224}
WEIGHTS = ("imagenet", "offline", "none")
SPLITS = ("train", "validation", "test")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # "s3://bucket" as a path has one slash; "C:/" is a disk


@dataclass(frozen=True)
class Workspace:
    """Where one learner's things are. Printed, it names folders from `<home>`; the attributes hold whole paths."""

    environment: str
    profile: str
    dataset: Path
    home: Path
    runs: Path
    features: Path
    weights: str

    @property
    def image_size(self) -> int:
        """Pixels a side that this profile works with."""
        return IMAGE_SIZES[self.profile]

    @property
    def staged(self) -> Path:
        """Where copies of a dataset go: beside the features, on the fast local disk."""
        return self.features.parent / "staged"

    @property
    def census_file(self) -> Path:
        """What earlier censuses found, on the fast local disk: a second census opens only the files that changed."""
        return self.features.parent / "census.sqlite"

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
        }
        note = "<home> is ws.home; ws.runs, ws.dataset and ws.features are whole paths"
        return "\n".join(f"{name:<12} {value}" for name, value in lines.items()) + f"\n({note})"

    __repr__ = __str__

    def _short(self, path: Path) -> str:
        """A path as people read it, without what only this machine knows."""
        for base, name in ((self.home, "<home>"), (Path.home(), "~")):
            if path.is_relative_to(base):
                return "/".join((name, *path.relative_to(base).parts))
        return path.as_posix()


def open_workspace(*, dataset: Path | None = None, project: str = "vggnb") -> Workspace:
    """Find the dataset and make the folders for runs and features; on Colab, mount Drive if it is not yet.

    Args:
        dataset: taken as it is, instead of looking for one.
        project: on Colab, the folder of Drive (`MyDrive/<project>`) that holds `dataset` and `runs`.

    Raises:
        VggnbError: an environment variable has an unknown value, a folder is missing or cannot be written to.
    """
    where = environment()
    weights, home = _weights(), _home(where, project)
    profile = _profile(where, home)
    # Features are many small reads: on Colab they live on the local disk and are made again with the machine.
    on_drive = where == "colab" and home.is_relative_to(machine.CONTENT / "drive")
    local = machine.CONTENT / project if on_drive else home
    dataset = _dataset(where, profile, home) if dataset is None else Path(dataset).absolute()
    if dataset.is_dir():
        check_outside(home, dataset, "The folder for runs and features", "VGGNB_HOME")
    # A run is of one dataset: those on the sample do not stand in the way of those on the learner's own pictures.
    named = Path(os.path.abspath(dataset))  # not ".."
    name = "sample" if dataset in _samples() else named.name if dataset.is_dir() else named.stem
    runs = make_folder(home / "runs" / name)
    features = make_folder(local / "features")
    return Workspace(where, profile, dataset, home, runs, features, weights)


def check_outside(path: Path, dataset: Path, what: str, option: str) -> None:
    """Refuse to write among a dataset's pictures, where it would be taken for one of its classes, or to an address.

    Raises:
        VggnbError: `path` is the dataset's folder or lies in it, or begins like s3://; `what` and `option` say what was
            to be put there.
    """
    _check_no_address(path, what, option)
    if resolved(path).is_relative_to(resolved(dataset)):
        raise VggnbError(f"{what} would lie inside the dataset.", path, f"Name a place elsewhere with {option}.")


def _check_no_address(path: Path | str, what: str, option: str) -> None:
    if _ADDRESS.match(os.fspath(path)):
        remedy = f"Mount the storage (gcsfuse, rclone mount) and name the folder where it is mounted with {option}."
        remedy += " For a folder that really has such a name, give its whole path."
        raise VggnbError(f"{what} must lie on a disk; this is an address.", path, remedy)


def _profile(where: str, home: Path) -> str:
    """VGGNB_PROFILE; else, on Colab, full as soon as the learner has named a dataset or put a file into her own."""
    profile = os.environ.get("VGGNB_PROFILE")
    if not profile:
        own = where == "colab" and (os.environ.get("VGGNB_DATASET") or _holds_a_file(home / "dataset"))
        profile = "full" if own else "quick"
    if profile not in IMAGE_SIZES:
        remedy = "Set VGGNB_PROFILE to quick (the sample, seconds a page) or full (your dataset, 224 pixels)."
        raise VggnbError(f"There is no profile '{profile}'.", "VGGNB_PROFILE", remedy)
    return profile


def _home(where: str, project: str) -> Path:
    """VGGNB_HOME; else a folder of Drive on Colab, what Kaggle keeps, or a folder in the user's cache folder."""
    if named := os.environ.get("VGGNB_HOME"):
        _check_no_address(named, "The folder for runs and features", "VGGNB_HOME")
        return Path(named).expanduser().absolute()
    if where == "colab":
        return mount_drive(quiet=True) / project
    if where == "kaggle":
        return KAGGLE_WORKING / project
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / project
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache").absolute() / project


def _dataset(where: str, profile: str, home: Path) -> Path:
    """VGGNB_DATASET; else the sample in the quick profile, or what lies in the project's own dataset folder."""
    if named := os.environ.get("VGGNB_DATASET"):
        dataset = Path(named).expanduser().absolute()
        if not dataset.exists():
            drive = " On Colab, mount Drive first." if where == "colab" else ""
            raise VggnbError("There is no such dataset.", dataset, f"Check the name in VGGNB_DATASET.{drive}")
        return dataset
    if profile == "quick":
        return sample_folder()
    if where == "colab" or (home / "dataset").is_dir():
        return home / "dataset"
    remedy = "Set VGGNB_DATASET to the folder that holds train/ and test/, or VGGNB_PROFILE=quick for the sample."
    raise VggnbError("The full profile needs your dataset.", "VGGNB_DATASET", remedy)


def _holds_a_file(folder: Path) -> bool:
    """Whether there is more in a folder than empty folders, hidden files and links that lead nowhere."""
    with storage_errors(folder):
        for place, folders, names in os.walk(folder):
            inside = [Path(place, name) for name in (*names, *folders) if name[:1] != "."]
            if any(path.exists() and (path.is_file() or path.is_symlink()) for path in inside):
                return True
    return False


def _weights() -> str:
    weights = os.environ.get("VGGNB_WEIGHTS") or "imagenet"
    if weights in WEIGHTS:
        return weights
    path = Path(weights).expanduser().absolute()
    if not path.is_file():
        remedy = "Set VGGNB_WEIGHTS to imagenet, offline, none, or an existing weights file."
        raise VggnbError("There is no such weights file.", f"VGGNB_WEIGHTS={weights}", remedy)
    return str(path)


def _samples() -> tuple[Path, Path]:
    """Where the sample lies in an installed package and in a checkout."""
    package = Path(vggnb.__file__).absolute().parent
    return package / "_sample", package.parent / "data" / "sample"


def sample_folder() -> Path:
    """The dataset folder that comes with vggnb.

    Raises:
        VggnbError: it is missing.
    """
    for folder in _samples():
        if (folder / "train").is_dir():
            return folder
    raise VggnbError("The sample is missing.", _samples()[1], "Install vggnb again, or run python data/make_sample.py.")


@dataclass(frozen=True)
class ProjectFolders:
    """The folders of a learner's own project (article steps 1 and 2)."""

    project: Path
    dataset: Path

    def __str__(self) -> str:
        inside = [path.name for path in self.dataset.iterdir() if path.is_dir() and path.name[:1] != "."]
        inside.sort(key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
        parts = self.project.parts
        # On Drive the learner looks for the folder by its name; elsewhere the whole path is hers: folders.project.
        top = "/".join(parts[parts.index("MyDrive") :]) if "MyDrive" in parts else "<project>"
        lines = [f"{top}/", f"  {self.dataset.name}/", *(f"    {name}/" for name in inside[:10])]
        return "\n".join(lines + (["    ..."] if len(inside) > 10 else []))

    __repr__ = __str__


def make_project_folders(folder: Path | None = None, *, project: str = "vggnb") -> ProjectFolders:
    """Make the project folder, `dataset` in it, and train, validation and test in that (article steps 1 and 2).

    A dataset folder that holds anything is left exactly as it is.

    Args:
        folder: the project folder; by default `MyDrive/<project>` on Colab, VGGNB_HOME elsewhere.
        project: its name, where none is given.
    """
    root = make_folder(Path(folder).expanduser().absolute() if folder else _home(environment(), project))
    dataset = make_folder(root / "dataset")
    if not any(dataset.iterdir()):
        for split in SPLITS:
            make_folder(dataset / split)
    return ProjectFolders(root, dataset)
