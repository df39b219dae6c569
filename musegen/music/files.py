"""Bytes in from wherever they are."""

from __future__ import annotations

import os
from typing import IO

from musegen.errors import MidiError

Source = str | os.PathLike | bytes | bytearray | memoryview | IO[bytes]
"""What a reader takes: a path, the bytes themselves, or an open binary file."""


def read_source(source: Source, max_bytes: int) -> tuple[str, bytes]:
    """The name of a source, for messages, and its bytes.

    Raises `MidiError` where it cannot be read or is longer than `max_bytes`.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = "<bytes>", bytes(source)
    elif isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            with open(source, "rb") as file:
                data = file.read(max_bytes + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise MidiError(f"{name}: cannot be read: {reason}") from None
    else:
        name = str(getattr(source, "name", "<file>"))
        data = source.read(max_bytes + 1)
        if not isinstance(data, bytes | bytearray):
            raise MidiError(f"{name}: opened as text; open it in binary mode ('rb')")
        data = bytes(data)
    if len(data) > max_bytes:
        raise MidiError(f"{name}: larger than {max_bytes:,} bytes, the most that is read")
    return name, data
