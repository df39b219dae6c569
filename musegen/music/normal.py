"""The normal form of a score: what a clean MIDI file can hold, so that writing loses nothing.

The writer brings every score into this form and the reader returns scores in it, which is why
`read(write(score))` equals the normal form of `score`, and why reading what was read and written
changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from musegen.errors import MidiError
from musegen.music.bars import barline_after, meters_on_barlines, require_bars
from musegen.music.instruments import program_name
from musegen.music.score import CHANNEL_PRESSURE, CONTROL_DTYPE, NOTE_DTYPE, Key, Score, Text, Track
from musegen.music.smf import MAX_TICK, Findings

MAX_PPQ = 32767
MAX_SILENT_QUARTERS = 4000
"""Silence at the end that is kept, in quarter notes; more is a sequencer's odd habit."""
SUSTAIN = 64
BANK_MSB, BANK_LSB = 0, 32
PEDAL_DOWN = 64
"""A pedal controller of at least so much means "down"."""


def normal_form(score: Score, name: str = "score") -> tuple[Score, tuple[str, ...]]:
    """The score as a clean file holds it, and what had to be repaired for that.

    Raises `MidiError`, which begins with `name`, for what no file can hold (a tick before 0, a
    meter of 3/5).
    """
    findings = Findings()
    normal = settle(score, name, findings)
    return normal, findings.lines()


def settle(score: Score, name: str, findings: Findings) -> Score:
    """`normal_form` with the repairs added to `findings`."""
    _require_writable(score, name)
    tracks = [_with_settled_notes(track, score.ppq, findings) for track in score.tracks]
    tracks = _settled_drums(tracks, findings)
    tracks = [_with_settled_events(track, findings) for track in tracks]
    tracks = _named(tracks, findings)
    result = score.replace(
        tracks=tuple(tracks),
        keys=_settled_keys(score.keys),
        markers=_clean_texts(score.markers),
        comments=_clean_texts(score.comments),
        title=clean_text(score.title).strip(),
        copyright=clean_text(score.copyright).strip(),
    )
    meters, added, moved = meters_on_barlines(result)
    findings.add("a meter change just beside a barline was moved onto it", moved)
    findings.add("a meter changed inside a bar: the short bar got a meter of its own", added)
    result = result.replace(meters=meters)
    content = content_end(result)
    longest = content + MAX_SILENT_QUARTERS * result.ppq
    # Its last bar is made whole below: that is what is written, and read again.
    if result.length_tick > longest or barline_after(result, result.length_tick) > longest:
        findings.add(f"silence of more than {MAX_SILENT_QUARTERS} quarter notes at the end was cut")
        result = result.replace(length_tick=0)
    require_bars(result, max(content, result.length_tick), name)
    natural = barline_after(result, content)
    length = barline_after(result, result.length_tick)
    if length > MAX_TICK:
        raise MidiError(f"{name}: its last bar ends after tick {MAX_TICK:,}, the last of a file")
    return result.replace(length_tick=length if length > natural else 0)


def content_end(score: Score) -> int:
    """The tick of the last thing that happens, notes, controllers, texts, tempi and all."""
    ends = [score.end_tick, score.tempos[-1].tick, score.meters[-1].tick]
    for items in (score.keys, score.markers, score.comments):
        ends.extend(item.tick for item in items)
    ends.extend(_track_end(track) for track in score.tracks)
    return max(ends)


def _track_end(track: Track) -> int:
    ends = [track.end_tick]
    for column in (track.controls, track.bends, track.pressures):
        if len(column):
            ends.append(int(column["tick"].max()))
    ends.extend(change.tick for change in track.program_changes)
    ends.extend(lyric.tick for lyric in track.lyrics)
    return max(ends)


def _require_writable(score: Score, name: str) -> None:
    def require(condition: bool, problem: str) -> None:
        if not condition:
            raise MidiError(f"{name}: {problem}")

    require(1 <= score.ppq <= MAX_PPQ, f"{score.ppq} ticks a quarter note; 1 to {MAX_PPQ} is valid")
    for tempo in score.tempos:
        require(
            1 <= tempo.tempo_us < 2**24,
            f"a tempo of {tempo.tempo_us} microseconds a quarter note at tick {tempo.tick}; 1 to"
            f" {2**24 - 1} is valid",
        )
    for meter in score.meters:
        require(
            1 <= meter.numerator <= 255 and meter.denominator in (1, 2, 4, 8, 16, 32, 64, 128),
            f"a meter of {meter.numerator}/{meter.denominator} at tick {meter.tick}; MIDI takes 1"
            " to 255 notes of 1/1, 1/2, 1/4 to 1/128",
        )
    for key in score.keys:
        require(-7 <= key.fifths <= 7, f"a key of {key.fifths} fifths at tick {key.tick}")
    timed: list[Any] = [*score.tempos, *score.meters, *score.keys, *score.markers, *score.comments]
    for index, track in enumerate(score.tracks):
        where = f"track {index} ({track.name!r})"
        require(0 <= track.program <= 127, f"{where}: program {track.program}; 0 to 127 is valid")
        require(0 <= track.bank < 2**14, f"{where}: bank {track.bank}; 0 to 16383 is valid")
        require(not np.any(track.notes["pitch"] > 127), f"{where}: a pitch above 127")
        for column, field in (
            (track.notes, "start_tick"),
            (track.controls, "tick"),
            (track.bends, "tick"),
            (track.pressures, "tick"),
        ):
            require(not np.any(column[field] < 0), f"{where}: something before tick 0")
        for change in track.program_changes:
            require(0 <= change.program <= 127, f"{where}: a change to program {change.program}")
        timed += [*track.program_changes, *track.lyrics]
        ends = track.notes["start_tick"].astype(np.int64) + track.notes["duration_tick"]
        require(not np.any(ends > MAX_TICK), f"{where}: a note ends after tick {MAX_TICK:,}")
    require(all(item.tick >= 0 for item in timed), "something before tick 0")
    require(
        content_end(score) <= MAX_TICK, f"something after tick {MAX_TICK:,}, the last of a file"
    )


# --- Notes ----------------------------------------------------------------------------------------


def _with_settled_notes(track: Track, ppq: int, findings: Findings) -> Track:
    notes = track.notes
    if np.any((notes["velocity"] < 1) | (notes["velocity"] > 127)):
        bad = (notes["velocity"] < 1) | (notes["velocity"] > 127)
        findings.add("a velocity outside 1 to 127 was brought inside", int(bad.sum()))
        notes = notes.copy()
        notes["velocity"] = np.clip(notes["velocity"], 1, 127)
    empty = notes["duration_tick"] < 1
    if empty.any():
        if track.is_drum:  # a drum sounds, however short its note
            findings.add("a drum note without length got one", int(empty.sum()))
            notes = notes.copy()
            notes["duration_tick"][empty] = max(1, ppq // 8)
        else:
            findings.add("a note without length was dropped", int(empty.sum()))
            notes = notes[~empty]
    notes, repaired = without_overlaps(notes)
    findings.add("a note overlapped the next one of its pitch and was cut or merged", repaired)
    return replace(track, notes=notes)


def _with_settled_events(track: Track, findings: Findings) -> Track:
    controls = _by_tick(track.controls)
    if np.any((controls["number"] > 127) | (controls["value"] > 127)):
        good = (controls["number"] <= 127) & (controls["value"] <= 127)
        findings.add("a controller outside 0 to 127 was dropped", int((~good).sum()))
        controls = controls[good]
    bends = _by_tick(track.bends)
    if np.any(np.abs(bends["value"] + 0.5) > 8192):
        bends = bends.copy()
        bends["value"] = np.clip(bends["value"], -8192, 8191)
        findings.add("a pitch bend outside -8192 to 8191 was brought inside")
    pressures = _by_tick(track.pressures)
    good = (pressures["value"] <= 127) & (
        (pressures["pitch"] <= 127) | (pressures["pitch"] == CHANNEL_PRESSURE)
    )
    if not good.all():
        findings.add("an aftertouch outside 0 to 127 was dropped", int((~good).sum()))
        pressures = pressures[good]
    settled = replace(
        track,
        controls=controls,
        bends=bends,
        pressures=pressures,
        lyrics=_clean_texts(track.lyrics),
        program_changes=tuple(sorted(track.program_changes, key=lambda change: change.tick)),
    )
    settled = _folded_program(settled)
    controls = settled.controls
    pedal = controls[controls["number"] == SUSTAIN]
    if len(pedal) and pedal["value"][-1] >= PEDAL_DOWN:
        findings.add("a sustain pedal was still down at the end and was released")
        release = np.array([(_track_end(settled), SUSTAIN, 0)], CONTROL_DTYPE)
        settled = replace(settled, controls=np.concatenate([controls, release]))
    return settled


def _folded_program(track: Track) -> Track:
    """Program changes up to the first note are the program that the track begins with."""
    first = int(track.notes["start_tick"][0]) if len(track) else MAX_TICK
    early = [change for change in track.program_changes if change.tick <= first]
    if not early:
        return track
    tick, program = early[-1]
    number = track.controls["number"]
    before = track.controls["tick"] <= tick
    bank = track.bank
    for select, shift in ((BANK_MSB, 7), (BANK_LSB, 0)):
        values = track.controls["value"][before & (number == select)]
        if len(values):
            bank = bank & ~(127 << shift) | int(values[-1]) << shift
    selects = before & ((number == BANK_MSB) | (number == BANK_LSB))
    return replace(
        track,
        program=program,
        bank=bank,
        controls=track.controls[~selects],
        program_changes=track.program_changes[len(early) :],
    )


def _by_tick(column: np.ndarray) -> np.ndarray:
    ticks = column["tick"]
    if np.all(ticks[1:] >= ticks[:-1]):
        return column
    return column[np.argsort(ticks, kind="stable")]


def without_overlaps(notes: np.ndarray) -> tuple[np.ndarray, int]:
    """Notes of one channel such that none sounds while another of its pitch does.

    Notes of one pitch that begin together become one, with the greatest length and velocity among
    them; a note that sounds when the next one of its pitch begins ends there. Returns the notes,
    `NOTE_DTYPE` (N,), and how many were cut or merged.
    """
    settled, source, repaired = _disjoint(notes)
    if not repaired:
        return notes, 0
    return settled[np.argsort(source, kind="stable")], repaired


def _disjoint(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The notes by (pitch, start), the index that each had before, and the number of repairs."""
    order = np.lexsort((notes["start_tick"], notes["pitch"]))
    ranked = notes[order]
    if not len(ranked):
        return ranked, order, 0
    pitch, start = ranked["pitch"], ranked["start_tick"]
    first = np.ones(len(ranked), bool)
    first[1:] = (pitch[1:] != pitch[:-1]) | (start[1:] != start[:-1])
    index = np.flatnonzero(first)
    settled = ranked[index].copy()
    settled["duration_tick"] = np.maximum.reduceat(ranked["duration_tick"], index)
    settled["velocity"] = np.maximum.reduceat(ranked["velocity"], index)
    room = np.diff(settled["start_tick"])
    cut = (np.diff(settled["pitch"].astype(np.int16)) == 0) & (settled["duration_tick"][:-1] > room)
    settled["duration_tick"][:-1][cut] = room[cut]
    return settled, order[index], len(ranked) - len(index) + int(cut.sum())


def _settled_drums(tracks: list[Track], findings: Findings) -> list[Track]:
    """Drum tracks of one kit share channel 10, so the rule of overlaps holds across them."""
    kits: dict[tuple[int, int], list[int]] = {}
    for index, track in enumerate(tracks):
        if track.is_drum and len(track):
            kits.setdefault((track.program, track.bank), []).append(index)
    for members in kits.values():
        if len(members) < 2:
            continue
        notes = np.concatenate([tracks[index].notes for index in members])
        owner = np.repeat(members, [len(tracks[index]) for index in members])
        settled, source, repaired = _disjoint(notes)
        if repaired:
            findings.add("a drum note was there in two tracks and was cut or merged", repaired)
            for index in members:
                mine = settled[owner[source] == index]
                tracks[index] = replace(tracks[index], notes=mine.astype(NOTE_DTYPE))
    return tracks


# --- Words ----------------------------------------------------------------------------------------


def clean_text(text: str) -> str:
    """Without NULs and without what UTF-8 cannot say (halves of surrogate pairs become `?`)."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _clean_texts(texts: Iterable[Text]) -> tuple[Text, ...]:
    cleaned = [Text(text.tick, clean_text(text.text)) for text in texts]
    return tuple(sorted((text for text in cleaned if text.text), key=lambda text: text.tick))


def is_words_only(track: Track) -> bool:
    """Whether a track holds lyrics and nothing that would need a channel."""
    return bool(track.lyrics) and not (
        len(track.notes)
        or len(track.controls)
        or len(track.bends)
        or len(track.pressures)
        or track.program_changes
        or track.program
        or track.bank
        or track.is_drum
    )


def _named(tracks: list[Track], findings: Findings) -> list[Track]:
    names = []
    for track in tracks:
        name = clean_text(track.name).strip()
        if not name:
            findings.add("a track without a name was named after its instrument")
            words = is_words_only(track)
            name = "Lyrics" if words else program_name(track.program, track.is_drum)
        names.append(name)
    used: set[str] = set()
    taken = set(names)
    result = []
    for track, name in zip(tracks, names, strict=True):
        unique, number = name, 1
        while unique in used or (number > 1 and unique in taken):
            number += 1
            unique = f"{name} {number}"
        if number > 1:
            findings.add("a name that two tracks had was numbered")
        used.add(unique)
        result.append(track if unique == track.name else replace(track, name=unique))
    return result


def _settled_keys(keys: Iterable[Key]) -> tuple[Key, ...]:
    latest = {key.tick: Key(int(key.tick), int(key.fifths), bool(key.minor)) for key in keys}
    return tuple(latest[tick] for tick in sorted(latest))
