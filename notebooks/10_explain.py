# %% [markdown]
# # 10. Explain: why did the model predict that?
#
# After this page you can
#
# - see which parts of an image mattered for a class, by two methods,
# - test such a map: does it depend on the model, and does it find what is known to matter?
# - detect a model that has learned a shortcut,
# - say what a heat map cannot show.
#
# **Beyond the article.** **Reads** the bundle of page 7 (or makes it now). **Writes** a copy of the sample with stickers
# and two runs, under `<home>`. **Takes** about a minute in quick on two CPU cores; in full about 5 minutes.

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
# ## A map for each class
#
# Page 8 introduced **Grad-CAM**. It works for any class, not only the predicted one. Compare the maps of a validation
# image:

# %%
from vggnb import figures
from vggnb.explain import class_maps
from vggnb.generators import read_row

row = next(row for row in manifest.of("validation") if row.label == 1)
image = read_row(manifest, row, recipe)
print(f"The image belongs to {row.class_name}.")
figures.heatmap_overlay(image, class_maps(bundle.model, image, bundle.classes))

# %% [markdown]
# Each map is scaled by its own maximum, so the maps do not show which class has more evidence. A map without heat means
# that there is no evidence for that class.
#
# ## A second method
#
# **Occlusion** covers one part of the image after another with the mean colour of the image, and measures how far the
# probability of the class falls:

# %%
from vggnb.explain import grad_cam, occlusion, similarity

of_class = grad_cam(bundle.model, image, class_index=1)
covered = occlusion(bundle.model, image, class_index=1)
print(f"Similarity of the two maps: {similarity(of_class, covered):.2f}")
figures.heatmap_overlay(image, {"Grad-CAM": of_class, "occlusion": covered})

# %% [markdown]
# The similarity is Spearman's rank correlation: 1 means that both maps rank all places in the same order, 0 that the
# two rankings are unrelated. Do not expect 1: Grad-CAM covers only what passes through the last block, and patches of
# one colour do not occur in training.
#
# ## Test 1: does the map depend on the model?
#
# An edge detector also gives convincing maps, although it does not depend on the classes. So shuffle the weights of the
# model: first those of the output, then also those of the last blocks (Adebayo and others 2018). **A map that stays the
# same depends on the image, not on the model.**

# %%
from vggnb.explain import shuffled

layers = {"output": "probabilities", "+ block 5": "block5_conv1", "+ 3 and 4": "block3_conv1"}
models = {"trained": bundle.model}
for name, layer in layers.items():
    models[name] = shuffled(bundle.model, from_layer=layer)
maps = {name: grad_cam(model, image, class_index=1) for name, model in models.items()}
figures.heatmap_overlay(image, maps)

# %% [markdown]
# One image is not enough. Here is the mean over several validation images:

# %%
import numpy as np
from vggnb.generators import read_rows

rows = manifest.of("validation")
some = read_rows(manifest, rows[:: len(rows) // 25 + 1], recipe)
heats = {name: grad_cam(model, some, class_index=1) for name, model in models.items()}
for name in layers:
    mean = np.mean([similarity(*pair) for pair in zip(heats["trained"], heats[name])])
    print(f"shuffled {name:<10} similarity {mean:.2f}")

# %% [markdown]
# The similarity must be far below 1. Near 1, the map would be worthless, however well it fits the object.
#
# ## Test 2: does the map find what is known to matter?
#
# In real images it is usually unknown what determines the prediction. So this part uses the sample and plants a
# shortcut: a green sticker in a corner of every *benign* image. Real collections have such marks, for example rulers
# and ink.

# %%
from vggnb.census import assign_splits, take_census
from vggnb.datasets import marked_sample, sample

marked = assign_splits(take_census(marked_sample(ws.home / "marked"), progress=False))
stickers = open_or_train(marked, recipe, ws.runs / "marked", **ws.training)
figures.images(marked, marked.of("test")[::60])

# %% [markdown]
# Evaluate the model that was trained on these images, once with and once without stickers:

# %%
from vggnb.evaluate import evaluate_folder

for name, folder in (("with stickers", marked.dataset), ("without", sample())):
    report = evaluate_folder(stickers, take_census(folder, progress=False), progress=False)
    print(f"{name:<14} accuracy {report.metrics['accuracy']}")

# %% [markdown]
# **The model is perfect on its own test images, and useless without stickers.** The accuracy misleads because the test
# images have the same flaw as the training images.
#
# Would a heat map have shown this? Count the benign images in which the hottest place is on the sticker, for this model
# and for one trained without stickers:

# %%
plain = assign_splits(take_census(sample(), progress=False))
clean = open_or_train(plain, recipe, ws.runs / "unmarked", **ws.training)
shortcut, sound = stickers.classifier(), clean.classifier()
with_sticker, original = (
    read_rows(data, [row for row in data.of("test") if row.class_name == "benign"][::5], recipe)
    for data in (marked, plain)
)
places = (with_sticker != original).any(axis=3)
print(f"The sticker covers {100 * places.mean():.0f} % of an image.")

# %%
from vggnb.explain import hottest_inside
from vggnb.metrics import wilson

for layer in ("block5_conv3", "block3_conv3"):
    for name, model in (("with stickers", shortcut), ("without", sound)):
        heats = grad_cam(model, with_sticker, class_index=0, layer=layer)
        hits, n = hottest_inside(heats, places), len(places)
        print(f"{layer}, trained {name:<13} {hits} of {n}: {wilson(hits, n)}")

# %%
image = with_sticker[0]
maps = {"Grad-CAM": grad_cam(shortcut, image, class_index=0)}
maps["occlusion"] = occlusion(shortcut, image, class_index=0)
figures.heatmap_overlay(image, maps)

# %% [markdown]
# Compare the two models in each layer. Only a clear difference shows the shortcut: the sticker is unusual for both, and a
# coarse map can be hot there for either. Block 3 has a finer map, and colours are detected early. So look at more than
# one layer, and at many images.
#
# ## The map of a mistake
#
# Here is the most confident mistake of this page's first model on validation:

# %%
from vggnb.evaluate import predict_split
from vggnb.images import read_image
from vggnb.metrics import find_mistakes, least_confident

predictions = predict_split(run, "validation")
wrong = (find_mistakes(predictions, run.classes) or least_confident(predictions, run.classes))[0]
pixels = read_image(manifest.dataset / wrong.path, size=recipe.image_size)
print(wrong)
names = (wrong.predicted, wrong.class_name)
figures.heatmap_overlay(pixels, class_maps(bundle.model, pixels, run.classes, names=names))

# %% [markdown]
# Use such a map to form a hypothesis, such as a border that is hot in many images. Then test it: cover the border in all
# images and evaluate again.
#
# ## What a heat map cannot show
#
# Here is a malignant image of the sample and the maps of both models. One of them predicts malignant because there is
# no sticker. Which one?

# %%
from vggnb.model import compiled

row = [row for row in marked.of("test") if row.class_name == "malignant"][1]
image, maps = read_row(marked, row, recipe), {}
for name, model in (("first model", sound), ("second model", shortcut)):
    maps[name] = grad_cam(model, image, class_index=1)
    print(f"{name}: probability of malignant {compiled(model)(image[None])[0, 1]:.2f}")
figures.heatmap_overlay(image, maps)

# %% [markdown]
# It is the second one. A map cannot show heat where a sticker is missing.
#
# - A map shows **where**, not what or why.
# - It cannot show what is **absent**, nor a property of the whole image, such as its sharpness.
# - It is **coarse**, and belongs to one layer, one class and one image.
# - **A map that looks wrong is a reason to investigate. A map that looks right proves nothing.**

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Swap the stickers: `marked_sample(ws.home / "swapped", marked="malignant")` puts them on the malignant images instead.
# What accuracy does the model with the shortcut have there? Guess first, then compute it.
#
# <details><summary>Show a solution</summary>
#
# ```python
# swapped = take_census(marked_sample(ws.home / "swapped", marked="malignant"), progress=False)
# accuracy = evaluate_folder(stickers, swapped, progress=False).metrics["accuracy"].value
# ```
#
# The model predicts the class by the sticker alone. The remedy: images of every class with and without the mark.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    accuracy=lambda answer: answer < 0.2
    or "Every sticker is on the other class now, and the model looks only at the sticker.",
)

# %%
accuracy = ...
check(1)

# %% [markdown]
# ## What you can do now
#
# You mapped the evidence for a class by two methods, tested the maps with shuffled weights and a planted sticker, and
# detected a model that was perfect on its own test images and useless elsewhere.
#
# Next: [11. Solar cells: a real case](11_solar_cells.ipynb)
