# %% [markdown]
# # 6. Evaluate: the test images, once
#
# After this page you can
#
# - evaluate a model on images that no decision has used,
# - read AUC, sensitivity and specificity, each with a 95 % interval,
# - say whether a difference between two models is significant,
# - choose a decision threshold on validation, and check whether probabilities are calibrated,
# - write a one-page report, and a list of labels to check,
# - avoid two traps: the shuffled generator, and choosing by the test score.
#
# **Article step** 20. **Reads** the runs of page 5 (or trains them first, in about a minute in quick). **Writes**
# predictions, a report and lists of labels into the runs. **Takes** 35 seconds in quick on two CPU cores; in full about
# 5 minutes for 660 test images.

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
runs = {name: open_or_train(manifest, recipe, ws.runs / name, weights=ws.weights, store=ws.features, precision=ws.precision)
        for name, recipe in recipes.items()}
print(*(f"{name}: {run}" for name, run in runs.items()), sep="\n\n")

# %% [markdown]
# ## Step 20: one number, as in the article
#
# `evaluate` gives the loss and the accuracy of the whole model on the test images.
#
# (This page is for two classes. With three or more, skip the cells from the ROC curve to the slider, and the exercise;
# see page 11.)

# %%
from vggnb.generators import make_dataset

model = runs["article"].classifier()
model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
loss, accuracy = model.evaluate(make_dataset(manifest, "test", recipes["article"]), verbose=0)
print(f"test loss {loss:.2f}, test accuracy {accuracy:.2f}")

# %% [markdown]
# The article ends here. One number shows neither how uncertain the result is nor which mistakes there are.
#
# ## A report
#
# Each value has a **95 % interval**: over many test sets of the same kind, about 95 of 100 such intervals would contain
# the true value. The article's head was trained for 5 epochs; ours was solved exactly.

# %%
from vggnb.evaluate import evaluate, predict_split

reports = {name: evaluate(run, "test") for name, run in runs.items()}
reports["article"]

# %%
reports["best"]

# %% [markdown]
# | metric | what it measures |
# |---|---|
# | accuracy | share of images predicted correctly; compare with the column *most frequent class* |
# | sensitivity | share of the positive class that is found |
# | specificity | share of the other class that is predicted as such |
# | balanced accuracy | the mean of these two; a rare class counts as much as a frequent one |
# | AUC | for one image of each class, how often the positive one gets the higher probability; guessing gets 0.5 |
# | average precision | mean precision as the threshold falls; guessing gets the share of positives |
# | predictive values | how often a positive or a negative prediction is right; this depends on the prevalence |
# | calibration error | mean distance between confidence and accuracy; 0 is best |
# | Brier score | mean squared error of the probabilities; 0 is best |
#
# The notes below the report state what cannot be concluded from so few images.

# %%
from vggnb import figures

figures.metric_intervals(reports)

# %% [markdown]
# The intervals overlap, but both models saw the *same* images. `compare` resamples the same images for both and gives an
# interval for the difference:

# %%
from vggnb.evaluate import compare

comparison = compare(runs["article"], runs["best"])
comparison

# %%
figures.differences(comparison, names=("article", "best"))

# %% [markdown]
# If the interval contains 0, the difference is not significant. On the sample no difference is. To tell 85 % from 80 %
# you need about a thousand images.
#
# ## Which mistakes?

# %%
predictions = {name: predict_split(run, "test") for name, run in runs.items()}
best = predictions["best"]
figures.confusion_matrix(reports["best"])

# %% [markdown]
# Rows are the true classes, columns the predicted ones. A missed malignant lesion is worse than a needless visit. The
# decision threshold (here 0.5) trades one mistake for the other; the ROC curve shows every trade-off.

# %%
figures.roc_curve({name: (each.labels == 1, each.probabilities[:, 1]) for name, each in predictions.items()})

# %% [markdown]
# ## Choose a decision threshold
#
# Suppose that at least nine of ten malignant lesions should be found. The threshold is chosen on *validation* (here the
# out-of-fold predictions); compare the sensitivity there with that on test.

# %%
chosen = evaluate(runs["best"], "test", sensitivity=0.9, prevalence=0.05)
print(chosen.operating_point)
print("on test: sensitivity", chosen.metrics["sensitivity"], " specificity", chosen.metrics["specificity"])
print("if 5 of 100 have it, a yes is right with", chosen.metrics["ppv"])

# %%
figures.threshold_curves(best.labels == 1, best.probabilities[:, 1], threshold=chosen.threshold)

# %% [markdown]
# The printed predictive value is low because few are positive, so most alarms are false. The balanced test folder hides
# this.
#
# Now move the threshold. Then make a miss cost ten false alarms and find the lowest cost. The predictions are those of
# *validation*, because choosing on test is trap 2 below. (A saved page shows one sentence instead of the control.)

# %%
from vggnb.widgets import threshold_explorer

threshold_explorer(predict_split(runs["best"], "validation"), manifest.classes)

# %% [markdown]
# ## Are the probabilities calibrated?
#
# Of the images predicted with probability 0.9, nine of ten predictions should be right. **Temperature scaling** divides
# the logits by one number, fitted on validation: above 1 it makes the model less confident, below 1 more. It is already
# applied, and never changes the most probable class.

# %%
calibration = runs["best"].calibration()
print(calibration)
before = best.uncalibrated(calibration.temperature)
figures.reliability_diagram({"before": before, "calibrated": best})

# %% [markdown]
# The bars at the bottom show how many images each point stands for. Even a perfectly calibrated model would not lie
# exactly on the diagonal; the report states the error to expect by chance. On the sample the temperature is close to 1,
# so it changes little.
#
# ## Look at the mistakes
#
# Look for what they have in common. To improve a recipe, look at the mistakes on validation instead: otherwise you decide
# on test.

# %%
figures.prediction_gallery(best, manifest)

# %% [markdown]
# A confident mistake may be a wrong label. This lists the mistakes on *validation* for a spreadsheet; it changes
# nothing.

# %%
from vggnb.metrics import relabel_list

labels_to_check = relabel_list(predict_split(runs["best"], "validation"), manifest.classes)
print(*labels_to_check.decode().splitlines()[:4], sep="\n")

# %% [markdown]
# ## Trap 1: the shuffled generator
#
# > **In the article** the test generator is made without `shuffle=False`, and the default is to shuffle. `evaluate` is not
# > affected. But a confusion matrix made from `predict`, in shuffled order, and `generator.classes`, in folder order, looks
# > like chance.

# %%
from sklearn.metrics import accuracy_score

shuffled_ds = make_dataset(manifest, "test", recipes["article"], training=True)
shuffled = model.predict(shuffled_ds, verbose=0).argmax(axis=1)
in_folder_order = [row.label for row in manifest.of("test")]
print(f"true accuracy {accuracy:.2f}; compared in the wrong order {accuracy_score(in_folder_order, shuffled):.2f}")

# %% [markdown]
# Here predicted and true classes are stored together, one row for each image, and every metric and figure is made from
# that file.
#
# ## Trap 2: choosing by the test score
#
# > **In the article**, epochs are raised until the *test* accuracy is 85 %. Every decision based on the test score makes
# > that score too high.
#
# To see by how much, simulate 20 models that are each right in 75 % of cases, test each on 80 images, and report the
# best:

# %%
import numpy as np

scores = np.random.default_rng(0).binomial(80, 0.75, size=(10_000, 20)) / 80
print(f"true accuracy 0.75; the best of 20 on 80 test pictures shows {scores.max(axis=1).mean():.2f} on average")

# %% [markdown]
# The best score is nine points too high. Decide on validation and use test once.
#
# ## All of it on one page
#
# `write_report` puts every figure into one HTML file that works offline, with a *model card* beside it. In Colab,
# download `report.html` from the run's folder on Drive, such as `vggnb/runs/dataset/best`, and open it in your browser.
# `vggnb report RUN` does the same.

# %%
from vggnb.report import write_report

page, report = write_report(runs["best"])
print(page.name, "is smaller than 5 MB:", page.stat().st_size < 5_000_000)
print(*sorted(path.name for path in page.parent.glob("report*")), sep="\n")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# By default the positive class is the alphabetically last. Evaluate the best run again with `positive="benign"`. Which
# lines change, and why?
#
# <details><summary>Show a solution</summary>
#
# ```python
# print(evaluate(runs["best"], "test", positive=manifest.classes[0]))
# ```
#
# Sensitivity and specificity trade places, and so do the two predictive values; average precision is now about the other
# class. Accuracy, balanced accuracy, AUC, calibration error and Brier score do not depend on the positive class.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You evaluated two models with intervals and a baseline, tested their difference, chose a threshold on validation, checked
# the calibration, looked at the mistakes and wrote a report, and you know two traps. None of this makes the model a
# diagnostic device.
#
# Next: [7. Save: files that come back the same](07_save.ipynb)
