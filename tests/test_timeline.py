from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from mido import Message

from musegen.errors import MidiError
from musegen.music.score import Meter, Score, Tempo, Track, note_array
from musegen.music.timeline import Channels, TimedNote, looped, note_passage, score_passages


def song(*tracks: Track, **more) -> Score:
    meters = more.pop("meters", (Meter(0, 4, 4),))
    return Score(ppq=480, tracks=tracks, meters=meters, **more)


def notes(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return note_array(rows)


def test_bars_follow_the_tempo_map():
    score = song(
        Track(
            name="Piano", notes=notes((0, 480, 60, 80), (1920, 960, 62, 80), (3360, 480, 64, 80))
        ),
        tempos=(Tempo(0, 500_000), Tempo(2880, 1_000_000)),
    )
    first, second = score_passages(score, Channels())
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (0.0, 2.0, 2.0, 5.0)
    sounds = [(c.time_s, c.message.note, c.duration_s) for c in second.cues if c.duration_s]
    assert sounds == [(2.0, 62, 1.0), (4.0, 64, 1.0)]
    assert [len([c for c in p.cues if c.message.type == "clock"]) for p in (first, second)] == [
        96,
        96,
    ]
    assert second.start_q == 4.0 and second.bar == 2 and not second.setup


def test_the_bank_and_program_are_always_said():
    score = song(Track(name="Bass", program=33, notes=notes((0, 480, 40, 80))))
    (passage,) = score_passages(score, Channels())
    assert Message("program_change", channel=0, program=33) in passage.setup
    assert Message("control_change", channel=0, control=0, value=0) in passage.setup


def test_drums_play_on_channel_ten_and_others_never():
    tracks = [Track(name=str(i), program=i, notes=notes((0, 480, 60, 80))) for i in range(16)]
    drums = Track(name="Drums", is_drum=True, notes=notes((0, 480, 36, 80)))
    channels = Channels()
    (passage,) = score_passages(song(*tracks, drums), channels)
    used = [cue.message.channel for cue in passage.cues if cue.duration_s]
    assert sorted(used) == list(range(16))
    assert channels.unplayed == ["15"]


def test_a_sixteenth_track_shares_the_channel_of_its_program():
    channels = Channels()
    taken = [channels.take(str(i), i % 15, False) for i in range(16)]
    assert taken[15] == taken[0] and not channels.unplayed


def test_a_track_that_goes_on_keeps_its_channel():
    channels = Channels()
    piano, bass = channels.take("Piano", 0, False), channels.take("Bass", 33, False)
    assert channels.resume("Bass", 33, False) == (bass, ())
    again, setup = channels.resume("Piano", 4, False)
    assert again == piano and setup == (Message("program_change", channel=piano, program=4),)
    new, setup = channels.resume("Flute", 73, False)
    assert new not in (piano, bass) and setup[0].program == 73


def test_a_bar_of_notes_has_its_clocks():
    note = TimedNote(1.5, 0.25, 3, 60, 0)
    passage = note_passage(4, 1.0, 3.0, 0.5, [note])
    clocks = [cue.time_s for cue in passage.cues if cue.message.type == "clock"]
    assert len(clocks) == 96 and clocks[0] == 1.0 and max(clocks) < 3.0
    (cue,) = [cue for cue in passage.cues if cue.duration_s]
    assert cue.message == Message("note_on", channel=3, note=60, velocity=1)
    assert [cue.time_s for cue in passage.later(2.0).cues] == [c.time_s + 2 for c in passage.cues]


def test_a_later_part_says_where_it_is():
    score = song(Track(name="Piano", notes=notes((0, 480, 60, 80))))
    (passage,) = score_passages(score, Channels(), 9, 32.0)
    assert (passage.bar, passage.start_q, passage.start_s) == (9, 32.0, 0.0)


def test_a_loop_goes_on_without_a_gap():
    score = song(Track(name="Piano", notes=notes((0, 480, 60, 80), (1920, 480, 62, 80))))
    passages = list(score_passages(score, Channels()))
    turns = list(islice(looped(passages), 5))
    assert [passage.start_s for passage in turns] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert [passage.bar for passage in turns] == [1, 2, 1, 2, 1]
    assert list(looped([])) == []


def test_nothing_to_play_is_said():
    with pytest.raises(MidiError, match="no notes to play"):
        list(score_passages(song(Track(name="Piano")), Channels()))
