"""Fit the head on stored features, or fine-tune from a named layer; whatever stops a training, it goes on exactly.

- `runs`: the folder of one training: what was decided when it began, and what came out of it
- `keeper`: what a training remembers; a checkpoint every few seconds
- `loop`: Keras's `fit`, from the newest checkpoint on
- `head`: `fit`, `train`: the head on stored features
- `cut`: the network cut in two before a named layer
- `finetune`: `fine_tune`: the last convolutions together with the head
"""

from vggnb.train.finetune import fine_tune
from vggnb.train.head import fit, open_or_train, train
from vggnb.train.keeper import Stopped
from vggnb.train.runs import History, Run, open_run, start_run

__all__ = ["History", "Run", "Stopped", "fine_tune", "fit", "open_or_train", "open_run", "start_run", "train"]
