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
WINDOWS = {"events": (8, 512), "remi": (2, 2048)}
"""Rows of a batch and positions of each: as many positions, and about as many notes a window."""
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
    rows, length = WINDOWS[preset]
    batches = TrainBatches(shards, tokenizer, rows, length, seed=seed)

    def run(steps: int) -> Any:
        torch.manual_seed(seed)
        network = family.model_class()(dataclasses.replace(config.model, context=length))
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


def held_out(network: Any, shards: Any, preset: str, pieces: int) -> Any:
    """What the windows of held-out pieces cost."""
    from musegen.evaluation.likelihood import HeldOutDocuments, network_nats
    from musegen.tokens.tokenizer import load_tokenizer

    own = load_tokenizer(preset)
    rows = load_tokenizer(PRESETS["rows"])  # in which the shards of the held-out pieces are
    documents = HeldOutDocuments.of(shards, ("valid",), rows, own, WINDOWS[preset][1], pieces)
    return network_nats(network, documents, own)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="processor minutes a model")
    parser.add_argument("--files", type=int, default=None, help="use at most so many files")
    parser.add_argument("--pieces", type=int, default=60, help="held-out pieces at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from musegen.data.build import build
    from musegen.data.shards import ShardSet
    from musegen.evaluation.likelihood import difference

    minutes = 0.15 if options.quick else options.minutes
    files = 60 if options.quick else options.files
    pieces = 6 if options.quick else options.pieces
    with tempfile.TemporaryDirectory() as temporary:
        shards = {}
        for layout, preset in PRESETS.items():
            folder = Path(temporary) / preset
            build(options.data or "music21", folder, preset=preset, max_files=files)
            shards[layout] = ShardSet.open(folder)
        rows, found = [], {}
        for layout, preset in PRESETS.items():
            network, facts = train(shards[layout], preset, minutes, options.seed)
            found[layout] = held_out(network, shards["rows"], preset, pieces)
            nats, notes = map(float, map(np.sum, found[layout].by_piece()))
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
        nats, notes = zip(*(each.by_piece() for each in found.values()), strict=True)
        lower = nats[1] / notes[1] - nats[0] / notes[0]
        gain = difference(found["flat"], found["rows"])
        if gain is None:
            raise SystemExit("no held-out piece was scored")
        print(
            f"flat - rows: {gain.value:.3f} nats per note, 95% interval {gain.low:.3f} to "
            f"{gain.high:.3f}; rows better in {int((lower > 0).sum())} of {len(lower)} pieces"
        )
        speed = rows[0]["notes/s"] / rows[1]["notes/s"]
        report(
            "rows",
            rows,
            {"nats_per_note_lower": gain.value, "training_notes_per_second": speed},
            {"nats_per_note_lower": 0.5, "training_notes_per_second": 2.0},
        )


if __name__ == "__main__":
    main()
