"""The player, on a clock that only its own sleeping moves."""

from __future__ import annotations

import os
import signal

import pytest

from musegen.errors import DeviceError
from musegen.music.player import LEAD_S, Inbox, Player
from musegen.music.timeline import TimedNote, note_passage

from .virtual_midi import Clock, Recorder


def bar(number: int, *notes: TimedNote, start_s: float | None = None, setup=()):
    start_s = 2.0 * (number - 1) if start_s is None else start_s
    return note_passage(number, start_s, start_s + 2.0, 0.5, notes, setup)


def note(start_s: float, pitch: int = 60, duration_s: float = 0.5, channel: int = 0) -> TimedNote:
    return TimedNote(start_s, duration_s, channel, pitch, 80)


def told(port, *types):
    return [
        (round(at - 100.0 - LEAD_S, 3), message.type, getattr(message, "note", None))
        for at, message in port.of_type(*(types or ("note_on", "note_off")))
    ]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def port(clock):
    return Recorder(clock=clock)


def player(port, clock, **more) -> Player:
    return Player(port, clock=clock, sleep=clock.sleep, **more)


def test_notes_begin_and_end_at_their_time(port, clock):
    one = player(port, clock)
    one.play([bar(1, note(0.0), note(1.5, 64)), bar(2, note(2.0, 65, 1.0))])
    assert told(port) == [
        (0.0, "note_on", 60),
        (0.5, "note_off", 60),
        (1.5, "note_on", 64),
        (2.0, "note_off", 64),
        (2.0, "note_on", 65),
        (3.0, "note_off", 65),
    ]
    assert one.notes == 3 and one.waited_s == 0.0
    assert clock() - 100.0 - LEAD_S == pytest.approx(4.0, abs=0.02)  # to the last barline


def test_a_note_that_is_struck_again_ends_first(port, clock):
    player(port, clock).play([bar(1, note(0.0, 60, 1.0), note(0.5, 60, 1.0))])
    assert told(port) == [
        (0.0, "note_on", 60),
        (0.5, "note_off", 60),
        (0.5, "note_on", 60),
        (1.5, "note_off", 60),
    ]


def test_the_setup_goes_before_the_first_note(port, clock):
    from mido import Message

    setup = [Message("program_change", channel=3, program=33)]
    player(port, clock).play([bar(1, note(0.0, channel=3), setup=setup)])
    first, second = (message for _, message in port.sent[:2])
    assert (first.type, second.type) == ("program_change", "note_on")
    assert port.sent[1][0] - port.sent[0][0] == pytest.approx(LEAD_S, abs=0.02)


def test_music_that_begins_later_in_the_piece_begins_now(port, clock):
    player(port, clock).play([bar(9, note(16.0))])
    assert told(port)[0] == (0.0, "note_on", 60)


def test_a_bar_that_comes_late_begins_at_its_barline_and_is_not_hurried(port, clock):
    inbox, waited = Inbox(), []
    inbox.put(bar(1, note(0.0)))
    clock.hooks.append((100.0 + LEAD_S + 3.0, lambda: inbox.put(bar(2, note(2.0), note(3.0, 62)))))
    clock.hooks.append((100.0 + LEAD_S + 3.5, inbox.close))
    one = player(port, clock, on_wait=waited.append)
    one.play(inbox)
    begun = [at for at, kind, _ in told(port) if kind == "note_on"]
    assert begun == pytest.approx([0.0, 3.0, 4.0], abs=0.03)
    assert waited == [2]
    assert one.waited_s == pytest.approx(1.0, abs=0.03)


def test_an_error_of_the_writer_is_raised_and_notes_are_off(port, clock):
    inbox = Inbox()
    inbox.put(bar(1, note(0.0, 60, 9.0)))
    inbox.close(ValueError("no more"))
    with pytest.raises(ValueError, match="no more"):
        player(port, clock).play(inbox)
    assert not port.sounding()


def test_stop_ends_within_a_moment_with_notes_off(port, clock):
    one = player(port, clock)
    clock.hooks.append((101.0, one.stop))
    one.play([bar(1, note(0.0, 60, 9.0)), bar(2, note(2.0, 72))])
    assert clock() < 101.2
    assert not port.sounding() and one.notes == 1
    assert ("control_change", 123) in [
        (message.type, getattr(message, "control", 0)) for _, message in port.sent
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_with_notes_off(port, clock, number):
    before = signal.getsignal(number)
    clock.hooks.append((101.0, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(KeyboardInterrupt):
        player(port, clock).play([bar(1, note(0.0, 60, 9.0)), bar(2), bar(3)])
    assert not port.sounding() and clock() < 101.2
    assert signal.getsignal(number) == before


def test_a_port_that_goes_away_is_an_error_that_names_it(clock):
    port = Recorder("Synth", clock, fails_at=1)
    with pytest.raises(DeviceError, match="MIDI port 'Synth': unplugged"):
        player(port, clock).play([bar(1, note(0.0), note(0.5))])


def test_without_the_wish_no_clock_is_sent(port, clock):
    player(port, clock).play([bar(1, note(0.0))])
    assert not port.of_type("clock", "start", "continue", "stop", "songpos")


def test_a_daw_can_follow(port, clock):
    inbox = Inbox()
    inbox.put(bar(1, note(0.0)))
    clock.hooks.append((100.0 + LEAD_S + 3.0, lambda: inbox.put(bar(2, note(2.0)))))
    clock.hooks.append((100.0 + LEAD_S + 3.5, inbox.close))
    player(port, clock, send_clock=True).play(inbox)
    kinds = [kind for _, kind, _ in told(port, "start", "stop", "continue")]
    assert kinds == ["start", "stop", "continue", "stop"]
    assert len(port.of_type("clock")) == 2 * 96


def test_from_elsewhere_the_place_is_told(port, clock):
    from dataclasses import replace

    player(port, clock, send_clock=True).play([replace(bar(9, note(16.0)), start_q=32.0)])
    (place,) = port.of_type("songpos")
    assert place[1].pos == 128  # sixteenths
    assert [m.type for _, m in port.of_type("start", "continue")] == ["continue"]


def test_a_laptop_that_slept_goes_on_where_it_was(port, clock):
    def nap() -> None:
        clock.now_s += 60.0

    clock.hooks.append((100.0 + LEAD_S + 0.7, nap))
    player(port, clock).play([bar(1, note(0.0), note(1.0, 62), note(1.5, 64))])
    begun = [at for at, kind, _ in told(port) if kind == "note_on"]
    assert begun[0] == 0.0
    assert begun[2] - begun[1] == pytest.approx(0.5, abs=0.02)
