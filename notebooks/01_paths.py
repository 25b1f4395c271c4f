# %% [markdown]
# # 1. Paths: where your images and results are stored
#
# After this page you can
#
# - make the project folder and the dataset folder, on Google Drive or on your own machine,
# - mount Drive with the right account, and read the message when it fails,
# - switch between the sample and your own images,
# - explain what train, validation and test are for.
#
# **Article steps** 1 to 7. **Reads** a dataset folder. **Writes** empty folders for your project.
# **Takes** a second, quick and full alike, on any CPU; nothing is trained here.
#
# *This series teaches a method. It is not a diagnostic device, and nothing in it says anything about your skin.*

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
# Every page begins with this cell. In Colab it asks for permission to use your Drive. **Choose the account whose Drive
# holds your images.**
#
# | line or name | meaning |
# |---|---|
# | profile | **quick**: images of 96 pixels. **full**: images of 224 pixels. Colab uses the sample in quick until `MyDrive/vggnb/dataset` holds a file, then your images in full. Elsewhere it is quick unless `VGGNB_PROFILE` is full. The outputs shown are from quick. |
# | dataset | the images that the pages use |
# | runs | where trained models are kept, one folder for each dataset (`sample` for the sample) |
# | `<home>` | the folder of the whole series: `vggnb` on your Drive in Colab; elsewhere, see `print(ws.home)` |
# | `ws` | the **workspace**, an object that holds all these paths |
#
# The sample was **drawn by a program**. It resembles dermoscopy (magnified photographs of skin) but shows no real skin.

# %% [markdown]
# ## Steps 1 and 2: a project folder, and a dataset folder in it
#
# The article makes both by hand. One line does the same, on Drive in Colab and in `<home>` elsewhere. Existing folders
# are left as they are.

# %%
from vggnb.paths import make_project_folders

folders = make_project_folders()
print(folders)

# %% [markdown]
# In each of the three folders, make **one folder for each class**, named after the class. For two classes:
#
# ```
# dataset/
#   train/       benign/ malignant/     the network learns from these
#   validation/  benign/ malignant/     used for decisions (number of epochs, recipe)
#   test/        benign/ malignant/     used once, at the end
# ```
#
# (An **epoch** is one pass over all training images.) A score on images that were used for a decision tends to be too
# high. Only unused images show how the model will do on new ones.
#
# If validation is empty, part of train is used for it.

# %% [markdown]
# ## Step 3: put images in it
#
# The article uses a set from Kaggle (3 297 photographs of moles). Any folder of images works. If you have none, these
# lines download some. They need a network and are not run here; each returns what to put into `VGGNB_DATASET` below:
#
# ```python
# from vggnb import datasets
# datasets.kaggle()                               # the article's set; needs a Kaggle account
# datasets.isic(ws.home / "isic", each=200)       # the ISIC Archive: CC-0 images, with attribution
# datasets.solar_cells(ws.home / "solar")         # solar cells, defective or not: pip install elpv-dataset (91 MB)
# datasets.url("https://...", ws.home / "my_images", sha256="...")
# ```
#
# - Upload **one .zip file** rather than thousands of images: Drive is slow with many small files. Put it beside the
#   folder `dataset`, not into it, and name it in `VGGNB_DATASET`.
# - Keep the originals elsewhere. The series never changes or deletes your images, but an upload can fail.
#
# Then run the setup cell again and check its line *dataset*.
#
# ## Step 4: a notebook
#
# You already have one: in Colab choose **File > Save a copy in Drive**, and from page 4 on **Runtime > Change runtime
# type > T4 GPU**.

# %% [markdown]
# ## Step 5: mount Google Drive
#
# In Colab the setup cell has already mounted Drive; this cell asks again only if the connection was lost.

# %%
from vggnb.paths import mount_drive

drive = mount_drive()

# %% [markdown]
# If mounting fails, the message gives the reason and the remedy:
#
# | reason | remedy |
# |---|---|
# | the permission was not given | run the cell again, tick every box, allow pop-ups and third-party cookies |
# | the mount folder holds files | Runtime > Disconnect and delete runtime, then start again; nothing on Drive is lost |
# | Drive did not answer in time | run it again; if it persists, move the files at the top of My Drive into folders |

# %% [markdown]
# ## Step 6: imports
#
# > **In the article** eleven names are imported at once. Most of them are never used, and one of these, `cv2`, stops the
# > notebook where OpenCV is not installed. **Here** each page imports what it uses, where it uses it.
#
# Pages 1 and 2 do not need TensorFlow, so they start quickly.

# %%
import sys

print("TensorFlow loaded so far:", "tensorflow" in sys.modules)

# %% [markdown]
# ## Step 7: which folder is what
#
# The article writes ten paths by hand. Here they are found by reading the folder:

# %%
from vggnb.census import read_layout

layout = read_layout(ws.dataset)
print(layout)

# %% [markdown]
# Split folders may also be named `val`, `valid`, `Training` or `TEST`, and class folders need not be split.
#
# The next cell **fails on purpose** to show how a wrong path is reported. If *Run all* stops there in Colab, click the
# cell after it and choose **Runtime > Run cell and below**.

# %% tags=["raises-exception"]
read_layout(ws.home / "datasett")

# %% [markdown]
# ## Use your own images
#
# In Colab, class folders in `MyDrive/vggnb/dataset` are found automatically. For any other folder or a .zip, put these
# lines in a new cell **above** the setup cell of every page, and run it from the top (in Colab: Runtime > Restart session
# and run all):
#
# ```python
# import os
# os.environ["VGGNB_DATASET"] = "/content/drive/MyDrive/my_images"
# os.environ["VGGNB_PROFILE"] = "full"
# ```
#
# With a .zip, continue with page 2, which unpacks it; step 7 reads folders only.
#
# A **run** (page 5) belongs to one dataset, one image size and one split. If you change any of them later, page 5 stops
# with *This folder holds another run*. Rename or remove the folder that the message names; it is in `ws.runs`.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many *files* are in the class folders of the test split? `layout.entries` has one entry for each file, with `.path`,
# `.split` and `.class_name`.
#
# <details><summary>Show a solution</summary>
#
# ```python
# sum(entry.split == "test" for entry in layout.entries)
# ```
#
# 80 on the sample. Whether each is a usable image is known only once it has been opened (page 2).
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You made the project and dataset folders, mounted Drive if you are in Colab, and read the dataset's layout. You know how
# to use your own images and why there are three splits.
#
# Next: [2. Census: look at every image before you train](02_census.ipynb)
