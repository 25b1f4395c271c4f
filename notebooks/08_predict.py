# %% [markdown]
# # 8. Predict: your own photo
#
# After this page you can
#
# - open a saved bundle and let it name the class of any picture, or of a whole folder, as a table,
# - read a probability, know when not to believe it, and be warned of out-of-distribution images,
# - see which part of the picture decided,
# - try it with your own photo, here in the page.
#
# **Beyond the article.** **Reads** the bundle of page 7 (or makes it now, and says so). **Writes** a small folder of pictures, one of them broken, to show what happens.
# **Takes** 10 seconds, quick and full alike, on two CPU cores.
#
# *This is no diagnostic device. It was trained on drawings, or on a few hundred photographs; if a mole worries you, show
# it to a doctor.*

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
from vggnb.save import open_or_save
from vggnb.train import open_or_train

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)
run = open_or_train(manifest, recipe, ws.runs / "best", weights=ws.weights, store=ws.features, precision=ws.precision)
bundle = open_or_save(run, run.folder / "bundle", name="Skin")
print(bundle)

# %% [markdown]
# ## Three pictures
#
# The bundle knows its class names and how a picture must be prepared. It decodes and resizes with the very same code as in
# training, so it sees at work what it saw at school. Page 6 used up the test pictures for judging; here they only
# serve as examples.

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
# A probability of 0.6 *should* mean: of 100 pictures about which the model says 0.6, about 60 are what it says. Page 6
# measured how far that holds: the ECE is by how much it is off on average, and single answers can be sure and wrong. And
# it holds only for pictures like those it was trained on. For a picture of another kind the number means nothing: the model has no class for *I do
# not know*, and a cat is benign or malignant to it like anything else.
#
# ## A picture that is no lesion
#
# So the bundle also knows what its training pictures were like: of each of the features that enter the head, the lowest and
# the highest value. An image is *out-of-distribution* when more of its features lie outside than of almost all
# validation pictures (98 of 100). Here is the portrait that comes with matplotlib; look at what the probability says, and at
# the words behind it:

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
# The warning is a help and no proof. A model of real photographs of skin warned of 3 of its 120 test pictures, and of all
# 330 pictures of rubbish, though it was more than 0.9 sure of every second one of them. But a model of rubbish, which has
# seen so many different things, warned only of every third skin picture: the more varied the training data, the less
# there is that it can call out-of-distribution. And a picture of the right kind can be misjudged without any warning.
#
# ## A folder, with a broken file in it
#
# A folder stands for all files in it. A broken one is answered in its own row, and the others are answered all the same. As
# CSV, the answers open in any spreadsheet (a name that a spreadsheet would take for a formula gets an apostrophe):

# %% tags=["nbval-ignore-output"]
from vggnb.predict import to_csv

(album / "broken.jpg").write_bytes(b"<html>Not found</html>")
for row in rows:
    shutil.copy(manifest.dataset / row.path, album)
table = to_csv(predict_files(bundle, album), bundle.classes)
for line in table.replace(str(album), "holiday").splitlines():
    print(line)

# %% [markdown]
# ## What did it look at?
#
# *Grad-CAM* (Selvaraju and others 2017) asks: where in the picture would a little more of what the last block saw have
# raised the score of this class? Bright places count most. It is a check for nonsense rather than an explanation: if
# the ruler, the dark corners or bare skin light up again and again, suspect that the model has learnt your camera and not your lesions. At 96 pixels the
# last block has only 6 x 6 places, so the map cannot be sharper than that.

# %%
from vggnb.explain import grad_cam
from vggnb.images import read_image

path = manifest.dataset / rows[-1].path
image = read_image(path, size=recipe.image_size, resize=recipe.resize)
heat = grad_cam(bundle.model, image, class_index=bundle.classes.index(answers[-1].class_name))
figures.heatmap_overlay(image, {answers[-1].class_name: heat})

# %% [markdown]
# The cross marks the hottest place, the line encloses what is at least half as hot. Here the hottest place is in the lesion,
# but the line takes in bare skin at the left and at the top as well. One picture proves nothing either way; page 10 tests
# such maps.
#
# ## Your own photo
#
# Choose one or several images. Each gets its ranked classes and a map of where the model looked, or
# one sentence that says why there is no answer. They stay in this session: nothing is sent anywhere else and nothing is
# kept.

# %%
from vggnb.widgets import try_your_own

try_your_own(bundle)

# %% [markdown]
# ## Without a notebook
#
# The same from a terminal, for files, whole folders, or a list of names (in a Colab cell put `!` in front):
#
# ```
# vggnb predict FOLDER_OF_THE_BUNDLE photo.jpg holiday_photos/
# vggnb predict FOLDER_OF_THE_BUNDLE holiday_photos/ --csv > answers.csv
# find holiday_photos -type f -mtime -7 -print0 | vggnb predict FOLDER_OF_THE_BUNDLE - --json
# vggnb predict FOLDER_OF_THE_BUNDLE photo.jpg --engine onnxruntime
# vggnb predict FOLDER_OF_THE_BUNDLE photo.jpg --threshold 0.3
# ```
#
# `print(bundle.folder)` says what to put for FOLDER_OF_THE_BUNDLE; in Colab it is
# `/content/drive/MyDrive/vggnb/runs/dataset/best/bundle` (for the sample, `sample` in the place of `dataset`).
# The line with `onnxruntime` starts without TensorFlow and so answers several times sooner; it needs the bundle's ONNX file
# (page 7). The last line is for two classes: the positive one is predicted from a probability of 0.3 on. After
# `vggnb evaluate RUN --sensitivity 0.9` the bundle carries the threshold that was chosen, and `--threshold chosen` uses it.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Ask the model about something else that is no lesion: a picture of noise. How sure is it, and is there a warning? Can you
# draw a picture that is no lesion and gets no warning?
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
# The noise gets an answer, often with great confidence, and a warning: the probability alone could not tell. Soft clouds in
# the colours of skin are no lesion either; they get an answer, and no warning.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You opened a bundle, let it name pictures, know what its probability means and when it means nothing, saw where it
# looked, and tried your own photo.
#
# Next: [9. Fine-tune: let the last layers learn, too](09_fine_tune.ipynb)
