# %% [markdown]
# # 12. Past one machine: the same features from a cluster
#
# After this page you can
#
# - say when a second machine is worth it (rarely),
# - fill the feature store from a cluster with the same call as on one machine,
# - say what is computed again when a machine fails.
#
# **Beyond the article.** **Reads** 120 images of your dataset. **Writes** nothing that stays. **Takes** about 90
# seconds in quick on two CPU cores, longer in full.
#
# The cluster of this page is two nodes on this machine. It needs Ray: in Colab, put `%pip install -q "ray[data]"` in a
# new cell **above** the setup cell. Without Ray the same calls run on this machine alone.

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
# ## Only one step grows
#
# On page 5 each image went through VGG-16 once, and the head was then trained on the features in seconds. With a
# hundred times the images, only that one pass takes much longer. It is easy to distribute, because the features of an
# image depend on that image alone.
#
# Here is the pass on this machine, for 120 images:

# %%
from vggnb.features import fill_store

how = dict(weights=ws.weights, precision=ws.precision, progress=False)
alone = fill_store(few, recipe, store=stores / "alone", **how)
print(alone)

# %% [markdown]
# ## When a second machine is worth it
#
# Measure first. How long would this machine need for the 10,015 images of HAM10000, a well-known collection of skin
# lesions, and for a million, at this image size?

# %%
from vggnb.folders import duration

print(f"{alone.images_per_s:.0f} images a second of {recipe.image_size} pixels")
for images in (10_015, 1_000_000):
    print(f"{images:>9,} images: {duration(images / alone.images_per_s)}")

# %% [markdown]
# Thousands of images do not need a cluster, and a million rarely do: use one GPU first. (An image of 224 pixels takes
# about five times as long as one of 96.)
#
# Two machines at best halve the time. The features take 12 KB an image, so one machine can train on them.
#
# ## The same call on a cluster
#
# This starts a cluster of two **nodes**, both on this machine. Ray, which schedules the work, treats them as two
# machines.

# %% tags=["nbval-ignore-output"]
from vggnb.features.rehearsal import Rehearsal

cluster = Rehearsal()

# %% [markdown]
# Each node starts a worker, and each worker loads VGG-16. First it is checked that all nodes have the same weights
# (compared by hash) and the same versions, and can access the store and the dataset.

# %% tags=["nbval-ignore-output"]
on_cluster = dict(engine=cluster.engine, address=cluster.address, **how)
together = fill_store(few, recipe, store=stores / "together", **on_cluster)
print(together)

# %%
import numpy as np

print("the same features:", np.allclose(together.values, alone.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# ## When a machine fails
#
# On many machines over many hours, one will fail. Here the first worker is **killed in the middle of its first batch**
# (`kill -9`, so it cannot clean up).

# %% tags=["nbval-ignore-output"]
from vggnb.features.rehearsal import dies_once

survived = fill_store(few, recipe, store=stores / "survived", network=dies_once(), **on_cluster)
print(survived)
print("the same features:", np.allclose(survived.values, alone.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# The features are the same. Ray started another worker and gave it the images of the killed one. Files that had already
# been written are complete and are used.
#
# If the machine that started the work fails, or you close your laptop, run the call again: the store keeps what is
# finished. Here one of its files is deleted:

# %%
next((stores / "survived").rglob("*.npy")).unlink()
again = fill_store(few, recipe, store=stores / "survived", **how)
print(again)

# %% [markdown]
# Only the images of that file were computed again, this time on this machine alone: any engine can continue a store. A
# damaged file no longer matches the hash in its name and is treated as missing.

# %%
cluster.close()

# %% [markdown]
# ## On your own machines
#
# All machines need the same versions of Python, vggnb, TensorFlow, Keras, Pillow and Ray, and the dataset and the store
# under the same path, for example on NFS. What is missing or different is reported at the start, with the machine's
# name.
#
# ```
# ray start --head --port 6379                    # on the first machine
# ray start --address FIRST:6379                  # on each of the others
# vggnb extract /shared/images --engine ray --address FIRST:6379 --store /shared/features    # on the first
# vggnb train /shared/images --out RUN --store /shared/features          # forwards nothing
# ```
#
# With GPUs, each worker uses one. On a single machine with several GPUs omit `--address`: Ray then runs on it for the
# length of the command.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many images of this size does this machine process in a night of eight hours?
#
# <details><summary>Show a solution</summary>
#
# ```python
# print(f"{alone.images_per_s * 8 * 3600:,.0f} images a night")
# ```
#
# With fewer images, let it run overnight once; every later training uses the stored features. With more, rent one GPU
# before you use a second machine: it is simpler.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You measured how long one machine needs, filled a store with two engines, and killed a worker without losing features.
#
# This was the last page. You can now take a folder of images to a model that is evaluated, saved, used, explained and
# fine-tuned. Go back to [the first page](01_paths.ipynb) with your own images.
