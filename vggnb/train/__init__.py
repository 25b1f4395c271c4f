"""Fit the head on stored features, or fine-tune from a named layer.

- `run_files`, `runs`: the folder of a run; what was decided when a training began, and what came out of it
- `lock`: one process at a time
- `ridge`: cross-validation, out-of-fold predictions and the exact solution of a linear head
- `adam`: other heads
- `head`: `fit`, `train`: the head on stored features
- `augment`, `epochs`: the images of an epoch; the epochs of fine-tuning, and their checkpoints
- `finetune`: `fine_tune`: the last convolutions together with the head
"""

from vggnb.train.finetune import fine_tune
from vggnb.train.head import fit, open_or_train, train
from vggnb.train.runs import History, Run, Stopped, open_run, start_run

__all__ = ["History", "Run", "Stopped", "fine_tune", "fit", "open_or_train", "open_run", "start_run", "train"]
