"""Whether what is asked comes out: fills, added tracks and continuations of held-out pieces.

Of each result: is the file without a defect for MIDI clients and read back as it was written, has
it the bars that were asked for, and is nothing outside them changed by a tick. Beside it, what the
same model would do without the mask of the grammar: the share of rows of which a field falls
outside what may come next, and the share of results in which no row does.

    python benchmarks/modes.py --data SHARDS --midi FOLDER

FOLDER holds the files as `CORPUS/NAME.mid`; without it the pieces are read back from the shards,
and without `--data` they are some scores of music21 (no figures to keep).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, report
from held_out import HeldOut, held_out, shards_or_music21

from musegen.api import Model, Piece, compose
from musegen.errors import MusegenError
from musegen.evaluation.validity import opens, unchanged
from musegen.music.score import Score
from musegen.sampling.draw import Draw
from musegen.sampling.rules import softmax
from musegen.tokens.events import EventTokenizer

SIZES = {"infill": (2, 4, 8), "accompany": (4, 8, 16), "continue": (4, 8, 16)}
"""Bars to write, for each task."""

MOST_MELODIC = 14
"""Melodic tracks of a piece at most: a port has channels for 15, and one is added."""

LEAST_BARS = 18


class Watch:
    """What the model would have drawn without a mask, row by row of a batch of one."""

    def __init__(self, fields: int) -> None:
        self.fields = fields
        self.legal: list[float] = []

    def rows(self) -> np.ndarray:
        """(rows,): the mass of what may come next, over all fields."""
        whole = len(self.legal) // self.fields * self.fields
        return np.array(self.legal[:whole]).reshape(-1, self.fields).prod(1)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Tells the watch of every draw within."""
    choose = Draw.choose

    def seen(self: Draw, logits: np.ndarray, allowed: np.ndarray, rows: Sequence[int]) -> Any:
        mass = (softmax(np.asarray(logits, dtype=np.float64)) * allowed).sum(-1)
        mass[~allowed[:, 1:].any(-1)] = 1  # behind a marker: nothing was learned, nothing is drawn
        watch.legal += mass.tolist()
        return choose(self, logits, allowed, rows)

    Draw.choose = seen  # type: ignore[method-assign]
    try:
        yield
    finally:
        Draw.choose = choose  # type: ignore[method-assign]


def sources(
    pieces: Sequence[HeldOut], tokenizer: EventTokenizer, midi: Path | None, count: int
) -> list[tuple[HeldOut, Piece]]:
    """Pieces long enough and not too wide, corpora in turn."""
    turns: dict[str, int] = defaultdict(int)
    order = []
    for item in pieces:
        turns[item.corpus] += 1
        order.append((turns[item.corpus], item.corpus, item))
    found: list[tuple[HeldOut, Piece]] = []
    for _, _, item in sorted(order, key=lambda entry: entry[:2]):
        if len(found) == count:
            break
        if midi is None:
            piece = Piece(tokenizer.decode(item.grid.rows(tokenizer.vocabulary)))
        else:
            path = midi / item.corpus / f"{item.name}.mid"
            if not path.is_file():
                continue
            piece = Piece.load(path)
        melodic = sum(not track.is_drum for track in piece.score.tracks)
        if len(piece.score.bars()) >= LEAST_BARS and melodic <= MOST_MELODIC:
            found.append((item, piece))
    return found


def ask(item: HeldOut, score: Score, task: str, size: int) -> dict[str, Any]:
    """The options of one request."""
    rng = item.rng("modes", task, size)
    bars = len(score.bars())
    if task == "continue":
        return {"bars": size}
    first = int(rng.integers(1, bars - size + 2))
    span = f"{first}-{first + size - 1}"
    if task == "infill":
        sounding = [number for number, track in enumerate(score.tracks, 1) if len(track)]
        return {"fill": f"{span}@#{rng.choice(sounding)}"}
    names = ["bass", "piano", "strings", "flute"]
    if not any(track.is_drum for track in score.tracks):
        names.append("drums")
    return {"add": f"{rng.choice(names)}:{span}"}


def measure(model: Model, task: str, size: int, chosen: Sequence[tuple[HeldOut, Piece]]) -> Any:
    """A line of the table, and the shares of results that hold, by name."""
    holds: dict[str, list[bool]] = defaultdict(list)
    rows: list[np.ndarray] = []
    for number, (item, piece) in enumerate(chosen):
        options = ask(item, piece.score, task, size)
        watch = Watch(len(model.tokenizer.field_sizes))
        try:
            with watched(watch):
                result = compose(piece, model=model, random_seed=number, **options)
        except MusegenError as error:
            print(f"{task} {size}, {item.corpus}/{item.name}, {options}: {error}", flush=True)
            holds["composed"].append(False)
            continue
        assert isinstance(result, Piece)
        rows.append(watch.rows())
        spans = result.info["stretches"]
        found = {
            "composed": True,
            "valid": opens(result),
            "asked bars": result.info["bars"] == size,
            "rest unchanged": unchanged(result.score, piece.score, spans),
        }
        for name, value in found.items():
            holds[name].append(value)
        if not all(found.values()):
            print(f"{task} {size}, {item.corpus}/{item.name}, {options}: {found}", flush=True)
    shares = {name: float(np.mean(values)) for name, values in holds.items()}
    drawn = np.concatenate(rows)
    line: dict[str, Any] = {"task": task, "bars": size, "pieces": len(chosen), "rows": len(drawn)}
    line |= {name: f"{share:.1%}" for name, share in shares.items()}
    line["rows in error, no mask"] = f"{1 - drawn.mean():.2%}"
    line["whole without error, no mask"] = f"{np.mean([each.prod() for each in rows]):.1%}"
    return line, shares


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="a name or a folder")
    parser.add_argument("--midi", type=Path, default=None, help="files, as CORPUS/NAME.mid")
    parser.add_argument("--pieces", type=int, default=50)
    options = parser.parse_args()
    model = Model.from_pretrained(options.model, "cpu")
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    with shards_or_music21(options.data) as (shards, splits):
        tokenizer, pieces = held_out(shards, splits, 1, 60)
        count = 3 if options.quick else options.pieces
        chosen = sources(pieces, tokenizer, options.midi, count)
        print(f"{len(chosen)} pieces of {len({item.corpus for item, _ in chosen})} corpora")
        for task, sizes in SIZES.items():
            for size in sizes[:1] if options.quick else sizes:
                line, shares = measure(model, task, size, chosen)
                rows.append(line)
                print(line, flush=True)
                ratios |= {f"{task} {size}, {name}": share for name, share in shares.items()}
    met = report("modes", rows, ratios, dict.fromkeys(ratios, 1.0))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
