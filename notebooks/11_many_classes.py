# %% [markdown]
# # 11. Many classes: the same pages for more than two
#
# After this page you can
#
# - train on a folder of six classes that nobody has split, and say what changes against two classes, and what does not,
# - read a confusion matrix of six classes and name the two that are taken for each other,
# - read macro-F1, one-against-the-rest AUC and a table by class, and avoid a number that flatters,
# - save the model, load it, and read an answer of six probabilities.
#
# **Article steps** 11, 15 and 17 (its words on more classes). **Reads** your dataset folder; in quick, six kinds of patterns that a program draws now.
# **Writes** these and two runs under `<home>`. **Takes** 50 seconds in quick on two CPU cores. In full, with your own folder, each picture goes twice
# through VGG-16: 5 minutes for 1 000 pictures of 224 pixels on two CPU cores.

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

# %% [markdown]
# ## A folder that is not split
#
# The article's dataset has two classes and comes in parts. Most folders have neither property: one folder for each class, and
# that is all. In quick, a program draws such a folder: three pairs of patterns that are hard to tell apart on purpose (a grid
# and hardly shifted bricks; dots and rings with a small hole; stripes and waves that hardly bend). In full, this is your folder.
# This page is for three classes or more: if your folder has only two, set `VGGNB_PROFILE` to `quick` for this page (in a cell
# above the setup cell, as on page 1), and it draws the patterns.

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
# Colours, sizes and directions are drawn from the same ranges for all six: only the pattern tells. The split is made for
# you: a fifth of each class for *test*, a fifth of what is left for *validation*, twins never torn apart, with a seed, so
# that it is the same split every time.

# %%
from vggnb.census import assign_splits

manifest = assign_splits(census)
print(manifest)

# %% [markdown]
# ## What changes, and what does not
#
# Nothing in your code. The number of classes comes from the manifest, and the rest follows from it:

# %%
from vggnb.model import build_head, trainable_count
from vggnb.recipe import Recipe

article, best = (Recipe.named(name).with_(image_size=ws.image_size) for name in ("article", "best"))
for n in (2, len(manifest.classes)):
    print(f"{n} classes, article: {n} x {article.activation(n)}, {article.loss(n)}")
    print(f"{n} classes, ours:    {n} x {best.activation(n)}, {best.loss(n)}, {trainable_count(build_head(best, n)):,} weights to learn")

# %% [markdown]
# One **softmax** over all classes: the outputs of a picture add up to 1, because it is exactly one of the six. (Six sigmoids would
# be for pictures that may be several things at once.) The base, the features, the resizing, the order of the pictures:
# all as before.
#
# > **In the article**, for more classes, you change the output layer to `Dense(6, activation='softmax')` and the loss to
# > `categorical_crossentropy`. Two things are wrong with that. The generators keep `class_mode="binary"`, which gives a
# > label as one integer, and the new loss wants six numbers; Keras refuses in the first batch:

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
# > Either all three generators change to `class_mode="categorical"`, which writes a label as six numbers, a 1 at its class and 0 elsewhere
# > (**one-hot**; our pipeline does it for you), or the loss stays as it was for two classes. The second is less work by
# > hand, because the two losses are the same number, for labels that are written differently:

# %%
said = head.predict(np.random.default_rng(0).normal(size=(4, 512)), verbose=0)
one_hot = keras.utils.to_categorical(labels, len(manifest.classes))
sparse = keras.losses.sparse_categorical_crossentropy(labels, said)
print("with integers:", np.round(sparse, 2), " with one-hot:", np.round(keras.losses.categorical_crossentropy(one_hot, said), 2))

# %% [markdown]
# > And it is incomplete: the folder must be split by hand first; accuracy stays the only number; and the files that are
# > saved do not say which of the six outputs is which class.
#
# ## Train, both recipes

# %%
from vggnb.train import open_or_train

recipes = {"article": article, "best": best}
runs = {name: open_or_train(manifest, recipe, ws.runs / f"many-{name}", weights=ws.weights, store=ws.features, precision=ws.precision)
        for name, recipe in recipes.items()}
print(*(f"{name}: {run}" for name, run in runs.items()), sep="\n\n")

# %% [markdown]
# ## Judge
#
# Sensitivity and specificity ask about *the* positive class, and so does a threshold; with six classes there is none. What takes
# their place:
#
# | word | question it answers |
# |---|---|
# | accuracy | of all pictures, how many are named right? Guessing gets one of six now, not one of two |
# | balanced accuracy | the mean share found, class by class; a small class counts as much as a big one |
# | macro F1 | for each class, are its pictures found *and* is its name right when it is said? Then the mean over classes |
# | AUC, one against the rest | for each class: does a picture of it get a higher probability of it than another picture? Then the mean |

# %%
from vggnb.evaluate import evaluate, predict_split

reports = {name: evaluate(run, "test") for name, run in runs.items()}
print(reports["best"])

# %%
figures.metric_intervals(reports)

# %% [markdown]
# Look where the dotted lines are: guessing gets 0.17 right here and got 0.50 with two classes. An accuracy
# means something only beside its guess. And an AUC of 0.9 or more can stand beside a moderate accuracy: to rank one class
# against the rest is an easier question than to choose one of six.
#
# > **Measured on photographs**: 330 pictures of waste of six kinds (TrashNet), 96 pixels, split as here, 66 for
# > testing. The article's recipe, 50 epochs: accuracy 0.65 (0.53 to 0.76), macro F1 0.65 (0.53 to 0.75), AUC 0.86 (0.79 to 0.90). Ours:
# > 0.71 (0.59 to 0.81), 0.71 (0.60 to 0.81) and 0.93 (0.88 to 0.96). All three pairs of intervals overlap, that of the AUC only just: a direction, no proof.
# > The pairs that are confused most are metal and trash, and with our recipe paper and trash: *trash* is the class of everything
# > that has no class of its own.
#
# ## Who is taken for whom?

# %%
figures.confusion_matrix(reports["best"])

# %%
from vggnb.metrics import confused_pairs

for first, second, times in confused_pairs(reports["best"])[:4]:
    print(f"{first} and {second} are taken for each other {times} times")

# %% [markdown]
# One number for the whole hides this picture: the mistakes lie in pairs. If two classes are
# confused again and again, more epochs rarely help. More pictures of these two may, or sharper ones; or the honest
# answer that they should be one class.

# %%
figures.class_results(reports["best"])

# %% [markdown]
# *Recall*: of this class, how many are found. *Precision*: of those that got this name, how many are right. Look at how long the
# lines are: with ten test pictures of a class, one picture more or less is ten points. An order of the classes cannot be read
# off intervals that overlap.
#
# ## Trap: accuracy of one class against the rest
#
# Some tools print an "accuracy by class" that counts every picture which is rightly *not* given this name. Compare:

# %%
best_said = predict_split(runs["best"], "test")
named = best_said.probabilities.argmax(axis=1)
for k, name in enumerate(manifest.classes):
    against_rest, recall = np.mean((named == k) == (best_said.labels == k)), np.mean(named[best_said.labels == k] == k)
    print(f"{name:<12} 'accuracy' against the rest {against_rest:.2f}   found of this class {recall:.2f}")
print(f"a model that never says a certain class has {1 - 1 / len(manifest.classes):.2f} in the first column")

# %% [markdown]
# The first column is high for everybody: five of six pictures are not of the class anyway. Ask for recall and precision.
#
# ## Save, load, ask
#
# The bundle holds the class names in the order of the outputs. With six of them nobody guesses the order right.

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
# These are the four test pictures about which the model is least sure. Six probabilities tell more than a name: *between which
# two* it hesitates, and whether the truth comes second. The answers of the loaded files are those of the model that was
# judged:

# %%
again = [[answer.probabilities[name] for name in manifest.classes] for answer in answers]
places = [best_said.paths.index(one.path) for one in hard]
print("the same to five digits:", np.abs(again - best_said.probabilities[places]).max() < 1e-5)

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many pictures does it take? Draw only 20 of each class, train our recipe on them into a folder of its own, and compare the
# interval of macro F1 with the one above.
#
# <details><summary>Show a solution</summary>
#
# ```python
# few = assign_splits(take_census(textures(ws.home / "textures-20", each=20), progress=False))
# few_run = open_or_train(few, best, ws.runs / "many-few", weights=ws.weights, store=ws.features, precision=ws.precision)
# print(reports["best"].metrics["macro_f1"], evaluate(few_run, "test").metrics["macro_f1"])
# ```
#
# With four test pictures of each class the interval is so wide that it hardly excludes anything; and with 13 training pictures
# of each class instead of 32 the model itself is worse, too.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You took a folder of six classes from files to answers without changing a line for the number of classes, saw which of the article's
# changes is missing and which is not needed, read a matrix of six classes and its most confused pair, know three numbers for
# many classes and one that flatters, and read answers of six probabilities.
#
# Next: [12. Past one machine: the same features from a cluster](12_past_one_machine.ipynb)
