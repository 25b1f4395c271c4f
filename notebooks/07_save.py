# %% [markdown]
# # 7. Save: files that come back the same
#
# After this page you can
#
# - save a model as the article does (JSON, whole model, weights) and as one does today (`.keras`),
# - verify that each file gives the same probabilities when it is loaded again,
# - say what must travel with the weights so that the model can be used at all,
# - use the model from another program, without TensorFlow,
# - explain why `save_weights("VGG_Skin.h5")` fails today, and see damaged files refused.
#
# **Article step** 21. **Reads** the run of page 5 (or trains it now, and says so). **Writes** a **bundle** (one folder with all files that belong to a saved model; about 410 MB, 300 without ONNX and LiteRT) into the
# run's folder, and a damaged copy of it. **Takes** 60 seconds in quick, 90 in full, on two CPU cores.

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
from vggnb.train import open_or_train

recipe = Recipe.best().with_(image_size=ws.image_size)
manifest = open_manifest(ws, recipe)
run = open_or_train(manifest, recipe, ws.runs / "best", weights=ws.weights, store=ws.features, precision=ws.precision)
print(run)

# %% [markdown]
# ## Step 21: save
#
# Besides the article's formats there are three for other programs; two of them need packages that not every machine has
# (the extra `export`). In Colab, put this line in a new cell **above** the setup cell to have them:
#
# ```
# %pip install -q tf2onnx onnx onnxruntime ai-edge-litert
# ```
#
# What is not here is left out, and said:

# %%
from vggnb.save import EXPORTS, FORMATS, available

formats, left_out = available()
exports = [kind for kind in EXPORTS if kind in formats]
for kind, reason in left_out.items():
    print(f"{kind} is left out on this machine: {reason}")
print("the three formats for other programs:", "all here" if not left_out else "not all here, and this page goes on")

# %% [markdown]
# One line writes all files, opens each of them again **in a fresh process** with its own loader (this library cannot even
# be imported there), lets it predict the same eight images, and compares. Look at the last column: by how much does the
# most different probability differ? (The JSON holds no weights; it is tested together with the weights file.)

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
# | `VGG_Skin.json` | the architecture: which layers in which order; no weights | yes |
# | `VGG_Skin.h5` | architecture and weights in the older HDF5 format, which Keras advises against today | yes |
# | `VGG_Skin.weights.h5` | the weights alone | yes, under another name |
# | `VGG_Skin.keras` | architecture and weights in today's format | no |
# | `VGG_Skin.savedmodel/` | for TensorFlow's own servers; a folder, and twice as large, since Keras writes the numbers twice | no |
# | `VGG_Skin.onnx` | for almost every other program; below | no |
# | `VGG_Skin.tflite` | for LiteRT, which runs on telephones | no |
# | `model.safetensors` | the weights, and the range of each feature in training (page 8): what this library reads; it holds numbers only | no |
# | `labels.json` | which output is which class | **no**, and without it the outputs mean nothing |
# | `card.json` | what it was trained on, how it did, what it must not be used for | no |
# | `bundle.json` | classes, recipe (size and way of resizing), versions, and a **hash** of every file (SHA-256): a number computed from all its bytes, another one as soon as one bit differs. Written last, so not in the list above | **no**, and without the size the answers are wrong |
#
# No file needs this library: all layers are Keras's own. `keras.models.load_model("VGG_Skin.keras")` is all that another
# program types.

# %% [markdown]
# > **In the article** the weights are saved with `save_weights("VGG_Skin.h5")`. Keras 3 refuses: weights alone must end
# > in `.weights.h5`, so that nobody takes them for a whole model. See it refuse:

# %%
try:
    run.head().save_weights("VGG_Skin.h5")
except ValueError as error:
    print("Keras says:", error)

# %% [markdown]
# ## Use it from another program, without TensorFlow
#
# The ONNX file holds the whole way from raw pixels (0 to 255) to calibrated probabilities, scaling included. What is left
# to the other program is how a file becomes those pixels; `bundle.json` states that rule. A program has to do just this,
# and needs numpy, Pillow and onnxruntime (installed, about 80 MB instead of TensorFlow's 1,300):

# %%
import vggnb.save

program = pathlib.Path(vggnb.save.__file__).with_name("without_tensorflow.py")
print(program.read_text("utf-8"))

# %% [markdown]
# Run it as a program of its own on three pictures, and compare with what this library says. (Copy it: it is yours.)

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
# How fast is each? Loading, and then images a second without decoding, on the machine that made this page. TensorFlow was
# loaded before the clock started, the others were not; from a cold start, onnxruntime answers several times sooner
# (`benchmarks/predict.py`).

# %% tags=["nbval-ignore-output"]
from vggnb.save import time_export

for kind in exports:
    path = next(path for path in (run.folder / "bundle").iterdir() if path.name.endswith(vggnb.save.EXPORTS[kind]))
    loading, rate = time_export(kind, path, recipe.image_size)
    print(f"{kind:<11} loaded in {loading:.2f} s, then {rate:.0f} images/s of {recipe.image_size} pixels")

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
# loads without a word, and the model then answers differently. The hashes notice. Break a copy in several ways, the last
# one by turning the class names round: without that check the model would predict *malignant* where it means *benign*.

# %%
import shutil
from vggnb.storage import VggnbError

copy = shutil.copytree(run.folder / "bundle", ws.features.parent / "damaged", dirs_exist_ok=True)
good = (copy / "model.safetensors").read_bytes()
flipped = good[:1_000_000] + bytes([good[1_000_000] ^ 1]) + good[1_000_001:]
ways = {"one bit": ("model.safetensors", flipped), "cut": ("model.safetensors", good[:-1]), "empty": ("model.safetensors", b""),
        "classes turned round": ("labels.json", b'["malignant", "benign"]')}  # fmt: skip
for what, (name, damaged) in ways.items():
    (copy / name).write_bytes(damaged)
    try:
        load_bundle(copy)
    except VggnbError as error:
        print(f"{what}: {error.what}")
    (copy / name).write_bytes((run.folder / "bundle" / name).read_bytes())

# %% [markdown]
# A hash tells that a file is not the one that was saved, not what happened to it, and it is no signature. A model file can
# also be a **program**: a Keras architecture may name a `Lambda` layer, which runs code that comes with the file. This
# library never opens `VGG_Skin.keras` or `.h5` itself: it builds the network and reads numbers from
# `model.safetensors`. Open other people's model files only if you trust them.

# %% [markdown]
# The bundle lies in `ws.runs / "best" / "bundle"`; in Colab that is `vggnb/runs/dataset/best/bundle` on your Drive (for the
# sample, `vggnb/runs/sample/best/bundle`). A file that was just written needs some minutes to arrive there; wait until you see
# it in Drive's own window before you close the tab.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Save only the article's three files into another folder (`formats="article"`). Which other files are still written, and
# why? Then break `VGG_Skin.json`, as you like, and open the folder with `load_bundle`: does it notice? Does `verify`
# (`from vggnb.save import verify`)?
#
# <details><summary>Show a solution</summary>
#
# ```python
# from vggnb.save import verify
#
# save_bundle(run, run.folder / "article-files", name="Skin", formats="article")
# print(*sorted(path.name for path in (run.folder / "article-files").iterdir()), sep="\n")
# file = run.folder / "article-files" / "VGG_Skin.json"
# file.write_bytes(file.read_bytes()[:-1])  # its last byte is gone
# load_bundle(run.folder / "article-files")  # says nothing: it does not read that file
# verify(run.folder / "article-files")
# ```
#
# The numbers, the class names, the card and `bundle.json` are always written: without them the three files cannot be used
# safely. `load_bundle` reads `model.safetensors`, so a broken export does not disturb it; `verify` checks every file and
# names the broken one.
# </details>

# %%
# your code here

# %% [markdown]
# ## What you can do now
#
# You saved the article's three files, today's one and three for other programs, saw each come back the same from a fresh
# process, used one without TensorFlow, know what travels with the weights, and saw damaged files refused.
#
# Next: [8. Predict: your own photo](08_predict.ipynb)
