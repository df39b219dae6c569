"""Batches of bars: sections of pieces, each bar a document of its own (musegen/tokens/bars.py).

Several bars are packed into a row of the batch, as documents are in batches.py, whose arrays these
batches have, in smaller integers. What they have besides (N bars, S sections, P bars of a section
at most, K attributes):

| key | shape | what |
| --- | --- | --- |
| bars | (B, T) int32 | 0 padding, 1..N which bar of the batch |
| starts | (N,) int64 | where each bar's document begins in the flattened rows |
| cells | (N,) int64 | section * P + place in the section |
| places | (S, P) bool | where a section has a bar |
| attributes | (N, K) float32 | what `measure_bars` finds in each bar |
| number | (1,) int64 | which batch of the run this is; training only |
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np

from musegen.data.augment import augmented
from musegen.data.batches import Batch, TrainBatches, ValidBatches
from musegen.data.shards import ShardPiece, ShardSet
from musegen.data.splits import place_of
from musegen.errors import UsageError
from musegen.tokens.bars import ATTRIBUTES, BarDocuments, bar_documents, measure_bars, sections
from musegen.tokens.controls import PieceControls, drop_controls, estimate_key, measure_cells
from musegen.tokens.events import EventTokenizer
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import DocumentMix, Tokenizer
from musegen.tokens.vocabulary import FIRST_POSITION, TEMPO

__all__ = ["BarBatches", "BarPacking", "ValidBars", "packed"]

GROUP = 8
"""Rows of a batch that are filled together: a section is longer than a row."""

ALONE, SOME = 0.35, 0.2
"""Shares of sections of one track of several, and of some of the tracks."""

MAX_TRACKS = 32


class BarPacking:
    """Rows of a batch under construction."""

    def __init__(self, tokenizer: EventTokenizer, rows: int, length: int, section: int) -> None:
        self.tokenizer, self.section = tokenizer, section
        self.shape = (rows, length)
        self.documents: list[BarDocuments] = []
        self.starts: list[np.ndarray] = []
        self.attributes: list[np.ndarray] = []

    def add(self, documents: BarDocuments, attributes: np.ndarray, starts: np.ndarray) -> None:
        """A section; `starts` (K,) says where in the flattened rows its bars go, -1 for nowhere."""
        self.documents.append(documents)
        self.attributes.append(attributes)
        self.starts.append(starts)

    def arrays(self) -> Batch:
        """The batch."""
        size = self.shape[0] * self.shape[1]
        fields, channels = len(self.tokenizer.field_names), len(self.tokenizer.channels)
        flat: Batch = {
            "rows": np.zeros((size, fields), np.int16),
            "targets": np.zeros((size, fields), np.int16),
            "channels": np.zeros((size, channels), np.int16),
            "coordinates": np.zeros((size, len(self.tokenizer.axes)), np.float32),
            "segments": np.zeros(size, np.int32),
            "weights": np.zeros(size, np.float32),
            "notes": np.zeros(size, bool),
            "bars": np.zeros(size, np.int32),
        }
        starts: list[np.ndarray] = []
        cells: list[np.ndarray] = []
        attributes: list[np.ndarray] = []
        number = used = 0
        for documents, measured, begin in zip(
            self.documents, self.attributes, self.starts, strict=True
        ):
            # A bar that is left out ends its section: what follows it begins another.
            gaps = np.cumsum(begin < 0)
            there = np.flatnonzero(begin >= 0)
            if not len(there):
                continue
            runs = np.unique(gaps[there], return_inverse=True)[1]
            first_of_run = np.searchsorted(runs, runs)
            cells.append((used + runs) * self.section + np.arange(len(there)) - first_of_run)
            used += int(runs[-1]) + 1
            ids = np.full(len(begin), -1)
            ids[there] = number + np.arange(len(there))
            number += len(there)
            starts.append(begin[there])
            attributes.append(measured[there])
            rows = begin[documents.bar] >= 0
            bar = documents.bar[rows]
            place = begin[bar] + documents.coordinates[rows, 0].astype(np.int64)
            flat["rows"][place] = documents.rows[rows]
            targets = documents.targets[rows]
            flat["targets"][place] = targets
            flat["channels"][place] = documents.channels[rows]
            flat["coordinates"][place] = documents.coordinates[rows]
            flat["weights"][place] = targets[:, 0] > 0
            flat["notes"][place] = targets[:, 0] >= FIRST_POSITION
            flat["bars"][place] = 1 + ids[bar]
        of_row = flat["bars"].reshape(self.shape)
        lowest = np.where(of_row > 0, of_row, number + 1).min(axis=1, keepdims=True)
        flat["segments"] = np.where(of_row > 0, of_row - lowest + 1, 0).ravel()
        made = {name: array.reshape(*self.shape, *array.shape[1:]) for name, array in flat.items()}
        places = np.zeros((max(used, 1), self.section), bool)
        cell = np.concatenate(cells) if cells else np.zeros(0, np.int64)
        places.ravel()[cell] = True
        none = np.zeros((0, len(ATTRIBUTES)))
        return made | {
            "starts": np.concatenate(starts) if starts else np.zeros(0, np.int64),
            "cells": cell,
            "places": places,
            "attributes": np.concatenate([none, *attributes]).astype(np.float32),
        }


class _Bars:
    """How sections become documents."""

    tokenizer: EventTokenizer

    def __init__(self, lead: int, section: int, longest: int, mix: DocumentMix) -> None:
        self.lead, self.section, self.longest, self.mix = lead, section, longest, mix

    def documents(
        self, rows: np.ndarray, rng: np.random.Generator, style: str
    ) -> tuple[BarDocuments, np.ndarray]:
        """The bars of a section and their attributes; `rows` are those of a piece's bars."""
        vocabulary = self.tokenizer.vocabulary
        grid = Grid.from_rows(rows, vocabulary)
        grid = grid.part(0, grid.num_bars, self._tracks(grid.counts, rng))
        told = self.mix.told
        cells = drop_controls(measure_cells(grid, vocabulary), rng, told) if told else None
        knows_key = told and rng.random() < told / 2
        piece = PieceControls(
            key=estimate_key(grid.notes, vocabulary) if knows_key else 0,
            style=vocabulary.style_id(style) if told and rng.random() < told / 2 else 0,
        )
        documents = bar_documents(grid, vocabulary, self.lead, cells, piece)
        return documents, measure_bars(grid, vocabulary)

    def _tracks(self, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One track, some, or all that sound in a section and fit a document."""
        sounding = np.flatnonzero(counts.sum(0) > 0)
        if not len(sounding):
            return np.zeros(1, dtype=np.int64)
        kind, keep = rng.random(), min(len(sounding), MAX_TRACKS)
        if kind < ALONE:
            bars = np.count_nonzero(counts[:, sounding], axis=0)
            busy = sounding[bars >= bars.max() / 2]
            return busy[[int(rng.integers(len(busy)))]]
        if kind < ALONE + SOME:
            keep = int(rng.integers(1, keep + 1))
        chosen = rng.permutation(sounding)[:keep]
        cost = np.cumsum(1 + counts[:, chosen], axis=1).max(axis=0) + self.lead + 1
        fits = max(1, int(np.searchsorted(cost, self.longest, "right")))
        return np.sort(chosen[:fits])

    def section_rows(self, rows: np.ndarray, first: int, bounds: np.ndarray) -> np.ndarray:
        """The rows of a section's bars, with the tempo that is in force at its beginning."""
        last = min(first + self.section, len(bounds) - 1)
        before = np.flatnonzero(rows[: bounds[first], 0] == TEMPO)
        part = rows[bounds[first] : bounds[last]]
        if part[1, 0] == TEMPO or not len(before):
            return np.asarray(part)
        return np.concatenate((part[:1], rows[before[-1] : before[-1] + 1], part[1:]))


def placed(
    sizes: np.ndarray, row: int, used: int, rows: int, length: int, longest: int
) -> tuple[np.ndarray, int, int]:
    """Where documents of these sizes go, one behind another, and what is used then.

    The first (K,) int64 counts flattened positions; -1: the document is too long, or the rows are
    full.
    """
    starts = np.full(len(sizes), -1, dtype=np.int64)
    for bar, size in enumerate(sizes.tolist()):
        if size > min(length, longest):
            continue
        if used + size > length:
            row, used = row + 1, 0
        if row >= rows:
            break
        starts[bar] = row * length + used
        used += size
    return starts, row, used


def packed(
    tokenizer: EventTokenizer,
    documents: BarDocuments,
    attributes: np.ndarray,
    length: int,
    section: int,
) -> Batch:
    """One batch of the bars of one section, all of which fit `length` rows, for encoding."""
    count = len(documents.sizes)
    starts, row, _ = placed(documents.sizes, 0, 0, count, length, length)
    packing = BarPacking(tokenizer, row + 1, length, section)
    packing.add(documents, attributes, starts)
    return packing.arrays()


def _events(tokenizer: Tokenizer) -> EventTokenizer:
    if not isinstance(tokenizer, EventTokenizer):
        raise UsageError(
            f"a model of bars reads rows of the events presets, not {tokenizer.name!r}; build the "
            "shards with --tokenizer events"
        )
    return tokenizer


class BarBatches(TrainBatches, _Bars):
    """An endless stream of training batches of bars."""

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: Tokenizer,
        batch_size: int,
        length: int,
        *,
        lead: int,
        section: int,
        longest: int,
        mix: DocumentMix = DocumentMix(),
        **options: object,
    ) -> None:
        """As `TrainBatches`, of whose pieces it draws sections.

        Args:
            shards, tokenizer, batch_size, length, mix, options: as there.
            lead: empty rows at the beginning of each document.
            section: bars of a section, at most.
            longest: rows of a document, at most; longer bars are left out.
        """
        TrainBatches.__init__(
            self,
            shards,
            _events(tokenizer),
            batch_size,
            length,
            mix=mix,
            **options,  # type: ignore[arg-type]
        )
        _Bars.__init__(self, lead, section, longest, mix)
        self.tokenizer: EventTokenizer = _events(tokenizer)
        self.group = gcd(GROUP, batch_size)
        if (batch_size // self.world) % self.group:
            raise UsageError(
                f"{batch_size} rows cannot be shared by {self.world} processes: bars are packed "
                f"into {self.group} rows at a time; take a multiple of {self.group * self.world}"
            )

    def batch(self, index: int) -> Batch:
        """Batch `index` (0, 1, 2, ...): the rows of this process."""
        local = self.batch_size // self.world
        packing = BarPacking(self.tokenizer, local, self.length, self.section)
        first = (index * self.batch_size + self.rank * local) // self.group
        for number in range(local // self.group):
            self._fill_group(packing, number * self.group, first + number)
        return packing.arrays() | {"number": np.array([index])}

    def _fill_group(self, packing: BarPacking, top: int, number: int) -> None:
        """Fills a group of rows by the draws that belong to its number."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number, 1])))
        row, used, end = top, 0, top + self.group
        for _ in range(10_000):  # pieces of bars that are all too long fill nothing
            documents, attributes = self._section(rng)
            starts, row, used = placed(documents.sizes, row, used, end, self.length, self.longest)
            packing.add(documents, attributes, starts)
            if row >= end:
                return
        raise UsageError(f"no bar of {self.shards.folder} fits {self.longest} rows")

    def _section(self, rng: np.random.Generator) -> tuple[BarDocuments, np.ndarray]:
        piece = self._piece(rng)
        rows = self.shards.rows(piece)
        bounds = sections(rows)
        # Sections begin a little before the first bar too, so that its bars come as often.
        first = int(rng.integers(1 - self.section // 2, len(bounds) - 1))
        part = self.section_rows(rows, max(0, first), bounds)
        if self.augment:
            part = augmented(part, self.tokenizer, self._facts(piece), rng)
        return self.documents(part, rng, self.info(piece).style)


class ValidBars(ValidBatches, _Bars):
    """The same batches each time: sections evenly spaced over the pieces of a split."""

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: Tokenizer,
        batch_size: int,
        length: int,
        *,
        lead: int,
        section: int,
        longest: int,
        **options: object,
    ) -> None:
        """As `ValidBatches`; the rest as in `BarBatches`."""
        ValidBatches.__init__(self, shards, _events(tokenizer), batch_size, length, **options)  # type: ignore[arg-type]
        _Bars.__init__(self, lead, section, longest, DocumentMix(told=0.0))
        self.tokenizer: EventTokenizer = _events(tokenizer)

    def _sections(self) -> Iterator[tuple[BarDocuments, np.ndarray]]:
        """One section of each piece, then a second one, and so on."""
        places = [place_of(f"{piece.corpus}/{piece.name}") for piece in self.pieces]
        order = np.argsort(places, kind="stable").tolist()
        for turn in range(16):
            for number in order:
                piece: ShardPiece = self.pieces[number]
                rng = np.random.default_rng([number, turn])
                rows = self.shards.rows(piece)
                bounds = sections(rows)
                first = int(rng.integers(max(1, len(bounds) - self.section)))
                if len(bounds) < 2 or (turn and len(bounds) <= self.section * turn):
                    continue
                part = self.section_rows(rows, first, bounds)
                yield self.documents(part, rng, self.info(piece).style)

    def _make(self) -> Iterator[Batch]:
        found = self._sections()
        for _ in range(self.max_batches):
            packing = BarPacking(self.tokenizer, self.batch_size, self.length, self.section)
            row = used = 0
            while row < self.batch_size:
                section = next(found, None)
                if section is None:
                    break
                starts, row, used = placed(
                    section[0].sizes, row, used, self.batch_size, self.length, self.longest
                )
                packing.add(*section, starts)
            if row or used:
                yield packing.arrays()
            if row < self.batch_size:
                return
