"""Temperature scaling: one number, fitted on images that the model was not trained on, divides the logits.

Guo et al. 2017 (doi 10.48550/arXiv.1706.04599). A temperature above 1 makes an overconfident model less confident. The
most probable class stays the same, and so does the ranking of two images where there are two classes.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

FEWEST = 30  # validation images; a temperature fitted on fewer is mostly noise
LOWEST, HIGHEST = 0.05, 20.0
TINY = 1e-30  # in place of a probability that came out as 0


@dataclass(frozen=True)
class Calibration:
    """A temperature, the number of images that it was fitted on, and their mean log loss before and after.

    Attributes:
        reason: why the temperature is 1 and was not fitted; "" if it was.
    """

    temperature: float = 1.0
    images: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"not calibrated (temperature 1): {self.reason}"
        text = f"temperature {self.temperature:.2f}, fitted on {self.images} validation images: "
        return text + f"their log loss {self.loss_before:.3f} -> {self.loss_after:.3f}"

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit the temperature; it stays 1 where there are fewer than 30 images, or none of some class.

    Args:
        logits: float (n, classes), what enters the softmax.
        labels: int (n,).
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    n = len(labels)
    if n < FEWEST:
        return Calibration(images=n, reason=f"{n} validation images are too few; at least {FEWEST} are needed")
    if len(np.unique(labels)) < logits.shape[1]:
        return Calibration(images=n, reason="a class has no validation image")
    temperature = fit_temperature(logits, labels)
    before, after = (-log_softmax(logits / t, axis=1)[np.arange(n), labels].mean() for t in (1.0, temperature))
    return Calibration(temperature, n, round(float(before), 6), round(float(after), 6))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 0.05 and 20 with the least log loss, to four digits.

    Targets are 1 - 1 / (n + 2) instead of 1, after Platt (1999), so that a model without errors does not become
    infinitely confident.

    Args:
        logits: float64 (n, classes).
        labels: int (n,).
    """
    n, classes = logits.shape
    targets = np.full((n, classes), 1 / (n + 2) / (classes - 1))
    targets[np.arange(n), labels] = 1 - 1 / (n + 2)

    def loss(log_temperature: float) -> float:
        return -(targets * log_softmax(logits / np.exp(log_temperature), axis=1)).sum()

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.4g}")


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, classes) with their logits divided by `temperature`; by 1 / T undoes a temperature T."""
    return softmax(np.log(np.maximum(probabilities, TINY)) / temperature, axis=1)
