"""What int8 costs: held-out nats a note of the shipped model on the ONNX engine, beside fp32.

    python benchmarks/precision.py [--quick] [--data SHARDS] [--pieces N]

SHARDS is a folder of `musegen data build clean`; without it the pieces of examples/ are taken,
which are few. One window of each piece (all windows of the examples), row by row through the
engine's cache, as in sampling; the interval is a bootstrap over them. `bit_equal` is whether all
int8 logits at batch 8 are those at batch 1, to the bit; of fewer windows some are taken twice.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, report

from musegen.api import Model
from musegen.data.shards import ShardSet
from musegen.guide import Advance
from musegen.music.midi import read_midi
from musegen.tokens.tokenizer import PieceInfo, Sample

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GOALS = {"fp32_over_int8": 0.995, "bit_equal": 1.0}
BATCH = 8
ROWS = 256
"""Of a window."""
DRAWS = 1000


def windows(tokenizer: Any, folder: Path | None, pieces: int) -> list[Sample]:
    """The middle window of each of so many held-out pieces, or all of the examples."""
    if folder is None:
        print("no --data: the pieces of examples/ are taken, which are few")
        found = [
            (tokenizer.encode(read_midi(path)[0]).rows, "")
            for path in sorted(EXAMPLES.glob("*.mid"))
        ]
    else:
        shards = ShardSet.open(folder)
        held_out = shards.split("valid")
        chosen = np.unique(np.linspace(0, len(held_out) - 1, pieces).astype(int)).tolist()
        found = [(shards.rows(held_out[i]), held_out[i].style.split(" ")[0]) for i in chosen]
    laid = [tokenizer.windows(rows, ROWS + 1, PieceInfo(style=style)) for rows, style in found]
    if folder is None:
        return [window for each in laid for window in each]
    return [each[len(each) // 2] for each in laid if each]


def scored(model: Model, samples: Sequence[Sample]) -> tuple[np.ndarray, bytes]:
    """(len(samples), 2) nats and notes of windows side by side; and all logits, as bytes."""
    engine = model.new_engine()
    sums, seen = np.zeros((len(samples), 2)), []
    fields = len(engine.field_sizes)
    with engine.running():
        engine.open(len(samples))
        for place in range(max(len(sample.rows) for sample in samples) - 1):
            live = [b for b, sample in enumerate(samples) if place < len(sample.rows) - 1]
            engine.extend({b: _row(samples[b], place) for b in live})
            targets = np.array([samples[b].rows[place + 1] for b in live], dtype=np.int64)
            counted = np.array([samples[b].weights[place + 1] > 0 for b in live])
            for field in range(fields):
                logits = engine.logits(live, field, targets[:, :field])
                seen.append((live, logits))
                own = targets[:, field]
                chance = np.take_along_axis(_log_softmax(logits), own[:, None], 1)[:, 0]
                sums[live, 0] -= np.where(counted & (own != 0), chance, 0.0)
            sums[live, 1] += counted & model.tokenizer.note_rows(targets)
    # By sample, so that the order within a batch does not matter.
    bits = b"".join(
        logits[live.index(b)].tobytes()
        for b in range(len(samples))
        for live, logits in seen
        if b in live
    )
    return sums, bits


def _row(sample: Sample, place: int) -> Advance:
    here = slice(place, place + 1)
    rows, coordinates = sample.rows[here].astype(np.int64), sample.coordinates[here]
    return Advance(rows, sample.channels[here], coordinates.astype(np.float64), restart=not place)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    below = logits - logits.max(-1, keepdims=True)
    return below - np.log(np.exp(below).sum(-1, keepdims=True))


def main() -> bool:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=100)
    options = parser.parse_args()
    models = {
        name: Model.from_pretrained("default", "cpu", "onnx", name) for name in ("int8", "fp32")
    }
    samples = windows(
        models["int8"].tokenizer, options.data, 16 if options.quick else options.pieces
    )
    sums: dict[str, np.ndarray] = {}
    for name, model in models.items():
        parts = [
            scored(model, samples[begin : begin + BATCH])[0]
            for begin in range(0, len(samples), BATCH)
        ]
        sums[name] = np.concatenate(parts)
    few = [samples[i % len(samples)] for i in range(BATCH)]
    together = scored(models["int8"], few)[1]
    alone = b"".join(scored(models["int8"], [sample])[1] for sample in few)
    rng = np.random.default_rng(0)
    more = []
    for _ in range(DRAWS):
        chosen = rng.integers(len(samples), size=len(samples))
        more.append(sums["int8"][chosen, 0].sum() / sums["fp32"][chosen, 0].sum())
    low, high = 100 * (np.quantile(more, [0.025, 0.975]) - 1)
    table = [
        {"precision": name, "windows": len(samples), "notes": int(each[:, 1].sum()),
         "nats/note": each[:, 0].sum() / each[:, 1].sum()}
        for name, each in sums.items()
    ]  # fmt: skip
    print(f"int8 costs {low:+.3f}% to {high:+.3f}% (95%)")
    ratios = {
        "fp32_over_int8": sums["fp32"][:, 0].sum() / sums["int8"][:, 0].sum(),
        "bit_equal": float(together == alone),
    }
    return report("precision", table, ratios, GOALS)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
