"""Whether a composition repeats its training music: the longest run of notes that they share.

A run is told by its intervals and its rhythm, so neither key nor tempo hides it; drums are not
looked at. How long a run is too long is not ours to decide: pieces that the model was not trained
on share runs with the training music too, by chance, by style, because a scale is a scale. They
were cut into excerpts when the index was made, and what 95 of 100 excerpts of the same size stay
below is the measure. So about one human excerpt in twenty would be called unusual as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from musegen.atomic import write_whole
from musegen.data.grams import GRAM, line_grams
from musegen.data.shards import ShardSet
from musegen.errors import CheckpointError, DataError
from musegen.evaluation.fingerprints import BUCKETS, Fingerprints, Run, winnow
from musegen.music.score import Score
from musegen.tokens.tokenizer import Tokenizer

__all__ = ["INDEX_FILE", "Originality", "OriginalityIndex", "build_index"]

INDEX_FILE = "originality.safetensors"
"""In a model's folder."""

FORMAT = 1
"""Of the file; raised when old readers would misread it."""

MOST_BYTES = 2_850_000
"""Of the table of fingerprints, so that all of the index stays below 3 MB, titles included."""

WINDOWS = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32)
"""One gram of so many is kept at least; the first with which the table fits is taken."""

COMMONPLACE = 48
"""A gram that more pieces hold than these is a formula, and nobody's own."""

SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Notes of the excerpts that held-out pieces are cut into."""

EXCERPTS = 4
"""At most so many of one size from one piece, so that long pieces do not speak for all."""

PERCENTILE = 95
"""Of the excerpts' longest runs: above it, a run is unusual."""

FEWEST = 20
"""Excerpts of a size, at least, for a 95th percentile to mean something."""

Progress = Callable[[int, int, str], None]
"""Called with (pieces done, pieces in all, the same in words)."""


@dataclass(frozen=True)
class Originality:
    """What a composition shares with the training music."""

    notes: int
    """Of the longest run of notes that one training piece holds too; 0: no run of 9 was found."""
    title: str
    """That piece, as `corpus/name`; empty where there is none."""
    typical: int
    """The 95th percentile of the same in held-out human music of as many notes."""
    measured: int
    """Pitched notes of the composition, drums left out."""
    unusual: bool
    """Whether `notes` is above `typical`."""

    def line(self) -> str:
        """All of it in one line of words."""
        if not self.notes:
            return f"no run of {GRAM + 1} notes or more found that the training music holds too"
        usual = f"human music of this size stays within {self.typical} in 19 of 20 excerpts"
        if self.unusual:
            return f"{self.notes} notes in a row as in the training piece {self.title}; {usual}"
        return (
            f"longest run shared with the training music: {self.notes} notes ({self.title}); "
            f"{usual}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class OriginalityIndex:
    """The fingerprints of a training set, and how much held-out music shares with it.

    S sizes of excerpts.
    """

    table: Fingerprints
    titles: tuple[str, ...]
    """Of the pieces that the table numbers."""
    sizes: np.ndarray
    """(S,) int64, ascending: notes of the excerpts; at least one."""
    typical: np.ndarray
    """(S,) int64, not descending: the 95th percentile of their longest runs, in notes; at least
    8 + window, as shorter runs prove nothing."""
    excerpts: np.ndarray
    """(S,) int64: how many there were."""
    source: str
    """Digest of the shards that the index was made from."""

    @classmethod
    def open(cls, folder: str | Path) -> OriginalityIndex | None:
        """The index of a model's folder; None where it has none.

        Raises:
            CheckpointError: the file is damaged, or of another version.
        """
        path = Path(folder) / INDEX_FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {})["originality"])
                columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts["format"] != FORMAT:
                raise CheckpointError(
                    f"{path} is of version {facts['format']}, this musegen reads {FORMAT}; make it "
                    "again with `musegen data index`"
                )
            _check(columns, len(facts["titles"]), facts["window"])
            return cls(
                table=Fingerprints.opened(
                    columns["counts"], columns["tails"], columns["pieces"], facts["window"]
                ),
                titles=tuple(map(str, facts["titles"])),
                sizes=columns["sizes"],
                typical=columns["typical"],
                excerpts=columns["excerpts"],
                source=str(facts["source"]),
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({str(error) or type(error).__name__}); make it again with "
                "`musegen data index`, or delete it to compose without the check"
            ) from None

    def save(self, folder: str | Path) -> Path:
        """Writes the index into a model's folder. Raises OutputError."""
        path = Path(folder) / INDEX_FILE
        columns = {
            "counts": self.table.counts,
            "tails": self.table.tails,
            "pieces": self.table.pieces,
            "sizes": self.sizes,
            "typical": self.typical,
            "excerpts": self.excerpts,
        }
        facts = {
            "format": FORMAT,
            "window": self.table.window,
            "source": self.source,
            "titles": self.titles,
        }
        text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
        write_whole(path, save(columns, metadata={"originality": text}))
        return path

    def check(self, score: Score) -> Originality | None:
        """What a score shares with the training music; None where it has no pitched notes.

        Give it the notes that were generated only: a seed is not the model's.
        """
        measured = _pitched(score)
        if not measured:
            return None
        run = _longest(self.table, score)
        typical = self.usual(measured)
        notes, title = (run.notes, self.titles[run.piece]) if run is not None else (0, "")
        return Originality(notes, title, typical, measured, notes > typical)

    def usual(self, notes: int) -> int:
        """The longest run, in notes, that 95 of 100 excerpts of so many notes stay within.

        Between two sizes it is read off a straight line over the logarithm of the size.
        """
        return int(np.interp(np.log2(max(1, notes)), np.log2(self.sizes), self.typical))


def build_index(
    shards: ShardSet, tokenizer: Tokenizer, on_progress: Progress | None = None
) -> OriginalityIndex:
    """The index of the `train` pieces; `valid` and `test` together are the held-out music.

    Raises:
        DataError: no training piece, or no held-out one, has enough pitched notes.
    """
    train = shards.split("train")
    held_out = (*shards.split("valid"), *shards.split("test"))
    total = len(train) + len(held_out)

    def told(done: int) -> None:
        if on_progress is not None:
            on_progress(done, total, f"{done} of {total} pieces")

    lines, titles = [], []
    for done, piece in enumerate(train, 1):
        found = [line for line in line_grams(tokenizer.decode(shards.rows(piece))) if len(line)]
        if found:
            lines.append(found)
            titles.append(f"{piece.corpus}/{piece.name}")
        told(done)
    if not lines:
        raise DataError(f"{shards.folder}: no training piece has a run of {GRAM + 1} pitched notes")
    table = _fitting_table(lines)
    runs: dict[int, list[int]] = {size: [] for size in SIZES}
    for done, piece in enumerate(held_out, len(train) + 1):
        score = tokenizer.decode(shards.rows(piece))
        for size in SIZES:
            for excerpt in excerpts_of(score, size):
                run = _longest(table, excerpt)
                runs[size].append(run.notes if run is not None else 0)
        told(done)
    enough = min(FEWEST, max(map(len, runs.values())))
    if not enough:
        raise DataError(
            f"{shards.folder}: no held-out piece (valid, test) has {SIZES[0]} pitched notes, so "
            "there is no saying what is usual; build the shards from more files"
        )
    sizes = [size for size in SIZES if len(runs[size]) >= enough]
    typical = [np.percentile(runs[size], PERCENTILE, method="higher") for size in sizes]
    return OriginalityIndex(
        table=table,
        titles=tuple(titles),
        sizes=np.array(sizes, np.int64),
        # More music never shares less; where it seems so, fewer and other pieces were that long.
        # A run below the floor may be a single gram, which can be met, or missed, by chance.
        typical=np.maximum.accumulate(np.array([GRAM + table.window, *typical], np.int64))[1:],
        excerpts=np.array([len(runs[size]) for size in sizes], np.int64),
        source=shards.digest(),
    )


def excerpts_of(score: Score, size: int) -> Iterator[Score]:
    """At most `EXCERPTS` parts of a score with `size` pitched notes or a few more, evenly spread.

    A part begins and ends between onsets and does not overlap another; drums are left out.
    """
    tracks = tuple(track for track in score.tracks if not track.is_drum and len(track))
    onsets = np.sort(np.concatenate([np.empty(0), *(t.notes["start_tick"] for t in tracks)]))
    there = len(onsets) // size
    for part in np.unique(np.linspace(0, there - 1, min(there, EXCERPTS)).astype(int)).tolist():
        start = onsets[part * size]
        end = onsets[(part + 1) * size] if (part + 1) * size < len(onsets) else np.inf
        kept = []
        for track in tracks:
            at = track.notes["start_tick"]
            notes = track.notes[(at >= start) & (at < end)]
            if len(notes):
                kept.append(replace(track, notes=notes))
        if kept:
            yield replace(score, tracks=tuple(kept))


def _pitched(score: Score) -> int:
    return sum(len(track) for track in score.tracks if not track.is_drum)


def _longest(table: Fingerprints, score: Score) -> Run | None:
    found = (table.longest(line) for line in line_grams(score) if len(line))
    runs = [run for run in found if run is not None]
    return max(runs, key=lambda run: run.notes, default=None)


def _fitting_table(lines: list[list[np.ndarray]]) -> Fingerprints:
    """With the smallest window with which the table fits, or else the largest."""
    for window in WINDOWS:
        chosen = [
            np.unique(np.concatenate([winnow(line, window) for line in piece])) for piece in lines
        ]
        table = Fingerprints.of(chosen, window, COMMONPLACE)
        if table.num_bytes <= MOST_BYTES:
            break
    return table


def _check(columns: dict[str, np.ndarray], titles: int, window: int) -> None:
    """Raises ValueError where columns do not fit together, so that no look-up leaves them."""
    counts, tails, pieces = columns["counts"], columns["tails"], columns["pieces"]
    wanted = {"counts": ("u2",), "tails": ("u1",), "pieces": ("u2", "u4")}
    for name in ("sizes", "typical", "excerpts"):
        wanted[name] = ("i8",)
    for name, kinds in wanted.items():
        if columns[name].ndim != 1 or columns[name].dtype.str[1:] not in kinds:
            raise ValueError(f"'{name}' is of another type")
    sizes = columns["sizes"]
    if counts.shape != (BUCKETS,) or len(tails) != int(counts.sum(dtype=np.int64)):
        raise ValueError("the table is not whole")
    if len(pieces) != len(tails) or pieces.max(initial=0) >= max(1, titles):
        raise ValueError("the table names pieces that are not there")
    if not isinstance(window, int) or window < 1:
        raise ValueError("the window is no number of grams")
    if not len(sizes) or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
        raise ValueError("the sizes of the excerpts do not ascend")
    if columns["typical"].shape != sizes.shape or columns["excerpts"].shape != sizes.shape:
        raise ValueError("the sizes and percentiles of the excerpts do not agree")
