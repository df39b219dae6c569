"""A MIDI system without hardware: a backend of mido whose ports keep what they are sent."""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Any

import mido
from mido.ports import BaseOutput


class Clock:
    """A clock that only sleeping moves; `hooks` are called at their time."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.hooks: list[tuple[float, Any]] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_s += max(seconds, 1e-6)
        for hook in [hook for hook in self.hooks if hook[0] <= self.now_s]:
            self.hooks.remove(hook)
            hook[1]()


class Recorder(BaseOutput):
    """An output that keeps (time, message); it fails at the message number `fails_at`."""

    def __init__(self, name: str = "Recorder", clock: Any = time.monotonic, fails_at: int = -1):
        self.clock, self.fails_at = clock, fails_at
        self.sent: list[tuple[float, mido.Message]] = []
        super().__init__(name)

    def _send(self, message: mido.Message) -> None:
        if len(self.sent) == self.fails_at:
            raise OSError("unplugged")
        self.sent.append((self.clock(), message))

    def of_type(self, *types: str) -> list[tuple[float, mido.Message]]:
        return [item for item in self.sent if item[1].type in types]

    def sounding(self) -> set[tuple[int, int]]:
        """(channel, pitch) of notes that were never ended."""
        held: set[tuple[int, int]] = set()
        for _, message in self.sent:
            if message.type == "note_on":
                held.add((message.channel, message.note))
            elif message.type == "note_off":
                held.discard((message.channel, message.note))
        return held


def backend(names: list[str], opened: list[Recorder] | None = None) -> mido.Backend:
    """A backend that has outputs of these names; those that are opened are put in `opened`."""
    module = ModuleType("tests_virtual_midi_backend")

    def output(name: str | None = None, **_: Any) -> Recorder:
        if name == "Taken":
            raise OSError("the port is taken")
        port = Recorder(str(name))
        if opened is not None:
            opened.append(port)
        return port

    module.get_devices = lambda **_: [  # type: ignore[attr-defined]
        {"name": name, "is_input": False, "is_output": True} for name in names
    ]
    module.Output = output  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return mido.Backend(module.__name__)
