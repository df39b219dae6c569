"""Plays passages on a MIDI port, in time, also while later ones are still being written.

What is promised: notes begin at their time through the tempo map; at one instant notes end before
others begin; a note that is begun is ended, whatever happens (Ctrl-C, SIGTERM, an error, a second
Ctrl-C while it ends them); when music comes too late it begins at its barline, later, and is not
hurried.
"""

from __future__ import annotations

import contextlib
import heapq
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from musegen.errors import DeviceError
from musegen.music.normal import SUSTAIN
from musegen.music.timeline import CLOCK, Passage
from musegen.music.writer import HEAD, OFF, ON

__all__ = ["Inbox", "Player"]

LEAD_S = 0.1
"""From the first program change to the first note: synthesizers load sounds."""
AHEAD_S = 1.0
"""How far ahead passages are asked for."""
POLL_S = 0.01
"""How often is looked for a passage that is not ready, and how late it may so begin."""
NAP_S = 0.05
"""The longest sleep: how soon Ctrl-C is heard."""
STALL_S = 0.25
"""Who is later than that (a suspended laptop, Ctrl-Z) goes on from there; less is caught up."""
_NOTES_OFF = 123
_START = CLOCK - 1


class Inbox:
    """Passages from another thread; a `Player` plays it. Iterating gives None where none is ready.

    Once iterated; each `put` after `close` is lost.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Passage | BaseException | None] = SimpleQueue()

    def put(self, passage: Passage) -> None:
        """Adds the next passage."""
        self._queue.put(passage)

    def close(self, error: BaseException | None = None) -> None:
        """No more come; with an error, the player raises it when it gets there."""
        self._queue.put(error)

    def __iter__(self) -> Iterator[Passage | None]:
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                yield None
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item


class Player:
    """Plays on one port, in the thread that calls `play`.

    Args:
        port: an open output of mido.
        clock: seconds, never going back.
        sleep: sleeps so many seconds.
        send_clock: whether to send MIDI clock, start and stop, so that a DAW can follow.
        on_wait: called as `on_wait(bar)` when bar `bar`, from 1, is due and not there.
    """

    def __init__(
        self,
        port: Any,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        send_clock: bool = False,
        on_wait: Callable[[int], None] | None = None,
    ) -> None:
        self._port, self._clock, self._sleep = port, clock, sleep
        self._send_clock, self._on_wait = send_clock, on_wait
        self._due: list[tuple[float, int, int, Any, float]] = []  # time, order, number, ...
        self._number = 0
        self._origin_s: float | None = None  # where second 0 of the piece is on our clock
        self._known_s = 0.0  # up to here, on our clock, everything is known
        self._next_bar = 1
        self._waiting = self._running = False
        self._sounding: dict[tuple[int, int], int] = {}  # (channel, pitch): number of its note_off
        self._channels: set[int] = set()
        self._signals = 0
        self._stopped = False
        self.notes = 0
        """Notes that have begun."""
        self.waited_s = 0.0
        """How long the music stood still, all in all."""

    def stop(self) -> None:
        """Ends `play` within a moment, notes off; from any thread."""
        self._stopped = True

    def play(self, passages: Iterable[Passage | None]) -> None:
        """Plays until the end of the last passage.

        Args:
            passages: in order; None where the next one is not ready. They are asked for in this
                thread, about a second before they are due.

        Raises:
            KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; all notes are off.
            DeviceError: the port went away.
        """
        with self._heeding_signals():
            try:
                self._run(iter(passages))
            finally:
                self.silence()
        if self._signals:
            raise KeyboardInterrupt

    def silence(self) -> None:
        """Ends all notes, lifts pedals, centres bends. Errors of the port are passed over."""
        from mido import Message

        messages = [
            Message("note_off", channel=channel, note=pitch, velocity=64)
            for channel, pitch in sorted(self._sounding)
        ]
        for channel in sorted(self._channels):
            messages += [
                Message("control_change", channel=channel, control=SUSTAIN, value=0),
                Message("control_change", channel=channel, control=_NOTES_OFF, value=0),
                Message("pitchwheel", channel=channel, pitch=0),
            ]
        if self._running:
            messages.append(Message("stop"))
        for message in messages:
            with contextlib.suppress(Exception):
                self._port.send(message)
        self._due.clear()
        self._sounding.clear()
        self._running = False

    def _run(self, coming: Iterator[Passage | None]) -> None:
        ended = False
        while not (self._stopped or self._signals):
            now = self._clock()
            while not ended and (self._origin_s is None or self._known_s - now < AHEAD_S):
                try:
                    passage = next(coming)
                except StopIteration:
                    ended = True
                    break
                if passage is None:
                    break
                now = self._clock()  # making the passage may have taken a while
                self._admit(passage, now)
            self._forgive(now)
            while self._due and self._due[0][0] <= now:
                self._take(*heapq.heappop(self._due))
            started = self._origin_s is not None
            if ended and not self._due and (not started or now >= self._known_s):
                return
            if started and not ended and not self._waiting and now >= self._known_s:
                self._wait()
            self._sleep(self._nap_s(now, ended))

    def _nap_s(self, now: float, ended: bool) -> float:
        """How long to sleep: to the next message or barline, but wake up for what may come."""
        until = now + NAP_S
        if not ended and self._known_s - now < AHEAD_S:
            until = now + POLL_S
        if self._due:
            until = min(until, self._due[0][0])
        if self._known_s > now:
            until = min(until, self._known_s)
        return max(0.0, until - now)

    def _admit(self, passage: Passage, now: float) -> None:
        """Puts the passage's cues among those that are due; a late one begins now."""
        first = self._origin_s is None
        if self._origin_s is None:
            self._origin_s = now + LEAD_S - passage.start_s
        late = now - (self._origin_s + passage.start_s)
        if late > 0:
            self._origin_s += late
            self.waited_s += late
        start = self._origin_s + passage.start_s
        for message in passage.setup:
            if first:
                self._send(message)
            else:
                self._push(start, HEAD, message)
        if self._send_clock and (first or self._waiting):
            self._begin_clock(start, passage, first)
        self._waiting = False
        for cue in passage.cues:
            if cue.order != CLOCK or self._send_clock:
                self._push(self._origin_s + cue.time_s, cue.order, cue.message, cue.duration_s)
        self._known_s = self._origin_s + passage.end_s
        self._next_bar = passage.bar + 1

    def _begin_clock(self, start: float, passage: Passage, first: bool) -> None:
        """Start at the beginning; from elsewhere, and after waiting, continue."""
        from mido import Message

        if first and passage.start_q:
            place = min(16383, round(passage.start_q * 4))  # in sixteenths, 14 bits
            self._send(Message("songpos", pos=place))
        at_zero = first and not passage.start_q
        self._push(start, _START, Message("start" if at_zero else "continue"))

    def _wait(self) -> None:
        from mido import Message

        self._waiting = True
        if self._running:
            self._send(Message("stop"))
            self._running = False
        if self._on_wait is not None:
            self._on_wait(self._next_bar)

    def _forgive(self, now: float) -> None:
        """Moves everything, where we have slept through what was due."""
        late = now - self._due[0][0] if self._due else 0.0
        if late > STALL_S and self._origin_s is not None:
            self._due = [(at + late, *rest) for at, *rest in self._due]  # still a heap
            self._origin_s += late
            self._known_s += late

    def _push(self, at: float, order: int, message: Any, duration_s: float = 0.0) -> int:
        self._number += 1
        # To the microsecond, so that what is one instant is one, whichever sums it came from.
        heapq.heappush(self._due, (round(at, 6), order, self._number, message, duration_s))
        return self._number

    def _take(self, at: float, order: int, number: int, message: Any, duration_s: float) -> None:
        """Sends what is due; a note's end is planned here, when it begins."""
        from mido import Message

        if order == ON:
            key = message.channel, message.note
            off = Message("note_off", channel=message.channel, note=message.note, velocity=64)
            if key in self._sounding:
                self._send(off)
            # Before it begins: an interrupted send may have reached the port.
            self._sounding[key] = self._push(at + max(duration_s, 0.001), OFF, off)
            self.notes += 1
            self._send(message)
        elif message.type == "note_off":
            key = message.channel, message.note
            if self._sounding.get(key) == number:  # else another note has taken its place
                self._send(message)
                del self._sounding[key]
        else:
            if message.type in ("start", "continue"):
                self._running = True
            self._send(message)

    def _send(self, message: Any) -> None:
        if hasattr(message, "channel"):
            self._channels.add(message.channel)
        try:
            self._port.send(message)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DeviceError(f"MIDI port {self._port.name!r}: {reason}") from None

    @contextlib.contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """Within, signals that end the program are counted, and `_run` looks; so none comes amid.

        The fourth does what it always did: a port that never answers can be left.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not on Windows
        watched = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in watched}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def heed(number: int, frame: Any) -> None:
            self._signals += 1
            if self._signals == 3:
                restore()

        for number in watched:
            signal.signal(number, heed)
        try:
            yield
        finally:
            restore()
