"""What is counted about music when generated pieces are held against real ones.

None of these figures is a quality: real music has an entropy, a density, a share of repeated bars,
and so should what a model writes. They are read as gaps, closer is better. Each is NaN where it is
not defined (no pitched notes, a single bar), and never silently zero.

Every function takes a `Score` and looks at its whole bars. Onsets are rounded to `GRID` places a
quarter note, which holds both 16ths and triplets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from musegen.music.analysis import pitch_class_histogram, pitched_notes, polyphony
from musegen.music.score import Bar, Score

__all__ = [
    "METRICS",
    "Metric",
    "density",
    "drum_grid_share",
    "drum_pattern_correlation",
    "empty_bars",
    "groove_consistency",
    "harmonic_rhythm",
    "key_correlation",
    "mean_polyphony",
    "measure_music",
    "note_length",
    "pitch_class_entropy",
    "pitch_range",
    "scale_consistency",
]

GRID = 12
"""Places a quarter note."""

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)

_SCALES = np.array(
    [
        np.isin(np.arange(12), [(root + step) % 12 for step in steps])
        for steps in (_MAJOR, _MINOR)
        for root in range(12)
    ]
)
"""(24, 12) booleans: which pitch classes a scale has."""

_TRIADS = np.array(
    [
        np.isin(np.arange(12), [(root + step) % 12 for step in steps])
        for steps in ((0, 4, 7), (0, 3, 7))
        for root in range(12)
    ],
    dtype=np.float64,
)
"""(24, 12): major and minor triads."""


def pitch_class_entropy(score: Score) -> float:
    """Bits, 0 to log2(12) = 3.58: how evenly the twelve pitch classes are used.

    -sum(p log2 p) over the share p of the notes of each pitch class; drums do not count. Wu and
    Yang, The Jazz Transformer on the Front Line (ISMIR 2020), section 5.1, over whole pieces;
    `muspy.pitch_class_entropy` is the same.
    """
    shares = pitch_class_histogram(score, weighted=False)
    if not shares.any():
        return np.nan
    shares = shares[shares > 0]
    return float(abs(-(shares * np.log2(shares)).sum()))


def scale_consistency(score: Score) -> float:
    """Share of notes, 0 to 1, that lie in the major or natural minor scale that holds most.

    Drums do not count. Mogren, C-RNN-GAN (2016), section 4; `muspy.scale_consistency` is the same.
    """
    shares = pitch_class_histogram(score, weighted=False)
    return float((_SCALES @ shares).max()) if shares.any() else np.nan


def groove_consistency(score: Score, *, drums_only: bool = False) -> float:
    """How alike the rhythms of neighbouring bars are, 0 to 1.

    1 - the mean, over neighbouring bars of one meter, of the share of places (12 a quarter note) at
    which one of the two has an onset and the other has none; all tracks together. Wu and Yang
    (2020), section 5.2, and `muspy.groove_consistency`, which know one meter a piece: here bars on
    two sides of a change of meter are not compared. Two silent bars are wholly alike, so
    `empty_bars` belongs beside it. NaN without two neighbouring bars of one meter.
    """
    bars = score.bars()
    rhythms = _rhythms(score, bars, drums_only)
    differences = [
        float(np.mean(one != other))
        for (one, bar), (other, following) in zip(
            zip(rhythms[:-1], bars[:-1], strict=True),
            zip(rhythms[1:], bars[1:], strict=True),
            strict=True,
        )
        if bar[2:] == following[2:] and len(one) == len(other)
    ]
    return 1.0 - float(np.mean(differences)) if differences else np.nan


def empty_bars(score: Score) -> float:
    """Share of bars, 0 to 1, in which nothing sounds.

    As `muspy.empty_measure_rate`; that one counts a bar more where the last note ends on a barline.
    """
    bars = score.bars()
    if not bars:
        return np.nan
    edges = np.array([bar.start_tick for bar in bars] + [bars[-1].end_tick])
    heard = np.zeros(len(bars) + 1)
    for track in score.tracks:
        start = track.notes["start_tick"].astype(np.int64)
        last = np.maximum(start + track.notes["duration_tick"] - 1, start)
        np.add.at(heard, _bar_of(edges, start), 1)
        np.add.at(heard, _bar_of(edges, last) + 1, -1)
    return float(np.mean(np.cumsum(heard)[:-1] == 0))


def mean_polyphony(score: Score) -> float:
    """Pitched notes that sound at once, in the mean over the time in which any does.

    `muspy.polyphony` is the same where no two tracks play one pitch at once: it counts that once.
    """
    mean = polyphony(score)[1]
    return mean if mean else np.nan


def density(score: Score) -> float:
    """Notes that begin in a quarter note, drums and all, over the length of all bars."""
    bars = score.bars()
    return score.num_notes * score.ppq / bars[-1].end_tick if bars else np.nan


def pitch_range(score: Score) -> float:
    """Semitones from the lowest to the highest pitched note; `muspy.pitch_range` is the same."""
    notes = pitched_notes(score)
    return float(np.ptp(notes["pitch"].astype(np.int64))) if len(notes) else np.nan


def note_length(score: Score) -> float:
    """Quarter notes that a pitched note lasts, in the mean."""
    notes = pitched_notes(score)
    return float(notes["duration_tick"].mean()) / score.ppq if len(notes) else np.nan


def harmonic_rhythm(score: Score) -> float:
    """Share of quarter notes, 0 to 1, at which the harmony changes.

    What sounds within each quarter note, drums left out, weighs the pitch classes by duration; its
    chord is the major or minor triad that holds most of the weight (template matching: Fujishima,
    Realtime Chord Recognition of Musical Sound, 1999, with binary templates), and where several
    hold as much, the one before if it is among them. A change is a chord unlike that of the quarter
    note before; silent ones are passed over. NaN where fewer than two quarter notes sound.
    """
    bars = score.bars()
    notes = pitched_notes(score)
    if not bars or not len(notes):
        return np.nan
    beats = -(-bars[-1].end_tick // score.ppq)
    weights = np.zeros((beats, 12))
    start = notes["start_tick"].astype(np.int64)
    end = start + notes["duration_tick"]
    first, last = start // score.ppq, np.minimum(-(-end // score.ppq), beats)
    for begin, stop, low, high, pitch in zip(
        first.tolist(), last.tolist(), start.tolist(), end.tolist(), notes["pitch"].tolist(),
        strict=True,
    ):  # fmt: skip
        for beat in range(begin, stop):
            overlap = min(high, (beat + 1) * score.ppq) - max(low, beat * score.ppq)
            weights[beat, pitch % 12] += overlap
    chords: list[int] = []
    for fits in (weights[weights.any(axis=1)] @ _TRIADS.T).tolist():
        best = max(fits)
        among = [index for index, fit in enumerate(fits) if fit >= best - 1e-9]
        chords.append(chords[-1] if chords and chords[-1] in among else among[0])
    return float(np.mean(np.diff(chords) != 0)) if len(chords) > 1 else np.nan


def key_correlation(one: Score, other: Score) -> float:
    """Correlation, -1 to 1, of the pitch classes of two passages, weighed by duration.

    Near 1 where the second stays in the first one's key. NaN where one has no pitched notes, or
    uses all twelve pitch classes alike.
    """
    return _correlation(pitch_class_histogram(one), pitch_class_histogram(other))


def drum_grid_share(score: Score) -> float:
    """Share of drum notes, 0 to 1, on a 16th or an 8th triplet of their bar. NaN without drums."""
    places = [place for bar in _drum_places(score, score.bars()) for place in bar]
    return float(np.mean([p % 3 == 0 or p % 4 == 0 for p in places])) if places else np.nan


def drum_pattern_correlation(one: Score, other: Score) -> float:
    """Whether drums go on in time: correlation, -1 to 1, of where in the bar they play.

    Drum notes are counted by 16th of the bar, in those bars of both passages that are as long as
    the last bar of the first. NaN where one has no drums in such bars.
    """
    ends = one.bars()
    if not ends:
        return np.nan
    length = _places(ends[-1], one.ppq)
    counts = []
    for score in (one, other):
        bars = [bar for bar in score.bars() if _places(bar, score.ppq) == length]
        found = [place // 3 for bar in _drum_places(score, bars) for place in bar]
        counts.append(np.bincount(found, minlength=-(-length // 3)).astype(np.float64))
    return _correlation(*counts)


@dataclass(frozen=True)
class Metric:
    """A figure of a score, with what people need to read it."""

    name: str
    unit: str
    compute: Callable[[Score], float]


METRICS = (
    Metric("density", "notes a quarter note", density),
    Metric("polyphony", "notes at once", mean_polyphony),
    Metric("pitch_class_entropy", "bits", pitch_class_entropy),
    Metric("scale_consistency", "share of notes", scale_consistency),
    Metric("groove_consistency", "share of places", groove_consistency),
    Metric("empty_bars", "share of bars", empty_bars),
    Metric("pitch_range", "semitones", pitch_range),
    Metric("note_length", "quarter notes", note_length),
    Metric("harmonic_rhythm", "changes a quarter note", harmonic_rhythm),
    Metric("drums_on_grid", "share of drum notes", drum_grid_share),
)
"""What every evaluation measures, in the order of its tables."""


def measure_music(score: Score) -> dict[str, float]:
    """Every figure of `METRICS`, by name."""
    return {metric.name: float(metric.compute(score)) for metric in METRICS}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if not one.std() or not other.std():
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])


def _bar_of(edges: np.ndarray, ticks: np.ndarray) -> np.ndarray:
    """Number of the bar of each tick; `edges` are the barlines."""
    return np.clip(np.searchsorted(edges, ticks, side="right") - 1, 0, len(edges) - 2)


def _places(bar: Bar, ppq: int) -> int:
    return max(1, round((bar.end_tick - bar.start_tick) * GRID / ppq))


def _onsets(score: Score, bar: Bar, drums_only: bool) -> np.ndarray:
    """The place in the bar of each note that begins in it."""
    found = [np.empty(0, np.int64)]
    for track in score.tracks:
        if drums_only and not track.is_drum:
            continue
        start = track.notes["start_tick"]
        first, last = np.searchsorted(start, (bar.start_tick, bar.end_tick))
        found.append(np.round((start[first:last] - bar.start_tick) * (GRID / score.ppq)))
    places = np.concatenate(found).astype(np.int64)
    return np.minimum(places, _places(bar, score.ppq) - 1)


def _rhythms(score: Score, bars: list[Bar], drums_only: bool) -> list[np.ndarray]:
    """For each bar booleans: at which places something begins."""
    result = []
    for bar in bars:
        rhythm = np.zeros(_places(bar, score.ppq), dtype=bool)
        rhythm[_onsets(score, bar, drums_only)] = True
        result.append(rhythm)
    return result


def _drum_places(score: Score, bars: list[Bar]) -> list[list[int]]:
    return [_onsets(score, bar, True).tolist() for bar in bars]
