# %% [markdown]
# # 7. Save: files that come back the same
#
# After this page you can
#
# - save a model as the article does (JSON, whole model, weights) and in today's format (`.keras`),
# - verify that each file gives the same probabilities when it is loaded again,
# - say what must travel with the weights,
# - use the model from another program, without TensorFlow,
# - detect damaged files.
#
# **Article step** 21. **Reads** the run of page 5 (or trains it now). **Writes** a **bundle**, one folder with all
# files of a saved model (about 470 MB, 350 without ONNX and LiteRT), into the run's folder, and a damaged copy of it.
# **Takes** 60 seconds in quick, 90 in full, on two CPU cores.

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
from vggnb.train import open_or_train

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)
run = open_or_train(manifest, recipe, ws.runs / "best", weights=ws.weights, store=ws.features, precision=ws.precision)
print(run)

# %% [markdown]
# ## Step 21: save
#
# Besides the article's formats there are three for other programs. Two of them need packages of the extra `export`. To
# have them in Colab, put this line in a new cell **above** the setup cell:
#
# ```
# %pip install -q tf2onnx onnx onnxruntime ai-edge-litert
# ```
#
# The page works without them:

# %%
from vggnb.save import EXPORTS, FORMATS, available

formats, left_out = available()
exports = [kind for kind in EXPORTS if kind in formats]
for kind, reason in left_out.items():
    print(f"{kind} is left out on this machine: {reason}")
print("the three formats for other programs:", "all here" if not left_out else "not all here, and this page goes on")

# %% [markdown]
# One call writes all files. It then opens each of them in a fresh process, without vggnb, predicts eight images, and
# compares. Look at the last column: the largest difference between two probabilities. (The JSON file holds no weights;
# it is tested together with the weights file.)

# %% tags=["nbval-ignore-output"]
from vggnb.save import save_bundle

files = save_bundle(run, run.folder / "bundle", name="Skin", formats="all")
print(f"{'file':<58} {'format':<11} {'MB':>6}   largest difference")
for file in files:
    same = "-" if file.max_difference is None else f"{file.max_difference:.1e}"
    print(f"{file.path:<58} {file.format:<11} {file.bytes / 1e6:6.2f}   {same}")

# %%
differences = {file.format: file.max_difference for file in files if file.max_difference is not None}
print("no format of Keras differs by 0.00001:", max(differences[kind] for kind in FORMATS) < 1e-5)
print("no other format differs by 0.0001:", max(differences[kind] for kind in exports) < 1e-4)

# %% [markdown]
# | file | what it is | in the article |
# |---|---|---|
# | `VGG_Skin.json` | the architecture: the layers and their order; no weights | yes |
# | `VGG_Skin.h5` | architecture and weights in HDF5, Keras's older format | yes |
# | `VGG_Skin.weights.h5` | the weights alone | yes, under another name |
# | `VGG_Skin.keras` | architecture and weights in today's format | no |
# | `VGG_Skin.savedmodel/` | for TensorFlow Serving; a folder, twice as large as the others | no |
# | `VGG_Skin.onnx` | for ONNX Runtime and many other programs; see below | no |
# | `VGG_Skin.tflite` | for LiteRT, which runs on phones | no |
# | `model.safetensors` | the weights, and each feature's range in training (page 8). This file is what vggnb reads; it holds numbers only | no |
# | `labels.json` | the class of each output | **no**; without it the outputs have no meaning |
# | `card.json` | the model card: training data, results, limits | no |
# | `bundle.json` | classes, recipe (image size and resizing), versions, and the **hash** (SHA-256) of every file. It is written last, so it is not in the list above | **no**; without the image size the predictions are wrong |
#
# A hash is a number computed from all bytes of a file; it changes when a single bit changes.
#
# The exports open without vggnb, because all layers are Keras's own: `keras.models.load_model("VGG_Skin.keras")`.

# %% [markdown]
# > **In the article** the weights are saved with `save_weights("VGG_Skin.h5")`. Keras 3 requires a name that ends in
# > `.weights.h5`, so that weights are not mistaken for a whole model:

# %%
try:
    run.head().save_weights("VGG_Skin.h5")
except ValueError as error:
    print("Keras says:", error)

# %% [markdown]
# ## Use it from another program, without TensorFlow
#
# The ONNX file takes raw pixels (0 to 255) and returns calibrated probabilities. The other program only has to decode
# and resize the image, as `bundle.json` states. This complete program needs numpy, Pillow and onnxruntime:

# %%
import vggnb.save

program = pathlib.Path(vggnb.save.__file__).with_name("without_tensorflow.py")
print(program.read_text("utf-8"))

# %% [markdown]
# Run it as a separate program on a few test images, and compare with this library. You may copy the file into your own
# project.

# %%
import json
from vggnb.predict import predict_files
from vggnb.save import load_bundle
photos = [manifest.dataset / row.path for row in manifest.of("test")[::30]]
command = [sys.executable, program, run.folder / "bundle", *photos]
said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines() if "onnx" in exports else []
for line, ours in zip(said, predict_files(load_bundle(run.folder / "bundle"), photos)):
    theirs = {name: p for name, p in json.loads(line).items() if name != "path"}
    difference = max(abs(theirs[name] - ours.probabilities[name]) for name in theirs)
    print(f"{ours}; the other program differs by less than 0.0001: {difference < 1e-4}")
if not said:
    print("Left out: it needs onnxruntime and the ONNX file (the extra export; step 21 says how to get it).")

# %% [markdown]
# How long does each export take to load, and how many images per second does it predict? Decoding is not counted.
# TensorFlow was already loaded when the clock started. From a cold start, onnxruntime is several times faster
# (`benchmarks/predict.py`).

# %% tags=["nbval-ignore-output"]
from vggnb.save import time_export

for kind in exports:
    path = next(path for path in (run.folder / "bundle").iterdir() if path.name.endswith(vggnb.save.EXPORTS[kind]))
    loading, rate = time_export(kind, path, recipe.image_size)
    print(f"{kind:<11} loaded in {loading:.2f} s, then {rate:.0f} images/s of {recipe.image_size} pixels")

# %% [markdown]
# ## The model card
#
# People who use a model have often not trained it. The card tells them what the model is for, what it was trained on,
# and where its limits are.

# %%
from vggnb.storage import read_json

card = read_json(run.folder / "bundle" / "card.json")
for key in ("purpose", "network", "weights", "images"):
    print(f"{key}: {card[key]}\n")
print("limits:", *card["limits"], sep="\n- ")

# %% [markdown]
# ## A damaged file
#
# A broken download or a full disk can change a file. An `.h5` file with one flipped bit usually loads without an error
# and gives other predictions. The hashes detect this. Here a copy is damaged in three ways:

# %%
import shutil
from vggnb.storage import VggnbError

copy = shutil.copytree(run.folder / "bundle", ws.features.parent / "damaged", dirs_exist_ok=True)
good = (copy / "model.safetensors").read_bytes()
damages = {"one bit": good[:999] + bytes([good[999] ^ 1]) + good[1000:], "cut": good[:-1], "empty": b""}
for what, damaged in damages.items():
    (copy / "model.safetensors").write_bytes(damaged)
    try:
        load_bundle(copy)
    except VggnbError as error:
        print(f"{what}: {error.what}")

# %% [markdown]
# A hash shows that a file was changed, not how. It is not a signature: it does not show who made the file.
#
# A model file can also contain code: a Keras file may have a `Lambda` layer, which runs Python code that comes with the
# file. `load_bundle` builds the network itself and reads only numbers from `model.safetensors`. Open other model files
# only if you trust their source.

# %% [markdown]
# The bundle is in `ws.runs / "best" / "bundle"`. In Colab that is `vggnb/runs/dataset/best/bundle` on your Drive (for
# the sample, `vggnb/runs/sample/best/bundle`). New files can take some minutes to arrive on Drive: wait until you see
# them there before you close the tab.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Save only the article's three files into another folder (`formats="article"`). Which other files are written, and why?
# Then damage `VGG_Skin.json` and open the folder with `load_bundle`. Does it detect the damage? Does
# `vggnb.save.verify`?
#
# <details><summary>Show a solution</summary>
#
# ```python
# from vggnb.save import verify
#
# save_bundle(run, run.folder / "article-files", name="Skin", formats="article")
# print(*sorted(path.name for path in (run.folder / "article-files").iterdir()), sep="\n")
# file = run.folder / "article-files" / "VGG_Skin.json"
# file.write_bytes(file.read_bytes()[:-1])  # the last byte is missing
# load_bundle(run.folder / "article-files")  # no error: it does not read that file
# verify(run.folder / "article-files")
# ```
#
# `model.safetensors`, `labels.json`, `card.json` and `bundle.json` are always written: the model cannot be used safely
# without them. `load_bundle` reads `model.safetensors`, so a damaged export does not matter to it. `verify` checks
# every file and names the damaged one.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You saved the article's three files, today's format and three exports, and verified in a fresh process that each gives
# the same probabilities. You used one without TensorFlow, know what travels with the weights, and saw damaged files
# detected.
#
# Next: [8. Predict: your own photo](08_predict.ipynb)
