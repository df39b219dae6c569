"""A search in a learned latent against one in the raw numbers: airfoils with a high lift to drag.

    python benchmarks/airfoils.py --seeds 20 --plots FOLDER

Needs the extra `airfoil`; without it nothing is measured, and that is said. The latent is that of a
`design_vae`, trained on the known shapes by the one trainer. Each method evaluates so many designs
a seed with neuralfoil's `large`; the best feasible one is judged by `xxxlarge`. `p` is that of a
sign test on the seeds' differences from the row above: above 0.05 it is not established.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report

from musegen.data.design_batches import write_table
from musegen.design.airfoil import Airfoil, known_airfoils
from musegen.design.search import Proposal, search
from musegen.design_space import LatentSpace, train


def sign_test(differences: list[float]) -> float:
    """Two-sided p of as many positive differences or more, if both signs were as likely."""
    kept = [one for one in differences if one != 0]
    count, more = len(kept), sum(one > 0 for one in kept)
    if not count:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(max(more, count - more), count + 1)) / 2**count
    return min(1.0, 2 * tail)


def main() -> int:
    """Trains the latent, searches, judges."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=2.0, help="of training the latent")
    parser.add_argument(
        "--latent", type=Path, default=None, help="a trained one, or where it stays"
    )
    parser.add_argument("--plots", type=Path, default=None, help="where the best shapes go")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if any(importlib.util.find_spec(name) is None for name in ("aerosandbox", "neuralfoil")):
        print('not measured: airfoils need the extra: pip install "musegen[airfoil]"')
        return 0
    seeds, evaluations = (2, 40) if asked.quick else (asked.seeds, asked.evaluations)
    names, shapes = zip(*known_airfoils(), strict=True)
    known = np.stack([shape.numbers() for shape in shapes])
    print(f"{len(names)} known shapes", flush=True)
    design = Airfoil(known)
    inside = np.clip(known, design.bounds[:, 0], design.bounds[:, 1])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.latent or Path(temporary) / "latent"
        if not (folder / "config.toml").exists():
            table = write_table(Path(temporary) / "table", design.name, inside, known[:, :0], {})
            told: dict[str, Any] = (
                {"max_steps": 50} if asked.quick else {"max_minutes": asked.minutes}
            )
            print(train(table.folder, folder, seed=1, **told), flush=True)
        latent = LatentSpace.from_pretrained(folder, design)
        above: list[float] = []
        best_of: dict[str, Proposal] = {}
        for name, method, space in (
            ("random, numbers", "random", None),
            ("random, latent", "random", latent),
            ("CMA-ES, numbers", "cma", None),
            ("CMA-ES, latent", "cma", latent),
        ):
            found = [
                search(design, method=method, space=space, evaluations=evaluations, seed=seed)
                for seed in range(seeds)
            ]
            winners = [one.proposals[0] for one in found]
            reached = [-one.best[-1] if math.isfinite(one.best[-1]) else 0.0 for one in found]
            kept = [one for one in winners if one.feasible]
            if kept:
                best_of[name] = min(kept, key=lambda one: one.judged.objective)
            judged = [-one.judged.objective for one in kept]
            rows.append(
                {
                    "search": name,
                    "L/D median": round(float(np.median(reached)), 1),
                    "L/D lowest": round(float(min(reached)), 1),
                    "L/D highest": round(float(max(reached)), 1),
                    "judged median": round(float(np.median(judged)), 1) if judged else math.nan,
                    "feasible by both": f"{len(kept)} of {seeds}",
                    "from known": round(
                        float(np.median([design.nearest(one.made) for one in winners])), 4
                    ),
                    "p": round(sign_test([a - b for a, b in zip(reached, above, strict=True)]), 4)
                    if above
                    else math.nan,
                }
            )
            above = reached
            print(rows[-1], flush=True)
    if asked.plots is not None:
        asked.plots.mkdir(parents=True, exist_ok=True)
        for name, one in best_of.items():
            for suffix, data in design.export(one.made, {"search": name}).items():
                (asked.plots / f"{name.replace(', ', '-')}{suffix}").write_bytes(data)
    values = [max(row["L/D median"], 1e-9) for row in rows]
    ratios = {
        "random: latent over numbers": values[1] / values[0],
        "CMA-ES over random, latent": values[3] / values[1],
        "CMA-ES: latent over numbers": values[3] / values[2],
    }
    goals = dict.fromkeys(ratios, 0.0 if asked.quick else 1.0)
    goals["CMA-ES: latent over numbers"] = 0.0  # which is better is what is asked, not a goal
    return 0 if report("airfoils", rows, ratios, goals) else 1


if __name__ == "__main__":
    sys.exit(main())
