"""Out-of-distribution images: those with many features outside the range that they had in training.

A probability does not show this: a network without a class "none of these" is as confident about a shoe. This test is a
hint and no guarantee: a model of skin lesions flagged 330 of 330 photographs of waste, a model of waste only a third of
the lesions.
"""

import math
from dataclasses import dataclass

import numpy as np

from vggnb.storage import VggnbError

FEWEST = 20  # validation images; a limit from fewer is mostly noise
FALSE_ALARMS = 0.02  # share of images like the training data that may be flagged
TOLERANCE = 1e-3  # of a range's width: engines round differently


@dataclass(frozen=True)
class FeatureRanges:
    """The range of each feature in training, and the largest share of features outside that is still accepted.

    Attributes:
        low, high: float32 (d,), of the features that enter the head.
        limit: share of features outside their range, 0 to 1, above which an image is flagged; None: unknown.
        images: number of validation images that the limit comes from.
        reason: why there is no limit; "" if there is one.
    """

    low: np.ndarray
    high: np.ndarray
    limit: float | None
    images: int
    reason: str = ""

    def __str__(self) -> str:
        if self.limit is None:
            return f"out-of-distribution images are not detected: {self.reason}"
        text = f"out-of-distribution: more than {100 * self.limit:.0f} % of {len(self.low)} features outside their "
        return text + f"range in training (limit from {self.images} validation images)"

    def out_of_distribution(self, features: np.ndarray) -> list[bool | None]:
        """For features (n, d), one answer per image; None where there is no limit."""
        if self.limit is None:
            return [None] * len(features)
        return [bool(share > self.limit) for share in share_outside(features, self.low, self.high)]

    def to_dict(self) -> dict:
        """Plain values for JSON, which gives every float32 back exactly."""
        return {**vars(self), "low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def from_dict(cls, values: object, *, width: int, where: object) -> "FeatureRanges":
        """The ranges from what `to_dict` gave, or from a dict with the two arrays as arrays.

        Args:
            width: number of features that enter the head.

        Raises:
            VggnbError: it is something else; the message names `where`.
        """
        try:
            low, high = (np.array(values[name], np.float32) for name in ("low", "high"))
            limit = None if values["limit"] is None else float(values["limit"])
            images, reason = int(values["images"]), str(values["reason"])
        except (KeyError, TypeError, ValueError):
            low = high = np.zeros(0)
            limit, images, reason = None, 0, ""
        finite = low.shape == high.shape == (width,) and np.isfinite(low).all() and np.isfinite(high).all()
        if not finite or not (limit is None or 0 <= limit <= 1):
            what = f"These are not the ranges of {width} features."
            raise VggnbError(what, where, "Copy the file again, or save the run again.")
        return cls(low, high, limit, images, reason)


def fit_ranges(train: np.ndarray, validation: np.ndarray) -> FeatureRanges:
    """Ranges from training images, the limit from validation images.

    The limit is such that about 2 % of images from the same source are flagged (split conformal prediction, Vovk et al.
    2005): the ceil(0.98 (n + 1))-th smallest of the n shares, or the largest where there are fewer than 49.

    Args:
        train, validation: features that enter the head, float32 (n, d) and (m, d).
    """
    low, high = train.min(axis=0).astype(np.float32), train.max(axis=0).astype(np.float32)
    n = len(validation)
    if n < FEWEST:
        return FeatureRanges(low, high, None, n, f"{n} validation images are too few; at least {FEWEST} are needed.")
    rank = min(math.ceil((1 - FALSE_ALARMS) * (n + 1)), n)
    limit = float(np.sort(share_outside(validation, low, high))[rank - 1])
    return FeatureRanges(low, high, limit, n)


def share_outside(features: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The share of each image's features that lie outside their range, float64 (n,); NaN counts as outside."""
    slack = TOLERANCE * (high - low)
    return 1 - ((features >= low - slack) & (features <= high + slack)).mean(axis=1)
