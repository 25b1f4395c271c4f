# %% [markdown]
# # 7. Save: files that give the same predictions
#
# After this page you can
#
# - save a model as the article does (JSON, whole model, weights) and in today's format (`.keras`),
# - verify that each file gives the same probabilities when it is loaded again,
# - say which files belong together,
# - use the model in another program, without TensorFlow.
#
# **Article step** 21. **Reads** the run of page 5 (or trains it now). **Writes** a **bundle**, one folder with all
# files of a saved model: 470 MB, or 350 MB without ONNX and LiteRT. **Takes** 60 seconds in quick, 90 in full, on two
# CPU cores.

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
run = open_or_train(manifest, recipe, ws.runs / "best", **ws.training)
print(run)

# %% [markdown]
# ## Step 21: save
#
# Besides the article's formats there are three for other programs: SavedModel, ONNX and LiteRT. Which formats can be
# written here?

# %% tags=["nbval-ignore-output"]
from vggnb.save import available

formats, missing = available()
print("Written:", ", ".join(formats))
for name, reason in missing.items():
    print(f"Skipped: {name}. {reason}")

# %% [markdown]
# To have all of them in Colab, run `%pip install -q tf2onnx onnx onnxruntime ai-edge-litert` in a new cell **above** the
# setup cell.
#
# One call writes all files, opens each in a fresh process without vggnb, and predicts eight images. Look at the largest
# difference between two probabilities:

# %% tags=["nbval-ignore-output"]
from vggnb.save import save_bundle

files = save_bundle(run, run.folder / "bundle", formats=formats)
files

# %%
largest = max(file.max_difference or 0 for file in files)
print("All files give the same probabilities:", largest < 1e-4)

# %% [markdown]
# The end of a file's name shows what it contains:
#
# | file | content | in the article |
# |---|---|---|
# | `.json` | the layers and their order | yes |
# | `.h5` | layers and weights, Keras's older format | yes |
# | `.weights.h5` | the weights | yes |
# | `.keras` | layers and weights, today's format | no |
# | `.savedmodel/`, `.onnx`, `.tflite` | for TensorFlow Serving, ONNX Runtime, LiteRT (phones) | no |
# | `model.safetensors` | the weights; vggnb reads this file | no |
# | `labels.json` | the class of each output | **no** |
# | `bundle.json` | image size and resizing, versions, a hash of every file | **no** |
# | `card.json` | the model card, see below | no |
#
# Copy the whole folder: without the class names the outputs mean nothing, and with another image size the predictions
# are wrong.
#
# > **In the article** the weights are saved with `save_weights("VGG_Skin.h5")`. Keras 3 refuses this name:

# %%
try:
    run.head().save_weights("VGG_Skin.h5")
except ValueError as error:
    print("Keras:", error)

# %% [markdown]
# ## Use it without TensorFlow
#
# This complete program needs only numpy, Pillow and onnxruntime. Copy it into your own project:

# %%
import pathlib
import vggnb.save

program = pathlib.Path(vggnb.save.__file__).with_name("without_tensorflow.py")
print(program.read_text("utf-8"))

# %% [markdown]
# Here are the probabilities of vggnb for three test images:

# %%
from vggnb.predict import predict_files
from vggnb.save import load_bundle

bundle = load_bundle(run.folder / "bundle")
photos = [manifest.dataset / row.path for row in manifest.of("test")[:3]]
predictions = predict_files(bundle, photos)
print(*predictions, sep="\n")

# %% [markdown]
# Now the program predicts the same images:

# %%
import json, subprocess, sys

command = [sys.executable, program, bundle.folder, *photos]
done = subprocess.run(command, capture_output=True, text=True)
for line, ours in zip(done.stdout.splitlines(), predictions):
    theirs = json.loads(line)
    difference = max(abs(theirs[name] - p) for name, p in ours.probabilities.items())
    print(f"{pathlib.Path(ours.path).name}: the same to 0.0001: {difference < 1e-4}")
if done.returncode:
    print("Skipped, ONNX is missing:", done.stderr.splitlines()[-1])

# %% [markdown]
# ## The model card
#
# The card tells others what the model is for and where its limits are:

# %%
from vggnb.storage import read_json

card = read_json(bundle.folder / "card.json")
print(card["purpose"], card["network"], *card["limits"], sep="\n- ")

# %% [markdown]
# ## A damaged file
#
# A faulty download can change a single bit; an `.h5` file usually loads anyway, but its predictions change. A bundle
# stores the **hash** of every file, a number computed from all its bytes:

# %%
import shutil, tempfile
from vggnb.storage import VggnbError

with tempfile.TemporaryDirectory() as copy:
    shutil.copytree(bundle.folder, copy, dirs_exist_ok=True)
    data = bytearray(pathlib.Path(copy, "model.safetensors").read_bytes())
    data[999] ^= 1  # flip one bit
    pathlib.Path(copy, "model.safetensors").write_bytes(data)
    try:
        load_bundle(copy)
    except VggnbError as error:
        print(error.what)

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Save only the article's three files into another folder, with `formats="article"`. How many other files does
# `save_bundle` write there?
#
# <details><summary>Show a solution</summary>
#
# ```python
# save_bundle(run, run.folder / "article-files", formats="article")
# names = sorted(path.name for path in (run.folder / "article-files").iterdir())
# print(names)
# further = len(names) - 3
# ```
#
# `model.safetensors`, `labels.json`, `card.json` and `bundle.json` are always written, because the model cannot be used
# reliably without them.
# </details>

# %% tags=["check", "hide-input"]
# @title Run this cell so that check(n) works {"display-mode": "form"}
from vggnb.exercises import checks

check = checks(
    globals(),
    further=lambda answer: answer == 4
    or ("Leave out the article's three files." if answer == 7 else "List the files of the folder."),
)

# %%
further = ...
check(1)

# %% [markdown]
# ## What you can do now
#
# You saved the article's files, today's format and exports, and verified that they give the same probabilities. You used
# one without TensorFlow, and know which files belong together.
#
# Next: [8. Predict: your own photo](08_predict.ipynb)
#
# ### Appendix: model files from other people
#
# A Keras file can contain code that runs when it is loaded. Open one only if you trust its source; a hash does not show
# who made a file. `load_bundle` builds the network itself and reads only numbers.
