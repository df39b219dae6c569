"""`Piece`: a score together with where it came from. What users of the Python API hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from musegen.errors import UsageError
from musegen.music.files import Source
from musegen.music.midi import read_midi
from musegen.music.score import Score
from musegen.music.writer import write_midi

DAWPROJECT_SUFFIX = ".dawproject"


@dataclass(frozen=True)
class Piece:
    """A score and what is known about it; immutable."""

    score: Score
    notes: tuple[str, ...] = ()
    """What was repaired or dropped when it was read, a line each."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Free facts: `file` and `format` where it was read, seed and seconds where it was written."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "info", MappingProxyType(dict(self.info)))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Piece:
        """Reads a MIDI file, or by its suffix MusicXML or a DAWproject. Raises `MidiError`."""
        from musegen.music.export import MUSICXML_SUFFIXES, read_musicxml

        suffix = Path(path).suffix.lower()
        if suffix == DAWPROJECT_SUFFIX:
            from musegen.music.dawproject_reader import read_dawproject

            score, notes = read_dawproject(path)
            facts = {"file": os.fspath(path), "format": "dawproject", "sha256": _hash_of(path)}
            return cls(score, notes, facts)
        if suffix in MUSICXML_SUFFIXES:
            facts = {"file": os.fspath(path), "format": "musicxml", "sha256": _hash_of(path)}
            return cls(read_musicxml(path), info=facts)
        return cls._read(path)

    @classmethod
    def _read(cls, source: Source) -> Piece:
        score, report = read_midi(source)
        facts = {"file": report.name, "format": report.format, "sha256": _hash_of(source)}
        return cls(score, report.notes, facts)

    @classmethod
    def of(cls, obj: Any) -> Piece:
        """A piece of whatever it may be.

        A path, the bytes of a MIDI file, a `Score`, a `Piece`, or an object of symusic,
        pretty_midi, mido or music21. Raises `MidiError` for music that cannot be read and
        `UsageError` for what is no music.
        """
        if isinstance(obj, Piece):
            return obj
        if isinstance(obj, Score):
            return cls(obj)
        if isinstance(obj, str | os.PathLike):
            return cls.load(obj)
        if isinstance(obj, bytes | bytearray | memoryview):
            return cls._read(obj)
        from musegen.music.export import score_of

        return cls(score_of(obj))

    @property
    def bars(self) -> int:
        """How many bars it has, silent ones at the end included."""
        return len(self.score.bars())

    def sha256(self) -> str:
        """Hash of the file that it was read from; of the MIDI file that it makes, if of none."""
        return self.info.get("sha256") or hashlib.sha256(self.to_bytes(ports=True)).hexdigest()

    def to_bytes(self, *, ports: bool = False) -> bytes:
        """The MIDI file as bytes; the same piece always gives the same."""
        return write_midi(self.score, ports=ports)

    def save(self, path: str | os.PathLike, *, ports: bool = False) -> Path:
        """Writes in the format of the suffix.

        `.mid` (or `.midi`), notation (`.musicxml`, `.xml`, `.mxl`) or `.dawproject`, in which what
        was composed (`info["stretches"]`) has clips of its own.

        `ports` lets instruments beyond 15 go to further MIDI ports. Raises `OutputError` where
        the path cannot be written, `UsageError` for another suffix.
        """
        from musegen.music.export import MUSICXML_SUFFIXES, write_musicxml

        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in (".mid", ".midi"):
            write_midi(self.score, path, ports=ports)
        elif suffix in MUSICXML_SUFFIXES:
            write_musicxml(self.score, path)
        elif suffix == DAWPROJECT_SUFFIX:
            from musegen.music.dawproject import write_dawproject

            write_dawproject(self.score, path, generated=self.info.get("stretches", ()))
        else:
            raise UsageError(
                f"{path}: cannot tell the format; end the name in .mid, .musicxml or .dawproject"
            )
        return path

    def to_symusic(self) -> Any:
        """A `symusic.Score` in ticks."""
        from musegen.music.export import to_symusic

        return to_symusic(self.score)

    def to_pretty_midi(self) -> Any:
        """A `pretty_midi.PrettyMIDI`."""
        from musegen.music.export import to_pretty_midi

        return to_pretty_midi(self.score)

    def to_mido(self) -> Any:
        """A `mido.MidiFile`."""
        from musegen.music.export import to_mido

        return to_mido(self.score)

    def to_music21(self) -> Any:
        """A `music21.stream.Score`."""
        from musegen.music.export import to_music21

        return to_music21(self.score)

    def _repr_html_(self) -> str:
        """A piano roll, in notebooks."""
        from musegen.music.roll import svg_roll

        return svg_roll(self.score)

    def __repr__(self) -> str:
        title = f"{self.score.title!r}, " if self.score.title else ""
        tracks = len(self.score.tracks)
        return f"Piece({title}{self.bars} bars, {tracks} tracks, {self.score.num_notes} notes)"


def _hash_of(source: Source) -> str:
    """sha256 of a file, or of its bytes; empty for what can be read once only."""
    if isinstance(source, bytes | bytearray | memoryview):
        return hashlib.sha256(source).hexdigest()
    if not isinstance(source, str | os.PathLike) or not Path(source).is_file():
        return ""
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
