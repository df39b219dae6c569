"""music/check.py: each line of the checklist has a file that breaks it."""

from __future__ import annotations

import io

import mido
import pytest
from mido import Message, MetaMessage

from musegen.errors import MidiError
from musegen.music.check import check_midi, check_path
from musegen.music.midi import write_midi
from musegen.music.score import Key, Score, Track, note_array


def clean_file() -> mido.MidiFile:
    """A conductor, a melody on channel 1, drums on channel 10; one bar."""
    score = Score(
        tracks=(
            Track(note_array([(0, 960, 60, 80), (960, 960, 62, 80)]), name="Melody"),
            Track(note_array([(0, 120, 36, 80)]), name="Drums", is_drum=True),
        ),
        keys=(Key(0, 2, False),),
        title="A piece",
    )
    return mido.MidiFile(file=io.BytesIO(write_midi(score)), charset="utf-8")


def codes(file: mido.MidiFile) -> set[str]:
    buffer = io.BytesIO()
    file.save(file=buffer)
    return {defect.code for defect in check_midi(buffer.getvalue())}


def test_a_clean_file_has_no_defects():
    assert codes(clean_file()) == set()


def first(track, kind):
    return next(index for index, message in enumerate(track) if message.type == kind)


def set_format(file):
    file.type = 0
    del file.tracks[1:]


def set_ppq(file):
    file.ticks_per_beat = 4


def note_in_conductor(file):
    file.tracks[0].insert(0, Message("note_on", note=60, velocity=1))
    file.tracks[0].insert(1, Message("note_off", note=60, time=1))
    file.tracks[0][-1].time -= 1


def tempo_in_melody(file):
    file.tracks[1].insert(1, MetaMessage("set_tempo", tempo=400_000))


def no_meter(file):
    del file.tracks[0][first(file.tracks[0], "time_signature")]


def early_end(file):
    file.tracks[2][-1].time -= 10


def end_off_the_barline(file):
    for track in file.tracks:
        track[-1].time += 100


def meter_off_the_barline(file):
    file.tracks[0].insert(-1, MetaMessage("time_signature", numerator=3, denominator=4, time=700))
    file.tracks[0][-1].time -= 700


def meter_without_beats(file):
    track = file.tracks[0]
    track[first(track, "time_signature")] = MetaMessage("time_signature", numerator=0)


def two_channels(file):
    for index in (-3, -2):
        file.tracks[1][index].channel = 5


def shared_channel(file):
    file.tracks.append(file.tracks[1].copy())
    file.tracks[3][0] = MetaMessage("track_name", name="Other")


def no_name(file):
    del file.tracks[1][first(file.tracks[1], "track_name")]


def same_names(file):
    file.tracks[2][0] = MetaMessage("track_name", name="Melody")


def no_program(file):
    del file.tracks[1][first(file.tracks[1], "program_change")]


def late_program(file):
    track = file.tracks[1]
    at = first(track, "program_change")
    track.insert(at + 1, track.pop(at))


def no_key(file):
    del file.tracks[1][first(file.tracks[1], "key_signature")]


def hanging(file):
    track = file.tracks[1]
    last = len(track) - 2
    track[-1].time += track[last].time
    del track[last]


def orphan(file):
    file.tracks[1].insert(-1, Message("note_off", note=99))


def zero_length(file):
    file.tracks[1].insert(-1, Message("note_on", note=99, velocity=5))
    file.tracks[1].insert(-1, Message("note_off", note=99))


def overlap(file):
    for message in file.tracks[1]:
        if message.type in ("note_on", "note_off"):
            message.note = 60
    track = file.tracks[1]
    at = first(track, "note_off")
    track[at], track[at + 1] = track[at + 1], track[at]
    track[at].time, track[at + 1].time = track[at + 1].time, track[at].time


def note_on_first(file):
    track = file.tracks[1]
    at = first(track, "note_off")
    track[at], track[at + 1] = track[at + 1], track[at]
    track[at].time, track[at + 1].time = track[at + 1].time, track[at].time


def silent_note_on(file):
    track = file.tracks[1]
    at = first(track, "note_off")
    track[at] = Message("note_on", note=track[at].note, velocity=0, time=track[at].time)


def pedal_down(file):
    file.tracks[1].insert(-1, Message("control_change", control=64, value=127))


def latin_text(file):
    file.charset = "latin-1"
    file.tracks[0][0] = MetaMessage("track_name", name="Für Elise")


@pytest.mark.parametrize(
    "spoil, code",
    [
        (set_format, "format"),
        (set_ppq, "ppq"),
        (note_in_conductor, "conductor"),
        (tempo_in_melody, "conductor"),
        (no_meter, "conductor"),
        (early_end, "end"),
        (end_off_the_barline, "end"),
        (meter_off_the_barline, "meter"),
        (meter_without_beats, "meter"),
        (two_channels, "channel"),
        (shared_channel, "channel"),
        (no_name, "name"),
        (same_names, "name"),
        (no_program, "program"),
        (late_program, "program"),
        (no_key, "key"),
        (hanging, "hanging"),
        (orphan, "orphan"),
        (zero_length, "zero_length"),
        (overlap, "overlap"),
        (note_on_first, "order"),
        (silent_note_on, "velocity"),
        (pedal_down, "sustain"),
        (latin_text, "text"),
    ],
)
def test_each_defect_is_found(spoil, code):
    file = clean_file()
    spoil(file)
    assert code in codes(file)


NO_SUCH_KEY = b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\x0a\0\xff\x59\2\x55\x09\0\xff\x2f\0"


@pytest.mark.parametrize(
    "data",
    [b"", b"MThd", b"no", b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\5\0", NO_SUCH_KEY],
)
def test_what_cannot_be_read_is_a_defect(data):
    (defect,) = check_midi(data)[:1]
    assert defect.code == "unreadable" and "\n" not in defect.message


def test_a_missing_file(tmp_path):
    with pytest.raises(MidiError):
        check_midi(tmp_path / "none.mid")
    assert [defect.code for defect in check_path(tmp_path / "none.mid")] == ["unreadable"]
