"""Bars like given ones: what being told of them is worth, and how alike what is written becomes.

- Nats a note of held-out windows: told nothing, told the latents of their own cells, told those of
  other cells; a control that says nothing is worth nothing in the second, and the third says what a
  wrong one costs.
- Held-out parts of one instrument: four bars from nothing, told of four bars of the part, against
  the same seed told nothing: F1 of onsets, and of notes (onset and pitch), with those bars;
  Spearman's correlation of the numbers of notes.

    python benchmarks/likeness.py --data SHARDS --model default --num 100

Without `--data`, some scores of music21 (no figures to keep).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report, table
from held_out import held_out, shards_or_music21

import musegen
from musegen.data.batches import ValidBatches
from musegen.data.cell_latents import CellLatents, write_cell_latents
from musegen.evaluation.intervals import spearman
from musegen.likeness import cell_latents, encoder_of
from musegen.music.instruments import program_name
from musegen.music.piece import Piece
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import load_tokenizer

BARS = 4


def losses(model: Any, encoder: Any, shards: Any, split: str, batches: int) -> dict[str, float]:
    """Nats a note of held-out windows, told nothing, their own latents, and those of others."""
    tokenizer = load_tokenizer(shards.tokenizer_file())
    size = model.config.latent

    def encode(rows: np.ndarray) -> np.ndarray:
        return cell_latents(encoder, Grid.from_rows(rows, tokenizer.vocabulary)).reshape(-1, size)

    with tempfile.TemporaryDirectory() as folder:
        write_cell_latents(shards, Path(folder), encode, size, encoder.weights, splits=(split,))
        latents = CellLatents(shards, Path(folder), size, encoder.weights)
        source = ValidBatches(
            shards, tokenizer, 8, 512, max_batches=batches, latents=latents, split=split
        )
        sums = dict.fromkeys(("untold", "told", "of others"), 0.0)
        notes = 0.0
        for batch in source.batches():
            tensors = {name: torch.as_tensor(array) for name, array in batch.items()}
            told = tensors["latents"]
            kinds = {
                "untold": {k: v for k, v in tensors.items() if k != "latents"},
                "told": tensors,
                "of others": {**tensors, "latents": told.roll(1, 0) * told.any(-1, keepdim=True)},
            }
            for name, one in kinds.items():
                with torch.no_grad():
                    total, count = model.network.loss(one).metrics["nats_per_note"]
                sums[name] += float(total)
            notes += float(count)
    return {name: total / notes for name, total in sums.items()}


def parts_of(shards: Any, splits: tuple[str, ...], num: int) -> list[tuple[Any, str, str]]:
    """Parts of one pitched instrument, a piece each: score of a few bars, instrument, meter."""
    tokenizer, items = held_out(shards, splits, least_tracks=1, per_corpus=-(-num // 6))
    vocabulary, found = tokenizer.vocabulary, []
    for item in items:
        rng, grid = item.rng("likeness"), item.grid
        for _ in range(8):
            if grid.num_bars < BARS or len(found) == num:
                break
            first = int(rng.integers(grid.num_bars - BARS + 1))
            track = int(rng.integers(grid.num_tracks))
            part = grid.part(first, first + BARS, np.array([track]))
            same = len(set(part.meters.tolist())) == 1
            if grid.programs[track] < 128 and part.counts.min() >= 2 and same:
                numerator, denominator = vocabulary.meters[int(part.meters[0])]
                score = tokenizer.decode(part.rows(vocabulary))
                instrument = program_name(int(grid.programs[track]))
                found.append((score, instrument, f"{numerator}/{denominator}"))
                break
    return found


def alike(wanted: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """F1 of onsets and of notes of two sets of notes (n, 2): onset in units, pitch."""
    scores = []
    for columns in (1, 2):
        one, other = ({tuple(row[:columns]) for row in notes.tolist()} for notes in (wanted, found))
        scores.append(2 * len(one & other) / max(1, len(one) + len(other)))
    return scores[0], scores[1]


def notes_of(piece: Piece, bars: int) -> np.ndarray:
    """(n, 2) of the first bars: onset in 24ths of a quarter note, pitch."""
    score = piece.score
    end = score.bars()[min(bars, len(score.bars())) - 1].end_tick
    notes = np.concatenate([track.notes for track in score.tracks])
    notes = notes[notes["start_tick"] < end]
    onset = np.rint(notes["start_tick"] * 24 / score.ppq).astype(int)
    return np.stack((onset, notes["pitch"].astype(int)), axis=1)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="default")
    parser.add_argument("--num", type=int, default=100)
    asked = parser.parse_args()
    num = min(asked.num, 4) if asked.quick or asked.data is None else asked.num
    model = musegen.Model.from_pretrained(asked.model)
    encoder = encoder_of(model)
    with shards_or_music21(asked.data) as (shards, splits):
        nats = losses(model, encoder, shards, splits[0], 2 if asked.quick else 12)
        parts = parts_of(shards, splits, num)
    print(table([{"told": name, "nats a note": round(value, 3)} for name, value in nats.items()]))
    rows: dict[str, list[tuple[float, float, int, int]]] = {"told nothing": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.mid"
        for number, (score, instrument, meter) in enumerate(parts):
            own = Piece(score)
            own.save(path)
            wanted = notes_of(own, BARS)
            for name, guidance in (("told nothing", None), ("told", 1.0), ("told, 2", 2.0)):
                options: dict[str, Any] = {"instruments": [instrument], "time_signature": meter}
                if guidance is not None:
                    options |= {"like": f"{path}@1-{BARS}", "guidance": guidance}
                got = musegen.compose(model=model, bars=BARS, random_seed=number, **options)
                found = notes_of(got, BARS)
                rows.setdefault(name, []).append((*alike(wanted, found), len(wanted), len(found)))
    lines = []
    for name, values in rows.items():
        onsets, notes, asked_for, there = np.array(values, dtype=float).T
        lines.append(
            {
                "composed": name,
                "parts": len(values),
                "F1 of onsets": round(float(onsets.mean()), 3),
                "F1 of notes": round(float(notes.mean()), 3),
                "Spearman of notes": round(spearman(asked_for, there), 2),
            }
        )
    f1 = {name: float(np.mean([v[1] for v in values])) for name, values in rows.items()}
    report(
        "likeness",
        lines,
        {
            "nats gained": nats["untold"] - nats["told"],
            "F1 of notes over none": f1["told, 2"] / max(f1["told nothing"], 1e-9),
        },
        {"nats gained": 0.3, "F1 of notes over none": 2.0},
    )


if __name__ == "__main__":
    main()
