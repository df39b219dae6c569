"""Scores to MIDI files that every program opens alike. On mido.

Format 1, always. Track 0 is the conductor: title, copyright, meters, keys, tempi, markers, texts.
Then one track an instrument, each on a channel of its own with a unique name, its bank and program
at tick 0, and the key signatures again (MuseScore looks for them there). Drums go to channel 10;
several drum tracks of one kit share it. All tracks end at one barline. Texts are UTF-8. The same
score always gives the same bytes.

What a file cannot hold is repaired first (musegen/music/normal.py): of two notes of one pitch that
overlap on a channel, the first ends where the second begins.
"""

from __future__ import annotations

import io
import os
from typing import Any

from musegen.atomic import write_whole
from musegen.errors import MidiError
from musegen.music.bars import barline_after
from musegen.music.names import MAJOR_NAMES, MINOR_NAMES
from musegen.music.normal import BANK_LSB, BANK_MSB, content_end, is_words_only, normal_form
from musegen.music.score import CHANNEL_PRESSURE, Meter, Score, Track

DRUM_CHANNEL = 9
MELODIC_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)
MAX_PORTS = 16

# What stands first at one tick: notes end, the sound is set, notes begin.
HEAD, OFF, CONTROL, PROGRAM, BEND, PRESSURE, WORDS, ON = range(8)


def write_midi(
    score: Score, path: str | os.PathLike | None = None, *, ports: bool = False
) -> bytes:
    """The score as a MIDI file; also written to `path`, if there is one, whole or not at all.

    Args:
        score: what to write, at its own ppq.
        path: where to; None writes nowhere.
        ports: whether instruments beyond the 15 of one MIDI port may go to further ports.

    Raises:
        MidiError: the score cannot be a MIDI file, or has too many instruments.
        OutputError: the path cannot be written.
    """
    import mido

    score, _ = normal_form(score)
    places = _places(score.tracks, ports)
    end = max(barline_after(score, content_end(score)), score.length_tick)
    file = mido.MidiFile(type=1, ticks_per_beat=score.ppq, charset="utf-8")
    file.tracks.append(_midi_track(_conductor(score), end))
    several_ports = any(place is not None and place[0] for place in places)
    for track, place in zip(score.tracks, places, strict=True):
        events = track_events(score, track, place, several_ports)
        file.tracks.append(_midi_track(events, end))
    buffer = io.BytesIO()
    file.save(file=buffer)
    data = buffer.getvalue()
    if path is not None:
        write_whole(path, data)
    return data


Place = tuple[int, int]
"""Port and channel."""


def _places(tracks: tuple[Track, ...], ports: bool) -> list[Place | None]:
    """Where each track plays; None for a track of words."""
    places: list[Place | None] = []
    kits: dict[tuple[int, int], int] = {}
    melodic = 0
    for track in tracks:
        if is_words_only(track):
            places.append(None)
        elif track.is_drum:
            port = kits.setdefault((track.program, track.bank), len(kits))
            places.append((port, DRUM_CHANNEL))
        else:
            port, index = divmod(melodic, len(MELODIC_CHANNELS))
            places.append((port, MELODIC_CHANNELS[index]))
            melodic += 1
    limit = MAX_PORTS if ports else 1
    advice = (
        "drop or merge tracks"
        if ports
        else "drop or merge tracks, or allow further MIDI ports (--ports; ports=True)"
    )
    if melodic > limit * len(MELODIC_CHANNELS):
        raise MidiError(
            f"score: {melodic} melodic instruments, but {limit * len(MELODIC_CHANNELS)} channels"
            f" for them: {advice}"
        )
    if len(kits) > limit:
        raise MidiError(
            f"score: {len(kits)} different drum kits, but {limit} drum channel(s): {advice}"
        )
    return places


Event = tuple[int, int, int, Any]
"""Tick, order at the tick, a number that keeps equal ones in their order, mido message."""


def _midi_track(events: list[Event], end_tick: int) -> Any:
    import mido

    track = mido.MidiTrack()
    now = 0
    for tick, _, _, message in sorted(events, key=lambda event: event[:3]):
        message.time = tick - now
        now = tick
        track.append(message)
    track.append(mido.MetaMessage("end_of_track", time=end_tick - now))
    return track


class _Events(list):
    """Events of one track, in the order in which they were added where tick and rank are equal."""

    def put(self, tick: int, rank: int, message: Any) -> None:
        self.append((int(tick), rank, len(self), message))


def _conductor(score: Score) -> _Events:
    from mido import MetaMessage

    events = _Events()
    if score.title:
        events.put(0, HEAD, MetaMessage("track_name", name=score.title))
    if score.copyright:
        events.put(0, HEAD, MetaMessage("copyright", text=score.copyright))
    for meter in score.meters:
        events.put(
            meter.tick,
            HEAD,
            MetaMessage(
                "time_signature",
                numerator=meter.numerator,
                denominator=meter.denominator,
                clocks_per_click=_clocks_per_click(meter),
                notated_32nd_notes_per_beat=8,
            ),
        )
    _put_keys(events, score)
    for tempo in score.tempos:
        events.put(tempo.tick, HEAD, MetaMessage("set_tempo", tempo=int(tempo.tempo_us)))
    for marker in score.markers:
        events.put(marker.tick, HEAD, MetaMessage("marker", text=marker.text))
    for comment in score.comments:
        events.put(comment.tick, HEAD, MetaMessage("text", text=comment.text))
    return events


def _clocks_per_click(meter: Meter) -> int:
    """MIDI clocks (24 a quarter note) a metronome click: a dotted note in compound meters."""
    clocks = 96 / meter.denominator
    if meter.denominator >= 8 and meter.numerator > 3 and meter.numerator % 3 == 0:
        clocks *= 3
    return max(1, round(clocks))


def _put_keys(events: _Events, score: Score) -> None:
    from mido import MetaMessage

    for key in score.keys:
        name = MINOR_NAMES[key.fifths + 7] + "m" if key.minor else MAJOR_NAMES[key.fifths + 7]
        events.put(key.tick, HEAD, MetaMessage("key_signature", key=name))


def track_events(score: Score, track: Track, place: Place | None, several_ports: bool) -> _Events:
    """What one track holds, as events: `place` is its port and channel, None for words only.

    `score` is in normal form and gives the keys.
    """
    from mido import Message, MetaMessage

    events = _Events()
    if several_ports and place is not None:
        events.put(0, HEAD, MetaMessage("midi_port", port=place[0]))
    events.put(0, HEAD, MetaMessage("track_name", name=track.name))
    if not track.is_drum:
        _put_keys(events, score)
    for lyric in track.lyrics:
        events.put(lyric.tick, WORDS, MetaMessage("lyrics", text=lyric.text))
    if place is None:
        return events
    channel = place[1]

    def put(tick: int, rank: int, kind: str, **values: int) -> None:
        events.put(tick, rank, Message(kind, skip_checks=True, channel=channel, **values))

    if track.bank:
        put(0, HEAD, "control_change", control=BANK_MSB, value=track.bank >> 7)
        put(0, HEAD, "control_change", control=BANK_LSB, value=track.bank & 127)
    put(0, HEAD, "program_change", program=track.program)
    for tick, number, value in track.controls.tolist():
        put(tick, CONTROL, "control_change", control=number, value=value)
    for tick, program in track.program_changes:
        put(tick, PROGRAM, "program_change", program=program)
    for tick, value in track.bends.tolist():
        put(tick, BEND, "pitchwheel", pitch=value)
    for tick, pitch, value in track.pressures.tolist():
        if pitch == CHANNEL_PRESSURE:
            put(tick, PRESSURE, "aftertouch", value=value)
        else:
            put(tick, PRESSURE, "polytouch", note=pitch, value=value)
    for start, duration, pitch, velocity in track.notes.tolist():
        put(start, ON, "note_on", note=pitch, velocity=velocity)
        put(start + duration, OFF, "note_off", note=pitch, velocity=64)
    return events
