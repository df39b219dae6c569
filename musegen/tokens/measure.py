"""What was asked of a composition against what is in it.

Measured on the result itself, its ticks and its notes, by other code than the rules that made it:
a rule that was broken shows. Learned controls have no "holds": they are wishes.

Letters: N notes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from musegen.music.harmony import pitch_name
from musegen.music.score import Score
from musegen.tokens.assemble import bar_ticks, result_tracks
from musegen.tokens.plan import MAX_NOTES, CellRule, CompositionPlan, Written

__all__ = ["Measure", "measure"]


@dataclass(frozen=True)
class Measure:
    """A line of the table."""

    control: str
    track: str
    bars: str
    """As in "9-12", from 1."""
    asked: str
    measured: str
    holds: bool | None
    """Whether a hard control holds; None for a learned one."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    plan: CompositionPlan, written: Written, score: Score, names: Sequence[str]
) -> tuple[Measure, ...]:
    """The table of one result: a line for each wish and each track that it was asked of.

    Args:
        plan: what was asked (of this sample: which notes were kept).
        written: what the guide gave.
        score: the assembled result.
        names: of the plan's tracks.
    """
    done = set(plan.written_bars[: written.finished_bars])
    ticks, places = bar_ticks(plan), result_tracks(plan)
    lines = [_bars_line(plan, written)]
    for index, name in enumerate(names):
        bars = [bar for bar in np.flatnonzero(plan.open_cells[:, index]).tolist() if bar in done]
        if not bars:
            continue
        notes = score.tracks[places[index]].notes
        cells = {bar: _in_bar(notes, ticks, bar) for bar in bars}
        kinds = dict.fromkeys(kind for bar in bars for kind in plan.rule(index, bar).origins)
        for kind in kinds:
            if kind not in _LINES:
                continue
            of_text: dict[str, list[int]] = {}
            for bar in bars:
                if kind in plan.rule(index, bar).origins:
                    of_text.setdefault(plan.rule(index, bar).origins[kind], []).append(bar)
            for mine in of_text.values():
                found = _LINES[kind](plan, index, mine, cells, ticks, score)
                if found is not None:
                    asked, measured, holds = found
                    lines.append(Measure(kind, name, _span(mine), asked, measured, holds))
    return tuple(lines)


def _bars_line(plan: CompositionPlan, written: Written) -> Measure:
    asked = len(plan.written_bars)
    done = written.finished_bars
    return Measure("bars", "", _span(plan.written_bars), f"{asked}", f"{done}", asked == done)


def _span(bars: Sequence[int]) -> str:
    return f"{bars[0] + 1}" if len(bars) == 1 else f"{bars[0] + 1}-{bars[-1] + 1}"


def _in_bar(notes: np.ndarray, ticks: np.ndarray, bar: int) -> np.ndarray:
    start = notes["start_tick"]
    return notes[(start >= ticks[bar]) & (start < ticks[bar + 1])]


Cells = dict[int, np.ndarray]
Line = tuple[str, str, bool | None]


def _rules(plan: CompositionPlan, index: int, bars: Sequence[int]) -> list[CellRule]:
    return [plan.rule(index, bar) for bar in bars]


def _density(plan, index, bars, cells: Cells, ticks, score) -> Line:
    rules = _rules(plan, index, bars)
    counts = [len(cells[bar]) for bar in bars]
    holds = all(
        rule.least_notes <= count <= rule.most_notes
        for rule, count in zip(rules, counts, strict=True)
    )
    low, high = min(r.least_notes for r in rules), max(min(r.most_notes, MAX_NOTES) for r in rules)
    asked = f"{low}" if low == high else f"{low}-{high}"
    measured = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    return f"{asked} notes a bar", measured, holds


def _pitch_range(plan, index, bars, cells: Cells, ticks, score) -> Line:
    ranges = [rule.pitch_range or (0, 127) for rule in _rules(plan, index, bars)]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    pitches = np.concatenate([cells[bar]["pitch"] for bar in bars])
    holds = all(
        bool(np.all((cells[bar]["pitch"] >= r[0]) & (cells[bar]["pitch"] <= r[1])))
        for bar, r in zip(bars, ranges, strict=True)
    )
    heard = (
        f"{pitch_name(int(pitches.min()))}-{pitch_name(int(pitches.max()))}" if len(pitches) else ""
    )
    return f"{pitch_name(low)}-{pitch_name(high)}", heard or "no notes", holds


def _polyphony_limit(plan, index, bars, cells: Cells, ticks, score) -> Line:
    notes = score.tracks[result_tracks(plan)[index]].notes
    start = notes["start_tick"].astype(np.int64)
    end = start + notes["duration_tick"]
    holds, most = True, 0
    for bar, rule in zip(bars, _rules(plan, index, bars), strict=True):
        onsets = np.unique(cells[bar]["start_tick"])
        here = max((int(np.sum((start <= at) & (end > at))) for at in onsets), default=0)
        most, holds = max(most, here), holds and here <= rule.max_polyphony
    asked = max(rule.max_polyphony for rule in _rules(plan, index, bars))
    return f"{asked} at once", f"{most}", holds


def _grid(plan, index, bars, cells: Cells, ticks, score) -> Line:
    off = 0
    for bar, rule in zip(bars, _rules(plan, index, bars), strict=True):
        for start in cells[bar]["start_tick"].tolist():
            onset = Fraction(int(start - ticks[bar]), score.ppq)
            near = [step * round(onset / step) for step in rule.grid_q]
            off += all(abs(place - onset) * score.ppq > Fraction(1, 2) for place in near)
    steps = "+".join(str(step) for step in plan.rule(index, bars[0]).grid_q)
    return f"multiples of {steps} quarters", f"{off} off", off == 0


def _by_classes(kind: str) -> Callable[..., Line]:
    def line(plan, index, bars, cells, ticks, score) -> Line:
        inside = total = 0
        hard = False
        for bar, rule in zip(bars, _rules(plan, index, bars), strict=True):
            spans, hard = rule.harmony[kind]
            for start, pitch in cells[bar][["start_tick", "pitch"]].tolist():
                onset = (start - ticks[bar]) / score.ppq
                # A span begins with the first place of the grid in it; ticks are rounded.
                in_force = [
                    classes
                    for place, classes in spans
                    if math.ceil(place * 12 - 1e-6) / 12 <= onset + 0.02
                ]
                inside += pitch % 12 in in_force[-1]
                total += 1
        asked = plan.rule(index, bars[0]).origins[kind].partition(" ")[2]
        return asked, f"{inside} of {total} notes in it", inside == total if hard else None

    return line


def _end(kind: str) -> Callable[..., Line | None]:
    def line(plan, index, bars, cells, ticks, score) -> Line | None:
        if kind == "last_pitch" and bars[-1] != int(np.flatnonzero(plan.open_cells[:, index])[-1]):
            return None  # stopped early: the part has no end
        asked = getattr(plan.tracks[index], kind)
        notes = np.concatenate([cells[bar] for bar in bars])
        if not len(notes):
            return pitch_name(asked), "no notes", kind == "first_pitch"
        order = np.lexsort((notes["pitch"], notes["start_tick"]))
        found = int(notes["pitch"][order[0 if kind == "first_pitch" else -1]])
        return pitch_name(asked), pitch_name(found), found == asked

    return line


def _lock(plan, index, bars, cells: Cells, ticks, score) -> Line:
    old_notes = plan.seed.tracks[plan.tracks[index].seed_track].notes
    same = total = 0
    for bar in bars:
        old, new = old_notes[plan.seed_notes(index, bar)], cells[bar]
        fields = ["pitch"]
        if plan.rule(index, bar).lock == "rhythm":
            fields = ["start_tick", "duration_tick", "velocity"]
        mine, yours = (sorted(notes[fields].tolist()) for notes in (new, old))
        if fields == ["pitch"]:
            mine, yours = new["pitch"].tolist(), old["pitch"].tolist()
        same += mine == yours
        total += 1
    locked = plan.rule(index, bars[0]).lock
    return f"{locked} as it was", f"so in {same} of {total} bars", same == total


def _like(plan, index, bars, cells: Cells, ticks, score) -> Line | None:
    """How much of the bars it should be like is there: F1 of onsets, of onsets with their pitch."""
    told = [bar for bar in bars if (index, bar) in plan.likeness]
    if not told:
        return None
    shared, sizes = np.zeros(2), np.zeros(2)
    for bar in told:
        wanted = plan.likeness[index, bar].notes
        onset_q = (cells[bar]["start_tick"].astype(np.int64) - int(ticks[bar])) / score.ppq
        found = np.stack((onset_q, cells[bar]["pitch"].astype(float)), axis=1)
        for kind, columns in enumerate((slice(0, 1), slice(0, 2))):
            mine, yours = (
                {tuple(row) for row in np.round(notes[:, columns] * 24).astype(int).tolist()}
                for notes in (found, wanted)
            )
            shared[kind] += 2 * len(mine & yours)
            sizes[kind] += len(mine) + len(yours)
    onsets, notes = np.where(sizes > 0, shared / np.maximum(sizes, 1), 1.0)
    asked = plan.rule(index, bars[0]).origins["like"].partition(" ")[2]
    return asked, f"{onsets:.0%} of onsets shared, {notes:.0%} of notes", None


def _learned(kind: str, unit: str, value: Callable[[np.ndarray, int], float]) -> Callable[..., Any]:
    def line(plan, index, bars, cells: Cells, ticks, score) -> Line:
        asked = [getattr(rule.told, kind) for rule in _rules(plan, index, bars)]
        notes = [cells[bar] for bar in bars if len(cells[bar])]
        heard = (
            f"{np.mean([value(cell, score.ppq) for cell in notes]):.3g}" if notes else "no notes"
        )
        return f"{np.mean(asked):.3g} {unit}", heard, None

    return line


_LINES: dict[str, Callable[..., Line | None]] = {
    "density": _density,
    "pitch_range": _pitch_range,
    "max_polyphony": _polyphony_limit,
    "grid": _grid,
    "scale": _by_classes("scale"),
    "chords": _by_classes("chords"),
    "first_pitch": _end("first_pitch"),
    "last_pitch": _end("last_pitch"),
    "lock": _lock,
    "like": _like,
    "polyphony": _learned(
        "polyphony", "notes an onset", lambda n, _: len(n) / len(np.unique(n["start_tick"]))
    ),
    "length": _learned(
        "length", "quarter notes", lambda n, ppq: float(n["duration_tick"].mean()) / ppq
    ),
    "register": _learned("register", "mean pitch", lambda n, _: float(n["pitch"].mean())),
    "loudness": _learned("loudness", "mean velocity", lambda n, _: float(n["velocity"].mean())),
}
