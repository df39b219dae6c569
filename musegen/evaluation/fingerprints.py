"""Which pieces hold a gram: a table of a chosen part of all grams, a few bytes each.

All grams of five million notes do not fit the size that ships, so some are chosen by winnowing
(Schleimer, Wilkerson, Aiken: Winnowing: local algorithms for document fingerprinting, 2003): of
every `window` grams in a row the smallest hash. Every passage of `window` grams that two pieces
share then has a chosen gram, and within a longer one no two are further apart than `window`.

Of a gram the table keeps 24 bits: 16 say the bucket, 8 are stored beside the number of the piece.
A music that is not in the piece meets one of its grams by chance once in some tens of thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musegen.data.grams import GRAM

__all__ = ["Fingerprints", "Run", "winnow"]

BUCKETS = 2**16

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd; winnowed hashes are small, their multiples are evenly spread in the upper bits."""


def winnow(grams: np.ndarray, window: int) -> np.ndarray:
    """The smallest of every `window` grams in a row, distinct, sorted; of fewer grams one."""
    if not len(grams):
        return grams
    views = np.lib.stride_tricks.sliding_window_view(grams, min(window, len(grams)))
    return np.unique(views.min(axis=1))


def _addresses(grams: np.ndarray) -> np.ndarray:
    """24 bits of each gram, int64."""
    return ((grams * _SPREAD) >> np.uint64(40)).astype(np.int64)


@dataclass(frozen=True)
class Run:
    """A passage that a line shares with a piece."""

    notes: int
    """Its length; what is repeated within it, repeated notes and plain scales count once."""
    piece: int
    """Number of the piece."""


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The table. B = 65,536 buckets, E entries."""

    counts: np.ndarray
    """(B,) uint16: entries of each bucket."""
    tails: np.ndarray
    """(E,) uint8: the rest of each gram's 24 bits; ascending within a bucket."""
    pieces: np.ndarray
    """(E,) uint16 or uint32: the piece that holds the gram."""
    starts: np.ndarray
    """(B + 1,) int64: where each bucket begins."""
    window: int
    """What was chosen with: no two chosen grams of a piece are further apart."""

    @classmethod
    def of(cls, chosen: Sequence[np.ndarray], window: int, commonplace: int) -> Fingerprints:
        """A table of the chosen grams of each piece (uint64, distinct).

        Those that more than `commonplace` pieces hold are nobody's own and left out.
        """
        grams = np.concatenate([*chosen, np.empty(0, np.uint64)])
        kind = np.uint16 if len(chosen) <= 2**16 else np.uint32
        pieces = np.repeat(np.arange(len(chosen)), [len(one) for one in chosen])
        _, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
        own = counts[inverse] <= commonplace
        keys = np.unique((_addresses(grams[own]) << 32) | pieces[own])
        addresses, pieces = keys >> 32, keys & 0xFFFFFFFF
        sizes = np.bincount(addresses >> 8, minlength=BUCKETS)
        if sizes.max(initial=0) > 65535:
            raise ValueError("a bucket of fingerprints is over-full")
        return cls.opened(
            sizes.astype(np.uint16),
            (addresses & 0xFF).astype(np.uint8),
            pieces.astype(kind),
            window,
        )

    @classmethod
    def opened(
        cls, counts: np.ndarray, tails: np.ndarray, pieces: np.ndarray, window: int
    ) -> Fingerprints:
        """A table from its stored columns."""
        starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        return cls(counts, tails, pieces, starts, window)

    @property
    def num_bytes(self) -> int:
        """What the stored columns take."""
        return self.counts.nbytes + self.tails.nbytes + self.pieces.nbytes

    def found(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All (place in `grams`, piece) where the piece holds the gram; both int64."""
        addresses = _addresses(grams)
        first = self.starts[addresses >> 8]
        sizes = self.starts[(addresses >> 8) + 1] - first
        places = np.repeat(np.arange(len(grams)), sizes)
        within = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        entries = first[places] + within
        same = self.tails[entries] == (addresses & 0xFF)[places]
        return places[same], self.pieces[entries[same]].astype(np.int64)

    def longest(self, grams: np.ndarray) -> Run | None:
        """The longest passage of a line (its grams in order) that one piece holds too.

        A passage is a row of places whose grams the piece holds and that are no further apart
        than grams are chosen; one altered note ends it, as it alters the 8 or 9 grams around it.
        """
        places, pieces = self.found(grams)
        if not len(places):
            return None
        order = np.lexsort((places, pieces))
        places, pieces = places[order], pieces[order]
        gaps = (np.diff(places) > self.window) | (np.diff(pieces) != 0)
        first = np.concatenate(([0], np.flatnonzero(gaps) + 1))
        last = np.concatenate((first[1:], [len(places)])) - 1
        spans = places[last] - places[first] + 1
        best: Run | None = None
        for run in np.argsort(-spans, kind="stable").tolist():
            if best is not None and spans[run] + GRAM <= best.notes:
                break
            passage = grams[places[first[run]] : places[last[run]] + 1]
            notes = len(np.unique(passage)) + GRAM
            if best is None or notes > best.notes:
                best = Run(notes, int(pieces[first[run]]))
        return best
