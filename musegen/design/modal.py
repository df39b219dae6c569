"""Struck bars as sound: a sum of partials that die away, each at its own pace.

How loud a partial is follows from where the bar is struck (its mode's deflection there) and from
the mallet, which does not excite what is much faster than its contact. There is no room and no
resonator.

Letters: K partials, F frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from musegen.errors import UsageError
from musegen.music.audio import MAX_FRAMES, wav_bytes
from musegen.music.score import Score
from musegen.music.synth import seconds_of

__all__ = ["Played", "Voice", "play", "struck"]

SILENT = 1e-3
"""Amplitude, of the first partial's at the stroke, at which a sound has ended."""

LONGEST_S = 6.0
"""Of one stroke."""


@dataclass(frozen=True)
class Voice:
    """What a bar sounds like."""

    partials_hz: tuple[float, ...]
    decays_s: tuple[float, ...]
    """In which each partial's amplitude falls by the factor e."""
    gains: tuple[float, ...]
    """Amplitude of each at the stroke; the first is 1."""

    def __post_init__(self) -> None:
        """Cross checks. Raises UsageError."""
        if not len(self.partials_hz) == len(self.decays_s) == len(self.gains) >= 1:
            raise UsageError("a voice needs a frequency, a decay and a gain of each partial")
        if not all(0 < one < np.inf for one in (*self.partials_hz, *self.decays_s)):
            raise UsageError("frequencies and decays of a voice must be above 0")


def struck(voice: Voice, rate: int, velocity: int = 96) -> np.ndarray:
    """(F,) float64: one stroke, whose first partial is 1 loud at velocity 127.

    A hard stroke is brighter: the mallet's contact is shorter. Partials above half the rate are
    left out, for they would be heard as others.
    """
    longest_s = min(LONGEST_S, max(voice.decays_s) * -np.log(SILENT))
    time_s = np.arange(max(1, int(longest_s * rate))) / rate
    loud = (velocity / 127) ** 1.5
    contact_hz = 800 + 3200 * velocity / 127
    made = np.zeros(len(time_s))
    for frequency, decay, gain in zip(voice.partials_hz, voice.decays_s, voice.gains, strict=True):
        if frequency < rate / 2:
            soft = gain / (1 + (frequency / contact_hz) ** 2)
            made += soft * np.exp(-time_s / decay) * np.sin(2 * np.pi * frequency * time_s)
    end = min(len(made), rate // 100)
    made[-end:] *= np.linspace(1, 0, end)
    return loud * made


@dataclass(frozen=True)
class Played:
    """A piece that was played on bars."""

    wav: bytes
    moved: int
    """Notes outside the set, which were played an octave or more away."""
    silent: int
    """Notes of drum tracks, which no bar plays."""


def play(score: Score, voices: Mapping[int, Voice], rate: int = 44_100) -> Played:
    """A piece on a set of bars by MIDI pitch, as a WAV file of 16 bits.

    Bars are not damped: a note's duration does not matter. A pitch that the set lacks is played in
    the nearest octave that it has, or else on the nearest bar.

    Raises:
        UsageError: no voices, or a rate that is not 8,000 to 96,000.
    """
    if not voices:
        raise UsageError("the instrument has no bars")
    if not 8_000 <= rate <= 96_000:
        raise UsageError(f"a rate of {rate} frames a second; 8000 to 96000 is valid")
    moved = silent = 0
    strokes: dict[tuple[int, int], np.ndarray] = {}
    placed: list[tuple[int, np.ndarray]] = []
    for track in score.tracks:
        if track.is_drum:
            silent += len(track.notes)
            continue
        starts_s = seconds_of(score, track.notes["start_tick"])
        for start_s, note in zip(starts_s.tolist(), track.notes, strict=True):
            pitch = nearest_bar(int(note["pitch"]), voices)
            moved += pitch != int(note["pitch"])
            key = (pitch, int(note["velocity"]) // 8 * 8 + 4)
            if key not in strokes:
                strokes[key] = struck(voices[pitch], rate, key[1])
            placed.append((round(start_s * rate), strokes[key]))
    frames = max((begin + len(one) for begin, one in placed), default=0)
    if frames > MAX_FRAMES:
        raise UsageError(f"{frames / rate / 60:.0f} minutes of sound are too many: play a part")
    mixed = np.zeros(frames)
    for begin, one in placed:
        mixed[begin : begin + len(one)] += one
    peak = np.abs(mixed).max(initial=0.0)
    whole = np.rint(mixed / peak * 32000 if peak else mixed).astype(np.int16)
    return Played(wav_bytes(np.stack((whole, whole), 1), 0, rate), moved, silent)


def nearest_bar(pitch: int, voices: Mapping[int, Voice]) -> int:
    """The pitch of the set that plays a pitch: itself, its nearest octave, or the nearest bar."""
    if pitch in voices:
        return pitch
    octaves = [one for one in voices if (one - pitch) % 12 == 0]
    return min(octaves or voices, key=lambda one: (abs(one - pitch), one))
