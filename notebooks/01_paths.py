# %% [markdown]
# # 1. Paths: where your pictures and your results live
#
# After this page you can
#
# - make the project folder and the dataset folder, on Google Drive or on your own machine,
# - mount Drive, with the right account, and read what goes wrong when it does not mount,
# - point the series at the sample or at your own pictures by changing one line,
# - say which folder holds train, which validation and which test, and why there are three.
#
# **Article steps** 1 to 7. **Reads** a dataset folder. **Writes** empty folders for your project.
# **Takes** a second, quick and full alike, on any CPU; nothing is trained here.
#
# *This series teaches a method. It is not a diagnostic device, and nothing in it says anything about your skin.*

# %% tags=["setup"]
# @title Setup (run me first) {"display-mode": "form"}
import importlib.util, os, pathlib, subprocess, sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
found, here, address = importlib.util.find_spec("vggnb"), pathlib.Path.cwd(), ""
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
        wheels = [wheel for depth in ("", "vggnb*/", "vggnb*/*/") for wheel in drive.glob(f"{depth}vggnb-*.whl")]
    source = str(max(wheels, key=os.path.getmtime)) if wheels else address
    if checkouts:
        sys.path.insert(0, str(checkouts[0]))
    elif not source or subprocess.run([sys.executable, "-m", "pip", "install", "-q", source]).returncode:
        sys.exit("vggnb is not installed: put the file vggnb-...-py3-none-any.whl into /content or into the folder "
                 "vggnb in My Drive, then run this cell again; on your own computer, open the page inside the project.")
    importlib.invalidate_caches()
from vggnb.paths import open_workspace
ws = open_workspace()
print(ws)

# %% [markdown]
# ## What the setup cell said
#
# Every page begins with the same cell. In Colab it asks for permission to use your Drive. **Choose the account whose
# Drive holds your images**: Colab and Drive must belong to the same account, or your folder will not be there. (Step 5
# says what to do when it fails.) Look for three lines in what it printed, and two names that come back on every page:
#
# | line or name | what it tells |
# |---|---|
# | profile | **quick** works with pictures of 96 pixels, in seconds; **full** with pictures of 224 pixels. Colab works on the sample, in quick, while `MyDrive/vggnb/dataset` holds no file; as soon as there are pictures, it works on these, in full. Everywhere else it is quick, unless `VGGNB_PROFILE` says full. The numbers printed on these pages are quick's. |
# | dataset | the pictures that the pages will use |
# | runs | where everything that is trained will be kept: a folder for each dataset, with its name (`sample` for the sample) |
# | `<home>` | the folder of the whole series: in Colab `vggnb` on your Drive, elsewhere what `print(ws.home)` says |
# | `ws` | the **workspace**, which the setup cell made: it knows all these places, and the pages ask it |
#
# The sample was **drawn by a program**. It looks a little like dermoscopy (skin photographed through a magnifying lens)
# so that the pages have something to work on, and it teaches nothing about skin.

# %% [markdown]
# ## Steps 1 and 2: a project folder, and a dataset folder in it
#
# The article makes a folder on Google Drive by hand and another one, `dataset`, inside it. One line does the same, on
# Drive when you are in Colab and in your home otherwise. Folders that are already there are left exactly as they are.

# %%
from vggnb.paths import make_project_folders

folders = make_project_folders()
print(folders)

# %% [markdown]
# Three empty folders wait for your pictures. In each of them you will make **one folder for each class**, named as you
# want the answer to read. For two classes that is
#
# ```
# dataset/
#   train/       benign/ malignant/     the network learns from these
#   validation/  benign/ malignant/     you look at these while you decide (how many epochs, which recipe)
#   test/        benign/ malignant/     looked at once, at the very end
# ```
#
# (An **epoch** is one pass over all training pictures.) Why three? Whatever you look at while deciding, you fit to, even if
# only a little. Only pictures that no decision has seen can tell how the model will do on the next one. If you have no
# validation folder, leave it empty: the series cuts a part off train for it (never off test) and says so.

# %% [markdown]
# ## Step 3: put pictures in it
#
# The article takes its pictures from Kaggle (3 297 photographs of moles, benign or malignant). You can use any folder
# of pictures; nothing below knows about skin. If you have none, these fetch some (they need a network, so they are
# shown here and not run; each gives you the folder or table to put into `VGGNB_DATASET` below):
#
# ```python
# from vggnb import datasets
# datasets.kaggle()                               # the article's set; asks for your Kaggle account
# datasets.isic(ws.home / "isic", each=200)       # the ISIC Archive: CC-0 pictures, with who is to be credited
# datasets.solar_cells(ws.home / "solar")         # solar cells, defective or not: pip install elpv-dataset (91 MB)
# datasets.url("https://...", ws.home / "my_pictures", sha256="...")
# ```
#
# Two hints that save an evening:
#
# - Upload **one .zip file** rather than thousands of pictures: Drive is slow with many small files. Put it beside the folder
#   `dataset`, not into it, and name it in `VGGNB_DATASET`.
# - Keep the originals somewhere else. The series never changes or deletes your pictures, but an upload can go wrong.
#
# When they are there, run the setup cell again and look at its line *dataset*.
#
# ## Step 4: a notebook
#
# In the article you make an empty notebook. You already have this one: in Colab choose **File > Save a copy in
# Drive**, and from page 4 on **Runtime > Change runtime type > T4 GPU**.

# %% [markdown]
# ## Step 5: mount Google Drive
#
# In Colab the setup cell has asked for permission already; this cell asks again only if the connection was lost.
# Elsewhere it has nothing to do.

# %%
from vggnb.paths import mount_drive

drive = mount_drive()

# %% [markdown]
# If it fails, the message names the reason and the way out. The three that people meet most:
#
# | it says | do |
# |---|---|
# | the permission was not given | run the cell again, tick every box, allow pop-ups and third-party cookies |
# | the mount folder holds files | Runtime > Disconnect and delete runtime, then start again; nothing on Drive is lost |
# | Drive did not answer in time | run it again; if it persists, move the many files at the top of My Drive into folders |

# %% [markdown]
# ## Step 6: imports
#
# > **In the article** eleven names are imported at once. Eight of them (`cv2`, `Image`, `K`, `load_model`,
# > `img_to_array`, `Adam`/`RMSprop`, `ReduceLROnPlateau` ...) are never used again, and one of those, `cv2`, stops the
# > page at once where OpenCV is not installed. **Here** each page imports what it uses, beside the line that uses it.
# > Surveying your pictures (pages 1 and 2) needs no TensorFlow, so it starts in a fraction of a second rather than in
# > about five.

# %%
import sys

print("TensorFlow loaded so far:", "tensorflow" in sys.modules)

# %% [markdown]
# ## Step 7: which folder is what
#
# The article writes ten paths by hand: the dataset, three splits, two classes in each. A typing mistake in one of them shows up much
# later, as a strange number. Here the folder itself is read, and what was understood is said:

# %%
from vggnb.census import read_layout

layout = read_layout(ws.dataset)
print(layout)

# %% [markdown]
# Folders named `val`, `valid`, `Training` or `TEST` are understood too, and so are class folders that are not split at
# all. And when a name is wrong, you hear it now, with what to do. The next cell **fails on purpose**: its red box is right.
# If *Run all* stops at it in Colab, click the cell after it and choose **Runtime > Run cell and below**.

# %% tags=["raises-exception"]
read_layout(ws.home / "datasett")

# %% [markdown]
# ## Use your own pictures
#
# In Colab, class folders in `MyDrive/vggnb/dataset` are found without more. For pictures in another place, for a .zip, and
# everywhere but in Colab, put these lines in a new cell **above** the setup cell and run the page from the top (in Colab:
# Runtime > Restart session and run all). Each page is a session of its own, so do it on each. The name is a folder or a .zip
# (with a .zip, go on with page 2, which unpacks it; step 7 above reads folders only).
#
# ```python
# import os
# os.environ["VGGNB_DATASET"] = "/content/drive/MyDrive/my_pictures"
# os.environ["VGGNB_PROFILE"] = "full"
# ```
#
# What page 5 trains, a **run**, belongs to one set of pictures, one size and one split. If you change any of them afterwards
# (for example, take a leak away as page 2 advises), page 5 stops with *This folder holds another run*. Then rename or remove
# the folder that it names; it lies in `ws.runs` (in Colab `vggnb/runs/dataset` on your Drive).

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many *files* lie in the class folders of the test split? `layout.entries` holds one entry a file, with
# `.path`, `.split` and `.class_name`. Is that number the number of *pictures*? (Page 2 answers this.)
#
# <details><summary>Show a solution</summary>
#
# ```python
# sum(entry.split == "test" for entry in layout.entries)
# ```
#
# 80 files on the sample. Whether each of them is a picture that can be used, nobody knows before it has been opened.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You made the project folder and its dataset folder, mounted Drive (or learnt that you need not), saw what was
# understood of the folder, and know how to point the series at your own pictures and why there are three splits.
#
# Next: [2. Census: look at every picture before you train](02_census.ipynb)
