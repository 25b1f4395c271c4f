# %% [markdown]
# # 12. Past one machine: the same features from a cluster
#
# After this page you can
#
# - say by arithmetic whether one machine is enough for your pictures (it nearly always is),
# - fill the feature store from a cluster with the call that fills it on a laptop,
# - say what happens when a machine dies in the middle, and what is computed again,
# - say what a million or ten million pictures need in machines, hours and storage.
#
# **Beyond the article.** **Reads** 120 pictures of your dataset folder. **Writes** nothing that stays.
# **Takes** 60 seconds in quick, about three minutes in full, both on two CPU cores. The cluster of this page is two
# nodes on this very machine; it needs Ray. In Colab, put `%pip install -q "ray"` in a new cell **above** the setup cell. Without Ray
# there is no cluster: the same calls run on this machine alone, *workers lost* is 0, and the text describes the outputs that are
# printed here.

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
# On page 5 a picture went through VGG-16 once, and its features were kept. The head then trained on the features, in
# seconds. Give it a hundred times the pictures and it still is a matter of minutes. (It holds all features in memory, though, about
# four times over at the peak: 46 kB a picture, 46 GB for a million. That is the limit of `vggnb train` on one machine.) What takes
# a hundred times as long is the one pass through VGG-16. But that pass is the easiest kind of work there is: what comes out for a
# picture depends on that picture alone. Any machine may do any part, in any order, and doing a part twice does no harm.
#
# So the list of pictures (the **manifest** of page 2) is cut into **units**. A unit is decoded, run through the network, and
# written to the feature store as one whole file, whose name is the hash (page 7: checksum) of what is in it. Here are eight units of 15 pictures,
# on this machine alone:

# %%
from vggnb.cluster import fill_store

few.write(stores / "manifest.csv")
alone = fill_store(
    stores / "manifest.csv", recipe, weights=ws.weights, store=stores / "alone", unit_rows=15, progress=False
)
print(alone)

# %% [markdown]
# ## When one machine is enough
#
# How fast is this machine with pictures of 224 pixels? The next cell measures it. The other number is an
# **assumption**: this page was made on a machine without a graphics card. For the T4, the card that Colab lends, the
# maker names 8.1 million million operations a second; we assume that VGG-16 gets half of them.

# %%
from vggnb.cluster.network import forward_speed
from vggnb.cluster.plan import GFLOP, Plan, Speed, on_paper

here = Speed("this machine", forward_speed(recipe.with_(image_size=224), ws.weights), measured=True)
card = on_paper("one T4", tflops=8.1)
print(f"{GFLOP} thousand million operations for an image", here, card, sep="\n")

# %% [markdown]
# The rest is division (for a cluster, 90 % of what its machines do alone is counted). HAM10000, the collection that most papers on skin lesions train on, has 10,015 pictures.

# %%
from vggnb.shards import whole_shards

record = next(whole_shards(alone.folder)).dtype.itemsize  # bytes of an image in the store
eight = card.times(8, "eight T4 in a cluster")
for archive, images in {"HAM10000": 10_015, "a million": 10**6}.items():
    for speed in (here, card, eight):
        print(Plan(archive, images, speed, record))

# %% [markdown]
# Read it from the top. HAM10000 takes a coffee break on two cores and a minute or two on one card: **no cluster**. A
# million takes a day or two on this machine, but only hours on one card: still no cluster, unless you are in a hurry. Lines
# that say *assumed* are no promise; measure one card, put its number in, and divide again.
#
# The features are small, whatever the pictures were:

# %%
from vggnb.cluster.plan import size

print(f"one image {size(record)}, HAM10000 {size(10_015 * record)}, a million images {size(10**6 * record)}")

# %% [markdown]
# ## The same call on a cluster
#
# A cluster for trying: two **nodes** with a core each, both on this machine. For Ray, which does the talking between machines, they
# are two machines.

# %%
from vggnb.cluster.rehearsal import Rehearsal

cluster = Rehearsal()

# %% [markdown]
# Each node starts a worker, and each worker loads VGG-16. Their weights are compared by hash before anything is computed,
# as are the versions of Python, Ray and vggnb, and whether everybody sees the store and the pictures.

# %%
ray = dict(weights=ws.weights, engine=cluster.engine, address=cluster.address, unit_rows=15, progress=False)
together = fill_store(stores / "manifest.csv", recipe, store=stores / "together", **ray)
print(f"{together.images_forwarded} images run through the network; workers lost: {together.lost}")

# %% [markdown]
# Is it the same store? Ask as training asks: `extract` of page 5 finds every picture there and runs none.

# %%
import numpy as np
from vggnb.features import extract
from vggnb.model import build_base

base, source = build_base(recipe, ws.weights)
expected = extract(few, recipe, base, source, store=stores / "alone", progress=False)
found = extract(few, recipe, base, source, store=stores / "together", progress=False)
print(found)
print("the same numbers:", np.allclose(found.values, expected.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# ## When a machine dies
#
# With one machine over one night, nothing happens. With thirty over a week, something does: memory runs out, a cable is
# pulled, a rented machine is taken away. So here the first worker to get a unit is **killed in the middle of it** (`kill -9`: it
# cannot tidy up, and nobody is told).

# %%
from vggnb.cluster.rehearsal import dies_once

survived = fill_store(stores / "manifest.csv", recipe, store=stores / "survived", network=dies_once(), **ray)
print(f"{survived.images_forwarded} images run through the network; workers lost: {survived.lost}")

# %%
found = extract(few, recipe, base, source, store=stores / "survived", progress=False)
print(found)
print("the same numbers:", np.allclose(found.values, expected.values, rtol=1e-5, atol=1e-4))

# %% [markdown]
# One worker was lost, and the store is the same, each picture once. The dead worker's units went back to the queue and another
# worker took them. What it had written before, it had written whole, so that counts. Only the unit that it had at hand was
# begun twice.
#
# And when the machine dies that holds the queue, or you close the laptop? Then nothing remembers what was
# done, except the store, and that is enough. Say a file of it is missing:

# %%
next(survived.folder.glob("*.npy")).unlink()
again = fill_store(
    stores / "manifest.csv", recipe, weights=ws.weights, store=stores / "survived", unit_rows=15, progress=False
)
print(again)

# %% [markdown]
# Only its 15 pictures were run. This was the local engine, by the way, which finished what a cluster had begun: the store does not know
# who filled it. A file that was damaged on the disk no longer fits its name, and its pictures are run again, too.

# %%
cluster.close()

# %% [markdown]
# ## On your own machines
#
# All machines need the same Python, Ray, vggnb, TensorFlow, Keras and Pillow (the last three make pixels and features), and must
# see the pictures and the store under the same path: a disk, a network drive (NFS for one), or a bucket that is mounted as a
# folder. Whatever of that is not so is told in the first seconds, with the machine's name. An address such as `s3://bucket` is
# refused: taken as a path it would be a folder of that name on each machine's own disk. Mount the bucket.
#
# ```
# ray start --head --port 6379                    # on the first machine
# ray start --address FIRST:6379                  # on each of the others
# vggnb extract /shared/pictures --engine ray --address FIRST:6379 --store /shared/features    # on the first
# vggnb train /shared/pictures --out RUN --store /shared/features          # forwards nothing
# ```
#
# Where the machines have GPUs, each worker gets one. That serves a single machine with several, too: leave `--address`
# out, and Ray is started there for the length of the command, with a worker for each GPU. The census that makes the manifest
# still runs on one machine: each picture is read once and remembered, and the search for twins needs all fingerprints in one
# place. That takes 2.1 kB of memory a picture (213 MB at the peak, measured for 100,000 files), so ten million need about 20 GB,
# once. Only the extraction streams.
#
# ## Ten million pictures, on paper
#
# First the hours. Ray takes a little for itself (`benchmarks/cluster.py` measures how much); a plan counts it in.
# Everything that is not this machine alone is assumed, for example that 16 machines do 90 % of 16 times as much as one.

# %%
from vggnb.cluster.plan import DRIVER_ROWS_PER_S, RAY_SHARE, decoding_speed

crowd = here.times(16, "16 machines like this")
print(f"of what machines do alone, {RAY_SHARE:.0%} is counted for a cluster")
for speed in (here, crowd, eight, card.times(32, "32 T4 in a cluster")):
    print(Plan("ten million", 10**7, speed, record))

# %% [markdown]
# Then what the machines need. A picture of HAM10000 has about 0.3 MB; a telephone's has ten times that, and then it is the
# storage that you wait for.

# %%
from math import ceil

plan, decoding = Plan("ten million", 10**7, eight, record, picture_bytes=0.3e6), decoding_speed(few.dataset, few.rows)
print(f"storage: {size(10**7 * plan.picture_bytes)} of pictures, {size(plan.store_bytes)} of features")
print(f"reading: {size(plan.read_bytes_per_s)} each second, {size(10 * plan.read_bytes_per_s)} if from telephones")
print(f"decoding: {ceil(card.images_per_s / decoding)} CPU core for each T4, with small pictures such as these")
print(f"the queue: {DRIVER_ROWS_PER_S:,} images each second, enough for {DRIVER_ROWS_PER_S / card.images_per_s:.0f} T4")

# %% [markdown]
# Eight cards, an afternoon, and a disk that you can buy in a shop. The network between storage and machines is what to ask
# about first: an ordinary office network carries about 120 MB a second; over it these 3 TB alone take seven hours, and the cards wait.
#
# The one process that hands out the units is no bottleneck: it could feed a hall full of cards. Measured in a simulation, with a
# stand-in for the network (`benchmarks/cluster.py --scale`): it took 132, 137 and 171 MB of memory for 10^4, 10^5 and 10^6 rows;
# the time was linear (it grew with the rows to the power of 0.93 from 10^5 to 10^6), and the files of the store were even to 0.4 %.
#
# A machine that dies costs at most the two units of 256 pictures that it holds: seconds of work on a card, about a minute on two
# cores. But the features do **not** replace the pictures: fine-tuning (page 9) keeps 34 times as many numbers for each picture,
# and for ten million of them it is cheaper to pass through the network again.

# %%
before = 14 * 14 * 512 * 4  # bytes of float32 before block5_conv1 at 224 pixels
print(f"before block5_conv1: {size(before)} an image, {size(10**7 * before)} for ten million")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many pictures of 224 pixels does the machine in front of you manage in a night of eight hours? How many would you have to have
# before a second machine is worth the trouble?
#
# <details><summary>Show a solution</summary>
#
# ```python
# night = here.images_per_s * 8 * 3600
# print(f"{night:,.0f} pictures a night")
# ```
#
# With two CPU cores, at 8 pictures a second, about 230,000. Below that, let it run overnight; the features are then there for
# every training after it. Above it, borrow one card before you borrow a second machine: it is less to look after.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You divided before you asked for machines, filled one store with two engines, killed a worker and lost nothing, and know
# what an archive of any size needs.
#
# This was the last page. You can now take a folder of pictures from a census to a model that is judged honestly,
# saved so that it comes back the same, used, explained, refined, and, should it ever be needed, fed by a cluster. Back to
# [the first page](01_paths.ipynb), with pictures of your own.
