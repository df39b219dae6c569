"""Four-part chorales as rows of four fields, and how they are scored: the data half of jsb.py.

A row is one sixteenth: soprano, alto, tenor, bass, each 0 (nothing), 1 (rest) or 2.. for the
pitches 36 to 81. Row 0 of a window is empty: from it the first step is predicted.

Side channels of a row are known when the next is predicted and are computed from the window alone:
where in the bar the next step lies (of 16 and of 12 steps), whether the window begins the piece,
from which collection it is, how long each voice has held its pitch, by which step it came there,
and the gaps between voices.

Letters: T steps, B windows, V voices (4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

LOWEST, HIGHEST = 36, 81
REST, FIRST = 1, 2
IDS = FIRST + HIGHEST - LOWEST + 1
VOICES = ("soprano", "alto", "tenor", "bass")
WINDOW, STRIDE = 128, 64
FIGURE = 12
"""Intervals that two melodies share by descent and not by chance."""
MIDDLES = np.array([70.0, 65.0, 59.0, 51.0])
"""Median pitches of the voices in the chorales."""
HELD, LEAP, GAP = 17, 12, 24
"""Ages above 16 steps, leaps above an octave and gaps above two are told as these."""

CHANNELS = (
    ("of_16", 17),
    ("of_12", 13),
    ("begins", 2),
    ("collection", 4),
    *((f"held_{voice}", HELD + 1) for voice in VOICES),
    *((f"came_{voice}", 2 * LEAP + 2) for voice in VOICES),
    *((f"gap_{lower}", 2 * GAP + 2) for lower in VOICES[1:]),
    *((f"voice_{place}", len(VOICES) + 1) for place in VOICES),
)


def read(folder: Path) -> dict[str, list[np.ndarray]]:
    """The pieces of each split, ids (T, V), from Jsb16thSeparated.json below a folder.

    Raises SystemExit where it is not there.
    """
    found = sorted(folder.rglob("Jsb16thSeparated.json"))
    if not found:
        raise SystemExit(f"{folder}: no Jsb16thSeparated.json in it (czhuang/JSB-Chorales-dataset)")
    stored = json.loads(found[0].read_text(encoding="utf-8"))
    return {name: [ids_of(np.array(piece)) for piece in stored[name]] for name in stored}


def ids_of(pitches: np.ndarray) -> np.ndarray:
    """MIDI pitches (T, V), -1 a rest, -> ids."""
    ids = np.where(pitches < 0, REST, pitches - LOWEST + FIRST)
    if ids.max(initial=REST) >= IDS or ids.min(initial=REST) < REST:
        raise ValueError("a pitch outside 36 to 81")
    return ids


def shifted(ids: np.ndarray, semitones: int) -> np.ndarray:
    """Ids transposed; rests stay."""
    return np.where(ids >= FIRST, ids + semitones, ids)


def shifts(ids: np.ndarray) -> range:
    """By how much a piece may be transposed within 36 to 81; 0 is among them."""
    pitched = ids[ids >= FIRST]
    if not len(pitched):
        return range(1)
    return range(FIRST - int(pitched.min()), IDS - int(pitched.max()))


def four_voices(folder: Path, kept_out: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The MIDI files below a folder that have four pitched tracks, as pieces.

    Each voice is moved by octaves to where a choir sings it, and notes that are still outside the
    46 pitches by one more. A file of whose top voice a figure of 13 notes is in `kept_out` too is
    left out.
    """
    from musegen.errors import MidiError
    from musegen.music.midi import read_midi

    forbidden = set().union(*map(figures, kept_out)) if kept_out else set()
    pieces = []
    for path in sorted(folder.rglob("*.mid")):
        try:
            score, _ = read_midi(path)
        except MidiError:
            continue
        tracks = [track for track in score.tracks if len(track.notes)]
        if len(tracks) != len(VOICES) or any(track.is_drum for track in tracks):
            continue
        step = score.ppq / 4
        ends = [track.notes["start_tick"] + track.notes["duration_tick"] for track in tracks]
        count = int(max(each.max() for each in ends) // step)
        pitches = np.full((count, len(VOICES)), -1)
        for voice, track in enumerate(tracks):
            for note in np.sort(track.notes, order=["pitch", "start_tick"]):  # the highest stays
                first = int(np.ceil(note["start_tick"] / step - 0.01))
                last = int(np.ceil((note["start_tick"] + note["duration_tick"]) / step - 0.01))
                pitches[first:last, voice] = note["pitch"]
        heard = np.where(pitches < 0, np.nan, pitches)
        if np.isnan(heard).all(0).any():
            continue
        middle = np.nanmedian(heard, 0)
        order = np.argsort(-middle, kind="stable")
        heard = heard[:, order] + 12 * np.round((MIDDLES - middle[order]) / 12)
        heard = np.where(heard > HIGHEST, heard - 12, np.where(heard < LOWEST, heard + 12, heard))
        inside = (heard >= LOWEST) & (heard <= HIGHEST)
        ids = ids_of(np.where(inside, heard, -1).astype(int))
        if len(ids) >= WINDOW // 2 and not figures(ids) & forbidden:
            pieces.append(ids)
    return pieces


def figures(ids: np.ndarray) -> set[tuple[int, ...]]:
    """The figures of FIGURE intervals in the top voice, repeated pitches taken as one."""
    top = ids[:, 0][ids[:, 0] != REST]
    steps = np.diff(top)
    steps = steps[steps != 0]
    return {tuple(steps[i : i + FIGURE].tolist()) for i in range(len(steps) - FIGURE + 1)}


def window(
    steps: np.ndarray, start: int, collection: int = 0, order: Sequence[int] = range(4)
) -> dict[str, np.ndarray]:
    """The arrays of the steps (T, V), which begin `start` steps into their piece, each padded with
    0 to (WINDOW, ...). The voices are predicted in `order`, each from those before it.
    """
    steps = steps[:, list(order)]
    count = len(steps)
    rows = np.zeros((WINDOW, len(VOICES)), np.int64)
    rows[1:count] = steps[:-1]
    targets = np.zeros_like(rows)
    targets[:count] = steps
    channels = np.zeros((WINDOW, len(CHANNELS)), np.int64)
    channels[:count] = side_channels(steps, start)
    channels[:count, 3] = collection
    channels[:count, -len(VOICES) :] = np.array(order) + 1
    places = np.arange(WINDOW, dtype=np.float32)[:, None]
    live = np.arange(WINDOW) < count
    return {
        "rows": rows,
        "targets": targets,
        "channels": channels,
        "coordinates": places,
        "segments": live.astype(np.int64),
        "weights": live.astype(np.float32),
        "notes": live,
    }


def side_channels(steps: np.ndarray, start: int) -> np.ndarray:
    """(T, C) of T steps: row t tells what is known before step t."""
    count, place = len(steps), np.arange(len(steps))
    channels = np.zeros((count, len(CHANNELS)), np.int64)
    channels[:, 0] = (start + place) % 16 + 1
    channels[:, 1] = (start + place) % 12 + 1
    channels[0, 2] = start == 0
    before = steps[:-1]
    changed = np.ones((count - 1, len(VOICES)), bool)
    changed[1:] = before[1:] != before[:-1]
    since = np.where(changed, place[:-1, None], 0)
    since = np.maximum.accumulate(since, axis=0)
    channels[1:, 4:8] = np.minimum(place[1:, None] - since, HELD)
    leap = np.zeros_like(before)
    leap[1:] = np.clip(before[1:] - before[:-1], -LEAP, LEAP) + LEAP + 1
    leap[since == 0] = 0  # how the first pitch came is not known
    channels[1:, 8:12] = np.take_along_axis(leap, since, axis=0)
    gap = np.clip(before[:, :-1] - before[:, 1:], -GAP, GAP) + GAP + 1
    resting = (before[:, :-1] == REST) | (before[:, 1:] == REST)
    channels[1:, 12:15] = np.where(resting, 0, gap)
    return channels


def stacked(windows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Windows as one batch (B, WINDOW, ...)."""
    return {name: np.stack([one[name] for one in windows]) for name in windows[0]}


class Windows:
    """An endless stream of batches; a batch is a function of the seed and its index.

    Windows begin anywhere, the beginning of the piece one time in five; every one is transposed by
    a random amount within the voices' ranges, at most a tritone.
    """

    def __init__(
        self,
        pools: Sequence[tuple[Sequence[np.ndarray], float]],
        batch_size: int,
        seed: int,
        *,
        orders: float = 0.0,
        transpose: bool = True,
    ) -> None:
        """`pools` are pieces and the share of the windows that come from them; each pool is told
        from the others by a side channel. In a share `orders` of the windows the voices are
        predicted in another order than from the top, drawn at random.
        """
        self.batch_size, self.seed = batch_size, seed
        self.orders, self.transpose = orders, transpose
        self.pieces = [(piece, n) for n, (pool, _) in enumerate(pools) for piece in pool]
        chances = [
            share * np.array([len(piece) for piece in pool]) / sum(len(piece) for piece in pool)
            for pool, share in pools
        ]
        self.chances = np.concatenate(chances)
        self.chances /= self.chances.sum()

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """The batch of that number."""
        rng = np.random.default_rng([self.seed, index])
        made = []
        for number in rng.choice(len(self.pieces), self.batch_size, p=self.chances).tolist():
            piece, pool = self.pieces[number]
            last = max(0, len(piece) - WINDOW)
            start = 0 if rng.random() < 0.2 else int(rng.integers(last + 1))
            part = piece[start : start + WINDOW]
            by = [shift for shift in shifts(part) if -6 <= shift <= 6] if self.transpose else [0]
            order = rng.permutation(4).tolist() if rng.random() < self.orders else range(4)
            made.append(window(shifted(part, int(rng.choice(by))), start, pool, order))
        return stacked(made)


class Scored:
    """The windows of a split: each step is scored once, with at least STRIDE steps before it."""

    def __init__(self, pieces: Sequence[np.ndarray], batch_size: int = 32) -> None:
        self.windows: list[tuple[np.ndarray, int]] = []
        self.batch_size = batch_size
        for piece in pieces:
            last = max(0, -(-(len(piece) - WINDOW) // STRIDE))
            self.windows += [(piece, number * STRIDE) for number in range(last + 1)]
        self.windows.sort(key=lambda one: len(one[0]))

    def batches(self, semitones: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches of them, transposed where the piece has room, else left out."""
        chosen = [one for one in self.windows if semitones in shifts(one[0])]
        for begin in range(0, len(chosen), self.batch_size):
            made = []
            for piece, start in chosen[begin : begin + self.batch_size]:
                one = window(shifted(piece[start : start + WINDOW], semitones), start)
                if start:  # what the window before has scored is context here
                    one["weights"][:STRIDE] = 0
                    one["notes"][:STRIDE] = False
                made.append(one)
            yield stacked(made)
