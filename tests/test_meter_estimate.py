"""The meter of music whose file names none."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest

from musegen.data.corpus import find_corpora, read_item
from musegen.music.analysis import estimate_beats
from musegen.music.midi import read_midi
from musegen.music.score import Meter, Score, Track, note_array


def bars_of(beats: int, bars: int = 16, ppq: int = 480) -> Score:
    """A bass note on each first beat, and a figure that the bar repeats."""
    rng = np.random.default_rng(beats)
    figure = rng.permutation(beats * 4)[: beats + 2]
    notes = [(bar * beats * ppq, 240, 36, 110) for bar in range(bars)]
    notes += [
        (bar * beats * ppq + int(place) * ppq // 4, 100, 60 + k, 70)
        for bar in range(bars)
        for k, place in enumerate(figure)
    ]
    return Score(ppq=ppq, tracks=(Track(note_array(notes)),))


@pytest.mark.parametrize("beats", [3, 4, 5, 6, 7])
def test_a_figure_that_repeats_tells_its_length(beats: int) -> None:
    assert estimate_beats(bars_of(beats)) == beats


def test_what_is_even_random_short_or_empty_tells_nothing() -> None:
    even = note_array([(beat * 480, 100, 60, 80) for beat in range(200)])
    rng = np.random.default_rng(0)
    places = np.unique(rng.integers(0, 4000, 900)).tolist()
    noise = note_array([(place * 120, 60, 60, 80) for place in places])
    for notes in (even, noise, bars_of(5, bars=2).tracks[0].notes, note_array([])):
        assert estimate_beats(Score(tracks=(Track(notes),))) is None


def write(path: Path, score: Score, meter: tuple[int, int] | None) -> None:
    file = mido.MidiFile(ticks_per_beat=score.ppq)
    track = mido.MidiTrack()
    file.tracks.append(track)
    if meter is not None:
        track.append(mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1]))
    events = []
    for start, duration, pitch, velocity in (
        score.tracks[0].notes[["start_tick", "duration_tick", "pitch", "velocity"]].tolist()
    ):
        events.append((start, "note_on", pitch, velocity))
        events.append((start + duration, "note_off", pitch, 0))
    now = 0
    for tick, kind, pitch, velocity in sorted(events):
        track.append(mido.Message(kind, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    file.save(path)


def test_a_corpus_gets_the_meter_that_its_files_do_not_name(tmp_path: Path) -> None:
    write(tmp_path / "named.mid", bars_of(5), (3, 4))
    write(tmp_path / "silent.mid", bars_of(5), None)
    even = Score(tracks=(Track(note_array([(beat * 480, 100, 60, 80) for beat in range(200)])),))
    write(tmp_path / "even.mid", even, None)
    assert read_midi(tmp_path / "named.mid")[1].has_meter
    assert not read_midi(tmp_path / "silent.mid")[1].has_meter
    assert read_midi(tmp_path / "silent.mid")[0].meters == (Meter(0, 4, 4),)  # a user's file stays
    found = {}
    for item in find_corpora(str(tmp_path), tmp_path).corpora[0].items:
        score, repairs = read_item(item)
        found[item.path.name] = (score.meters[0].numerator, [r for r in repairs if "meter" in r])
    assert found == {
        "named.mid": (3, []),
        "silent.mid": (5, ["no meter in the file: 5/4 by its onsets"]),
        "even.mid": (4, ["no meter in the file: read as 4/4"]),
    }
