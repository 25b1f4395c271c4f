# %% [markdown]
# # 9. Improve: what fine-tuning, augmentation and the learning rate gain
#
# After this page you can
#
# - unfreeze VGG-16 from a layer that you name,
# - say what augmentation does, and which kinds suit your images,
# - say why the learning rate of fine-tuning is low,
# - measure the gain of each change with a paired interval,
# - stop training and continue it later.
#
# **Beyond the article.** **Reads** your dataset. **Writes** four runs under `<home>`. **Takes** about three minutes in
# quick on two CPU cores. In full, every training image passes through the network 48 times: use a GPU for more than a
# few hundred images. Each training prints its expected time before it starts.

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

recipe = Recipe.best().with_(image_size=ws.image_size)
if ws.profile == "quick":  # fewer epochs, and no second training with validation
    recipe = recipe.with_(fine_tune_epochs=3, hold_out=True)
manifest = open_manifest(ws, recipe)

# %% [markdown]
# ## First the head
#
# In its first steps, a head with random weights would cause large, random changes in the base and destroy what it
# learned from over a million images. So the head is trained first, on the frozen base, as on page 5:

# %%
from vggnb.train import open_or_train

runs = {}
runs["head alone"] = open_or_train(manifest, recipe, ws.runs / "head-alone", **ws.training)
print(runs["head alone"])

# %% [markdown]
# ## Fine-tuning: what to unfreeze
#
# The first blocks of VGG-16 detect edges and colours, which are useful for any image; they stay frozen. Blocks 3 to 5
# detect textures and parts of ImageNet's objects, such as dogs and cars. These blocks are trained:

# %%
from vggnb.recipe import CONVOLUTIONS

tuned = recipe.with_(fine_tune="block3_conv1", augment=())
unfrozen = CONVOLUTIONS[CONVOLUTIONS.index(tuned.fine_tune) :]
print(f"{len(unfrozen)} of {len(CONVOLUTIONS)} convolutions, {unfrozen[0]} to {unfrozen[-1]}")

# %%
runs["fine-tuned"] = open_or_train(manifest, tuned, ws.runs / "fine-tuned", **ws.training)
print(runs["fine-tuned"].fine_tuning())

# %% [markdown]
# 14 million weights are a lot for a few hundred images. To limit over-fitting, the recipe uses a low learning rate that
# falls to zero, dropout of the features, and a fixed number of epochs.
#
# ## Augmentation
#
# In every epoch each image is changed at random: flipped, rotated, brighter or darker, with more or less contrast.
# Leave out `"rotations"` if your images have a fixed orientation. The first image is the original:

# %%
from vggnb import figures
from vggnb.generators import augmented_versions, read_row

augmented = tuned.with_(augment=("flips", "rotations", "brightness", "contrast"))
row = manifest.of("train")[0]
images = augmented_versions(read_row(manifest, row, recipe), augmented, epochs=7)
figures.batch_grid(images, [row.label] * len(images), manifest.classes)

# %%
runs["augmented"] = open_or_train(manifest, augmented, ws.runs / "augmented", **ws.training)
print(runs["augmented"].fine_tuning())

# %% [markdown]
# ## The learning rate
#
# Fine-tuning starts from good weights, so its steps must be small: 3e-5 in the recipe. What happens with a rate ten times
# as high?

# %%
fast = augmented.with_(fine_tune_rate=10 * augmented.fine_tune_rate)
runs["ten times the rate"] = open_or_train(manifest, fast, ws.runs / "fast", **ws.training)
figures.learning_curves({name: runs[name].fine_tuning() for name in list(runs)[1:]})

# %% [markdown]
# Epoch 0 is the head alone. Does the validation loss end below its starting value, and how far above the training loss?
# A loss that jumps up in epoch 1 shows that the steps were too large.
#
# ## What did each change gain?
#
# Each comparison is paired: both models predict the same validation images.

# %%
from vggnb.evaluate import compare

metrics = ("accuracy", "auc" if len(manifest.classes) == 2 else "auc_ovr", "brier")
names = list(runs)
for pair in zip(names, names[1:]):
    gain = compare(runs[pair[0]], runs[pair[1]], "validation", progress=False)
    print(f"{pair[1]} minus {pair[0]}, {gain.n} images")
    for metric in metrics:
        one = gain.differences[metric]
        interval = f"({one.low:+.3f} to {one.high:+.3f})"
        print(f"  {metric:<9} {one.value:+.3f} {interval} {gain.verdict(metric, pair)}")

# %% [markdown]
# For the Brier score, lower is better. If an interval contains 0, the difference is not significant: these images do not
# show whether the change helps.
#
# ## On the test images, once
#
# If many variants are tested on the test images, the best score is too high (page 6). So only one comparison is made
# there, chosen beforehand: the augmented model against the head alone.

# %%
final = compare(runs["head alone"], runs["augmented"], progress=False)
figures.differences(final, names=("head alone", "augmented"))

# %%
better = [metric for metric in metrics if final.verdict(metric) == "the second is better"]
print("The augmented model is significantly better in:", ", ".join(better) or "no metric")

# %% [markdown]
# If sensitivity rises while specificity falls, or the reverse, that alone is not a gain: a different threshold has the
# same effect.
#
# Fine-tuning costs many times more than the head. Keep it if the gain is significant and large enough to matter. It gains
# more with thousands of images, and with images that differ from ImageNet's.
#
# ## Stop and continue
#
# The weights and the state of the optimiser are saved after every epoch. If you stop training, or if Colab disconnects,
# run the cell again: it continues after the last complete epoch. Finished training is not repeated:

# %%
again = open_or_train(manifest, augmented, ws.runs / "augmented", **ws.training)
print("The same model:", again.model_sha256() == runs["augmented"].model_sha256())

# %% [markdown]
# In a terminal:
#
# ```
# vggnb train DATASET --out RUN --recipe fine --augment flips,rotations,brightness,contrast
# ```

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# How many weights are trained if you unfreeze only the last convolution, `block5_conv3`? It has 3 x 3 filters, 512
# channels in and 512 out. Count the biases, too.
#
# <details><summary>Show a solution</summary>
#
# ```python
# weights = 3 * 3 * 512 * 512 + 512
# last = recipe.with_(fine_tune="block5_conv3", augment=augmented.augment)
# run = open_or_train(manifest, last, ws.runs / "last-convolution", **ws.training)
# print(compare(runs["head alone"], run, "validation"))
# ```
#
# That is a sixth of the weights that this page trained.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    weights=lambda answer: answer == 2_359_808
    or ("Each filter has a bias." if answer == 2_359_296 else "One filter has 3 x 3 x 512 weights."),
)

# %%
weights = ...
check(1)

# %% [markdown]
# ## What you can do now
#
# You unfroze layers by name, augmented images, saw the effect of the learning rate, and measured each gain with a paired
# interval.
#
# Next: [10. Explain: why did the model predict that?](10_explain.ipynb)
