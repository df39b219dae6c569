"""What an autoencoder of bars is measured by, on held-out bars.

Failures stay in every mean: a bar that comes back empty has F1 0, a sample that makes no score is
not valid. F1 is of sets of (track, onset, pitch), and of (track, onset, pitch, duration).

Letters: N bars, J tracks, Z numbers of a latent, S steps of a way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from musegen.data.shards import ShardPiece, ShardSet
from musegen.data.splits import place_of
from musegen.errors import DataError, MusegenError
from musegen.evaluation.bar_ways import BarSample, interpolation, latents_of
from musegen.evaluation.intervals import spearman
from musegen.tokens.bars import ATTRIBUTE_STEPS, ATTRIBUTES, BarShape, measure_bars
from musegen.tokens.grid import Grid
from musegen.tokens.ways import BarNotes, f1, notes_of

__all__ = ["KINDS", "bars_markdown", "evaluate_bars", "held_out_bars", "signature"]

KINDS = ("one voice", "one track", "several tracks")
"""One note at a time in one track; all of one track; all of at least two that sound."""

ACTIVE_VARIANCE = 0.01
Progress = Callable[[float, float | None, str], None]


def held_out_bars(
    model: Any, shards: ShardSet, splits: Sequence[str], kind: str, count: int, seed: int
) -> list[BarSample]:
    """Held-out bars of a kind: pieces come in turn, bars at random; fewer where there are no more.

    Bars that are too long for the model are no part of its bargain and are left out.
    """
    vocabulary, longest = model.tokenizer.vocabulary, model.config.longest
    pieces = [piece for split in splits for piece in shards.split(split)]
    pieces.sort(key=lambda piece: place_of(f"{piece.corpus}/{piece.name}"))
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    found: list[BarSample] = []
    for turn in range(8):
        for piece in pieces:
            if len(found) == count:
                return found
            sample = _bar(model, shards, piece, kind, rng, vocabulary, longest)
            if sample is not None:
                found.append(sample)
        if not found and turn:
            break
    return found


def _bar(
    model: Any,
    shards: ShardSet,
    piece: ShardPiece,
    kind: str,
    rng: np.random.Generator,
    vocabulary: Any,
    longest: int,
) -> BarSample | None:
    grid = Grid.from_rows(shards.rows(piece), vocabulary)
    bar = int(rng.integers(grid.num_bars))
    counts = grid.counts[bar]
    sounding = np.flatnonzero(counts)
    if not len(sounding) or (kind == "several tracks" and len(sounding) < 2):
        return None
    tracks = sounding if kind == "several tracks" else rng.choice(sounding, 1)
    if model.config.lead + 1 + len(tracks) + counts[tracks].sum() > longest:
        return None
    part = grid.part(bar, bar + 1, tracks)
    if kind == "one voice" and len(np.unique(part.notes[:, 0])) < len(part.notes):
        return None
    shape = BarShape(
        int(part.meters[0]),
        int(part.tempos[0]),
        tuple(part.programs.tolist()),
        tuple(part.instances.tolist()),
    )
    notes = [part.cell(0, track) for track in range(part.num_tracks)]
    return BarSample(shape, notes, part, f"{piece.corpus}/{piece.name}")


# --- Reconstruction, the prior --------------------------------------------------------------------


def reconstruction(
    model: Any, bars: Sequence[BarSample], latents: np.ndarray, temperature: float, seed: int
) -> dict[str, float]:
    """Bars given back from their latents (N, Z)."""
    written = model.decode([bar.shape for bar in bars], latents, temperature=temperature, seed=seed)
    figures: dict[str, float] = {"bars": len(bars)}
    for name, durations in (("f1", False), ("f1_with_duration", True)):
        pairs = [
            (notes_of(bar.notes, durations), notes_of(notes, durations))
            for bar, notes in zip(bars, written, strict=True)
        ]
        figures[name] = float(np.mean([f1(*pair) for pair in pairs]))
        both = sum(len(one & other) for one, other in pairs)
        figures[f"{name}_over_notes"] = 2 * both / max(1, sum(len(a) + len(b) for a, b in pairs))
        if durations:
            figures["exact"] = float(np.mean([one == other for one, other in pairs]))
    return figures


def prior_figures(
    model: Any, bars: Sequence[BarSample], known: set[frozenset[Any]], seed: int
) -> dict[str, float]:
    """Bars of the shapes of held-out ones, drawn from N(0, I) at temperature 1.

    `valid` is the share that makes a score without an error, `copies` the share that equal a
    training bar (notes and their places, in any key), beside that of the held-out bars.
    """
    shapes = [bar.shape for bar in bars]
    written = model.decode(shapes, None, temperature=1.0, seed=seed, in_range=True)
    valid = 0
    for shape, notes in zip(shapes, written, strict=True):
        try:
            model.score([shape], [notes])
            valid += 1
        except MusegenError:
            pass
    count = max(1, len(bars))
    return {
        "samples": len(bars),
        "valid": valid / count,
        "notes": float(np.mean([sum(map(len, notes)) for notes in written])) if bars else 0.0,
        "held_out_notes": float(np.mean([sum(map(len, bar.notes)) for bar in bars])),
        "empty": sum(not sum(map(len, notes)) for notes in written) / count,
        "copies": sum(signature(notes) in known for notes in written) / count,
        "held_out_copies": sum(signature(bar.notes) in known for bar in bars) / count,
    }


def signature(bar: BarNotes) -> frozenset[Any]:
    """The notes of a bar in any key: tracks as they come, pitches from the lowest."""
    pitched = [rows[:, 1] for rows in bar if len(rows)]
    if not pitched:
        return frozenset()
    low = int(np.concatenate(pitched).min())
    return frozenset(
        (track, head, pitch - low)
        for track, rows in enumerate(bar)
        for head, pitch in rows[:, :2].tolist()
    )


def training_bars(model: Any, shards: ShardSet) -> set[frozenset[Any]]:
    """The signatures of all bars of the training pieces: whole, and of each track alone."""
    known: set[frozenset[Any]] = set()
    for piece in shards.split("train"):
        grid = Grid.from_rows(shards.rows(piece), model.tokenizer.vocabulary)
        for bar in range(grid.num_bars):
            cells = [grid.cell(bar, track) for track in range(grid.num_tracks)]
            cells = [cell for cell in cells if len(cell)]
            known.add(signature(cells))
            known.update(signature([cell]) for cell in cells)
    known.discard(frozenset())
    return known


# --- Attributes -----------------------------------------------------------------------------------


def sliders(
    model: Any, bars: Sequence[BarSample], latents: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """Of each attribute: Spearman's correlation of asked and measured, and how far others drift.

    Each bar is asked for a value that another held-out bar has. Drift is the mean absolute change
    of the two others, in steps of the `morph` verb.
    """
    rng = np.random.default_rng(seed)
    vocabulary = model.tokenizer.vocabulary
    before = np.array([measure_bars(bar.grid, vocabulary)[0] for bar in bars])
    shapes, given = [bar.shape for bar in bars], [list(bar.notes) for bar in bars]
    steps = np.array(ATTRIBUTE_STEPS)
    result = {}
    for number, name in enumerate(ATTRIBUTES):
        goal = rng.permutation(before[:, number])
        asked = np.zeros_like(before)
        asked[:, number] = goal - before[:, number]
        _, measured = model.moved(shapes, latents, before, asked, given=given)
        others = [index for index in range(len(ATTRIBUTES)) if index != number]
        drift = np.abs(measured - before)[:, others] / steps[others]
        result[name] = {
            "spearman": spearman(goal, measured[:, number]),
            "unmoved_spearman": spearman(goal, before[:, number]),
            "drift": float(drift.mean()),
            "moved": float(np.abs(asked[:, number]).mean() / steps[number]),
        }
    return result


# --- All of it ------------------------------------------------------------------------------------


def evaluate_bars(
    model: Any,
    shards: ShardSet,
    splits: Sequence[str],
    num: int,
    seed: int,
    language: tuple[Any, Any] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """All figures, as plain data.

    Args:
        model: a `musegen.bar_model.BarModel`.
        shards: where the pieces are; built with the model's preset.
        splits: whose pieces.
        num: bars of each kind, ways, sliders.
        seed: of everything random: the same seed gives the same figures.
        language: a transformer's network and tokenizer, for what it thinks of the ways.
        on_progress: called as `on_progress(done, stages, text)`.

    Raises:
        DataError: the shards are of another preset, or hold no such bars.
    """
    if tuple(shards.field_sizes) != tuple(model.tokenizer.field_sizes):
        raise DataError(f"{shards.folder} was built with another preset than the model's")
    stages = 2 * len(KINDS) + 4

    def tell(done: int, text: str) -> None:
        if on_progress is not None:
            on_progress(done, stages, text)

    result: dict[str, Any] = {"splits": list(splits), "seed": seed, "reconstruction": {}}
    result["refine_steps"] = model.refine_steps
    samples: dict[str, list[BarSample]] = {}
    refined: dict[str, np.ndarray] = {}
    for number, kind in enumerate(KINDS):
        tell(2 * number, f"giving bars back: {kind}")
        samples[kind] = held_out_bars(model, shards, splits, kind, num, seed)
        if not samples[kind]:
            continue
        plain = latents_of(model, samples[kind])
        refined[kind] = latents_of(model, samples[kind], model.refine_steps)
        greedy = reconstruction(model, samples[kind], plain, 0.0, seed)
        tell(2 * number + 1, f"giving bars back: {kind}, temperature 1")
        drawn = reconstruction(model, samples[kind], plain, 1.0, seed)
        better = reconstruction(model, samples[kind], refined[kind], 0.0, seed)
        told = np.sum([model.right(bar.grid) for bar in samples[kind]], axis=0)
        result["reconstruction"][kind] = {
            **greedy,
            "accuracy": float(told[0] / max(1, told[1])),
            **{f"{name}_at_1": value for name, value in drawn.items() if name != "bars"},
            **{f"{name}_refined": value for name, value in better.items() if name != "bars"},
        }
    every = [bar for kind in KINDS for bar in samples[kind]]
    if not every:
        raise DataError(f"{shards.folder} has no bars of {' or '.join(splits)} that fit the model")
    tell(6, "the posterior")
    result["posterior"] = posterior_figures(model, every)
    several = samples[KINDS[2]] or every
    tell(7, "the prior")
    result["prior"] = prior_figures(model, several, training_bars(model, shards), seed)
    tell(8, "ways")
    pool = [
        bar
        for kind in KINDS[1:]
        for bar in held_out_bars(model, shards, ("train",), kind, 5 * num, seed)
    ]
    mixed = [
        (samples[kind][place], refined[kind][place])
        for place in range(num)
        for kind in KINDS
        if place < len(samples[kind])
    ]
    result["interpolation"] = interpolation(model, mixed, pool, num, seed, language)
    tell(9, "sliders")
    result["attributes"] = {
        kind: sliders(model, samples[kind], refined[kind], seed)
        for kind in KINDS[1:]
        if samples[kind]
    }
    tell(stages, "done")
    return result


def posterior_figures(model: Any, bars: Sequence[BarSample]) -> dict[str, float]:
    """KL to N(0, I) in nats a bar, and the share of active units over these bars."""
    both = np.concatenate([model.posterior(bar.grid) for bar in bars])  # (N, 2, Z)
    mean, log_var = both[:, 0], both[:, 1]
    kl = 0.5 * (np.square(mean) + np.exp(log_var) - 1.0 - log_var).sum(1)
    return {
        "kl_per_bar": float(kl.mean()),
        "active": float((mean.var(0) > ACTIVE_VARIANCE).mean()),
    }


def bars_markdown(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [f"# Bars given back, drawn and walked between ({', '.join(found['splits'])})", ""]
    columns = ("bars", "F1", "with duration", "exact", "at temperature 1", "accuracy", "refined")
    lines += ["| bars of | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for kind, own in found["reconstruction"].items():
        figures = ("f1", "f1_with_duration", "exact", "f1_at_1", "accuracy", "f1_refined")
        told = " | ".join(f"{own[name]:.3f}" for name in figures)
        lines.append(f"| {kind} | {own['bars']} | {told} |")
    prior, posterior = found["prior"], found["posterior"]
    lines += [
        "",
        "F1 of notes (track, onset, pitch), greedy, from the posterior's mean; means over bars. "
        "Accuracy: of fields, with the notes before as they are. "
        f"Refined: from latents that {found['refine_steps']} steps of descent have bettered, as "
        "the verbs use.",
        f"KL to N(0, I): {posterior['kl_per_bar']:.1f} nats a bar; "
        f"{posterior['active']:.1%} of the units are active.",
        "",
        f"Drawn from N(0, I): {prior['valid']:.1%} of {prior['samples']} are valid, "
        f"{prior['empty']:.1%} empty, {prior['notes']:.1f} notes a bar "
        f"(held-out {prior['held_out_notes']:.1f}); {prior['copies']:.1%} equal a training bar "
        f"(held-out {prior['held_out_copies']:.1%}).",
        "",
        f"| {found['interpolation']['ways']} ways | monotone steps | largest jump over mean | "
        "nats a note over those of the ends |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in ("latent", "blend", "nearest"):
        own = found["interpolation"][name]
        if own:
            nats = f"{own['nats_over_ends']:.3f}" if "nats_over_ends" in own else ""
            lines.append(f"| {name} | {own['monotone']:.3f} | {own['largest_jump']:.2f} | {nats} |")
    lines += ["", "| slider | bars of | asked against measured (Spearman) | drift of the others |"]
    lines += ["| --- | --- | ---: | ---: |"]
    for kind, sliders_of in found["attributes"].items():
        for name, own in sliders_of.items():
            drift = f"{own['drift']:.2f} for {own['moved']:.2f}"
            lines.append(f"| {name} | {kind} | {own['spearman']:.3f} | {drift} |")
    lines += ["", "Drift and what was asked for are mean changes, in steps of `musegen morph`."]
    return "\n".join(lines) + "\n"
