"""Scores to and from the objects of other libraries, and notation files.

Each library is imported when it is asked for. What an object cannot hold is left out silently by
its nature: pretty_midi has no markers, symusic no program changes within a track.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from musegen.atomic import write_whole
from musegen.errors import MidiError, OutputError, UsageError
from musegen.music.midi import read_midi
from musegen.music.score import (
    BEND_DTYPE,
    CONTROL_DTYPE,
    DEFAULT_PPQ,
    NOTE_DTYPE,
    Key,
    Meter,
    Score,
    Tempo,
    Text,
    Track,
)
from musegen.music.transform import with_ppq
from musegen.music.writer import write_midi

MUSICXML_SUFFIXES = (".musicxml", ".xml", ".mxl")
_UNTITLED = "Untitled"
MAX_MUSICXML_BYTES = 32 * 2**20


# --- symusic --------------------------------------------------------------------------------------


def to_symusic(score: Score) -> Any:
    """A `symusic.Score` in ticks. Title, comments and later program changes have no place there."""
    import symusic

    result: Any = symusic.Score(score.ppq)
    for tick, tempo_us in score.tempos:
        result.tempos.append(symusic.Tempo(time=tick, mspq=tempo_us))
    for tick, numerator, denominator in score.meters:
        result.time_signatures.append(symusic.TimeSignature(tick, numerator, denominator))
    for key in score.keys:
        result.key_signatures.append(symusic.KeySignature(key.tick, key.fifths, int(key.minor)))
    for tick, text in score.markers:
        result.markers.append(symusic.TextMeta(tick, text))
    for track in score.tracks:
        made: Any = symusic.Track(track.name, track.program, track.is_drum)
        notes = track.notes
        made.notes = symusic.Note.from_numpy(
            time=notes["start_tick"].copy(),  # a column of one note is not aligned
            duration=notes["duration_tick"].copy(),
            pitch=notes["pitch"].astype(np.int8),
            velocity=notes["velocity"].astype(np.int8),
        )
        for tick, number, value in track.controls.tolist():
            made.controls.append(symusic.ControlChange(tick, number, value))
        for tick, value in track.bends.tolist():
            made.pitch_bends.append(symusic.PitchBend(tick, value))
        for tick, text in track.lyrics:
            made.lyrics.append(symusic.TextMeta(tick, text))
        result.tracks.append(made)
    return result


def from_symusic(obj: Any) -> Score:
    """A score from a `symusic.Score` of any time unit."""
    obj = obj.to("tick")

    def column(items: Any, dtype: np.dtype, **fields: str) -> np.ndarray:
        arrays = items.numpy()
        made = np.empty(len(items), dtype)
        for name, theirs in fields.items():
            made[name] = arrays[theirs]
        return made

    tracks = []
    for track in obj.tracks:
        controls = column(
            track.controls, CONTROL_DTYPE, tick="time", number="number", value="value"
        )
        if len(track.pedals) and not np.any(controls["number"] == 64):
            pressed = [(pedal.time, 64, 127) for pedal in track.pedals]
            released = [(pedal.time + pedal.duration, 64, 0) for pedal in track.pedals]
            pedals = np.array(sorted(pressed + released), CONTROL_DTYPE)
            controls = np.concatenate([controls, pedals])
        tracks.append(
            Track(
                notes=column(
                    track.notes,
                    NOTE_DTYPE,
                    start_tick="time",
                    duration_tick="duration",
                    pitch="pitch",
                    velocity="velocity",
                ),
                program=track.program,
                is_drum=track.is_drum,
                name=track.name,
                controls=controls[np.argsort(controls["tick"], kind="stable")],
                bends=column(track.pitch_bends, BEND_DTYPE, tick="time", value="value"),
                lyrics=tuple(Text(lyric.time, lyric.text) for lyric in track.lyrics),
            )
        )
    return Score(
        ppq=obj.ticks_per_quarter,
        tracks=tuple(tracks),
        tempos=tuple(Tempo(tempo.time, tempo.mspq) for tempo in obj.tempos),
        meters=tuple(Meter(m.time, m.numerator, m.denominator) for m in obj.time_signatures),
        keys=tuple(Key(key.time, key.key, bool(key.tonality)) for key in obj.key_signatures),
        markers=tuple(Text(marker.time, marker.text) for marker in obj.markers),
    )


# --- pretty_midi and mido -------------------------------------------------------------------------


def to_pretty_midi(score: Score) -> Any:
    """A `pretty_midi.PrettyMIDI`; it has no markers, titles, bank selects or aftertouch."""
    import pretty_midi

    try:
        made = pretty_midi.PrettyMIDI(io.BytesIO(write_midi(score, ports=True)))
    except ValueError as error:
        raise MidiError(f"score: pretty_midi refuses it: {error}") from None
    _recode(made, "latin-1", "utf-8")
    return made


def pretty_midi_sound_font() -> Path | None:
    """The sound font that pretty_midi carries (TimGM6mb), found without importing it."""
    found = importlib.util.find_spec("pretty_midi")
    if found is None or found.origin is None:
        return None
    return min(Path(found.origin).parent.glob("*.sf2"), default=None)


def _recode(obj: Any, encoding: str, decoding: str) -> None:
    """The texts of a PrettyMIDI, in place: it takes UTF-8 for Latin-1, reading and writing."""
    for instrument in obj.instruments:
        instrument.name = instrument.name.encode(encoding, "replace").decode(decoding, "replace")
    for text in [*obj.lyrics, *getattr(obj, "text_events", ())]:
        text.text = text.text.encode(encoding, "replace").decode(decoding, "replace")


def from_pretty_midi(obj: Any) -> Score:
    """A score from a `pretty_midi.PrettyMIDI`, on its own ticks."""
    buffer = io.BytesIO()
    obj = copy.deepcopy(obj)
    _recode(obj, "utf-8", "latin-1")
    try:
        obj.write(buffer)
    except ValueError as error:
        raise MidiError(f"pretty_midi cannot write its object: {error}") from None
    return read_midi(buffer.getvalue())[0]


def to_mido(score: Score) -> Any:
    """A `mido.MidiFile`, with all that `write_midi` writes."""
    import mido

    return mido.MidiFile(file=io.BytesIO(write_midi(score, ports=True)), charset="utf-8")


def from_mido(obj: Any) -> Score:
    """A score from a `mido.MidiFile`."""
    buffer = io.BytesIO()
    try:
        obj.save(file=buffer)
    except (ValueError, TypeError) as error:
        raise MidiError(f"mido cannot write its object: {error}") from None
    return read_midi(buffer.getvalue())[0]


# --- music21 and MusicXML -------------------------------------------------------------------------


def to_music21(score: Score) -> Any:
    """A `music21.stream.Score`: a part a track, with measures, keys, meters and tempi."""
    import music21

    step = max(1, score.ppq // 8)

    def notated(items: Any) -> Any:
        """Tempi and keys on the nearest 32nd: some programs write them a tick late."""
        return tuple(item._replace(tick=round(item.tick / step) * step) for item in items)

    plain = score.replace(tempos=notated(score.tempos), keys=notated(score.keys))
    data = write_midi(plain, ports=True)
    with _quiet_music21():
        stream = music21.converter.parseData(data, format="midi")
    stream.metadata = music21.metadata.Metadata()
    stream.metadata.title = score.title or _UNTITLED
    return stream


def from_music21(obj: Any) -> Score:
    """A score from any music21 stream, at 480 ticks a quarter note."""
    import music21

    with _quiet_music21():
        try:
            file = music21.midi.translate.streamToMidiFile(obj)
            data = file.writestr()
        except (music21.exceptions21.Music21Exception, AttributeError, TypeError, ValueError) as e:
            raise MidiError(f"music21 cannot turn its object into MIDI: {e}") from None
    score, _ = read_midi(data)
    metadata = getattr(obj, "metadata", None)
    title = metadata.bestTitle if metadata is not None else None
    title = "" if title in (_UNTITLED, "Music21 Fragment") else title
    # music21 counts 10,080 ticks a quarter note; 480 hold all that notation usually needs.
    return with_ppq(score.replace(title=title or score.title, comments=()), DEFAULT_PPQ)


def read_musicxml(path: str | os.PathLike) -> Score:
    """Reads notation (.musicxml, .xml, .mxl, or whatever else music21 knows by its suffix).

    Raises `MidiError` where there is nothing to be read.
    """
    import music21

    path = Path(path)
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):  # .mxl: what it unpacks to
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
        if size > MAX_MUSICXML_BYTES:
            raise MidiError(f"{path}: larger than {MAX_MUSICXML_BYTES >> 20} MB")
    except zipfile.BadZipFile as error:
        raise MidiError(f"{path}: cannot be read as notation: {error}") from None
    except OSError as error:
        raise MidiError(f"{path}: cannot be read: {error.strerror or error}") from None
    with _quiet_music21():
        try:
            stream = music21.converter.parse(path, forceSource=True)
        except Exception as error:  # music21 raises anything: XML, zip, its own, bare ValueError
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise MidiError(f"{path}: cannot be read as notation: {reason}") from None
    return from_music21(stream)


def write_musicxml(score: Score, path: str | os.PathLike) -> None:
    """Writes notation: `.mxl` compressed, any other suffix plain MusicXML.

    Raises `OutputError` where the path cannot be written, `MidiError` where music21 fails.
    """
    path = Path(path)
    compressed = path.suffix.lower() == ".mxl"
    write_whole(path, musicxml_bytes(score, compressed=compressed, name=str(path)))


def musicxml_bytes(score: Score, *, compressed: bool = False, name: str = "score") -> bytes:
    """The score as MusicXML, or `.mxl` where it is compressed; `name` begins its errors.

    Raises `MidiError` where music21 fails, `OutputError` where there is no place to work.
    """
    stream = to_music21(score)
    with tempfile.TemporaryDirectory() as folder, _quiet_music21():
        temporary = Path(folder) / ("score.mxl" if compressed else "score.musicxml")
        try:
            written = stream.write("mxl" if compressed else "musicxml", fp=temporary)
            return Path(written).read_bytes()
        except OSError as error:
            raise OutputError(f"{name}: cannot be written: {error}") from None
        except Exception as error:  # as above
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise MidiError(f"{name}: music21 cannot notate this score: {reason}") from None


class _quiet_music21(warnings.catch_warnings):
    """music21 warns of its own ways of reading, which nobody here can act on."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered


# --- Whatever it is -------------------------------------------------------------------------------


def score_of(obj: Any) -> Score:
    """A score from an object of symusic, pretty_midi, mido or music21.

    Raises `UsageError` for anything else.
    """
    for cls in type(obj).__mro__:
        library = cls.__module__.split(".")[0]
        if library == "symusic" and hasattr(obj, "ticks_per_quarter"):
            return from_symusic(obj)
        if library == "pretty_midi" and cls.__name__ == "PrettyMIDI":
            return from_pretty_midi(obj)
        if library == "mido" and cls.__name__ == "MidiFile":
            return from_mido(obj)
        if library == "music21" and cls.__name__ == "Stream":
            return from_music21(obj)
    raise UsageError(
        f"cannot make music of a {type(obj).__name__}: pass a path, bytes, a Score, or an object"
        " of symusic, pretty_midi, mido or music21"
    )
