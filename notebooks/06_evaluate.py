# %% [markdown]
# # 6. Evaluate: the test images, once
#
# After this page you can
#
# - evaluate a model on images that were not used for any decision,
# - read each metric with its 95 % interval and beside a baseline,
# - say whether the difference between two models is significant,
# - choose a decision threshold on validation, and check whether probabilities are calibrated,
# - look at the mistakes, find labels to check, and write a report.
#
# **Article step** 20. **Reads** the runs of page 5, or trains them first. **Writes** predictions, a report and lists of
# labels into the runs. **Takes** 30 seconds in quick on two CPU cores; in full about 3 minutes for 660 test images,
# less on a GPU.

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
from vggnb.train import open_or_train

recipes = {name: Recipe.named(name).with_(image_size=ws.image_size) for name in ("article", "best")}
manifest = open_manifest(ws, recipes["best"])
runs = {name: open_or_train(manifest, recipe, ws.runs / name, **ws.training) for name, recipe in recipes.items()}
two_classes = len(manifest.classes) == 2
print("classes:", *manifest.classes[:10])

# %% [markdown]
# ## Step 20: one number, as in the article
#
# Keras computes the loss and the accuracy of the article's model on the test images:

# %%
from vggnb.generators import make_dataset

test_ds = make_dataset(manifest, "test", recipes["article"])
model = runs["article"].classifier()
model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
loss, accuracy = model.evaluate(test_ds, verbose=0)
print(f"test loss {loss:.2f}, test accuracy {accuracy:.2f}")

# %% [markdown]
# The article ends here. One number shows neither how uncertain it is nor which mistakes the model makes.
#
# ## A report
#
# Each value has a **95 % interval**, since other test images would give another value: of 100 such intervals, about 95
# contain the true value.

# %%
from vggnb.evaluate import evaluate, predict_split

reports = {name: evaluate(run, "test") for name, run in runs.items()}
reports["article"]

# %%
reports["best"]

# %% [markdown]
# | metric | what it measures |
# |---|---|
# | accuracy | share of images predicted correctly |
# | recall, sensitivity | share of a class that is found; *sensitivity* is that of the **positive** class |
# | specificity | the same for the other, **negative** class |
# | balanced accuracy | mean recall of the classes |
# | precision, predictive value | how often the prediction of a class is right |
# | F1, macro F1 | harmonic mean of precision and recall; its mean over the classes |
# | AUC | how often an image of the class gets a higher probability for it than an image of another class; guessing: 0.5 |
# | average precision | mean precision as the threshold falls |
# | calibration error | mean distance between confidence and accuracy; 0 is best |
# | Brier score | mean squared error of the probabilities; 0 is best |
#
# With two classes, the positive one is the last in alphabetical order.

# %%
from vggnb import figures

figures.metric_intervals(reports)

# %% [markdown]
# Always predicting the most frequent class is the **baseline**. It can exceed both models in one metric: with two
# classes, never predicting the positive one gives specificity 1, but sensitivity 0. Read these two together.
#
# ## Is the difference significant?
#
# Both models predicted the *same* images, so `compare` gives an interval for the difference itself. If it contains 0,
# the difference is **not significant**.

# %%
from vggnb.evaluate import compare

comparison = compare(runs["article"], runs["best"])
figures.differences(comparison, names=("article", "best"))

# %%
print("accuracy:", comparison.verdict("accuracy"), "(first: article, second: best)")

# %% [markdown]
# To tell an accuracy of 85 % from one of 80 %, you need about a thousand test images.
#
# ## Which mistakes?

# %%
figures.confusion_matrix(reports["best"])

# %% [markdown]
# ## Choose a decision threshold
#
# With two classes, the positive one is predicted if its probability is at least 0.5. If a miss costs more than a false
# alarm, lower this **threshold**. The ROC curve shows every trade-off. (With more classes there is no threshold; the
# figure shows each class.)

# %%
predictions = {name: predict_split(run, "test") for name, run in runs.items()}
scored = {name: each.binary() for name, each in predictions.items()}
figures.roc_curve(scored) if two_classes else figures.class_results(reports["best"])

# %% [markdown]
# Suppose that nine of ten positives should be found. The threshold is chosen on *validation* and checked on test:

# %%
if two_classes:
    chosen = evaluate(runs["best"], "test", sensitivity=0.9, prevalence=0.05)
    print(f"threshold {chosen.threshold:.2f} instead of 0.50")
    print("on validation: sensitivity", chosen.operating_point.sensitivity)
    print("on test:       sensitivity", chosen.metrics["sensitivity"])
    print("               specificity", chosen.metrics["specificity"])
    print("if 5 of 100 are positive, a positive prediction is right with", chosen.metrics["ppv"])
else:
    print("A decision threshold is for two classes.")

# %%
figures.threshold_curves(*scored["best"], threshold=chosen.threshold) if two_classes else None

# %% [markdown]
# Where positives are rare (low **prevalence**), most alarms are false, even those of a good model.
#
# Move the threshold on validation; here a miss costs as much as ten false alarms:

# %%
from vggnb.widgets import threshold_explorer

threshold_explorer(predict_split(runs["best"], "validation"), manifest.classes) if two_classes else None

# %% [markdown]
# ## Are the probabilities calibrated?
#
# **Calibrated** means: of the predictions with probability 0.9, nine of ten are right. **Temperature scaling** divides
# the numbers before the softmax by one number, fitted on validation; a number above 1 reduces over-confidence. It has
# already been applied.

# %%
calibration = runs["best"].calibration()
print(calibration)
before = predictions["best"].uncalibrated(calibration.temperature)
figures.reliability_diagram({"before": before, "calibrated": predictions["best"]})

# %% [markdown]
# With few images, even a perfectly calibrated model would not lie exactly on the diagonal.
#
# ## Look at the mistakes
#
# What do they have in common?

# %%
figures.prediction_gallery(predictions["best"], manifest)

# %% [markdown]
# A confident mistake may be due to a wrong label. This table, which a spreadsheet can open, lists the most confident
# mistakes on *validation*:

# %%
from vggnb.metrics import relabel_list

labels_to_check = relabel_list(predict_split(runs["best"], "validation"), manifest.classes)
print(*labels_to_check.decode().splitlines()[:4], sep="\n")

# %% [markdown]
# ## Trap 1: the shuffled generator
#
# > **In the article** the test generator shuffles. A confusion matrix then compares `predict`, in shuffled order, with
# > `generator.classes`, in folder order, and looks random.

# %%
from sklearn.metrics import accuracy_score

shuffled_ds = make_dataset(manifest, "test", recipes["article"], training=True)
shuffled = model.predict(shuffled_ds, verbose=0).argmax(axis=1)
in_folder_order = [row.label for row in manifest.of("test")]
print(f"true accuracy {accuracy:.2f}; compared in the wrong order {accuracy_score(in_folder_order, shuffled):.2f}")

# %% [markdown]
# ## Trap 2: choosing by the test score
#
# > **In the article** epochs are added until the *test* accuracy is 85 %. Each such decision makes the score too high.
#
# Simulate 20 models, each correct in 75 % of all cases; test each on 80 images, and report the best:

# %%
import numpy as np

scores = np.random.default_rng(0).binomial(80, 0.75, size=(10_000, 20)) / 80
print(f"true accuracy 0.75; the best of 20 on 80 test images shows {scores.max(axis=1).mean():.2f} on average")

# %% [markdown]
# ## All of it on one page
#
# `write_report` puts everything into one HTML file, with a *model card* beside it, in the folder of the run.

# %%
from vggnb.report import write_report

page, _ = write_report(runs["best"])
print(*sorted(path.name for path in page.parent.glob("report*")), sep="\n")

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# 1. From `reports["best"].confusion` (rows: true classes): how many test images are predicted wrongly?
# 2. What is the recall of the first class?
#
# <details><summary>Show a solution</summary>
#
# ```python
# wrong = reports["best"].confusion.sum() - reports["best"].confusion.trace()
# recall = reports["best"].confusion[0, 0] / reports["best"].confusion[0].sum()
# ```
#
# With two classes, this is the specificity: the first class is the negative one.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

counts = reports["best"].confusion
check = checks(
    globals(),
    wrong=lambda answer: answer == counts.sum() - counts.trace()
    or ("These are the right ones." if answer == counts.trace() else "The right predictions are on the diagonal."),
    recall=lambda answer: abs(answer - counts[0, 0] / counts[0].sum()) < 0.006
    or ("That is the precision." if abs(answer - counts[0, 0] / counts[:, 0].sum()) < 0.006 else "Divide by a row."),
)

# %%
wrong = ...
check(1)

# %%
recall = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You evaluated two models with intervals and a baseline, compared them, chose a threshold, checked the calibration,
# looked at the mistakes, wrote a report, and know two traps.
#
# Next: [7. Save: files that give the same predictions](07_save.ipynb)
