# %% [markdown]
# # 6. Evaluate: the test pictures, once
#
# After this page you can
#
# - evaluate a model on pictures that no decision has seen,
# - read more than accuracy: AUC, sensitivity, specificity, each with a 95 % interval,
# - tell a real difference between two models from luck,
# - choose a threshold on validation, and see whether probabilities keep their word,
# - write a report of one page, and a list of labels to look at again,
# - avoid two traps: the shuffled generator, and choosing by the test score.
#
# **Article step** 20. **Reads** the runs of page 5 (or trains them now, in about a minute, and says so). **Writes** what
# the models said, a report and a list of labels into the runs. **Takes** 35 seconds in quick on two CPU cores; in full about 5 minutes for 660 test pictures.

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
from vggnb.train import open_or_train

recipes = {name: Recipe.named(name).with_(image_size=ws.image_size) for name in ("article", "best")}
manifest = open_manifest(ws, recipes["best"])
runs = {name: open_or_train(manifest, recipe, ws.runs / name, weights=ws.weights, store=ws.features, precision=ws.precision)
        for name, recipe in recipes.items()}
print(*(f"{name}: {run}" for name, run in runs.items()), sep="\n\n")

# %% [markdown]
# ## Step 20: one number, as in the article
#
# The assembled model, raw pixels in and probabilities out, sees the test pictures for the first time. `evaluate` gives the
# loss and the accuracy.
#
# (This page is about two classes. With three or more, skip the cells from the ROC curve to the slider, and the exercise: they
# ask about *the* positive class, and there is none. Page 11 has what takes their place.)

# %%
from vggnb.generators import make_dataset

model = runs["article"].classifier()
model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
loss, accuracy = model.evaluate(make_dataset(manifest, "test", recipes["article"]), verbose=0)
print(f"test loss {loss:.2f}, test accuracy {accuracy:.2f}")

# %% [markdown]
# The article ends here. Is that good? Compared with what? Would other test pictures give the same? Which mistakes are in
# it? One number answers none of these.
#
# ## A report
#
# Each line is a value and its **95 % interval**: if you drew other test pictures of the same kind again and again, the
# interval is made so that it catches the true value 95 times of 100. (Article: 5 epochs, as it says; best: 50.)

# %%
from vggnb.evaluate import evaluate, predict_split

reports = {name: evaluate(run, "test") for name, run in runs.items()}
reports["article"]

# %%
reports["best"]

# %% [markdown]
# | word | question it answers |
# |---|---|
# | accuracy | of all pictures, how many are named right? Compare with the column *most frequent class* |
# | sensitivity | of the pictures of the positive class, how many are found? |
# | specificity | of the others, how many are left in peace? |
# | balanced accuracy | the mean of these two; a class with few pictures counts as much as a big one |
# | AUC | take one picture of each class: how often does the positive one get the higher probability? 0.5 is guessing |
# | average precision | as the threshold falls, how pure is what it calls positive? Guessing gets the share of positives |
# | PPV, NPV | how often is a "yes" right, how often a "no"? This depends on how many have it where you use the model |
# | ECE | by how much do the probabilities promise too much or too little? 0 is honest |
# | Brier | the mean square of how far the probabilities are off; 0 is best |
#
# Read the last lines of the report, too: they say what so few pictures *cannot* tell.

# %%
from vggnb import figures

figures.metric_intervals(reports)

# %% [markdown]
# The intervals overlap. But overlap is a rough sign only: both models saw the *same* pictures, and most of them are easy, or
# hard, for both. The sharper question is about the difference. The same pictures are drawn again for both models:

# %%
from vggnb.evaluate import compare

comparison = compare(runs["article"], runs["best"])
comparison

# %%
figures.differences(comparison, names=("article", "best"))

# %% [markdown]
# Where the interval holds 0, the difference is not significant. With 80 pictures an accuracy is uncertain by about 8 points either
# way; to tell 85 % from 80 % you need about a thousand.
#
# ## Which mistakes?

# %%
predictions = {name: predict_split(run, "test") for name, run in runs.items()}
best = predictions["best"]
figures.confusion_matrix(reports["best"])

# %% [markdown]
# Rows are what a picture is, columns what the model said. The two kinds of mistakes are rarely worth the same: a missed
# malignant lesion and a needless visit are not. Where the line between *benign* and *malignant* is drawn (here at
# probability 0.5) trades one for the other; the curve shows all the trades there are.

# %%
figures.roc_curve({name: (each.labels == 1, each.probabilities[:, 1]) for name, each in predictions.items()})

# %% [markdown]
# ## Where to draw the line
#
# Suppose that a missed malignant lesion is bad, and you want to find at least nine of ten. Which threshold does that? It is
# chosen on *validation*; the test pictures then show what it is really worth. Compare the sensitivity it promised with
# the one it has.

# %%
chosen = evaluate(runs["best"], "test", sensitivity=0.9, prevalence=0.05)
print(chosen.operating_point)
print("on test: sensitivity", chosen.metrics["sensitivity"], " specificity", chosen.metrics["specificity"])
print("if 5 of 100 have it, a yes is right with", chosen.metrics["ppv"])

# %%
figures.threshold_curves(best.labels == 1, best.probabilities[:, 1], threshold=chosen.threshold)

# %% [markdown]
# The 0.08 printed above the curves is low although the model is not bad: where few have it, most alarms are false. The half
# of positives in our test folder hides that.
#
# Try it: move the threshold and watch the four numbers of the matrix and the mark on the curve; then say that a miss costs
# as much as ten false alarms, and look for the threshold with the lowest cost. The pictures are those of *validation*:
# choosing on test would be trap 2 below. (On a page that is not running, one sentence stands in for the control.)

# %%
from vggnb.widgets import threshold_explorer

threshold_explorer(predict_split(runs["best"], "validation"), manifest.classes)

# %% [markdown]
# ## Do the probabilities keep their word?
#
# Of the pictures about which a model says "0.9", nine of ten should be right. One number, the *temperature*, makes a boastful
# model more modest (above 1) or a shy one bolder (below 1). It was fitted on validation when training ended, and every
# probability on these pages already has it. It never changes which class comes first.

# %%
calibration = runs["best"].calibration()
print(calibration)
before = best.uncalibrated(calibration.temperature)
figures.reliability_diagram({"before": before, "calibrated": best})

# %% [markdown]
# The small numbers under the axis are pictures: each mark stands for few. A wholly honest model would not lie on the dotted
# line either. The report says how far off it would be.
#
# ## Look at the mistakes
#
# Numbers do not tell what the model stumbles over. Look for what the wrong ones have in common, but change nothing because
# of it: that would be deciding on test. To improve a recipe, look at the mistakes on validation.

# %%
figures.prediction_gallery(best, manifest)

# %% [markdown]
# A sure "mistake" may be a wrong label. On *validation* such pictures are worth a second look; here is a list of them for a
# spreadsheet. It only proposes: nothing is deleted or changed.

# %%
from vggnb.metrics import relabel_list

labels_to_check = relabel_list(predict_split(runs["best"], "validation"), manifest.classes)
print(*labels_to_check.decode().splitlines()[:4], sep="\n")

# %% [markdown]
# ## Trap 1: the shuffled generator
#
# > **In the article** the test generator is made without `shuffle=False`, and shuffling is its default. `evaluate` does not
# > mind. But whoever goes on to make a confusion matrix compares `predict`, in shuffled order, with `generator.classes`, in
# > the order of the folder. The result looks like chance, and people then search the mistake in their model.

# %%
from sklearn.metrics import accuracy_score

shuffled_ds = make_dataset(manifest, "test", recipes["article"], training=True)
shuffled = model.predict(shuffled_ds, verbose=0).argmax(axis=1)
in_folder_order = [row.label for row in manifest.of("test")]
print(f"true accuracy {accuracy:.2f}; compared in the wrong order {accuracy_score(in_folder_order, shuffled):.2f}")

# %% [markdown]
# Here, what the model said and what is true are kept together, row by row, in one file of the run; accuracy, confusion
# matrix and curve are all made from it, so they cannot disagree.
#
# ## Trap 2: choosing by the test score
#
# > **In the article**, epochs are raised until the *test* accuracy is 85 %. Each look at the test score to decide something
# > makes that score too good. By how much? Imagine 20 models that are all right in exactly 75 of 100 cases, examine each
# > on 80 pictures, and report the best of the 20:

# %%
import numpy as np

scores = np.random.default_rng(0).binomial(80, 0.75, size=(10_000, 20)) / 80
print(f"true accuracy 0.75; the best of 20 on 80 test pictures shows {scores.max(axis=1).mean():.2f} on average")

# %% [markdown]
# Nine points out of nothing. So: decide on validation, look at test once, report what you see.
#
# ## All of it on one page
#
# One HTML file with every figure inside, which works without network, and beside it a *model card*: what a stranger must know
# before using the model. The page is `report.html` in the run's folder, here `ws.runs / "best"`. In Colab that is on your Drive, in
# `vggnb/runs/dataset/best` (for the sample, `vggnb/runs/sample/best`): download it and open it in your browser.
# `vggnb report RUN` does the same.

# %%
from vggnb.report import write_report

page, report = write_report(runs["best"])
print(page.name, "is smaller than 5 MB:", page.stat().st_size < 5_000_000)
print(*sorted(path.name for path in page.parent.glob("report*")), sep="\n")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# By default the positive class is the alphabetically last. Judge the best run again with `positive="benign"`. Which lines
# change, which do not, and why?
#
# <details><summary>Show a solution</summary>
#
# ```python
# print(evaluate(runs["best"], "test", positive=manifest.classes[0]))
# ```
#
# Sensitivity and specificity trade places, and so do PPV and NPV; average precision is about the other class now. Accuracy,
# balanced accuracy, AUC, ECE and Brier do not know which class is called positive.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You evaluated two models on pictures that no decision had seen, read each number with its interval and beside the baseline,
# saw when a difference may be luck, chose a threshold on validation, checked whether probabilities keep their word, looked
# at the mistakes, wrote it all on one page, and know two traps that make results look better or worse than they are. None
# of this makes it a diagnostic device.
#
# Next: [7. Save: files that come back the same](07_save.ipynb)
