"""Musical ideas as points of a space: ways between them, variations, more of this, less of that.

```
pieces = interpolate("a.mid", "b.mid", bars_a="1-4", bars_b="9-12", steps=8)
pieces = vary("song.mid", bars="5-8", amount=0.3, num=6)
piece = morph("song.mid", bars="5-8", density=+2)
piece = average(["a.mid", "b.mid"])
```

Bars become latents of a `BarModel`, latents bars again. Letters: K bars, J tracks, Z numbers of a
latent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from musegen import __version__
from musegen.bar_model import BarModel, slerp
from musegen.errors import CheckpointError, UsageError
from musegen.idea_origin import IdeaOrigin, named_files
from musegen.idea_sections import (
    Section,
    aligned,
    fresh,
    parse_range,
    section,
    shapes_of,
    with_bars,
)
from musegen.music.piece import Piece
from musegen.music.score import Score
from musegen.tokens.bars import ATTRIBUTE_STEPS, ATTRIBUTES, measure_bars

__all__ = ["average", "evaluate", "interpolate", "morph", "parse_range", "remake", "vary"]


OnProgress = Callable[[float, float | None, str], None]

_MOST = np.array([np.inf, 1.0, np.inf])
"""Of `ATTRIBUTES`: rhythm is a share."""


def _latents(model: BarModel, one: Section) -> np.ndarray:
    """(K, Z): the means of the posteriors, bettered."""
    return model.encode(one.grid, refine=model.refine_steps)[1]


def _rows(on_progress: OnProgress | None) -> Callable[[int], None] | None:
    """For `decode`, which cannot know how many rows there will be."""
    if on_progress is None:
        return None
    return lambda rows: on_progress(rows, None, f"{rows} notes")


# --- The verbs ------------------------------------------------------------------------------------


def interpolate(
    a: Any,
    b: Any,
    *,
    bars_a: str | None = None,
    bars_b: str | None = None,
    steps: int = 8,
    model: str | os.PathLike[str] | BarModel = "bars",
    temperature: float = 0.0,
    random_seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Piece]:
    """The way from one section to another, in `steps` pieces; the first and the last are real.

    Latents go along the great arc (`slerp`), bar by bar, and the steps are even in the music:
    of more points than are asked for, those are taken whose notes change most evenly. A shorter
    section is stretched: bar k of L takes its bar floor(k * own / L). Tracks that one of them lacks
    are silent there. Tempo, key and names of tracks are those of `a`.

    Raises:
        UsageError: fewer than two steps, no such bars, meters that differ.
        MidiError, CheckpointError: a file, or the model, cannot be read.
    """
    if not 2 <= steps <= 256:
        raise UsageError(f"{steps} steps: 2 to 256; the two ends are 2 already")
    used = _model(model)
    both, notes = aligned([section(used, a, bars_a), section(used, b, bars_b)])
    latents = [_latents(used, one) for one in both]
    count = max(one.grid.num_bars for one in both)
    places = [[bar * one.grid.num_bars // count for bar in range(count)] for one in both]
    if both[0].grid.num_bars != both[1].grid.num_bars:
        shorter = min(both, key=lambda one: one.grid.num_bars)
        notes.append(f"{shorter.name} has {shorter.grid.num_bars} bars for {count}: stretched")
    for bar, (one, other) in enumerate(zip(*places, strict=True)):
        meters = [both[0].grid.meters[one], both[1].grid.meters[other]]
        if meters[0] != meters[1]:
            named = [
                "{}/{}".format(*used.tokenizer.vocabulary.meters[int(meter)]) for meter in meters
            ]
            raise UsageError(
                f"bar {bar + 1} is in {named[0]} on one side and in {named[1]} on the other; "
                "choose bars of the same meter"
            )
    shapes = [shapes_of(both[0])[bar] for bar in places[0]]
    first, last = ([one.notes(bar) for bar in own] for one, own in zip(both, places, strict=True))
    found = used.way(
        shapes,
        (first, last),
        latents[0][places[0]],
        latents[1][places[1]],
        steps,
        temperature=temperature,
        seed=random_seed,
        on_step=_rows(on_progress),
    )
    options = {"bars_a": bars_a, "bars_b": bars_b, "steps": steps, "temperature": temperature}
    origin = _origin(used, "interpolate", (a, b), random_seed, options)
    return [
        _piece(fresh(both, used, shapes, bars), replace(origin, step=step), notes)
        for step, bars in enumerate(found)
    ]


def vary(
    source: Any,
    *,
    bars: str | None = None,
    amount: float = 0.3,
    num: int = 1,
    model: str | os.PathLike[str] | BarModel = "bars",
    temperature: float = 0.0,
    random_seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Piece]:
    """Variations of some bars; everything else of the piece stays, tick for tick.

    Each latent becomes sqrt(1 - amount^2) z + amount eps with eps from the prior N(0, I), which
    leaves what is drawn from the prior distributed like the prior: 0 changes nothing, 1 forgets the
    bars.

    Raises:
        UsageError: an amount outside 0 to 1, no such bars. MidiError, CheckpointError as above.
    """
    if not 0.0 <= amount <= 1.0:
        raise UsageError(f"amount {amount:g}: 0 (as it is) to 1 (anything)")
    if not 1 <= num <= 1000:
        raise UsageError(f"{num} variations: 1 to 1000")
    used = _model(model)
    one = section(used, source, bars)
    z, shapes = _latents(used, one), shapes_of(one)
    options = {"bars": bars, "amount": amount, "temperature": temperature}
    origin = _origin(used, "vary", (source,), random_seed, options)
    pieces = []
    for number in range(num):
        rng = np.random.default_rng([random_seed, number])
        moved = np.sqrt(1.0 - amount**2) * z + amount * rng.standard_normal(z.shape)
        if amount:
            written = used.decode(
                shapes, moved, temperature=temperature, seed=random_seed + number, in_range=True
            )
            score = with_bars(one, used, written)
        else:
            score = one.score
        if on_progress is not None:
            on_progress(number + 1, num, "")
        pieces.append(_piece(score, replace(origin, step=number), one.mended))
    return pieces


def morph(
    source: Any,
    *,
    bars: str | None = None,
    density: float = 0.0,
    rhythm: float = 0.0,
    polyphony: float = 0.0,
    model: str | os.PathLike[str] | BarModel = "bars",
    random_seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Piece:
    """Some bars with more or less of an attribute; everything else stays, tick for tick.

    Latents move along the attributes' directions, several times, by several distances; what comes
    out is measured, bar by bar, and the nearest to what is asked is taken (`BarModel.moved`): in
    `info["asked"]` and `info["measured"]`, as means over the bars. A step is a note a quarter
    (density), an onset in one more of four quarter beats (rhythm), a note more at once (polyphony).

    Raises:
        UsageError: nothing is asked, no such bars, a model without such directions.
        MidiError, CheckpointError: as above.
    """
    steps = {"density": density, "rhythm": rhythm, "polyphony": polyphony}
    for name, value in steps.items():
        if not np.isfinite(value):
            raise UsageError(f"{name} {value:g}: give a finite number of steps, as in 1 or -0.5")
    asked = np.array([steps[name] for name in ATTRIBUTES]) * np.array(ATTRIBUTE_STEPS)
    if not asked.any():
        raise UsageError("nothing is asked: give density, rhythm intensity or polyphony")
    used = _model(model)
    one = section(used, source, bars)
    before = measure_bars(one.grid, used.tokenizer.vocabulary)  # (K, 3)
    given = [one.notes(bar) for bar in range(len(before))]
    found, measured = used.moved(
        shapes_of(one),
        _latents(used, one),
        before,
        asked,
        given=given,
        seed=random_seed,
        on_step=None if on_progress is None else lambda done, total: on_progress(done, total, ""),
    )
    score = with_bars(one, used, found)
    told = {
        name: dict(zip(ATTRIBUTES, values.mean(0).round(3).tolist(), strict=True))
        for name, values in (
            ("before", before),
            ("asked", np.clip(before + asked, 0.0, _MOST)),
            ("measured", measured),
        )
    }
    origin = _origin(used, "morph", (source,), random_seed, {"bars": bars, **steps})
    return _piece(score, origin, one.mended, **told)


def average(
    sources: Sequence[Any],
    *,
    bars: Sequence[str | None] = (),
    model: str | os.PathLike[str] | BarModel = "bars",
    temperature: float = 0.0,
    random_seed: int = 0,
) -> Piece:
    """What lies in the middle of several sections, as long as the longest of them.

    The mean direction of the latents at their mean length, bar by bar (shorter sections are
    stretched); tempo, key and names of tracks are those of the first.

    Raises:
        UsageError: fewer than two, no such bars, meters that differ. MidiError, CheckpointError.
    """
    if len(sources) < 2:
        raise UsageError("an average is of two pieces at least")
    if bars and len(bars) != len(sources):
        raise UsageError(f"{len(bars)} ranges of bars for {len(sources)} pieces")
    used = _model(model)
    ranges = list(bars) or [None] * len(sources)
    sections, notes = aligned(
        [section(used, each, span) for each, span in zip(sources, ranges, strict=True)]
    )
    count = max(one.grid.num_bars for one in sections)
    places = [[bar * one.grid.num_bars // count for bar in range(count)] for one in sections]
    for bar in range(count):
        meters = {int(one.grid.meters[own[bar]]) for one, own in zip(sections, places, strict=True)}
        if len(meters) > 1:
            raise UsageError(f"bar {bar + 1} has other meters in other pieces; choose equal ones")
    every = [_latents(used, one)[own] for one, own in zip(sections, places, strict=True)]
    middle = every[0]
    for number, other in enumerate(every[1:], 2):
        middle = slerp(middle, other, 1.0 / number)
    shapes = [shapes_of(sections[0])[bar] for bar in places[0]]
    written = used.decode(shapes, middle, temperature=temperature, seed=random_seed, in_range=True)
    score = fresh(sections, used, shapes, written)
    spans = [span or f"1-{one.grid.num_bars}" for span, one in zip(ranges, sections, strict=True)]
    options = {"bars": spans if bars else [], "temperature": temperature}
    return _piece(score, _origin(used, "average", sources, random_seed, options), notes)


def remake(
    origin: IdeaOrigin,
    folder: str | os.PathLike[str] = ".",
    *,
    model: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Piece:
    """Makes a file again from what it says of itself (`musegen.idea_origin`).

    Args:
        origin: what it says.
        folder: where its sources are looked for, by name; the working folder is the other place.
        model: the model, where it is not the installed one of its name.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        MidiError: a source is not found, or has changed.
        CheckpointError: the weights are others.
    """
    files = origin.find_sources(Path(folder))
    used = BarModel.from_pretrained(model or origin.model, "cpu")
    if used.weights != origin.weights:
        raise CheckpointError(
            f"model {str(model or origin.model)!r} has other weights than the file was made with "
            f"({origin.weights[:12]}...); name the model that has them with --model"
        )
    options: dict[str, Any] = {**origin.options, "model": used, "random_seed": origin.random_seed}
    if origin.verb == "average":
        return average(files, **options)
    options["on_progress"] = on_progress
    if origin.verb == "morph":
        return morph(*files, **options)
    if origin.verb == "vary":
        return vary(*files, num=origin.step + 1, **options)[origin.step]
    return interpolate(*files, **options)[origin.step]


def evaluate(
    data: str | os.PathLike[str],
    model: str | os.PathLike[str] | BarModel = "bars",
    *,
    num: int = 200,
    random_seed: int = 0,
    splits: Sequence[str] = ("valid", "test"),
    language: str | os.PathLike[str] | None = "default",
    source: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measures an autoencoder of bars on held-out bars (`musegen.evaluation.bars`).

    Args:
        data: a card's name, a folder of MIDI, or a folder of shards.
        model: a name, a folder, or a loaded model.
        num: bars of each kind, ways, sliders.
        random_seed: the same seed gives the same figures.
        splits: whose pieces.
        language: the transformer that is asked what it thinks of the ways; None asks none.
        source: where a card's files lie.
        workers: processes that encode the files; all cores by default.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError, DataError, CheckpointError: the data or a model cannot be used.
    """
    from musegen.data.build import open_or_build
    from musegen.evaluation.bars import evaluate_bars
    from musegen.model import Model

    if num < 2:
        raise UsageError(f"num {num}: at least 2 bars")
    used = _model(model)
    with tempfile.TemporaryDirectory() as temporary:
        shards = open_or_build(
            Path(data),
            Path(temporary) / "shards",
            preset=used.tokenizer,
            source=Path(source) if source is not None else None,
            workers=workers,
            on_progress=on_progress,
        )
        asked = None
        if language is not None:
            other = Model.from_pretrained(language, "cpu", engine="torch")
            asked = (other.network, other.tokenizer)
        return evaluate_bars(used, shards, splits, num, random_seed, asked, on_progress)


# --- Shared --------------------------------------------------------------------------------------


def _model(model: str | os.PathLike[str] | BarModel) -> BarModel:
    return model if isinstance(model, BarModel) else BarModel.from_pretrained(model, "cpu")


_DEFAULTS = {"steps": 8, "temperature": 0.0, "bars": [], "amount": 0.3}


def _origin(
    model: BarModel,
    verb: str,
    sources: Sequence[Any],
    random_seed: int,
    options: Mapping[str, Any],
) -> IdeaOrigin:
    """What a piece says of how it was made."""
    said = {
        name: value
        for name, value in options.items()
        if value is not None and value != _DEFAULTS.get(name, 0.0)
    }
    return IdeaOrigin(
        version=__version__,
        verb=verb,
        model=os.path.basename(model.folder) or "bars",
        weights=model.weights,
        random_seed=random_seed,
        options=said,
        sources=named_files(sources),
    )


def _piece(score: Score, origin: IdeaOrigin, notes: Sequence[str], **info: Any) -> Piece:
    """A piece that says how it was made."""
    facts = {"random_seed": origin.random_seed, "model": origin.model, "step": origin.step, **info}
    return Piece(origin.told(score), tuple(notes), facts)
