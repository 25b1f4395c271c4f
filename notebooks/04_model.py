# %% [markdown]
# # 4. Model: VGG-16 without its top, and a new one
#
# After this page you can
#
# - load VGG-16 with the weights it learnt from 1.2 million photographs, and say where they came from,
# - freeze it, and check that it is frozen,
# - add the article's four layers, merge, compile, and read the summary,
# - say what changes for more than two classes, and what two sigmoids trained as one softmax mean.
#
# **Article steps** 13 to 18. **Reads** a few images. **Writes** nothing.
# **Takes** 10 seconds, quick and full alike, on two CPU cores.

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
from vggnb.recipe import Recipe

recipe = Recipe.article().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)

# %% [markdown]
# ## Step 13: VGG-16 without its top
#
# VGG-16 (Simonyan and Zisserman, Oxford 2014) classifies photographs into 1 000 classes. Its **weights** are the numbers
# that training sets.
#
# The first 13 layers with weights, the **base**, are *convolutions*: small filters that slide over the image. They turn
# pixels into features: edges first, then textures, then parts of objects.
#
# The last three layers, the **top**, turn features into classes. Yours are different, so the top is left off
# (`include_top=False`). Keeping the base is *transfer learning*; with it a few hundred images can be enough.

# %%
from vggnb.model import build_base

base, source = build_base(recipe, ws.weights)
print(source)

# %% [markdown]
# Random weights would learn almost nothing, so the series never uses them unless you ask for them.
#
# Without a network, vggnb looks for Keras's copy on this machine, then for a package that contains the weights, and
# compares their checksums. If it finds neither, the error message lists three remedies.

# %%
print(f"weights in the base: {base.count_params():,}   output for one picture: {base.output_shape[1:]}")

# %% [markdown]
# With its top, VGG-16 has 138,357,544 weights; nine tenths of them are in the part that was left off.
#
# ## Step 14: print the layers and freeze them
#
# Training does not change *frozen* weights. Without freezing, the first steps, with an untrained head, would damage the
# base.

# %%
for layer in base.layers:
    layer.trainable = False
    print(f"{layer.name:<14} {str(tuple(layer.output.shape)):<22} trainable: {layer.trainable}")

# %% [markdown]
# There are five **blocks**, each ending in a `pool` layer that halves width and height.
#
# ## Step 15: four new layers
#
# | layer | what it does |
# |---|---|
# | `GlobalMaxPooling2D` | for each of the 512 channels: the strongest response anywhere in the image |
# | `Dense(512, relu)` | combines them |
# | `Dropout(0.5)` | in training, sets a random half of them to zero, against over-fitting |
# | `Dense(2, sigmoid)` | one output for each class |
#
# *Relu* sets negative numbers to 0. *Sigmoid* maps any number to between 0 and 1. *Softmax* turns several numbers into
# probabilities that add up to 1.
#
# The pooling layer has no weights and belongs to the frozen part; the other three are the **head**.

# %%
from vggnb.model import build_head, trainable_count

head = build_head(recipe, len(manifest.classes))
for layer in head.layers[1:]:
    print(f"{layer.name:<10} {type(layer).__name__:<10} {layer.count_params():>8,} weights")
print(f"to be learnt: {trainable_count(head):,}")

# %% [markdown]
# ### More than two classes
#
# The article changes the last layer to `Dense(3, activation='softmax')` and the loss to `categorical_crossentropy`. The
# recipe chooses both from the number of classes.

# %%
for classes in (2, 3):
    print(classes, "classes:", recipe.activation(classes), "output,", recipe.loss(classes))

# %% [markdown]
# ## Step 16: merge base and head
#
# `build_classifier` joins the scaling, the base and the head. The model takes **raw pixels, 0 to 255**, and returns
# **probabilities**.

# %%
from vggnb.model import build_classifier

model = build_classifier(base, head, recipe)
print("in: ", model.input_shape, " raw pixels\nout:", model.output_shape, "           probabilities")

# %% [markdown]
# ## Step 17: compile
#
# *Compiling* chooses the **loss** (what training minimises) and the **optimiser** (how it updates the weights). Only the
# head is trained, so only the head is compiled.

# %%
from vggnb.model import compile_head

compile_head(head, recipe)
print("loss:", head.loss, "  optimiser:", head.optimizer.name, "  steps of", recipe.learning_rate)

# %% [markdown]
# > **In the article** two classes get **two sigmoids** with the loss `sparse_categorical_crossentropy`. Sigmoids are for
# > classes that can occur together; this loss is for exactly one class. Keras passes the numbers *before* the sigmoid to
# > the loss, so the two sigmoids are **trained as a softmax**.
#
# The predicted class is right, but the two outputs do not add up to 1. With the odds $o = s / (1 - s)$ of each output
# $s$, the trained probability is $p_1 = o_1 / (o_0 + o_1)$. **Here** the merged model ends in the softmax that was
# trained, with the same weights.

# %% [markdown]
# Compare the lines for one image. (The head is untrained, so the values mean nothing yet.)

# %%
import numpy as np
from vggnb.generators import read_row
from vggnb.model import build_extractor, pool_columns

pixels = read_row(manifest, manifest.rows[0], recipe)[None].astype("float32")
features = build_extractor(base, recipe).predict(pixels, verbose=0)[:, pool_columns(recipe)]
two = build_head(recipe, 2)  # for two classes, whatever the dataset has
sigmoids = two.predict(features, verbose=0)[0]
odds = sigmoids / (1 - sigmoids)

# %%
print("the two sigmoids           ", sigmoids.round(3), "  sum", sigmoids.sum().round(3))
print("divided by their sum       ", (sigmoids / sigmoids.sum()).round(3))
print("odds divided by their sum  ", (odds / odds.sum()).round(3))
print("the merged model           ", build_classifier(base, two, recipe).predict(pixels, verbose=0)[0].round(3))

# %% [markdown]
# Compute the loss both ways and compare with what Keras reports:

# %%
label = np.array([0])
compile_head(two, recipe)
print("Keras's loss                        ", round(two.evaluate(features, label, verbose=0)[0], 4))
print("-log of (odds divided by their sum) ", -np.log((odds / odds.sum())[label[0]]).round(4))
print("-log of (sigmoids divided by sum)   ", -np.log((sigmoids / sigmoids.sum())[label[0]]).round(4))

# %% [markdown]
# The odds give Keras's loss; dividing the sigmoids by their sum does not.
#
# ## Step 18: the summary
#
# Read it from the bottom: 14.7 million weights are frozen; only the head's are trained.

# %%
model.summary(line_length=88)

# %% [markdown]
# ## Our recipe
#
# `Recipe.best()` keeps the same frozen base. It scales pixels as VGG-16 was trained, and pools *all five* blocks, because
# the middle ones respond to texture. The average and the maximum of each channel give
# 2 x (64 + 128 + 256 + 512 + 512) = 2,944 features.
#
# The features are standardised, and the head is **one** linear layer with a penalty on large weights.

# %%
best = Recipe.best().with_(image_size=ws.image_size)
for name, each in {"article": recipe, "best": best}.items():
    new = build_head(each, len(manifest.classes))
    print(f"{name:<8} sees {new.input_shape[-1]:>5} numbers a picture, learns {trainable_count(new):>7,} weights")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many weights would the article's head have for seven classes? Estimate from the lines printed in step 15 first.
#
# <details><summary>Show a solution</summary>
#
# ```python
# print(f"{trainable_count(build_head(recipe, 7)):,}")
# ```
#
# 266,247: five more outputs, each with 512 weights and one bias, 5 x 513 = 2,565 more than 263,682.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You loaded the base, froze it, added the four layers, merged, compiled and read the summary. You know where the weights
# came from, what changes for more classes, and what two sigmoids trained as one softmax mean.
#
# Next: [5. Train: the frozen part once, then any number of epochs](05_train.ipynb)
