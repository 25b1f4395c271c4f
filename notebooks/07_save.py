# %% [markdown]
# # 7. Save: files that come back the same
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/vggnb/vggnb/blob/main/notebooks/07_save.ipynb)
#
# After this page you can
#
# - save a model as the article does (JSON, whole model, weights) and as one does today (`.keras`),
# - prove that each file gives the same probabilities when it is loaded again,
# - say what must travel with the weights so that the model can be used at all,
# - explain why `save_weights("VGG_Skin.h5")` fails today.
#
# **Article step** 21. **Reads** the run of page 5 (or trains it now, and says so). **Writes** a bundle of about 180 MB into the
# run's folder, and a damaged copy of it. **Takes** 20 seconds in quick, 40 in full, on two CPU cores.

# %% tags=["setup"]
# @title Setup (run me first) {"display-mode": "form"}
import importlib.util, os, pathlib, subprocess, sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if not getattr(importlib.util.find_spec("vggnb"), "origin", None):  # not installed: use this checkout, else pip
    folders = [pathlib.Path.cwd(), *pathlib.Path.cwd().parents, pathlib.Path("/content/drive/MyDrive/vggnb")]
    checkout = next((folder for folder in folders if (folder / "vggnb/paths.py").is_file()), None)
    pip = [sys.executable, "-m", "pip", "install", "-q", "vggnb @ git+https://github.com/vggnb/vggnb"]
    sys.path.insert(0, str(checkout)) if checkout else subprocess.run(pip, check=True)
from vggnb.paths import open_workspace
ws = open_workspace()
print(ws)

# %%
from vggnb.census import open_manifest
from vggnb.recipe import Recipe
from vggnb.train import open_or_train

manifest = open_manifest(ws)
recipe = Recipe.best().with_(image_size=ws.image_size)
run = open_or_train(manifest, recipe, ws.runs / "best", weights=ws.weights, store=ws.features)
print(run.history())

# %% [markdown]
# ## Step 21: save
#
# One line writes all files, loads each of them again **in a fresh process** (one that knows nothing of this page), lets it
# judge the same eight pictures, and compares. Look at the last column: does any probability differ? (The JSON holds no
# weights; it is tested together with the weights file.)

# %%
from vggnb.save import save_bundle

files = save_bundle(run, run.folder / "bundle", name="Skin")
for file in files:
    same = "" if file.max_difference is None else f"differs by less than 0.00001: {file.max_difference < 1e-5}"
    print(f"{file.path:<22} {file.format:<8} {same}")

# %% [markdown]
# | file | what it is | in the article |
# |---|---|---|
# | `VGG_Skin.json` | the architecture: which layers in which order; no weights | yes |
# | `VGG_Skin.h5` | architecture and weights in the older HDF5 format, which Keras advises against today | yes |
# | `VGG_Skin.weights.h5` | the weights alone | yes, under another name |
# | `VGG_Skin.keras` | architecture and weights in today's format | no |
# | `labels.json` | which output is which class | **no**, and without it the outputs mean nothing |
# | `recipe.json` | size and way of resizing: how a picture must be prepared (scaling is inside the model) | **no**, and without it the answers are wrong |
# | `card.json` | what it was trained on, how it did, what it must not be used for | no |
# | `manifest.json` | a checksum of every file; written last, so not in the list above | no |

# %% [markdown]
# > **In the article** the weights are saved with `save_weights("VGG_Skin.h5")`. Keras 3 refuses: weights alone must end
# > in `.weights.h5`, so that nobody takes them for a whole model. See it refuse:

# %%
try:
    run.head().save_weights("VGG_Skin.h5")
except ValueError as error:
    print("Keras says:", error)

# %% [markdown]
# ## What the card says
#
# A model is used by people who did not make it. They cannot ask you, so the answers travel with it.

# %%
from vggnb.storage import read_json

card = read_json(run.folder / "bundle" / "card.json")
for key in ("purpose", "network", "weights", "images"):
    print(f"{key}: {card[key]}\n")
print("limits:", *card["limits"], sep="\n- ")

# %% [markdown]
# ## A damaged file
#
# A broken download or a full disk can change a file without anybody noticing: one flipped bit in an `.h5` file usually
# loads without a word, and the model then answers differently. The checksums notice. The next cell damages a
# copy and **fails on purpose**:

# %% tags=["raises-exception"]
import shutil
from vggnb.save import load_bundle

copy = shutil.copytree(run.folder / "bundle", ws.features.parent / "damaged", dirs_exist_ok=True)
weights = copy / "VGG_Skin.weights.h5"
data = bytearray(weights.read_bytes())
data[1_000_000] ^= 1
weights.write_bytes(data)
load_bundle(copy)

# %% [markdown]
# The bundle lies in `ws.runs / "best" / "bundle"`; in Colab that is `vggnb/runs/best/bundle` on your Drive. A file that was just written needs some minutes to
# arrive there; wait until you see it in Drive's own window before you close the tab.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Save only the article's three files into another folder (`formats=("json", "h5", "weights")`). Which other files are
# still written, and why?
#
# <details><summary>Show a solution</summary>
#
# ```python
# save_bundle(run, run.folder / "article-files", name="Skin", formats=("json", "h5", "weights"))
# print(*sorted(path.name for path in (run.folder / "article-files").iterdir()), sep="\n")
# ```
#
# The class names, the recipe, the card and the checksums: without them the three files cannot be used safely.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You saved the article's three files and today's one, saw each come back the same from a fresh process, know what travels
# with the weights, and saw a renamed and a damaged file refused.
#
# Next: [8. Predict: your own photo](08_predict.ipynb)
