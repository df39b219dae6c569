"""Rows of four fields against flat tokens, at equal CPU minutes, on the same held-out notes.

Both are the same `Transformer` class, in the same size, under the same trainer; the presets are
`events` (F = 4) and `remi` (F = 1, MidiTok's ids). Each trains for the same processor time on one
thread; the number of steps is fixed from the pace of the first ones, so that each anneals fully.
The figure is nats per note: all that a piece costs (bars, meters, tempi, tracks), over its notes.

    python benchmarks/rows.py --data FOLDER_OF_MIDI --minutes 8

Without `--data` it takes the scores that music21 carries.
"""

from __future__ import annotations

import dataclasses
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, report

PRESETS = {"rows": "events", "flat": "remi"}
BATCH_ROWS = 8
LENGTH = 512
TIMED_STEPS = 12


def train(shards: Any, preset: str, minutes: float, seed: int) -> tuple[Any, dict[str, float]]:
    """A model trained for so many minutes of processor time; and its steps, notes and seconds."""
    import torch

    from musegen.data.batches import TrainBatches
    from musegen.data.prefetch import Prefetch
    from musegen.models.registry import GENERATORS
    from musegen.tokens.tokenizer import load_tokenizer
    from musegen.training.run import RunConfig
    from musegen.training.trainer import Trainer

    torch.set_num_threads(1)
    family = GENERATORS["transformer"]
    tokenizer = load_tokenizer(preset)
    config = RunConfig.of(family, "tiny", tokenizer, seed=seed)
    batches = TrainBatches(shards, tokenizer, BATCH_ROWS, LENGTH, seed=seed)

    def run(steps: int) -> Any:
        torch.manual_seed(seed)
        network = family.model_class()(config.model)
        training = dataclasses.replace(config.training, steps=steps, validate_every=0)
        with Prefetch(batches) as ahead:
            Trainer(network, training, ahead, device="cpu").fit()
        return network

    run(2)
    begin = time.process_time()
    run(TIMED_STEPS)
    pace_s = (time.process_time() - begin) / TIMED_STEPS
    steps = max(1, int(60 * minutes / pace_s))
    begin = time.process_time()
    network = run(steps)
    used_s = time.process_time() - begin
    notes = sum(int(batches.batch(index)["notes"].sum()) for index in range(8)) / 8
    return network, {"steps": steps, "cpu_s": used_s, "notes_per_s": notes * steps / used_s}


def held_out(network: Any, shards: Any, preset: str, names: list[tuple[str, str]]) -> np.ndarray:
    """(pieces, 2): nats and notes of each held-out piece, its windows one after another."""
    import torch

    from musegen.data.batches import ValidBatches
    from musegen.tokens.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(preset)
    by_name = {(piece.corpus, piece.name): piece for piece in shards.split("valid")}
    loss = network.players()[0].loss
    result = []
    network.eval()
    for name in names:
        own = dataclasses.replace(shards, pieces=(by_name[name],))
        nats = 0.0
        for batch in ValidBatches(own, tokenizer, 4, LENGTH, max_batches=10_000).batches():
            tensors = {key: torch.as_tensor(value) for key, value in batch.items()}
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                total, _ = loss(tensors).metrics["nats_per_note"]
            nats += float(total)
        result.append((nats, by_name[name].notes))
    return np.array(result)


def interval(difference: np.ndarray, notes: np.ndarray) -> tuple[float, float]:
    """95% bootstrap interval, over pieces, of the difference in nats per note."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(notes), size=(2000, len(notes)))
    means = difference[draws].sum(1) / notes[draws].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="processor minutes a model")
    parser.add_argument("--files", type=int, default=None, help="use at most so many files")
    parser.add_argument("--pieces", type=int, default=60, help="held-out pieces at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from musegen.data.build import build
    from musegen.data.shards import ShardSet

    minutes = 0.15 if options.quick else options.minutes
    files = 60 if options.quick else options.files
    pieces = 6 if options.quick else options.pieces
    with tempfile.TemporaryDirectory() as temporary:
        shards = {}
        for layout, preset in PRESETS.items():
            folder = Path(temporary) / preset
            build(options.data or "music21", folder, preset=preset, max_files=files)
            shards[layout] = ShardSet.open(folder)
        named = [
            {(piece.corpus, piece.name) for piece in own.split("valid")} for own in shards.values()
        ]
        both = sorted(set.intersection(*named))
        chosen = [
            both[i] for i in np.linspace(0, len(both) - 1, min(pieces, len(both))).astype(int)
        ]
        rows, found = [], {}
        for layout, preset in PRESETS.items():
            network, facts = train(shards[layout], preset, minutes, options.seed)
            found[layout] = held_out(network, shards[layout], preset, chosen)
            nats, notes = found[layout].sum(0)
            size = sum(parameter.numel() for parameter in network.parameters())
            rows.append(
                {
                    "layout": layout,
                    "parameters": size,
                    "steps": facts["steps"],
                    "cpu minutes": round(facts["cpu_s"] / 60, 2),
                    "notes/s": round(facts["notes_per_s"]),
                    "held-out notes": int(notes),
                    "nats/note": round(nats / notes, 3),
                }
            )
        # Both are divided by the same notes: those of the rows, where the two differ by a few.
        notes = found["rows"][:, 1]
        difference = found["flat"][:, 0] - found["rows"][:, 0]
        gain = float(difference.sum() / notes.sum())
        low, high = interval(difference, notes)
        better = int((difference > 0).sum())
        print(
            f"flat - rows: {gain:.3f} nats per note, 95% interval {low:.3f} to {high:.3f}; "
            f"rows better in {better} of {len(chosen)} pieces"
        )
        speed = rows[0]["notes/s"] / rows[1]["notes/s"]
        report(
            "rows",
            rows,
            {"nats_per_note_lower": gain, "training_notes_per_second": speed},
            {"nats_per_note_lower": 0.5, "training_notes_per_second": 2.0},
        )


if __name__ == "__main__":
    main()
