"""Do 95 % intervals catch the true value 95 times of 100? Simulated test sets whose truth is known.

    python benchmarks/coverage.py [--sets 400] [--json]

Scores of two classes come from two normal distributions, so the true AUC, accuracy and sensitivity are known. The last
rows are hard: few images and an almost perfect model, where a plain bootstrap catches the truth in half of the cases.
The last line is the time of a report on 528 predictions with 2,000 draws.
"""

import argparse
import platform
import time
from datetime import date
from statistics import NormalDist

import numpy as np
from tell import document as print_document
from tell import with_json

from vggnb.metrics import Predictions, report_on

NORMAL = NormalDist()
CLASSES = ("benign", "malignant")
SETTINGS = ((60, 60, 0.85), (200, 328, 0.85), (40, 40, 0.95), (10, 10, 0.85), (10, 10, 0.99))  # benign, malignant, AUC
METRICS = ("auc", "accuracy", "sensitivity")


def test_set(random: np.random.Generator, negatives: int, positives: int, distance: float) -> Predictions:
    """Predictions of a model whose score is the log odds of two unit normals `distance` apart."""
    labels = np.repeat([0, 1], [negatives, positives])
    odds = distance * (random.normal(size=len(labels)) + distance * (labels - 0.5))
    share = 1 / (1 + np.exp(-odds))
    return Predictions(tuple(map(str, range(len(labels)))), labels, np.stack([1 - share, share], axis=1))


def coverage(sets: int, negatives: int, positives: int, auc: float, *, draws: int = 500, seed: int = 0) -> dict:
    """Share of simulated test sets whose interval holds the truth, for each metric."""
    distance = NORMAL.inv_cdf(auc) * 2**0.5
    right = NORMAL.cdf(distance / 2)  # of either class at threshold 0.5
    truth, random = {"auc": auc, "accuracy": right, "sensitivity": right}, np.random.default_rng(seed)
    held = dict.fromkeys(METRICS, 0)
    for _ in range(sets):
        metrics = report_on(test_set(random, negatives, positives, distance), CLASSES, draws=draws).metrics
        for name in METRICS:
            held[name] += metrics[name].low <= truth[name] <= metrics[name].high
    return {name: count / sets for name, count in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    options = with_json(parser).parse_args()
    rows = [{"negatives": n, "positives": p, "auc_is": a, **coverage(options.sets, n, p, a)} for n, p, a in SETTINGS]
    given = test_set(np.random.default_rng(0), 264, 264, 1.5)
    start = time.perf_counter()
    report_on(given, CLASSES, draws=2000)
    seconds = time.perf_counter() - start
    document = {"sets": options.sets, "coverage": rows, "report_528_s": round(seconds, 3)}
    document |= {"machine": platform.processor() or platform.machine(), "date": date.today().isoformat()}
    if options.json:
        print_document(document)
        return
    print(f"Share of {options.sets} simulated test sets whose 95 % interval holds the truth\n")
    print(f"{'images':>12} {'AUC':>6} | {'auc':>7} {'accuracy':>9} {'sensitivity':>12}")
    for row in rows:
        images = f"{row['negatives']} + {row['positives']}"
        print(f"{images:>12} {row['auc_is']:6} | {row['auc']:7.1%} {row['accuracy']:9.1%} {row['sensitivity']:12.1%}")
    print(f"\nreport on 528 predictions, 2,000 draws of all metrics: {seconds:.2f} s")


if __name__ == "__main__":
    main()
