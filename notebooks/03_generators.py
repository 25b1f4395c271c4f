# %% [markdown]
# # 3. Generators: from files to batches
#
# After this page you can
#
# - choose image size and batch size, and say what each costs,
# - build the article's generator and its modern equivalent, and show that both give the same pixels,
# - say how class names become numbers, for two classes and for more,
# - explain four traps: the dropped last batch, squashed images, coarse resizing and the wrong scale.
#
# **Article steps** 10 to 12. **Reads** your dataset. **Writes** nothing. **Takes** 10 seconds in quick, about a minute
# in full with 2,600 images, on two CPU cores; no GPU is needed.

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
from vggnb.census import open_manifest

manifest = open_manifest(ws)
manifest

# %% [markdown]
# ## Step 10: size and batch
#
# A **recipe** holds every choice that is made for training; `Recipe.article()` holds those of the article.

# %%
from vggnb.recipe import Recipe

recipe = Recipe.article().with_(image_size=ws.image_size)
IMG_SHAPE, batch_size = recipe.image_size, recipe.batch_size
print("IMG_SHAPE =", IMG_SHAPE, "  batch_size =", batch_size)

# %% [markdown]
# A **batch** is processed together; a larger one needs more memory. An image of 96 pixels takes about a fifth of the
# time of one of 224, because (224 / 96)² = 5.4.
#
# > **In the article** "VGG-16 only accepts that image size" (224). Without its last layers (page 4) it accepts any size
# > from 32 up.
#
# ### Every image becomes a square
#
# Like the article, this series squashes images. The alternatives have other drawbacks:

# %%
from vggnb import figures
from vggnb.images import read_image

image = read_image(manifest.dataset / manifest.of("train")[0].path)
figures.three_squares(image, size=IMG_SHAPE)

# %% [markdown]
# Squashing keeps everything up to the borders of an image, and distorts all images of one shape in the same way. If
# proportions matter, or if your images have very different shapes, crop or pad your files yourself.
#
# ## Step 11: the article's generators
#
# A *generator* reads one batch at a time, so the images need not all fit into memory. The article's generator needs a
# fixed folder layout, so this cell reads the sample:

# %%
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from vggnb import datasets

sample = datasets.sample()
options = {"target_size": (IMG_SHAPE, IMG_SHAPE), "batch_size": batch_size, "class_mode": "binary"}
image_data_gen = ImageDataGenerator(rescale=1.0 / 255)
train_data_gen = image_data_gen.flow_from_directory(sample / "train", shuffle=False, **options)
images, labels = train_data_gen[0]
print("batch", images.shape, "from", images.min(), "to", images.max(), " first labels", labels[:4])

# %% [markdown]
# ## Step 11 with `tf.data`
#
# In Keras, `ImageDataGenerator` is deprecated and `tf.data` is recommended instead. `make_dataset` uses `tf.data` for
# any dataset. Its pixels are **raw, 0 to 255**; the model scales them itself (step 16).
#
# Do both give the same pixels? Every batch of the sample is compared:

# %%
import numpy as np
from vggnb.census import assign_splits, take_census
from vggnb.generators import make_dataset

sample_ds = make_dataset(assign_splits(take_census(sample, progress=False)), "train", recipe)
both = zip(train_data_gen, sample_ds)
differences = [np.abs(old - new.numpy() * np.float32(1 / 255)).max() for (old, _), (new, _) in both]
print("batches compared:", len(differences), "  largest difference:", max(differences))

# %% [markdown]
# `training=True` gives a new order in each **epoch** (one pass over all training images), so that batches mix the
# classes:

# %%
train_ds = make_dataset(manifest, "train", recipe, training=True)
raw_images, raw_labels = next(iter(train_ds))
figures.batch_grid(raw_images, raw_labels, manifest.classes)

# %% [markdown]
# Browse batches and epochs. *Transform* shows flipped or rotated copies; training on such copies is called
# **augmentation** (page 9).

# %%
from vggnb.widgets import batch_preview

batch_preview(manifest, recipe)

# %% [markdown]
# ### Trap: the dropped last batch
#
# > **In the article** an epoch has `total_train//batch_size` batches. This rounds down, so an incomplete last batch is
# > skipped. **Here** it is used, although it is smaller.

# %%
total_train = len(manifest.of("train"))
dropped = total_train % batch_size
print(f"the article: {total_train - dropped} of {total_train} images, {dropped} skipped each epoch")
used = sum(len(batch_labels) for _, batch_labels in train_ds)
print(f"here:        {used} images in {len(train_ds)} batches")

# %% [markdown]
# ## Step 12: class names
#
# The sorted folder names become integers, the **labels**. For more than two classes the article needs **one-hot** rows:
# 1 in the column of the class, 0 elsewhere.

# %%
for label, name in enumerate(manifest.classes[:5]):
    print(f"{name:<20} label {label}   one-hot {np.eye(len(manifest.classes), dtype=int)[label]}")

# %% [markdown]
# > **In the article** the generator keeps `class_mode="binary"` for three classes or more, and Keras stops with an
# > error about shapes. It has to be `"categorical"`. **Here** this follows from the number of classes.
#
# ## Two choices hidden in the generator
#
# **Resizing.** The article's generator takes the *nearest* pixel. *Bilinear* resizing averages neighbouring pixels:

# %%
figures.resize_comparison(image, size=IMG_SHAPE)

# %% [markdown]
# **Scaling.** The article divides by 255. VGG-16 was trained on the channels blue, green and red, in this order, minus
# their means. Keras calls this `caffe`, after the program that was used at that time.

# %%
from vggnb.model import preprocessing_layer

layers = {name: preprocessing_layer(recipe.with_(preprocessing=name)) for name in ("rescale", "caffe")}
figures.preprocessing_histograms({name: layer(raw_images) for name, layer in layers.items()})

# %% [markdown]
# Our recipe (page 4) uses the right scale.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# 1. How many training images would the article skip each epoch with a batch size of 50?
# 2. Write the one-hot row of the last class in `manifest.classes` as a list.
#
# <details><summary>Show a solution</summary>
#
# ```python
# skipped = total_train % 50
# one_hot = [0] * (len(manifest.classes) - 1) + [1]
# ```
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    skipped=lambda answer: answer == total_train % 50
    or ("That is the number of batches." if answer == total_train // 50 else "What is left after the last full batch?"),
    one_hot=lambda answer: list(answer) == [0] * (len(manifest.classes) - 1) + [1]
    or "One number for each class, and only the column of the last class is 1.",
)

# %%
skipped = ...
check(1)

# %%
one_hot = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You chose image and batch size, compared the article's generator with `make_dataset`, turned class names into numbers,
# and can explain four traps.
#
# Next: [4. Model: VGG-16 without its top, and a new one](04_model.ipynb)
