"""Held-out pieces, the documents of requests on them, and what a model thinks of their rows.

Shared by the benchmarks of the composer's controls. A `Request` is an excerpt of a piece with some
cells open; `lay_out` makes the document that sampling would see, and `score` the nats of the open
cells in it. All comparisons are paired: the same cells, the same weights, another document.

Letters: K bars, J tracks, T rows, N documents.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musegen.data.build import build
from musegen.data.shards import ShardPiece, ShardSet
from musegen.evaluation.intervals import ratio_interval
from musegen.evaluation.likelihood import HeldOutDocuments, network_nats
from musegen.tokens.controls import CellControls, PieceControls, estimate_key
from musegen.tokens.events import EventTokenizer
from musegen.tokens.grid import Grid
from musegen.tokens.schedule import HEADER, Layout, Steps, layout, schedule
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.vocabulary import BAR, END, FIRST_POSITION, TEMPO, TRACK

CONTEXT = 512
"""Rows of a document at most: what the model was trained on."""

MARKERS = (BAR, TRACK, TEMPO, END)
"""Heads that end a cell."""

PER_CORPUS = 14
"""Pieces of one corpus at most."""


@contextmanager
def shards_or_music21(folder: Path | None) -> Iterator[tuple[ShardSet, tuple[str, ...]]]:
    """The shards and the splits to measure on; without a folder, some scores of music21."""
    if folder is not None:
        yield ShardSet.open(folder), ("valid", "test")
        return
    with tempfile.TemporaryDirectory() as temporary:
        build("music21", Path(temporary), preset="events", max_files=24)
        yield ShardSet.open(temporary), ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A piece that no model here was trained on."""

    name: str
    corpus: str
    grid: Grid
    piece: ShardPiece

    def rng(self, *more: object) -> np.random.Generator:
        """Random numbers that depend on the piece and the purpose alone."""
        text = "/".join(map(str, (self.corpus, self.name, *more)))
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        return np.random.default_rng(seed)


def held_out(
    shards: ShardSet, splits: Sequence[str], least_tracks: int = 2, per_corpus: int = PER_CORPUS
) -> tuple[EventTokenizer, list[HeldOut]]:
    """Pieces of these splits, spread over corpora, and within them over their groups."""
    tokenizer = load_tokenizer(shards.tokenizer_file())
    if not isinstance(tokenizer, EventTokenizer):
        raise SystemExit(f"{shards.folder}: shards of an events preset are needed")
    by_corpus: dict[str, list[ShardPiece]] = defaultdict(list)
    for split in splits:
        for piece in shards.split(split):
            by_corpus[piece.corpus].append(piece)
    found = []
    for corpus in sorted(by_corpus):
        turns: dict[str, int] = defaultdict(int)
        order = []
        for piece in sorted(by_corpus[corpus], key=lambda p: _hash(p.name)):
            turns[piece.group] += 1
            order.append((turns[piece.group], _hash(piece.name), piece))
        taken = 0
        for _, _, piece in sorted(order, key=lambda entry: entry[:2]):
            grid = Grid.from_rows(shards.rows(piece), tokenizer.vocabulary)
            if grid.num_tracks >= least_tracks and taken < per_corpus:
                found.append(HeldOut(piece.name, corpus, grid, piece))
                taken += 1
    return tokenizer, found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def part(grid: Grid, first: int, last: int) -> Grid:
    """Bars first..last-1, with the tracks that sound in them."""
    tracks = np.flatnonzero(grid.counts[first:last].sum(0) > 0)
    cells = [grid.cell(bar, track) for bar in range(first, last) for track in tracks.tolist()]
    return Grid(
        meters=grid.meters[first:last],
        tempos=grid.tempos[first:last],
        programs=grid.programs[tracks],
        instances=grid.instances[tracks],
        notes=np.concatenate(cells) if cells else np.zeros((0, 4), dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum([len(cell) for cell in cells]))).astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class Request:
    """An excerpt with open cells, as a person would ask for them."""

    source: HeldOut
    first_bar: int
    """Of the excerpt, in the piece."""
    grid: Grid
    given: np.ndarray
    """(K, J) booleans."""

    @property
    def notes(self) -> int:
        """Notes in the open cells."""
        return int(self.grid.counts[~self.given].sum())

    def document(self, tokenizer: EventTokenizer, steps: Steps, **options: Any) -> Layout:
        """Steps laid out; key, bars left and start are told as sampling tells them."""
        cells = self.grid.counts.ravel()
        known = np.repeat(self.given.ravel(), cells)
        piece = PieceControls(
            key=estimate_key(self.grid.notes[known], tokenizer.vocabulary), tell_bars_left=True
        )
        return layout(
            self.grid,
            steps,
            tokenizer.vocabulary,
            piece=piece,
            total_bars=self.source.grid.num_bars - self.first_bar,
            at_start=self.first_bar == 0,
            **options,
        )

    def scored(
        self, tokenizer: EventTokenizer, steps: Steps, cells: CellControls | None = None
    ) -> Scored:
        """The document of these steps, and where its open cells are."""
        document = self.document(tokenizer, steps, cells=cells)
        return Scored(document, *written_rows(document, steps, self.given))


@dataclass(frozen=True, eq=False)
class Scored:
    """A document and the rows of it that count."""

    document: Layout
    notes: np.ndarray
    """(T,) booleans: note rows of open cells."""
    ends: np.ndarray
    """(T,) booleans: last rows of open cells, behind which the cell ends."""


def written_rows(
    document: Layout, steps: Steps, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Note rows of open cells, and the last row of each of them; both (T,) booleans."""
    head = document.rows[:, 0]
    is_cell = steps.track != HEADER
    is_open = ~given[steps.bar[is_cell], steps.track[is_cell]]
    cell = np.cumsum(head == TRACK) - 1
    is_note = head >= FIRST_POSITION
    inside = (is_note | (head == TRACK)) & (cell >= 0)
    inside[inside] = is_open[cell[inside]]
    follows = np.append(is_note[1:], False)
    return inside & is_note, inside & ~follows


def shown(request: Request, bars_after: int = 0) -> Steps:
    """The order of sampling: within a bar the given cells first."""
    return schedule(request.given, bars_after)


def plain(request: Request) -> Steps:
    """The plain order: the given cells are there only where they stand before the open ones."""
    return schedule(np.zeros_like(request.given))


def left_out(request: Request) -> Steps:
    """The order of sampling without the given cells of bars that have open ones."""
    steps = schedule(request.given)
    open_bar = ~request.given.all(axis=1)
    cell_given = request.given[steps.bar, np.maximum(steps.track, 0)]
    keep = (steps.track == HEADER) | ~(cell_given & open_bar[steps.bar])
    return Steps(steps.bar[keep], steps.track[keep], steps.given[keep])


def batches_of(documents: Sequence[Layout], size: int = 8) -> Iterator[list[int]]:
    """Indices of documents of similar length."""
    order = np.argsort([len(document) for document in documents], kind="stable").tolist()
    for first in range(0, len(order), size):
        yield order[first : first + size]


def as_batch(documents: Sequence[Layout]) -> dict[str, torch.Tensor]:
    """Documents side by side; the last row predicts nothing that is known (targets 0)."""
    longest = max(len(document) for document in documents)
    fields, channels = documents[0].rows.shape[1], documents[0].channels.shape[1]
    axes = documents[0].coordinates.shape[1]
    shape = (len(documents), longest)
    batch = {
        "rows": np.zeros((*shape, fields), np.int64),
        "targets": np.zeros((*shape, fields), np.int64),
        "channels": np.zeros((*shape, channels), np.int64),
        "coordinates": np.zeros((*shape, axes), np.float32),
        "segments": np.zeros(shape, np.int64),
    }
    for index, document in enumerate(documents):
        here = slice(0, len(document))
        batch["rows"][index, here] = document.rows
        batch["targets"][index, : len(document) - 1] = document.rows[1:]
        batch["channels"][index, here] = document.channels
        batch["coordinates"][index, here] = document.coordinates
        batch["segments"][index, here] = 1
    return {key: torch.as_tensor(value) for key, value in batch.items()}


def score(network: Any, documents: Sequence[Scored]) -> np.ndarray:
    """(N, 2): nats of the written notes (all fields), and of the ends of the written cells.

    An end costs -log of the mass of all markers, since sampling forces which of them follows.
    """
    return guided_scores(network, documents, None, (1.0,))[0]


def guided_scores(
    network: Any,
    documents: Sequence[Scored],
    untold: Sequence[Layout] | None,
    weights: Sequence[float],
) -> np.ndarray:
    """(W, N, 2): as `score`, by the logits `untold + w * (told - untold)` for each weight w.

    `untold` are the same documents under channels that tell less.
    """
    result = np.zeros((len(weights), len(documents), 2))
    network.eval()
    with torch.inference_mode():
        for chosen in batches_of([item.document for item in documents]):
            items = [documents[index] for index in chosen]
            batch = as_batch([item.document for item in items])
            told = network.forward(batch)
            base = told
            if untold is not None:
                base = network.forward(as_batch([untold[index] for index in chosen]))
            for number, weight in enumerate(weights):
                logits = [b + weight * (t - b) for t, b in zip(told, base, strict=True)]
                result[number, chosen] = _nats(logits, batch["targets"], items)
    return result


def _nats(
    logits: Sequence[torch.Tensor], targets: torch.Tensor, items: Sequence[Scored]
) -> np.ndarray:
    """(len(items), 2) from F logits (B, T, V_f)."""
    logs = [torch.log_softmax(each.float(), -1) for each in logits]
    nats = -torch.stack(
        [log.gather(-1, targets[..., f : f + 1])[..., 0] for f, log in enumerate(logs)]
    ).sum(0)
    ends = -torch.logsumexp(logs[0][..., list(MARKERS)], -1)
    found = np.zeros((len(items), 2))
    for place, item in enumerate(items):
        at = np.flatnonzero(item.notes) - 1  # the row before predicts it
        found[place, 0] = float(nats[place, at].double().sum())
        found[place, 1] = float(ends[place, np.flatnonzero(item.ends)].double().sum())
    return found


def interval(values: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """sum(values) / sum(weights) with its 95% bootstrap interval over the entries (pieces)."""
    found = ratio_interval(values, weights)
    if found is None:
        raise SystemExit("nothing was measured: all weights are 0")
    return found.value, found.low, found.high


def plain_nats(
    network: Any, shards: ShardSet, tokenizer: EventTokenizer, pieces: Sequence[ShardPiece]
) -> np.ndarray:
    """(pieces, 2): nats and notes in at most four plain windows of each, as validation counts."""
    splits = sorted({piece.split for piece in pieces})
    documents = HeldOutDocuments.of(shards, splits, tokenizer, tokenizer, CONTEXT)
    scored = network_nats(network, documents, tokenizer)
    found = dict(zip(map(_place, scored.pieces), np.stack(scored.by_piece(), 1), strict=True))
    return np.array([found[_place(piece)] for piece in pieces])


def _place(piece: ShardPiece) -> tuple[str, int]:
    """What tells a piece from all others of its shards."""
    return piece.shard, piece.offset
