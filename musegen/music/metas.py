"""The meta events of a MIDI file: what holds for the whole piece, and the words of its tracks."""

from __future__ import annotations

from dataclasses import dataclass, field

from musegen.music.score import Key, Meter, Tempo, Text
from musegen.music.smf import Findings, RawFile

TEXT, COPYRIGHT, TRACK_NAME, INSTRUMENT_NAME, LYRIC, MARKER, CUE = range(1, 8)
SEQUENCE_NUMBER, CHANNEL_PREFIX, PORT, END = 0x00, 0x20, 0x21, 0x2F
TEMPO, SMPTE_OFFSET, METER, KEY, SEQUENCER = 0x51, 0x54, 0x58, 0x59, 0x7F

_SAID_NOTHING_OF = frozenset({SEQUENCE_NUMBER, CHANNEL_PREFIX, PORT, END})
_DROPPED = {
    0x08: "a program name was dropped",
    0x09: "a device name was dropped",
    SMPTE_OFFSET: "an SMPTE offset was dropped",
    SEQUENCER: "a sequencer's private data were dropped",
}


@dataclass
class Metas:
    """`names` and `lyrics` have an entry a track chunk; the rest is the piece's."""

    names: list[str]
    lyrics: list[list[Text]]
    tempos: list[Tempo] = field(default_factory=list)
    meters: list[Meter] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    markers: list[Text] = field(default_factory=list)
    comments: list[Text] = field(default_factory=list)
    copyright: list[str] = field(default_factory=list)


def read_metas(raw: RawFile, findings: Findings) -> Metas:
    """Gathers the meta events of all tracks; of two at one tick, the first track's holds."""
    count = len(raw.tracks)
    metas = Metas([""] * count, [[] for _ in range(count)])
    tempos: list[dict[int, Tempo]] = []
    meters: list[dict[int, Meter]] = []
    keys: list[dict[int, Key]] = []
    for index, track in enumerate(raw.tracks):
        instrument = ""
        own: tuple[dict, dict, dict] = ({}, {}, {})
        tempos.append(own[0])
        meters.append(own[1])
        keys.append(own[2])
        for tick, kind, data in track.metas:
            if kind in (TEMPO, METER, KEY):
                _timed(tick, kind, data, own, findings)
            elif kind == TRACK_NAME:
                name = decode_text(data, findings).strip()
                if not metas.names[index]:
                    metas.names[index] = name
                elif name != metas.names[index]:
                    findings.add("a second name of a track was kept as a comment")
                    metas.comments.append(Text(tick, name))
            elif kind == INSTRUMENT_NAME:
                instrument = instrument or decode_text(data, findings).strip()
            elif kind == LYRIC:
                metas.lyrics[index].append(Text(tick, decode_text(data, findings)))
            elif kind in (MARKER, CUE):
                if kind == CUE:
                    findings.add("a cue point was kept as a marker")
                metas.markers.append(Text(tick, decode_text(data, findings)))
            elif kind == COPYRIGHT:
                notice = decode_text(data, findings).strip()
                if notice and notice not in metas.copyright:
                    metas.copyright.append(notice)
            elif kind == TEXT:
                if index:
                    findings.add("a text was moved to the conductor track")
                metas.comments.append(Text(tick, decode_text(data, findings)))
            elif kind not in _SAID_NOTHING_OF:
                unknown = f"a meta event of unknown kind was dropped (0x{kind:02X})"
                findings.add(_DROPPED.get(kind, unknown))
        if instrument and instrument != metas.names[index]:
            if metas.names[index]:
                findings.add("an instrument name was dropped: the track has a name")
            else:
                metas.names[index] = instrument
    metas.tempos = _first_track_wins(tempos)
    metas.meters = _first_track_wins(meters)
    own_keys = [mine for mine in keys if mine]
    if own_keys:
        metas.keys = list(own_keys[0].values())
        differ = sum(mine != own_keys[0] for mine in own_keys)
        findings.add(
            "a track's key signature differs from the first track's and was dropped", differ
        )
    return metas


def _first_track_wins(tracks: list[dict]) -> list:
    merged: dict = {}
    for mine in reversed(tracks):
        merged.update(mine)
    return [merged[tick] for tick in sorted(merged)]


def _timed(
    tick: int, kind: int, data: bytes, own: tuple[dict, dict, dict], findings: Findings
) -> None:
    tempos, meters, keys = own
    if kind == TEMPO and len(data) >= 3 and any(data[:3]):
        tempos[tick] = Tempo(tick, int.from_bytes(data[:3], "big"))
    elif kind == METER and len(data) >= 2 and data[0] and data[1] <= 7:
        meters[tick] = Meter(tick, data[0], 1 << data[1])
    elif kind == KEY and len(data) >= 2 and data[1] <= 1 and (data[0] + 7) % 256 <= 14:
        keys[tick] = Key(tick, (data[0] + 7) % 256 - 7, bool(data[1]))
    else:
        what = {TEMPO: "tempo", METER: "meter", KEY: "key signature"}[kind]
        findings.add(f"a {what} that makes no sense was dropped")


def decode_text(data: bytes, findings: Findings) -> str:
    """A text: UTF-8 where it is valid, else Latin-1, which any bytes are."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        findings.add("a text was not UTF-8 and was read as Latin-1")
        return data.decode("latin-1")
