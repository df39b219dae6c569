"""A trained autoencoder of bars: music to points of its space, and back.

```
vae = BarModel.from_pretrained("bars")
bars, z = vae.encode("song.mid")           # shapes of the bars, their latents (N, Z)
score = vae.score(bars, vae.decode(bars, z))
```

Letters: N bars, Z numbers of a latent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from musegen import assets
from musegen.errors import CheckpointError, TokenError, UsageError
from musegen.models.bar_vae_config import BarVaeConfig
from musegen.models.registry import GENERATORS
from musegen.music.bars import meters_on_barlines
from musegen.music.piece import Piece
from musegen.music.score import Score
from musegen.tokens.bars import (
    ATTRIBUTE_STEPS,
    ATTRIBUTES,
    BarGuide,
    BarShape,
    bar_documents,
    measure_bars,
)
from musegen.tokens.events import EventTokenizer
from musegen.tokens.grid import Grid
from musegen.tokens.tokenizer import tokenizer_from_dict
from musegen.tokens.ways import BarNotes, even_steps, notes_of, shares
from musegen.training.folder import read_checkpoint, read_config

if TYPE_CHECKING:
    from musegen.models.bar_vae import BarVae

__all__ = ["BarModel", "joined_grid", "slerp"]

REACH = (1.0, 2.0, 4.0)
"""How far along the directions `moved` looks, as multiples of what is missing."""

PARTS, REACH_OF_PART = 4, 6.0
"""Parts of a bar that `moved` also moves alone, and how far."""

ROUNDS = 4
"""Times that `moved` looks at what is still missing."""

DENSE = 2
"""Points that `way` writes for each step, of each kind that `shares` has."""


def slerp(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """The point of the great arc from one latent to another: (..., Z) (Shoemake 1985).

    The direction turns evenly and the length goes along in a straight line, so that points between
    two draws of N(0, I) are as far from 0 as such draws are. Where the two point the same way, or
    opposite ways, it is the straight line.
    """
    lengths = [np.linalg.norm(each, axis=-1, keepdims=True) for each in (one, other)]
    unit = [
        each / np.maximum(size, 1e-12) for each, size in zip((one, other), lengths, strict=True)
    ]
    cosine = np.clip((unit[0] * unit[1]).sum(-1, keepdims=True), -1.0, 1.0)
    angle = np.arccos(cosine)
    straight = (1 - share) * one + share * other
    turning = np.sin(angle)
    safe = np.where(turning < 1e-6, 1.0, turning)
    arc = (np.sin((1 - share) * angle) * unit[0] + np.sin(share * angle) * unit[1]) / safe
    arc = arc * ((1 - share) * lengths[0] + share * lengths[1])
    return np.where(turning < 1e-6, straight, arc)


def joined_grid(shapes: Sequence[BarShape], notes: Sequence[BarNotes]) -> Grid:
    """Bars with the same tracks as a grid. Raises UsageError where the tracks differ."""
    if not shapes:
        raise UsageError("no bars: give one at least")
    first = shapes[0]
    for number, shape in enumerate(shapes):
        if (shape.programs, shape.instances) != (first.programs, first.instances):
            raise UsageError(f"bar {number + 1} has other tracks than bar 1; join them first")
    cells = [cell for bar in notes for cell in bar]
    sizes = [len(cell) for cell in cells]
    return Grid(
        meters=np.array([shape.meter for shape in shapes]),
        tempos=np.array([shape.tempo for shape in shapes]),
        programs=np.array(first.programs, dtype=np.int64),
        instances=np.array(first.instances, dtype=np.int64),
        notes=np.concatenate([np.zeros((0, 4), np.int64), *cells]),
        offsets=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
    )


class BarModel:
    """An autoencoder of bars that was loaded once."""

    refine_steps = 40
    """By how many steps verbs and evaluation better the latents of given bars (`encode`)."""

    def __init__(
        self, network: BarVae, tokenizer: EventTokenizer, folder: str = "", weights: str = ""
    ) -> None:
        """`weights` is the sha256 of the file that the network was read from."""
        self.network, self.tokenizer, self.folder = network.eval(), tokenizer, folder
        self.weights = weights
        self.config: BarVaeConfig = network.config
        self._engine: Any = None

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | os.PathLike[str] = "bars", device: str = "auto"
    ) -> BarModel:
        """Loads an installed model by name, or a folder that `train` wrote.

        Raises:
            CheckpointError: there is none, it is damaged, or is no autoencoder of bars.
            DeviceError: the device is not there.
        """
        from musegen.training.checkpoint import load_model
        from musegen.training.device import resolve_device

        folder = assets.weights_path(name_or_folder)
        checkpoint = read_checkpoint(folder)
        config = read_config(checkpoint, GENERATORS)
        if not isinstance(config, BarVaeConfig):
            raise CheckpointError(
                f"{folder} holds a {checkpoint.family}, and this needs a bar_vae: train one with "
                "`musegen train --model bar_vae`"
            )
        tokenizer = tokenizer_from_dict(checkpoint.tokenizer, str(folder / "tokenizer.json"))
        network: Any = load_model(folder, GENERATORS, resolve_device(device))[0]
        if not isinstance(tokenizer, EventTokenizer) or (
            tuple(tokenizer.field_sizes) != tuple(config.field_sizes)
        ):
            raise CheckpointError(f"{folder}: tokenizer.json and the weights do not fit together")
        return cls(network, tokenizer, str(folder), checkpoint.weights_hash)

    # --- To latents ----------------------------------------------------------------------------

    def grid(self, piece: Any) -> Grid:
        """A piece as bars of cells. Raises MidiError, TokenError."""
        score = piece if isinstance(piece, Score) else Piece.of(piece).score
        score = score.replace(meters=meters_on_barlines(score)[0])
        return self.tokenizer.grid_of(score, score.bars())[0]

    def encode(
        self,
        piece: Any,
        bars: Sequence[int] | None = None,
        *,
        sample_seed: int | None = None,
        refine: int = 0,
    ) -> tuple[list[BarShape], np.ndarray]:
        """The bars of a piece and their latents (N, Z).

        Args:
            piece: what `Piece.of` takes, a `Score`, or a `Grid`.
            bars: which bars, from 0; all by default.
            sample_seed: draws each latent from the posterior; by default it is its mean.
            refine: steps by which means are bettered before that (`BarVae.refined`); with
                `refine_steps` dense bars come back far more whole.

        Raises:
            UsageError: no such bar. TokenError: a bar is longer than the model holds.
        """
        grid = piece if isinstance(piece, Grid) else self.grid(piece)
        wanted = list(range(grid.num_bars)) if bars is None else list(bars)
        for bar in wanted:
            if not 0 <= bar < grid.num_bars:
                raise UsageError(f"there is no bar {bar + 1}: the piece has {grid.num_bars}")
        shapes, latents = [], []
        for first in range(0, len(wanted), self.config.section):
            for bar in wanted[first : first + self.config.section]:
                part = grid.part(bar, bar + 1, np.arange(grid.num_tracks))
                shapes.append(_shape(part))
            latents.append(self._latents(grid, wanted[first : first + self.config.section], refine))
        z = np.concatenate(latents) if latents else np.zeros((0, 2, self.config.latent))
        mean, log_var = z[:, 0], z[:, 1]
        if sample_seed is not None:
            noise = np.random.default_rng(sample_seed).standard_normal(mean.shape)
            mean = mean + noise * np.exp(0.5 * log_var)
        return shapes, mean

    def posterior(self, grid: Grid) -> np.ndarray:
        """(K, 2, Z) float64: means and log variances of the bars of a grid. Raises TokenError."""
        section = self.config.section
        every = range(grid.num_bars)
        parts = [every[first : first + section] for first in every[::section]]
        return np.concatenate([self._latents(grid, part) for part in parts])

    def _latents(self, grid: Grid, bars: Sequence[int], refine: int = 0) -> np.ndarray:
        """(n, 2, Z) float64: means and log variances of some bars."""
        import torch

        batch = self._batch(grid, bars)
        with torch.no_grad():
            found = self.network.posterior_of(batch)
        mean = self.network.refined(batch, found.mean, refine) if refine else found.mean
        return torch.stack((mean, found.log_var), dim=1).double().cpu().numpy()

    def right(self, grid: Grid) -> tuple[int, int]:
        """Fields that the decoder has right and all, with the mean latent and the notes before.

        Of the bars of a grid (at most a section of them). Raises TokenError.
        """
        import torch

        batch = self._batch(grid, range(grid.num_bars))
        with torch.no_grad():
            inputs = self.network.decoder_batch(batch, self.network.posterior_of(batch).mean)
            found = torch.stack(
                [each.argmax(-1) for each in self.network.decoder.field_logits(inputs)], dim=1
            )
        targets = inputs["targets"].flatten(0, 1)
        return int(((found == targets) & (targets > 0)).sum()), int((targets > 0).sum())

    def _batch(self, grid: Grid, bars: Sequence[int]) -> dict[str, Any]:
        """Some bars as one batch of tensors. Raises TokenError."""
        import torch

        from musegen.data.bar_batches import packed

        tracks = np.arange(grid.num_tracks)
        parts = [grid.part(bar, bar + 1, tracks) for bar in bars]
        shapes = [_shape(part) for part in parts]
        whole = joined_grid(shapes, [[part.cell(0, j) for j in tracks.tolist()] for part in parts])
        vocabulary = self.tokenizer.vocabulary
        documents = bar_documents(whole, vocabulary, self.config.lead)
        for bar, size in zip(bars, documents.sizes.tolist(), strict=True):
            if size > self.config.longest:
                raise TokenError(
                    f"bar {bar + 1} makes {size} rows, and the model holds {self.config.longest}; "
                    "take fewer tracks, as in 5-8@bass,piano"
                )
        arrays = packed(
            self.tokenizer,
            documents,
            measure_bars(whole, vocabulary),
            self.config.context,
            self.config.section,
        )
        device = self.network.asked.device
        return {name: torch.as_tensor(array).to(device) for name, array in arrays.items()}

    # --- New latents ---------------------------------------------------------------------------

    def draw(self, bars: int, before: np.ndarray | None = None, *, seed: int = 0) -> np.ndarray:
        """Latents (N, Z) of bars that follow others, from the prior of sections.

        Each is drawn from the mixture that the bars before it say, of which the model looks back at
        most a section; the first of all is a draw of N(0, I).

        Args:
            bars: how many, N.
            before: (P, Z), latents of the bars before, as `encode` has them.
            seed: the same seed draws the same latents.

        Raises:
            UsageError: fewer than one bar, or latents of another size.
        """
        import torch

        size = self.config.latent
        known = np.zeros((0, size)) if before is None else np.asarray(before, dtype=np.float64)
        if bars < 1 or known.ndim != 2 or known.shape[1] != size:
            raise UsageError(
                f"{bars} bars after latents of shape {known.shape}: ask for 1 or more, and give "
                f"latents of shape (bars, {size}), as encode has them"
            )
        rng = np.random.default_rng(seed)
        every = list(known)
        for _ in range(bars):
            noise = rng.standard_normal(size)
            if not every:
                every.append(noise)
                continue
            recent = np.stack(every[-max(1, self.config.section - 1) :])
            told = torch.as_tensor(recent, dtype=torch.float32, device=self.network.asked.device)
            with torch.no_grad():
                found = self.network.prior(told[None])
            shares, mean, log_var = (each[0, -1].double().cpu().numpy() for each in found)
            chances = np.exp(shares) / np.exp(shares).sum()
            chosen = int(rng.choice(len(chances), p=chances))
            every.append(mean[chosen] + np.exp(0.5 * log_var[chosen]) * noise)
        return np.stack(every[len(known) :])

    # --- And back ------------------------------------------------------------------------------

    def decode(
        self,
        shapes: Sequence[BarShape],
        latents: np.ndarray | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        in_range: bool = False,
        batch_size: int = 32,
        on_step: Callable[[int], None] | None = None,
    ) -> list[BarNotes]:
        """The notes of bars of these shapes, of latents (N, Z); by default drawn from N(0, I).

        Args:
            shapes: what is given of each bar.
            latents: (N, Z), or None.
            temperature: 0 takes the likeliest of everything.
            seed: of all that is drawn.
            in_range: only notes that the instruments can play.
            batch_size: bars side by side; does not change what is written.
            on_step: called after each row with the number of rows so far.
        """
        from musegen.models.bar_vae import BarRequest
        from musegen.sampling.draw import Draw
        from musegen.sampling.engines.torch import TorchEngine
        from musegen.sampling.sampler import sample

        if latents is not None and len(latents) != len(shapes):
            raise UsageError(f"{len(latents)} latents for {len(shapes)} bars")
        if self._engine is None:
            self._engine = TorchEngine(self.network.decoder)
        engine, lead = self._engine, self.config.lead
        vocabulary, positions = self.tokenizer.vocabulary, self._engine.max_positions
        requests = [
            BarRequest(
                BarGuide(vocabulary, shape, lead, positions, in_range=in_range),
                engine,
                None if latents is None else latents[number],
            )
            for number, shape in enumerate(shapes)
        ]
        with engine.running():
            samples = sample(
                self.network,
                requests,
                Draw(seed, temperature),
                batch_size=batch_size,
                on_step=on_step,
            )
        if samples.interrupted:
            raise KeyboardInterrupt
        return samples.results

    def moved(
        self,
        shapes: Sequence[BarShape],
        latents: np.ndarray,
        before: np.ndarray,
        asked: np.ndarray,
        *,
        given: Sequence[BarNotes] | None = None,
        seed: int = 0,
        on_step: Callable[[int, int], None] | None = None,
    ) -> tuple[list[BarNotes], np.ndarray]:
        """Bars with so much more of each attribute, and what they then measure, (N, 3).

        Latents move along the directions of what is missing, all of a bar or a part of it, by
        several distances; of all that is written, what measures nearest is kept, bar by bar, and
        the next round goes on from there. What is not asked for should stay: it counts half.

        Args:
            shapes: of N bars.
            latents: (N, Z).
            before: (N, 3), as `measure_bars` has them.
            asked: (3,) or (N, 3): how much more of each.
            given: the bars themselves; by default the latents are decoded.
            seed: of ties.
            on_step: called as `on_step(done, total)`.
        """
        if self.config.attributes != len(ATTRIBUTES):
            raise UsageError(
                f"this model has directions of {self.config.attributes} attributes, not of "
                f"{', '.join(ATTRIBUTES)}"
            )
        vocabulary = self.tokenizer.vocabulary
        wanted = np.broadcast_to(np.asarray(asked, dtype=np.float64), before.shape)
        goal = np.maximum(before + wanted, 0.0)
        directions = self.network.directions.weight.detach().cpu().double().numpy()  # (Z, 3)
        counts = np.where(wanted != 0, 1.0, 0.5) / np.array(ATTRIBUTE_STEPS)
        part_of = np.arange(self.config.latent) * PARTS // self.config.latent
        moves = [np.full(self.config.latent, reach) for reach in REACH]
        moves += [REACH_OF_PART * (part_of == part) for part in range(PARTS)]
        found = list(given) if given is not None else self.decode(shapes, latents, in_range=True)
        measured = np.concatenate(
            [
                measure_bars(shape.grid(notes), vocabulary)
                for shape, notes in zip(shapes, found, strict=True)
            ]
        )
        latents = latents.copy()
        misses = (np.abs(measured - goal) * counts).sum(axis=1)
        for round_ in range(ROUNDS):
            missing, start = (goal - measured) @ directions.T, latents.copy()
            for number, move in enumerate(moves):
                points = start + move * missing
                written = self.decode(shapes, points, in_range=True, seed=seed)
                for bar, (shape, notes) in enumerate(zip(shapes, written, strict=True)):
                    own = measure_bars(shape.grid(notes), vocabulary)[0]
                    miss = float((np.abs(own - goal[bar]) * counts[bar]).sum())
                    if miss < misses[bar] - 1e-9:
                        misses[bar], found[bar], measured[bar] = miss, notes, own
                        latents[bar] = points[bar]
                if on_step is not None:
                    on_step(round_ * len(moves) + number + 1, ROUNDS * len(moves))
        return found, measured

    def score(self, shapes: Sequence[BarShape], notes: Sequence[BarNotes]) -> Score:
        """Bars of the same tracks as a score."""
        grid = joined_grid(shapes, notes)
        return self.tokenizer.decode(grid.rows(self.tokenizer.vocabulary))

    def interpolate(self, one: np.ndarray, other: np.ndarray, steps: int) -> np.ndarray:
        """Points of the way between two (..., Z), the ends included: (steps, ..., Z)."""
        if steps < 2:
            raise UsageError(f"{steps} steps: the two ends are 2 already")
        shares = np.linspace(0.0, 1.0, steps)
        return np.stack([slerp(one, other, float(share)) for share in shares])

    def way(
        self,
        shapes: Sequence[BarShape],
        ends: tuple[Sequence[BarNotes], Sequence[BarNotes]],
        one: np.ndarray,
        other: np.ndarray,
        steps: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        on_step: Callable[[int], None] | None = None,
    ) -> list[list[BarNotes]]:
        """The way from one section of K bars to another, in steps that are even in the music.

        Points are written along the great arc of the latents, with all slots together and with
        some ahead (`musegen.tokens.ways.shares`); the most even of them are taken (`even_steps`),
        the same for all bars.

        Args:
            shapes: of the K bars between.
            ends: the notes of both sections, which the way begins and ends with.
            one: (K, Z), the latents of the first.
            other: (K, Z), of the other.
            steps: with both ends.
            temperature, seed, on_step: as in `decode`.
        """
        slots, width = self.config.slots, self.config.slot_width
        points = np.stack(
            [
                np.concatenate(
                    [
                        slerp(one, other, share)[..., slot * width : (slot + 1) * width]
                        for slot, share in enumerate(ahead)
                    ],
                    axis=-1,
                )
                for ahead in shares(slots, DENSE * (steps - 1)).tolist()
            ]
        )
        written = self.decode(
            [shape for _ in points for shape in shapes],
            points.reshape(-1, points.shape[-1]),
            temperature=temperature,
            seed=seed,
            in_range=True,
            on_step=on_step,
        )
        count = len(shapes)
        found = [list(ends[0])]
        found += [written[first : first + count] for first in range(0, len(written), count)]
        found.append(list(ends[1]))
        heard = [{(k, *n) for k, bar in enumerate(bars) for n in notes_of(bar)} for bars in found]
        return [found[point] for point in even_steps(heard, steps)]


def _shape(part: Grid) -> BarShape:
    """What is given of the one bar of a grid."""
    return BarShape(
        meter=int(part.meters[0]),
        tempo=int(part.tempos[0]),
        programs=tuple(part.programs.tolist()),
        instances=tuple(part.instances.tolist()),
    )


def with_tracks(shape: BarShape, programs: Sequence[int], instances: Sequence[int]) -> BarShape:
    """The same bar with other tracks."""
    return replace(shape, programs=tuple(programs), instances=tuple(instances), notes=(), forms=())
