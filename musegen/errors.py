"""Every error that musegen raises on purpose.

Each says, in one line, what was found, where, and what to do about it. The command line prints
that line and exits with 1 (2 for :class:`UsageError`); it never shows a traceback for bad input.

```
MusegenError
├── UsageError          an argument makes no sense: an unknown instrument, --bars 0   (exit code 2)
├── MidiError           a MIDI or MusicXML file cannot be read, or a score not written as one
├── TokenError          ids that are not of the preset, or a score the preset cannot hold
├── DataError           a corpus, a card or a shard is missing, damaged or empty
├── ConfigError         a configuration file or a `--set key=value` is wrong
├── CheckpointError     a model folder is missing, damaged, or of another version
├── TrainingError       training cannot go on
│   └── NonFiniteLoss   the loss became NaN or infinite
├── DesignError         no design holds every constraint, or what is asked for cannot be reached
├── GenerationError     the rules leave nothing that may be sampled
├── DeviceError         the device asked for is not there
└── OutputError         an output path cannot be written
```
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DesignError",
    "DeviceError",
    "GenerationError",
    "MidiError",
    "MusegenError",
    "NonFiniteLoss",
    "OutputError",
    "TokenError",
    "TrainingError",
    "UsageError",
]


class MusegenError(Exception):
    """Base of all errors that musegen raises on purpose; catch it to catch them all."""

    exit_code = 1


class UsageError(MusegenError, ValueError):
    """An argument makes no sense (an unknown instrument name, a negative number of bars)."""

    exit_code = 2


class MidiError(MusegenError):
    """A MIDI or MusicXML file cannot be read, or a score cannot be written as one."""


class TokenError(MusegenError):
    """Ids that do not belong to the preset, or a score that the preset cannot hold."""


class DataError(MusegenError):
    """A corpus, a data card or a shard is missing, damaged or empty."""


class ConfigError(MusegenError):
    """A configuration file or a ``--set key=value`` is wrong."""


class CheckpointError(MusegenError):
    """A model folder is missing, damaged, hostile or of another version."""


class TrainingError(MusegenError):
    """Training cannot start or cannot go on."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class DesignError(MusegenError):
    """No design holds every constraint, or what is asked for cannot be reached."""


class GenerationError(MusegenError):
    """The rules that were asked for leave nothing that may be sampled."""


class DeviceError(MusegenError):
    """The device that was asked for is not there."""


class OutputError(MusegenError):
    """An output path cannot be written; nothing half-written is left behind."""
