"""Barlines for the `remi` preset: every bar under a meter that the preset has.

MidiTok leaves out meters that it has no token for, and lets a change inside a bar wait for the
next barline; either moves all barlines behind it. Here such bars are written out first: a bar cut
short gets the meter of its own length, an unknown meter the nearest known one, and the notes keep
their place in their bar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musegen.music.score import Bar, Meter, Score, Tempo
from musegen.tokens.remi import RemiVocabulary

__all__ = ["meter_of_bar", "place_in_bars", "regrid"]


def regrid(score: Score, vocabulary: RemiVocabulary) -> tuple[Score, tuple[str, ...]]:
    """The score under meters of the preset that change at barlines only, and what that changed.

    A score that is like this already is returned as it is.
    """
    fine = all(
        (meter.numerator, meter.denominator) in vocabulary.meter_index for meter in score.meters
    )
    for (tick, numerator, denominator), following in zip(
        score.meters[:-1], score.meters[1:], strict=True
    ):
        fine = fine and not (following.tick - tick) * denominator % (4 * score.ppq * numerator)
    if fine:
        return score, ()
    until = max(score.end_tick, score.length_tick, score.tempos[-1].tick + 1)
    bars = score.bars(until)
    plain, _, messages = place_in_bars(score, bars, vocabulary)
    return plain, messages


def place_in_bars(
    score: Score, bars: Sequence[Bar], vocabulary: RemiVocabulary
) -> tuple[Score, list[tuple[int, int]], tuple[str, ...]]:
    """The score laid anew on the given bars, the meter of each bar, and messages.

    Notes and tempo changes keep their distance from their barline; what lies behind the last bar is
    left out.
    """
    finer = 4 if score.ppq % 4 else 1  # so that a 16th is a whole number of ticks
    ppq = score.ppq * finer
    cache: dict[tuple[int, int, int], tuple[tuple[int, int], bool]] = {}
    meters, messages = [], []
    for bar in bars:
        key = (bar.end_tick - bar.start_tick, bar.numerator, bar.denominator)
        if key not in cache:
            cache[key] = meter_of_bar(bar, score.ppq, vocabulary)
            meter, exact = cache[key]
            if not exact:
                messages.append(
                    f"meter {bar.numerator}/{bar.denominator}"
                    f" ({key[0] / score.ppq:.4g} quarter notes) is not in the preset: read as"
                    f" {meter[0]}/{meter[1]}"
                )
        meters.append(cache[key][0])
    lengths = np.array([4 * ppq * n // d for n, d in meters], dtype=np.int64)
    new_start = np.cumsum(lengths) - lengths
    old_start = np.array([bar.start_tick for bar in bars], dtype=np.int64)
    end = bars[-1].end_tick if bars else 0

    def moved(ticks: np.ndarray) -> np.ndarray:
        bar = np.maximum(np.searchsorted(old_start, ticks, side="right") - 1, 0)
        inside = (np.asarray(ticks, dtype=np.int64) - old_start[bar]) * finer
        return new_start[bar] + np.minimum(inside, lengths[bar] - 1)

    tracks = []
    for track in score.tracks:
        notes = track.notes[track.notes["start_tick"] < end].copy()
        if len(notes):
            notes["start_tick"] = moved(notes["start_tick"])
            notes["duration_tick"] *= finer
        tracks.append(type(track)(notes=notes, program=track.program, is_drum=track.is_drum))
    changes = [
        Meter(int(tick), *meter)
        for index, (tick, meter) in enumerate(zip(new_start.tolist(), meters, strict=True))
        if index == 0 or meter != meters[index - 1]
    ]
    tempos = [tempo for tempo in score.tempos if tempo.tick < end or tempo.tick == 0]
    plain = Score(
        ppq=ppq,
        tracks=tuple(tracks),
        meters=tuple(changes) or score.meters[:1],
        tempos=tuple(
            Tempo(int(moved(np.array([tempo.tick]))[0]) if len(bars) else 0, tempo.tempo_us)
            for tempo in tempos
        ),
    )
    return plain, meters, tuple(messages)


def meter_of_bar(bar: Bar, ppq: int, vocabulary: RemiVocabulary) -> tuple[tuple[int, int], bool]:
    """A meter of the preset for a bar, and whether it is exactly as long as the bar.

    The bar's own meter if it fills it, else the meter that says its length, else the nearest in
    length (of equals the one with the bar's denominator, then the one in quarters).
    """
    ticks = bar.end_tick - bar.start_tick
    own = (bar.numerator, bar.denominator)
    known = vocabulary.meter_index
    if own in known and abs(ticks - 4 * ppq * own[0] / own[1]) < 1:
        return own, True
    for denominator in (bar.denominator, 4, 8, 16, 2):
        numerator, rest = divmod(ticks * denominator, 4 * ppq)
        if not rest and (numerator, denominator) in known:
            return (numerator, denominator), True
    nearest = min(
        vocabulary.meters,
        key=lambda meter: (
            abs(4 * ppq * meter[0] / meter[1] - ticks),
            meter[1] != bar.denominator,
            meter[1] != 4,
            meter[1],
        ),
    )
    return nearest, False
