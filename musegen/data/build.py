"""From a corpus to shards: read, encode, drop duplicates, split, write.

Reading and encoding run in processes and leave parts (musegen/data/parts.py) in a folder beside the
output; everything after that is one pass in order, so the shards are the same whatever the number
of workers and however often the build was killed and started again. The output folder appears at
the end, by a rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from musegen.data.corpus import Collection, Item, find_corpora
from musegen.data.duplicates import connected, near_duplicates, resembling
from musegen.data.parts import ItemResult, Job, Part
from musegen.data.shards import (
    INDEX_FILE,
    REPORT_FILE,
    TOKENIZER_FILE,
    CorpusFacts,
    ShardWriter,
)
from musegen.data.splits import assign_splits
from musegen.data.workers import run
from musegen.errors import DataError, OutputError
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer

CHUNK = 16
"""Files a job: what a kill loses at most, for each worker."""

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did; `to_dict` is what `build.json` holds."""

    name: str
    folder: Path
    tokenizer: str
    may_ship: bool
    corpora: dict[str, dict[str, Any]]
    """Of each: files, pieces, notes, rows, skipped, duplicates, resembling, and each split's
    pieces, notes and rows."""
    skipped: tuple[dict[str, str], ...]
    duplicates: tuple[dict[str, str], ...]
    resembling: tuple[dict[str, str], ...]
    versions: int
    """Pairs of near-duplicates that were kept in one split."""
    largest_group: int
    """Pieces in the largest group that was kept together."""
    notes_merged: int
    notes_dropped: int
    messages: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def pieces(self) -> int:
        return sum(facts["pieces"] for facts in self.corpora.values())

    @property
    def notes(self) -> int:
        return sum(facts["notes"] for facts in self.corpora.values())

    @property
    def rows(self) -> int:
        return sum(facts["rows"] for facts in self.corpora.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON types; without the time and the place, so that equal builds are equal bytes."""
        names = ("name", "tokenizer", "may_ship", "pieces", "notes", "rows", "corpora", "versions")
        names += ("largest_group", "notes_merged", "notes_dropped")
        report = {name: getattr(self, name) for name in names}
        for name in ("skipped", "duplicates", "resembling", "messages"):
            report[name] = list(getattr(self, name))
        return report


@dataclass(frozen=True)
class _Encoded:
    """An item that was encoded: where its arrays are."""

    item: Item
    result: ItemResult
    part: Part
    index: int


def build(
    name_or_folder: str | Path,
    out: str | Path,
    *,
    preset: str | Path | Tokenizer = "events",
    source: str | Path | None = None,
    workers: int = 1,
    max_files: int | None = None,
    on_progress: Progress | None = None,
) -> BuildReport:
    """Builds the shards of a card or of a folder of MIDI into the folder `out`.

    With `workers` above 1 the calling script needs `if __name__ == "__main__":` (processes are
    spawned). A build that was interrupted goes on where it was when it is called again.

    Raises:
        DataError: no such card or folder, or nothing in it could be used.
        OutputError: `out` cannot be written, holds something else, or is being built already.
    """
    started = time.monotonic()
    out = Path(out).expanduser().absolute()
    collection = find_corpora(str(name_or_folder), Path(source) if source is not None else None)
    tokenizer = preset if isinstance(preset, Tokenizer) else load_tokenizer(preset)
    _check_output(out)
    items = [item for corpus in collection.corpora for item in corpus.items]
    if max_files is not None and max_files < len(items):
        chosen = np.linspace(0, len(items) - 1, max(1, max_files)).round().astype(int)
        items = [items[index] for index in sorted(set(chosen.tolist()))]
    held_out = list(collection.held_out.items) if collection.held_out is not None else []
    parts, building = out.parent / f".{out.name}.parts", out.parent / f".{out.name}.building"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        with _lock(parts / "lock", out):
            encoded = _encode_all(items + held_out, tokenizer, parts, workers, on_progress)
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            report = _write(
                collection, encoded[: len(items)], encoded[len(items) :], tokenizer, building, out
            )
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
    items: Sequence[Item],
    tokenizer: Tokenizer,
    folder: Path,
    workers: int,
    on_progress: Progress | None,
) -> list[_Encoded]:
    for stale in folder.glob("*.tmp"):
        stale.unlink(missing_ok=True)
    data = tokenizer.to_dict()
    jobs = [
        Job(tuple(items[start : start + CHUNK]), data, folder)
        for start in range(0, len(items), CHUNK)
    ]
    encoded: list[_Encoded] = []
    for job, part in zip(jobs, run(jobs, min(workers, len(jobs))), strict=True):
        encoded += [
            _Encoded(item, result, part, index)
            for index, (item, result) in enumerate(zip(job.items, part.results, strict=True))
        ]
        if on_progress is not None:
            on_progress(len(encoded), len(items))
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


def _write(
    collection: Collection,
    encoded: list[_Encoded],
    held_out: list[_Encoded],
    tokenizer: Tokenizer,
    building: Path,
    out: Path,
) -> BuildReport:
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
        messages=messages,
    )
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
    (building / REPORT_FILE).write_text(text, "utf-8")
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
