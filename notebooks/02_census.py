# %% [markdown]
# # 2. Census: look at every image before you train
#
# After this page you can
#
# - count usable images rather than files, and say why a file was skipped,
# - find images that occur twice, under two classes, or in both train and test,
# - say what an imbalance of the classes means for accuracy,
# - say how a validation split is made when you have none.
#
# **Article steps** 8 and 9. **Reads** your dataset folder. **Writes** nothing in it; under `<home>` a cache of the
# census and a flawed copy of the sample. **Takes** 5 seconds in quick, about a minute in full for 3 000 images, on two
# CPU cores; no GPU, no TensorFlow.

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
# Drive is slow with many small files, so the images are copied **once** to this machine's disk, or unpacked there from an
# archive. An interrupted copy continues where it stopped. A folder that is already on this machine is used as it is.

# %%
from vggnb.staging import stage_if_remote

dataset = stage_if_remote(ws.dataset, ws.staged)
print("copied:", dataset != ws.dataset)

# %% [markdown]
# ## Steps 8 and 9: how many images are there?
#
# Look at the last line: every file is used, skipped for a stated reason, or a system file.

# %%
from vggnb.census import take_census

census = take_census(dataset, cache=ws.census_file)
print(census)

# %%
from vggnb import figures

figures.class_counts(census)

# %% [markdown]
# The sample's classes are balanced. If nine of ten images were benign, always predicting *benign* would be right for nine of
# ten and useless. Page 6 prints this **baseline** beside the accuracy.
#
# > **In the article** images are counted with `len(os.listdir(train_benign_dir))`, which also counts hidden files,
# > folders and broken images. **Here** every file is opened and decoded once.
#
# Compare both counts on a copy of the sample with planted faults:

# %%
import os
from vggnb.datasets import flawed_sample

flawed = flawed_sample(ws.features.parent / "flawed")
folder = flawed / "train" / "benign"
print("names in train/benign, as the article counts: ", len(os.listdir(folder)))
flawed_census = take_census(flawed, progress=False)
print("pictures in train/benign that can be used:    ", flawed_census.counts()["train"]["benign"])

# %% [markdown]
# ## What was skipped, and why
#
# Each line names the file, the reason and the remedy.

# %%
for skipped in flawed_census.skipped:
    print(skipped)
print("system files:", len(flawed_census.system_files))

# %% [markdown]
# The article's generator ignores `notes.txt`, but each of the three broken `.jpg` files would stop training in the middle
# of an epoch.

# %% [markdown]
# ## Duplicates, conflicts and leaks
#
# Two files can hold the same image byte for byte (a **duplicate**, `exact`), or saved again, resized, flipped or rotated
# (a **near-duplicate**, `near`).
#
# - A pair within one class and one split adds nothing new.
# - A **conflict** is one image under two classes: at least one label is wrong.
# - A **leak** is one image in two splits. If the model is tested on an image it was trained on, the score is too high.

# %%
for pair in flawed_census.pairs:
    print(pair)

# %%
figures.duplicate_pairs(flawed_census)

# %% [markdown]
# The distance is the number of differing bits in a fingerprint of 255 bits: 0 for identical images, up to 40 for a
# near-duplicate, roughly half of the bits for unrelated images.
#
# Nothing is deleted for you. Remove the *train* copy of a leak, decide on the label of a conflict, and run this page
# again. Until then page 6 reports the score with and without the leaked images.
#
# Is the sample itself clean?

# %%
print("leaks in the sample:", len(census.leaks), "  conflicts:", len(census.conflicts))

# %% [markdown]
# ## What the images look like
#
# A network uses whatever separates the classes, such as a ruler in every malignant image. Look for such signs:

# %%
figures.contact_sheet(census)

# %% [markdown]
# Browse the other images by split, by class or by what the census found. This is the flawed copy; for your own images,
# pass `census`. (A saved page shows one line instead of the control.)

# %%
from vggnb.widgets import dataset_browser

dataset_browser(flawed_census)

# %% [markdown]
# Back to the sample. Do size, brightness or sharpness separate the classes?

# %%
print(*census.profiles(), sep="\n")

# %%
figures.sizes_and_brightness(census)

# %% [markdown]
# On the sample they hardly do: the median brightness is 119 for benign and 116 for malignant.
#
# If these measurements separate your classes, the network will use them and may fail on images from another camera.

# %% [markdown]
# ## Train, validation, test
#
# The sample has all three splits. The article's dataset has no validation split, so part of *train* becomes validation:
# stratified by class, with a fixed seed, and with near-duplicates kept together.
#
# The result, one row for each usable image, is the **manifest**. Every later page starts from it.

# %%
from vggnb.census import assign_splits

manifest = assign_splits(census)
print(manifest)

# %% [markdown] tags=["exercise"]
# ## Exercise: find the leak
#
# `flawed_census.leaks` holds the pairs that are in two splits. Print them. In which two folders is the mirrored image?
# Which of the two files would you remove?
#
# <details><summary>Show a solution</summary>
#
# ```python
# for pair in flawed_census.leaks:
#     print(pair)
# ```
#
# It is in `test/benign` and `train/benign`. Remove the copy in **train**, so that the test score stays comparable.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You counted usable images, read why files were skipped, found duplicates, conflicts and leaks, know the baseline, and
# have a manifest with three splits.
#
# Next: [3. Generators: from files to batches](03_generators.ipynb)
