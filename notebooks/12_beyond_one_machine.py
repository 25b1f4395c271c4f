# %% [markdown]
# # 12. Beyond one machine: the same features from a cluster
#
# After this page you can
#
# - say when a second machine is worth it (rarely),
# - compute the features on a cluster with the same call as on one machine,
# - say what is computed again when a machine fails.
#
# **Beyond the article.** **Reads** 120 images of your dataset. **Writes** temporary files only. **Takes** about 90
# seconds in quick on two CPU cores, longer in full.
#
# On this page the cluster consists of two **nodes**, Ray's word for machines, which both run on this machine. It needs
# Ray; in Colab, run `%pip install -q "ray[data]"` in a new cell **above** the setup cell. Without Ray the same calls
# run on this machine alone.

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
# ## When a second machine is worth it
#
# Only one step becomes slow with many images: the pass of every image through VGG-16. Training the head on the features
# takes seconds. So measure that pass, here for 120 images of the size of this profile:

# %%
import pathlib, shutil, tempfile
from vggnb.census import open_manifest
from vggnb.features import fill_store
from vggnb.recipe import Recipe

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)
few = manifest.only(manifest.of("train")[:120])
stores = pathlib.Path(tempfile.mkdtemp())
how = {"weights": ws.weights, "precision": ws.precision, "progress": False}
alone = fill_store(few, recipe, store=stores / "alone", **how)
print(alone)

# %% tags=["nbval-ignore-output"]
from vggnb.folders import duration

for number in (10_000, 1_000_000):
    print(f"{number:>9,} images: {duration(number / alone.images_per_s)}")

# %% [markdown]
# Thousands of images do not need a cluster, and a million rarely do: first use one GPU. Two machines at best halve the
# time.
#
# ## The same call on a cluster
#
# Ray distributes the work. It treats these two nodes as two machines, and each loads VGG-16:

# %% tags=["nbval-ignore-output"]
from vggnb.features.rehearsal import Rehearsal

cluster = Rehearsal()
how |= {"engine": cluster.engine, "address": cluster.address}
together = fill_store(few, recipe, store=stores / "together", **how)
print(together)

# %%
import numpy as np

print("The same features:", np.allclose(together.values, alone.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# ## When a machine fails
#
# With many machines and many hours, a failure is likely. Here the first worker is killed in the middle of its first
# batch:

# %% tags=["nbval-ignore-output"]
from vggnb.features.rehearsal import dies_once

survived = fill_store(few, recipe, store=stores / "survived", network=dies_once(), **how)
cluster.close()
shutil.rmtree(stores)
print(survived)

# %%
print("The same features:", np.allclose(survived.values, alone.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# Ray gave the images of the killed worker to another one. If the machine that started the work fails, run the call
# again: it computes only the features that are missing.
#
# ## On your own machines
#
# All machines need the same versions of Python and the packages, and the dataset and the features under the same path,
# for example on NFS. Differences are reported at the start.
#
# ```
# ray start --head --port 6379                    # on the first machine
# ray start --address FIRST:6379                  # on each of the others
# vggnb extract /shared/images --engine ray --address FIRST:6379 --store /shared/features    # on the first
# vggnb train /shared/images --out RUN --store /shared/features          # uses the stored features
# ```
#
# With GPUs, each worker uses one. On a single machine with several GPUs, omit `--address`.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many images of this size does this machine process in a night of eight hours?
#
# <details><summary>Show a solution</summary>
#
# ```python
# images = alone.images_per_s * 8 * 3600
# ```
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    images=lambda answer: abs(answer / (alone.images_per_s * 8 * 3600) - 1) < 0.1
    or "Multiply the images per second by the seconds of eight hours.",
)

# %%
images = ...
check(1)

# %% [markdown]
# ## What you can do now
#
# You measured how long one machine needs, computed features on a cluster, and lost a worker without losing features.
#
# This was the last page. Go back to [the first page](01_paths.ipynb) with your own images.
