"""MIDI ports: which there are, and opening one by (a part of) its name. On mido and python-rtmidi.

python-rtmidi is an extra. Any other backend of mido serves too: name it in MIDO_BACKEND.
"""

from __future__ import annotations

import difflib
from typing import Any

from musegen.errors import DeviceError

__all__ = ["open_port", "port_names"]

_THROUGH = "midi through"
"""ALSA's loop back to its own inputs: always there, never what is meant."""


def port_names(backend: Any = None) -> tuple[str, ...]:
    """The output ports that there are now.

    Args:
        backend: a `mido.Backend`; by default the one that mido is set to.

    Raises:
        DeviceError: python-rtmidi is not installed, or there is no MIDI system here.
    """
    return tuple(dict.fromkeys(_ask(_backend(backend), "get_output_names")))


def open_port(name: str | None = None, backend: Any = None) -> Any:
    """An open output port of mido; close it, or use it as a context manager.

    Args:
        name: the port's name, or a part of it that no other port has, in any case; None for the
            first port that is not ALSA's loop back (mido's MIDO_DEFAULT_OUTPUT goes before).
        backend: a `mido.Backend`; by default the one that mido is set to.

    Raises:
        DeviceError: no port, none of that name, or several; python-rtmidi is not installed; or
            the port is taken by another program.
    """
    backend = _backend(backend)
    names = port_names(backend)
    if name is None:
        import os

        name = os.environ.get("MIDO_DEFAULT_OUTPUT") or None
    return _ask(backend, "open_output", _chosen(name, names))


def _chosen(name: str | None, names: tuple[str, ...]) -> str:
    if not names:
        raise DeviceError(
            "no MIDI port here: start a synthesizer or a DAW that has one (see docs/live.md)"
        )
    if name is None:
        return next((port for port in names if _THROUGH not in port.lower()), names[0])
    if name in names:
        return name
    matches = [port for port in names if name.strip().lower() in port.lower()]
    if name.strip() and len(matches) == 1:
        return matches[0]
    if name.strip() and matches:
        raise DeviceError(f"{name!r} is a part of several MIDI ports: {_listed(matches)}")
    lowered = {port.lower(): port for port in names}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.4)
    hint = f"did you mean {lowered[near[0]]!r}?" if near else f"there are: {_listed(names)}"
    raise DeviceError(f"no MIDI port is named {name!r}; {hint}")


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)


def _backend(backend: Any) -> Any:
    if backend is not None:
        return backend
    import mido

    return mido.backend


def _ask(backend: Any, what: str, *arguments: Any) -> Any:
    """A call of the backend, its many kinds of errors as one."""
    try:
        return getattr(backend, what)(*arguments)
    except ImportError as error:
        if error.name == "rtmidi":
            raise DeviceError(
                "MIDI ports need python-rtmidi: pip install 'musegen[live]'"
            ) from None
        raise DeviceError(f"mido's backend {backend.name!r} cannot be loaded: {error}") from None
    except Exception as error:  # rtmidi raises classes of its own, derived from Exception only
        place = f"MIDI port {arguments[0]!r}" if arguments else "no MIDI system here"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DeviceError(f"{place}: {reason}") from None
