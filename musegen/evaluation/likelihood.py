"""What held-out music costs a model, in nats: by field, by corpus, by instrument class.

The documents are plain windows of held-out pieces, as in validation: from the left to the right,
nothing told that the music does not say itself. All nats count, those of bars, tracks and tempi
too, and are divided by notes: so presets that spell notes otherwise can be compared. At most
`WINDOWS` windows of a piece are scored, evenly spaced, so that symphonies do not drown songs.

Letters: R scored rows, F fields, P pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from musegen.data.shards import ShardPiece, ShardSet
from musegen.data.splits import place_of
from musegen.errors import TokenError
from musegen.evaluation.intervals import Estimate, ratio_interval
from musegen.evaluation.ngram import ngram_nats
from musegen.evaluation.report import Likelihood
from musegen.music.instruments import DRUM_NAME, FAMILIES
from musegen.tokens.tokenizer import PieceInfo, Sample, Tokenizer
from musegen.tokens.vocabulary import DRUM_PROGRAM

__all__ = [
    "HeldOutDocuments",
    "RowNats",
    "baseline_nats",
    "difference",
    "network_nats",
    "summarise",
]

WINDOWS = 4
"""Of one piece, at most."""

BATCH = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class HeldOutDocuments:
    """The windows that are scored, and the piece of each."""

    pieces: tuple[ShardPiece, ...]
    samples: tuple[Sample, ...]
    piece_of: tuple[int, ...]
    """Of each window the number of its piece."""

    @classmethod
    def of(
        cls,
        shards: ShardSet,
        splits: Sequence[str],
        preset: Tokenizer,
        tokenizer: Tokenizer,
        length: int,
        pieces: int | None = None,
    ) -> HeldOutDocuments:
        """Windows of at most `length` rows that are predicted.

        Args:
            shards: where the pieces are.
            splits: whose pieces.
            preset: what the shards were built with.
            tokenizer: what the model speaks; where it is another, pieces are decoded and encoded.
            length: positions of the model.
            pieces: at most so many, by hash, so that a bound cuts no corpus off.
        """
        found = [piece for split in splits for piece in shards.split(split)]
        found.sort(key=lambda piece: place_of(f"{piece.corpus}/{piece.name}"))
        kept: list[ShardPiece] = []
        samples: list[Sample] = []
        piece_of: list[int] = []
        for piece in found[:pieces]:
            rows = shards.rows(piece)
            if preset.to_dict() != tokenizer.to_dict():
                try:
                    rows = tokenizer.encode(preset.decode(rows)).rows
                except TokenError:
                    continue  # it holds no note that this preset has
            windows = tokenizer.windows(rows, length + 1, PieceInfo(piece.style))
            if len(windows) > WINDOWS:
                spaced = np.linspace(0, len(windows) - 1, WINDOWS).round().astype(int)
                windows = [windows[index] for index in spaced.tolist()]
            windows = [window for window in windows if len(window.rows) > 1]
            samples += windows
            piece_of += [len(kept)] * len(windows)
            kept.append(piece)
        return cls(tuple(kept), tuple(samples), tuple(piece_of))


@dataclass(frozen=True, eq=False)
class RowNats:
    """What each scored row costs."""

    pieces: tuple[ShardPiece, ...]
    field_names: tuple[str, ...]
    piece: np.ndarray
    """(R,) int64: which piece the row is of."""
    nats: np.ndarray
    """(R, F) float64; 0 where a row has no such field."""
    is_note: np.ndarray
    """(R,) booleans."""
    program: np.ndarray
    """(R,) int64: 0..127, 128 for drums, -1 where the preset does not say."""

    def by_piece(self) -> tuple[np.ndarray, np.ndarray]:
        """Nats and notes of each piece, both (P,)."""
        count = len(self.pieces)
        nats = np.bincount(self.piece, weights=self.nats.sum(1), minlength=count)
        return nats, np.bincount(self.piece, weights=self.is_note, minlength=count)


def network_nats(
    network: Any,
    documents: HeldOutDocuments,
    tokenizer: Tokenizer,
    on_progress: Progress | None = None,
) -> RowNats:
    """Nats of every row that bears loss, by a torch network that gives logits of all fields.

    Computed in the network's own precision, windows of like length side by side.
    """
    samples = documents.samples
    nats: list[np.ndarray] = [np.empty(0)] * len(samples)
    order = np.argsort([len(sample.rows) for sample in samples], kind="stable").tolist()
    device = next(iter(network.parameters())).device
    network.eval()
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            batch = _batch([samples[index] for index in chosen], device)
            logits = network.forward(batch)
            lost = [
                -torch.log_softmax(each.float(), -1).gather(-1, batch["targets"][..., f, None])
                for f, each in enumerate(logits)
            ]
            found = torch.cat(lost, -1).cpu().numpy().astype(np.float64)  # (B, T, F)
            for place, index in enumerate(chosen):
                nats[index] = found[place, : len(samples[index].rows) - 1]
            if on_progress is not None:
                on_progress(min(first + BATCH, len(order)), len(order))
    return _collected(documents, tokenizer, nats)


def baseline_nats(
    shards: ShardSet, documents: HeldOutDocuments, tokenizer: Tokenizer, length: int
) -> RowNats | None:
    """The same of the 5-gram, counted in all windows of the `train` pieces; None without any."""
    train = [
        window.rows
        for piece in shards.split("train")
        for window in tokenizer.windows(shards.rows(piece), length + 1, PieceInfo(piece.style))
    ]
    if not train:
        return None
    held_out = [sample.rows for sample in documents.samples]
    nats = ngram_nats(train, held_out, tokenizer.field_sizes)
    return _collected(documents, tokenizer, nats)


def _batch(samples: Sequence[Sample], device: torch.device) -> dict[str, torch.Tensor]:
    """Windows side by side; position i predicts row i + 1."""
    shape = (len(samples), max(len(sample.rows) for sample in samples) - 1)
    fields, channels = samples[0].rows.shape[1], samples[0].channels.shape[1]
    arrays: dict[str, np.ndarray] = {
        "rows": np.zeros((*shape, fields), np.int64),
        "targets": np.zeros((*shape, fields), np.int64),
        "channels": np.zeros((*shape, channels), np.int64),
        "coordinates": np.zeros((*shape, samples[0].coordinates.shape[1]), np.float32),
        "segments": np.zeros(shape, np.int64),
    }
    for row, sample in enumerate(samples):
        here = slice(0, len(sample.rows) - 1)
        arrays["rows"][row, here] = sample.rows[:-1]
        arrays["targets"][row, here] = sample.rows[1:]
        arrays["channels"][row, here] = sample.channels[:-1]
        arrays["coordinates"][row, here] = sample.coordinates[:-1]
        arrays["segments"][row, here] = 1
    return {name: torch.as_tensor(array, device=device) for name, array in arrays.items()}


def _collected(
    documents: HeldOutDocuments, tokenizer: Tokenizer, nats: Sequence[np.ndarray]
) -> RowNats:
    names = [channel.name for channel in tokenizer.channels]
    column = names.index("program") if "program" in names else None
    parts: list[tuple[np.ndarray, ...]] = []
    for sample, piece, found in zip(documents.samples, documents.piece_of, nats, strict=True):
        targets = sample.rows[1:]
        live = (targets != 0) & (sample.weights[1:] > 0)[:, None]
        counts = live.any(1)
        program = np.full(len(targets), -1)
        if column is not None:
            program = sample.channels[1:, column] - 1
        parts.append(
            (
                np.full(int(counts.sum()), piece),
                np.where(live, found, 0.0)[counts],
                tokenizer.note_rows(targets)[counts],
                program[counts],
            )
        )
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return RowNats(documents.pieces, tuple(tokenizer.field_names), *joined)


def summarise(name: str, rows: RowNats, seed: int = 0) -> Likelihood:
    """The table of what was scored, with intervals over pieces.

    Raises:
        TokenError: no row was scored.
    """
    nats, notes = rows.by_piece()
    count = len(rows.pieces)

    def estimate(values: np.ndarray, weights: np.ndarray) -> Estimate | None:
        return ratio_interval(values, weights, seed=seed)

    per_note = estimate(nats, notes)
    events = np.bincount(rows.piece, minlength=count).astype(float)
    per_event = estimate(nats, events)
    if per_note is None or per_event is None:
        raise TokenError("no held-out row was scored: the pieces hold no notes")
    by_field = {
        field: estimate(
            np.bincount(rows.piece, weights=rows.nats[:, index], minlength=count), notes
        )
        for index, field in enumerate(rows.field_names)
    }
    groups = []
    for key in ("split", "corpus"):
        words = np.array([getattr(piece, key) for piece in rows.pieces])
        groups.append(
            {
                word: estimate(nats[words == word], notes[words == word])
                for word in np.unique(words).tolist()
            }
        )
    of_class = np.where(rows.program == DRUM_PROGRAM, len(FAMILIES), rows.program // 8)
    by_instrument = {}
    for number, class_name in enumerate((*FAMILIES, DRUM_NAME)):
        chosen = rows.is_note & (rows.program >= 0) & (of_class == number)
        sums = np.bincount(rows.piece[chosen], weights=rows.nats[chosen].sum(1), minlength=count)
        by_instrument[class_name] = estimate(
            sums, np.bincount(rows.piece[chosen], minlength=count).astype(float)
        )

    def there(table: dict[str, Estimate | None]) -> dict[str, Estimate]:
        return {key: found for key, found in table.items() if found is not None}

    return Likelihood(
        name,
        per_note,
        per_event,
        by_field=there(by_field),
        by_split=there(groups[0]),
        by_corpus=there(groups[1]),
        by_instrument=there(by_instrument),
        notes=int(notes.sum()),
        rows=len(rows.piece),
    )


def difference(rows: RowNats, other: RowNats, seed: int = 0) -> Estimate | None:
    """Nats a note that `rows` is below (negative) or above `other`, paired by piece.

    Pieces weigh by their notes in `rows`. Where both scored the same windows this is exact; where
    the presets differ, each piece's own nats a note are compared.
    """
    nats, notes = rows.by_piece()
    theirs, their_notes = other.by_piece()
    place = {(piece.corpus, piece.name): index for index, piece in enumerate(other.pieces)}
    mine, yours = [], []
    for index, piece in enumerate(rows.pieces):
        match = place.get((piece.corpus, piece.name))
        if match is not None and notes[index] and their_notes[match]:
            mine.append(index)
            yours.append(match)
    gap = nats[mine] / notes[mine] - theirs[yours] / their_notes[yours]
    return ratio_interval(gap * notes[mine], notes[mine], seed=seed)
