from __future__ import annotations

import sys

import mido
import pytest

from musegen.errors import DeviceError
from musegen.music.ports import open_port, port_names

from .virtual_midi import backend

NAMES = ["Midi Through 14:0", "FluidSynth 128:0", "Ardour in", "Ardour out"]


@pytest.fixture(autouse=True)
def _no_default(monkeypatch):
    monkeypatch.delenv("MIDO_DEFAULT_OUTPUT", raising=False)


def test_every_port_is_named_once():
    assert port_names(backend([*NAMES, "Ardour in"])) == tuple(NAMES)


def test_the_first_port_that_is_no_loop_back_is_the_default():
    assert open_port(None, backend(NAMES)).name == "FluidSynth 128:0"
    assert open_port(None, backend(NAMES[:1])).name == "Midi Through 14:0"


def test_the_default_of_mido_goes_before(monkeypatch):
    monkeypatch.setenv("MIDO_DEFAULT_OUTPUT", "Ardour in")
    assert open_port(None, backend(NAMES)).name == "Ardour in"


@pytest.mark.parametrize("name", ["FluidSynth 128:0", "fluid", " SYNTH "])
def test_a_part_of_a_name_is_enough(name):
    assert open_port(name, backend(NAMES)).name == "FluidSynth 128:0"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ardour", "'ardour' is a part of several MIDI ports: 'Ardour in', 'Ardour out'"),
        ("FluidSynht", "no MIDI port is named 'FluidSynht'; did you mean 'FluidSynth 128:0'?"),
        ("zzzz", "no MIDI port is named 'zzzz'; there are: 'Midi Through 14:0'"),
        ("", "no MIDI port is named ''"),
    ],
)
def test_other_names_are_refused_with_a_hint(name, said):
    with pytest.raises(DeviceError) as caught:
        open_port(name, backend(NAMES))
    assert str(caught.value).startswith(said)


def test_no_ports_say_what_to_do():
    with pytest.raises(DeviceError, match="no MIDI port here: start a synthesizer"):
        open_port(None, backend([]))


def test_a_port_that_is_taken_is_named():
    with pytest.raises(DeviceError, match="MIDI port 'Taken': the port is taken"):
        open_port("Taken", backend(["Taken"]))


def test_without_rtmidi_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    monkeypatch.delitem(sys.modules, "mido.backends.rtmidi", raising=False)
    with pytest.raises(DeviceError, match=r"pip install 'musegen\[live\]'"):
        port_names(mido.Backend("mido.backends.rtmidi"))
