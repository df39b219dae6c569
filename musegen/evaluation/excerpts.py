"""Excerpts of held-out pieces: what generated music begins with, and what it is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from musegen.data.shards import ShardPiece, ShardSet
from musegen.data.splits import place_of
from musegen.music.normal import normal_form
from musegen.music.score import Score
from musegen.music.transform import slice_bars
from musegen.tokens.tokenizer import Tokenizer

__all__ = ["Excerpt", "excerpts"]

MOST_MELODIC = 14
"""Melodic tracks, at most: a MIDI port has channels for 15, and one may be added."""

LEAST_SOUNDING = 0.5
"""Share of the bars in which notes begin, at least: an excerpt of rests compares nothing."""


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Some bars of a piece that the model was not trained on."""

    piece: ShardPiece
    first_bar: int
    """In the piece, from 0."""
    score: Score
    """These bars, moved to tick 0; tracks without a note in them are left out."""

    @property
    def name(self) -> str:
        return f"{self.piece.corpus}/{self.piece.name}"

    def rng(self, seed: int, *purpose: object) -> np.random.Generator:
        """Random numbers that depend on the seed, the excerpt and the purpose alone."""
        text = "/".join(map(str, (seed, self.name, self.first_bar, *purpose)))
        digest = hashlib.sha256(text.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def excerpts(
    shards: ShardSet,
    splits: Sequence[str],
    tokenizer: Tokenizer,
    count: int,
    bars: int,
    seed: int = 0,
    suits: Callable[[Excerpt], bool] = lambda excerpt: True,
) -> list[Excerpt]:
    """At most `count` excerpts of `bars` bars that do not overlap, corpora and pieces in turn.

    One of each piece before a second of any, and corpora in turn, so that a large corpus does not
    speak for all. Fewer come back where the held-out pieces have no more.

    Args:
        shards: where the pieces are.
        splits: whose pieces.
        tokenizer: what the shards were built with.
        count: how many are wanted.
        bars: of each.
        seed: of where in a piece an excerpt begins, and of the order of the pieces.
        suits: which of them are wanted.
    """
    by_corpus: dict[str, list[ShardPiece]] = {}
    for split in splits:
        for piece in shards.split(split):
            by_corpus.setdefault(piece.corpus, []).append(piece)
    queues = []
    for corpus in sorted(by_corpus):
        pieces = sorted(by_corpus[corpus], key=lambda p: place_of(f"{seed}/{p.corpus}/{p.name}"))
        queues.append(_in_turn([_of_piece(shards, p, tokenizer, bars, seed) for p in pieces]))
    found: list[Excerpt] = []
    for excerpt in _in_turn(queues):
        if len(found) == count:
            break
        if suits(excerpt):
            found.append(excerpt)
    return found


def _in_turn(queues: Sequence[Iterator[Excerpt]]) -> Iterator[Excerpt]:
    """The first of each, then the second of each, ..."""
    waiting = list(queues)
    while waiting:
        left = []
        for queue in waiting:
            excerpt = next(queue, None)
            if excerpt is not None:
                left.append(queue)
                yield excerpt
        waiting = left


def _of_piece(
    shards: ShardSet, piece: ShardPiece, tokenizer: Tokenizer, bars: int, seed: int
) -> Iterator[Excerpt]:
    """The excerpts of one piece; it is decoded when the first of them is asked for."""
    score = tokenizer.decode(shards.rows(piece))
    total = len(score.bars())
    places = total // bars
    if not places:
        return
    digest = hashlib.sha256(f"{seed}/{piece.corpus}/{piece.name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    begin = int(rng.integers(total - places * bars + 1))
    for place in rng.permutation(places).tolist():
        first = begin + place * bars
        # As a file holds it: one drum kit, and no pitch begins again before it has ended.
        part = normal_form(slice_bars(score, first, first + bars))[0]
        part = part.replace(tracks=tuple(track for track in part.tracks if len(track)))
        melodic = sum(not track.is_drum for track in part.tracks)
        if part.tracks and melodic <= MOST_MELODIC and _sounding(part) >= LEAST_SOUNDING:
            yield Excerpt(piece, first, part)


def _sounding(score: Score) -> float:
    """Share of the bars in which a note begins."""
    edges = [bar.start_tick for bar in score.bars()] + [score.bars()[-1].end_tick]
    starts = np.concatenate([track.notes["start_tick"] for track in score.tracks])
    return float(np.mean(np.histogram(starts, edges)[0] > 0))
