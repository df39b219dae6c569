"""Batches: training windows of pieces, laid out as the models take them.

A batch is a dict of numpy arrays (B batch, T positions, F fields, C channels, A axes):

| key | shape | what |
| --- | --- | --- |
| rows | (B, T, F) int64 | inputs; 0 is padding |
| targets | (B, T, F) int64 | the row that each position predicts; 0 bears no loss |
| channels | (B, T, C) int64 | side channels |
| coordinates | (B, T, A) float32 | place on each position axis |
| segments | (B, T) int64 | 0 padding, 1.. which document of this row of the batch |
| weights | (B, T) float32 | loss weight of the target |
| notes | (B, T) bool | the target is, or begins, a note |
| latents | (B, T, Z) float32 | of the cell of each row, where told, else 0; only with a table |

`TrainBatches.batch(index)` depends on the seed and the index alone: resuming is asking for the next
index, and any number of processes see the same stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from musegen.data.augment import augmented
from musegen.data.cell_latents import STEPS, CellLatents
from musegen.data.shards import CorpusFacts, ShardPiece, ShardSet
from musegen.data.splits import place_of
from musegen.errors import DataError, UsageError
from musegen.tokens.tokenizer import DocumentMix, PieceInfo, Sample, Tokenizer

Batch = dict[str, np.ndarray]

PIECE_CAP = 6000
"""A piece longer than so many rows is drawn no more often: symphonies would drown songs."""

ROOM = 8
"""Another document is packed into a row when at least 1/8 of it is free."""


class Source(Protocol):
    """What the trainer draws from."""

    def batch(self, index: int) -> Batch: ...


class _Page:
    """A batch under construction."""

    def __init__(
        self, tokenizer: Tokenizer, batch_size: int, length: int, latent: int | None = None
    ) -> None:
        """`latent`: numbers of a cell's latent, where there is a table of them."""
        self.tokenizer = tokenizer
        shape, fields = (batch_size, length), len(tokenizer.field_names)
        self.arrays: Batch = {
            "rows": np.zeros((*shape, fields), np.int64),
            "targets": np.zeros((*shape, fields), np.int64),
            "channels": np.zeros((*shape, len(tokenizer.channels)), np.int64),
            "coordinates": np.zeros((*shape, len(tokenizer.axes)), np.float32),
            "segments": np.zeros(shape, np.int64),
            "weights": np.zeros(shape, np.float32),
            "notes": np.zeros(shape, bool),
        }
        if latent is not None:
            self.arrays["latents"] = np.zeros((*shape, latent), np.float32)
        self.length = length
        self.used = np.zeros(batch_size, np.int64)
        self.documents = np.zeros(batch_size, np.int64)

    def place(self, row: int, sample: Sample, latents: np.ndarray | None = None) -> None:
        """Puts a document, with its rows' latents, behind what is in this row of the batch."""
        count = len(sample.rows) - 1  # the last row is predicted and predicts nothing
        if count < 1:
            return
        start = int(self.used[row])
        here = slice(start, start + count)
        self.documents[row] += 1
        arrays = self.arrays
        arrays["rows"][row, here] = sample.rows[:-1]
        arrays["targets"][row, here] = sample.rows[1:]
        arrays["channels"][row, here] = sample.channels[:-1]
        arrays["coordinates"][row, here] = sample.coordinates[:-1]
        arrays["segments"][row, here] = self.documents[row]
        arrays["weights"][row, here] = sample.weights[1:]
        arrays["notes"][row, here] = self.tokenizer.note_rows(sample.rows[1:])
        if latents is not None:
            arrays["latents"][row, here] = latents[:-1]
        self.used[row] = start + count

    def room(self, row: int) -> int:
        return self.length - int(self.used[row])


class _Pieces:
    """The pieces of a split, or the arrays of a test, with their information."""

    def __init__(self, shards: ShardSet, split: str, latents: CellLatents | None) -> None:
        self.shards, self.latents = shards, latents
        self.pieces = shards.split(split)
        if not self.pieces:
            raise DataError(f"{shards.folder} has no {split} pieces; build it from more files")

    def info(self, piece: ShardPiece) -> PieceInfo:
        return PieceInfo(style=piece.style.split(" ")[0])

    def page(self, tokenizer: Tokenizer, batch_size: int, length: int) -> _Page:
        size = self.latents.size if self.latents is not None else None
        return _Page(tokenizer, batch_size, length, size)

    def told(
        self, piece: ShardPiece, sample: Sample, rng: np.random.Generator | None = None
    ) -> np.ndarray | None:
        """(n, Z): the latent of each row's cell; None without a table.

        With `rng` a share of the cells, itself drawn, is told, as in training; else all are.
        """
        if self.latents is None:
            return None
        if sample.cells is None:
            raise DataError("latents of cells are for a preset that has cells: events")
        table = self.latents.of(piece)
        told = sample.cells >= 0
        if rng is not None:
            told &= (rng.random(len(table)) < rng.random())[sample.cells]
        return np.where(told[:, None], table[sample.cells].astype(np.float32) / STEPS, 0)


def _check(tokenizer: Tokenizer, shards: ShardSet, batch_size: int, length: int) -> None:
    if tuple(tokenizer.field_sizes) != shards.field_sizes:
        raise DataError(
            f"{shards.folder} was built with another tokenizer ({shards.tokenizer_name}: fields of "
            f"{shards.field_sizes}) than the model's ({tokenizer.name}: "
            f"{tuple(tokenizer.field_sizes)}); build it again"
        )
    if batch_size < 1 or length < 8:
        raise UsageError(
            f"batches of {batch_size} x {length}: at least 1 row and 8 positions are needed"
        )


class TrainBatches(_Pieces):
    """An endless stream of training batches."""

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: Tokenizer,
        batch_size: int,
        length: int,
        *,
        seed: int = 0,
        augment: bool = True,
        mix: DocumentMix = DocumentMix(),
        weights: Mapping[str, float] | None = None,
        latents: CellLatents | None = None,
        split: str = "train",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`batch_size` counts the rows of all processes; this one takes its share of them.

        Args:
            shards: where the pieces are.
            tokenizer: lays windows out; the one that the shards were built with.
            batch_size: rows of a batch, over all processes; a multiple of `world`.
            length: positions of a row.
            seed: of everything random here.
            augment: transpose and stretch, within each corpus's bounds.
            mix: how documents are laid out.
            weights: of corpora, in place of those in the shards.
            latents: of the cells, told of a share of them; the music is then not augmented, for
                they are of the music as it is.
            split: which pieces.
            rank: which process this is, 0..world-1.
            world: how many processes train together.
        """
        super().__init__(shards, split, latents)
        _check(tokenizer, shards, batch_size, length)
        if batch_size % world or not 0 <= rank < world:
            raise UsageError(f"{batch_size} rows cannot be shared by {world} processes")
        self.tokenizer = tokenizer
        self.batch_size, self.length, self.seed = batch_size, length, seed
        self.augment = augment and latents is None
        self.rank, self.world = rank, world
        self.mix = mix
        given = dict(weights or {})
        for name in given:
            if name not in shards.corpora:
                raise UsageError(
                    f"weight of {name!r}: the shards hold {', '.join(sorted(shards.corpora))}"
                )
        of_corpus = [
            given.get(name, shards.corpora.get(name, CorpusFacts()).weight)
            for name in self.pieces.words["corpus"]
        ]
        share = (
            np.minimum(self.pieces.column("length"), PIECE_CAP)
            * np.array(of_corpus, float)[self.pieces.column("corpus")]
        )
        if share.min() < 0 or not share.sum() > 0:
            raise UsageError("the weights of corpora must be at least 0, and one above 0")
        self._cumulative = np.cumsum(share) / share.sum()

    def _facts(self, piece: ShardPiece) -> CorpusFacts:
        return self.shards.corpora.get(piece.corpus, CorpusFacts())

    def batch(self, index: int) -> Batch:
        """Batch `index` (0, 1, 2, ...): the rows of this process."""
        local = self.batch_size // self.world
        page = self.page(self.tokenizer, local, self.length)
        first = index * self.batch_size + self.rank * local
        for row in range(local):
            self._fill(page, row, first + row)
        return page.arrays

    def _fill(self, page: _Page, row: int, number: int) -> None:
        """Fills a row of the batch by the draws that belong to this sample number."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))
        least = max(8, self.length // ROOM)
        for _ in range(ROOM):
            # One position more than there is room: the last row is a target only.
            page.place(row, *self._draw(page.room(row) + 1, rng))
            if page.room(row) < least:
                break

    def _piece(self, rng: np.random.Generator) -> ShardPiece:
        """A piece, by its length and the weight of its corpus."""
        chosen = int(np.searchsorted(self._cumulative, rng.random(), "right"))
        return self.pieces[min(chosen, len(self.pieces) - 1)]

    def _draw(self, length: int, rng: np.random.Generator) -> tuple[Sample, np.ndarray | None]:
        piece = self._piece(rng)
        rows = self.shards.rows(piece)
        if self.augment:
            rows = augmented(rows, self.tokenizer, self._facts(piece), rng)
        sample = self.tokenizer.sample(rows, length, rng, self.info(piece), self.mix)
        return sample, self.told(piece, sample, rng)


class ValidBatches(_Pieces):
    """The same batches each time: plain windows over the pieces of a split.

    At most `max_batches` of them: of every piece the same number of windows, evenly spaced, so that
    each counts; several windows share a row of the batch where they fit.
    """

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: Tokenizer,
        batch_size: int,
        length: int,
        *,
        max_batches: int = 32,
        latents: CellLatents | None = None,
        split: str = "valid",
    ) -> None:
        super().__init__(shards, split, latents)
        _check(tokenizer, shards, batch_size, length)
        if max_batches < 1:
            raise UsageError(f"max_batches {max_batches}: at least 1 is needed")
        self.tokenizer = tokenizer
        self.batch_size, self.length, self.max_batches = batch_size, length, max_batches
        self._kept: list[Batch] | None = None

    def batches(self) -> Iterator[Batch]:
        """The batches, in the same order each time; computed once."""
        if self._kept is None:
            self._kept = list(self._make())
        yield from self._kept

    def _windows(self) -> Iterator[tuple[Sample, np.ndarray | None]]:
        budget = self.max_batches * self.batch_size
        # By hash, not by name: a bound that cuts the list cuts no corpus off.
        places = [place_of(f"{piece.corpus}/{piece.name}") for piece in self.pieces]
        each = max(1, -(-budget // len(places)))
        for number in np.argsort(places, kind="stable").tolist():
            piece = self.pieces[number]
            found = self.tokenizer.windows(
                self.shards.rows(piece), self.length + 1, self.info(piece)
            )
            if len(found) > each:
                spaced = np.linspace(0, len(found) - 1, each).round().astype(int)
                found = [found[index] for index in spaced.tolist()]
            yield from ((sample, self.told(piece, sample)) for sample in found)

    def _make(self) -> Iterator[Batch]:
        page, row, made = self.page(self.tokenizer, self.batch_size, self.length), 0, 0
        for sample, latents in self._windows():
            if len(sample.rows) - 1 > page.room(row):
                row += 1
            if row == self.batch_size:
                yield page.arrays
                made += 1
                if made == self.max_batches:
                    return
                page, row = self.page(self.tokenizer, self.batch_size, self.length), 0
            page.place(row, sample, latents)
        if page.used.any():
            yield page.arrays
