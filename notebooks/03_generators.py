# %% [markdown]
# # 3. Generators: from files to batches
#
# After this page you can
#
# - choose picture size and batch size, and say what each costs,
# - build the article's generators and their modern equal, and show that both give the same pixels,
# - read the class names and their numbers,
# - explain four traps: the dropped last batch, "only 224", the coarse resize, and division by 255.
#
# **Article steps** 10 to 12. **Reads** your dataset folder. **Writes** nothing.
# **Takes** 10 seconds in quick, most of it TensorFlow starting, and about a minute in full with 2 600
# pictures, on two CPU cores; no GPU needed.

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
from vggnb.census import assign_splits, open_manifest, take_census

manifest = open_manifest(ws)
print(manifest)

# %% [markdown]
# ## Step 10: size and batch
#
# A **recipe** holds every choice of the series in one place. `Recipe.article()` is the article to the letter; page 4
# shows our own. Here the size is the profile's (96 pixels in quick, 224 in full).

# %%
from vggnb.recipe import Recipe

recipe = Recipe.article().with_(image_size=ws.image_size)
IMG_SHAPE, batch_size = recipe.image_size, recipe.batch_size
print("IMG_SHAPE =", IMG_SHAPE, "  batch_size =", batch_size)

# %% [markdown]
# > **In the article**: "VGG-16 only accepts that image size", 224. That is true of the complete network, whose last
# > layers expect 7 x 7 positions. Those layers are taken off in step 13, and what remains accepts **any size from 32
# > up**. 224 is what it was trained on, so it is a good choice; it also costs (224 / 96)² = 5.4 times the work of 96.
# > The quick pages use 96 and still learn. (A bigger batch needs more memory and makes fewer, calmer steps in an epoch; 32
# > is a usual middle.)

# %% [markdown]
# ## Step 11: the article's generators
#
# A *generator* reads pictures from a folder when they are needed, a batch at a time, so that not all of them must fit in
# memory. This is the article's, `ImageDataGenerator`. Keras calls it deprecated; it still works. It wants folders exactly
# as the article has them, so here it reads the sample, whatever your own pictures look like.

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
# ## Step 11 again, as one writes it today
#
# `make_dataset` gives a `tf.data` pipeline: pictures are decoded in parallel and ahead of time, broken files were sorted
# out before, and the labels come from the manifest. One thing is different on purpose: it gives **raw pixels, 0 to 255**.
# Scaling happens inside the model, once, so that nobody can forget it later, when the model is used.

# %%
from vggnb.generators import make_dataset

train_ds = make_dataset(manifest, "train", recipe)
raw_images, raw_labels = next(iter(train_ds))
print("batch", tuple(raw_images.shape), "from", float(raw_images.numpy().min()), "to", float(raw_images.numpy().max()))

# %% [markdown]
# Are they equal? Go through both side by side and compare every pixel of every batch:

# %%
import numpy as np

sample_ds = make_dataset(assign_splits(take_census(sample, progress=False)), "train", recipe)
pairs = [(a, b.numpy() * np.float32(1 / 255)) for (a, _), (b, _) in zip(train_data_gen, sample_ds)]
print("batches compared:", len(pairs), "  largest difference:", max(np.abs(a - b).max() for a, b in pairs))

# %% [markdown]
# For training the pictures come in another order in each epoch (`training=True`), so that a batch holds both classes:

# %%
from vggnb import figures

figures.batch_grid(*next(iter(make_dataset(manifest, "train", recipe, training=True))), manifest.classes)

# %% [markdown]
# Go through the other batches and epochs yourself. What happens to the last batch? And change *transform*: a mole has no "up",
# so mirrored or turned it is as good a picture as before. Showing a network such copies is called **augmentation**. (On a
# page that is not running, one line stands in for the control, and the figure under it shows one picture in all eight ways.)

# %%
from vggnb.widgets import batch_preview

batch_preview(manifest, recipe)

# %%
from vggnb.generators import flip_rotate

eight = np.concatenate([flip_rotate(raw_images[:1].numpy(), k) for k in range(8)])
figures.batch_grid(eight, [raw_labels[0]] * 8, manifest.classes)

# %% [markdown]
# The article does not augment, and neither do we: the frozen part of the network then has to see every copy, and page 5
# tells what a mirrored copy of each picture gained (nothing clear, for twice the work). It is worth more when the
# convolutions themselves are trained (page 4 says what these are), or when pictures are few.

# %% [markdown]
# > **In the article** the number of batches of an epoch is given as `steps_per_epoch=(total_train//batch_size)`. The
# > double slash rounds down: what does not fill a whole batch is **dropped**, and with today's Keras the next epoch
# > ends early with the warning *Your input ran out of data*. **Here** nothing is given: a dataset knows how many batches
# > it has, and its last one is just smaller.

# %%
total_train = len(manifest.of("train"))
dropped = total_train - total_train // batch_size * batch_size
print(f"{total_train} pictures: the article trains on {total_train - dropped}, {dropped} wait outside in every epoch")
print("here:", sum(len(batch_labels) for _, batch_labels in train_ds), "in", len(train_ds), "batches")

# %% [markdown]
# ## Step 12: class names
#
# The folder names, sorted, become numbers: the **labels**. The manifest stores the list, and so does everything that is
# saved later; nothing is ever derived anew from a folder.

# %%
print("the article's generator:", train_data_gen.class_indices)
print("the manifest:           ", dict(zip(manifest.classes, range(len(manifest.classes)))))

# %% [markdown]
# > **In the article**, for more than two classes, only the output layer and the loss change. The generator's
# > `class_mode="binary"` stays, and then Keras stops with *Arguments target and output must have the same rank*:
# > `categorical_crossentropy` wants `class_mode="categorical"`. **Here** the number of classes comes from the manifest and
# > everything else follows from it (page 4).

# %% [markdown]
# ## Two choices hidden in the generator
#
# **How pictures are made smaller.** The article's generator uses *nearest neighbour*: of all pixels that fall into one
# new pixel it keeps one and forgets the others. Fine hairs and edges turn into dots. *Bilinear* as Pillow does it takes
# the average. Look at the edges:

# %%
from vggnb.images import read_image

picture = read_image(manifest.dataset / manifest.of("train")[0].path)
figures.resize_comparison(picture, size=IMG_SHAPE)

# %% [markdown]
# **How pixels become numbers.** VGG-16 was trained on pixels in the order blue, green, red, from which the average colour
# of its training pictures was taken off: numbers from about -124 to 151, centred on zero. The article divides by 255 instead:
# numbers from 0 to 1. Its network sees something like a very dark, flat picture, and its first layers answer faintly.

# %%
from vggnb.model import preprocessing_layer

scalings = ("rescale", "caffe")
layers = {name: preprocessing_layer(recipe.with_(preprocessing=name)) for name in scalings}
figures.preprocessing_histograms({name: layer(raw_images) for name, layer in layers.items()})

# %% [markdown]
# So the right scaling must be better? Not by itself. On real pictures of moles (from HAM10000; 1 510 to learn from, 528 to
# test; 50 epochs) it made the article's network **worse**, and only together with another last part (page 4) better.
# The score is the AUC of page 6: 0.5 is guessing, 1 is perfect.
#
# | | AUC |
# |---|---|
# | the article | 0.827 to 0.834 (three tries) |
# | only the scaling changed | 0.800 to 0.813 |
# | scaling and last part changed | 0.887 |
#
# Why worse? The numbers inside the network become about 25 times larger, and the article's last part, made for small ones,
# soon knows its training pictures by heart. One choice at a time can mislead; page 5 measures the combinations here.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# With `training=True` the pictures come in a new order in every epoch, and yet the same orders whenever you start again.
# Print the first eight labels of two epochs. Then find out with which `batch_size` the article would drop nothing.
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
# Any batch size that divides the number of pictures drops nothing; 30 or 40 for the 120 of the sample.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You chose size and batch, built the article's generator and its equal and saw that no pixel differs, read the class
# names, and can explain the dropped batch, why 224 is a choice, what nearest neighbour throws away, and why the division
# by 255 cannot be judged alone.
#
# Next: [4. Model: VGG-16 without its top, and a new one](04_model.ipynb)
