"""Bars like given ones: from a file and its bars to what a transformer is told of each cell.

An autoencoder of bars (bar_model.py) makes a latent z of each cell, a bar of one track by itself;
the transformer adds a projection of z to the embeddings of the rows of the cell that is to be like
it (models/layers.py, `Likeness`).

Letters: K bars, J tracks, Z numbers of a latent, D width of the transformer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from musegen.assets import is_packaged, weights_path
from musegen.bar_model import BarModel
from musegen.data.cell_latents import CellLatents, write_cell_latents
from musegen.data.shards import ShardSet
from musegen.errors import CheckpointError, DataError, MidiError, UsageError
from musegen.model import Model
from musegen.music.piece import Piece
from musegen.provenance import file_sha256
from musegen.tokens.grid import Grid
from musegen.tokens.plan import Alike, CompositionPlan, TrackPlan
from musegen.tokens.planning import Planned
from musegen.tokens.vocabulary import DRUM_PROGRAM, FIRST_POSITION, PITCH
from musegen.tokens.wishes import Controls

__all__ = [
    "cell_latents",
    "encoder_of",
    "latent_settings",
    "likes_of",
    "shard_latents",
    "with_likeness",
]

AUTOENCODER, INSTALLED = "autoencoder", "bars"
"""The folder within a model's, and the name of the one that comes with musegen."""

OnProgress = Callable[[float, float | None, str], None]


def cell_latents(model: BarModel, grid: Grid) -> np.ndarray:
    """(K, J, Z): the posterior mean of each cell, a bar of one track by itself.

    A cell that is longer than the model holds has zeros: nothing is told of it.
    """
    found = np.zeros((grid.num_bars, grid.num_tracks, model.config.latent))
    counts, longest = grid.counts, _longest(model)
    for track in range(grid.num_tracks):
        part = grid.part(0, grid.num_bars, np.array([track]))
        same: dict[bytes, list[int]] = {}  # much of music is said twice
        for bar in np.flatnonzero(counts[:, track] <= longest).tolist():
            header = np.array((part.meters[bar], part.tempos[bar]))
            same.setdefault(header.tobytes() + part.cell(bar, 0).tobytes(), []).append(bar)
        bars = [group[0] for group in same.values()]
        if bars:
            for group, latent in zip(same.values(), model.encode(part, bars)[1], strict=True):
                found[group, track] = latent
    return found


def _longest(model: BarModel) -> int:
    """Notes of one track that the model holds of a bar."""
    return model.config.longest - model.config.lead - 2


def encoder_of(model: Model) -> BarModel:
    """The autoencoder whose latents a transformer may be told: in its folder, or the installed one.

    Raises CheckpointError where it may be told none, or it was trained with those of another.
    """
    wanted = model.latent_of()
    own = model.checkpoint.folder / AUTOENCODER
    encoder = BarModel.from_pretrained(own if own.is_dir() else INSTALLED, "cpu")
    if encoder.weights != wanted:
        raise CheckpointError(
            f"model {model.checkpoint.folder.name!r} was trained with the latents of another "
            f"autoencoder ({wanted[:12]}...) than is installed ({encoder.weights[:12]}...): put "
            f"that one's folder into the model's, as {AUTOENCODER}/"
        )
    return encoder


def with_likeness(planned: Planned, model: Model, controls: Controls) -> Planned:
    """The plan with what the model is told of each cell that is to be like a bar of a file.

    Raises:
        CheckpointError: the model, or the autoencoder that is installed, knows no such latents.
        UsageError: a bar that the file has not, of another meter, or without a track that fits.
        MidiError: a file cannot be read.
    """
    plan = planned.plan
    wanted = {cell: rule.like for cell, rule in plan.rules.items() if rule.like is not None}
    if not wanted:
        return planned
    encoder = encoder_of(model)
    told: dict[tuple[int, int], Alike] = {}
    warnings: dict[str, None] = {}
    grids = {file: encoder.grid(Piece.load(file)) for file in _files(controls)}
    for wish in controls.wishes():
        if wish.kind == "like" and wish.value.last_bar > grids[wish.value.file].num_bars:
            raise UsageError(f"{wish.text}: the file has {grids[wish.value.file].num_bars} bars")
    known: dict[tuple[str, int, int], Alike] = {}
    for (track, bar), (file, source_bar) in wanted.items():
        text, item, grid = plan.rules[track, bar].origins["like"], plan.tracks[track], grids[file]
        source = _source_track(item, grid)
        if source is None:
            kind = "drums" if item.is_drum else "track with pitches"
            warnings[f"{text}: there is no {kind} in it, so that one is told nothing"] = None
            continue
        _check_bar(encoder, grid, source_bar, source, _meter(plan, bar), text)
        place = file, source, source_bar
        if place not in known:
            part = grid.part(source_bar - 1, source_bar, np.array([source]))
            vector = model.told_of(encoder.encode(part)[1][0])
            known[place] = Alike(vector, _heard(encoder, part))
        told[track, bar] = known[place]
    if not told:
        raise UsageError(f"{next(iter(warnings))}; name tracks of its kind")
    likely = replace(plan, likeness=told)
    return replace(planned, plan=likely, warnings=(*planned.warnings, *warnings))


def _source_track(item: TrackPlan, grid: Grid) -> int | None:
    """The track of a grid that a track to be written is like: of its kind, then its program, then
    its family of instruments; of these the one with most notes.
    """
    program = DRUM_PROGRAM if item.is_drum else item.program
    counts = grid.counts.sum(0)
    fitting = [
        index
        for index, other in enumerate(grid.programs.tolist())
        if (other == DRUM_PROGRAM) == item.is_drum
    ]

    def nearness(index: int) -> tuple[bool, bool, int]:
        other = int(grid.programs[index])
        return other == program, other // 8 == program // 8, int(counts[index])

    return max(fitting, key=nearness, default=None)


def _meter(plan: CompositionPlan, bar: int) -> tuple[int, int]:
    """Of a bar of the piece."""
    old = len(plan.seed_bars)
    place = plan.seed_bars[bar] if bar < old else plan.bars[bar - old]
    return place.numerator, place.denominator


def _check_bar(
    encoder: BarModel, grid: Grid, bar: int, track: int, meter: tuple[int, int], text: str
) -> None:
    """Raises UsageError for a bar (from 1) that cannot be told."""
    vocabulary = encoder.tokenizer.vocabulary
    found = int(grid.meters[bar - 1])
    if found != vocabulary.nearest_meter(*meter):
        raise UsageError(
            f"{text}: bar {bar} of it is in {'{}/{}'.format(*vocabulary.meters[found])}, and the "
            f"bar to write in {'{}/{}'.format(*meter)}; choose bars of the same meter"
        )
    count = int(grid.counts[bar - 1, track])
    if count > _longest(encoder):
        raise UsageError(
            f"{text}: bar {bar} of it has {count} notes in one track, and the model of bars holds "
            f"{_longest(encoder)}; choose another bar"
        )


def _heard(encoder: BarModel, part: Grid) -> np.ndarray:
    """(n, 2): onset in quarter notes after the barline, and pitch, of the notes of one cell."""
    notes = part.cell(0, 0)
    onset_q = (notes[:, 0] - FIRST_POSITION) / encoder.tokenizer.vocabulary.grid
    return np.stack((onset_q, (notes[:, 1] - PITCH) % 128), axis=1)


def _files(controls: Controls) -> list[str]:
    """The files of `--like`, each once."""
    return list(dict.fromkeys(wish.value.file for wish in controls.wishes() if wish.kind == "like"))


def likes_of(controls: Controls) -> dict[str, str]:
    """Name and sha256 of each file of `--like`, for what a file says of how it was made.

    Raises MidiError where there is none, UsageError where two have one name.
    """
    files = _files(controls)
    for file in files:
        if not Path(file).is_file():
            raise MidiError(f"{file}: there is no such file")
    named = {Path(file).name: file_sha256(Path(file)) for file in files}
    if len(named) < len(files):
        raise UsageError("--like: two files of one name; give one of them another")
    return named


# --- Training -------------------------------------------------------------------------------------


def latent_settings(autoencoder: str | os.PathLike[str] | None, family: str) -> list[str]:
    """The settings of a transformer that is to be told latents of this autoencoder.

    Raises UsageError for another family, CheckpointError for another model.
    """
    if autoencoder is None:
        return []
    if family != "transformer":
        raise UsageError(f"--latents is for a transformer, and a {family} is to be trained")
    model = BarModel.from_pretrained(autoencoder, "cpu")
    return [f"model.latent={model.config.latent}", f"model.latent_of={model.weights}"]


def shard_latents(
    shards: ShardSet,
    out: Path,
    autoencoder: str | os.PathLike[str],
    on_progress: OnProgress | None = None,
) -> CellLatents:
    """The latents of all cells of some shards, made in a model's folder where they are not yet.

    An autoencoder that does not come with musegen is kept there too: the model needs it.
    Raises DataError where the shards are of another preset than the autoencoder.
    """
    model = BarModel.from_pretrained(autoencoder)
    folder, own = weights_path(autoencoder), out / AUTOENCODER
    if not is_packaged(folder) and not own.is_dir():
        kept = shutil.ignore_patterns("last*", "data", "training.*", "*.jsonl")
        shutil.copytree(folder, own, ignore=kept)
    vocabulary = model.tokenizer.vocabulary
    if tuple(model.tokenizer.field_sizes) != shards.field_sizes:
        raise DataError(
            f"{shards.folder} was built as {shards.tokenizer_name}, and the autoencoder reads "
            f"{model.tokenizer.name}; build the data with that preset"
        )

    def encode(rows: np.ndarray) -> np.ndarray:
        found = cell_latents(model, Grid.from_rows(rows, vocabulary))
        return found.reshape(-1, model.config.latent)

    facts = model.config.latent, model.weights
    write_cell_latents(shards, out / "latents", encode, *facts, on_progress)
    return CellLatents(shards, out / "latents", *facts)
