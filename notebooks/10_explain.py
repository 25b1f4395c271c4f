# %% [markdown]
# # 10. Explain: why did the model predict that?
#
# After this page you can
#
# - see which places of an image counted for a class, by two independent methods,
# - test such a map before you trust it: does it depend on the model, and does it find what is known to decide?
# - look at the map of a mistake,
# - detect a model that has learned a shortcut, and say what a heat map cannot show.
#
# **Beyond the article.** **Reads** the bundle of page 7 (or makes it now), and the run of page 9 if there is one.
# **Writes** two copies of the sample with stickers, and two runs, under `<home>`. **Takes** about a minute in quick on
# two CPU cores; in full about 5 minutes.
#
# *This is not a diagnostic device, and a heat map does not make it one.*

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
# ## A map for each class
#
# Page 8 introduced **Grad-CAM**. You choose the class; it need not be the predicted one. The image is from
# *validation*, so that the test images stay out of every later decision. Compare the two maps:

# %%
from vggnb import figures
from vggnb.explain import grad_cam
from vggnb.generators import read_row

row = [row for row in manifest.of("validation") if row.class_name == manifest.classes[1]][0]
image = read_row(manifest, row, recipe)
maps = {f"for {name}": grad_cam(bundle.model, image, class_index=k) for k, name in enumerate(bundle.classes)}
figures.heatmap_overlay(image, maps)

# %% [markdown]
# The image belongs to the class of the map on the right. The maps are as coarse as on page 8 (6 x 6 cells at 96 pixels,
# 14 x 14 at 224). Each map is scaled by its own maximum, so the maps do not show which class has more evidence.
#
# ## A second method
#
# **Occlusion** does not use the inside of the model. It covers one part of the image after the other with the image's
# mean colour and measures how far the probability of the class falls. Compare the two maps of the same class:

# %%
from vggnb.explain import occlusion, similarity

trained_map, covered = maps[f"for {bundle.classes[1]}"], occlusion(bundle.model, image, class_index=1)
figures.heatmap_overlay(image, {"Grad-CAM": trained_map, "occlusion": covered})

# %%
print(f"likeness of the two maps: {similarity(trained_map, covered):.2f}")

# %% [markdown]
# The similarity is Spearman's rank correlation: 1 means the same order of all places, 0 no relation, below 0 the
# opposite order. Do not expect 1, for two reasons:
#
# - Grad-CAM covers only what passes through the last block. The recipe `best` also uses the four blocks before it, and
#   occlusion covers all of them.
# - A patch of one colour does not occur in the training images. Over a dark corner it is a bright spot.
#
# ## Test 1: does the map depend on the model?
#
# An edge detector also draws convincing maps, without any knowledge of the classes. So shuffle the model's weights:
# first those of the output, then also those of the last block, and so on down to the first (Adebayo and others 2018).
# **A map that stays the same depends on the image and not on the model.**

# %%
from vggnb.explain import shuffled

layers = {"output": "probabilities", "and block 5": "block5_conv1", "and 3, 4": "block3_conv1", "all": "block1_conv1"}
forgetful = {name: shuffled(bundle.model, from_layer=layer) for name, layer in layers.items()}
stages = {"as trained": bundle.model} | forgetful
figures.heatmap_overlay(image, {name: grad_cam(model, image, class_index=1) for name, model in stages.items()})

# %% [markdown]
# With a shuffled output the map of the sample's image is hottest in the same place as before. One image is not enough;
# here is the mean over a third of the validation images:

# %%
import numpy as np

some = np.stack([read_row(manifest, row, recipe) for row in manifest.of("validation")[::3]])
trained = grad_cam(bundle.model, some, class_index=1)
for name, model in forgetful.items():
    likeness = [similarity(*pair) for pair in zip(trained, grad_cam(model, some, class_index=1))]
    print(f"shuffled: {name:<12} mean likeness to the map as trained {np.mean(likeness):.2f}")

# %% [markdown]
# The similarity must be far below 1; on the sample it is near 0. If it stayed near 1, the map would be worthless,
# however well it fits the lesion. A map without any heat has the similarity 0.
#
# ## Test 2: does the map find what is known to decide?
#
# In real images nobody knows what decides. So plant it: put a round green sticker into a corner of every *benign* image
# of the sample and change nothing else. Real collections have such marks: rulers beside malignant lesions, a surgeon's
# ink, coloured patches beside benign ones. Then train on these images:

# %%
from vggnb.census import assign_splits, take_census
from vggnb.datasets import marked_sample, sample

marked = assign_splits(take_census(marked_sample(ws.home / "marked"), progress=False))
marked_run = open_or_train(marked, recipe, ws.runs / "marked", weights=ws.weights, store=ws.features, precision=ws.precision)
figures.images(marked, marked.of("test")[::14])

# %% [markdown]
# Evaluate this model three times: on test images like those in training, on the same images without the sticker, and
# with the sticker on the *malignant* ones instead.

# %%
from vggnb.evaluate import evaluate_folder

swapped = marked_sample(ws.home / "marked-malignant", marked="malignant")
for name, folder in (("as in training", marked.dataset), ("no sticker", sample()), ("on the malignant", swapped)):
    metrics = evaluate_folder(marked_run, take_census(folder, progress=False), progress=False).metrics
    print(f"{name:<18} accuracy {metrics['accuracy']}   malignant found {metrics['sensitivity']}")

# %% [markdown]
# **Perfect on its own test images, and useless.** Census, split and intervals were correct. The number is still
# misleading, because the test images have the same flaw as the training images. Without the sticker the model predicts
# malignant; with the sticker on a malignant lesion it predicts benign.
#
# Would a heat map have shown this?

# %%
fooled = marked_run.classifier()
rows = [row for row in marked.of("test") if row.class_name == "benign"][::2]
stuck = np.stack([read_row(marked, row, recipe) for row in rows])
maps = {"Grad-CAM": grad_cam(fooled, stuck[2], class_index=0), "occlusion": occlusion(fooled, stuck[2], class_index=0)}
figures.heatmap_overlay(stuck[2], maps)

# %% [markdown]
# The map for *benign* points to the corner with the sticker. To count over 20 images, compare each with its original:
# the sticker is where the pixels differ. In how many images is the hottest place on the sticker?
#
# For comparison, count the same for a model trained without stickers, and for a layer in the middle of the network,
# whose map is four times finer.

# %%
from vggnb.explain import share_of_heat
from vggnb.images import read_image

plain = assign_splits(take_census(sample(), progress=False))
honest = open_or_train(plain, recipe, ws.runs / "unmarked", weights=ws.weights, store=ws.features, precision=ws.precision).classifier()
clean = np.stack([read_image((sample() / row.path).with_suffix(".jpg"), size=recipe.image_size) for row in rows])
places = (stuck != clean).any(axis=3)
print(f"the sticker is {places.mean():.2f} of the picture")

# %%
from vggnb.metrics import wilson

for layer in ("block5_conv3", "block3_conv3"):
    for name, model in (("trained on stickers", fooled), ("trained without", honest)):
        heats = grad_cam(model, stuck, class_index=0, layer=layer)
        hits = sum(bool(place.flat[heat.argmax()]) for heat, place in zip(heats, places))
        share = np.median([share_of_heat(*pair) for pair in zip(heats, places)])
        print(f"{layer}, {name:<20} share of heat {share:.2f}; hottest there: {hits} of {len(rows)}, {wilson(hits, len(rows))}")

# %% [markdown]
# In both layers the map of the model trained on stickers is hottest on the sticker far more often than by chance, and
# more often than that of the other model. With 20 images the intervals are wide.
#
# A map belongs to one layer. A colour can be detected early in the network, and a cell of the coarse map is as large as
# the whole sticker, so the finer map can locate it better. If only one of two layers or methods points to a place,
# examine more images.
#
# ## The map of a mistake
#
# Back to the first model and its most confident mistake on validation. What counts for the predicted class, and what
# for the true one? (The mistake is an out-of-fold prediction; the maps show the final model, which was trained on this
# image, too.)

# %%
from vggnb.evaluate import predict_split
from vggnb.metrics import find_mistakes, least_confident

predictions = predict_split(run, "validation")
wrong = (find_mistakes(predictions, run.classes) or least_confident(predictions, run.classes))[0]
print(wrong)
pixels = read_image(manifest.dataset / wrong.path, size=recipe.image_size)
maps = {f"for {name}": grad_cam(bundle.model, pixels, class_index=k) for k, name in enumerate(run.classes)}
figures.heatmap_overlay(pixels, maps)

# %% [markdown]
# On the sample's image the evidence for *malignant*, the wrong class, is at the upper edge.
#
# Use such maps to form a hypothesis: a hair, a dark corner or a ruler that is hot in many images. Then test it as
# above: cover the object in all images, or take images without it, and see whether the metrics change. The map itself
# is not a test.
#
# ## What a heat map cannot show
#
# Here is a malignant lesion without a sticker. Both models predict malignant; the probabilities are printed below. One
# model was trained on stickers and predicts malignant because there is no sticker. Which one is it?

# %%
lesions = np.stack([read_row(marked, row, recipe) for row in marked.of("test") if row.class_name == "malignant"][::4])
first, second = (grad_cam(model, lesions, class_index=1) for model in (honest, fooled))
figures.heatmap_overlay(lesions[1], {"one of them": first[1], "the other": second[1]})

# %%
likeness = np.mean([similarity(*pair) for pair in zip(first, second)])
print(f"this lesion, malignant: {honest.predict_on_batch(lesions[1:2] * 1.0)[0, 1]:.2f} and {fooled.predict_on_batch(lesions[1:2] * 1.0)[0, 1]:.2f}")
print(f"mean likeness of the two models' maps on {len(lesions)} malignant lesions: {likeness:.2f}")
print(f"malignant, says the honest one: {honest.predict_on_batch(lesions * 1.0)[:, 1].mean():.2f}", end=" ")
print(f"and the other: {fooled.predict_on_batch(lesions * 1.0)[:, 1].mean():.2f} on average")

# %% [markdown]
# The maps do not answer it. The model trained on stickers is on the right, although its map fits the lesion better. It
# uses the *absence* of the sticker, and what is absent has no heat.
#
# - A map shows **where**, not what or why: colour, edges and texture of a place are one warm spot.
# - It cannot show what is **absent**, nor a property of the whole image, such as light or sharpness.
# - It is **coarse**, and it belongs to one layer, one class and one image. Count over many images.
# - **A map that looks wrong is a reason to investigate. A map that looks right proves nothing**: the model may use the
#   lesion in the wrong way.
#
# ## The model of page 9
#
# The same functions work on a fine-tuned model:

# %%
from vggnb.train import open_run

if (ws.runs / "fine-tuned" / "run.json").is_file():
    tuned = open_run(ws.runs / "fine-tuned")
    heat = grad_cam(tuned.classifier(), image, class_index=1)
    print(f"likeness to the map above: {similarity(heat, trained_map):.2f}")
else:
    print("Page 9 has not run yet: come back after it.")

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Put the sticker on only half of the benign images (`share=0.5`), train, and evaluate on the sample without stickers.
# Does the model still depend on the sticker? Where is the heat with a sticker, and where without?
#
# <details><summary>Show a solution</summary>
#
# ```python
# half = assign_splits(take_census(marked_sample(ws.home / "marked-half", share=0.5), progress=False))
# half_run = open_or_train(half, recipe, ws.runs / "marked-half", weights=ws.weights, store=ws.features, precision=ws.precision)
# print(evaluate_folder(half_run, take_census(sample(), progress=False), progress=False).metrics["accuracy"])
# model = half_run.classifier()
# display(figures.heatmap_overlay(stuck[2], {"sticker": grad_cam(model, stuck[2], class_index=0)}))
# figures.heatmap_overlay(clean[2], {"none": grad_cam(model, clean[2], class_index=0)})
# ```
#
# The benign images without a sticker force the model to use the lesions, too, so it loses less when the sticker is
# gone. The remedy for real images is the same: every class with and without the mark.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You mapped the evidence for a class by two methods, tested the maps with shuffled weights and a planted sticker, and
# looked at a mistake. You detected a model that was perfect on its own test images and useless, and know what a map
# cannot show.
#
# Next: [11. Many classes: the same pages for more than two](11_many_classes.ipynb)
