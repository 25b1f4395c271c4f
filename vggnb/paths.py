"""Where things are on Colab, Kaggle, Binder and a laptop: profile, folders, Google Drive, cores, versions."""

import dataclasses
import errno
import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

import vggnb
from vggnb.solar import solar_cells
from vggnb.storage import VggnbError, make_folder, resolved, sha256_bytes, storage_errors

CONTENT = Path("/content")  # Colab's fast local disk; what is on it is lost with the runtime
KAGGLE_WORKING = Path("/kaggle/working")  # what Kaggle keeps of a session
MOUNT_S = 120  # seconds to wait for Drive
WITHOUT_DRIVE = "To work without Drive, set VGGNB_HOME=/content/vggnb and VGGNB_DATASET, and download what you make."
IMAGE_SIZES = {"quick": 96, "full": 224}
WEIGHTS = ("imagenet", "offline", "none")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
SPLITS = ("train", "validation", "test")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # "s3://bucket" as a path has one slash; "C:/" is a disk


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
        """Cache of the census, on the fast local disk: a second census opens only the files that changed."""
        digest = sha256_bytes(os.fsencode(self.dataset))[:8]
        return self.features.parent / "census" / f"{self.dataset.stem}-{digest}.json.gz"

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
        return "\n".join(f"{name:<12} {value}" for name, value in lines.items()) + f"\n({note})"

    __repr__ = __str__

    def _short(self, path: Path) -> str:
        """The path from `<home>` or `~`, so that printed pages do not depend on the machine."""
        for base, name in ((self.home, "<home>"), (Path.home(), "~")):
            if path.is_relative_to(base):
                return "/".join((name, *path.relative_to(base).parts))
        return path.as_posix()


def open_workspace(*, dataset: Path | str | None = None, project: str = "vggnb") -> Workspace:
    """Find the dataset and the folders for runs and features; on Colab, mount Drive if it is not mounted yet.

    No folder is made: each is made when something is first written to it.

    Args:
        dataset: a folder, an archive, a table, or the name `sample` or `solar-cells`, instead of looking for one.
        project: on Colab, the folder of Drive (`MyDrive/<project>`) that holds `dataset` and `runs`.

    Raises:
        VggnbError: an environment variable has an unknown value, a folder is missing or cannot be written to.
    """
    where = environment()
    weights, home = _weights(), _home(where, project)
    profile = _profile(where, home)
    # Features are many small reads: on Colab they are kept on the local disk and lost with the machine.
    on_drive = where == "colab" and home.is_relative_to(CONTENT / "drive")
    features = (CONTENT / project if on_drive else home) / "features"
    dataset = _dataset(where, profile, home) if dataset is None else _located(dataset, home)
    if dataset.is_dir():
        check_outside(home, dataset, "The folder for runs and features", "VGGNB_HOME")
    is_sample, path = dataset in _samples(), Path(os.path.abspath(dataset))  # not ".."
    name = "sample" if is_sample else path.name if dataset.is_dir() else path.stem
    check_writable(home)
    # The numbers of the sample are the same everywhere: float32.
    precision = _choice("VGGNB_PRECISION", "float32" if is_sample else "auto", PRECISIONS)
    return Workspace(where, profile, dataset, home, home / "runs" / name, features, weights, precision)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made, or cannot be written to.

    Raises:
        VggnbError: a file stands in its place, or the permission is lacking.
    """
    place = Path(folder).absolute()
    while not os.path.lexists(place):
        place = place.parent
    with storage_errors(place):
        if not place.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def check_outside(path: Path, dataset: Path, what: str, option: str) -> None:
    """Refuse to write among a dataset's images, where it would be taken for one of its classes, or to an address.

    Raises:
        VggnbError: `path` is the dataset's folder or lies in it, or begins like s3://; `what` and `option` say what was
            to be put there.
    """
    check_no_address(path, what, option)
    if resolved(path).is_relative_to(resolved(dataset)):
        raise VggnbError(f"{what} would lie inside the dataset.", path, f"Name a place elsewhere with {option}.")


def check_no_address(path: Path | str, what: str, option: str) -> None:
    """Refuse an address such as s3://bucket or https://example.org/photos.zip where a file or folder is needed."""
    if re.match("https?:/", os.fspath(path), re.IGNORECASE):
        remedy = "Download it first and give the name of the file; an archive need not be unpacked."
        raise VggnbError(f"{what} must be on a disk; this is a web address.", path, remedy)
    if _ADDRESS.match(os.fspath(path)):
        remedy = f"Mount the storage (gcsfuse, rclone mount) and name the folder where it is mounted with {option}."
        raise VggnbError(f"{what} must be on a disk; this is an address.", path, remedy)


def _profile(where: str, home: Path) -> str:
    """VGGNB_PROFILE; else, on Colab, full as soon as the user has named a dataset or put a file into their own."""
    if os.environ.get("VGGNB_PROFILE") or where != "colab":
        return _choice("VGGNB_PROFILE", "quick", IMAGE_SIZES)
    return "full" if os.environ.get("VGGNB_DATASET") or _holds_a_file(home / "dataset") else "quick"


def _choice(variable: str, default: str, choices) -> str:
    """The value of an environment variable, if it is one of the choices."""
    value = os.environ.get(variable) or default
    if value not in choices:
        kind = variable.removeprefix("VGGNB_").lower()
        raise VggnbError(f"There is no {kind} '{value}'.", variable, f"Use {', '.join(choices)}.")
    return value


def _home(where: str, project: str) -> Path:
    """VGGNB_HOME; else a folder of Drive on Colab, what Kaggle keeps, or a folder in the user's data directory."""
    if named := os.environ.get("VGGNB_HOME"):
        check_no_address(named, "The folder for runs and features", "VGGNB_HOME")
        return Path(named).expanduser().absolute()
    if where == "colab":
        return mount_drive(quiet=True) / project
    if where == "kaggle":
        return KAGGLE_WORKING / project
    return platformdirs.user_data_path(project, appauthor=False)  # not the cache: the system may empty that


def _dataset(where: str, profile: str, home: Path) -> Path:
    """VGGNB_DATASET; else the sample in the quick profile, or what lies in the project's own dataset folder."""
    if named := os.environ.get("VGGNB_DATASET"):
        dataset = _located(named, home)
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


def _located(dataset: Path | str, home: Path) -> Path:
    """The path of a dataset; `sample` and `solar-cells` are names, unless something here is called so."""
    check_no_address(dataset, "The dataset", "DATASET or VGGNB_DATASET")
    path = Path(dataset).expanduser().absolute()
    if str(dataset) == "sample" and not os.path.lexists(path):
        return sample_folder()
    if str(dataset) == "solar-cells" and not os.path.lexists(path):
        return solar_cells(home / "solar-cells")
    return path


def _holds_a_file(folder: Path) -> bool:
    """Whether there is a file, or a link to something, at any depth; hidden ones do not count."""
    with storage_errors(folder):
        inside = (path for path in folder.rglob("*") if path.name[0] != ".")
        return any(path.is_file() or (path.is_symlink() and path.exists()) for path in inside)


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
    """The folders of a project (article steps 1 and 2)."""

    project: Path
    dataset: Path

    def __str__(self) -> str:
        inside = [path.name for path in self.dataset.iterdir() if path.is_dir() and path.name[:1] != "."]
        inside.sort(key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
        parts = self.project.parts
        top = "/".join(parts[parts.index("MyDrive") :]) if "MyDrive" in parts else "<project>"
        lines = [f"{top}/", f"  {self.dataset.name}/", *(f"    {name}/" for name in inside[:10])]
        return "\n".join(lines + ["    ..."] * (len(inside) > 10))

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


def environment() -> str:
    """Where this code runs: "colab", "kaggle", "binder" or "local"."""
    # Kaggle first: its machines are built on Colab's and carry Colab's variables.
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ or os.path.exists(KAGGLE_WORKING):
        return "kaggle"
    if "google.colab" in _running_shell() or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "binder" if "BINDER_SERVICE_HOST" in os.environ else "local"


def _running_shell() -> str:
    """The repr of the IPython shell that this runs in, "" for none, without importing IPython."""
    return str(sys.modules["IPython"].get_ipython() or "") if "IPython" in sys.modules else ""


def mount_drive(*, quiet: bool = False) -> Path | None:
    """Mount Google Drive on Colab and return its MyDrive folder; elsewhere print that there is none (article step 5).

    Raises:
        VggnbError: Drive could not be mounted; the text says what to do.
    """
    if environment() != "colab":
        print("Not on Colab: there is no Drive to mount.")
        return None
    mountpoint = CONTENT / "drive"
    mounted = _mount_state(mountpoint)
    if mounted != "alive":
        print("Mount with the account whose Drive holds your images.")
        try:
            from google.colab import drive

            drive.mount(str(mountpoint), force_remount=mounted == "dropped", timeout_ms=MOUNT_S * 1000)
        except Exception as error:  # Colab's own MessageError has no public name
            raise _mount_error(error, mountpoint) from error
        if _mount_state(mountpoint) != "alive":
            remedy = f"Runtime > Restart session, then mount again. {WITHOUT_DRIVE}"
            raise VggnbError("Drive was mounted but its MyDrive folder is not there.", mountpoint, remedy)
    if not quiet or mounted != "alive":
        print("Drive is mounted: your files are in MyDrive.")
    return mountpoint / "MyDrive"


def _mount_state(mountpoint: Path) -> str:
    """Of a mount: "alive", "dropped" (it was there and its connection died) or "absent"."""
    try:
        os.stat(mountpoint / "MyDrive")
    except OSError as error:
        return "dropped" if error.errno in (errno.ENOTCONN, errno.EIO) else "absent"
    return "alive"


def _mount_error(error: Exception, mountpoint: Path) -> VggnbError:
    """Explain a failed mount and what to do about it."""
    text = f"{type(error).__name__}: {error}".lower()
    if "credential propagation was unsuccessful" in text:
        what = "Drive refused: the permission was not given."
        remedy = "Run the cell again, choose the account whose Drive holds your images and tick every box; allow "
        remedy += "pop-ups and third-party cookies for colab.research.google.com."
    elif "must not already contain files" in text:
        what = "The mount folder holds files, so Drive cannot be mounted on it."
        remedy = "Runtime > Disconnect and delete runtime, then run the pages from the top; nothing on Drive is lost."
    elif "timeout" in text:
        what = "Drive did not answer in time."
        remedy = "Run the cell again. If it persists, My Drive holds too many files at its top: move them into folders."
    elif isinstance(error, NotImplementedError):
        what, remedy = "This runtime cannot mount Drive.", "Use a hosted Colab runtime in the browser."
    elif isinstance(error, ImportError):
        what, remedy = "This is not a Colab kernel.", "Mount Drive in a notebook cell: mount_drive()."
    else:
        what = f"Drive could not be mounted ({type(error).__name__}: {error})."
        remedy = "Run the cell again and allow access in the window that opens."
    return VggnbError(what, mountpoint, f"{remedy} {WITHOUT_DRIVE}")


def python_path() -> str:
    """PYTHONPATH with which a fresh process finds this same library."""
    home = str(Path(vggnb.__file__).resolve().parent.parent)
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def versions() -> dict[str, str | None]:
    """Version of each package that matters, None where it is not installed; nothing is imported."""
    found = {"python": platform.python_version(), "vggnb": vggnb.__version__}
    for name in ("numpy", "pillow", "matplotlib", "tensorflow", "keras", "onnxruntime", "ipywidgets"):
        found[name] = _version(name)
    found["tensorflow"] = found["tensorflow"] or _version("tensorflow-cpu")
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_words() -> str:
    """The processor cores and the graphics card that can be seen without starting TensorFlow."""
    devices = os.listdir("/dev") if os.path.isdir("/dev") else []
    gpus = sum(name.startswith("nvidia") and name[6:].isdigit() for name in devices)
    return f"{cores()} CPU cores, " + (f"{gpus} NVIDIA GPU" if gpus else "no GPU seen")


def threads() -> int | None:
    """Threads for TensorFlow, from VGGNB_THREADS; None leaves it to TensorFlow."""
    text = os.environ.get("VGGNB_THREADS")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise VggnbError(f"Not a number of threads: '{text}'.", "VGGNB_THREADS", "Set it to a whole number from 1.")
    return int(text)
