# %% [markdown]
# # 5. Train: the frozen part once, then any number of epochs
#
# After this page you can
#
# - run every image through the frozen network **once** and train on the result,
# - read learning curves, and recognise over-fitting,
# - explain our recipe: a head that is solved exactly, with a penalty chosen by cross-validation,
# - compare recipes on *validation*.
#
# **Article step** 19. **Reads** your dataset. **Writes** features and four runs under `<home>`. **Takes** 30 seconds in
# quick on two CPU cores. In full, 2,600 images pass twice through VGG-16: about 3 minutes each time on two CPU cores,
# half of that in bfloat16, less than one on a GPU.

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

article = Recipe.article().with_(image_size=ws.image_size)
best = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, best)
manifest

# %% [markdown]
# ## The frozen part, once
#
# The base is frozen, so an image gives the same **features** in every epoch. Here they are computed once and stored.

# %%
from vggnb.features import extract
from vggnb.model import build_base

base, source = build_base(article, ws.weights, precision=ws.precision)
features = extract(manifest, article, base, source, store=ws.features)
print(features)

# %% [markdown]
# A second call reads them from the store:

# %%
print(extract(manifest, article, base, source, store=ws.features))

# %% [markdown]
# ## Step 19: train the article's head
#
# A **run** is the folder of one training, with one dataset and one recipe. Train for five epochs, as in the article:

# %%
from vggnb import figures
from vggnb.train import fit, start_run

run = start_run(ws.runs / "article", manifest, article, weights=ws.weights, source=source)
history = fit(run, features)
figures.learning_curves(history)

# %% [markdown]
# In the first epochs validation can be better than training. Dropout is switched off for validation, and the training
# numbers are means over the epoch, while validation is computed at its end.
#
# ### Ten times as many epochs
#
# Look for the point at which the two losses start to diverge. (The notebook's stop button ends the training.)

# %%
from vggnb.widgets import TrainingProgress

longer = article.with_(epochs=50)
long_run = start_run(ws.runs / "article-50", manifest, longer, weights=ws.weights, source=source)
long_history = fit(long_run, features, progress=TrainingProgress)
figures.learning_curves(long_history)

# %%
losses = long_history.column("val_loss")
lowest = losses.index(min(losses))
print(f"lowest validation loss: {losses[lowest]:.2f} in epoch {lowest + 1}; in epoch {len(losses)}: {losses[-1]:.2f}")
print(f"training accuracy at the end: {long_history.column('accuracy')[-1]:.2f}")
print(f"validation accuracy at the end: {long_history.column('val_accuracy')[-1]:.2f}")

# %% [markdown]
# If the validation loss rises while the training loss falls, the head is **over-fitting**: it memorises the training
# images. This happens on the sample.
#
# ## Our recipe
#
# Its head is one linear layer with a penalty on large weights (**ridge** regression). This problem has one solution,
# which is computed directly, without epochs.
#
# **Cross-validation** chooses the strength of the penalty: fit on four fifths of the images, predict the rest, five
# times. The images pass through VGG-16 once more, because this recipe resizes and scales them differently.

# %%
base, source = build_base(best, ws.weights, precision=ws.precision)
best_features = extract(manifest, best, base, source, store=ws.features)
best_run = start_run(ws.runs / "best", manifest, best, weights=ws.weights, source=source)
fit(best_run, best_features)
print(best_run)

# %% [markdown]
# Each image gets an **out-of-fold** prediction, from a head fitted without it. These predictions serve as validation,
# so the final head can be fitted on train *and* validation.
#
# ## Which recipe is better?
#
# To compare on the same images, `hold_out=True` keeps validation out of our fit. Page 6 explains the metrics and the
# intervals.

# %%
from vggnb.evaluate import compare

held_out = best.with_(name="best, held out", hold_out=True)
held_run = start_run(ws.runs / "best-held-out", manifest, held_out, weights=ws.weights, source=source)
fit(held_run, best_features, progress=False)
compare(long_run, held_run, "validation")

# %% [markdown]
# The first is the article's head after 50 epochs, the second ours. If the interval of a difference contains 0, these
# images do not show which of the two is better.
#
# ## More than two classes
#
# Nothing changes here, but the loss of a random guess is higher: 0.69 for two classes, 1.10 for three (the logarithm of
# their number). For uneven classes, `best.with_(class_weights=True)` gives each class the same total weight.
#
# ## What else was tried
#
# Cross-validation on 480 photographs of moles from HAM10000, a public collection (score: AUC), and on photographs of
# waste in six classes (macro-F1). Higher is better; differences of 0.01 can be due to chance.
#
# | idea | moles | waste |
# |---|---|---|
# | **our recipe** | 0.897 | 0.748 |
# | last block only | 0.874 | 0.714 |
# | maxima only | 0.893 | 0.706 |
# | a fifth of the images of one class | 0.880 | 0.639 |
# | the same, with class weights | 0.877 | 0.674 |
# | four fifths of the training images | 0.894 | 0.713 |

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# 1. How many images does the article send through VGG-16 in 50 epochs? It evaluates validation in every epoch.
# 2. In which epoch is the validation *accuracy* of `long_history` highest? If several are equal, take the first.
#
# <details><summary>Show a solution</summary>
#
# ```python
# forwarded = 50 * (len(manifest.of("train")) + len(manifest.of("validation")))
# accuracies = long_history.column("val_accuracy")
# epoch = accuracies.index(max(accuracies)) + 1
# ```
# </details>
#
# To try: change only the scaling, `longer.with_(preprocessing="caffe")`, in a new folder. On the sample the article's
# head then over-fits much more: the correct scaling alone does not help.

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
import numpy as np
from vggnb.exercises import checks

check = checks(
    globals(),
    forwarded=lambda answer: answer == 50 * sum(len(manifest.of(split)) for split in ("train", "validation"))
    or ("Validation, too." if answer == 50 * len(manifest.of("train")) else "Test is not used in training."),
    epoch=lambda answer: answer == 1 + int(np.argmax(long_history.column("val_accuracy")))
    or "The first epoch is number 1, and the highest accuracy need not be where the loss is lowest.",
)

# %%
forwarded = ...
check(1)

# %%
epoch = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You computed features once, trained on them for 5 and 50 epochs, recognised over-fitting, and compared two recipes on
# validation.
#
# Next: [6. Evaluate: the test images, once](06_evaluate.ipynb)
