# %% [markdown]
# # 0. Quickstart: from a folder of images to a model you can use
#
# After this page you have
#
# - a classifier for your own images,
# - a report that shows how good it is, and how certain that estimate is,
# - files to keep: the report, and the model with a web page that runs it.
#
# Choose your images in the form below: a folder or a .zip with **one folder for each class**. Leave it as it is to try the
# page on a sample, whose images are drawn by a program. Then choose **Run > Run all cells** (in Colab: **Runtime > Run
# all**).
#
# **Takes** 50 seconds in quick (the sample) on two CPU cores. In full, 600 images of 224 pixels take about 2 minutes on
# two CPU cores, less on a GPU.

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
from vggnb.workflow import open_dataset, take_home, train

dataset = open_dataset(ws)
dataset

# %% [markdown]
# ## Train
#
# VGG-16 was trained on 1.3 million photographs. Each of your images passes through it once; then a small classifier is
# trained on the result. `train(dataset, class_weights=True)` gives rare classes the same weight as frequent ones.

# %%
run = train(dataset)
run

# %% [markdown]
# ## How good is it?
#
# The model predicts the test images, which it has not seen. Compare the accuracy with that of always predicting the
# most frequent class. The interval shows how uncertain the accuracy is with so few images. In the confusion matrix,
# rows are the true classes. The most confident mistakes come last; look for wrong labels among them.

# %%
from IPython.display import display
from vggnb import figures
from vggnb.evaluate import evaluate, predict_split

report = evaluate(run)
display(report, figures.confusion_matrix(report))
figures.prediction_gallery(predict_split(run), run.manifest, most=8)

# %% [markdown]
# ## Try it
#
# Upload a photo. You see the probability of each class, and a heat map of where in the image the network found
# evidence.

# %%
from vggnb.widgets import try_your_own

try_your_own(run)

# %% [markdown]
# ## Take it home
#
# The report opens in any browser. The .zip holds the model, for Keras and for `vggnb predict`. If it holds a folder
# `page`, open `index.html` in it: that page runs the model without a server, also on a phone.

# %% tags=["nbval-ignore-output"]
take_home(run)

# %% [markdown]
# ## What just happened?
#
# The pages from 1 on take these steps apart. Page 2 shows what was found in your images, page 5 trains, page 6 explains
# the report, and page 9 improves the result.
#
# Next: [1. Paths: where your images and results are stored](01_paths.ipynb)
