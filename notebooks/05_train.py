# %% [markdown]
# # 5. Train: the frozen part once, then any number of epochs
#
# After this page you can
#
# - run every image through the frozen network **once** and train on the result for as many epochs as you like,
# - watch training and read learning curves: still learning, done, or learning by heart,
# - compare recipes on *validation*, without touching the test images,
# - say what the right scaling of pixels does, alone and together with a better head.
#
# **Article step** 19. **Reads** your dataset folder. **Writes** features and five runs under `<home>`.
# **Takes** 40 seconds in quick on two CPU cores. In full, 2 600 images of 224 pixels go three times through VGG-16, once for each
# way of resizing and scaling that is compared: about 7 minutes each time on two CPU cores, whatever the number of epochs.

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

article = Recipe.article().with_(image_size=ws.image_size)
best = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, best)

# %% [markdown]
# ## The frozen part, once
#
# The base is frozen, so for one image it gives the same numbers in every epoch: its **features**. The article
# computes them again in each of its 5 (or 50) epochs. We compute them once and keep them. What is kept is looked up by
# the *content* of a image, so an edited image is computed anew and a renamed one is not.

# %%
from vggnb.features import extract
from vggnb.model import build_base

base, source = build_base(article, ws.weights, precision=ws.precision)
features = extract(manifest, article, base, source, store=ws.features)
print(features)

# %% [markdown]
# All five blocks are kept, two numbers (average and maximum) for each of their 64 + 128 + 256 + 512 + 512 descriptions, so
# that recipes with the same pixels share them; the article's head uses the last 512. Run it again, and nothing goes
# through VGG-16 any more:

# %%
print(extract(manifest, article, base, source, store=ws.features))

# %% [markdown]
# ## Step 19: train the article's head
#
# Five epochs, as in the article. An *epoch* is one pass over all training images, in batches of 32, each time in a new
# order. While it runs, the bar shows the latest numbers and the time that is left.

# %%
from vggnb.train import fit, start_run

run = start_run(ws.runs / "article", manifest, article, weights=ws.weights, source=source)
history = fit(run, features)
print(history)

# %%
from vggnb import figures

figures.learning_curves(history)

# %% [markdown]
# Both lines fall: the head is still learning. When the training line goes on falling and the validation line turns up
# again, the head begins to know the training images by heart; that is **over-fitting**, and more epochs only hurt.
#
# > **In the article** one reads that 50 to 60 epochs give 85 %. On real images of moles (1 510 for training) we
# > measured with this recipe 0.76 to 0.77 accuracy after 5 epochs and 0.73 to 0.77 after 50: nothing is gained.
# > See for yourself what 50 epochs do here; with the features at hand it takes a few seconds.
#
# This time the curves grow while it trains. The notebook's square stop button ends a training early.

# %%
from vggnb.widgets import TrainingProgress

long = article.with_(epochs=50)
long_run = start_run(ws.runs / "article-50", manifest, long, weights=ws.weights, source=source)
long_history = fit(long_run, features, progress=TrainingProgress)
print(long_history)

# %%
figures.learning_curves(long_history)

# %% [markdown]
# The training line falls to the end, the validation line turns up after a few epochs: the head begins to know the training
# images by heart.
#
# ## Our recipe
#
# Another way of resizing and scaling means other features, so the images go through the base once more. The head is a single
# linear layer with a penalty on large weights (the *ridge*). That is a convex problem: it has one solution, which is computed
# directly, without epochs, batches or a learning rate.
#
# How strong the penalty should be is found by **cross-validation**: fit on four fifths of the images, predict the other fifth,
# five times round, for six strengths. Duplicates, near-duplicates and images of one group stay in the same fifth.

# %%
base, source = build_base(best, ws.weights, precision=ws.precision)
best_features = extract(manifest, best, base, source, store=ws.features)
best_run = start_run(ws.runs / "best", manifest, best, weights=ws.weights, source=source)
fit(best_run, best_features)
print(best_run)

# %% [markdown]
# The same five fits give every image a prediction by a head that has not seen it: an **out-of-fold** prediction. So nothing has to
# be held out. The final head is fitted on train *and* validation, and wherever later pages say validation for this recipe, they
# use the out-of-fold predictions of all these images. The test images play no part.
#
# ## Is it the scaling, or the head?
#
# > **In the article** pixels are divided by 255, while VGG-16 was trained on another scale (page 3). Change **only** that
# > and compare on validation, also with our recipe, which has that scaling, too, and besides resizes bilinearly, pools all five
# > blocks and has another head. (Pictures resized as the article does and scaled as we do are new to the base: a third pass.)

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
# All three see the same held-out images here: `hold_out=True` keeps validation out of our head as well.
#
# Look at the validation *loss*, which unlike accuracy also sees how sure the wrong answers are. The right scaling alone
# makes the activations much larger, and the article's head becomes very sure of wrong answers. With the inputs
# standardised and large weights punished, this does not happen. Our recipe changes several things at once, so these
# three lines do not tell which of them helped. With 40 validation images one image is 2.5 points of accuracy: take the
# direction, not the digits.
#
# ## What else was tried
#
# A recipe is found by trying, and what lost belongs in the story. Each line below is one idea, scored by cross-validation
# on the training images of two real sets: moles (480 images, two classes, AUC) and waste (six classes, macro-F1);
# higher is better, and 0.01 up or down is chance. The last column says what became of it. (`benchmarks/heads.py`, 224 pixels)
#
# | idea | moles | waste | |
# |---|---|---|---|
# | pools of all five blocks, one linear layer with ridge | 0.897 | 0.748 | **ours** |
# | the last three blocks only | 0.896 | 0.751 | no gain |
# | the last block only, as in the article | 0.874 | 0.714 | loses |
# | averages only | 0.893 | 0.738 | no gain |
# | maxima only, as in the article | 0.893 | 0.706 | loses on waste, nothing clear on moles |
# | square roots of the pools | 0.896 | 0.756 | no gain |
# | softened labels (0.05) | 0.897 | 0.758 | no clear gain, and probabilities get worse |
# | all classes weigh the same | 0.897 | 0.749 | no gain, the classes are even |
# | only a fifth of the images of one class | 0.880 | 0.639 | a rare class is predicted too seldom |
# | the same, and all classes weigh the same | 0.877 | 0.674 | helps there: `recipe.with_(class_weights=True)` |
# | a mirrored copy of each image, too | 0.901 | 0.755 | no clear gain, twice the cost: left out |
# | four fifths of the training images | 0.894 | 0.713 | costs 0.035 on waste, nothing clear on moles |
#
# The rare class in numbers: with a fifth of the malignant moles to learn from, their *ranking* is nearly as good as before, but
# of all moles, half of them malignant, only 64 % are named rightly; with class weights 78 %. So have a look at your counts (page
# 2) before you choose.
#
# ## What it would have cost

# %%
train, validation = len(manifest.of("train")), len(manifest.of("validation"))
print(f"the article's loop, 50 epochs: {50 * (train + validation):,} images through VGG-16")
print(f"here, any number of epochs:    {train + validation:,} images through VGG-16")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Train the article's head for 50 epochs with a tenth of the learning rate (`learning_rate=1e-4`), into a folder of its
# own. Does the validation loss still turn up? Why does a run refuse to go into the folder of another one?
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
# Smaller steps: the lowest point comes later, and the loss turns up more slowly. (`build_base` is here only for `source`,
# which the cell above replaced.) A run belongs to one recipe and one set of images; overwriting it with another would leave
# you with a result of which nobody knows how it came about.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You computed features once and trained on them for 5 and 50 epochs, read learning curves, compared three recipes on
# validation only, and saw that the right scaling needs the right head.
#
# Next: [6. Evaluate: the test images, once](06_evaluate.ipynb)
