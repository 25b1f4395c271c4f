# %% [markdown]
# # 8. Predict: your own photo
#
# After this page you can
#
# - open a saved bundle and predict the class of an image or of a whole folder, as a table,
# - interpret a probability, and recognise out-of-distribution images,
# - see which part of an image the prediction depends on,
# - upload your own photo and see its prediction.
#
# **Beyond the article.** **Reads** the bundle of page 7 (or makes it now). **Writes** a small folder of images, one of
# them damaged on purpose. **Takes** 10 seconds, quick and full alike, on two CPU cores.
#
# *This is not a diagnostic device. It was trained on drawings, or on a few hundred photographs. If a mole worries you,
# see a doctor.*

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
run = open_or_train(manifest, recipe, ws.runs / "best", weights=ws.weights, store=ws.features, precision=ws.precision)
bundle = open_or_save(run, run.folder / "bundle", name="Skin")
print(bundle)

# %% [markdown]
# ## Three images
#
# The bundle knows its class names and how to prepare an image. It decodes and resizes with the same code as in
# training. Page 6 has already evaluated the model on the test images; here three of them are only examples.

# %%
from vggnb.predict import predict_files

test = manifest.of("test")
rows = [test[len(test) * k // 8] for k in (0, 3, 6)]
answers = predict_files(bundle, [manifest.dataset / row.path for row in rows])
for row, answer in zip(rows, answers):
    print(f"{answer}   (it is {row.class_name})")

# %%
from vggnb import figures

figures.predictions(answers)

# %% [markdown]
# ## What a probability means
#
# Among 100 images with a predicted probability of 0.6, about 60 should belong to the predicted class. Page 6 measured
# how well this holds on average (ECE). A single prediction can be confident and wrong.
#
# A probability is meaningful only for images like those in training. The model has no class for *none of these*: it
# calls a cat benign or malignant, too.
#
# ## An out-of-distribution image
#
# The bundle also stores the lowest and the highest value of each feature in training. It flags an image as
# *out-of-distribution* when an unusual share of its features lies outside these ranges. The limit is set so that about
# 2 % of similar images are flagged.
#
# Here is the portrait that comes with matplotlib. Look at its probability and at the warning:

# %%
import shutil
from matplotlib.cbook import get_sample_data

album = ws.features.parent / "holiday"
album.mkdir(exist_ok=True)
shutil.copy(get_sample_data("grace_hopper.jpg", asfileobj=False), album / "portrait.jpg")
print(bundle.ranges)
print(predict_files(bundle, album / "portrait.jpg")[0])

# %%
figures.predictions(predict_files(bundle, [manifest.dataset / rows[0].path, album / "portrait.jpg"]))

# %% [markdown]
# The warning is a hint, not a guarantee. In a test, a model of skin photographs flagged all of 330 photographs of
# waste. A model of waste flagged only a third of the skin photographs: the more varied the training images, the fewer
# images are outside their range. An image that is not flagged can be predicted wrongly.
#
# ## A folder with a damaged file
#
# `predict_files` also takes a folder. A file that cannot be read gets a row with the reason; the others are predicted
# as usual. Any spreadsheet program opens the CSV:

# %% tags=["nbval-ignore-output"]
from vggnb.predict import to_csv

(album / "broken.jpg").write_bytes(b"<html>Not found</html>")
for row in rows:
    shutil.copy(manifest.dataset / row.path, album)
table = to_csv(predict_files(bundle, album), bundle.classes)
for line in table.replace(str(album), "holiday").splitlines():
    print(line)

# %% [markdown]
# ## Which part of the image counts?
#
# *Grad-CAM* (Selvaraju and others 2017) shows where the last block of VGG-16 found evidence for a class. Bright places
# count most. At 96 pixels this block has only 6 x 6 places, so the map is coarse.
#
# Use it to find errors in your data: if rulers, dark corners or bare skin are bright in many images, the model may have
# learned the camera instead of the lesions.

# %%
from vggnb.explain import grad_cam
from vggnb.images import read_image

path = manifest.dataset / rows[-1].path
image = read_image(path, size=recipe.image_size, resize=recipe.resize)
heat = grad_cam(bundle.model, image, class_index=bundle.classes.index(answers[-1].class_name))
figures.heatmap_overlay(image, {answers[-1].class_name: heat})

# %% [markdown]
# The cross marks the hottest place; the line encloses everything at least half as hot. On the sample's image the
# hottest place is a corner, not the lesion. One image is not enough to draw a conclusion; page 10 tests such maps.
#
# ## Your own photo
#
# Choose one or several images. Each gets its ranked classes and a heat map, or the reason why it has no prediction. The
# images stay in this session: they are neither stored nor sent anywhere else.

# %%
from vggnb.widgets import try_your_own

try_your_own(bundle)

# %% [markdown]
# ## Without a notebook
#
# The same from a terminal, for files, folders, or a list of names (in a Colab cell put `!` in front):
#
# ```
# vggnb predict FOLDER_OF_THE_BUNDLE photo.jpg holiday_photos/
# vggnb predict FOLDER_OF_THE_BUNDLE holiday_photos/ --csv > answers.csv
# find holiday_photos -type f -mtime -7 -print0 | vggnb predict FOLDER_OF_THE_BUNDLE - --json
# vggnb predict FOLDER_OF_THE_BUNDLE photo.jpg --engine onnxruntime
# vggnb predict FOLDER_OF_THE_BUNDLE photo.jpg --threshold 0.3
# ```
#
# `print(bundle.folder)` shows FOLDER_OF_THE_BUNDLE. In Colab it is
# `/content/drive/MyDrive/vggnb/runs/dataset/best/bundle` (for the sample, `sample` instead of `dataset`). With
# `--engine onnxruntime` the command runs without TensorFlow and starts several times faster; it needs the bundle's ONNX
# file (page 7).
#
# `--threshold` is for two classes: here the positive class is predicted from a probability of 0.3 on. After
# `vggnb evaluate RUN --sensitivity 0.9` the bundle contains the chosen decision threshold; `--threshold chosen` uses it.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Predict an image of noise. How high is the probability, and is the image flagged? Can you make an image without a
# lesion that is not flagged?
#
# <details><summary>Show a solution</summary>
#
# ```python
# import io
# import numpy as np
# from PIL import Image
# from vggnb.predict import predict_images
#
# noise = io.BytesIO()
# Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)).save(noise, "PNG")
# print(predict_images(bundle, [("noise", noise.getvalue())])[0])
#
# clouds = np.clip((224, 172, 150) + np.random.default_rng(0).normal(0, 30, (8, 8, 1)), 0, 255).astype(np.uint8)
# skin = io.BytesIO()
# Image.fromarray(clouds).resize((96, 96)).save(skin, "PNG")
# print(predict_images(bundle, [("clouds", skin.getvalue())])[0])
# ```
#
# The noise is flagged, however high its probability is. The soft clouds in skin colours show no lesion either, but are
# not flagged: their features lie within the ranges of training.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You opened a bundle, predicted images and a folder, know what a probability means and when it means nothing, saw which
# part of an image counted, and tried your own photo.
#
# Next: [9. Fine-tune: train the last layers, too](09_fine_tune.ipynb)
