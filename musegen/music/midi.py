"""MIDI files to scores and back.

`read_midi` reads what real files hold, repairs what is broken, and says what it did; `write_midi`
(musegen/music/writer.py) writes files that every program opens alike. Reading what was written
gives an equal score.

The reader walks over the bytes itself (musegen/music/smf.py), because the libraries each lose
something that has to come back tick for tick: symusic drops program changes within a track,
aftertouch and texts, and cuts tracks at a change of program; mido refuses a file at its first
fault and takes ten times as long. Both are second opinions in the tests, over real files.
"""

from __future__ import annotations

from dataclasses import dataclass

from musegen.music import smf
from musegen.music.bars import barline_after
from musegen.music.files import Source, read_source
from musegen.music.metas import METER, Metas, read_metas
from musegen.music.normal import settle
from musegen.music.parts import Part, read_parts, settle_channels, track_of
from musegen.music.score import DEFAULT_PPQ, Score, Tempo, Text, Track
from musegen.music.smf import Findings, RawFile
from musegen.music.transform import concatenate
from musegen.music.writer import write_midi

__all__ = ["ReadReport", "read_midi", "write_midi"]


@dataclass(frozen=True)
class ReadReport:
    """What a reader met: every repair and everything dropped, a line each."""

    name: str = ""
    """The file's name, or `<bytes>`."""
    format: int = 1
    notes: tuple[str, ...] = ()
    has_meter: bool = True
    """Whether the file names a meter; the score is in 4/4 where it does not."""

    def lines(self) -> tuple[str, ...]:
        """`notes`, for printing."""
        return self.notes


def read_midi(source: Source) -> tuple[Score, ReadReport]:
    """Reads a MIDI file: a path, its bytes, or an open binary file.

    The score is in normal form (musegen/music/normal.py), at the file's own ppq. Raises `MidiError`
    where there is nothing to be read, and beyond the limits of musegen/music/smf.py.
    """
    name, data = read_source(source, smf.MAX_FILE_BYTES)
    findings = Findings()
    raw = smf.parse(data, name, findings)
    if raw.format == 2 and len(raw.tracks) > 1:
        findings.add("format 2: its independent tracks were put one after another")
        parts = [_score(RawFile(0, raw.division, [track]), name, findings) for track in raw.tracks]
        score = concatenate(parts)
    else:
        score = _score(raw, name, findings)
    score = settle(score, name, findings)
    if not score.num_notes:
        findings.add("there are no notes in it")
    has_meter = any(kind == METER for track in raw.tracks for _, kind, _ in track.metas)
    return score, ReadReport(name, raw.format, findings.lines(), has_meter)


def _score(raw: RawFile, name: str, findings: Findings) -> Score:
    """One sequence; not yet in normal form."""
    ppq, clock_us = _clock(raw.division, findings)
    metas = read_metas(raw, findings)
    parts = [
        part
        for index, track in enumerate(raw.tracks)
        for part in read_parts(track, index, ppq, findings)
    ]
    kept = _kept(raw, metas, parts)
    title, comments = _name(raw, metas, parts, kept, findings)
    settle_channels(kept, [part for part in parts if part not in kept], findings)
    tracks = []
    if kept and metas.lyrics and not any(part.track == 0 for part in kept):
        # Words of the conductor track (pretty_midi puts them there) belong to whoever plays first.
        first = kept[0].track
        if not metas.lyrics[first]:
            metas.lyrics[first], metas.lyrics[0] = metas.lyrics[0], []
    for index in range(len(raw.tracks)):
        mine = [part for part in kept if part.track == index]
        lyrics = tuple(metas.lyrics[index])
        if lyrics and not mine:
            tracks.append(Track(name=metas.names[index], lyrics=lyrics))
        for part in mine:
            tracks.append(track_of(part, lyrics, findings))
            lyrics = ()
    tempos = metas.tempos
    if clock_us is not None:
        findings.add("SMPTE division: converted to an even tempo in place of the file's tempi")
        tempos = [Tempo(0, clock_us)]
    score = Score(
        ppq=ppq,
        tracks=tuple(tracks),
        tempos=tuple(tempos),
        meters=tuple(metas.meters),
        keys=tuple(metas.keys),
        markers=tuple(metas.markers),
        title=title,
        comments=(*comments, *metas.comments),
        copyright="\n".join(metas.copyright),
    )
    return score.replace(length_tick=_length(raw, score))


def _clock(division: int, findings: Findings) -> tuple[int, int | None]:
    """Ticks a quarter note and, for SMPTE division, the tempo that keeps the time exact."""
    if not division & 0x8000:
        if division:
            return division, None
        findings.add(f"a division of 0 ticks a quarter note: read as {DEFAULT_PPQ}")
        return DEFAULT_PPQ, None
    frames, ticks = 256 - (division >> 8), division & 0xFF
    if frames not in (24, 25, 29, 30) or not ticks:
        findings.add(f"an unknown SMPTE division: read as {DEFAULT_PPQ} ticks a quarter note")
        return DEFAULT_PPQ, None
    tick_rate = (30 if frames == 29 else frames) * ticks
    beat_us = 500_500 if frames == 29 else 500_000  # "29" is 30 / 1.001 frames a second
    if tick_rate % 2:
        return tick_rate, 2 * beat_us
    return tick_rate // 2, beat_us


def _kept(raw: RawFile, metas: Metas, parts: list[Part]) -> list[Part]:
    """The parts that become tracks: those with notes, and instruments that rest throughout.

    A part without notes is an instrument when its chunk has a name and no other channel, and when
    nobody else plays on its channel; otherwise it sets up a channel for others.
    """
    playing = {part.place for part in parts if len(part.notes)}
    channels = [sum(part.track == index for part in parts) for index in range(len(raw.tracks))]

    def rests(part: Part) -> bool:
        return (
            raw.format != 0
            and part.track > 0
            and bool(metas.names[part.track])
            and channels[part.track] == 1
            and (part.is_drum or part.place not in playing)
        )

    return [part for part in parts if len(part.notes) or rests(part)]


def _name(
    raw: RawFile, metas: Metas, parts: list[Part], kept: list[Part], findings: Findings
) -> tuple[str, list[Text]]:
    """Names the parts; the piece's title, and names that belong to neither as comments."""
    title, comments = "", []
    for index, name in enumerate(metas.names):
        mine = [part for part in kept if part.track == index]
        if len(mine) == 1:
            mine[0].name = name
        elif mine:
            findings.add("a track of several channels was split, one track a channel")
            for part in mine:
                own = part.instrument_name()
                part.name = f"{name} {own}".strip() if raw.format and name else own
            if not raw.format:
                title = name
        elif index == 0:
            title = name
        elif name and not metas.lyrics[index]:
            findings.add("the name of a track without music was kept as a comment")
            comments.append(Text(0, name))
    return title, comments


def _length(raw: RawFile, score: Score) -> int:
    """Where all tracks end, when they end at one barline: silence there is meant."""
    ends = {track.end_tick for track in raw.tracks if track.ended}
    if len(ends) != 1 or not all(track.ended for track in raw.tracks):
        return 0
    (end,) = ends
    return end if barline_after(score, end) == end else 0
