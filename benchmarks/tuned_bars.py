"""Tuned bars: the error of the worst partial after so many evaluations, by random search, CMA-ES,
and CMA-ES in a learned latent.

    python benchmarks/tuned_bars.py --notes 20 --seeds 6

Notes are spread over C3 to C7, materials take turns. The latent is that of a `design_vae`, trained
by the one trainer on random bars of all materials, told their ratios: it is asked for the wanted
ones. The search sees 60 elements; `judged` is by 240, `feasible by both` counts what both let
through.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report

from musegen.data.design_batches import write_table
from musegen.design.bar import Bar
from musegen.design.materials import materials
from musegen.design.search import Box, search
from musegen.design_space import LatentSpace, train

WOODS = ("rosewood", "padauk", "aluminium")


def answers(design: Bar) -> np.ndarray:
    """(3,): what a bar is told of its request: logarithms of the ratios, and how it shears."""
    material = design.material
    return np.array([*np.log(design.ratios[1:]), np.log(material.young_pa / material.shear_pa)])


def random_bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (M, 6) of random bars, and what they answer (M, 3)."""
    rng = np.random.default_rng(seed)
    numbers, told = [], []
    every = list(materials())
    for number in range(count):
        design = Bar(60, material=every[number % len(every)])
        own = Box(design.bounds).numbers(rng.random((1, 6)))[0]
        found = design.decode(own).modes(15).frequencies_hz
        ratio = design.material.young_pa / design.material.shear_pa
        numbers.append(own)
        told.append([*np.log(found[1:] / found[0]), np.log(ratio)])
    return np.array(numbers), np.array(told)


def main() -> int:
    """Makes bars, trains the latent, searches, judges."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--notes", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--evaluations", type=int, default=600)
    parser.add_argument("--bars", type=int, default=20_000, help="that the latent is trained on")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training the latent")
    parser.add_argument(
        "--latent", type=Path, default=None, help="a trained one, or where it stays"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    notes, seeds, evaluations = asked.notes, asked.seeds, asked.evaluations
    bars, told = asked.bars, {"max_minutes": asked.minutes}
    if asked.quick:
        notes, seeds, evaluations, bars, told = 3, 1, 100, 300, {"max_steps": 100}
    pitches = np.linspace(48, 96, notes).round().astype(int)
    designs = [
        Bar(int(pitch), material=WOODS[number % len(WOODS)]) for number, pitch in enumerate(pitches)
    ]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.latent or Path(temporary) / "latent"
        if not (folder / "config.toml").exists():
            table = write_table(Path(temporary) / "table", "bar", *random_bars(bars, 0), {})
            print(train(table.folder, folder, seed=1, **told), flush=True)  # type: ignore[arg-type]
        for name, method in (("random", "random"), ("CMA-ES", "cma"), ("CMA-ES, latent", "cma")):
            winners, begun_s = [], time.perf_counter()
            for design in designs:
                space = None
                if "latent" in name:
                    space = LatentSpace.from_pretrained(folder, design, answers(design))
                for seed in range(seeds):
                    found = search(
                        design, method=method, space=space, evaluations=evaluations, seed=seed
                    )
                    winners.append(found.proposals[0])
            searched = np.array([one.searched.objective for one in winners])
            judged = np.array([one.judged.objective for one in winners])
            rows.append(
                {
                    "search": name,
                    "cents, median": round(float(np.median(searched)), 2),
                    "judged, median": round(float(np.median(judged)), 2),
                    "judged, worst": round(float(judged.max()), 1),
                    "5 cents or less": round(float((judged <= 5).mean()), 3),
                    "feasible by both": f"{sum(one.feasible for one in winners)} of {len(winners)}",
                    "s a bar": round((time.perf_counter() - begun_s) / len(winners), 2),
                }
            )
            print(rows[-1], flush=True)
    ratios = {"5 cents over the judged median of CMA-ES": 5 / max(rows[1]["judged, median"], 1e-9)}
    goals = dict.fromkeys(ratios, 0.0 if asked.quick else 1.0)
    return 0 if report("tuned_bars", rows, ratios, goals) else 1


if __name__ == "__main__":
    sys.exit(main())
