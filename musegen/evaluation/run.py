"""An evaluation from its first request to the report: what is measured in which order.

Models are handed in as subjects, loaded and ready; who loads them is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from safetensors import safe_open

from musegen.config import nearest
from musegen.data.shards import ShardSet
from musegen.data.splits import SPLITS
from musegen.errors import DataError, UsageError
from musegen.evaluation.asked import LOCK_BARS, ask_controls
from musegen.evaluation.comparison import Figures, closer, result_of
from musegen.evaluation.excerpts import Excerpt, excerpts
from musegen.evaluation.generation import generate
from musegen.evaluation.intervals import Estimate
from musegen.evaluation.originality import OriginalityIndex
from musegen.evaluation.report import Likelihoods, ModelFacts, Report, TaskResult
from musegen.evaluation.tasks import Request, excerpt_bars, request_of
from musegen.tokens.tokenizer import Tokenizer

__all__ = ["BASELINE", "HELD_OUT", "Settings", "Subject", "named", "run_evaluation"]

BASELINE = "5-gram"

HELD_OUT = ("valid", "test")

OnProgress = Callable[[float, float | None, str], None]


@dataclass(frozen=True)
class Settings:
    """What is measured, and how much of it."""

    tasks: tuple[str, ...]
    num: int = 20
    """Pieces that each task generates."""
    bars: int = 16
    seed: int = 0
    splits: tuple[str, ...] = HELD_OUT

    @classmethod
    def of(
        cls,
        tasks: tuple[str, ...],
        num: int,
        bars: int,
        seed: int,
        splits: Iterable[str] | None = None,
    ) -> Settings:
        """Checked. Raises UsageError."""
        if num < 1 or bars < 2:
            raise UsageError(f"num {num}, bars {bars}: at least 1 piece of 2 bars is needed")
        chosen = tuple(dict.fromkeys(splits if splits is not None else HELD_OUT))
        for name in chosen:
            if name not in SPLITS:
                raise UsageError(f"no split '{name}'; {nearest(name, SPLITS)}")
        return cls(tasks, num, bars, seed, chosen)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under evaluation."""

    name: str
    model: Any
    """A `musegen.Model`."""

    def facts(self) -> ModelFacts:
        model = self.model
        folder = model.checkpoint.folder
        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        parameters = 0
        for shape in shapes:
            count = 1
            for size in shape:
                count *= size
            parameters += count
        return ModelFacts(
            name=self.name,
            weights=model.checkpoint.weights_hash[:16],
            preset=model.tokenizer.name,
            parameters=parameters,
            trained_on=str(model.checkpoint.summary.get("data", "")),
            engine=f"{model.engine} {model.precision}, {model.device}",
        )


def named(models: Iterable[Any]) -> list[Subject]:
    """Each under the name of its folder; where two are the same, numbered."""
    subjects: list[Subject] = []
    for model in models:
        name = model.checkpoint.folder.name
        same = sum(subject.name.split(" #")[0] == name for subject in subjects)
        subjects.append(Subject(f"{name} #{same + 1}" if same else name, model))
    return subjects


@dataclass
class _Progress:
    """Stages of like length, told as one number."""

    stages: int
    tell: OnProgress | None
    done: int = 0

    def within(self, text: str) -> Callable[[int, int], None]:
        def report(count: int, total: int) -> None:
            if self.tell is not None:
                share = count / max(1, total)
                self.tell(self.done + share, self.stages, f"{text}: {count} of {total}")

        return report

    def finish(self) -> None:
        self.done += 1


@dataclass
class _Found:
    """What is finished so far."""

    models: list[ModelFacts]
    likelihood: Likelihoods | None = None
    notes: list[str] = field(default_factory=list)

    def add_task(self, number: int, result: TaskResult) -> None:
        facts = self.models[number]
        self.models[number] = replace(facts, tasks=(*facts.tasks, result))

    def compare(self, name: str, figures: dict[str, Estimate]) -> None:
        """Adds to the first model's latest task how much closer it is than another one."""
        *before, last = self.models[0].tasks
        last = replace(last, closer={**last.closer, name: figures})
        self.models[0] = replace(self.models[0], tasks=(*before, last))


def run_evaluation(
    subjects: Sequence[Subject],
    shards: ShardSet,
    tokenizer: Tokenizer,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> Report:
    """The report on the first subject, the others beside it.

    Args:
        subjects: the models; all get the same requests.
        shards: with the held-out pieces, and the `train` pieces for the 5-gram.
        tokenizer: what the shards were built with.
        settings: what to measure.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        DataError: the shards have no held-out piece.
    """
    begin = time.perf_counter()
    pieces = sum(len(shards.split(split)) for split in settings.splits)
    if not pieces:
        raise DataError(
            f"{shards.folder}: no held-out piece in {' or '.join(settings.splits)}; give data "
            "whose card keeps some out of training, or build it from more files"
        )
    found = _Found([subject.facts() for subject in subjects])
    for subject in subjects:
        index = OriginalityIndex.open(subject.model.checkpoint.folder)
        if index is not None and index.source != shards.digest():
            found.notes.append(
                f"{subject.name} was trained on other data than this, by its index: whether these "
                "pieces were held out from its training is not known"
            )
    generating = [task for task in settings.tasks if task != "likelihood"]
    stages = len(generating) * len(subjects)
    if "likelihood" in settings.tasks:
        stages += len(subjects) + 1
    progress = _Progress(stages, on_progress)
    interrupted = False
    try:
        if "likelihood" in settings.tasks:
            found.likelihood = _likelihood(subjects, shards, tokenizer, settings, progress, found)
        for task in generating:
            if _task(task, subjects, shards, tokenizer, settings, progress, found):
                interrupted = True
                break
    except KeyboardInterrupt:
        interrupted = True
    return Report(
        version=_version(),
        data=shards.name,
        data_digest=shards.digest(),
        splits=settings.splits,
        held_out_pieces=pieces,
        tasks=settings.tasks,
        num=settings.num,
        bars=settings.bars,
        seed=settings.seed,
        model=found.models[0],
        against=tuple(found.models[1:]),
        likelihood=found.likelihood,
        notes=tuple(found.notes),
        interrupted=interrupted,
        seconds=time.perf_counter() - begin,
    )


def _version() -> str:
    from musegen import __version__

    return __version__


def _likelihood(
    subjects: Sequence[Subject],
    shards: ShardSet,
    tokenizer: Tokenizer,
    settings: Settings,
    progress: _Progress,
    found: _Found,
) -> Likelihoods:
    from musegen.evaluation.likelihood import (  # the other tasks need no torch
        HeldOutDocuments,
        RowNats,
        baseline_nats,
        difference,
        network_nats,
        summarise,
    )

    def documents_of(preset: Tokenizer, length: int) -> HeldOutDocuments:
        return HeldOutDocuments.of(shards, settings.splits, tokenizer, preset, length)

    own = subjects[0].model
    documents = documents_of(own.tokenizer, own.config.context)
    scored: list[tuple[str, RowNats]] = []
    for subject in subjects:
        model = subject.model
        mine = documents
        if model.config.context != own.config.context:
            mine = documents_of(model.tokenizer, model.config.context)
            found.notes.append(
                f"{subject.name} sees {model.config.context} rows, {subjects[0].name} "
                f"{own.config.context}: each is scored in windows of its own"
            )
        elif model.tokenizer.to_dict() != own.tokenizer.to_dict():
            mine = documents_of(model.tokenizer, model.config.context)
        if model.tokenizer.to_dict() != own.tokenizer.to_dict():
            found.notes.append(
                f"{subject.name} speaks {model.tokenizer.name}: the pieces were encoded anew, and "
                "nats a note compare as far as both spell the same notes"
            )
        report = progress.within(f"{subject.name}, held-out windows")
        nats = network_nats(model.network, mine, model.tokenizer, report)
        scored.append((subject.name, nats))
        progress.finish()
    progress.within(f"{BASELINE} baseline")(0, 1)
    counted = baseline_nats(shards, documents, own.tokenizer, own.config.context)
    if counted is not None:
        scored.insert(1, (BASELINE, counted))
    else:
        found.notes.append(f"no {BASELINE} baseline: the data has no training pieces")
    progress.finish()
    seed = settings.seed
    gaps = {name: difference(scored[0][1], other, seed) for name, other in scored[1:]}
    return Likelihoods(
        own=summarise(*scored[0], seed),
        baselines=tuple(summarise(name, nats, seed) for name, nats in scored[1:]),
        differences={name: gap for name, gap in gaps.items() if gap is not None},
    )


def _task(
    task: str,
    subjects: Sequence[Subject],
    shards: ShardSet,
    tokenizer: Tokenizer,
    settings: Settings,
    progress: _Progress,
    found: _Found,
) -> bool:
    """Adds the results of one task of all subjects; whether Ctrl-C came."""
    if task == "controls":
        return _controls(subjects, shards, tokenizer, settings, progress, found)
    made: dict[int, Request] = {}

    def suits(excerpt: Excerpt) -> bool:
        request = request_of(task, excerpt, settings.bars, settings.seed)
        if request is not None:
            made[id(excerpt)] = request
        return request is not None

    length = excerpt_bars(task, settings.bars)
    chosen = excerpts(
        shards, settings.splits, tokenizer, settings.num, length, settings.seed, suits
    )
    requests = [made[id(excerpt)] for excerpt in chosen]
    if len(requests) < settings.num:
        found.notes.append(
            f"{task}: the held-out pieces have {len(requests)} excerpts of {length} bars that "
            f"suit, {settings.num} were asked for"
        )
    first: Figures | None = None
    for number, subject in enumerate(subjects):
        if not requests:
            progress.finish()
            continue
        report = progress.within(f"{subject.name}, {task}")
        outcomes, stopped = generate(
            requests,
            subject.model.compose,
            settings.seed,
            lambda done, report=report: report(done, len(requests)),  # type: ignore[misc]
        )
        if outcomes:
            index = OriginalityIndex.open(subject.model.checkpoint.folder)
            if index is None:
                note = f"{subject.name} has no index of its training music: no originality"
                found.notes += [note] if note not in found.notes else []
            figures = Figures.of(task, outcomes, settings.seed)
            found.add_task(
                number,
                result_of(task, settings.bars, outcomes, figures, index, settings.seed),
            )
            if first is None:
                first = figures
            else:
                found.compare(subject.name, closer(first, figures, settings.seed))
        if stopped:
            return True
        progress.finish()
    return False


def _controls(
    subjects: Sequence[Subject],
    shards: ShardSet,
    tokenizer: Tokenizer,
    settings: Settings,
    progress: _Progress,
    found: _Found,
) -> bool:
    references = excerpts(shards, settings.splits, tokenizer, 100, LOCK_BARS, settings.seed)
    for number, subject in enumerate(subjects):
        report = progress.within(f"{subject.name}, controls")
        lines, failures, stopped = ask_controls(
            subject.model.compose, references, settings.num, settings.seed, report
        )
        found.models[number] = replace(found.models[number], controls=lines)
        found.notes += [f"{subject.name}, {failure}" for failure in dict.fromkeys(failures)]
        if stopped:
            return True
        progress.finish()
    return False
