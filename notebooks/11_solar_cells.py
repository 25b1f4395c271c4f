# %% [markdown]
# # 11. Solar cells: a real case
#
# After this page you can
#
# - take a real, published dataset from files to a model,
# - explain why accuracy misleads on an imbalanced dataset,
# - choose a decision threshold if a missed defect is expensive,
# - compare your result with a published one, and say what the comparison cannot show.
#
# **Beyond the article.** **Reads** 2,624 images from the PyPI package `elpv-dataset` (91 MB, installed below).
# **Writes** a table and two runs under `<home>`. **Takes** about a minute in quick, with 400 of the images, on two CPU
# cores. In full, with all images of 224 pixels, use a GPU.

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
# ## The images
#
# Electroluminescence shows where a solar cell does not conduct: cracks and broken contact lines are dark. The ELPV
# dataset (Deitsch and others) has 2,624 images of cells from 44 modules. This cell installs the images and no other
# package:

# %%
import importlib, importlib.util, subprocess, sys

if not importlib.util.find_spec("elpv_dataset"):
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "elpv-dataset==1.0.0.post1"])
    importlib.invalidate_caches()

# %% [markdown]
# The images are licensed CC BY-NC-SA 4.0: share them under the same licence, credit the authors, and do not use them
# commercially. That is why the saved copy of this page shows none of them. Run the page to see them.
#
# In quick, a part of 400 images is drawn, with the same shares of classes and cell types. A quarter is used for
# testing:

# %%
from vggnb.census import open_manifest
from vggnb.datasets import solar_cells
from vggnb.paths import open_workspace
from vggnb.recipe import Recipe

most = 400 if ws.profile == "quick" else None
cells = open_workspace(dataset=solar_cells(ws.home / "solar-cells", most=most))
best = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(cells, best)
manifest

# %% [markdown]
# Experts stated for each cell how sure they were of a defect: 0, 1/3, 2/3 or 1. As in most published work, a cell
# counts as defective if this value is at least 0.5.

# %% tags=["nbval-ignore-output"]
from vggnb import figures

figures.images(manifest, manifest.of("train")[:: len(manifest.of("train")) // 11][:12])

# %% [markdown]
# ## Train
#
# The article's recipe and ours, each in one call:

# %%
from vggnb.train import open_or_train

recipes = {"article": Recipe.article().with_(image_size=ws.image_size), "best": best}
runs = {
    name: open_or_train(manifest, recipe, cells.runs / name, **cells.training)
    for name, recipe in recipes.items()
}
print(runs["best"])

# %% [markdown]
# ## Imbalanced classes: accuracy alone misleads
#
# Most of the cells are functional. Compare the accuracy with the dotted line, which shows the accuracy of always
# predicting *functional*, and then look at the sensitivity, the share of the defective cells that are found:

# %%
from vggnb.evaluate import evaluate

options = {"positive": "defective", "progress": False}
reports = {name: evaluate(run, **options) for name, run in runs.items()}
figures.metric_intervals(reports)

# %%
figures.confusion_matrix(reports["best"])

# %% [markdown]
# A model that never finds a defect has an accuracy of 0.69. Its balanced accuracy and its AUC are 0.5, so they show what
# accuracy hides.
#
# ## Beside the published result
#
# The authors report an accuracy of 82.44 % for an SVM on hand-made features and 88.42 % for a VGG-19 fine-tuned on a GPU
# (arXiv 1807.02894). The table adds the results of our recipes on all images:

# %%
from vggnb.datasets import full_results

full_results()

# %% [markdown]
# The authors used another split, so the rows cannot show which method is better. The fourth column is the accuracy without
# test images that have a near-duplicate in train. If it is lower, the leak made the accuracy too high.
#
# ## Near-duplicates
#
# Some cells were imaged twice, and neighbouring wafers of one ingot look alike. In the full dataset the census finds
# 776 pairs of near-duplicates; a random split puts 370 of them into both train and test. In the part used here, how
# many test images have a near-duplicate in train?

# %%
leaking, test = manifest.leaking("test"), manifest.of("test")
print(f"{len(leaking)} of {len(test)} test images have a near-duplicate in train.")
without = reports["best"].without_leaks or reports["best"]
print(f"Accuracy on all test images: {reports['best'].metrics['accuracy']}")
print(f"Accuracy without these:      {without.metrics['accuracy']}")

# %% [markdown]
# A split by module would avoid this leak, but the dataset does not state the module of a cell.
#
# ## Are the probabilities calibrated?
#
# The cost rule below needs calibrated probabilities. Compare the points with the diagonal:

# %%
from vggnb.evaluate import predict_split

predictions = predict_split(runs["best"], "test")
figures.reliability_diagram(predictions)

# %% [markdown]
# With few images for each point, even perfectly calibrated probabilities would not lie exactly on the diagonal.
#
# ## If a missed defect is expensive
#
# Suppose a missed defect costs ten times as much as a functional cell that is inspected again. The threshold for this is
# chosen on validation, and then evaluated on the test images:

# %%
report = evaluate(runs["best"], cost_ratio=10, **options)
print(f"Defective from a probability of {report.threshold:.2f} on.")
for name in ("sensitivity", "specificity", "accuracy"):
    print(f"{name}: {reports['best'].metrics[name]} at 0.5, now {report.metrics[name]}")

# %% [markdown]
# More defects are found, and more functional cells are inspected unnecessarily. If misses are that expensive, this is
# the better decision even if accuracy falls.
#
# ## Where is the evidence?
#
# Grad-CAM on the defective test cell with the highest probability. Is the heat on the broken, dark parts?

# %% tags=["nbval-ignore-output"]
from vggnb.explain import grad_cam
from vggnb.generators import read_row

k = manifest.classes.index("defective")
defects = [row for row in test if row.label == k]
probability = dict(zip(predictions.paths, predictions.probabilities[:, k]))
image = read_row(manifest, max(defects, key=lambda row: probability[row.path]), best)
model = runs["best"].classifier()
layers = ("block3_conv3", "block4_conv3", "block5_conv3")
maps = {layer: grad_cam(model, image, class_index=k, layer=layer) for layer in layers}
figures.heatmap_overlay(image, maps)

# %% [markdown]
# ## What cannot be known
#
# - **Other modules.** Cells of one module are probably in both train and test. The score for a module that the model has
#   never seen is likely to be lower.
# - **Other cameras.** All images were taken with one set-up.
# - **The labels.** Experts were unsure about 15 % of the cells. No model can agree with them completely.
#
# In a terminal: `vggnb run solar-cells`.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# What accuracy does a model have on these test images if it always predicts *functional*?
#
# <details><summary>Show a solution</summary>
#
# ```python
# baseline = sum(row.class_name == "functional" for row in test) / len(test)
# ```
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
import numpy as np
from vggnb.exercises import checks

check = checks(
    globals(),
    baseline=lambda answer: abs(answer - np.mean([row.class_name == "functional" for row in test])) < 0.006
    or ("Give a share between 0 and 1." if answer > 1 else "Count the functional test cells."),
)

# %%
baseline = ...
check(1)

# %% [markdown]
# ## What you can do now
#
# You trained on a published dataset, read its accuracy beside the baseline and beside a published result, chose a
# threshold for expensive misses, and know what this dataset cannot show.
#
# Next: [12. Beyond one machine: the same features from a cluster](12_beyond_one_machine.ipynb)
