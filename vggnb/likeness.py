"""Is a picture like those that a model was trained on? What its features were in training, lowest and highest.

A probability cannot tell: a network without a class for *I do not know* is as sure about a shoe. So the features of the
training pictures are kept as one range each, and a picture is unlike them when more of its features lie outside their
ranges than of nearly all validation pictures. It is a hint, no proof: a model of skin lesions called 330 of 330
photographs of rubbish unlike, a model of rubbish only a third of the lesions.
"""

import base64
import math
from dataclasses import dataclass

import numpy as np

from vggnb.storage import VggnbError

FEWEST = 20  # validation pictures; from fewer, a limit is more chance than knowledge
WRONGLY = 0.02  # share of pictures like the training data that may be called unlike them
SLACK = 1e-3  # of a range's width: engines round differently


@dataclass(frozen=True)
class Likeness:
    """The range of each feature in training, and the largest share outside that is still alike.

    Attributes:
        low, high: float32 (d,), of the features that enter the head.
        limit: share of features outside their range, 0 to 1, above which a picture is unlike; None: it was not found.
        images: validation pictures that the limit comes from.
        reason: why there is no limit; "" if there is one.
    """

    low: np.ndarray
    high: np.ndarray
    limit: float | None
    images: int
    reason: str = ""

    def __str__(self) -> str:
        if self.limit is None:
            return f"Whether a picture is like the training data cannot be said: {self.reason}"
        text = f"unlike the training data: more than {100 * self.limit:.0f} % of {len(self.low)} features outside "
        return text + f"what training pictures had (limit from {self.images} validation pictures)"

    def unlike(self, features: np.ndarray) -> list[bool | None]:
        """For features (n, d), one answer a picture; None where there is no limit."""
        if self.limit is None:
            return [None] * len(features)
        return [bool(share > self.limit) for share in outside(features, self.low, self.high)]

    def to_dict(self) -> dict:
        """Plain values for JSON; the ranges as little-endian float32 in base 64, so that no bit is lost."""
        ranges = {name: base64.b64encode(getattr(self, name).astype("<f4").tobytes()) for name in ("low", "high")}
        texts = {name: text.decode() for name, text in ranges.items()}
        return {**texts, "limit": self.limit, "images": self.images, "reason": self.reason}

    @classmethod
    def from_dict(cls, values: object, *, width: int, where: object) -> "Likeness":
        """What `to_dict` wrote.

        Args:
            width: how many features the head sees.

        Raises:
            VggnbError: it is something else; `where` is named.
        """
        try:
            low, high = (
                np.frombuffer(base64.b64decode(values[name], validate=True), "<f4") for name in ("low", "high")
            )
            limit = None if values["limit"] is None else float(values["limit"])
            images, reason = int(values["images"]), str(values["reason"])
        except (KeyError, TypeError, ValueError, AttributeError):
            low = high = np.zeros(0)
            limit, images, reason = None, 0, ""
        whole = len(low) == len(high) == width and np.isfinite(low).all() and np.isfinite(high).all()
        if not whole or not (limit is None or 0 <= limit <= 1):
            remedy = "Copy it again, or save the run again."
            raise VggnbError(f"These are not the ranges of {width} features.", where, remedy)
        return cls(low, high, limit, images, reason)


def learn_likeness(train: np.ndarray, validation: np.ndarray) -> Likeness:
    """Ranges from training pictures, the limit from validation pictures.

    The limit is such that of pictures from the same source about 2 % are called unlike (split conformal prediction,
    Vovk et al. 2005): the ceil(0.98 (n + 1))-th smallest of the n shares, or the largest where there are fewer than 49.

    Args:
        train, validation: features that enter the head, float32 (n, d) and (m, d).
    """
    low, high = train.min(axis=0).astype(np.float32), train.max(axis=0).astype(np.float32)
    n = len(validation)
    if n < FEWEST:
        return Likeness(low, high, None, n, f"{n} validation pictures are too few; it takes {FEWEST}.")
    rank = min(math.ceil((1 - WRONGLY) * (n + 1)), n)
    limit = float(np.sort(outside(validation, low, high))[rank - 1])
    return Likeness(low, high, limit, n)


def outside(features: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The share of each picture's features that lie outside their range, float64 (n,); what is no number does, too."""
    slack = SLACK * (high - low)
    return 1 - ((features >= low - slack) & (features <= high + slack)).mean(axis=1)
