"""A small synthesiser, for hearing a piece where there is no other: waves, plucks and noise.

It knows pitches, lengths, velocities and the tempo map. What a sound font and its player would
add (real timbres, pedals, bends, later program changes) it leaves out. The sound is made in blocks
of some seconds, so that memory holds little beside the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from musegen.music.score import Score, Track

_TABLE_BITS = 12
"""A cycle is looked up in a table of 4096 samples: errors of 1/1000, below what 10 bits hear."""
_BLOCK = 1 << 19
"""Frames a block: 12 seconds at 44,100 a second, 4 MB."""
_ATTACK_S, _RELEASE_S = 0.004, 0.12
_LONGEST_S = 30.0
"""No note sounds longer."""
_DRUM_S = 1.2
"""The longest drum sound."""
_SPREAD = 0.4
"""How far from the middle tracks stand, of 1."""


@dataclass(frozen=True)
class _Timbre:
    partials: tuple[float, ...]
    """Strength of the partials, the fundamental first."""
    half_life_s: float = 0.0
    """After so long a held note has lost half its amplitude; 0 for what does not fade."""


_PIANO = _Timbre((1.0, 0.5, 0.25, 0.12, 0.06), 0.5)
_BELL = _Timbre((1.0, 0.0, 0.35, 0.0, 0.15), 0.35)
_ORGAN = _Timbre((1.0, 0.6, 0.3, 0.3, 0.0, 0.15))
_PLUCK = _Timbre((1.0, 0.6, 0.4, 0.25, 0.15, 0.1), 0.35)
_BASS = _Timbre((1.0, 0.55, 0.25, 0.1), 0.6)
_STRINGS = _Timbre((1.0, 0.5, 0.33, 0.25, 0.2, 0.16))
_PIPE = _Timbre((1.0, 0.2, 0.1))
_REED = _Timbre((1.0, 0.1, 0.45, 0.05, 0.25, 0.03))

_FAMILIES = (
    _PIANO, _BELL, _ORGAN, _PLUCK, _BASS, _STRINGS, _STRINGS, _REED,
    _REED, _PIPE, _STRINGS, _ORGAN, _PIPE, _PLUCK, _BELL, _PIPE,
)  # fmt: skip
"""A timbre for each family of General MIDI, eight programs each."""


def seconds_of(score: Score, ticks: np.ndarray) -> np.ndarray:
    """`Score.seconds_at` for an array of ticks of any shape, as float64."""
    starts = np.array([tempo.tick for tempo in score.tempos], np.int64)
    pace = np.array([tempo.tempo_us for tempo in score.tempos]) / (score.ppq * 1e6)
    passed = np.concatenate([[0.0], np.cumsum(np.diff(starts) * pace[:-1])])
    ticks = np.asarray(ticks, np.int64)
    index = np.searchsorted(starts, ticks, side="right") - 1
    return passed[index] + (ticks - starts[index]) * pace[index]


def synthesise(score: Score, rate: int) -> np.ndarray:
    """The score as int16, shape (frames, 2), `rate` frames a second, up to its last sound.

    Notes are as loud as leaves room for all that sound at once, so nothing is clipped. The same
    score gives the same samples.
    """
    voices = _voices(score, rate)
    if not len(voices):
        return np.zeros((0, 2), np.int16)
    frames = int(voices["stop"].max())
    result = np.empty((frames, 2), np.int16)
    scale = 32000 / _loudest(voices)
    longest = int((voices["stop"] - voices["start"]).max())
    for begin in range(0, frames, _BLOCK):
        end = min(begin + _BLOCK, frames)
        block = np.zeros((end - begin, 2), np.float32)
        # They are sorted by start, and none is longer than `longest`.
        first = np.searchsorted(voices["start"], begin - longest)
        last = np.searchsorted(voices["start"], end)
        for voice in voices[first:last]:
            if voice["stop"] > begin:
                _add(block, begin, voice, rate)
        block *= scale
        np.rint(block, out=block)
        result[begin:end] = block
    return result


_VOICE = np.dtype(
    [
        ("start", "<i8"),
        ("release", "<i8"),
        ("stop", "<i8"),
        ("pitch", "<i2"),
        ("family", "<i2"),
        ("left", "<f4"),
        ("right", "<f4"),
    ]
)
"""One note: frames at which it starts, is let go and is silent; family -1 for drums; amplitudes."""


def _voices(score: Score, rate: int) -> np.ndarray:
    """All notes as `_VOICE`, by start."""
    sounding = [track for track in score.tracks if len(track)]
    parts = [
        _voices_of(score, track, rate, place)
        for track, place in zip(sounding, _places(len(sounding)), strict=True)
    ]
    voices = np.concatenate(parts) if parts else np.empty(0, _VOICE)
    return voices[np.argsort(voices["start"], kind="stable")]


def _places(count: int) -> list[float]:
    """Where tracks stand: the first in the middle, the others left and right in turn, 0..1."""
    steps = max(1, count // 2)
    sides = [((index + 1) // 2) / steps * (-1) ** index for index in range(count)]
    return [0.5 + _SPREAD / 2 * side for side in sides]


def _voices_of(score: Score, track: Track, rate: int, place: float) -> np.ndarray:
    notes = track.notes
    start_s = seconds_of(score, notes["start_tick"])
    end_s = seconds_of(score, notes["start_tick"].astype(np.int64) + notes["duration_tick"])
    voices = np.empty(len(notes), _VOICE)
    voices["start"] = np.rint(start_s * rate)
    if track.is_drum:
        lengths = np.array([len(_drum(pitch, rate)) for pitch in range(128)])
        voices["stop"] = voices["start"] + lengths[notes["pitch"]]
        voices["release"] = voices["stop"]
        voices["family"] = -1
    else:
        held = np.rint(np.minimum(end_s - start_s, _LONGEST_S) * rate).astype(np.int64)
        voices["release"] = voices["start"] + np.maximum(held, round(_ATTACK_S * rate))
        voices["stop"] = voices["release"] + round(_RELEASE_S * rate)
        voices["family"] = track.program // 8
    voices["pitch"] = notes["pitch"]
    amplitude = (notes["velocity"] / 127.0) ** 1.5
    # Equal power: a track is as loud on the side as in the middle.
    voices["left"] = amplitude * np.cos(place * np.pi / 2)
    voices["right"] = amplitude * np.sin(place * np.pi / 2)
    return voices


def _loudest(voices: np.ndarray) -> float:
    """The greatest sum of the amplitudes that sound at once, on the louder side."""
    ticks = np.concatenate([voices["start"], voices["stop"]])
    order = np.argsort(ticks, kind="stable")  # starts first where both are: too much, never little
    sums = []
    for side in ("left", "right"):
        amplitude = voices[side].astype(np.float64)
        sums.append(np.cumsum(np.concatenate([amplitude, -amplitude])[order]).max())
    return max(*sums, 1e-9)


def _add(block: np.ndarray, begin: int, voice: np.void, rate: int) -> None:
    """Adds the part of a voice that sounds in a block that begins at frame `begin`."""
    start, release, stop = int(voice["start"]), int(voice["release"]), int(voice["stop"])
    first, last = max(start, begin), min(stop, begin + len(block))
    if voice["family"] < 0:
        sound = _drum(int(voice["pitch"]), rate)[first - start : last - start]
    else:
        sound = _tone(int(voice["family"]), int(voice["pitch"]), rate, first - start, last - start)
        attack = round(_ATTACK_S * rate)
        if first - start < attack:
            rise = np.arange(first - start, min(attack, last - start), dtype=np.float32) / attack
            sound[: len(rise)] *= rise
        if last > release:
            late = max(first, release)
            fall = np.arange(stop - late, stop - last, -1, dtype=np.float32) / (stop - release)
            sound[late - first :] *= fall * fall
    part = block[first - begin : last - begin]
    part[:, 0] += sound * voice["left"]
    part[:, 1] += sound * voice["right"]


def _tone(family: int, pitch: int, rate: int, first: int, last: int) -> np.ndarray:
    """Samples `first` to `last` of a note that is held for good; float32, new."""
    timbre = _FAMILIES[family]
    hz = 440.0 * 2.0 ** ((pitch - 69) / 12)
    partials = timbre.partials[: max(1, int(0.45 * rate / hz))]  # below half the rate: no aliases
    # The phase is a whole number of 2^-32 cycles, and wraps by itself.
    step = np.uint32(round(hz / rate * 2**32) % 2**32)
    phase = np.arange(first, last, dtype=np.uint32) * step
    phase >>= 32 - _TABLE_BITS
    sound = _cycle(partials)[phase]
    if timbre.half_life_s:
        sound *= _decay(timbre.half_life_s, rate)[first:last]
    return sound


@lru_cache(maxsize=64)
def _cycle(partials: tuple[float, ...]) -> np.ndarray:
    """One cycle of a wave, float32 (4096,), its greatest absolute value 1.

    Rounded, so that the last bits of a sine, in which computers differ, make no difference.
    """
    turns = np.arange(1 << _TABLE_BITS) / (1 << _TABLE_BITS)
    wave = sum(
        strength * np.sin(2 * np.pi * number * turns)
        for number, strength in enumerate(partials, start=1)
    )
    return np.round(wave / np.abs(wave).max(), 6).astype(np.float32)


@lru_cache(maxsize=8)
def _decay(half_life_s: float, rate: int) -> np.ndarray:
    """The amplitude of a fading note, float32, for as long as the longest may sound."""
    frames = round((_LONGEST_S + _ATTACK_S + _RELEASE_S) * rate) + 2
    return np.round(0.5 ** (np.arange(frames) / (half_life_s * rate)), 6).astype(np.float32)


_DRUM_KINDS = {
    **dict.fromkeys((35, 36), ("skin", 0.25, 55.0)),
    **dict.fromkeys((37, 39, 75, 76, 77, 85), ("noise", 0.05, 0.0)),
    **dict.fromkeys((38, 40), ("snare", 0.16, 180.0)),
    **dict.fromkeys((42, 44, 54, 69, 70, 82), ("metal", 0.06, 0.0)),
    **dict.fromkeys((46, 51, 53, 59), ("metal", 0.35, 0.0)),
    **dict.fromkeys((49, 52, 55, 57), ("metal", 1.0, 0.0)),
    **{pitch: ("skin", 0.3, 80.0 + 12 * (pitch - 41)) for pitch in (41, 43, 45, 47, 48, 50)},
    **{pitch: ("skin", 0.15, 220.0 + 20 * (pitch - 60)) for pitch in range(60, 69)},
}
"""Of the General MIDI drums: kind, seconds until it is faint, Hz that a skin settles at."""


@lru_cache(maxsize=256)
def _drum(pitch: int, rate: int) -> np.ndarray:
    """The sound of a drum, float32 (frames,), its greatest absolute value at most 1."""
    kind, length_s, hz = _DRUM_KINDS.get(pitch, ("noise", 0.12, 0.0))
    frames = round(min(_DRUM_S, 1.2 * length_s) * rate)
    seconds = np.arange(frames) / rate
    fade = 0.5 ** (seconds * 7 / length_s) * (1 - np.arange(frames) / frames)
    raw = np.random.PCG64(pitch).random_raw(frames)  # raw: numpy promises that it never changes
    noise = (raw >> np.uint64(40)) / 2.0**23 - 1
    if kind == "metal":  # the difference keeps what is high
        noise = np.diff(noise, prepend=0.0) / 2
    if kind in ("skin", "snare"):
        # It sounds an octave higher when struck and falls within some hundredths of a second.
        cycles = np.cumsum(hz * (1 + 0.5 ** (seconds / 0.02))) / rate
        tone = np.sin(2 * np.pi * cycles)
        sound = tone if kind == "skin" else 0.5 * tone + 0.5 * noise
    else:
        sound = noise
    return np.round(sound * fade, 6).astype(np.float32)
