"""Probabilities that keep their word: one number, the temperature, divides what enters the softmax.

It is fitted on validation images, never on test. A temperature above 1 makes a boastful model more modest. It never
changes which class is the most probable, nor which of two pictures is.
"""

from dataclasses import asdict, dataclass

import numpy as np

FEWEST = 30  # validation images; from fewer, a temperature is more chance than knowledge
COLDEST, HOTTEST = 0.05, 20.0
TINY = 1e-30  # a probability that came out as 0


@dataclass(frozen=True)
class Calibration:
    """A temperature, on how many validation images it was fitted, and their mean log loss before and after.

    Attributes:
        reason: why the temperature is 1 without having been fitted; "" if it was.
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
    """The temperature for what a model said about validation images (Guo et al. 2017, doi 10.48550/arXiv.1706.04599).

    With fewer than 30 images, or none of some class, the temperature stays 1 and the reason is said.

    Args:
        logits: float (n, classes), what enters the softmax. labels: int (n,).
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    n = len(labels)
    if n < FEWEST:
        return Calibration(images=n, reason=f"{n} validation images are too few; it takes {FEWEST}.")
    if len(np.unique(labels)) < logits.shape[1]:
        return Calibration(images=n, reason="A class has no validation image.")
    temperature = fit_temperature(logits, labels)
    before, after = (log_loss(softmax(logits / t), labels) for t in (1.0, temperature))
    return Calibration(temperature, n, round(before, 6), round(after, 6))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least log loss, to four digits, between 0.05 and 20.

    The log loss is convex in 1 / temperature: where its slope changes sign is the answer, found by halving. The truth
    counts as sure only to 1 - 1 / (n + 2), after Platt (1999), so that a model without a mistake does not become
    infinitely sure of itself.

    Args:
        logits: float64 (n, classes). labels: int (n,).
    """
    n, classes = logits.shape
    doubt = 1 / (n + 2)
    truth = np.full((n, classes), doubt / (classes - 1))
    truth[np.arange(n), labels] = 1 - doubt
    cold, hot = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(60):
        middle = (cold + hot) / 2
        too_sure = ((softmax(logits / np.exp(middle)) - truth) * logits).sum() > 0
        cold, hot = (middle, hot) if too_sure else (cold, middle)
    return float(f"{np.exp(middle):.4g}")


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (n, classes) of the same model with its logits divided by `temperature` once more.

    With 1 / T for the model's own T: what it would have said without calibration.
    """
    return softmax(np.log(np.maximum(probabilities, TINY)) / temperature)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows (n, classes) that add up to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log(probability of the true class)."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], TINY)).mean())
