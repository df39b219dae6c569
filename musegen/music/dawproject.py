"""Scores to DAWproject, the open exchange format of Bitwig Studio, Studio One and Cubase.

A `.dawproject` is a ZIP with `project.xml` and `metadata.xml` (source: the reference and the two
schemas of github.com/bitwig/dawproject, version 1.0). Time is in beats, and a beat is a quarter
note whatever the meter. What is written, and why so:

- A track of notes a track, in the same order, with a colour, then a track `Preview` where there is
  audio. No plug-ins: which are installed, only the user knows. The General MIDI instrument that is
  meant stands in the track's comment, and as a program change at beat 0 with its bank.
- Notes in clips, cut where sections and generated stretches begin and end
  (musegen/music/dawproject_clips.py).
- Controllers, bends, aftertouch and later program changes as automation of the track, held from
  point to point as MIDI does.
- What the format has no place for (ticks a quarter note, key signatures, lyrics, the order of the
  controllers at one tick, silent bars at the end) as JSON in comments that no host shows (of
  `Arrangement` and `Clips`), so that it comes back.

Read again by musegen/music/dawproject_reader.py.
"""

from __future__ import annotations

import io
import json
import os
import wave
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from musegen import __version__
from musegen.atomic import write_whole
from musegen.errors import MidiError, UsageError
from musegen.music.bars import barline_after
from musegen.music.dawproject_archive import (
    MAX_ELEMENTS,
    MAX_XML_BYTES,
    XmlLines,
    pack,
    xml_text,
)
from musegen.music.dawproject_clips import (
    Automation,
    Clip,
    automations_of,
    clips_of,
    control_order,
    says_generated,
    sections_of,
)
from musegen.music.instruments import program_name
from musegen.music.normal import content_end, is_words_only, normal_form
from musegen.music.parts import DRUM_CHANNEL
from musegen.music.roll import COLOURS
from musegen.music.score import Score, Track

PRIVATE = "musegen:"
"""How a comment begins that holds JSON for our own reader."""
SEPARATOR = "\n"
"""Between the comments of a score in the one comment of metadata.xml."""
AUDIO_MEMBER = "audio/preview.wav"
GENERATED_COLOUR = "#FFC20A"
MASTER_COLOUR = "#808080"

Stretch = tuple[int, int, int]
"""Track index, start tick, end tick of something that musegen wrote."""


def write_dawproject(
    score: Score,
    path: str | os.PathLike | None = None,
    *,
    generated: Sequence[Stretch] = (),
    audio: bytes | None = None,
) -> bytes:
    """The score as a DAWproject; also written to `path`, if there is one, whole or not at all.

    Args:
        score: what to write.
        path: where to; None writes nowhere.
        generated: stretches that get clips of their own, with a name and a colour.
        audio: a WAV file (PCM) to be heard along with the notes, from tick 0.

    Raises:
        MidiError: the score is beyond what a file can hold.
        UsageError: a stretch of no track or no length; audio that is no WAV file.
        OutputError: the path cannot be written.
    """
    score, _ = normal_form(score)
    project = _Project(score, _by_track(score, generated), _Wave(audio) if audio else None)
    members = [("project.xml", project.data()), ("metadata.xml", _metadata(score))]
    if audio:
        members.append((AUDIO_MEMBER, bytes(audio)))
    data = pack(members)
    if path is not None:
        write_whole(path, data)
    return data


def instrument_comment(track: Track) -> str | None:
    """What plays a track, for people and for our reader; None for a track of words."""
    if is_words_only(track):
        return None
    kind = "drum kit" if track.is_drum else "program"
    bank = f", bank {track.bank}" if track.bank else ""
    return f"MIDI {kind} {track.program}{bank}: {program_name(track.program, track.is_drum)}"


def _by_track(score: Score, generated: Iterable[Stretch]) -> dict[int, list[tuple[int, int]]]:
    """The stretches of each track, in order; those that touch or overlap are joined."""
    found: dict[int, list[tuple[int, int]]] = {}
    for index, start, end in sorted((int(t), int(a), int(b)) for t, a, b in generated):
        if not 0 <= index < len(score.tracks):
            raise UsageError(
                f"a generated stretch of track {index}, but there are {len(score.tracks)} tracks,"
                " counted from 0"
            )
        if not 0 <= start < end:
            raise UsageError(f"a generated stretch from tick {start} to {end} is no stretch")
        mine = found.setdefault(index, [])
        if mine and start <= mine[-1][1]:
            mine[-1] = (mine[-1][0], max(mine[-1][1], end))
        else:
            mine.append((start, end))
    return found


def _metadata(score: Score) -> bytes:
    xml = XmlLines()
    comment = SEPARATOR.join(comment.text for comment in score.comments)
    with xml.element("MetaData"):
        for tag, text in (
            ("Title", score.title),
            ("Copyright", score.copyright),
            ("Comment", comment),
        ):
            if text:
                xml.text(tag, text)
    return xml.data()


def _number(value: float) -> str:
    """To ten decimals and without an exponent: exact to a tick at any ppq."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def _bpm(tempo_us: int) -> str:
    """The shortest number of beats a minute that is this tempo again, to the microsecond."""
    exact = 60e6 / tempo_us
    for decimals in range(12):
        text = f"{exact:.{decimals}f}"
        if float(text) and round(60e6 / float(text)) == tempo_us:
            return text
    return repr(exact)


def _private(facts: dict) -> str | None:
    return PRIVATE + json.dumps(facts, separators=(",", ":")) if facts else None


class _Project:
    """One project.xml in the making."""

    def __init__(
        self, score: Score, stretches: dict[int, list[tuple[int, int]]], audio: _Wave | None
    ) -> None:
        self.score = score
        self.stretches = stretches
        self.audio = audio
        self.xml = XmlLines()
        self.tempo_id = self.xml.new_id()
        self.meter_id = self.xml.new_id()
        self.track_ids = [self.xml.new_id() for _ in score.tracks]
        self.audio_id = self.xml.new_id() if audio else ""

    def data(self) -> bytes:
        xml = self.xml
        with xml.element("Project", version="1.0"):
            xml.leaf("Application", name="musegen", version=__version__)
            self._transport()
            self._structure()
            self._arrangement()
            xml.leaf("Scenes")
        data = xml.data()
        if len(data) > MAX_XML_BYTES or data.count(b"\n") > MAX_ELEMENTS:
            raise MidiError(
                f"score: {self.score.num_notes:,} notes and their controllers make a project that"
                " is too long to be read again; write a .mid"
            )
        return data

    def _beats(self, tick: int) -> str:
        return _number(tick / self.score.ppq)

    # --- transport and tracks ---------------------------------------------------------------------

    def _transport(self) -> None:
        bpms = [60e6 / tempo.tempo_us for tempo in self.score.tempos]
        meter = self.score.meters[0]
        with self.xml.element("Transport"):
            self.xml.leaf(
                "Tempo",
                max=_number(max(666, *bpms)),  # Bitwig's range, and what the piece needs
                min=_number(min(20, *bpms)),
                unit="bpm",
                value=_bpm(self.score.tempos[0].tempo_us),
                id=self.tempo_id,
                name="Tempo",
            )
            self.xml.leaf(
                "TimeSignature",
                denominator=meter.denominator,
                numerator=meter.numerator,
                id=self.meter_id,
            )

    def _structure(self) -> None:
        master = self.xml.new_id()
        with self.xml.element("Structure"):
            for index, (track, track_id) in enumerate(
                zip(self.score.tracks, self.track_ids, strict=True)
            ):
                colour = COLOURS[index % len(COLOURS)]
                comment = instrument_comment(track)
                with self._track("notes", track_id, track.name, colour, comment):
                    self._channel("regular", self.xml.new_id(), master)
            if self.audio:
                with self._track("audio", self.audio_id, "Preview", MASTER_COLOUR):
                    self._channel("regular", self.xml.new_id(), master)
            with self._track("audio notes", self.xml.new_id(), "Master", MASTER_COLOUR):
                self._channel("master", master, None)

    def _track(self, kind: str, track_id: str, name: str, colour: str, comment: str | None = None):
        return self.xml.element(
            "Track",
            contentType=kind,
            loaded="true",
            id=track_id,
            name=name,
            color=colour,
            comment=comment,
        )

    def _channel(self, role: str, channel_id: str, destination: str | None) -> None:
        xml = self.xml
        with xml.element(
            "Channel",
            audioChannels=2,
            destination=destination,
            role=role,
            solo="false",
            id=channel_id,
        ):
            xml.leaf("Mute", value="false", id=xml.new_id(), name="Mute")
            pan = {"max": 1, "min": 0, "unit": "normalized", "value": 0.5}
            xml.leaf("Pan", **pan, id=xml.new_id(), name="Pan")
            volume = {"max": 2, "min": 0, "unit": "linear", "value": 1}
            xml.leaf("Volume", **volume, id=xml.new_id(), name="Volume")

    # --- the arrangement --------------------------------------------------------------------------

    def _arrangement(self) -> None:
        score, xml = self.score, self.xml
        facts: dict[str, object] = {"ppq": score.ppq}
        if score.length_tick:
            facts["length"] = score.length_tick
        if score.keys:
            facts["keys"] = [[key.tick, key.fifths, int(key.minor)] for key in score.keys]
        if score.comments:  # where each begins, and its length in metadata.xml
            facts["comments"] = [[tick, len(xml_text(text))] for tick, text in score.comments]
        with xml.element("Arrangement", id=xml.new_id(), comment=_private(facts)):
            with xml.element("Lanes", timeUnit="beats", id=xml.new_id()):
                sections = sections_of(score)
                for index in range(len(score.tracks)):
                    self._lanes(index, sections)
                if self.audio:
                    self._preview(self.audio)
            self._markers()
            if len(score.tempos) > 1:
                with self._automation("TempoAutomation", self.tempo_id, "bpm"):
                    for tick, tempo_us in score.tempos:
                        where, value = self._beats(tick), _bpm(tempo_us)
                        xml.leaf("RealPoint", time=where, value=value, interpolation="hold")
            if len(score.meters) > 1:
                with self._automation("TimeSignatureAutomation", self.meter_id, None):
                    for tick, numerator, denominator in score.meters:
                        xml.leaf(
                            "TimeSignaturePoint",
                            time=self._beats(tick),
                            numerator=numerator,
                            denominator=denominator,
                        )

    def _markers(self) -> None:
        if not self.score.markers:  # the schema wants one at least
            return
        with self.xml.element("Markers", timeUnit="beats", id=self.xml.new_id()):
            for tick, text in self.score.markers:
                colour = GENERATED_COLOUR if says_generated(text) else None
                self.xml.leaf("Marker", time=self._beats(tick), name=text, color=colour)

    @contextmanager
    def _automation(self, tag: str, parameter_id: str, unit: str | None) -> Iterator[None]:
        with self.xml.element(tag, timeUnit="beats", id=self.xml.new_id(), unit=unit):
            self.xml.leaf("Target", parameter=parameter_id)
            yield

    def _lanes(self, index: int, sections: Sequence[tuple[int, str]]) -> None:
        score, xml, track = self.score, self.xml, self.score.tracks[index]
        facts: dict[str, object] = {}
        if track.lyrics:
            facts["lyrics"] = [list(lyric) for lyric in track.lyrics]
        if order := control_order(track):
            facts["controls"] = order
        end_tick = max(barline_after(score, content_end(score)), score.length_tick)
        with xml.element("Lanes", track=self.track_ids[index], id=xml.new_id()):
            with xml.element("Clips", id=xml.new_id(), comment=_private(facts)):
                stretches = self.stretches.get(index, [])
                for clip in clips_of(track, sections, stretches, end_tick, score.ppq // 4):
                    self._clip(track, clip)
            for automation in automations_of(track):
                self._points(track, automation)

    def _clip(self, track: Track, clip: Clip) -> None:
        xml, ppq = self.xml, self.score.ppq
        channel = DRUM_CHANNEL if track.is_drum else 0
        with xml.element(
            "Clip",
            time=self._beats(clip.start_tick),
            duration=self._beats(clip.end_tick - clip.start_tick),
            playStart=0,
            name=clip.name or track.name,
            color=GENERATED_COLOUR if clip.is_generated else None,
        ):
            with xml.element("Notes", id=xml.new_id()):
                for start, duration, pitch, velocity in clip.notes.tolist():
                    xml.leaf(
                        "Note",
                        time=_number((start - clip.start_tick) / ppq),
                        duration=_number(duration / ppq),
                        channel=channel,
                        key=pitch,
                        vel=f"{velocity / 127:.6f}",
                    )

    def _points(self, track: Track, automation: Automation) -> None:
        xml = self.xml
        is_program = automation.expression == "programChange"
        unit = None if is_program else "normalized"
        with xml.element("Points", timeUnit="beats", id=xml.new_id(), unit=unit):
            xml.leaf(
                "Target",
                expression=automation.expression,
                channel=DRUM_CHANNEL if track.is_drum else 0,
                key=automation.key,
                controller=automation.controller,
            )
            tag = "IntegerPoint" if is_program else "RealPoint"
            interpolation = None if is_program else "hold"
            for tick, value in automation.points:
                where = self._beats(tick)
                xml.leaf(tag, time=where, value=_number(value), interpolation=interpolation)

    def _preview(self, audio: _Wave) -> None:
        """The audio at its own speed from beat 0: a clip in seconds, in another, as Bitwig has it.

        Bitwig takes no audio that lies in a single clip; the others take either.
        """
        xml = self.xml
        seconds = _number(audio.duration_s)
        beats = _number(_beats_in(self.score, audio.duration_s))
        with (
            xml.element("Lanes", track=self.audio_id, id=xml.new_id()),
            xml.element("Clips", id=xml.new_id()),
            xml.element(
                "Clip",
                time=0,
                duration=beats,
                contentTimeUnit="seconds",
                playStart=0,
                name="Preview",
            ),
            xml.element("Clips", id=xml.new_id()),
            xml.element("Clip", time=0, duration=seconds, contentTimeUnit="seconds", playStart=0),
            xml.element(
                "Audio",
                timeUnit="seconds",
                id=xml.new_id(),
                duration=seconds,
                algorithm="raw",
                channels=audio.channels,
                sampleRate=audio.sample_rate,
            ),
        ):
            xml.leaf("File", path=AUDIO_MEMBER)


class _Wave:
    """What DAWproject wants to know of a WAV file."""

    def __init__(self, data: bytes) -> None:
        try:
            with wave.open(io.BytesIO(data)) as file:
                self.channels = file.getnchannels()
                self.sample_rate = file.getframerate()
                self.duration_s = file.getnframes() / self.sample_rate
        except (wave.Error, EOFError, ZeroDivisionError) as error:
            raise UsageError(f"the preview is no WAV file of PCM samples: {error}") from None


def _beats_in(score: Score, seconds: float) -> float:
    """How many beats pass in so many seconds from tick 0."""
    left = seconds * 1e6
    for index, (tick, tempo_us) in enumerate(score.tempos):
        beats = left / tempo_us
        if index + 1 == len(score.tempos):
            break
        length = (score.tempos[index + 1].tick - tick) / score.ppq
        if beats <= length:
            break
        left -= length * tempo_us
    return tick / score.ppq + beats
