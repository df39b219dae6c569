"""How low and how high each General MIDI instrument sounds: what a transposition must stay within.

Sounding pitches, not written ones (a B flat clarinet's low E sounds D3 = 50); 60 is C4. A range is
what a good player reaches. Where a program stands for a section or a family (string ensemble,
choir), it is the whole family's; synthesizers and effects have none. Sources: Samuel Adler, "The
Study of Orchestration", for orchestral instruments; the makers' compass for keyboards and mallets
(88 keys: 21 to 108); General MIDI Level 1 for the order of the programs.
"""

from __future__ import annotations

ANY = (0, 127)

_PIANO = (21, 108)
_GUITAR = (40, 88)  # E2 to E6: six strings, 24 frets
_BASS = (23, 67)  # B0 (a fifth string) to G4
_VOICES = (36, 84)  # a choir, C2 to C6

INSTRUMENT_RANGES: tuple[tuple[int, int], ...] = (
    # 0-7 piano: grands, honky-tonk, electric pianos, harpsichord (F1-F6), clavinet (F1-E6)
    *(_PIANO,) * 6, (29, 89), (29, 88),
    # 8-15 celesta, glockenspiel, music box, vibraphone, marimba, xylophone, bells, dulcimer
    (60, 108), (72, 108), (60, 108), (53, 89), (36, 96), (65, 108), (60, 84), (40, 88),
    # 16-23 organs (16 ft to 2 ft: the whole keyboard), accordion, harmonica, bandoneon
    *(_PIANO,) * 5, (41, 101), (48, 98), (36, 98),
    # 24-31 guitars; harmonics sound an octave or two higher
    *(_GUITAR,) * 7, (40, 100),
    # 32-39 basses: the acoustic bass reaches down to C1 with an extension
    (24, 67), *(_BASS,) * 5, (21, 72), (21, 72),
    # 40-47 violin, viola, cello, double bass, tremolo and pizzicato strings, harp, timpani
    (55, 103), (48, 91), (36, 81), (24, 67), (24, 103), (24, 103), (23, 104), (36, 60),
    # 48-55 string ensembles, synth strings, choir, voice, synth choir, orchestra hit
    (24, 103), (24, 103), (21, 108), (21, 108), _VOICES, _VOICES, (36, 96), ANY,
    # 56-63 trumpet, trombone, tuba, muted trumpet, horn, brass section, synth brass
    (52, 87), (34, 77), (24, 65), (52, 87), (34, 77), (28, 87), (24, 96), (24, 96),
    # 64-71 soprano, alto, tenor, baritone saxophone, oboe, English horn, bassoon, clarinet
    (56, 88), (49, 81), (44, 76), (36, 69), (58, 93), (52, 81), (34, 76), (50, 94),
    # 72-79 piccolo, flute, recorder, pan flute, bottle, shakuhachi, whistle, ocarina
    (74, 108), (59, 98), (53, 98), (55, 98), (48, 96), (50, 91), (60, 103), (60, 91),
    # 80-87 synth leads, 88-95 pads, 96-103 effects
    *(ANY,) * 24,
    # 104-111 sitar, banjo, shamisen, koto, kalimba, bagpipe, fiddle, shanai
    (48, 84), (48, 88), (48, 84), (43, 91), (48, 89), (55, 84), (55, 103), (58, 93),
    # 112-119 bell, agogo, steel drums, wood block, taiko, tom, synth drum, reverse cymbal
    (60, 96), ANY, (48, 84), *(ANY,) * 5,
    # 120-127 sound effects
    *(ANY,) * 8,
)  # fmt: skip
"""(lowest, highest) pitch of each program 0..127, both inclusive."""


def instrument_range(program: int) -> tuple[int, int]:
    """(lowest, highest) sounding pitch of a General MIDI program, both inclusive.

    A number outside 0..127 (a drum kit, an unknown sound) has no limits: (0, 127).
    """
    return INSTRUMENT_RANGES[program] if 0 <= program < len(INSTRUMENT_RANGES) else ANY
