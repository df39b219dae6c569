"""Learned controls: whether what is asked is what comes out, and what guidance costs.

Asked: density (notes a bar), polyphony (notes an onset), length, register, loudness; one control at
a time, on each track a value of its own, drawn evenly between the 10th and the 90th percentile of
held-out music of that role. Measured: the same of what was written, over its bars. Spearman's
correlation of both, for bands of piano, bass and drums from nothing, and for fills of one track of
held-out pieces; without guidance (1) and with. Only what the model has learned is measured; the way
`rules` sets the bounds by which the grammar holds a density too, as `compose` does.

    python benchmarks/controls.py --data SHARDS --model default

What guidance costs: nats per note of held-out music with its own controls told, by the logits
`untold + w * (told - untold)`, against w = 1 and against nothing told.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from bench import arguments, report
from held_out import (
    CONTEXT,
    HeldOut,
    Request,
    guided_scores,
    held_out,
    interval,
    part,
    plain,
    shards_or_music21,
)

from musegen.api import Model
from musegen.evaluation.intervals import spearman
from musegen.guide import RowRequest
from musegen.music.score import Score
from musegen.sampling.draw import Draw
from musegen.sampling.engines.torch import TorchEngine, one_thread
from musegen.sampling.sampler import sample
from musegen.tokens.controls import CELL_CONTROLS, CellControls, measure_cells
from musegen.tokens.events import EventTokenizer
from musegen.tokens.plan import (
    BarPlan,
    CellRule,
    CompositionPlan,
    Region,
    Told,
    TrackPlan,
    Written,
)
from musegen.tokens.vocabulary import DRUM_PROGRAM

CONTROLS = ("density", "polyphony", "length", "register", "loudness")
ROLES = ("piano", "bass", "drums")
WAYS = ("cost", "bands", "rules", "fills")
WEIGHTS = (1.0, 1.5, 2.0, 3.0)
BARS = 4
BEHIND = 4
"""Given bars before a fill, and behind it."""

GOAL, GOAL_WEIGHT = 0.8, 2.0

BAND = (TrackPlan(0), TrackPlan(33, lowest_pitch=23, highest_pitch=67), TrackPlan(0, is_drum=True))


def role_of(program: int) -> str:
    """Which of the roles a program plays, by General MIDI family; empty for others."""
    if program == DRUM_PROGRAM:
        return "drums"
    return {0: "piano", 4: "bass"}.get(program // 8, "")


def measures(notes: dict[str, np.ndarray], bars: int) -> dict[str, float]:
    """The controls as they are in some bars of one track.

    `notes` has the columns bar, onset, pitch, velocity and length_q.
    """
    count = len(notes["pitch"])
    if not count:
        return {"density": 0.0}
    onsets = len(set(zip(notes["bar"].tolist(), notes["onset"].tolist(), strict=True)))
    return {
        "density": count / bars,
        "polyphony": count / onsets,
        "length": float(notes["length_q"].mean()),
        "register": float(notes["pitch"].mean()),
        "loudness": float(notes["velocity"].mean()),
    }


def of_cell(cell: np.ndarray, tokenizer: EventTokenizer) -> dict[str, float]:
    """The controls of one cell's note rows."""
    vocabulary = tokenizer.vocabulary
    columns = {
        "bar": np.zeros(len(cell)),
        "onset": cell[:, 0],
        "pitch": (cell[:, 1] - 1) % 128,
        "velocity": vocabulary.velocity_of(cell[:, 2]),
        "length_q": vocabulary.duration_units[cell[:, 3] - 1] / vocabulary.grid,
    }
    return measures(columns, 1)


def ranges(
    tokenizer: EventTokenizer, pieces: Sequence[HeldOut]
) -> dict[tuple[str, str], tuple[float, float]]:
    """By (role, control): the 10th and 90th percentile over bars with notes."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for item in pieces:
        for place, program in enumerate(item.grid.programs.tolist()):
            role = role_of(program)
            for bar in range(item.grid.num_bars) if role else ():
                cell = item.grid.cell(bar, place)
                if len(cell):
                    for control, value in of_cell(cell, tokenizer).items():
                        values[role, control].append(value)
    found = {}
    for (role, control), column in values.items():
        low, high = np.quantile(column, (0.1, 0.9))
        # A range of nothing cannot be asked for; drums have no length and no register.
        if high - low > 0.05 and not (role == "drums" and control in ("length", "register")):
            found[role, control] = (float(low), float(high))
    return found


def told(control: str, value: float, ruled: bool = False) -> CellRule:
    """What is told in each cell; `ruled` also makes a density a rule of the grammar."""
    if control != "density":
        return CellRule(told=Told(**{control: value}))
    notes = round(value)
    if ruled:
        return CellRule(told=Told(notes=notes), least_notes=notes, most_notes=notes)
    return CellRule(told=Told(notes=notes))


@dataclass(frozen=True, eq=False)
class Asked:
    """One sample: a plan, and what is asked of some of its tracks."""

    plan: CompositionPlan
    values: dict[str, tuple[int, float]]
    """By role: the plan's track and the value."""


def bands(
    control: str,
    limits: dict[tuple[str, str], tuple[float, float]],
    count: int,
    ruled: bool = False,
) -> list[Asked]:
    """Bands from nothing, every track with a value of its own."""
    rng = np.random.default_rng([CONTROLS.index(control), 1])
    result = []
    for _ in range(count):
        values = {
            role: (index, float(rng.uniform(*limits[role, control])))
            for index, role in enumerate(ROLES)
            if (role, control) in limits
        }
        rules = {
            (index, bar): told(control, value, ruled)
            for index, value in values.values()
            for bar in range(BARS)
        }
        bar_plan = BarPlan(4, 4, round(6e7 / 110))
        result.append(Asked(CompositionPlan(BAND, (bar_plan,) * BARS, rules=rules), values))
    return result


def fills(
    control: str,
    limits: dict[tuple[str, str], tuple[float, float]],
    count: int,
    tokenizer: EventTokenizer,
    pieces: Sequence[HeldOut],
) -> list[Asked]:
    """Fills of one track of held-out pieces, roles in turn, pieces in turn."""
    places = {
        role: [
            (item, place)
            for item in pieces
            for place, program in enumerate(item.grid.programs.tolist())
            if role_of(program) == role and item.grid.num_bars >= BARS + 2 * BEHIND
        ]
        for role in ROLES
        if (role, control) in limits
    }
    rng = np.random.default_rng([CONTROLS.index(control), 2])
    result: list[Asked] = []
    for number in range(count):
        role = list(places)[number % len(places)]
        if not places[role]:
            continue
        value = float(rng.uniform(*limits[role, control]))
        for _ in range(20):
            item, place = places[role][rng.integers(len(places[role]))]
            first = int(rng.integers(item.grid.num_bars - BARS - 2 * BEHIND + 1))
            grid = part(item.grid, first, first + BARS + 2 * BEHIND)
            same = (grid.programs == item.grid.programs[place]) & (
                grid.instances == item.grid.instances[place]
            )
            if same.any() and grid.num_tracks > 1 and grid.num_tracks <= 16:
                break
        else:
            continue
        score = tokenizer.decode(grid.rows(tokenizer.vocabulary))
        result.append(Asked(fill_plan(score, int(np.argmax(same)), control, value), {}))
        result[-1].values[role] = (0, value)
    return result


def fill_plan(score: Score, track: int, control: str, value: float) -> CompositionPlan:
    """Bars BEHIND .. BEHIND + BARS - 1 of a track, all else kept."""
    item = score.tracks[track]
    notes = item.notes["pitch"]
    low, high = (int(notes.min()), int(notes.max())) if len(notes) else (0, 127)
    plan_track = TrackPlan(
        item.program,
        item.is_drum,
        seed_track=track,
        lowest_pitch=0 if item.is_drum else max(0, low - 24),
        highest_pitch=127 if item.is_drum else min(127, high + 24),
    )
    rule = told(control, value)
    bars = range(BEHIND, BEHIND + BARS)
    return CompositionPlan(
        (plan_track,),
        (),
        seed=score,
        seed_bars=tuple(score.bars()),
        regions=(Region(0, bars.start, bars.stop),),
        rules={(0, bar): rule for bar in bars},
    )


def write(model: Model, asked: Sequence[Asked], weight: float, batch: int) -> list[Written]:
    """What the model writes, guided by `weight`."""
    from musegen.sampling.engines.guided import GuidedEngine

    engine: Any = TorchEngine(model.network)
    if weight != 1:
        names = [channel.name for channel in model.tokenizer.channels]
        engine = GuidedEngine(engine, [names.index(name) for name in CELL_CONTROLS], weight)
    requests = [
        RowRequest(model.tokenizer.guide(item.plan, engine.max_positions), engine) for item in asked
    ]
    with one_thread():
        return sample(model.network, requests, Draw(7), batch_size=batch).results


def measured(written: Written, track: int) -> dict[str, float]:
    """The controls of a track in what was written."""
    notes = written.notes[written.notes["track"] == track]
    return measures(
        {
            "bar": notes["bar"],
            "onset": notes["onset_q"],
            "pitch": notes["pitch"],
            "velocity": notes["velocity"],
            "length_q": notes["duration_q"],
        },
        BARS,
    )


def with_bounds(asked: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """Spearman's correlation and its 95% bootstrap interval over samples."""
    draws = np.random.default_rng(0).integers(len(asked), size=(500, len(asked)))
    low, high = np.quantile([spearman(asked[i], found[i]) for i in draws], (0.025, 0.975))
    return spearman(asked, found), float(low), float(high)


def obedience(
    model: Model,
    way: str,
    asked_of: dict[str, list[Asked]],
    weights: Sequence[float],
    batch: int,
) -> tuple[list[dict[str, Any]], dict[tuple[str, str, float], float]]:
    """Lines of the table, and Spearman's correlation by (control, role, weight)."""
    rows, found = [], {}
    for control, asked in asked_of.items():
        for weight in weights:
            results = write(model, asked, weight, batch)
            for role in ROLES:
                pairs = []
                silent = 0
                for item, written in zip(asked, results, strict=True):
                    if role in item.values:
                        track, value = item.values[role]
                        value = round(value) if control == "density" else value
                        got = measured(written, track)
                        silent += control not in got
                        if control in got:
                            pairs.append((value, got[control]))
                if len(pairs) < 3:
                    continue
                a, b = np.array(pairs).T
                rho, low, high = with_bounds(a, b)
                found[control, role, weight] = rho
                rows.append(
                    {
                        "way": way,
                        "control": control,
                        "track": role,
                        "guidance": weight,
                        "samples": len(pairs),
                        "silent": silent,
                        "asked": f"{a.min():.3g}..{a.max():.3g}",
                        "measured": "{:.3g}..{:.3g}".format(*np.quantile(b, (0.1, 0.9))),
                        "mean error": float((b - a).mean()),
                        "spearman": round(rho, 3),
                        "95%": f"{low:.2f} {high:.2f}",
                    }
                )
                print(rows[-1], flush=True)
    return rows, found


def excerpts(tokenizer: EventTokenizer, pieces: Sequence[HeldOut]) -> list[Request]:
    """An excerpt of each piece, everything to be written."""
    result = []
    for item in pieces:
        rng = item.rng("controls")
        for bars in (16, 8, 4, 2):
            if item.grid.num_bars < bars:
                continue
            first = int(rng.integers(item.grid.num_bars - bars + 1))
            grid = part(item.grid, first, first + bars)
            if not len(grid.notes):
                continue
            request = Request(item, first, grid, np.zeros(grid.counts.shape, dtype=bool))
            if len(request.document(tokenizer, plain(request))) <= CONTEXT:
                result.append(request)
                break
    return result


def only(measured: CellControls, kinds: Sequence[str]) -> CellControls:
    """The controls with only some kinds told."""
    nothing = CellControls.none(*measured.notes_left.shape)
    return replace(nothing, **{kind: getattr(measured, kind) for kind in kinds})


def cost(
    model: Model,
    tokenizer: EventTokenizer,
    requests: Sequence[Request],
    guidance: Sequence[float],
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Nats per note with the true controls told, by guidance, against nothing told."""
    weights = (0.0, 1.0, *(weight for weight in guidance if weight != 1))
    notes = np.array([request.notes for request in requests])
    rows, ratios = [], {}
    untold = [request.document(tokenizer, plain(request)) for request in requests]
    for name, kinds in [*((c, (k,)) for c, k in zip(CONTROLS, CELL_CONTROLS, strict=True)),
                        ("all five", CELL_CONTROLS)]:  # fmt: skip
        documents = [
            request.scored(
                tokenizer,
                plain(request),
                only(measure_cells(request.grid, tokenizer.vocabulary), kinds),
            )
            for request in requests
        ]
        nats = guided_scores(model.network, documents, untold, weights).sum(-1)
        line: dict[str, Any] = {"told": name, "nothing told": round(nats[0].sum() / notes.sum(), 3)}
        for number, weight in enumerate(weights[1:], start=1):
            line[f"w {weight:g}"] = round(nats[number].sum() / notes.sum(), 3)
        for number, weight in enumerate(weights[2:], start=2):
            line[f"w {weight:g} - w 1"] = "{:+.3f} ({:+.3f} {:+.3f})".format(
                *interval(nats[number] - nats[1], notes)
            )
        rows.append(line)
        ratios[f"{name} told, nats saved a note"] = float((nats[0] - nats[1]).sum() / notes.sum())
    return rows, ratios


def main() -> None:
    from bench import table

    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="a name or a folder")
    parser.add_argument("--samples", type=int, default=200, help="samples of each control")
    parser.add_argument("--controls", nargs="*", default=list(CONTROLS), choices=CONTROLS)
    parser.add_argument("--weights", nargs="*", type=float, default=list(WEIGHTS))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--batch", type=int, default=20, help="samples side by side")
    options = parser.parse_args()
    samples = 6 if options.quick else options.samples
    weights = [1.0, GOAL_WEIGHT] if options.quick else options.weights
    controls = ["density", "register"] if options.quick else options.controls
    model = Model.from_pretrained(options.model, "cpu")
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    goals: dict[str, float] = {}
    with shards_or_music21(options.data) as (shards, splits):
        tokenizer, pieces = held_out(shards, splits, least_tracks=1)
        limits = ranges(tokenizer, held_out(shards, splits, 1, 10_000)[1])
        if "cost" in options.ways:
            some = pieces[:6] if options.quick else pieces
            lines, saved = cost(model, tokenizer, excerpts(tokenizer, some), weights)
            print(table(lines), "\n")
            ratios |= saved
            goals |= dict.fromkeys(saved, 0.0)
        if options.quick:  # music21 has no bands
            limits = {(role, "density"): (2.0, 8.0) for role in ROLES}
            limits[("piano", "register")] = (50.0, 70.0)
        if "bands" in options.ways:
            asked = {control: bands(control, limits, samples) for control in controls}
            lines, found = obedience(model, "band", asked, weights, options.batch)
            rows += lines
            for (control, role, weight), rho in found.items():
                if weight == GOAL_WEIGHT:
                    ratios[f"{control} {role}, spearman at guidance {weight:g}"] = rho
                    goals[f"{control} {role}, spearman at guidance {weight:g}"] = GOAL
        if "rules" in options.ways and "density" in controls:
            asked = {"density": bands("density", limits, samples, ruled=True)}
            rows += obedience(model, "rule", asked, [1.0], options.batch)[0]
        if "fills" in options.ways:
            asked = {
                control: fills(control, limits, samples, tokenizer, pieces) for control in controls
            }
            some_weights = [w for w in weights if w in (1.0, GOAL_WEIGHT)]
            rows += obedience(model, "fill", asked, some_weights, 8)[0]
    met = report("controls", rows, ratios, goals)
    sys.exit(0 if met or options.quick else 1)


if __name__ == "__main__":
    main()
