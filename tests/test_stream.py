from __future__ import annotations

import json
import subprocess
import sys
import types

import numpy as np
import pytest

from musegen.cli import console
from musegen.sampling.stream import (
    BarEvent,
    BarStream,
    BarTimes,
    EventStream,
    NoteEvent,
    TrackFacts,
)
from musegen.tokens.plan import WRITTEN_DTYPE

TRACKS = (TrackFacts("Piano", 0, False), TrackFacts("Drums", 8, True))


def written(*rows: tuple[int, int, float, float, int]) -> np.ndarray:
    """(track, bar, onset_q, duration_q, pitch) as a guide writes them."""
    notes = np.zeros(len(rows), dtype=WRITTEN_DTYPE)
    for index, name in enumerate(("track", "bar", "onset_q", "duration_q", "pitch")):
        notes[name] = [row[index] for row in rows]
    notes["velocity"] = 80
    return notes


class Guide:
    def __init__(self, notes: np.ndarray) -> None:
        self.notes, self.bars_done = notes, 0

    def result(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(notes=self.notes)


def test_every_bar_is_told_once_under_its_own_number():
    notes = written((0, 4, 0, 1, 60), (0, 9, 0, 1, 62), (0, 9, 1, 1, 64))
    guides, told = [Guide(notes), Guide(notes)], []
    stream = BarStream(guides, lambda s, b, n: told.append((s, b, n["pitch"].tolist())), (4, 7, 9))
    stream()
    assert told == []
    guides[0].bars_done = 1
    stream()
    guides[0].bars_done, guides[1].bars_done = 3, 2
    stream()
    stream()
    assert told == [(0, 4, [60]), (0, 7, []), (0, 9, [62, 64]), (1, 4, [60]), (1, 7, [])]


def test_bars_count_from_the_first_where_none_are_named():
    guide, told = Guide(written((0, 1, 0, 1, 60))), []
    guide.bars_done = 2
    BarStream([guide], lambda s, b, n: told.append((b, len(n))))()
    assert told == [(0, 0), (1, 1)]


def test_events_come_in_the_order_of_time_with_seconds_of_the_piece():
    times = BarTimes.of([4.0, 3.0, 4.0], [0.5, 0.4, 0.25])
    assert times.start_s == pytest.approx((0.0, 2.0, 3.2, 4.2))
    events: list[NoteEvent | BarEvent] = []
    stream = EventStream(events.append, times, TRACKS)
    stream(2, 1, written((0, 1, 2.0, 1.0, 64), (0, 1, 0.5, 0.25, 60), (1, 1, 0.5, 0.25, 36)))
    notes = [event for event in events if isinstance(event, NoteEvent)]
    assert [(note.name, note.pitch) for note in notes] == [
        ("Piano", 60),
        ("Drums", 36),
        ("Piano", 64),
    ]
    assert [note.start_s for note in notes] == pytest.approx([2.2, 2.2, 2.8])
    assert notes[2].duration_s == pytest.approx(0.4)
    assert (notes[1].program, notes[1].is_drum, notes[1].sample, notes[1].bar) == (8, True, 2, 2)
    assert events[-1] == BarEvent(2, 2, times.start_s[1], times.start_s[2], 0.4, 3)


def test_a_note_that_rings_into_another_tempo_lasts_as_long_as_it_sounds():
    times = BarTimes.of([4.0, 4.0], [0.5, 0.25])
    events: list[NoteEvent | BarEvent] = []
    notes = written((0, 0, 3.0, 3.0, 60), (0, 1, 3.0, 9.0, 62))
    stream = EventStream(events.append, times, TRACKS)
    stream(0, 0, notes[:1])
    stream(0, 1, notes[1:])
    lengths = [event.duration_s for event in events if isinstance(event, NoteEvent)]
    assert lengths == pytest.approx([0.5 + 2 * 0.25, 9 * 0.25])


def test_a_silent_bar_is_told_too():
    events = []
    EventStream(events.append, BarTimes.of([4.0], [0.5]), TRACKS)(0, 0, written())
    assert events == [BarEvent(0, 1, 0.0, 2.0, 0.5, 0)]


def test_times_need_the_last_barline():
    with pytest.raises(ValueError, match="2 barlines for 2 bars"):
        BarTimes((0.0, 2.0), (0.5, 0.5))


def test_events_are_json(capsys):
    events = []
    times = BarTimes.of([4.0], [0.5])
    EventStream(events.append, times, TRACKS)(0, 0, written((1, 0, 1.0, 0.5, 38)))
    for event in events:
        console.json_line(event.to_dict())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {
        "event": "note",
        "sample": 0,
        "bar": 1,
        "track": 1,
        "name": "Drums",
        "program": 8,
        "is_drum": True,
        "start_s": 0.5,
        "duration_s": 0.25,
        "onset_q": 1.0,
        "duration_q": 0.5,
        "pitch": 38,
        "velocity": 80,
    }
    assert lines[1]["event"] == "bar" and lines[1]["notes"] == 1


def test_a_line_reaches_the_pipe_at_once():
    code = (
        "import numpy as np, time\n"
        "from musegen.cli.console import json_line\n"
        "json_line({'pitch': np.uint8(60), 'name': 'Flöte'})\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert json.loads(process.stdout.readline()) == {"pitch": 60, "name": "Flöte"}
        finally:
            process.kill()
