"""The originality check against music that it must catch, and music that it must let pass.

Caught: training pieces in another key, and what a model writes that was overtrained on five pieces
until it knows them by heart. Let pass: held-out pieces (one in twenty is above the 95th percentile
by definition), random notes, and most of what the default model writes.

    python benchmarks/originality.py --data SHARDS

SHARDS is what the default model was trained on (docs/default-model.md); its index is the one that
comes with it. Without `--data` an index of the scores that music21 carries is made first, and the
default model's music, which has not met them, is held against that.
"""

from __future__ import annotations

import dataclasses
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from bench import arguments, report

from musegen.api import Model
from musegen.assets import weights_path
from musegen.data.batches import TrainBatches
from musegen.data.build import build
from musegen.data.prefetch import Prefetch
from musegen.data.shards import ShardPiece, ShardSet
from musegen.evaluation.originality import (
    Originality,
    OriginalityIndex,
    build_index,
    excerpts_of,
)
from musegen.models.registry import GENERATORS
from musegen.music.instruments import program_name
from musegen.music.score import Score, Track, note_array
from musegen.music.transform import slice_bars, transpose
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer
from musegen.training.checkpoint import save_model
from musegen.training.run import RunConfig
from musegen.training.trainer import Trainer

BANDS = (["piano"], ["violin", "violin", "viola", "cello"], ["piano", "bass", "drums"])
SEED_BARS = 2
NEW_BARS = 16
KNOWN_BY_HEART = 5
"""Pieces that the overtrained model sees."""


def line(name: str, found: Sequence[Originality]) -> dict[str, Any]:
    """A row of the table."""
    runs = [one.notes for one in found]
    unusual = sum(one.unusual for one in found)
    return {
        "music": name,
        "scores": len(found),
        "notes, median": int(np.median([one.measured for one in found])),
        "longest run: median": int(np.median(runs)),
        "95%": int(np.percentile(runs, 95)),
        "most": max(runs),
        "usual, median": int(np.median([one.typical for one in found])),
        "unusual": f"{unusual} ({100 * unusual / len(found):.0f}%)",
    }


def share(found: Sequence[Originality]) -> float:
    """Of the scores, how many are called unusual."""
    return float(np.mean([one.unusual for one in found]))


def decoded(shards: ShardSet, tokenizer: Tokenizer, piece: ShardPiece) -> Score:
    return tokenizer.decode(shards.rows(piece))


def spread(pieces: Sequence[ShardPiece], count: int) -> list[ShardPiece]:
    """Some of the pieces that have notes enough and pitches, evenly over all."""
    pieces = [piece for piece in pieces if piece.key and 200 <= piece.notes <= 4000]
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(count, len(pieces))).astype(int))
    return [pieces[index] for index in chosen]


def random_music(count: int, notes: int = 400) -> Iterator[Score]:
    """Random steps in a scale, at random distances: no piece, but with common turns."""
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    for seed in range(count):
        rng = np.random.default_rng(seed)
        degrees = np.clip(np.cumsum(rng.integers(-2, 3, notes)) + 14, 0, 34)
        pitches = 48 + 12 * (degrees // 7) + scale[degrees % 7]
        starts = np.cumsum(rng.choice([120, 240, 480], notes, p=[0.2, 0.6, 0.2]))
        rows = zip(starts.tolist(), pitches.tolist(), strict=True)
        yield Score(tracks=(Track(notes=note_array((s, 120, p, 80) for s, p in rows)),), ppq=480)


def overtrained(
    shards: ShardSet, tokenizer: Tokenizer, pieces: Sequence[ShardPiece], steps: int
) -> Model:
    """A tiny model that has seen these pieces, in their own keys, far too often."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    family = GENERATORS["transformer"]
    config = RunConfig.of(family, "tiny", tokenizer, seed=0)
    wanted = {(piece.shard, piece.offset) for piece in pieces}
    numbers = [
        number
        for number, piece in enumerate(shards.pieces)
        if (piece.shard, piece.offset) in wanted
    ]
    few = dataclasses.replace(shards, pieces=shards.pieces.only(numbers))
    batches = TrainBatches(few, tokenizer, 8, 512, seed=0, augment=False)
    network = family.model_class()(config.model)
    training = dataclasses.replace(config.training, steps=steps, validate_every=0)
    with Prefetch(batches) as ahead:
        Trainer(network, training, ahead, device="cpu").fit()
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, family.name, network, tokenizer.to_dict(), "", {}, "fp32")
        return Model.from_pretrained(folder)


def as_it_begins(score: Score) -> dict[str, Any]:
    """What to ask for, to begin as a score does."""
    tracks = [track for track in score.tracks if len(track)]
    return {
        "instruments": [program_name(track.program, track.is_drum) for track in tracks],
        "time_signature": f"{score.meters[0].numerator}/{score.meters[0].denominator}",
        "tempo": round(6e7 / score.tempos[0].tempo_us),
    }


def copied(score: Score, piece: Score) -> float:
    """The share of a score's notes that a piece has too, at the same place and pitch."""

    def places(of: Score) -> set[tuple[float, int]]:
        return {
            (round(12 * tick / of.ppq) / 12, pitch)
            for track in of.tracks
            for tick, pitch in track.notes[["start_tick", "pitch"]].tolist()
        }

    return len(places(score) & places(piece)) / max(1, len(places(score)))


def parroted(
    model: Model, index: OriginalityIndex, pieces: Sequence[Score], count: int
) -> tuple[list[Originality], list[Originality]]:
    """What a model that knows the pieces by heart writes: all of it, and those that are copies.

    Half go on from the first bars of a piece, half begin as it begins. A copy has half of its notes
    where the piece has them; some of the music is no copy, for the model has met no end of a piece
    that lies so many bars ahead, or no beginning of this kind.
    """
    found, copies = [], []
    for number in range(count):
        piece = pieces[number // 2 % len(pieces)]
        options: dict[str, Any] = {"bars": NEW_BARS, "random_seed": number, "device": "cpu"}
        first = SEED_BARS if number % 2 else 0
        if first:
            score = model.compose(piece, seed_bars=SEED_BARS, **options).score
        else:
            score = model.compose(**as_it_begins(piece), **options).score
        part = slice_bars(score, first, first + NEW_BARS)
        one = index.check(part)
        if one is None:
            continue
        found.append(one)
        rest = slice_bars(piece, first, min(first + NEW_BARS, len(piece.bars())))
        if copied(part, rest) >= 0.5:
            copies.append(one)
    return found, copies


def written(
    model: Model,
    index: OriginalityIndex,
    seeds: Sequence[Score],
    count: int,
) -> list[Originality]:
    """What `count` compositions share; half go on from the seeds, half begin with nothing."""
    found = []
    for number in range(count):
        options: dict[str, Any] = {"bars": NEW_BARS, "random_seed": number, "device": "cpu"}
        first = 0
        if number % 2:
            seed = seeds[number // 2 % len(seeds)]
            score = model.compose(seed, seed_bars=SEED_BARS, **options).score
            first = SEED_BARS
        else:
            band = BANDS[number // 2 % len(BANDS)]
            score = model.compose(instruments=band, **options).score
        one = index.check(slice_bars(score, first, first + NEW_BARS))
        if one is not None:
            found.append(one)
    return found


def measure(
    shards: ShardSet, index: OriginalityIndex, options: Any
) -> tuple[list[dict[str, Any]], dict[str, float], dict[str, float]]:
    """The table, and ratios and goals of `report`."""
    tokenizer = load_tokenizer(shards.tokenizer_file())
    train = spread(shards.split("train"), options.scores)
    others = spread((*shards.split("valid"), *shards.split("test")), options.scores)
    rows = []

    in_other_keys = [
        (piece, index.check(transpose(decoded(shards, tokenizer, piece), number % 11 - 5)))
        for number, piece in enumerate(train)
    ]
    caught = [one for _, one in in_other_keys if one is not None]
    named = [
        one is not None and one.title == f"{piece.corpus}/{piece.name}"
        for piece, one in in_other_keys
    ]
    rows.append(line("training pieces in another key", caught))

    parts = [
        part for piece in others for part in excerpts_of(decoded(shards, tokenizer, piece), 256)
    ]
    human = [one for one in map(index.check, parts) if one is not None]
    rows.append(line("held-out pieces, excerpts of 256 notes", human))
    random = [one for one in map(index.check, random_music(options.scores)) if one is not None]
    rows.append(line("random steps in a scale", random))

    base = Model.from_pretrained("default", "cpu")
    seeds = [decoded(shards, tokenizer, piece) for piece in others]
    default = written(base, index, seeds, options.scores)
    rows.append(line("the default model", default))

    five = spread([piece for piece in train if piece.notes < 1000], KNOWN_BY_HEART)
    begin = time.perf_counter()
    model = overtrained(shards, tokenizer, five, options.steps)
    print(f"overtrained for {options.steps} steps, {time.perf_counter() - begin:.0f} s, on:")
    for piece in five:
        print(f"  {piece.corpus}/{piece.name} ({piece.notes} notes)")
    known = [decoded(shards, tokenizer, piece) for piece in five]
    parrot, copies = parroted(model, index, known, options.scores // 2)
    rows.append(line("a model overtrained on five pieces", parrot))
    if copies:
        rows.append(line("  what of it has half its notes from one", copies))
    titles = {f"{piece.corpus}/{piece.name}" for piece in five}
    own = [one for one in parrot if one.unusual]
    print(
        f"{sum(one.title in titles for one in own)} of {len(own)} that were caught name one of them"
    )

    slowest_s = 0.0
    for seed in seeds:
        begin = time.perf_counter()
        index.check(seed)
        slowest_s = max(slowest_s, time.perf_counter() - begin)
    print(f"the slowest check of {len(seeds)} pieces took {slowest_s:.3f} s")
    ratios = {
        "training pieces caught and named": float(np.mean(named)),
        "held-out excerpts let pass": 1 - share(human),
        "random music let pass": 1 - share(random),
        "copies of an overtrained model caught": share(copies) if copies else 0.0,
        "default model let pass": 1 - share(default),
    }
    goals = {
        "training pieces caught and named": 0.95,
        "held-out excerpts let pass": 0.9,
        "random music let pass": 0.99,
        "copies of an overtrained model caught": 0.9,
        "default model let pass": 0.5,
    }
    return rows, ratios, goals


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--scores", type=int, default=60, help="scores of each kind")
    parser.add_argument("--steps", type=int, default=1000, help="of the overtrained model")
    options = parser.parse_args()
    if options.quick:
        options.scores, options.steps = 8, 60
    with tempfile.TemporaryDirectory() as temporary:
        if options.data is not None:
            shards = ShardSet.open(options.data)
            index = OriginalityIndex.open(weights_path("default"))
        else:
            build("music21", temporary, preset="events", max_files=60 if options.quick else None)
            shards = ShardSet.open(temporary)
            index = None
        if index is None or index.source != shards.digest():
            index = build_index(shards, load_tokenizer(shards.tokenizer_file()))
        met = report("originality", *measure(shards, index, options))
    sys.exit(0 if met or options.quick else 1)


if __name__ == "__main__":
    main()
