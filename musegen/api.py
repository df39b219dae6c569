"""The road, written out.

midi -> score -> tokens -> shards -> batch -> model -> tokens -> score -> midi

Each function joins parts and holds no logic of its own; follow the imports to read on.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musegen import assets
from musegen.config import apply_overrides
from musegen.errors import CheckpointError, UsageError
from musegen.models.registry import GENERATORS, family_named
from musegen.music.piece import Piece
from musegen.sampling.stream import OnBar
from musegen.tokens.assemble import assemble
from musegen.tokens.planning import Ask, plan_composition
from musegen.tokens.tokenizer import (
    DocumentMix,
    Tokenizer,
    load_tokenizer,
    tokenizer_from_dict,
)

__all__ = ["Model", "Piece", "compose", "train"]

OnProgress = Callable[[float, float | None, str], None]
"""`on_progress(done, total, text)`; total is None while nobody knows it."""


@dataclass(frozen=True)
class Model:
    """A trained model, ready to compose: the network and the preset that it speaks."""

    network: Any
    """The family's `GenerativeModel`, in evaluation mode."""
    tokenizer: Tokenizer
    checkpoint: Any
    """What its folder says (`musegen.training.checkpoint.Checkpoint`)."""

    @classmethod
    def from_pretrained(cls, name_or_folder: str | os.PathLike[str], device: str = "auto") -> Model:
        """Loads an installed model by name (`default`), or a folder that `train` wrote.

        Raises:
            CheckpointError: there is none, or it is damaged or of another version.
            DeviceError: the device is not there.
        """
        from musegen.training.checkpoint import load_model
        from musegen.training.device import resolve_device

        folder = assets.weights_path(name_or_folder)
        network, checkpoint = load_model(folder, GENERATORS, resolve_device(device))
        tokenizer = tokenizer_from_dict(checkpoint.tokenizer, str(folder / "tokenizer.json"))
        if tuple(tokenizer.field_sizes) != tuple(network.config.field_sizes):
            raise CheckpointError(f"{folder}: tokenizer.json and the weights do not fit together")
        return cls(network, tokenizer, checkpoint)

    def compose(self, seed: Any = None, **options: Any) -> Piece | list[Piece]:
        """`musegen.compose` with this model."""
        return compose(seed, model=self, **options)


def compose(
    seed: Any = None,
    *,
    bars: int = 16,
    seed_bars: int | None = None,
    instruments: Sequence[str] | None = None,
    tempo: float | None = None,
    time_signature: str | None = None,
    key: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    num: int = 1,
    random_seed: int | None = None,
    model: str | os.PathLike[str] | Model = "default",
    device: str = "auto",
    batch_size: int = 8,
    on_progress: OnProgress | None = None,
    on_bar: OnBar | None = None,
) -> Piece | list[Piece]:
    """Writes music: continues a seed, or begins with nothing.

    Args:
        seed: what to go on from: a path, bytes, `Score`, `Piece`, or an object of symusic,
            pretty_midi, mido or music21. The result begins with it, unchanged.
        bars: how many bars to write.
        seed_bars: use only the seed's first bars.
        instruments: names as in `["piano", "bass", "drums"]`; by default those of the seed.
        tempo: quarter notes a minute of the new bars; by default the seed's last.
        time_signature: meter of the new bars as in `"3/4"`; by default the seed's last.
        key: as in `"D major"`; by default what the seed sounds like.
        temperature, top_k, top_p, min_p: how boldly to choose.
        num: how many pieces; more than one gives a list.
        random_seed: the same seed gives the same bytes (on CPU); if None, drawn and told in `info`.
        model: a name of `musegen models`, a folder, or a loaded `Model`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: how many pieces are written side by side; does not change what is written.
        on_progress: called as `on_progress(done, total, text)`.
        on_bar: called as `on_bar(sample, bar, notes)` as soon as a bar of the piece (from 0) is
            finished; `notes` is an array of musegen.tokens.plan.WRITTEN_DTYPE.

    Returns:
        A `Piece` whose `info` tells bars, notes, tokens, seconds, seed and warnings; a list of
        them if `num` is not 1. Ctrl-C returns what is finished.

    Raises:
        UsageError: an option makes no sense, before anything is sampled.
        MidiError, CheckpointError, DeviceError: the seed, the model or the device cannot be used.
    """
    from musegen.sampling.draw import Draw

    ask = Ask(bars, seed_bars, instruments, tempo, time_signature, key)
    if num < 1:
        raise UsageError(f"num {num}: ask for 1 piece or more")
    random_seed = secrets.randbits(32) if random_seed is None else random_seed
    draw = Draw(random_seed, temperature, top_k, top_p, min_p)
    source = Piece.of(seed) if seed is not None else None
    name = str(source.info.get("file", "the seed")) if source is not None else ""
    planned = plan_composition(ask, source.score if source is not None else None, name)
    if not isinstance(model, Model):
        model = Model.from_pretrained(model, device)
    planned = planned.fitted(model.tokenizer)
    started_s = time.perf_counter()

    from musegen.guide import RowRequest
    from musegen.sampling.engines.torch import TorchEngine, one_thread
    from musegen.sampling.sampler import sample
    from musegen.sampling.stream import BarStream

    engine = TorchEngine(model.network)
    guides = [model.tokenizer.guide(planned.plan, engine.max_positions) for _ in range(num)]

    stream = BarStream(guides, on_bar, planned.plan.written_bars) if on_bar else None

    def report(step: int) -> None:
        if stream is not None:
            stream()
        if on_progress is not None:
            done = sum(guide.bars_done for guide in guides)
            on_progress(done, num * bars, f"{done} of {num * bars} bars")

    with one_thread():
        samples = sample(
            model.network,
            [RowRequest(guide, engine) for guide in guides],
            draw,
            batch_size=batch_size,
            on_step=report,
        )
    seconds = time.perf_counter() - started_s
    pieces = []
    for index, written in enumerate(samples.results):
        if not written.finished_bars:
            continue  # Ctrl-C came before its first bar was finished
        score = assemble(
            planned.plan, written, names=planned.names, key=planned.key, title="musegen"
        )
        info = {
            "bars": written.finished_bars,
            "notes": len(written.notes),
            "tokens": guides[index].rows_drawn,
            "seconds": round(seconds / len(samples.results), 3),
            "seed": random_seed,
            "sample": index,
            "interrupted": samples.interrupted,
            "warnings": [*planned.warnings, *guides[index].warnings, *planned.silent(written)],
        }
        pieces.append(Piece(score, notes=source.notes if source is not None else (), info=info))
    if samples.interrupted and not pieces:
        raise KeyboardInterrupt
    return pieces[0] if num == 1 else pieces


def train(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    family: str = "transformer",
    size: str = "small",
    preset: str | None = None,
    overrides: Iterable[str] = (),
    max_steps: int | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    source: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Trains a model on a data card, a folder of MIDI files, or built shards.

    Args:
        data: a card's name, a folder of MIDI, or a folder of shards (`musegen data build`).
        out: the checkpoint's folder; `compose(model=out)` loads it.
        family: an entry of the registry.
        size: `tiny`, `small` or `base`.
        preset: how music becomes ids, when `data` is not built yet; `events` if None.
        overrides: `["model.width=256", "training.learning_rate=0.002", "data.batch_size=16"]`.
        max_steps, max_minutes: how long; 1,000 steps if neither is given.
        resume: go on from `out/last`, bit for bit as if never interrupted.
        device, seed: where, and the seed of everything random.
        source: where a card's files lie.
        workers: processes that encode the files; all cores by default.
        on_progress: called as `on_progress(done, total, text)`.

    Returns:
        A summary: steps, validation loss before and after, the best, seconds, whether interrupted.
    """
    import torch

    from musegen.data.batches import Prefetch, TrainBatches, ValidBatches
    from musegen.data.build import open_or_build
    from musegen.training.card import model_card
    from musegen.training.checkpoint import check_out, save_model
    from musegen.training.run import RunConfig
    from musegen.training.trainer import Trainer

    kind, out = family_named(family), Path(out)
    check_out(out, resume)
    shards = open_or_build(
        Path(data),
        out / "data",
        preset=preset,
        source=Path(source) if source is not None else None,
        workers=workers,
        on_progress=on_progress,
    )
    shards.verify()
    tokenizer = load_tokenizer(shards.tokenizer_file())
    config = RunConfig.of(
        kind, size, tokenizer, seed=seed, max_steps=max_steps, max_minutes=max_minutes
    )
    config = apply_overrides(config, overrides)
    length = config.data.length or config.model.context
    batches = TrainBatches(
        shards,
        tokenizer,
        config.data.batch_size,
        length,
        seed=seed,
        augment=config.data.augment,
        mix=DocumentMix(config.data.masked, config.data.told),
    )
    held_out = ValidBatches(
        shards,
        tokenizer,
        config.data.batch_size,
        length,
        max_batches=config.data.validation_batches,
    )
    torch.manual_seed(seed)
    network = kind.model_class()(config.model)

    def save_best(trainer: Trainer, validation: Any) -> None:
        summary = trainer.summary(data=shards.name, validation=validation)
        card = model_card(out.name, shards, config, summary)
        storage = config.training.storage
        save_model(out, family, trainer.model, tokenizer.to_dict(), card, summary, storage)

    with Prefetch(batches, depth=config.data.prefetch) as ahead:
        trainer = Trainer(
            network,
            config.training,
            ahead,
            held_out,
            out=out,
            settings={
                "batch_size": config.data.batch_size,
                "length": length,
                "augment": config.data.augment,
                "masked": config.data.masked,
                "told": config.data.told,
                "data": shards.digest(),
            },
            device=device,
            save_best=save_best,
            on_progress=on_progress and (lambda p: on_progress(p.step, p.steps, p.text())),
        )
        return trainer.fit(resume=resume).to_dict()
