# %% [markdown]
# # 1. Paths: where your images and results are stored
#
# After this page you can
#
# - name the steps from a folder of images to a trained model,
# - create the folders of a project, on Google Drive or on your own computer,
# - switch between the sample and your own images,
# - read the error message when a path is wrong.
#
# The series follows *the article*, a tutorial that retrains the network VGG-16 in 21 steps. Boxes show where a step has
# a flaw.
#
# **Article steps** 1 to 7. **Reads** a dataset folder. **Writes** empty folders for your project.
# **Takes** a second, in quick and in full, on any CPU, apart from copying images from Drive or an archive.

# %% tags=["setup"]
# @title Setup (run me first) {"display-mode": "form"}
SOURCE = "as last time"  # @param ["as last time", "sample", "solar cells", "folder or zip on Drive", "upload a zip"]
PATH = ""  # @param {"type": "string", "placeholder": "MyDrive/my_images"}
import importlib.util, os, pathlib, subprocess, sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
found, here, source = importlib.util.find_spec("vggnb"), pathlib.Path.cwd(), ""
if not getattr(found, "origin", None):  # not installed: a checkout around this page, or a wheel, or an address
    checkouts = [folder for folder in (here, *here.parents) if (folder / "vggnb/paths.py").is_file()]
    wheels = list(pathlib.Path("/content").glob("vggnb-*.whl"))
    if not checkouts and not wheels and "google.colab" in sys.modules:
        try:
            from google.colab import drive as google_drive
            google_drive.mount("/content/drive")
        except Exception as error:
            print(f"Google Drive was not mounted: {error}")
        drive = pathlib.Path("/content/drive/MyDrive")
        wheels = [wheel for folder in ("", "vggnb*/", "vggnb*/*/") for wheel in drive.glob(f"{folder}vggnb-*.whl")]
    source = str(max(wheels, key=os.path.getmtime)) if wheels else source
    if checkouts:
        sys.path.insert(0, str(checkouts[0]))
    elif not source or subprocess.run([sys.executable, "-m", "pip", "install", "-q", source]).returncode:
        raise type("NotInstalled", (Exception,), {"_render_traceback_": lambda self: [str(self)]})(
            "vggnb is not installed: drag the folder vggnb of vggnb-colab.zip into My Drive, or its file vggnb-...whl "
            "into this page's files, and run this cell again; on your own computer, open the page inside the project.")
    importlib.invalidate_caches()
from vggnb.paths import open_workspace
ws = open_workspace(SOURCE, PATH)
print(ws)

# %% [markdown]
# ## What the setup cell prints
#
# Every page starts with this cell.
#
# - *profile*: **quick** uses images of 96 x 96 pixels, as in the outputs shown here; **full** uses 224 x 224.
# - *dataset*: your images, or the sample. *runs*: the folder for trained models.
# - `ws`: the **workspace**, an object with all these paths.

# %% [markdown]
# ## From a folder to a model
#
# The steps, and the page that explains each of them:

# %%
from vggnb import figures

figures.pipeline()

# %% [markdown]
# Only the yellow part is trained. VGG-16 stays as it is (**frozen**), so training takes seconds.
#
# ## Steps 1 and 2: a project folder, and a dataset folder in it
#
# One call creates both. Existing folders are not changed.

# %%
from vggnb.paths import make_project_folders

print(make_project_folders())

# %% [markdown]
# In each of the three folders, create **one folder for each class** and name it after the class:
#
# ```
# dataset/
#   train/       good/ scratched/ bent/     the model learns from these
#   validation/  good/ scratched/ bent/     used for decisions
#   test/        good/ scratched/ bent/     used once, at the end
# ```
#
# If you do not have these three folders, page 2 creates the **splits** (train, validation and test) for you.
#
# ## Step 3: put images in it
#
# Use your own images, or download some (not run here):
#
# ```python
# from vggnb import datasets
# datasets.kaggle()                          # the article's photographs of moles; needs a Kaggle account
# datasets.isic(ws.home / "isic", each=200)  # skin lesions from the ISIC Archive
# datasets.solar_cells(ws.home / "solar")    # needs the package elpv-dataset
# datasets.url("https://...", ws.home / "my_images", sha256="...")
# ```
#
# Upload **one .zip file** to Google Drive: Drive is slow with many small files. The series never changes your images.
#
# ## Step 4: a notebook
#
# This page is a notebook. In Colab, choose a GPU for page 5 and later: **Runtime > Change runtime type > T4 GPU**.
#
# ## Step 5: mount Google Drive
#
# *Mounting* makes Drive appear as a folder. In Colab the setup cell does so if your dataset is on Drive. Choose the
# account that holds the images. To mount Drive by hand:
#
# ```python
# from vggnb.paths import mount_drive
# mount_drive()
# ```

# %% [markdown]
# ## Step 6: imports
#
# > **In the article** `cv2` is imported but never used; where OpenCV is not installed, this import stops the notebook.
# > **Here** each page imports what it uses.
#
# ## Step 7: which folder is what
#
# The article writes ten paths by hand. Here they are read from the folder. An archive is unpacked first, and a folder
# on Drive is copied to the local disk, once.

# %%
from vggnb.census import read_layout
from vggnb.staging import stage_if_remote

layout = read_layout(stage_if_remote(ws.dataset, ws.staged))
print(*layout.sentences, sep="\n")

# %% [markdown]
# Names such as `val` are recognised, and so is a table with the columns `path` and `label`.
#
# For a wrong path, the error message says what to do:

# %%
from vggnb.storage import VggnbError

try:
    read_layout(ws.home / "datasett")
except VggnbError as error:
    print(error)

# %% [markdown]
# ## Use your own images
#
# - **Colab**: in the setup cell's form, choose *folder or zip on Drive* and give its `PATH`, such as
#   `MyDrive/parts.zip`.
# - **Elsewhere**: before you start Jupyter, set `VGGNB_DATASET` to the folder, archive or table, and
#   `VGGNB_PROFILE=full`.
#
# ### About the sample
#
# Unless you choose your own images, the pages use the **sample**: 600 images, **drawn by a program** to imitate
# magnified photographs of skin. They show no real skin. A model trained on them must not be used on people.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `layout.entries` has one entry for each file in a class folder, with `.path`, `.split` and `.class_name`.
#
# 1. How many files are there in all?
# 2. How many of them are in the class that comes last in `layout.classes`?
#
# <details><summary>Show a solution</summary>
#
# ```python
# files = len(layout.entries)
# last = sum(entry.class_name == layout.classes[-1] for entry in layout.entries)
# ```
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    files=lambda answer: answer == len(layout.entries) or "Count the entries of all splits and classes.",
    last=lambda answer: answer == sum(entry.class_name == layout.classes[-1] for entry in layout.entries)
    or "Compare each entry's class_name with layout.classes[-1], in all splits.",
)

# %%
files = ...
check(1)

# %%
last = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You know the steps, created the folders of a project, read the layout of a dataset and an error message, and can
# switch to your own images.
#
# Next: [2. Census: look at every image before you train](02_census.ipynb)
