"""Instruments that may stand for one another: the same part is idiomatic on each.

A hymn's four voices are a choir's, an organ's or a quartet's; a singer's line is an oboe's. Groups
of General MIDI programs 0..127; what is in none (mallets, effects, timpani) stands for itself.
"""

from __future__ import annotations

__all__ = ["CHORUS", "kin"]

_GROUPS: tuple[tuple[int, ...], ...] = (
    (*range(8), *range(16, 21)),  # pianos, harpsichord, clavinet, organs
    tuple(range(24, 32)),  # guitars
    tuple(range(32, 40)),  # basses
    # what has one voice and breath, or a bow: strings, voices, brass, reeds, flutes, harmonica
    (22, 40, 41, 42, 52, 53, 54, 56, 57, 60, *range(64, 72), 73, 74, 75),
    (48, 49, 50, 51, 61, 62, 63),  # string, synth string and brass sections
    tuple(range(80, 88)),  # leads
    tuple(range(88, 96)),  # pads
)

CHORUS = (0, 4, 6, 16, 19, 20, 40, 48, 49, 52, 53, 54, 60, 61, 68, 70, 71, 73, 89, 91)
"""For a part song, whose voices all have one sound."""

PART_SONG = 3
"""Tracks of one program from which on they are the voices of a part song."""


def kin(program: int, tracks: int = 1) -> tuple[int, ...]:
    """The programs that may stand for `program` where so many tracks have it; itself among them."""
    if tracks >= PART_SONG and program in CHORUS:
        return CHORUS
    return next((group for group in _GROUPS if program in group), (program,))
