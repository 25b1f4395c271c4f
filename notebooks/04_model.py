# %% [markdown]
# # 4. Model: VGG-16 without its top, and a new one
#
# After this page you can
#
# - load VGG-16 with what it learnt from 1.2 million photographs, and say where those weights came from,
# - freeze it, and check that it is frozen,
# - add the article's four layers, merge, compile, and read the summary,
# - say what changes for more than two classes, and what two sigmoids trained as one softmax really mean.
#
# **Article steps** 13 to 18. **Reads** a few pictures. **Writes** nothing.
# **Takes** 10 seconds, quick and full alike, on two CPU cores.

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
from vggnb.census import open_manifest
from vggnb.recipe import Recipe

recipe = Recipe.article().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)

# %% [markdown]
# ## Step 13: VGG-16 without its top
#
# VGG-16 (Simonyan and Zisserman, Oxford 2014) names 1 000 kinds of things on photographs. **Weights** are the numbers in a network
# that training sets. The first 13 layers that have any, the **base**, are *convolutions*: each passes windows of 3 x 3 places over
# the whole picture, everywhere with the same weights, and notes how strongly each window shows what it looks for. They turn
# pixels into descriptions: edges first, then textures, then parts of things. The last three layers, the **top**, turn
# descriptions into the 1 000 names. You have other names, so the top is left off (`include_top=False`) and the
# descriptions are kept: that is *transfer learning*, and it is why a few hundred pictures can be enough.

# %%
from vggnb.model import build_base

base, source = build_base(recipe, ws.weights)
print(source)

# %% [markdown]
# The line says where the weights came from. It matters: a base with random weights runs just as well and learns almost
# nothing. The series never falls back to random weights by itself. Without a network it looks for Keras's copy on this
# machine and for a package that carries them, checks every number against a list of checksums, and otherwise stops with
# the three ways out.

# %%
print(f"weights in the base: {base.count_params():,}   output for one picture: {base.output_shape[1:]}")

# %% [markdown]
# With its top, VGG-16 has 138,357,544 weights; nine of ten sit in the part that was left off.
#
# ## Step 14: print the layers and freeze them
#
# *Frozen* means: training will not change these weights. Otherwise the first steps, with a new top that knows nothing yet,
# would spoil what 1.2 million photographs taught.

# %%
for layer in base.layers:
    layer.trainable = False
    print(f"{layer.name:<14} {str(tuple(layer.output.shape)):<22} trainable: {layer.trainable}")

# %% [markdown]
# Five **blocks**, each ending in a `pool` layer that halves width and height. Remember the names: a layer is called by its
# name, never by a number.
#
# ## Step 15: four new layers
#
# | layer | what it does |
# |---|---|
# | `GlobalMaxPooling2D` | for each of the 512 descriptions: how strongly does it occur *anywhere* in the picture? |
# | `Dense(512, relu)` | combines them |
# | `Dropout(0.5)` | while training, silences half of them at random, so that none is relied on alone |
# | `Dense(2, sigmoid)` | one output for each class |
#
# *relu* makes negative numbers 0. *Sigmoid* makes any number a value between 0 and 1. *Softmax*, below, makes several numbers
# probabilities that add up to 1. The first layer belongs to the frozen part (it has nothing to learn); the other three
# are the **head**.

# %%
from vggnb.model import build_head, trainable_count

head = build_head(recipe, len(manifest.classes))
for layer in head.layers[1:]:
    print(f"{layer.name:<10} {type(layer).__name__:<10} {layer.count_params():>8,} weights")
print(f"to be learnt: {trainable_count(head):,}")

# %% [markdown]
# ### More than two classes
#
# The article changes the last layer to `Dense(3, activation='softmax')` and the loss to `categorical_crossentropy`. Here the
# recipe knows both cases, and the number of classes comes from the manifest; you change nothing.

# %%
for classes in (2, 3):
    print(classes, "classes:", recipe.activation(classes), "output,", recipe.loss(classes))

# %% [markdown]
# ## Step 16: merge base and head
#
# `build_classifier` puts three things in a row: the scaling, the base, the head. What comes out takes **raw pixels, 0 to
# 255** and gives **probabilities**. This whole model is what pages 6 to 8 judge, save and use, so the scaling cannot be
# forgotten on the way.

# %%
from vggnb.model import build_classifier

model = build_classifier(base, head, recipe)
print("in: ", model.input_shape, " raw pixels\nout:", model.output_shape, "           probabilities")

# %% [markdown]
# ## Step 17: compile
#
# *Compiling* chooses three things: the **loss** (what training makes small), the **optimiser** (how it steps), and
# the metrics (what is printed). We compile the head, because only the head will be trained.

# %%
from vggnb.model import compile_head

compile_head(head, recipe)
print("loss:", head.loss, "  optimiser:", head.optimizer.name, "  steps of", recipe.learning_rate)

# %% [markdown]
# > **In the article** two classes get **two sigmoids** and the loss `sparse_categorical_crossentropy`. Sigmoids are
# > made for questions that may both be true; this loss is made for one answer of several. What happens? Keras hands the
# > loss the numbers *before* the sigmoid, and so the two sigmoids are **trained as a softmax**. The most probable class
# > is right. But the two outputs do not add up to 1, and dividing by their sum is not the probability either. The right one
# > uses odds: with $o = s / (1 - s)$ it is $p_1 = o_1 / (o_0 + o_1)$. **Here** the merged model ends in the softmax
# > that was trained, with the same weights.

# %% [markdown]
# Look at the three lines for one picture: what the sigmoids say, what one might believe they mean, and what was
# trained. The head is still untrained, so the values themselves mean nothing yet.

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
# And the loss? Compute both candidates by hand and compare with what Keras reports:

# %%
label = np.array([0])
compile_head(two, recipe)
print("Keras's loss                        ", round(two.evaluate(features, label, verbose=0)[0], 4))
print("-log of (odds divided by their sum) ", -np.log((odds / odds.sum())[label[0]]).round(4))
print("-log of (sigmoids divided by sum)   ", -np.log((sigmoids / sigmoids.sum())[label[0]]).round(4))

# %% [markdown]
# ## Step 18: the summary
#
# Read it from the bottom: 14.7 million weights are kept as they are, and the head's are learnt.

# %%
model.summary(line_length=88)

# %% [markdown]
# ## Our recipe
#
# `Recipe.best()` keeps the same frozen base and asks more of it. It scales pixels the way VGG-16 was trained, pools *all
# five* blocks (textures live in the middle ones, and lesions are textures), each description by its average and by its maximum:
# 2 x (64 + 128 + 256 + 512 + 512) = 2 x 1,472 = 2,944 numbers. It brings every number to the same scale, and puts **one** linear
# layer on top, held back by a penalty on large weights. Fewer weights to learn, more to learn from.

# %%
best = Recipe.best().with_(image_size=ws.image_size)
for name, each in {"article": recipe, "best": best}.items():
    new = build_head(each, len(manifest.classes))
    print(f"{name:<8} sees {new.input_shape[-1]:>5} numbers a picture, learns {trainable_count(new):>7,} weights")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many weights would the article's head have for seven classes? Guess from the lines printed in step 15 first.
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
# You loaded the base and know where its weights came from, froze it and saw it frozen, added the four layers, merged,
# compiled and read the summary, know what changes for more classes, and what the article's two sigmoids mean.
#
# Next: [5. Train: the frozen part once, then any number of epochs](05_train.ipynb)
