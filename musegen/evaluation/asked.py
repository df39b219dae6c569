"""What is asked of the notes against what is measured, control by control.

A band of piano, bass and drums writes four bars from nothing. Learned controls are asked with
values of their own on each track, drawn evenly between the 10th and the 90th percentile of held-out
music in that role; Spearman's correlation of asked and measured says how well they are followed.
Rules are asked one at a time and must hold, always. Locks keep the rhythm or the pitches of a part
of held-out music.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from musegen.errors import MusegenError
from musegen.evaluation.excerpts import Excerpt
from musegen.evaluation.generation import Composer
from musegen.evaluation.intervals import DRAWS, LEVEL, Estimate, spearman
from musegen.evaluation.report import ControlLine
from musegen.music.harmony import pitch_name
from musegen.music.instruments import family_name
from musegen.music.piece import Piece
from musegen.music.score import Score, Track

__all__ = ["ask_controls", "measured_controls", "role_ranges"]

ROLES = ("piano", "bass", "drums")

BARS = 4

MOST_SAMPLES = 60
"""Of one control."""

LOCK_BARS = 8

UNITS = {
    "density": "notes a bar",
    "polyphony": "notes an onset",
    "length": "quarter notes",
    "register": "semitones",
    "loudness": "velocity",
}
"""The learned controls, and in what they are measured. A density is asked as a rule as well."""

PITCHLESS = ("length", "register")
"""Drums have none."""

_TONICS = ("C", "D", "Eb", "F", "G", "A", "Bb")
_CHORDS = ("C | Am | F | G7", "Dm7 | G7 | Cmaj7 | A7", "Em | C | G | D", "Fm | Db | Ab | Eb")

Range = tuple[float, float]


def measured_controls(track: Track, bars: int, ppq: int) -> dict[str, float]:
    """The learned controls in the notes of a track; only the density of one without notes."""
    notes = track.notes
    found = {"density": len(notes) / max(1, bars)}
    if len(notes):
        found["polyphony"] = len(notes) / len(np.unique(notes["start_tick"]))
        found["loudness"] = float(notes["velocity"].mean())
        if not track.is_drum:
            found["length"] = float(notes["duration_tick"].mean()) / ppq
            found["register"] = float(notes["pitch"].mean())
    return found


def role_ranges(scores: Sequence[Score]) -> dict[tuple[str, str], Range]:
    """By role and control the 10th and 90th percentile, over bars of human music that have notes.

    Nothing where a role is missing, or its values hardly differ.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        for track in score.tracks:
            role = _role(track)
            for bar in score.bars() if role else ():
                first, last = np.searchsorted(
                    track.notes["start_tick"], (bar.start_tick, bar.end_tick)
                )
                if last > first:
                    part = Track(track.notes[first:last], track.program, track.is_drum)
                    for control, value in measured_controls(part, 1, score.ppq).items():
                        values.setdefault((role, control), []).append(value)
    found = {}
    for key, column in values.items():
        low, high = np.quantile(column, (0.1, 0.9)).tolist()
        if high - low > 0.05:
            found[key] = (low, high)
    return found


def _role(track: Track) -> str:
    if track.is_drum:
        return "drums"
    return {"Piano": "piano", "Bass": "bass"}.get(family_name(track.program), "")


@dataclass
class _Tally:
    """What is known of one control on one track so far."""

    kind: str
    asked: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    holds: list[bool] = field(default_factory=list)
    samples: int = 0
    silent: int = 0


def ask_controls(
    compose: Composer,
    references: Sequence[Excerpt],
    num: int,
    seed: int = 0,
    on_done: Callable[[int, int], None] | None = None,
) -> tuple[tuple[ControlLine, ...], tuple[str, ...], bool]:
    """Every control on up to `MOST_SAMPLES` samples: the table, what failed, whether Ctrl-C came.

    What fails counts as a rule that does not hold. Locks need references of `LOCK_BARS` bars.
    """
    count = min(num, MOST_SAMPLES)
    ranges = role_ranges([excerpt.score for excerpt in references])
    rng = np.random.default_rng([seed, 7])
    jobs: list[tuple[str, dict[str, Any], Any, dict[str, float]]] = []
    for control in UNITS:
        for _ in range(count):
            values = {
                role: float(rng.uniform(*ranges[role, control]))
                for role in ROLES
                if (role, control) in ranges and not (role == "drums" and control in PITCHLESS)
            }
            if values:
                told = {role: _told(control, value) for role, value in values.items()}
                wishes = {control: [f"{text}@{role}" for role, (text, _) in told.items()]}
                jobs.append((control, wishes, None, {r: v for r, (_, v) in told.items()}))
    for control, rule in _RULES.items():
        jobs += [(control, rule(rng), None, {}) for _ in range(count)]
    long = [e.score for e in references if len(e.score.bars()) >= LOCK_BARS]
    for number in range(count if long else 0):
        what = ("rhythm", "pitch")[number % 2]
        jobs.append(("lock", *_lock(what, long[number // 2 % len(long)], rng), {}))
    tallies: dict[tuple[str, str], _Tally] = {}
    failures: list[str] = []
    stopped = False
    try:
        for number, (control, options, source, values) in enumerate(jobs):
            if source is None:
                options = {"bars": BARS, "instruments": list(ROLES), **options}
            try:
                piece = compose(source, random_seed=seed + number, **options)
            except MusegenError as error:
                failures.append(f"{control}: {error}")
                tally = tallies.setdefault((control, ""), _Tally("rule"))
                tally.samples += 1
                tally.holds.append(False)
                continue
            if piece.info["interrupted"]:
                stopped = True
                break
            _count(tallies, control, piece, values)
            if on_done is not None:
                on_done(number + 1, len(jobs))
    except KeyboardInterrupt:
        stopped = True
    lines = [_line(control, track, tally, seed) for (control, track), tally in tallies.items()]
    return tuple(lines), tuple(failures), stopped


def _told(control: str, value: float) -> tuple[str, float]:
    """A value as it is typed, and what that means."""
    if control in ("density", "loudness"):
        return f"{round(value)}", float(round(value))
    if control == "register":
        return pitch_name(round(value)), float(round(value))
    kept = max(1.0 if control == "polyphony" else 0.05, round(value, 2))
    return f"{kept:g}", kept


def _range_of(rng: np.random.Generator) -> dict[str, Any]:
    low = int(rng.integers(28, 48))
    return {"pitch_range": f"{pitch_name(low)}-{pitch_name(low + int(rng.integers(5, 20)))}@bass"}


_RULES: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "pitch_range": _range_of,
    "max_polyphony": lambda rng: {
        "max_polyphony": [f"{rng.integers(1, 4)}@piano", "1@bass"],
    },
    "grid": lambda rng: {"grid": str(rng.choice(["4th", "8th", "16th", "8th-triplet"]))},
    "scale": lambda rng: {
        "scale": f"{rng.choice(_TONICS)} {rng.choice(['major', 'minor', 'dorian'])}",
        "strict_scale": True,
    },
    "chords": lambda rng: {"chords": str(rng.choice(_CHORDS)), "strict_chords": True},
    "first_pitch": lambda rng: {"first_pitch": f"{pitch_name(int(rng.integers(55, 75)))}@piano"},
    "last_pitch": lambda rng: {"last_pitch": f"{pitch_name(int(rng.integers(30, 45)))}@bass"},
}
"""Rules, and what is asked of them."""


def _lock(what: str, score: Score, rng: np.random.Generator) -> tuple[dict[str, Any], Piece]:
    """Bars 3 to 6 of a part of human music anew, its rhythm or its pitches kept."""
    track = int(rng.integers(len(score.tracks))) + 1
    return {"fill": f"3-6@#{track}", "lock": f"{what}@#{track}"}, Piece(score)


def _count(
    tallies: dict[tuple[str, str], _Tally], control: str, piece: Piece, values: dict[str, float]
) -> None:
    for role, value in values.items():
        tally = tallies.setdefault((control, role), _Tally("wish"))
        tally.samples += 1
        track = piece.score.tracks[ROLES.index(role)]
        found = measured_controls(track, BARS, piece.score.ppq)
        if control in found:
            tally.asked.append(value)
            tally.found.append(found[control])
        tally.silent += not len(track)
    for line in piece.info["controls"]:
        if line["control"] != control or line["holds"] is None:
            continue
        role = line["track"].lower() if control != "lock" else ""
        role = next((known for known in ROLES if known in role), "")
        tally = tallies.setdefault((control, role), _Tally("rule"))
        tally.samples += not values
        tally.holds.append(bool(line["holds"]))
        tally.silent += not values and line["measured"] == "no notes"


def _line(control: str, track: str, tally: _Tally, seed: int) -> ControlLine:
    asked, found = np.array(tally.asked), np.array(tally.found)
    correlation = None
    if len(asked) >= 3:
        draws = np.random.default_rng(seed).integers(len(asked), size=(DRAWS // 8, len(asked)))
        low, high = np.quantile([spearman(asked[i], found[i]) for i in draws], LEVEL).tolist()
        correlation = Estimate(spearman(asked, found), low, high, len(asked))
    return ControlLine(
        control=control,
        track=track,
        kind=tally.kind,
        samples=tally.samples,
        silent=tally.silent,
        holds=float(np.mean(tally.holds)) if tally.holds else None,
        correlation=correlation,
        mean_error=float((found - asked).mean()) if len(asked) else None,
        unit=UNITS.get(control, ""),
    )
