"""What every preset gives: a score to rows of ids and back, training windows, and a guide.

A piece is an int array of shape (T, F): T rows of F fields (F = 1 for flat tokens). Id 0 means
"nothing here" in every field: padding in field 0; in a later field, that this kind of row has no
such field. A target of 0 bears no loss.

Only numpy is imported here: training from shards must not need miditok or symusic.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musegen.errors import TokenError
from musegen.music.score import Score

if TYPE_CHECKING:
    from musegen.tokens.plan import CompositionPlan, PlanGuide

__all__ = [
    "ChannelSpec",
    "DocumentMix",
    "Encoding",
    "PieceInfo",
    "RoundTripLoss",
    "Sample",
    "Tokenizer",
    "load_tokenizer",
    "tokenizer_from_dict",
]


@dataclass(frozen=True)
class ChannelSpec:
    """A side channel: one small integer a row, embedded and added to the row's input."""

    name: str
    size: int
    """Values are 0..size-1; 0 means unknown."""
    side: str = "input"
    """`input`: known of the row itself; `target`: known of the row that is predicted next."""


@dataclass(frozen=True)
class RoundTripLoss:
    """What `decode(encode(score))` does not give back."""

    notes_in: int = 0
    notes_out: int = 0
    notes_merged: int = 0
    """Notes that fall on another note of the same pitch, place and track."""
    notes_dropped: int = 0
    """Notes that the preset cannot hold (beyond its longest bar)."""
    onset_error_max_q: float = 0.0
    """Quarter notes."""
    onset_error_mean_q: float = 0.0
    duration_error_mean_q: float = 0.0
    tempo_changes_moved: int = 0
    """Tempo changes inside a bar: the preset keeps one tempo a bar."""
    events_dropped: int = 0
    """Controllers, bends, lyrics, program changes within a track."""
    messages: tuple[str, ...] = ()
    """Meters mapped, bars cut, and the like, in words."""

    def lines(self) -> tuple[str, ...]:
        """The losses in words, one a line; empty when nothing is lost."""
        said = []
        if self.notes_merged:
            said.append(f"{self.notes_merged} of {self.notes_in} notes merged into another")
        if self.notes_dropped:
            said.append(f"{self.notes_dropped} of {self.notes_in} notes dropped")
        if self.onset_error_max_q > 1e-6:
            said.append(
                f"onsets moved by {self.onset_error_mean_q:.4f} quarter notes in the mean, "
                f"{self.onset_error_max_q:.4f} at most"
            )
        if self.duration_error_mean_q > 1e-6:
            said.append(f"durations changed by {self.duration_error_mean_q:.4f} quarter notes")
        if self.tempo_changes_moved:
            said.append(f"{self.tempo_changes_moved} tempo changes moved to a barline or dropped")
        if self.events_dropped:
            said.append(f"{self.events_dropped} controllers, bends, lyrics and the like dropped")
        return (*said, *self.messages)

    def to_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Encoding:
    """A score as ids, and what that lost."""

    rows: np.ndarray
    """(T, F) uint16."""
    loss: RoundTripLoss


@dataclass(frozen=True)
class PieceInfo:
    """What the corpus says about a piece and its ids do not."""

    style: str = ""


@dataclass(frozen=True)
class DocumentMix:
    """How a preset that has the choice lays out training documents."""

    masked: float = 0.45
    """Share of documents with cells given ahead, as in infilling; the others are plain."""
    told: float = 0.5
    """Share of documents in which controls of cells are told; each is dropped at random there."""


@dataclass(frozen=True)
class Sample:
    """A training window laid out as a document: position i is the input that predicts row i + 1."""

    rows: np.ndarray
    """(n, F) int64."""
    channels: np.ndarray
    """(n, C) int64."""
    coordinates: np.ndarray
    """(n, A) float32."""
    weights: np.ndarray
    """(n,) float32: the loss weight of each row as a target."""
    cells: np.ndarray | None = None
    """(n,) int64: which cell of the piece each row is of, bar x tracks + track; -1 for none. None
    where the preset has no cells."""


class Tokenizer(ABC):
    """A preset: a vocabulary and how music is laid out in it."""

    name: str
    """The preset's name, e.g. `events`."""
    field_names: tuple[str, ...]
    field_sizes: tuple[int, ...]
    """Ids of field f are 0..field_sizes[f]-1."""
    channels: tuple[ChannelSpec, ...]
    axes: tuple[str, ...]
    """The position axes: `index` counts rows, `time` is in quarter notes."""
    styles: tuple[str, ...] = ()
    """Style words that a composition may ask for."""

    @abstractmethod
    def encode(self, score: Score) -> Encoding:
        """A score as ids.

        Raises:
            TokenError: the score has no notes that the preset can hold.
        """

    @abstractmethod
    def decode(self, rows: np.ndarray) -> Score:
        """Ids (T, F) as a score.

        Raises:
            TokenError: ids outside the preset, or rows in no order that it knows.
        """

    @abstractmethod
    def sample(
        self,
        rows: np.ndarray,
        length: int,
        rng: np.random.Generator,
        info: PieceInfo,
        mix: DocumentMix = DocumentMix(),
    ) -> Sample:
        """One training window of at most `length` rows out of a piece (T, F), drawn by `rng`."""

    @abstractmethod
    def windows(self, rows: np.ndarray, length: int, info: PieceInfo) -> list[Sample]:
        """A piece (T, F) cut into plain windows that hold each of its rows once: for validation."""

    @abstractmethod
    def note_rows(self, rows: np.ndarray) -> np.ndarray:
        """Booleans (T,): which rows are, or begin, a note. Nats a note count these."""

    def num_notes(self, rows: np.ndarray) -> int:
        return int(np.count_nonzero(self.note_rows(rows)))

    @abstractmethod
    def transpose(self, rows: np.ndarray, semitones: int) -> np.ndarray | None:
        """The piece moved by semitones, drums untouched; None if an instrument cannot play it."""

    @abstractmethod
    def stretch_tempo(self, rows: np.ndarray, factor: float) -> np.ndarray:
        """The piece with every tempo times `factor`, within the preset's tempi."""

    def shift_velocities(self, rows: np.ndarray, by: float) -> np.ndarray:
        """The piece louder by so much of 1 to 127; as it is where the preset has no loudness."""
        return rows

    def programs_of(self, rows: np.ndarray) -> tuple[int, ...]:
        """The program of each track, 128 for drums; none where the preset cannot say."""
        return ()

    def change_programs(self, rows: np.ndarray, programs: Mapping[int, int]) -> np.ndarray:
        """The piece with other instruments, program by program, where these can play it."""
        return rows

    def jitter_drums(self, rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        """A share of the drum strokes a little otherwise; as it is where a preset cannot."""
        return rows

    @abstractmethod
    def meter_for(self, numerator: int, denominator: int) -> tuple[int, int]:
        """The meter itself if bars of it can be written, else the nearest in length."""

    @abstractmethod
    def guide(self, plan: CompositionPlan, max_positions: int) -> PlanGuide:
        """The rules for composing `plan` with a model that holds `max_positions` rows.

        Raises:
            TokenError: the plan asks for what the preset does not have (a meter, a track too many).
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything that `tokenizer_from_dict` needs, as JSON types."""

    def save(self, path: str | Path) -> None:
        """Writes `to_dict()` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n", "utf-8")


def tokenizer_from_dict(data: Mapping[str, Any], where: str = "tokenizer") -> Tokenizer:
    """The inverse of `Tokenizer.to_dict`; `where` is named in errors."""
    kind = data.get("kind")
    try:
        if kind == "events":
            from musegen.tokens.events import EventTokenizer

            return EventTokenizer.from_dict(data)
        if kind == "remi":
            from musegen.tokens.midi_tokenizer import MidiTokenizer

            return MidiTokenizer.from_dict(data)
    except TokenError as error:
        raise TokenError(f"{where}: {error}") from error
    raise TokenError(f"{where}: unknown kind of tokenizer {kind!r}; known are events and remi")


def load_tokenizer(source: str | Path) -> Tokenizer:
    """A preset by name (`events`, `performance`, `remi`), by its JSON file, or by a model folder.

    Raises:
        TokenError: there is no such preset, or the file is damaged.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "tokenizer.json"
    elif not path.is_file():
        from musegen import assets

        path = assets.preset_path(str(source))
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenError(f"{path}: cannot be read as a tokenizer: {error}") from error
    if not isinstance(data, dict):
        raise TokenError(f"{path}: a tokenizer is a JSON object")
    return tokenizer_from_dict(data, str(path))
