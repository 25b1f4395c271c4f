# %% [markdown]
# # 8. Predict: your own photo
#
# After this page you can
#
# - predict the class of an image, or of a whole folder, as a table,
# - interpret a probability, and recognise out-of-distribution images,
# - see which part of an image the prediction depends on,
# - upload your own photo, and share the model as a web page.
#
# **Beyond the article.** **Reads** the bundle of page 7 (or makes it now). **Writes** a small folder of images, one of
# them damaged on purpose, and a web page of 40 MB. **Takes** 30 seconds, quick and full alike, on two CPU cores.

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
from vggnb.save import open_or_save
from vggnb.train import open_or_train

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)
run = open_or_train(manifest, recipe, ws.runs / "best", **ws.training)
bundle = open_or_save(run)
print(bundle)

# %% [markdown]
# ## Four images
#
# The bundle prepares images exactly as in training. Here are four of the test images. Compare the longest bar with the
# true class:

# %%
from vggnb import figures
from vggnb.predict import predict_files

test = manifest.of("test")
rows = [test[len(test) * k // 8] for k in (0, 2, 4, 7)]
answers = predict_files(bundle, [manifest.dataset / row.path for row in rows])
figures.probability_bars(answers, truths=[row.class_name for row in rows])

# %% [markdown]
# ## What a probability means
#
# Of 100 images with a predicted probability of 0.6, about 60 should belong to the predicted class (page 6). A single
# prediction can be confident and wrong. Also, the model has no class for *none of these*: it assigns one of its classes
# to every image.
#
# ## An out-of-distribution image
#
# An image is flagged as *out-of-distribution* if an unusual share of its features lies outside their ranges in
# training. Look at the probability for this portrait, and check whether it is flagged:

# %%
import shutil
from matplotlib.cbook import get_sample_data

album = ws.home / "album"
album.mkdir(exist_ok=True, parents=True)
shutil.copy(get_sample_data("grace_hopper.jpg", asfileobj=False), album / "portrait.jpg")
print(bundle.ranges)
figures.predictions(predict_files(bundle, album / "portrait.jpg"))

# %% [markdown]
# The warning is a hint. About 2 % of images like those in training are flagged, too. If the training images are varied,
# the ranges are wide: a model trained on photographs of waste flagged only a third of all skin photographs.
#
# ## A folder with a damaged file
#
# A file that cannot be read gets a row with the reason:

# %% tags=["nbval-ignore-output"]
(album / "broken.jpg").write_bytes(b"<html>Not found</html>")
for row in rows:
    shutil.copy(manifest.dataset / row.path, album)
predict_files(bundle, album)

# %% [markdown]
# ## Which part of the image matters?
#
# **Grad-CAM** (Selvaraju and others 2017) shows where the last block of VGG-16 found evidence for a class. The map is
# coarse: 6 x 6 places for an image of 96 pixels, 14 x 14 for one of 224.

# %%
from vggnb.explain import class_maps
from vggnb.generators import read_row

image, predicted = read_row(manifest, rows[-1], recipe), answers[-1].class_name
maps = class_maps(bundle.model, image, bundle.classes, names=[predicted])
figures.heatmap_overlay(image, maps)

# %% [markdown]
# The cross marks the hottest place; the line encloses everything at least half as hot. If the background is hot in
# many images, the model may have learned the background. Page 10 tests such maps.
#
# ## Your own photo
#
# Choose one or more images. For each you see the probabilities and a heat map, or the reason why there is no
# prediction. The images are not stored.

# %%
from vggnb.widgets import try_your_own

try_your_own(bundle)

# %% [markdown]
# ## Share it
#
# This writes a web page that runs the model in any browser, also on a phone. It works offline, and no image leaves the
# device. The page's model is first compared with yours:

# %% tags=["nbval-ignore-output"]
from vggnb.share import share_page
from vggnb.storage import VggnbError

try:
    print(share_page(run.folder, ws.home / "web-page", single_file=True, progress=False))
except VggnbError as error:
    print(error)

# %% [markdown]
# ## Without a notebook
#
# In a terminal, with the folder of the bundle in place of `BUNDLE` (in a Colab cell, put `!` in front):
#
# ```
# vggnb predict BUNDLE photo.jpg holiday_photos/
# vggnb predict BUNDLE holiday_photos/ --csv > answers.csv
# vggnb predict BUNDLE photo.jpg --engine onnxruntime
# vggnb predict BUNDLE photo.jpg --threshold 0.3
# ```
#
# `--engine onnxruntime` starts several times faster; it needs the ONNX file of page 7. `--threshold` is for two classes:
# the positive class is predicted from this probability on.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# 1. Predict the first 40 test images. How many of them are flagged as out-of-distribution? (`.out_of_distribution`)
# 2. Train on six classes. `textures(ws.home / "textures")` generates a folder of them. Save a bundle and predict its
#    test images. Which class do the mistakes on `grid` belong to?
#
# <details><summary>Show a solution</summary>
#
# ```python
# answers = predict_files(bundle, [manifest.dataset / row.path for row in test[:40]])
# flagged = sum(bool(answer.out_of_distribution) for answer in answers)
# ```
#
# ```python
# from vggnb.census import assign_splits, take_census
# from vggnb.datasets import textures
#
# six = assign_splits(take_census(textures(ws.home / "textures"), progress=False))
# six_run = open_or_train(six, recipe, ws.runs / "textures", **ws.training)
# six_bundle = open_or_save(six_run)
# rows = [row for row in six.of("test") if row.class_name == "grid"]
# answers = predict_files(six_bundle, [six.dataset / row.path for row in rows])
# print([answer.class_name for answer in answers])
# confused_with = "bricks"
# ```
#
# The bricks are a grid with slightly shifted rows. Nothing in the code depends on the number of classes.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    flagged=lambda answer: answer == sum(
        one.out_of_distribution is True
        for one in predict_files(bundle, [manifest.dataset / row.path for row in test[:40]])
    ) or "Count the predictions of test[:40] whose out_of_distribution is True.",
    confused_with=lambda answer: answer == "bricks" or "Print the classes predicted for grid.",
)

# %%
flagged = ...
check(1)

# %%
confused_with = ...
check(2)

# %% [markdown]
# ## What you can do now
#
# You predicted images and a folder, know what a probability means, saw which part of an image mattered, tried your own
# photo, and shared the model.
#
# Next: [9. Improve: what fine-tuning, augmentation and the learning rate gain](09_improve.ipynb)
