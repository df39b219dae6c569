"""How fast a taste is learned: regret after some comparisons, of SIMULATED designers.

    python benchmarks/taste.py --designers 60

Each designer is a function of seven features, drawn at random: no person was asked. There are 200
candidates. After each comparison the best liked candidate is the one the fit puts first; its regret
is (best - chosen) / (best - mean) by the designer's own function. Pairs are shown by Thompson
sampling, or at random. `linear` answers by weights alone, `curved` has a best place on each
feature, `15% wrong` is linear and errs so often.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench import arguments, report

from musegen.design.taste import Rating, Taste

FEATURES = tuple(f"feature_{k}" for k in range(7))
STEPS = (5, 10, 20, 40)


def designer(kind: str, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """A simulated designer: (M, K) features to how much each is liked."""
    weights = rng.standard_normal(len(FEATURES))
    if kind != "curved":
        return lambda features: features @ weights
    middle = rng.uniform(-1, 1, len(FEATURES))
    return lambda features: -(np.abs(weights) * (features - middle) ** 2).sum(1)


def regrets(kind: str, thompson: bool, seed: int, steps: int) -> list[float]:
    """After each comparison."""
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(-1, 1, (200, len(FEATURES)))
    candidates = [dict(zip(FEATURES, row, strict=True)) for row in matrix.tolist()]
    liking = designer(kind, rng)(matrix)
    taste, ratings, found = Taste.prior(sorted(FEATURES)), [], []
    for _ in range(steps):
        if thompson:
            one, other = taste.next_pair(candidates, rng)
        else:
            one, other = rng.choice(len(candidates), 2, replace=False).tolist()
        better = liking[one] > liking[other]
        if kind == "15% wrong" and rng.random() < 0.15:
            better = not better
        liked, rest = (one, other) if better else (other, one)
        ratings.append(Rating("simulated", candidates[liked], candidates[rest]))
        taste = Taste.fit(ratings)
        chosen = taste.order(candidates)[0]
        best = liking.max()
        found.append(float((best - liking[chosen]) / (best - liking.mean())))
    return found


def main() -> int:
    """Lets simulated designers choose."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--designers", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    designers = 4 if asked.quick else asked.designers
    rows: list[dict[str, Any]] = []
    for kind in ("linear", "curved", "15% wrong"):
        for thompson in (True, False):
            found = np.array(
                [regrets(kind, thompson, seed, max(STEPS)) for seed in range(designers)]
            )
            row: dict[str, Any] = {
                "simulated taste": kind,
                "pairs": "Thompson" if thompson else "random",
            }
            for step in STEPS:
                row[f"after {step}"] = round(float(found[:, step - 1].mean()), 3)
            row["median after 20"] = round(float(np.median(found[:, 19])), 3)
            rows.append(row)
            print(row, flush=True)
    ratios = {"5% over the mean regret after 20, linear": 0.05 / max(rows[0]["after 20"], 1e-9)}
    goals = dict.fromkeys(ratios, 0.0 if asked.quick else 1.0)
    return 0 if report("taste", rows, ratios, goals) else 1


if __name__ == "__main__":
    sys.exit(main())
