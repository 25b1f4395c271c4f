# %% [markdown]
# # 11. Many classes: the same pages for more than two
#
# After this page you can
#
# - train on an unsplit folder of six classes, and say what changes compared with two classes,
# - read a confusion matrix of six classes and name the pair that is confused most,
# - read macro F1, one-against-the-rest AUC and a table by class, and avoid a misleading number,
# - save the model, load it, and read a prediction of six probabilities.
#
# **Article steps** 11, 15 and 17 (its remarks on more classes). **Reads** your dataset folder; in quick, six kinds of
# generated patterns. **Writes** these and two runs under `<home>`. **Takes** 50 seconds in quick on two CPU cores; in
# full, with your own folder, about 5 minutes for 1,000 images of 224 pixels on two CPU cores.

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

# %% [markdown]
# ## A folder that is not split
#
# Most datasets are one folder for each class, without splits. In quick, this page generates such a folder with three
# pairs of similar patterns: a grid and slightly shifted bricks; dots and rings with a small hole; stripes and slightly
# bent waves. In full, it uses your folder.
#
# The page is for three classes or more. If your folder has two, set `VGGNB_PROFILE` to `quick` for this page (in a cell
# above the setup cell, as on page 1).

# %%
from vggnb.census import take_census
from vggnb.datasets import textures
from vggnb.staging import stage_if_remote

if ws.profile == "quick":
    ws = open_workspace(dataset=textures(ws.home / "textures"))
census = take_census(stage_if_remote(ws.dataset, ws.staged), cache=ws.census_file, progress=False)
print(census)

# %%
from vggnb import figures

figures.contact_sheet(census)

# %% [markdown]
# The six classes have the same colours, sizes and directions; they differ only in the pattern. The split is made for
# you: a fifth of each class for *test*, a fifth of the rest for *validation*. Near-duplicates stay together, and a seed
# makes the split reproducible.

# %%
from vggnb.census import assign_splits

manifest = assign_splits(census)
print(manifest)

# %% [markdown]
# ## What changes, and what does not
#
# Your code does not change. The number of classes comes from the manifest, and the rest follows from it:

# %%
from vggnb.model import build_head, trainable_count
from vggnb.recipe import Recipe

article, best = (Recipe.named(name).with_(image_size=ws.image_size) for name in ("article", "best"))
for n in (2, len(manifest.classes)):
    print(f"{n} classes, article: {n} x {article.activation(n)}, {article.loss(n)}")
    print(f"{n} classes, ours:    {n} x {best.activation(n)}, {best.loss(n)}, {trainable_count(build_head(best, n)):,} weights to learn")

# %% [markdown]
# One **softmax** over all classes gives probabilities that add up to 1, because an image belongs to exactly one class.
# (Six sigmoids are for images with several labels.) Base, features and resizing stay the same.
#
# > **In the article**, more classes need the output layer `Dense(6, activation='softmax')` and the loss
# > `categorical_crossentropy`. But its generators keep `class_mode="binary"`, which gives each label as one integer,
# > and the new loss needs six numbers. Keras refuses the first batch:

# %%
import keras, numpy as np

labels = np.arange(4) % len(manifest.classes)
head = build_head(article, len(manifest.classes))
head.compile(loss="categorical_crossentropy")
try:
    head.train_on_batch(np.ones((4, 512), "float32"), labels)
except ValueError as error:
    print("Keras says:", str(error).splitlines()[0])

# %% [markdown]
# > There are two ways to fix it. Either all three generators change to `class_mode="categorical"`, which gives
# > **one-hot** labels: a 1 for the class and 0 elsewhere (our pipeline does this for you). Or the loss stays
# > `sparse_categorical_crossentropy`. Both losses have the same value:

# %%
said = head.predict(np.random.default_rng(0).normal(size=(4, 512)), verbose=0)
one_hot = keras.utils.to_categorical(labels, len(manifest.classes))
sparse = keras.losses.sparse_categorical_crossentropy(labels, said)
print("with integers:", np.round(sparse, 2), " with one-hot:", np.round(keras.losses.categorical_crossentropy(one_hot, said), 2))

# %% [markdown]
# > The article's recipe for more classes lacks three other things: the folder must be split by hand, accuracy is the
# > only metric, and the saved files do not contain the class names.
#
# ## Train both recipes

# %%
from vggnb.train import open_or_train

recipes = {"article": article, "best": best}
runs = {name: open_or_train(manifest, recipe, ws.runs / f"many-{name}", weights=ws.weights, store=ws.features, precision=ws.precision)
        for name, recipe in recipes.items()}
print(*(f"{name}: {run}" for name, run in runs.items()), sep="\n\n")

# %% [markdown]
# ## Evaluate
#
# Sensitivity, specificity and a decision threshold need *one* positive class. With six classes, these metrics take
# their place:
#
# | metric | question it answers |
# |---|---|
# | accuracy | which share of all images is predicted correctly? |
# | balanced accuracy | the mean recall of the classes; a small class counts as much as a large one |
# | macro F1 | the mean over classes of F1, which combines recall and precision |
# | AUC, one against the rest | for each class: does an image of it get a higher probability for it than other images? Then the mean |

# %%
from vggnb.evaluate import evaluate, predict_split

reports = {name: evaluate(run, "test") for name, run in runs.items()}
print(reports["best"])

# %%
figures.metric_intervals(reports)

# %% [markdown]
# The dotted lines show the baseline: always predicting one class is right for 0.17 of the images in quick, and for 0.50
# with two balanced classes. Compare an accuracy only with its baseline.
#
# A high AUC can go with a moderate accuracy: ranking one class against the rest is easier than choosing one of six.
#
# ## Which classes are confused?

# %%
figures.confusion_matrix(reports["best"])

# %%
from vggnb.metrics import confused_pairs

for first, second, times in confused_pairs(reports["best"])[:4]:
    print(f"{first} and {second} are taken for each other {times} times")

# %% [markdown]
# In quick, all mistakes are between similar patterns, which a single number does not show. If two classes are confused
# again and again, more epochs rarely help. More or sharper images of these two may help; or they should be one class.

# %%
figures.class_results(reports["best"])

# %% [markdown]
# *Recall*: which share of this class is found? *Precision*: which share of the predictions of this class is correct?
# Look at the length of the intervals: with ten test images of a class, one image is ten points. Where intervals overlap
# widely, the difference is not significant.
#
# ## Trap: accuracy of one class against the rest
#
# Some tools print an "accuracy by class" that also counts every image of *another* class that is not predicted as this
# one. Compare:

# %%
best_said = predict_split(runs["best"], "test")
named = best_said.probabilities.argmax(axis=1)
for k, name in enumerate(manifest.classes):
    against_rest, recall = np.mean((named == k) == (best_said.labels == k)), np.mean(named[best_said.labels == k] == k)
    print(f"{name:<12} 'accuracy' against the rest {against_rest:.2f}   found of this class {recall:.2f}")
print(f"a model that never says a certain class has {1 - 1 / len(manifest.classes):.2f} in the first column")

# %% [markdown]
# The first column is high for every class, because five of six images belong to other classes. Use recall and
# precision.
#
# ## Save, load, predict
#
# The bundle stores the class names in the order of the outputs.

# %%
from vggnb.predict import predict_files
from vggnb.save import open_or_save

bundle = open_or_save(runs["best"], runs["best"].folder / "bundle", name="Classes")
print(bundle)

# %%
from vggnb.metrics import least_confident

hard = least_confident(best_said, manifest.classes, most=4)
answers = predict_files(bundle, [manifest.dataset / one.path for one in hard])
figures.probability_bars(answers, truths=[one.class_name for one in hard])

# %% [markdown]
# These are the four test images with the least confident predictions. Six probabilities show more than a name: *which
# two* classes compete, and whether the true one comes second. The loaded bundle gives the same probabilities as the
# model that was evaluated:

# %%
again = [[answer.probabilities[name] for name in manifest.classes] for answer in answers]
places = [best_said.paths.index(one.path) for one in hard]
print("the same to five digits:", np.abs(again - best_said.probabilities[places]).max() < 1e-5)

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many images are needed? Generate only 20 of each class, train the recipe `best` on them in a run of its own, and
# compare the interval of macro F1 with the one above.
#
# <details><summary>Show a solution</summary>
#
# ```python
# few = assign_splits(take_census(textures(ws.home / "textures-20", each=20), progress=False))
# few_run = open_or_train(few, best, ws.runs / "many-few", weights=ws.weights, store=ws.features, precision=ws.precision)
# print(reports["best"].metrics["macro_f1"], evaluate(few_run, "test").metrics["macro_f1"])
# ```
#
# With four test images of each class the interval is very wide. With 16 images of each class for training instead of
# 40, the model itself is weaker, too.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You took a folder of six classes from files to predictions without changing the code, and know what the article's
# instructions for more classes lack. You read a confusion matrix and its most confused pair, three metrics for many
# classes and a misleading one, and predictions of six probabilities.
#
# Next: [12. Past one machine: the same features from a cluster](12_past_one_machine.ipynb)
