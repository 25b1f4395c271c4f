# %% [markdown]
# # 9. Fine-tune: train the last layers, too
#
# After this page you can
#
# - unfreeze VGG-16 from a layer that you name,
# - say why the head is trained first and why the learning rate is low,
# - say what augmentation does, and which kinds suit your images,
# - stop a training and continue it.
#
# **Beyond the article.** **Reads** your dataset folder. **Writes** a run under `<home>`. **Takes** about a minute and a
# half in quick on two CPU cores. In full, a training image goes through the network 16 times; the cell prints the
# expected time before it starts. Use a GPU for more than a few hundred images of 224 pixels.

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

# In quick, validation stays out of the fit, which saves the second of two trainings.
recipe = Recipe.best().with_(image_size=ws.image_size, hold_out=ws.profile == "quick")
manifest = open_manifest(ws, recipe)

# %% [markdown]
# ## First the head
#
# A head with random weights sends large, meaningless gradients into the layers before it and destroys what they learned
# from a million images. So the head is trained first, on the frozen base, as on page 5.

# %%
from vggnb.train import train

places = {"weights": ws.weights, "store": ws.features, "precision": ws.precision}
run, features = train(manifest, recipe, ws.runs / "fine-tuned", **places)
print(run)

# %% [markdown]
# ## Choose what to unfreeze
#
# VGG-16 has 13 convolutions in five blocks. The first ones detect edges and colours, which are useful for any image; they
# stay frozen. Blocks 3 to 5 detect textures and then parts of the objects in ImageNet, such as dogs and cars:

# %%
from vggnb.recipe import CONVOLUTIONS

base = run.base()
unfrozen = CONVOLUTIONS[CONVOLUTIONS.index("block3_conv1") :]
weights = {name: base.get_layer(name).count_params() for name in CONVOLUTIONS}
print(f"unfrozen: {', '.join(unfrozen)}")
print(f"{sum(weights[name] for name in unfrozen):,} of {sum(weights.values()):,} weights of the base are trained")

# %% [markdown]
# These are many weights for a few hundred images. Four measures against over-fitting:
#
# - **a low learning rate**, 3e-5, which falls to zero over the epochs,
# - **augmentation**: each epoch uses a changed version of every image: flipped or not, a little brighter or darker,
#   with more or less contrast,
# - **dropout** of the features,
# - **a fixed schedule**: nothing is chosen on validation.
#
# Lesions have no "up", so `"rotations"` are added to the default kinds. Leave them out if your images have one.
#
# Look at one image in four epochs; the original is on the left:

# %%
import numpy as np
from vggnb.generators import read_row
from vggnb.train.augment import augment

choices = recipe.with_(fine_tune="block3_conv1", augment=("flips", "rotations", "brightness", "contrast"))
row = manifest.of("train")[0]
image = read_row(manifest, row, recipe)[None]
versions = [augment(image, [0], choices.augment, seed=recipe.seed, epoch=epoch)[0] for epoch in range(4)]
print(f"{row.path}: mean brightness {image.mean():.0f}, in four epochs {[round(float(one.mean())) for one in versions]}")

# %%
import PIL.Image

print("From left: the image as it is, then as it enters each of four epochs.")
PIL.Image.fromarray(np.concatenate([image[0], *versions], axis=1).astype(np.uint8))

# %% [markdown]
# ## Train
#
# The network is trained with validation held out, which gives the learning curves, the temperature and the decision
# threshold. In full it is then trained again, on train and validation together, which gives the model.

# %%
from vggnb.train import fine_tune

history = fine_tune(run, features, recipe=choices, base=base)
print(history)

# %%
from vggnb import figures

figures.learning_curves(history)

# %%
before, after = history.rows[0], history.rows[-1]
print(f"head alone: validation loss {before['val_loss']:.2f}, accuracy {before['val_accuracy']:.2f}")
print(f"fine-tuned: validation loss {after['val_loss']:.2f}, accuracy {after['val_accuracy']:.2f}")

# %% [markdown]
# Epoch 0 is the head alone. Compare both ends of the validation curves. A few dozen validation images say little; the
# paired comparison on test, below, says more.
#
# ## The run is now the fine-tuned model
#
# Pages 6 to 8 work with it unchanged:

# %%
from vggnb.evaluate import evaluate

print(evaluate(run, "validation"))

# %% [markdown]
# The validation images were held out of this training. The last word is the comparison with the head alone on the test
# images. Make it once, when all choices are made:

# %%
from vggnb.evaluate import compare
from vggnb.train import open_or_train

head_alone = open_or_train(manifest, recipe, ws.runs / "head-alone", **places)
print(compare(head_alone, run))

# %% [markdown]
# A difference whose interval contains 0 is not significant. Fine-tuning gains more with more images.
#
# ## Stop and continue
#
# Weights and optimizer are saved in the run's folder after every epoch. If you press the notebook's stop button, or
# Colab disconnects, run the cell again: training continues after the last complete epoch and ends with the same
# weights. A finished training is not repeated:

# %%
history_again = fine_tune(run, features, recipe=choices, base=base)
print("the same history:", history_again == history)

# %% [markdown]
# ## Without a notebook
#
# ```
# vggnb train DATASET --out RUN --recipe fine
# vggnb train DATASET --out RUN --recipe fine --augment flips,rotations,brightness,contrast --hold-out
# ```
#
# The first command leaves rotations out. `--hold-out` leaves out the second training.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Train only the last convolution, `block5_conv3`, in a run of its own. How many weights of the base are trained?
# Compare the validation loss with that of the head. What happens with a learning rate of `1e-3`?
#
# <details><summary>Show a solution</summary>
#
# ```python
# other, its_features = train(manifest, recipe, ws.runs / "fine-tuned-last", **places)
# choices = choices.with_(fine_tune="block5_conv3")
# last = fine_tune(other, its_features, recipe=choices, base=base)
# print(f"head alone {before['val_loss']:.2f}, with the last convolution {last.rows[-1]['val_loss']:.2f}")
# wild = fine_tune(other, its_features, recipe=choices.with_(fine_tune_rate=1e-3), base=base)
# print(wild)
# ```
#
# 3 x 3 x 512 x 512 weights and 512 biases make 2,359,808, a sixth of what this page trained. A high learning rate
# destroys what the layers learned from ImageNet.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You trained the head first, unfroze layers by name at a low learning rate, and augmented the images. You know that a
# training can be stopped and continued at any time.
#
# Next: [10. Explain: why did the model predict that?](10_explain.ipynb)
