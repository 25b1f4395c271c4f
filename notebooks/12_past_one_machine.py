# %% [markdown]
# # 12. Past one machine: the same features from a cluster
#
# After this page you can
#
# - say when a second machine pays (rarely),
# - fill the feature store from a cluster with the call that fills it on a laptop,
# - say what is computed again when a machine dies in the middle.
#
# **Beyond the article.** **Reads** 120 images of your dataset. **Writes** nothing that stays.
# **Takes** about 90 seconds on two CPU cores. The cluster of this page is two nodes on this very machine; it needs Ray. In
# Colab, put `%pip install -q "ray[data]"` in a new cell **above** the setup cell. Without Ray the same calls run on this
# machine alone.

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

# %%
import tempfile
from dataclasses import replace
from pathlib import Path
from vggnb.census import open_manifest
from vggnb.recipe import Recipe

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)
few = replace(manifest, rows=manifest.of("train")[:120])
scratch = tempfile.TemporaryDirectory()
stores = Path(scratch.name)

# %% [markdown]
# ## Only one thing grows
#
# On page 5 each image went once through VGG-16, and the head then trained on the features in seconds. With a hundred times
# the images, that single pass is what takes a hundred times as long. It is also the easiest kind of work to share: the
# features of an image depend on that image alone.
#
# Here is the pass on this machine, for 120 images:

# %%
from vggnb.features import fill_store

how = dict(weights=ws.weights, precision=ws.precision, progress=False)
alone = fill_store(few, recipe, store=stores / "alone", **how)
print(alone)

# %% [markdown]
# ## When a second machine pays
#
# Measure before you rent. How long would this machine, with images of this size, take for the 10,015 images of HAM10000, a
# well-known collection of skin lesions, and for a million?

# %%
from vggnb.folders import duration

print(f"{alone.images_per_s:.0f} images a second of {recipe.image_size} pixels")
for images in (10_015, 1_000_000):
    print(f"{images:>9,} images: {duration(images / alone.images_per_s)}")

# %% [markdown]
# Thousands of images never need a cluster, and a million rarely do: one GPU does in hours what two CPU cores do in days. (Images of
# 224 pixels take about five times as long as those of 96.) Two machines halve the time at best. The features stay small, 12 KB an
# image, so one machine can train on them.
#
# ## The same call on a cluster
#
# A cluster to try it: two **nodes**, both on this machine. To Ray, which does the scheduling, they are two machines.

# %%
from vggnb.features.rehearsal import Rehearsal

cluster = Rehearsal()

# %% [markdown]
# Each node starts a worker, and each worker loads VGG-16. Before anything is computed, all nodes must have the same
# weights (compared by hash) and the same versions, and see the store and the dataset.

# %%
on_cluster = dict(engine=cluster.engine, address=cluster.address, **how)
together = fill_store(few, recipe, store=stores / "together", **on_cluster)
print(together)

# %%
import numpy as np

print("the same features:", np.allclose(together.values, alone.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# ## When a machine dies
#
# Over one night nothing happens; with thirty machines over a week, something does. So here the first worker is **killed in
# the middle of its first batch** (`kill -9`: it cannot tidy up).

# %%
from vggnb.features.rehearsal import dies_once

survived = fill_store(few, recipe, store=stores / "survived", network=dies_once(), **on_cluster)
print(survived)
print("the same features:", np.allclose(survived.values, alone.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# The store is the same. Ray started another worker and gave it the images of the dead one. Whatever had been
# written before was written whole and counts.
#
# And when the machine dies that started all this, or you close the laptop? Then the store remembers. Say one of its files is
# missing:

# %%
next((stores / "survived").rglob("*.npy")).unlink()
again = fill_store(few, recipe, store=stores / "survived", **how)
print(again)

# %% [markdown]
# Only the images of that file were run again, this time by this machine alone: the store does not know who filled it. A
# damaged file no longer matches the hash in its name and is treated as missing.

# %%
cluster.close()

# %% [markdown]
# ## On your own machines
#
# All machines need the same versions of Python, Ray, vggnb, TensorFlow, Keras and Pillow, and must see the dataset and the store under
# the same path, for example on NFS. Whatever is not so is reported in the first seconds, with the machine's name.
#
# ```
# ray start --head --port 6379                    # on the first machine
# ray start --address FIRST:6379                  # on each of the others
# vggnb extract /shared/images --engine ray --address FIRST:6379 --store /shared/features    # on the first
# vggnb train /shared/images --out RUN --store /shared/features          # forwards nothing
# ```
#
# Where the machines have GPUs, each worker gets one. For a single machine with several GPUs leave `--address` out: Ray is
# started there for the length of the command.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many images of this size does this machine manage in a night of eight hours?
#
# <details><summary>Show a solution</summary>
#
# ```python
# print(f"{alone.images_per_s * 8 * 3600:,.0f} images a night")
# ```
#
# Below that number, let it run overnight: the features are then there for every training after it. Above it, borrow one GPU before a
# second machine; it is less to look after.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You measured before renting, filled one store with two engines, and killed a worker without losing anything.
#
# This was the last page. You can now take a folder of images from a census to a model that is evaluated honestly, saved so that
# it comes back the same, used, explained, refined, and fed by a cluster if it must be. Back to [the first page](01_paths.ipynb), with
# images of your own.
