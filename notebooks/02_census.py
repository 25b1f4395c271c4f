# %% [markdown]
# # 2. Census: look at every image before you train
#
# After this page you can
#
# - count usable images instead of files, and say why a file was skipped,
# - find images that occur twice, under two classes, or in both train and test,
# - say what uneven classes mean for accuracy,
# - explain how a missing validation or test split is created.
#
# **Article steps** 8 and 9. **Reads** your dataset. **Writes** nothing in it; under `<home>` a cache and a flawed copy
# of the sample. **Takes** 5 seconds in quick, about a minute in full for 3,000 images, on two CPU cores; no GPU is
# needed.

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
# ## Copy the images to the local disk
#
# Images on Drive are copied once, and archives are unpacked once.

# %%
from vggnb.staging import stage_if_remote

dataset = stage_if_remote(ws.dataset, ws.staged)
print("copied or unpacked:", dataset != ws.dataset)

# %% [markdown]
# ## Steps 8 and 9: how many images are there?
#
# Every file is opened once. It is then counted as *used*, as *skipped* for a stated reason, or as a *system file*, such
# as `.DS_Store`.

# %%
from vggnb.census import take_census

census = take_census(dataset, cache=ws.census_file)
census

# %% [markdown]
# > **In the article** `len(os.listdir(train_benign_dir))` also counts hidden files, folders and broken images.
#
# If files were skipped, they are listed below the table, each with the reason and the remedy. (`census.skipped` holds
# all of them.)
#
# ### Duplicates, conflicts and leaks
#
# - A **duplicate** is the same file twice; a **near-duplicate** is the same image saved again, resized, flipped or
#   rotated.
# - A **conflict** is one image under two classes: at least one label is wrong.
# - A **leak** is one image in two splits. A model tested on training images gets a score that is too high.

# %%
from vggnb import figures

figures.duplicate_pairs(census)

# %% [markdown]
# Nothing is deleted automatically. For a leak, remove the copy in *train*; for a conflict, decide which label is
# correct. Until then, page 6 reports the score with and without leaks.
#
# ## A lesson: planted faults
#
# Faults were planted in a copy of the sample. Compare the article's count with the census:

# %%
import os
from vggnb.datasets import flawed_sample

flawed = flawed_sample(ws.staged / "flawed-sample")
print("names in train/benign:", len(os.listdir(flawed / "train" / "benign")))
flawed_census = take_census(flawed, progress=False)
flawed_census

# %% [markdown]
# The article would count more files than there are images. Its generator skips `notes.txt`, but each broken image would
# stop its training.
#
# Now look at the pairs. A *fingerprint* of 255 bits is computed from each image. *Bits* is the number of bits that
# differ between two fingerprints; for unrelated images it is about half of them.

# %%
figures.duplicate_pairs(flawed_census)

# %% [markdown]
# ## What the images look like
#
# A network uses whatever separates the classes, even a date stamp that only one class has. Look for such **shortcuts**:

# %%
figures.contact_sheet(census)

# %% [markdown]
# Browse by split, class or finding (a saved copy of the page shows one line instead):

# %%
from vggnb.widgets import dataset_browser

dataset_browser(census)

# %% [markdown]
# Do size or brightness separate the classes?

# %%
figures.sizes_and_brightness(census)

# %% [markdown]
# If the bars of two classes hardly overlap, brightness is a shortcut, and the model may fail with another camera.
#
# ## Train, validation, test
#
# A score on images that were used for training or for a decision tends to be too high, so *test* is kept for the end.
#
# A missing split is taken from train: the same share of every class, with near-duplicates kept together. A fixed *seed*
# makes the random choice the same in every run.

# %%
from vggnb.census import assign_splits

manifest = assign_splits(census)
manifest

# %%
figures.three_splits(manifest)

# %% [markdown]
# This list of images with their splits is the **manifest**, which all later pages use.
#
# ## The baseline
#
# If nine of ten images belong to one class, a model that always predicts this class is right for nine of ten images,
# but useless. A model has to exceed this **baseline**.

# %%
train = manifest.counts()["train"]
frequent = max(train, key=train.get)
share = train[frequent] / sum(train.values())
print(f"always predicting {frequent!r} is right for {share:.2f} of the training images")

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# 1. In `flawed_census.leaks`, one image is mirrored. Which of its two files should be removed? Give its path.
# 2. What is the baseline on the *test* images, for the class that is most frequent there?
#
# <details><summary>Show a solution</summary>
#
# ```python
# print(*flawed_census.leaks, sep="\n")
# remove = "train/benign/seen_in_a_mirror.jpg"
# test = manifest.counts()["test"]
# baseline = max(test.values()) / sum(test.values())
# ```
#
# Removing the copy in **train** keeps the test images the same.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    remove=lambda answer: any(answer in pair.paths and "mirror" in answer for pair in flawed_census.leaks)
    or ("The test images should stay the same." if "test/" in answer else "The name of the file describes the change."),
    baseline=lambda answer: abs(answer - max(manifest.counts()["test"].values()) / len(manifest.of("test"))) < 0.006
    or "Divide the images of the most frequent class by all images of the test split.",
)

# %%
remove = ...
check(1)

# %%
baseline = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You counted usable images, looked for skipped files, duplicates, conflicts, leaks and shortcuts, computed the
# baseline, and created a manifest with three splits.
#
# Next: [3. Generators: from files to batches](03_generators.ipynb)
