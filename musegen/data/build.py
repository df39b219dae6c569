"""From a corpus to shards: read, encode, drop duplicates, split, write.

Reading and encoding run in processes and leave parts (musegen/data/parts.py) in a folder beside the
output; everything after that is one pass in order, so the shards are the same whatever the number
of workers and however often the build was killed and started again. The output folder appears at
the end, by a rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musegen.data.build_report import BuildReport
from musegen.data.corpus import Collection, Item, find_corpora
from musegen.data.duplicates import connected, near_duplicates, resembling
from musegen.data.parts import ItemResult, Job, Part, part_name
from musegen.data.shards import (
    INDEX_FILE,
    REPORT_FILE,
    TOKENIZER_FILE,
    CorpusFacts,
    ShardSet,
    ShardWriter,
)
from musegen.data.splits import assign_splits
from musegen.data.workers import run, sensible_workers
from musegen.errors import DataError, OutputError, UsageError
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer

CHUNK = 16
"""Files a job: what a kill loses at most, for each worker."""

Progress = Callable[[int, int, str], None]
"""Called with (files done, files in all, the same in words)."""


@dataclass(frozen=True)
class _Encoded:
    """An item that was encoded: where its arrays are."""

    item: Item
    result: ItemResult
    part: Part
    index: int


@dataclass(frozen=True)
class _Plan:
    """What is to be built."""

    collection: Collection
    items: tuple[Item, ...]
    tokenizer: Tokenizer

    def jobs(self, folder: Path) -> list[Job]:
        """Chunks of the items, then of the benchmark's."""
        held_out = self.collection.held_out.items if self.collection.held_out is not None else ()
        items, data = self.items + held_out, self.tokenizer.to_dict()
        return [
            Job(tuple(items[start : start + CHUNK]), data, folder)
            for start in range(0, len(items), CHUNK)
        ]

    def inputs(self) -> str:
        """A hash of all that the shards depend on; reads the files."""
        digest = hashlib.sha256()
        for job in self.jobs(Path()):
            digest.update(part_name(job).encode())
            digest.update(json.dumps([[i.group, i.style, i.split] for i in job.items]).encode())
        for corpus in self.collection.corpora:
            rules = (corpus.name, corpus.weight, asdict(corpus.split), asdict(corpus.augment))
            digest.update(json.dumps(rules).encode())
        return digest.hexdigest()


def _plan(
    name: str | Path, source: str | Path | None, preset: str | Path | Tokenizer, limit: int | None
) -> _Plan:
    collection = find_corpora(str(name), Path(source) if source is not None else None)
    tokenizer = preset if isinstance(preset, Tokenizer) else load_tokenizer(preset)
    items = tuple(item for corpus in collection.corpora for item in corpus.items)
    if limit is not None and limit < len(items):
        chosen = np.linspace(0, len(items) - 1, max(1, limit)).round().astype(int)
        items = tuple(items[index] for index in sorted(set(chosen.tolist())))
    return _Plan(collection, items, tokenizer)


def build(
    name_or_folder: str | Path,
    out: str | Path,
    *,
    preset: str | Path | Tokenizer = "events",
    source: str | Path | None = None,
    workers: int | None = None,
    max_files: int | None = None,
    on_progress: Progress | None = None,
) -> BuildReport:
    """Builds the shards of a card or of a folder of MIDI into the folder `out`.

    `workers` None: one process a core when there are more than a few files. A build that was
    interrupted goes on where it was when it is called again.

    Raises:
        DataError: no such card or folder, or nothing in it could be used.
        OutputError: `out` cannot be written, holds something else, or is being built already.
    """
    started = time.monotonic()
    out = Path(out).expanduser().absolute()
    plan = _plan(name_or_folder, source, preset, max_files)
    _check_output(out)
    parts, building = out.parent / f".{out.name}.parts", out.parent / f".{out.name}.building"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        with _lock(parts / "lock", out):
            encoded = _encode_all(plan, parts, workers, on_progress)
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            report = _write(plan, encoded, building, out)
            _replace(building, out)
        shutil.rmtree(parts, ignore_errors=True)
    except DataError:
        shutil.rmtree(parts, ignore_errors=True)  # nothing in them would serve another build
        raise
    except OSError as error:
        where = error.filename or parts
        raise OutputError(
            f"{out} cannot be written: {error.strerror or error} ({where}); free some space or "
            "choose another --out, and run it again: what was read is kept"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    report = replace(report, seconds=time.monotonic() - started)
    return report


def open_or_build(
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Path | Tokenizer | None = None,
    source: str | Path | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> ShardSet:
    """The shards in the folder `data`; or those of a card or a folder of MIDI, built into `out`.

    Files that were built into `out` before are built anew only when they, the card or the preset
    have changed. `workers` None: one process a core when there are more than a few files.

    Raises:
        DataError, OutputError: as `build`.
        UsageError: `data` was built with another preset than `preset`.
    """
    folder = Path(data).expanduser()
    if (folder / INDEX_FILE).is_file():
        shards = ShardSet.open(folder)
        if isinstance(preset, str) and preset != shards.tokenizer_name:
            raise UsageError(
                f"{folder} was built as {shards.tokenizer_name}, {preset} was asked for; "
                "leave the tokenizer out, or build the data anew"
            )
        return shards
    preset = preset or "events"
    out = Path(out).expanduser()
    try:
        built = json.loads((out / REPORT_FILE).read_text("utf-8")).get("inputs")
        if built == _plan(data, source, preset, None).inputs():
            return ShardSet.open(out)
    except (OSError, ValueError, AttributeError, DataError):
        pass  # nothing there, or damaged: build it (and say what is wrong with the input)
    build(data, out, preset=preset, source=source, workers=workers, on_progress=on_progress)
    return ShardSet.open(out)


def _check_output(out: Path) -> None:
    if out.is_file():
        raise OutputError(f"{out} is a file; give a folder for the shards")
    if out.is_dir() and any(out.iterdir()) and not (out / INDEX_FILE).is_file():
        raise OutputError(f"{out} holds something else than shards; give a new or empty folder")


@contextlib.contextmanager
def _lock(path: Path, out: Path) -> Iterator[None]:
    """Held while a build writes; the system lets go of it when the process dies."""
    with open(path, "w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"another process is building {out}") from None
        yield


def _replace(building: Path, out: Path) -> None:
    old = out.parent / f".{out.name}.old"
    if old.exists():
        shutil.rmtree(old)
    if out.exists():
        os.replace(out, old)
    os.replace(building, out)
    shutil.rmtree(old, ignore_errors=True)


def _encode_all(
    plan: _Plan, folder: Path, workers: int | None, on_progress: Progress | None
) -> list[_Encoded]:
    for stale in folder.glob("*.tmp"):
        stale.unlink(missing_ok=True)
    jobs = plan.jobs(folder)
    total = sum(len(job.items) for job in jobs)
    workers = min(sensible_workers(total, workers), len(jobs))
    encoded: list[_Encoded] = []
    for job, part in zip(jobs, run(jobs, workers), strict=True):
        encoded += [
            _Encoded(item, result, part, index)
            for index, (item, result) in enumerate(zip(job.items, part.results, strict=True))
        ]
        if on_progress is not None:
            on_progress(len(encoded), total, f"{len(encoded)}/{total} files")
    return encoded


def _arrays(encoded: Sequence[_Encoded], name: str) -> list[np.ndarray]:
    """One array an item; each part is opened once where its items follow one another."""
    found: list[np.ndarray] = []
    opened: Path | None = None
    arrays: list[np.ndarray] = []
    for one in encoded:
        if one.part.path != opened:
            arrays, opened = one.part.arrays(name), one.part.path
        found.append(arrays[one.index])
    return found


def _write(plan: _Plan, everything: list[_Encoded], building: Path, out: Path) -> BuildReport:
    collection, tokenizer = plan.collection, plan.tokenizer
    encoded, held_out = everything[: len(plan.items)], everything[len(plan.items) :]
    usable = [one for one in encoded if not one.result.reason]
    skipped = [
        {"corpus": one.item.corpus, "file": one.item.name, "reason": one.result.reason}
        for one in encoded
        if one.result.reason
    ]
    if not usable:
        first = f"; the first: {skipped[0]['file']}: {skipped[0]['reason']}" if skipped else ""
        raise DataError(
            f"none of the {len(encoded)} files of {collection.name} could be used{first}"
        )
    like: list[dict[str, str]] = []
    benchmark = [one for one in held_out if not one.result.reason]
    if benchmark:
        found = resembling(_arrays(usable, "melody"), _arrays(benchmark, "melody"))
        like = [
            _pair(usable[index].item, benchmark[near].item, "like") for index, near in found.items()
        ]
        usable = [one for index, one in enumerate(usable) if index not in found]
    usable, duplicates = _without_copies(usable)
    pairs = near_duplicates(_arrays(usable, "grams"))
    groups: dict[tuple[str, str], int] = {}
    links = [
        (groups.setdefault((one.item.corpus, one.item.group), index), index)
        for index, one in enumerate(usable)
    ]
    component = connected(len(usable), [*links, *((i, j) for i, j, _ in pairs)])
    rules = {corpus.name: corpus.split for corpus in collection.corpora}
    splits, keys = assign_splits([one.item for one in usable],
                                 [one.result.rows for one in usable], component, rules)  # fmt: skip
    facts: dict[str, dict[str, Any]] = {}
    for corpus in collection.corpora:
        here = [one for one in encoded if one.item.corpus == corpus.name]
        facts[corpus.name] = {
            "files": len(here),
            "pieces": 0,
            "notes": 0,
            "rows": 0,
            "skipped": sum(bool(one.result.reason) for one in here),
            "duplicates": sum(one["corpus"] == corpus.name for one in duplicates),
            "resembling": sum(one["corpus"] == corpus.name for one in like),
            "splits": {},
        }
    writer = ShardWriter(building, len(tokenizer.field_names))
    try:
        for one, rows, split, key in zip(usable, _stream(usable), splits, keys, strict=True):
            writer.add(
                rows,
                name=one.item.name,
                corpus=one.item.corpus,
                style=one.item.style,
                notes=one.result.notes,
                group=key,
                split=split,
                key=one.result.key,
            )
            whole = facts[one.item.corpus]
            part = whole["splits"].setdefault(split, {"pieces": 0, "notes": 0, "rows": 0})
            for table in (whole, part):
                table["pieces"] += 1
                table["notes"] += one.result.notes
                table["rows"] += len(rows)
        may_ship = all(c.card is not None and c.card.may_ship for c in collection.corpora)
        writer.close(
            name=collection.name,
            tokenizer=tokenizer.name,
            field_names=tokenizer.field_names,
            field_sizes=tokenizer.field_sizes,
            corpora={
                corpus.name: CorpusFacts(
                    corpus.weight, corpus.augment.transpose, corpus.augment.tempo
                )
                for corpus in collection.corpora
            },
            may_ship=may_ship,
        )
    finally:
        writer.abandon()
    tokenizer.save(building / TOKENIZER_FILE)
    messages = collection.notes + tuple(n for c in collection.corpora for n in c.notes)
    torn = sum(splits[i] != splits[j] for i, j, _ in pairs)
    if torn:
        messages += (f"{torn} pairs of versions lie in two splits, which their files prescribe",)
    report = BuildReport(
        name=collection.name,
        folder=out,
        tokenizer=tokenizer.name,
        may_ship=may_ship,
        corpora=facts,
        skipped=tuple(skipped),
        duplicates=tuple(duplicates),
        resembling=tuple(like),
        versions=len(pairs),
        largest_group=int(np.bincount(component).max()),
        notes_merged=sum(one.result.notes_merged for one in usable),
        notes_dropped=sum(one.result.notes_dropped for one in usable),
        inputs=plan.inputs(),
        messages=messages,
    )
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
    # A reason may hold a file name that is not UTF-8: it becomes an escape of JSON.
    (building / REPORT_FILE).write_text(text, "utf-8", "backslashreplace")
    return report


def _stream(encoded: Sequence[_Encoded]) -> Iterator[np.ndarray]:
    """The rows of each item; one part at a time in memory."""
    opened: Path | None = None
    arrays: list[np.ndarray] = []
    for one in encoded:
        if one.part.path != opened:
            arrays, opened = one.part.arrays("rows"), one.part.path
        yield arrays[one.index]


def _without_copies(
    usable: list[_Encoded],
) -> tuple[list[_Encoded], list[dict[str, str]]]:
    """Keeps the first of each set of equal pieces (also transposed); the others are listed."""
    first: dict[str, Item] = {}
    kept, copies = [], []
    for one in usable:
        if one.result.exact in first:
            copies.append(_pair(one.item, first[one.result.exact], "of"))
        else:
            first[one.result.exact] = one.item
            kept.append(one)
    return kept, copies


def _pair(item: Item, other: Item, relation: str) -> dict[str, str]:
    return {
        "corpus": item.corpus,
        "file": item.name,
        relation: f"{other.corpus}/{other.name}",
    }
