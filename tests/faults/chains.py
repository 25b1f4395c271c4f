"""Kill a training over and over until it is done, and compare with one that was left in peace.

    python -m faults.chains fine-tune FOLDER KILLS

This process only imports TensorFlow and never computes with it: a fork of one that has would hang. So it is a program
of its own, which prints one JSON document.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from faults import killed, small
from vggnb.train import finetune

WAIT_S = 0.02  # after each epoch, so that a kill has something to hit


def fine_tune(folder: Path, wait_s: float = 0, begins: int = 1) -> None:
    """The training of `fine_tune`, on a small net."""
    from vggnb.checkpoints import Checkpoints

    folder.mkdir(exist_ok=True)
    tail, inputs, labels, recipe = small.small_tail()
    card = {"epochs": 80, "patience": 1000}
    split = {"train": np.arange(44), "validation": np.arange(44, 64)}
    state = finetune.tune(
        tail, inputs, labels, **split, recipe=recipe, card=card, checkpoints=Checkpoints(folder / "c", "fine-tune"),
        progress=slowly(folder, wait_s, begins), every_s=0 if wait_s else 5,
    )  # fmt: skip
    (folder / "done").write_text(state.sha256("model/", "optimizer/", "best/"))


def slowly(folder: Path, wait_s: float, begins: int):
    """A progress that waits, and says in a file when so many epochs are done."""
    return lambda epochs: small.Slowly(folder / "begun", wait_s, begins)


def chain(train, folder: Path, kills: int) -> dict:
    """Train in peace, then with kills at random moments, then to the end."""
    start = time.time()
    killed(lambda: train(folder / "straight"), after_s=None)
    begins_s = (folder / "straight" / "begun").stat().st_mtime - start
    random, chained, starts, hits = np.random.default_rng(7), folder / "chained", [], 0
    begun = chained / "begun"
    while hits < kills and not (chained / "done").exists():
        begun.unlink(missing_ok=True)
        early = random.random() < 0.3  # while it starts, reads and compiles; else while it trains
        when = {"after_s": random.uniform(0, begins_s)} if early else {"after_s": random.uniform(0, 0.1), "sign": begun}
        hits += killed(lambda begins=1 + hits % 3: train(chained, WAIT_S, begins), **when)
        paths = sorted(chained.rglob("*.ckpt"))
        starts.append(int(paths[-1].stem[-6:]) if paths else 0)
    killed(lambda: train(chained), after_s=None)
    left = [str(path.relative_to(chained)) for path in chained.rglob(".vggnb-*")]
    states = [(folder / name / "done").read_text() for name in ("straight", "chained")]
    return {"kills": hits, "epochs": starts, "states": states, "left": left, "begins_s": round(begins_s, 2)}


if __name__ == "__main__":
    kind, place, count = sys.argv[1:]
    document = chain({"fine-tune": fine_tune}[kind], Path(place), int(count))
    print(json.dumps(document))
