# %% [markdown]
# # 3. Generators: from files to batches
#
# After this page you can
#
# - choose image size and batch size, and say what each costs,
# - build the article's generator and its modern equivalent, and show that both give the same pixels,
# - read the class names and their labels,
# - explain four traps: the dropped last batch, "only 224", the coarse resize, and division by 255.
#
# **Article steps** 10 to 12. **Reads** your dataset folder. **Writes** nothing.
# **Takes** 10 seconds in quick, most of it loading TensorFlow, and about a minute in full with 2 600
# images, on two CPU cores; no GPU needed.

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
from vggnb.census import assign_splits, open_manifest, take_census

manifest = open_manifest(ws)
print(manifest)

# %% [markdown]
# ## Step 10: size and batch
#
# A **recipe** holds every modelling choice. `Recipe.article()` follows the article; page 4 shows our own. The image size
# here is that of the profile.

# %%
from vggnb.recipe import Recipe

recipe = Recipe.article().with_(image_size=ws.image_size)
IMG_SHAPE, batch_size = recipe.image_size, recipe.batch_size
print("IMG_SHAPE =", IMG_SHAPE, "  batch_size =", batch_size)

# %% [markdown]
# > **In the article**: "VGG-16 only accepts that image size", 224. This holds for the complete network. **Here** its last
# > layers are removed (step 13), and the rest accepts any size from 32 up.
#
# VGG-16 was trained on 224 pixels, which cost (224 / 96)² = 5.4 times as much as 96. A larger batch needs more memory;
# 32 is common.

# %% [markdown]
# ## Step 11: the article's generators
#
# A *generator* reads images one batch at a time, so they need not all fit in memory. The article uses
# `ImageDataGenerator`, which Keras calls deprecated. It needs the article's folder layout, so this cell reads the sample.

# %%
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from vggnb import datasets

sample = datasets.sample()
train_data_gen = ImageDataGenerator(rescale=1.0 / 255).flow_from_directory(
    sample / "train", target_size=(IMG_SHAPE, IMG_SHAPE), batch_size=batch_size, class_mode="binary", shuffle=False
)
images, labels = train_data_gen[0]
print("batch", images.shape, "from", images.min().round(2), "to", images.max().round(2), " first labels", labels[:4])

# %% [markdown]
# ## Step 11 with `tf.data`
#
# `make_dataset` returns a `tf.data` pipeline that decodes images in parallel and ahead of time. It gives **raw pixels, 0
# to 255**: the model scales them itself, so scaling cannot be forgotten later.

# %%
from vggnb.generators import make_dataset

train_ds = make_dataset(manifest, "train", recipe)
raw_images, raw_labels = next(iter(train_ds))
print("batch", tuple(raw_images.shape), "from", float(raw_images.numpy().min()), "to", float(raw_images.numpy().max()))

# %% [markdown]
# Are both equal? Compare every pixel of every batch:

# %%
import numpy as np

sample_ds = make_dataset(assign_splits(take_census(sample, progress=False)), "train", recipe)
pairs = [(a, b.numpy() * np.float32(1 / 255)) for (a, _), (b, _) in zip(train_data_gen, sample_ds)]
print("batches compared:", len(pairs), "  largest difference:", max(np.abs(a - b).max() for a, b in pairs))

# %% [markdown]
# No pixel differs. For training, `training=True` puts the images in a new order in each epoch, so that batches mix the
# classes:

# %%
from vggnb import figures

figures.batch_grid(*next(iter(make_dataset(manifest, "train", recipe, training=True))), manifest.classes)

# %% [markdown]
# Browse the batches and epochs. Then change *transform*: a mole has no "up", so its flips and rotations are equally
# valid. Training on such copies is called **augmentation**.
#
# (A saved page shows one line instead of the control; the next figure shows one image in all eight orientations.)

# %%
from vggnb.widgets import batch_preview

batch_preview(manifest, recipe)

# %%
from vggnb.generators import flip_rotate

eight = np.concatenate([flip_rotate(raw_images[:1].numpy(), k) for k in range(8)])
figures.batch_grid(eight, [raw_labels[0]] * 8, manifest.classes)

# %% [markdown]
# Neither the article nor our recipe augments: every copy would go through the frozen network, and page 5 reports no clear
# gain. Page 9 augments, because it trains convolutions.

# %% [markdown]
# > **In the article** the number of batches is `steps_per_epoch=(total_train//batch_size)`. This rounds down, so an
# > incomplete batch is **dropped**, and in current Keras the next epoch ends early with the warning *Your input ran out of
# > data*. **Here** the last batch is smaller.

# %%
total_train = len(manifest.of("train"))
dropped = total_train - total_train // batch_size * batch_size
print(f"{total_train} pictures: the article trains on {total_train - dropped}, {dropped} wait outside in every epoch")
print("here:", sum(len(batch_labels) for _, batch_labels in train_ds), "in", len(train_ds), "batches")

# %% [markdown]
# ## Step 12: class names
#
# The sorted folder names become integers, the **labels**. The manifest stores the list of names.

# %%
print("the article's generator:", train_data_gen.class_indices)
print("the manifest:           ", dict(zip(manifest.classes, range(len(manifest.classes)))))

# %% [markdown]
# > **In the article**, more than two classes change only the output layer and the loss. The generator's
# > `class_mode="binary"` stays, and Keras stops with *Arguments target and output must have the same rank*. **Here**
# > everything follows from the manifest's number of classes (page 4).

# %% [markdown]
# ## Two choices hidden in the generator
#
# **Resizing.** The article's generator uses *nearest neighbour*: it keeps one pixel and discards its neighbours, so fine
# hairs become dots. *Bilinear* in Pillow averages them. Compare the edges:

# %%
from vggnb.images import read_image

picture = read_image(manifest.dataset / manifest.of("train")[0].path)
figures.resize_comparison(picture, size=IMG_SHAPE)

# %% [markdown]
# **Scaling.** VGG-16 was trained on pixels in the order blue, green, red, minus the mean colour of its training images:
# from about -124 to 151. The article divides by 255 instead: from 0 to 1.

# %%
from vggnb.model import preprocessing_layer

scalings = ("rescale", "caffe")
layers = {name: preprocessing_layer(recipe.with_(preprocessing=name)) for name in scalings}
figures.preprocessing_histograms({name: layer(raw_images) for name, layer in layers.items()})

# %% [markdown]
# The right scaling alone is not better. On real moles (HAM10000; 1 510 training images, 528 test images; 50 epochs) it made
# the article's network **worse**; with another head (page 4) it helped. AUC is explained on page 6: 0.5 is guessing, 1 is
# perfect.
#
# | | AUC |
# |---|---|
# | the article | 0.827 to 0.834 (three runs) |
# | only the scaling changed | 0.800 to 0.813 |
# | scaling and head changed | 0.887 |
#
# With the right scaling the activations become about 25 times larger, and the article's head soon over-fits (page 5).

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# With `training=True` the order changes with each epoch but is the same whenever you start again. Print the first eight
# labels of two epochs. With which `batch_size` would the article drop nothing?
#
# <details><summary>Show a solution</summary>
#
# ```python
# shuffled = make_dataset(manifest, "train", recipe, training=True)
# for epoch in (1, 2):
#     print(epoch, next(iter(shuffled))[1].numpy()[:8])
# print([size for size in range(2, 61) if total_train % size == 0])
# ```
#
# Any size that divides the number of images, such as 44 or 55 for the sample's 220.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You chose image and batch size, showed that the article's generator and `make_dataset` give the same pixels, read the
# class names, and can explain four traps.
#
# Next: [4. Model: VGG-16 without its top, and a new one](04_model.ipynb)
