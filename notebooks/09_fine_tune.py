# %% [markdown]
# # 9. Fine-tune: let the last layers learn, too
#
# After this page you can
#
# - thaw VGG-16 from a layer that you name, and say which layers learn and which do not,
# - say why the rate must be low and why the head is trained first,
# - let validation decide when to stop, and which epoch is kept,
# - stop a training in the middle and continue it without losing anything.
#
# **Beyond the article.** **Reads** your dataset folder. **Writes** a run under `<home>`.
# **Takes** 45 seconds in quick on two CPU cores. In full, each picture goes twice through what stays frozen, and each
# epoch through the three layers that learn: take a GPU for more than a few hundred pictures of 224 pixels.

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

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)

# %% [markdown]
# ## First the head
#
# A head that knows nothing sends large, meaningless corrections back into the layers before it and spoils what they learnt
# from a million pictures. So the head is trained first, on the frozen base, exactly as on page 5.

# %%
from vggnb.train import train

run, features = train(manifest, recipe, ws.runs / "fine-tuned", weights=ws.weights, store=ws.features)
print(run)

# %% [markdown]
# ## Name what you thaw
#
# VGG-16 has 13 convolutions in five blocks. The first ones see edges and colours, which serve for any pictures; the last
# ones see parts of things: of dogs and cars rather than of your classes. So one begins at the end:

# %%
from vggnb.train.cut import CONVOLUTIONS
from vggnb.model import build_base

base, source = build_base(recipe, ws.weights)
thawed = CONVOLUTIONS[CONVOLUTIONS.index("block5_conv1") :]
numbers = {name: base.get_layer(name).count_params() for name in CONVOLUTIONS}
print(f"thawed: {', '.join(thawed)}")
print(f"{sum(numbers[name] for name in thawed):,} of {sum(numbers.values()):,} numbers of the base may change")

# %% [markdown]
# That is a lot for a few hundred pictures. Hence three precautions:
#
# - **a low rate**: steps a hundred times smaller than the head's,
# - **validation decides**: the epoch with the lowest validation loss is kept, the untouched beginning included, so that
#   fine-tuning can be in vain but never harm (as far as validation can tell),
# - **patience**: after three epochs without progress it ends; after each of them the steps are halved.
#
# What comes *before* the first thawed layer still is a pure function of the picture. It runs once for each picture, and
# every epoch starts from there. The other ten convolutions are not run again. Nothing is augmented here (page 3): mirrored
# activations are not the activations of the mirrored picture, so each view of a picture would need passes of its own.

# %%
from vggnb.train import fine_tune

history = fine_tune(run, features, store=ws.features, from_block="block5_conv1", base=base)
print(history)

# %%
from vggnb import figures

figures.learning_curves(history)

# %%
kept = run.fine_tuned()["best_epoch"]
after = history.rows[max(kept, 1) - 1]
print(f"fine-tuned: validation loss {after['val_loss']:.2f}, accuracy {after['val_accuracy']:.2f} (epoch {kept} is kept)")

# %% [markdown]
# Look at the two lines of the loss. The training line falls: with seven million numbers a few hundred pictures are soon
# learnt by heart. What counts is whether the validation line falls below the loss of the head alone. That is epoch 0, which the
# figure does not show; on the sample it is 0.48. (*Best ... in epoch 1* under the figure is about accuracy and does not decide.)
# On the small sample the line stays near 0.55: epoch 0 is kept, and the model is the one you had. That is no failure of the
# cell but its answer: these pictures are too few, and the head already gets nearly all training pictures right. With
# thousands of your own pictures, ask again.
#
# ## The run is the fine-tuned model now
#
# Everything of pages 6 to 8 works with it unchanged: judging, saving, predicting, looking inside.

# %%
from vggnb.evaluate import evaluate

print(evaluate(run, "validation"))

# %% [markdown]
# These are *validation* pictures, which chose the epoch: a little flattering. The test pictures stay where they are until
# you have decided between this model and the one of page 5.
#
# ## Stop, and go on
#
# Colab may take its machine away at any time. Every few seconds all that the training has become is written into the run's
# folder: numbers, optimiser, history, best epoch. Press the stop button while a training runs, then run the cell again:
# it goes on where it was and ends with the very same numbers. A training that is done is not done again:

# %%
history_again = fine_tune(run, features, store=ws.features, from_block="block5_conv1", base=base)
print("the same history:", history_again == history)

# %% [markdown]
# ## Without a notebook
#
# ```
# vggnb train DATASET --out RUN --fine-tune block5_conv1
# vggnb evaluate RUN
# ```

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Thaw only the very last convolution, `block5_conv3`, in a run of its own. How many numbers of the base may change? Compare the
# lowest `val_loss` with the head's: is validation better or worse off? What happens with a learning rate of `1e-3`?
#
# <details><summary>Show a solution</summary>
#
# ```python
# other, its_features = train(manifest, recipe, ws.runs / "fine-tuned-last", weights=ws.weights, store=ws.features)
# last = fine_tune(other, its_features, store=ws.features, from_block="block5_conv3", base=base)
# print(f"head alone {before['val_loss']:.2f}, the last convolution too {min(row['val_loss'] for row in last.rows):.2f}")
# wild = fine_tune(other, its_features, store=ws.features, learning_rate=1e-3, base=base)
# print(wild, other.fine_tuned()["best_epoch"])
# ```
#
# 3 x 3 x 512 x 512 weights and 512 biases: 2,359,808 numbers of the base, a third of what this page thawed. If no epoch is below
# the head alone, it was in vain. With large steps the layers forget what they knew before the head can follow; when no epoch
# beats the beginning, epoch 0 is kept, which is the model you started from.
#
# A run is what it was last fine-tuned to. Hence the folder of its own: page 10 still opens the model of this page.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You trained the head first, thawed named layers at a low rate, let validation choose the epoch, and know that a training
# can be stopped and continued at any time.
#
# Next: [10. Explain: why did the model say that?](10_explain.ipynb)
