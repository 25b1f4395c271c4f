# %% [markdown]
# # 10. Explain: why did the model say that?
#
# After this page you can
#
# - ask a saved model which places of a picture spoke for a class, in two ways that have nothing in common,
# - test such a map before you believe it: does it depend on the model, and does it find what is known to decide?
# - look at what spoke for a wrong answer,
# - catch a model that has learnt a shortcut, and say what a heat map can never show.
#
# **Beyond the article.** **Reads** the bundle of page 7 (or makes it now, and says so), and the run of page 9 if it is there.
# **Writes** two copies of the sample with stickers on it, and two runs, under `<home>`. **Takes** about a minute in quick on two
# CPU cores; in full about 5 minutes, of which most is for covering pictures piece by piece and for the sample at 224 pixels.
#
# *This is no diagnostic device, and a heat map does not make it one.*

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
# ## Ask for the evidence, class by class
#
# **Grad-CAM**, which page 8 explains, looks inside. You choose the class; it need not be the one that was said. We look at
# *validation* pictures, as always when something might be decided afterwards.

# %%
from vggnb import figures
from vggnb.explain import grad_cam
from vggnb.generators import read_row

row = [row for row in manifest.of("validation") if row.class_name == manifest.classes[1]][0]
image = read_row(manifest, row, recipe)
maps = {f"for {name}": grad_cam(bundle.model, image, class_index=k) for k, name in enumerate(bundle.classes)}
figures.heatmap_overlay(image, maps)

# %% [markdown]
# The picture is one of the class whose map is on the right. Cross and line mean what they mean on page 8, and the map is as coarse
# as there (6 x 6 cells at 96 pixels, 14 x 14 at 224). Each map is scaled by its own hottest place, so two maps do not tell which
# class has more evidence.
#
# ## A second opinion
#
# **Occlusion** never looks inside. It covers a piece of the picture with its mean colour, asks again, and notes by how much the probability of
# the class fell. Then the next piece. If both methods, which have nothing in common, call the same places hot, that is
# worth something.

# %%
from vggnb.explain import occlusion, similarity

trained_map, covered = maps[f"for {bundle.classes[1]}"], occlusion(bundle.model, image, class_index=1)
figures.heatmap_overlay(image, {"Grad-CAM": trained_map, "occlusion": covered})

# %%
print(f"likeness of the two maps: {similarity(trained_map, covered):.2f}")

# %% [markdown]
# 1 would be the same order of all places from cold to hot, 0 no order in common, below 0 the opposite order. Do not expect 1.
# On the sample's picture both have something at the top of the lesion, but Grad-CAM is hottest beside it, at the air bubble on
# the upper edge; occlusion is hottest at the dark edge that the lens left, and a little on bare skin. Grad-CAM sees only what goes
# through the last block; our recipe also reads the four blocks before it, and occlusion sees the whole. And a cover of one
# colour is itself something that the model has never met: over a dark corner it is a bright patch.
#
# ## Test 1: does the map depend on the model at all?
#
# An edge detector also draws convincing maps, and it knows nothing of any class. So let the model forget: the weights of the
# output are put into random order, then those of the last block too, and so on down to the first (Adebayo and others 2018). **A
# map that stays the same tells of the picture and not of the model.**

# %%
from vggnb.explain import shuffled

layers = {"output": "probabilities", "and block 5": "block5_conv1", "and 3, 4": "block3_conv1", "all": "block1_conv1"}
forgetful = {name: shuffled(bundle.model, from_layer=layer) for name, layer in layers.items()}
stages = {"as trained": bundle.model} | forgetful
figures.heatmap_overlay(image, {name: grad_cam(model, image, class_index=1) for name, model in stages.items()})

# %% [markdown]
# One picture may deceive. The same for a third of the validation pictures, as a number:

# %%
import numpy as np

some = np.stack([read_row(manifest, row, recipe) for row in manifest.of("validation")[::3]])
trained = grad_cam(bundle.model, some, class_index=1)
for name, model in forgetful.items():
    likeness = [similarity(*pair) for pair in zip(trained, grad_cam(model, some, class_index=1))]
    print(f"shuffled: {name:<12} mean likeness to the map as trained {np.mean(likeness):.2f}")

# %% [markdown]
# The likeness must fall, and it does: on the sample all four are 0 or below. If it stayed near 1, the map would be worthless,
# however well it sits on the lesion. Do not read much into the sign: a random network, too, reacts to where something is and
# where nothing is. And where a map has no heat at all, since nothing spoke for the class, the likeness is given as 0.
#
# ## Test 2: does the map find what is known to decide?
#
# In real pictures nobody knows what decides. So plant it. A program puts a round green sticker into a corner of every *benign*
# picture of the sample; nothing else differs, not one pixel. (Such things are in real collections: rulers beside malignant lesions,
# a surgeon's ink, coloured patches on benign ones only.) Then train on these pictures.

# %%
from vggnb.census import assign_splits, take_census
from vggnb.datasets import marked_sample, sample

marked = assign_splits(take_census(marked_sample(ws.home / "marked"), progress=False))
marked_run = open_or_train(marked, recipe, ws.runs / "marked", weights=ws.weights, store=ws.features, precision=ws.precision)
figures.images(marked, marked.of("test")[::14])

# %% [markdown]
# How good is this model? Judge it three times: on test pictures like those it was trained on; on the same pictures without the
# sticker; and with the sticker on the *malignant* ones instead.

# %%
from vggnb.evaluate import evaluate_folder

swapped = marked_sample(ws.home / "marked-malignant", marked="malignant")
for name, folder in (("as in training", marked.dataset), ("no sticker", sample()), ("on the malignant", swapped)):
    metrics = evaluate_folder(marked_run, take_census(folder, progress=False), progress=False).metrics
    print(f"{name:<18} accuracy {metrics['accuracy']}   malignant found {metrics['sensitivity']}")

# %% [markdown]
# **Perfect on its own test pictures, and worthless.** The census, the split, the intervals, the test set that was looked at once: all was
# done right, and the number is still wrong, because the test pictures have the same flaw as the training pictures. Without
# the sticker everything is called malignant; with the sticker on a malignant lesion it is called benign, in 38 of 40.
#
# Would a heat map have told us?

# %%
fooled = marked_run.classifier()
rows = [row for row in marked.of("test") if row.class_name == "benign"][::2]
stuck = np.stack([read_row(marked, row, recipe) for row in rows])
maps = {"Grad-CAM": grad_cam(fooled, stuck[2], class_index=0), "occlusion": occlusion(fooled, stuck[2], class_index=0)}
figures.heatmap_overlay(stuck[2], maps)

# %% [markdown]
# Asked for the evidence for *benign*, it points to the corner with the sticker, not to the lesion. But one picture
# is an anecdote. Where the sticker is, we know (where the picture differs from the sample's), so we can count: in how
# many of 20 pictures is the hottest place on the sticker? Beside it the same for a model that was trained on the sample without
# stickers, and for a deeper look: Grad-CAM at a layer in the middle of the network, whose map is four times finer.

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
# The map finds what we planted, far more often than the sticker's share of the picture would give by chance, and far more often
# than in the model that never saw a sticker. (That one is hot in a corner now and then anyway, which is why it stands here.)
# With 20 pictures the intervals are wide. Look also at what differs between the layers: a map tells of *its* layer. A colour is told
# early in the network, and the finer map sits on it more often than the coarse one (20 of 20 against 16: a direction; one cell of the
# coarse map is also as large as the whole sticker). If only one of two layers, or one of two
# methods, points somewhere, look again before you tell anybody.
#
# ## The map of a wrong answer
#
# Back to the first model, and to its surest mistake on validation. What spoke for the class that was said, and what for
# the true one?

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
# On the sample's picture the lesion itself speaks for *benign*, the wrong class: the model looked at the right place and was wrong all
# the same. Such pictures are for forming a suspicion: a hair, a dark corner, a ruler that is hot again and again. The suspicion is then
# tested, as above: cover the thing in all pictures, or take pictures without it, and see whether the numbers change. The map
# itself is no test.
#
# ## What a heat map cannot say
#
# Here is a malignant lesion, without sticker. Both models call it malignant (how surely stands under the pictures). One of them
# was trained on stickers, and to it whatever has no sticker is malignant. Which one is it?

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
# The maps do not tell (the fooled one is on the right). Its reason is something that is *not there*, and what is not there gives no heat.
#
# - A map says **where**, not what, and not why: colour, edge and texture of one place are one warm spot.
# - It cannot show what is **missing**, nor a property of the whole picture, such as light or sharpness.
# - It is **coarse**, and it tells of one layer, one class, one picture. One picture is an anecdote; count over many.
# - **A map that looks wrong is a reason to worry. A map that looks right is no proof of anything**: it shows that the model
#   looked at the lesion, and not that what it saw there is right.
#
# ## On the model of page 9
#
# The same functions work on a fine-tuned model; the map is then of the fine-tuned layers.

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
# Put the sticker on only half of the benign pictures (`share=0.5`), train, and judge on the sample without stickers. Is the model
# still fooled? Where does it look when there is a sticker, and where when there is none?
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
# The benign pictures without a sticker force it to look at lesions as well, so much less is lost when the sticker is gone. That
# is the remedy in real life, too: pictures of every class with and without the mark.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You asked a saved model for its evidence in two ways, tested the map by making the model forget and by planting what decides,
# looked at a wrong answer, caught a model that was perfect on its own test pictures and worthless, and know what a map
# cannot show. None of this makes it a diagnostic device.
#
# Next: [11. Many classes: the same pages for more than two](11_many_classes.ipynb)
