# %% [markdown]
# # 4. Model: VGG-16 without its top, and a new one
#
# After this page you can
#
# - load VGG-16 with the weights it learned from 1.3 million photographs, and say where they came from,
# - freeze it, and check that it is frozen,
# - add the article's four layers, merge, compile, and read the summary,
# - say what changes for more than two classes, and when you would not use VGG-16.
#
# **Article steps** 13 to 18. **Reads** your dataset's class names. **Writes** nothing.
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
classes = len(manifest.classes)
print(classes, "classes:", *manifest.classes[:10])

# %% [markdown]
# ## Step 13: VGG-16 without its top
#
# VGG-16 (Oxford, 2014) classifies photographs into 1,000 classes. The numbers that it has learned are its **weights**.
#
# Its **base** consists of 13 *convolutions*: small filters that slide over the image. Their outputs, the
# **activations**, respond to edges, then to textures, then to parts of objects.
#
# The **top**, three layers, turns these into the 1,000 classes. Your classes are different, so the top is left off
# (`include_top=False`). Keeping the base is **transfer learning**; a few hundred images can then be enough.

# %%
from vggnb.model import build_base

base, source = build_base(recipe, ws.weights)
print(source)
print(f"weights in the base: {base.count_params():,}   output for one image: {base.output_shape[1:]}")

# %% [markdown]
# With its top, VGG-16 has 138,357,544 weights.
#
# ## Step 14: print the layers and freeze them
#
# Training does not change *frozen* weights. Without freezing, the first steps of training would damage the base,
# because the outputs of the new layers are still random.

# %%
for layer in base.layers:
    layer.trainable = False
    print(f"{layer.name:<14} {str(tuple(layer.output.shape)):<22} trainable: {layer.trainable}")

# %% [markdown]
# Each of the five **blocks** ends in a `pool` layer, which halves width and height.
#
# ## Step 15: four new layers
#
# | layer | what it does |
# |---|---|
# | `GlobalMaxPooling2D` | keeps the strongest activation of each of the last 512 filters: 512 **features** |
# | `Dense(512, relu)` | combines them; *relu* sets negative numbers to 0 |
# | `Dropout(0.5)` | in training, sets a random half of them to 0, against over-fitting |
# | `Dense(2, sigmoid)` | one output for each class; *sigmoid* maps any number to between 0 and 1 |
#
# The last three are the **head**. For your classes:

# %%
from vggnb.model import build_head, trainable_count

head = build_head(recipe, classes)
for layer in head.layers[1:]:
    print(f"{layer.name:<10} {type(layer).__name__:<10} {layer.count_params():>8,} weights")
print(f"to be trained: {trainable_count(head):,}")

# %%
from vggnb import figures

figures.vgg16_with_head(base, head, manifest.classes)

# %% [markdown]
# An output of a `Dense` layer has one weight for each input and a **bias**, a number that is added.
#
# ### Two classes, or more
#
# For three classes or more the article uses *softmax*, which gives probabilities that add up to 1, and a **loss** (the
# quantity that training minimises) for one-hot labels (page 3). The recipe chooses according to the number of classes:

# %%
for number in (2, 3):
    print(number, "classes:", recipe.activation(number), "output,", recipe.loss(number))

# %% [markdown]
# > **In the article** two classes get two sigmoids, whose outputs do not add up to 1. Keras passes the numbers *before*
# > the sigmoid to the loss, so they are trained like a softmax. **Here** the merged model ends in a softmax, with the
# > same weights.
#
# ## Step 16: merge base and head
#
# `build_classifier` joins scaling, base and head:

# %%
from vggnb.model import build_classifier

model = build_classifier(base, head, recipe)
print("in: ", model.input_shape, "raw pixels, 0 to 255")
print("out:", model.output_shape, "probabilities")

# %% [markdown]
# ## Step 17: compile
#
# *Compiling* chooses the loss and the **optimiser**, which updates the weights. The **learning rate** is the size of
# its steps.

# %%
from vggnb.model import compile_head

compile_head(head, recipe)
print("loss:", head.loss, "  optimiser:", head.optimizer.name, "  learning rate:", recipe.learning_rate)

# %% [markdown]
# ## Step 18: the summary
#
# How many weights are trained, and how many are frozen?

# %%
model.summary(line_length=88)

# %% [markdown]
# ## Our recipe
#
# `Recipe.best()` keeps the frozen base, but
#
# - scales pixels as VGG-16 was trained (page 3),
# - takes the average and the maximum of every filter at the end of *all five* blocks: 2 x (64 + 128 + 256 + 512 + 512) =
#   2,944 features,
# - standardises these (mean 0, standard deviation 1),
# - has **one** linear layer as its head, with a penalty on large weights.

# %%
best = Recipe.best().with_(image_size=ws.image_size)
figures.vgg16_with_head(base, build_head(best, classes), manifest.classes)

# %% [markdown]
# ## Why VGG-16?
#
# The article uses it, and its layers are simple to explain. For a new project, start with a newer network of
# `keras.applications`:
#
# | network | year | weights | correct on ImageNet |
# |---|---|---|---|
# | VGG-16 | 2014 | 138 million | 71.3 % |
# | EfficientNetV2-B0 | 2021 | 7 million | 78.7 % |
# | ConvNeXt-Tiny | 2022 | 29 million | 81.3 % |
#
# (From Keras's documentation.) All other steps stay the same.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# 1. How many weights would the article's head have for seven classes?
# 2. For images of 224 pixels, how many pixels wide is the output of the base?
#
# <details><summary>Show a solution</summary>
#
# ```python
# seven = 512 * 512 + 512 + 7 * (512 + 1)
# wide = 224 // 2**5
# ```
#
# Each output has 512 weights and one bias. Each block halves the width.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    seven=lambda answer: answer == trainable_count(build_head(recipe, 7))
    or ("That is the output layer alone." if answer == 7 * 513 else "Each output has 512 weights and one bias."),
    wide=lambda answer: answer == 7 or "How often is the width halved?",
)

# %%
seven = ...
check(1)

# %%
wide = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You loaded the base, froze it, added four layers, merged, compiled and read the summary. You know what changes for
# more classes, and which networks are better today.
#
# Next: [5. Train: the frozen part once, then any number of epochs](05_train.ipynb)
