"""The road, written out.

midi -> score -> tokens -> shards -> batch -> model -> tokens -> score -> midi

Each function joins parts and holds no logic of its own; follow the imports to read on.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musegen import __version__
from musegen.errors import CheckpointError, UsageError
from musegen.model import Model
from musegen.models.registry import GENERATORS, family_named
from musegen.music.piece import Piece
from musegen.provenance import Provenance
from musegen.sampling.stream import OnBar, OnEvent
from musegen.tokens.assemble import assemble, only_written, stretches
from musegen.tokens.measure import measure
from musegen.tokens.planning import Ask, plan_composition
from musegen.tokens.tokenizer import DocumentMix, load_tokenizer
from musegen.tokens.wishes import Controls

if TYPE_CHECKING:
    from musegen.evaluation.report import Report

__all__ = ["Model", "Piece", "compose", "evaluate", "remake", "train"]

OnProgress = Callable[[float, float | None, str], None]
"""`on_progress(done, total, text)`; total is None while nobody knows it."""


def compose(
    seed: Any = None,
    *,
    bars: int | None = None,
    seed_bars: int | None = None,
    instruments: Sequence[str] | None = None,
    tempo: float | str | None = None,
    time_signature: str | None = None,
    key: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    num: int = 1,
    random_seed: int | None = None,
    first_sample: int = 0,
    model: str | os.PathLike[str] | Model = "default",
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    batch_size: int = 8,
    on_progress: OnProgress | None = None,
    on_bar: OnBar | None = None,
    on_event: OnEvent | None = None,
    **controls: Any,
) -> Piece | list[Piece]:
    """Writes music: continues a seed, writes parts of it anew, adds tracks, or begins with nothing.

    Args:
        seed: what to go on from: a path, bytes, `Score`, `Piece`, or an object of symusic,
            pretty_midi, mido or music21. What is not written anew stays, tick for tick.
        bars: how many bars to write behind it; 16 by default, none with `fill` or `add`.
        seed_bars: use only the seed's first bars.
        instruments: names as in `["piano", "bass", "drums"]`; by default those of the seed.
        tempo: quarter notes a minute of the new bars, as 96 or "96,120@9" (from bar 9 of the
            piece); by default the seed's last.
        time_signature: meter of the new bars, as in "3/4" or "4/4,3/4@9"; by default the seed's.
        key: as in `"D major"`; by default what the seed sounds like.
        temperature, top_k, top_p, min_p: how boldly to choose.
        num: how many pieces; more than one gives a list.
        random_seed: the same seed gives the same bytes (on one kind of CPU); if None, drawn and
            told in `info`.
        first_sample: number of the first piece: `num=1, first_sample=3` is the fourth of `num=4`.
        model: a name of `musegen models`, a folder, or a loaded `Model`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        engine, precision: what computes: `onnx` in `int8` or `fp32`, or `torch` in `fp64`, `fp32`
            or `bf16`; by default `onnx` in `int8`, on the CPU. These three are for a `model` that
            is to be loaded; a `Model` has its own.
        batch_size: how many pieces are written side by side; does not change what is written.
        on_progress: called as `on_progress(done, total, text)`.
        on_bar: called as `on_bar(sample, bar, notes)` as soon as a bar of the piece (from 0) is
            finished; `notes` is an array of musegen.tokens.plan.WRITTEN_DTYPE.
        on_event: called with each note of a bar that is finished, then with the bar itself
            (`musegen.sampling.stream.NoteEvent`, `BarEvent`).
        **controls: what is asked of the notes, as in `fill="9-12@bass"`, `add="bass,drums"`,
            `density="6-8@bass"`, `scale="D dorian"`: see `musegen.tokens.wishes.Controls`.

    Returns:
        A `Piece` whose `info` tells bars, notes, seconds, seed, warnings, and in `controls` what
        was asked against what was measured; a list of them if `num` is not 1. Ctrl-C returns what
        is finished.

    Raises:
        UsageError: an option makes no sense, or two clash, before anything is sampled.
        GenerationError: the rules leave no note that may come next.
        MidiError, CheckpointError, DeviceError: the seed, the model or the device cannot be used.
    """
    from musegen.sampling.draw import Draw

    wishes = Controls.of(**controls)
    ask = Ask(bars, seed_bars, instruments, tempo, time_signature, key, wishes)
    if num < 1 or first_sample < 0:
        raise UsageError(f"num {num} from {first_sample}: ask for 1 piece or more, from 0 or more")
    random_seed = secrets.randbits(32) if random_seed is None else random_seed
    draw = Draw(random_seed, temperature, top_k, top_p, min_p)
    source = Piece.of(seed) if seed is not None else None
    name = str(source.info.get("file", "the seed")) if source is not None else ""
    planned = plan_composition(ask, source.score if source is not None else None, name)
    if not isinstance(model, Model):
        model = Model.from_pretrained(model, device, engine, precision)
    planned = planned.fitted(model.tokenizer)
    likes: dict[str, str] = {}
    if wishes.like:
        from musegen.likeness import likes_of, with_likeness

        planned, likes = with_likeness(planned, model, wishes), likes_of(wishes)
    plans = [planned.for_sample(random_seed, first_sample + i) for i in range(num)]
    started_s = time.perf_counter()

    from musegen.evaluation.originality import OriginalityIndex
    from musegen.guide import RowRequest
    from musegen.models.autoregressive import Rows
    from musegen.sampling.engines.guided import GuidedEngine
    from musegen.sampling.sampler import sample
    from musegen.sampling.stream import BarStream, BarTimes, EventStream, TrackFacts

    computing = model.new_engine()
    told = planned.told_channels()
    if wishes.guidance != 1.0 and told:
        names = [channel.name for channel in model.tokenizer.channels]
        columns = [names.index(name) for name in told if name in names]
        computing = GuidedEngine(computing, columns, wishes.guidance)
    guides = [model.tokenizer.guide(plan, computing.max_positions) for plan in plans]
    written_bars = planned.plan.written_bars
    streams = [BarStream(guides, on_bar, written_bars)] if on_bar is not None else []
    if on_event is not None:
        facts = [TrackFacts(*track) for track in planned.track_facts()]
        events = EventStream(on_event, BarTimes.of(*planned.bar_times()), facts)
        streams.append(BarStream(guides, events, written_bars))

    def report(step: int) -> None:
        for stream in streams:
            stream()
        if on_progress is not None:
            done, total = sum(guide.bars_done for guide in guides), num * len(written_bars)
            on_progress(done, total, f"{done} of {total} bars")

    with computing.running():
        samples = sample(
            Rows(),
            [RowRequest(guide, computing) for guide in guides],
            draw.shifted(first_sample),
            batch_size=batch_size,
            on_step=report,
        )
    seconds = time.perf_counter() - started_s
    index = OriginalityIndex.open(model.checkpoint.folder)
    origin = Provenance(
        version=__version__,
        model=model.checkpoint.folder.name,
        weights=model.checkpoint.weights_hash,
        random_seed=random_seed,
        options={**replace(ask, controls=wishes.without_folders()).to_dict(), **draw.to_dict()},
        likes=likes,
        seed=Path(source.info.get("file", "")).name if source is not None else "",
        seed_sha256=source.sha256() if source is not None else "",
        device=model.device,
        engine=model.engine,
        precision=model.precision,
    )
    pieces = []
    for number, written in enumerate(samples.results):
        if not written.finished_bars:
            continue  # Ctrl-C came before its first bar was finished
        plan = plans[number]
        score = assemble(plan, written, names=planned.names, key=planned.key, title="musegen")
        spans = stretches(plan, written.finished_bars)
        likeness = index.check(only_written(score, spans)) if index is not None else None
        info = {
            "bars": written.finished_bars,
            "notes": len(written.notes),
            "tokens": guides[number].rows_drawn,
            "seconds": round(seconds / len(samples.results), 3),
            "seed": random_seed,
            "sample": first_sample + number,
            "interrupted": samples.interrupted,
            "controls": [line.to_dict() for line in measure(plan, written, score, planned.names)],
            "stretches": [(one.track, one.start_tick, one.end_tick) for one in spans],
            "originality": likeness.to_dict() if likeness is not None else None,
            "warnings": [
                *model.notes,
                *planned.warnings,
                *guides[number].warnings,
                *planned.silent(written, plan),
                *([likeness.line()] if likeness is not None and likeness.unusual else []),
            ],
        }
        ended = samples.interrupted and written.finished_bars < len(plan.written_bars)
        own = replace(
            origin,
            sample=first_sample + number,
            stopped_after=written.finished_bars if ended else None,
        )
        score = own.told(score)
        pieces.append(Piece(score, notes=source.notes if source is not None else (), info=info))
    if samples.interrupted and not pieces:
        raise KeyboardInterrupt
    return pieces[0] if num == 1 else pieces


def remake(
    origin: Provenance,
    folder: str | os.PathLike[str] = ".",
    *,
    seed: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Piece:
    """Composes a file again from what it says of itself (`musegen.provenance`), on the CPU.

    A piece that Ctrl-C ended is ended after the same bars.

    Args:
        origin: what it says.
        folder: where its seed is looked for, by name; the working folder is the other place.
        seed: the seed's file, where it is elsewhere.
        model: the model, where it is not the installed one of its name.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        MidiError: the seed is not found, or is not the one that it was made from.
        CheckpointError: the weights are others.
    """
    found = origin.find_seed(Path(folder), Path(seed) if seed is not None else None)
    used = Model.from_pretrained(model or origin.model, "cpu", origin.engine, origin.precision)
    if used.checkpoint.weights_hash != origin.weights:
        raise CheckpointError(
            f"model {model or origin.model!r} has other weights than the file was made with "
            f"({origin.weights[:12]}...); name the model that has them with --model"
        )
    piece = compose(
        found,
        model=used,
        random_seed=origin.random_seed,
        first_sample=origin.sample,
        on_progress=origin.stopping(on_progress),
        **origin.find_likes(Path(folder)),
    )
    if isinstance(piece, list):
        raise UsageError("the file says that it is several pieces")
    return piece


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
    init: str | os.PathLike[str] | None = None,
    lora: int = 0,
    latents: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    source: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    compiled: bool = False,
    sharded: bool = False,
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
        init: a model (name or folder) whose shape and weights to begin with: fine-tuning.
        lora: rank of adapters, which then are all that is trained of the model named by `init`.
        latents: an autoencoder of bars (name or folder): a transformer learns to write bars like
            given ones (`compose(like=...)`) from its latents.
        resume: go on from `out/last`, bit for bit as if never interrupted.
        device, seed: where, and the seed of everything random.
        source: where a card's files lie.
        workers: processes that encode the files; all cores by default.
        compiled: compile the model, where a compiler is there.
        sharded: share weights, gradients and optimisers out among torchrun's processes (FSDP2).
        on_progress: called as `on_progress(done, total, text)`.

    Under torchrun its processes train one model together, each with `device` of its own.

    Returns:
        A summary: steps, validation loss before and after, the best, seconds, whether interrupted.
    """
    from musegen.data.arrange import with_arrangements
    from musegen.data.build import open_or_build
    from musegen.data.sources import batch_sources
    from musegen.fitting import Prepared, adapted, fitted
    from musegen.likeness import latent_settings, shard_latents
    from musegen.training.card import model_card
    from musegen.training.distributed import Processes, joined
    from musegen.training.folder import check_out
    from musegen.training.initial import initial
    from musegen.training.run import RunConfig

    out = Path(out)

    def prepared(processes: Processes) -> Prepared:
        kind = family_named(family)
        check_out(out, resume)
        shards = open_or_build(
            Path(data),
            out / "data",
            preset=preset,
            source=Path(source) if source is not None else None,
            workers=workers,
            on_progress=on_progress,
        )
        if processes.main:
            shards.verify()
        tokenizer = load_tokenizer(shards.tokenizer_file())
        config = RunConfig.of(
            kind, size, tokenizer, seed=seed, max_steps=max_steps, max_minutes=max_minutes
        )
        settings = [*latent_settings(latents, family), *overrides]
        config, network = initial(config, settings, family, GENERATORS, init)
        network = adapted(network, lora, init)
        shards = with_arrangements(
            shards,
            out / "arranged",
            config.data.arrangements,
            config.data.arranged_share,
            seed,
            on_progress,
        )
        told: dict[str, Any] = {}
        if latents is not None:
            told = {"latents": shard_latents(shards, out, latents, on_progress)}
        length = config.data.length or config.model.context
        batches, held_out = batch_sources(
            kind.batches,
            shards,
            tokenizer,
            config.data.batch_size,
            length,
            options=kind.batch_options(config.model) | told,
            held_out={"max_batches": config.data.validation_batches},
            seed=seed,
            augment=config.data.augment,
            mix=DocumentMix(config.data.masked, config.data.told),
            rank=processes.rank,
            world=processes.size,
        )
        return Prepared(
            family,
            network,
            config,
            batches,
            held_out,
            ids=tokenizer.to_dict(),
            name=shards.name,
            settings={
                "batch_size": config.data.batch_size,
                "length": batches.length,
                "augment": config.data.augment,
                "masked": config.data.masked,
                "told": config.data.told,
                "data": shards.digest(),
            },
            card=lambda name, summary: model_card(name, shards, config, summary),
            base=str(init) if lora else "",
        )

    with joined(device, sharded) as processes:
        return fitted(
            lambda: prepared(processes),
            out,
            processes,
            resume=resume,
            compiled=compiled,
            on_progress=on_progress,
        )


def evaluate(
    data: str | os.PathLike[str],
    model: str | os.PathLike[str] | Model = "default",
    *,
    tasks: Iterable[str] | None = None,
    num: int = 20,
    bars: int = 16,
    random_seed: int = 0,
    splits: Iterable[str] | None = None,
    against: Iterable[str | os.PathLike[str] | Model] = (),
    source: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    on_progress: OnProgress | None = None,
) -> Report:
    """Measures a model on held-out music: what that costs it, and what it writes in its place.

    Args:
        data: a card's name, a folder of MIDI, or a folder of shards (`musegen data build`), with
            pieces that the model was not trained on.
        model: a name of `musegen models`, a folder, or a loaded `Model`.
        tasks: names of `musegen.evaluation.tasks.TASKS`; all of them by default.
        num: how many pieces each task generates.
        bars: how many bars of each.
        random_seed: the same seed gives the same report, seconds aside (on one kind of CPU).
        splits: whose pieces; `valid` and `test` by default.
        against: other models, which get the same requests.
        source: where a card's files lie.
        workers: processes that encode the files; all cores by default.
        device, engine, precision: what computes, as in `compose`.
        on_progress: called as `on_progress(done, total, text)`.

    Returns:
        A `Report`: `to_dict()`, `to_json()`, `musegen.evaluation.markdown.to_markdown`. Ctrl-C
        returns what is finished.

    Raises:
        UsageError: an unknown task, `num` or `bars` too small, or data of another preset.
        DataError, CheckpointError, DeviceError: the data, a model or the device cannot be used.
    """
    import tempfile

    from musegen.data.build import open_or_build
    from musegen.evaluation.run import Settings, named, run_evaluation
    from musegen.evaluation.tasks import TASKS, check_tasks

    chosen = check_tasks(list(TASKS if tasks is None else tasks))
    settings = Settings.of(chosen, num, bars, random_seed, splits)
    subjects = named(
        one if isinstance(one, Model) else Model.from_pretrained(one, device, engine, precision)
        for one in (model, *against)
    )
    own = subjects[0].model
    with tempfile.TemporaryDirectory() as temporary:
        shards = open_or_build(
            Path(data),
            Path(temporary) / "shards",
            preset=own.tokenizer,
            source=Path(source) if source is not None else None,
            workers=workers,
            on_progress=on_progress,
        )
        tokenizer = load_tokenizer(shards.tokenizer_file())
        if tokenizer.to_dict() != own.tokenizer.to_dict():
            raise UsageError(
                f"{data} was built as {tokenizer.name}, {subjects[0].name} speaks another preset "
                f"({own.tokenizer.name}); give the card, or build the data with that preset"
            )
        return run_evaluation(subjects, shards, tokenizer, settings, on_progress)
