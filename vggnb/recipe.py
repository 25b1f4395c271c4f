"""Every modelling choice in one frozen object: `Recipe.article()`, `Recipe.best()` and `Recipe.fine()`."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index

import numpy as np

from vggnb.images import RESIZE
from vggnb.storage import VggnbError

BLOCKS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}  # VGG-16's five blocks and their channels (Simonyan, Zisserman 2014)
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block (the same paper, configuration D)
CONVOLUTIONS = tuple(f"block{b}_conv{c}" for b, n in zip(BLOCKS, DEPTHS, strict=True) for c in range(1, n + 1))
POOLINGS = ("average", "max")
AUGMENTATIONS = ("flips", "rotations", "brightness", "contrast")
PREPROCESSING = ("caffe", "rescale")
RIDGES = (10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)  # strong to weak: each fit starts at the one before


def _number(value: object, kind: type = Real) -> float:
    """A plain number; NumPy's become Python's, True and texts are refused."""
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError
    if not math.isfinite(value):
        raise TypeError
    return int(value) if kind is Integral else float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _ridge(value: object) -> float | tuple[float, ...]:
    return tuple(map(_number, value)) if isinstance(value, list | tuple | np.ndarray) else _number(value)


def _pools(value: Iterable) -> tuple[tuple[int, str], ...]:
    return tuple((index(block), pooling) for block, pooling in value)


def _kinds(value: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(kind.strip() for kind in value.split(",")) if isinstance(value, str) else tuple(value)


def _one_of(*allowed: str | None) -> tuple:
    return lambda value: value, lambda value: value in allowed, f"one of {', '.join(map(str, allowed))}"


_WHOLE = lambda value: _number(value, Integral)  # noqa: E731
_FLAG = (_flag, lambda _: True, "True or False")
_COUNT = (_WHOLE, lambda n: n >= 1, "a whole number, 1 or more")
_SHARE = (_number, lambda x: 0 <= x < 1, "a number from 0 up to, but not including, 1")
_RATE = (_number, lambda x: x > 0, "a number above 0")
_CHOICES = {  # how a value is converted, whether it is allowed, and what is
    "image_size": (_WHOLE, lambda n: 32 <= n <= 1024, "a whole number from 32 to 1024"),
    "batch_size": _COUNT, "epochs": _COUNT, "fine_tune_epochs": _COUNT,
    "patience": (lambda n: n and _WHOLE(n), lambda n: n is None or n >= 1, "None or a whole number, 1 or more"),
    "hidden": (_WHOLE, lambda n: n >= 0, "a whole number, 0 or more"),
    "seed": (_WHOLE, lambda n: 0 <= n < 2**32, f"a whole number from 0 to {2**32 - 1}"),
    "dropout": _SHARE, "fine_tune_dropout": _SHARE,
    "validation_share": (_number, lambda x: 0 < x < 1, "a number between 0 and 1"),
    "learning_rate": _RATE, "fine_tune_rate": _RATE,
    "ridge": (_ridge, lambda r: bool(r) and all(x > 0 for x in r) if isinstance(r, tuple) else r >= 0,
              "a number, 0 or more, or a tuple of numbers above 0"),
    "standardise": _FLAG, "decay": _FLAG, "class_weights": _FLAG, "hold_out": _FLAG,
    "resize": _one_of(*RESIZE),
    "preprocessing": _one_of(*PREPROCESSING),
    "two_class_activation": _one_of("sigmoid", "softmax"),
    "fine_tune": _one_of(None, *CONVOLUTIONS),
    "pools": (_pools, lambda pools: pools and all(b in BLOCKS and p in POOLINGS for b, p in pools),
              "pairs of a block, 1 to 5, and average or max, such as ((5, 'max'),)"),
    "augment": (_kinds, lambda kinds: set(kinds) <= set(AUGMENTATIONS), f"some of {', '.join(AUGMENTATIONS)}"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How images become a classifier. Change one choice with `recipe.with_(epochs=50)`.

    Attributes:
        image_size: pixels a side that the network sees; 32 to 1024. The article says 224.
        batch_size: images per training step.
        resize: "nearest" or "bilinear"; see `images.read_image`.
        preprocessing: "rescale" (to 0..1, the article) or "caffe" (BGR minus the ImageNet mean, as VGG-16 was trained).
        pools: which pooled block outputs the head sees, as (block, "average" or "max").
        standardise: subtract each feature's mean over the training images and divide by its standard deviation.
        hidden: units of the hidden relu layer; 0 for none.
        dropout: share of hidden activations set to 0 during training.
        two_class_activation: "sigmoid" (the article: one for each class) or "softmax".
        ridge: strength of the penalty on the squares of the output layer's weights, divided by the number of training
            images (0: none). Of several numbers cross-validation chooses one; only for a head without hidden layer.
        learning_rate: Adam's.
        decay: whether the learning rate falls to zero along half a cosine.
        epochs: passes over the training images, at most.
        patience: stop when the validation loss has not improved for so many epochs, halving the learning rate at each
            of them, and return to the best epoch; None: all epochs. Needs validation images, and no `decay`.
        class_weights: give each class the same total weight in the loss, however few its images are.
        hold_out: keep validation out of the fit. Without it, a head that is solved exactly is fitted on train and
            validation, and out-of-fold predictions take the place of validation; any other head always holds it out.
        validation_share: share of train that becomes validation when the dataset has none.
        fine_tune: the first convolution that is trained after the head, such as "block3_conv1"; None: none is.
        fine_tune_epochs: passes over the training images in fine-tuning.
        fine_tune_rate: AdamW's learning rate in fine-tuning; it falls to zero along half a cosine.
        fine_tune_dropout: share of the features set to 0 in fine-tuning, where the head has no dropout of its own.
        augment: what is changed at random in fine-tuning; "rotations" only where an image has no "up".
        seed: of the split, the initial weights, the order, augmentation and dropout.
    """

    name: str
    image_size: int = 224
    batch_size: int = 32
    resize: str = "bilinear"
    preprocessing: str = "caffe"
    pools: tuple[tuple[int, str], ...] = ((5, "max"),)
    standardise: bool = False
    hidden: int = 512
    dropout: float = 0.5
    two_class_activation: str = "softmax"
    ridge: float | tuple[float, ...] = 0.0
    learning_rate: float = 1e-3
    decay: bool = False
    epochs: int = 5
    patience: int | None = None
    class_weights: bool = False
    hold_out: bool = False
    validation_share: float = 0.2
    fine_tune: str | None = None
    fine_tune_epochs: int = 8
    fine_tune_rate: float = 3e-5
    fine_tune_dropout: float = 0.3
    augment: tuple[str, ...] = ("flips", "brightness", "contrast")
    seed: int = 0

    @classmethod
    def article(cls) -> "Recipe":
        """The recipe of the published article, without changes."""
        return cls(name="article", resize="nearest", preprocessing="rescale", two_class_activation="sigmoid")

    @classmethod
    def best(cls) -> "Recipe":
        """The recommended recipe: pools of all five blocks, standardised, under one ridge-penalised linear layer."""
        pools = tuple((block, pooling) for block in BLOCKS for pooling in POOLINGS)  # others: benchmarks/heads.py
        return cls(name="best", pools=pools, standardise=True, hidden=0, dropout=0.0, ridge=RIDGES, epochs=50)

    @classmethod
    def fine(cls) -> "Recipe":
        """`best`, then the whole network from block 3 on is fine-tuned on augmented images."""
        return dataclasses.replace(cls.best(), name="fine", fine_tune="block3_conv1")

    @classmethod
    def named(cls, name: str) -> "Recipe":
        """The recipe with this name: article, best or fine."""
        if name not in ("article", "best", "fine"):
            raise VggnbError(f"There is no recipe '{name}'.", "--recipe", "Use article, best or fine.")
        return getattr(cls, name)()

    def with_(self, **changes) -> "Recipe":
        """The same recipe with some choices changed.

        Raises:
            VggnbError: there is no such choice, or it is out of range; `where` is its name.
        """
        if unknown := [name for name in changes if name not in ("name", *_CHOICES)]:
            raise VggnbError(f"A recipe has no choice '{unknown[0]}'.", "with_", f"There are {', '.join(_CHOICES)}.")
        return dataclasses.replace(self, **changes)

    def activation(self, classes: int) -> str:
        """Of the output layer. The article: sigmoid for two classes, softmax for more."""
        return self.two_class_activation if classes == 2 else "softmax"

    def loss(self, classes: int) -> str:
        """Keras's name. The article: sparse for two classes (labels are integers), categorical for more (one-hot)."""
        return "sparse_categorical_crossentropy" if classes == 2 else "categorical_crossentropy"

    @property
    def width(self) -> int:
        """Features that enter the head: the channels of all its pools."""
        return sum(BLOCKS[block] for block, _ in self.pools)

    @property
    def is_open(self) -> bool:
        """Whether `ridge` has to be chosen by cross-validation first."""
        return isinstance(self.ridge, tuple)

    @property
    def is_solved_exactly(self) -> bool:
        """Whether the head is linear with a ridge and no patience: a convex problem, solved without epochs."""
        return not self.hidden and not self.dropout and self.ridge != 0 and self.patience is None

    @property
    def holds_out(self) -> bool:
        """Whether validation is kept out of the fit."""
        return self.hold_out or not self.is_solved_exactly

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The recipe that `to_dict` wrote."""
        if not isinstance(values, dict) or set(values) != {"name", *_CHOICES}:
            raise VggnbError("Not a recipe.", "recipe.json", "Train the run again with this version of vggnb.")
        return cls(**values)

    def __post_init__(self):
        for name, (convert, is_allowed, allowed) in _CHOICES.items():
            value, kept = getattr(self, name), False
            with contextlib.suppress(TypeError, ValueError):
                object.__setattr__(self, name, convert(value))
                kept = is_allowed(getattr(self, name))
            if not kept:
                raise VggnbError(f"The choice {name} = {value!r} is not {allowed}.", name, f"Use {allowed}.")
        if self.is_open and (self.hidden or self.dropout):  # only a convex problem has one solution
            what = "Several values of ridge are only for a head without hidden layer and dropout."
            raise VggnbError(what, "ridge", "Use one number, or with_(hidden=0, dropout=0, ...).")
        if self.patience and self.decay:
            what = "The choices patience and decay cannot be combined, because both lower the learning rate."
            raise VggnbError(what, "patience", "Use with_(patience=..., decay=False).")
