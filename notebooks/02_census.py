# %% [markdown]
# # 2. Census: look at every picture before you train
#
# After this page you can
#
# - count pictures rather than files, and say of every file that is not used why it is not,
# - find pictures that are there twice, under two classes, or both in train and in test,
# - say how many pictures each class has, and what an imbalance means for the accuracy you will read later,
# - say how a validation part is cut off train when you bring none.
#
# **Article steps** 8 and 9. **Reads** your dataset folder. **Writes** nothing in it; under `<home>` a small file
# that remembers which pictures were already looked at, and a flawed copy of the sample. **Takes** 5 seconds in quick, about a
# minute in full for 3 000 pictures, on two CPU cores; no GPU, no TensorFlow.

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
# ## Bring the pictures close
#
# Drive answers slowly when it is asked for thousands of small files: about one picture a second, and then training waits
# for Drive and not for the network. So the pictures are copied **once** to the fast disk of this machine, under their own
# names. A copy that was interrupted goes on where it stopped; an archive is unpacked there. A folder that is on this
# machine already is used as it is.

# %%
from vggnb.staging import stage_if_remote

dataset = stage_if_remote(ws.dataset, ws.staged)
print("copied:", dataset != ws.dataset)

# %% [markdown]
# ## Steps 8 and 9: how many pictures are there?
#
# Look at the last line: every file on the disk is either used, or skipped for a reason, or belongs to the operating
# system. The three numbers add up to the files that are there, always.

# %%
from vggnb.census import take_census

census = take_census(dataset, cache=ws.census_file)
print(census)

# %%
from vggnb import figures

figures.class_counts(census)

# %% [markdown]
# Both classes have equally many pictures here. Yours may not: if nine of ten pictures are benign, a model that always
# says *benign* is right in nine of ten cases and useless. Page 6 prints that number, the **baseline**, beside every
# accuracy.
#
# > **In the article** pictures are counted with `len(os.listdir(train_benign_dir))`. That counts *names*: hidden files,
# > folders, half-uploaded pictures. The counts then decide how many batches an epoch has, so a wrong count trains on
# > the wrong number of batches. **Here** every file is opened and decoded once, in parallel. The difference, measured on
# > a copy of the sample with some faults planted:

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
# One bad file must not stop an evening's work, and it must not be swallowed silently either. Each line names the file,
# the reason and what you can do.

# %%
for skipped in flawed_census.skipped:
    print(skipped)
print("system files:", len(flawed_census.system_files))

# %% [markdown]
# None of these would have stopped the article's count. Its generator passes over `notes.txt`, but each of the three broken
# `.jpg` files stops training in the middle of an epoch, after minutes or hours of work.

# %% [markdown]
# ## Twice, contradicting, leaking
#
# Two files can be the same picture byte for byte (**exact**), or the same picture saved again, resized, turned or
# mirrored (**near**). The census compares all of them, in all eight orientations. Three things follow:
#
# - **duplicates** within train are merely useless work,
# - a **conflict** is one picture under two classes: at least one label is wrong,
# - a **leak** is one picture both in train and in test. The model is then examined with questions it has seen with
#   their answers, and its score is too good. No step of the article would notice.

# %%
for pair in flawed_census.pairs:
    print(pair)

# %%
figures.duplicate_pairs(flawed_census)

# %% [markdown]
# Look at the pairs: a picture and its mirror image are the same picture. The distance says in how many of the bits of a
# fingerprint of 255 bits the two differ: 0 for the same, about half of them for two unrelated pictures. The fourth pair is the
# conflict. Nothing is deleted for you: take the copy in *train* of a leak away yourself, decide the label of a conflict,
# and run this page again. Until then page 6 gives the score with and without the leaked pictures.
#
# Is the sample itself clean?

# %%
print("leaks in the sample:", len(census.leaks), "  conflicts:", len(census.conflicts))

# %% [markdown]
# ## What the pictures look like
#
# A table cannot tell what you will see at once: a ruler in every malignant picture, one class photographed in
# another room. A network uses whatever tells the classes apart, also what you did not mean.

# %%
figures.contact_sheet(census)

# %% [markdown]
# A few examples are not all. Look through the others yourself: by split, by class, or only what the census remarked on,
# here in the flawed copy, where there is something to find. (On a page that is not running, one line stands in for the
# control. For your own pictures, put `census` in the brackets.)

# %%
from vggnb.widgets import dataset_browser

dataset_browser(flawed_census)

# %% [markdown]
# Back to the sample. Do numbers already tell the classes apart?

# %%
print(*census.profiles(), sep="\n")

# %%
figures.sizes_and_brightness(census)

# %% [markdown]
# On the sample: hardly. The medians of brightness over all pictures are 133 and 126, and both classes spread almost alike. The
# larger gap in validation, 138 and 107, comes from 20 pictures of each class, and in train it is turned round, 116 and 127.
#
# Brightness, shape and sharpness should not tell the classes apart. If they do in your pictures, the network will use them, and fail
# on pictures from another camera.

# %% [markdown]
# ## Train, validation, test
#
# The sample brings all three splits. The article's dataset brings two, and then a part of *train* becomes validation:
# by class, with a seed so that it is the same part every time, and never tearing twins apart. The result, one row for
# each picture, is called the **manifest**; every later page starts from it.

# %%
from vggnb.census import assign_splits

manifest = assign_splits(census)
print(manifest)

# %% [markdown] tags=["exercise"]
# ## Exercise: find the leak
#
# `flawed_census.leaks` holds the pairs that are in two splits. Print them, and find out in which two folders the mirrored
# picture lies. Which of the two files would you remove, and why not the other?
#
# <details><summary>Show a solution</summary>
#
# ```python
# for pair in flawed_census.leaks:
#     print(pair)
# ```
#
# Remove the copy in **train**: the test split stays as it is, so that its score can be compared with other people's.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You counted pictures rather than names, read why each skipped file was skipped, found twins, conflicts and leaks, know
# the baseline, and hold a manifest with three honest splits.
#
# Next: [3. Generators: from files to batches](03_generators.ipynb)
