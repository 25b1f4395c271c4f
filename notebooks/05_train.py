# %% [markdown]
# # 5. Train: the frozen part once, then any number of epochs
#
# After this page you can
#
# - run every image through the frozen network **once** and train on the result,
# - recognise over-fitting in learning curves,
# - compare recipes on *validation*,
# - say what the right scaling of pixels does, alone and with a better head.
#
# **Article step** 19. **Reads** your dataset folder. **Writes** features and five runs under `<home>`.
# **Takes** 40 seconds in quick on two CPU cores. In full, 2 600 images of 224 pixels pass three times through VGG-16, about
# 7 minutes each time on two CPU cores, whatever the number of epochs.

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

# %% [markdown]
# ## The frozen part, once
#
# The base is frozen, so an image gives the same numbers, its **features**, in every epoch. The article computes them
# again each time; here they are computed once and stored by image *content*, so a renamed image is not computed again.

# %%
from vggnb.features import extract
from vggnb.model import build_base

base, source = build_base(article, ws.weights, precision=ws.precision)
features = extract(manifest, article, base, source, store=ws.features)
print(features)

# %% [markdown]
# The average and the maximum of each channel of all five blocks are stored; the article's head uses the last 512 numbers.
# Call `extract` again, and nothing passes through VGG-16:

# %%
print(extract(manifest, article, base, source, store=ws.features))

# %% [markdown]
# ## Step 19: train the article's head
#
# Train for five epochs, as in the article, in batches of 32.

# %%
from vggnb.train import fit, start_run

run = start_run(ws.runs / "article", manifest, article, weights=ws.weights, source=source)
history = fit(run, features)
print(history)

# %%
from vggnb import figures

figures.learning_curves(history)

# %% [markdown]
# Both losses fall, so the head is still learning. When the validation loss rises while the training loss falls, the head is
# **over-fitting**.
#
# > **In the article** 50 to 60 epochs are reported to give 85 %. On real moles (1 510 training images) we measured an
# > accuracy of 0.76 to 0.77 with this recipe after 5 epochs and 0.73 to 0.77 after 50.
#
# Now try 50 epochs on the stored features. The notebook's stop button ends training early.

# %%
from vggnb.widgets import TrainingProgress

long = article.with_(epochs=50)
long_run = start_run(ws.runs / "article-50", manifest, long, weights=ws.weights, source=source)
long_history = fit(long_run, features, progress=TrainingProgress)
print(long_history)

# %%
figures.learning_curves(long_history)

# %% [markdown]
# The training loss falls to the end; the validation loss rises after a few epochs: over-fitting.
#
# ## Our recipe
#
# Our recipe resizes and scales differently, so the images pass through the base again. Its head is one linear layer with
# a penalty on large weights (the *ridge*). This convex problem has a single solution, computed directly, without epochs or
# a learning rate.
#
# **Cross-validation**, on at most 2 000 images, chooses one of six strengths of the penalty: fit on four fifths, predict
# the rest, five times. Duplicates, near-duplicates and images of one group stay in the same fifth.

# %%
base, source = build_base(best, ws.weights, precision=ws.precision)
best_features = extract(manifest, best, base, source, store=ws.features)
best_run = start_run(ws.runs / "best", manifest, best, weights=ws.weights, source=source)
fit(best_run, best_features)
print(best_run)

# %% [markdown]
# With the chosen penalty, each image also gets an **out-of-fold** prediction, from a head fitted without it. So the final
# head can be fitted on train *and* validation. For this recipe, *validation* on later pages means these predictions.
#
# ## Is it the scaling, or the head?
#
# > **In the article** pixels are divided by 255, although VGG-16 was trained on another scale (page 3).
#
# Change **only** that, which takes a third pass, and compare with our recipe. `hold_out=True` keeps validation out of our
# head, so that all three are evaluated on the same images.

# %%
swapped = article.with_(name="article, right scaling", preprocessing="caffe", epochs=50)
swapped_run = start_run(ws.runs / "article-50-caffe", manifest, swapped, weights=ws.weights, source=source)
swapped_features = extract(manifest, swapped, base, source, store=ws.features)
swapped_history = fit(swapped_run, swapped_features, progress=False)

# %%
held = best.with_(name="best, held out", hold_out=True)
held_run = start_run(ws.runs / "best-held-out", manifest, held, weights=ws.weights, source=source)
print(fit(held_run, best_features, progress=False))

# %%
from sklearn.metrics import log_loss

for name, each in {"article": long_run, "right scaling alone": swapped_run, "best": held_run}.items():
    found = each.validation().uncalibrated(each.calibration().temperature)
    loss, accuracy = log_loss(found.labels, found.probabilities), (found.probabilities.argmax(axis=1) == found.labels).mean()
    print(f"{name:<20} validation loss {loss:.2f}, accuracy {accuracy:.2f}")

# %% [markdown]
# Unlike accuracy, the *loss* shows how confident the wrong predictions are. The right scaling alone makes the activations
# much larger, and the article's head becomes very confident in wrong predictions. Standardised features and the penalty
# prevent this.
#
# With 40 validation images, one image is 2.5 points of accuracy.
#
# ## What else was tried
#
# Scores are from cross-validation on the training images of two real datasets: moles (480 images, two classes, AUC) and
# waste (six classes, macro-F1). Higher is better; differences of 0.01 are within chance. (`benchmarks/heads.py`, 224 pixels)
#
# | idea | moles | waste | |
# |---|---|---|---|
# | pools of all five blocks, one linear layer with ridge | 0.897 | 0.748 | **ours** |
# | the last three blocks only | 0.896 | 0.751 | no gain |
# | the last block only, as in the article | 0.874 | 0.714 | worse |
# | averages only | 0.893 | 0.738 | no gain |
# | maxima only, as in the article | 0.893 | 0.706 | worse on waste |
# | square roots of the pools | 0.896 | 0.756 | no gain |
# | label smoothing (0.05) | 0.897 | 0.758 | no clear gain, worse probabilities |
# | class weights | 0.897 | 0.749 | no gain, the classes are balanced |
# | only a fifth of the images of one class | 0.880 | 0.639 | the rare class is predicted too seldom |
# | the same, with class weights | 0.877 | 0.674 | helps: `recipe.with_(class_weights=True)` |
# | a mirrored copy of each image, too | 0.901 | 0.755 | no clear gain at twice the cost |
# | four fifths of the training images | 0.894 | 0.713 | costs 0.035 on waste |
#
# Class weights matter if your classes are uneven (page 2): with a fifth of the malignant moles, 64 % of a balanced set are
# predicted correctly, with class weights 78 %.
#
# ## What it would have cost

# %%
train, validation = len(manifest.of("train")), len(manifest.of("validation"))
print(f"the article's loop, 50 epochs: {50 * (train + validation):,} images through VGG-16")
print(f"here, any number of epochs:    {train + validation:,} images through VGG-16")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Train the article's head for 50 epochs with a tenth of the learning rate (`learning_rate=1e-4`), in a new folder. Does
# the validation loss still rise? Why not use the folder of another run?
#
# <details><summary>Show a solution</summary>
#
# ```python
# slow = article.with_(epochs=50, learning_rate=1e-4)
# base, source = build_base(slow, ws.weights, precision=ws.precision)
# slow_run = start_run(ws.runs / "article-50-slow", manifest, slow, weights=ws.weights, source=source)
# figures.learning_curves(fit(slow_run, features))
# ```
#
# With smaller steps the lowest point comes later, and the loss rises more slowly. (`build_base` restores `source`, which
# a cell above replaced.) A run belongs to one recipe and one set of images, so its folder accepts no other.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You computed features once and trained on them for 5 and 50 epochs, recognised over-fitting, compared three recipes on
# validation only, and saw that the right scaling needs the right head.
#
# Next: [6. Evaluate: the test images, once](06_evaluate.ipynb)
