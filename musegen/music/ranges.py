"""What an instrument can play: the pitches that a transposition must stay within."""

from __future__ import annotations

# Sounding pitches, lowest and highest, of ordinary playing, rounded outward a little. Source:
# the ranges in Samuel Adler, The Study of Orchestration; keyboards and synthesisers as built.
_RANGES: dict[int, tuple[int, int]] = {
    **dict.fromkeys(range(8), (21, 108)),  # pianos
    6: (29, 89),  # harpsichord
    7: (36, 96),  # clavinet
    8: (60, 108),  # celesta
    9: (79, 108),  # glockenspiel
    10: (60, 108),
    11: (53, 89),  # vibraphone
    12: (45, 96),  # marimba
    13: (65, 108),  # xylophone
    14: (60, 77),  # tubular bells
    15: (48, 84),
    **dict.fromkeys(range(16, 21), (36, 96)),  # organs
    21: (41, 93),
    22: (60, 96),
    23: (41, 93),
    **dict.fromkeys(range(24, 32), (40, 88)),  # guitars
    **dict.fromkeys(range(32, 40), (23, 67)),  # basses, with a low B
    40: (55, 103),  # violin
    41: (48, 91),
    42: (36, 81),
    43: (24, 67),
    46: (23, 103),  # harp
    47: (36, 57),  # timpani
    **dict.fromkeys((44, 45, 48, 49, 50, 51), (24, 103)),  # string sections
    **dict.fromkeys((52, 53, 54), (36, 86)),  # voices
    56: (52, 86),  # trumpet
    57: (34, 77),
    58: (26, 65),
    59: (52, 86),
    60: (34, 77),
    **dict.fromkeys((61, 62, 63), (26, 90)),
    64: (56, 88),  # saxophones
    65: (49, 82),
    66: (44, 77),
    67: (36, 70),
    68: (58, 93),  # oboe
    69: (52, 83),
    70: (34, 77),
    71: (50, 96),
    72: (74, 108),  # piccolo
    73: (59, 98),
    74: (60, 98),
    **dict.fromkeys((75, 76, 77, 78, 79), (55, 96)),
}
_ANY = (12, 115)
"""Synthesisers, effects and the instruments of the world: nothing that must be kept to."""


def instrument_range(program: int) -> tuple[int, int]:
    """Lowest and highest pitch of a melodic program, 0..127, both playable."""
    return _RANGES.get(program, _ANY)
