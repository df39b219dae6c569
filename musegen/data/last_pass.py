"""The last pass of a build, over what was read: leave copies out, split, write the shards."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from musegen.data.build_report import BuildReport
from musegen.data.corpus import Collection
from musegen.data.duplicates import connected, near_duplicates, resembling
from musegen.data.listing import Joined
from musegen.data.results import COPY, LIKE, SKIPPED, Results
from musegen.data.shards import TOKENIZER_FILE, CorpusFacts, ShardWriter
from musegen.data.splits import SPLITS, assign_splits, group_key
from musegen.errors import DataError
from musegen.tokens.tokenizer import Tokenizer


def write_shards(
    collection: Collection, tokenizer: Tokenizer, results: Results, folder: Path
) -> BuildReport:
    """Writes the shards of what could be read into `folder`, and says what was done.

    Raises:
        DataError: nothing could be read.
    """
    if not len(results.usable()):
        raise DataError(_nothing(collection, results))
    benchmark = results.benchmark()
    if len(benchmark):
        numbers = results.usable()
        tunes = list(results.arrays("melody", benchmark))
        found = resembling(results.arrays("melody", numbers), tunes)
        results.drop_resembling(found, numbers, benchmark)
    results.drop_copies()
    numbers = results.usable()
    first, second = array("q"), array("q")
    for one, other, _ in near_duplicates(
        lambda: results.arrays("grams", numbers), len(numbers), folder
    ):
        first.append(one)
        second.append(other)
    component = connected(len(numbers), _links(results, numbers, zip(first, second, strict=True)))
    records = results.records[numbers]
    rules = {corpus.name: corpus.split for corpus in collection.corpora}
    kept = Joined([results.items], numbers.tolist())
    splits, keyed = assign_splits(kept, records["rows"], component, rules)
    may_ship = all(c.card is not None and c.card.may_ship for c in collection.corpora)
    _write(collection, tokenizer, results, numbers, folder, splits, keyed, may_ship)
    torn = int(np.count_nonzero(splits[np.array(first)] != splits[np.array(second)]))
    messages = collection.notes + tuple(n for c in collection.corpora for n in c.notes)
    if torn:
        messages += (f"{torn} pairs of versions lie in two splits, which their files prescribe",)
    return BuildReport(
        name=collection.name,
        folder=folder,
        tokenizer=tokenizer.name,
        may_ship=may_ship,
        corpora=_facts(collection, results, splits),
        skipped=tuple(
            _named(results, number) | {"reason": results.reasons[number]}
            for number in results.fates(SKIPPED)
        ),
        duplicates=tuple(_pair(results, number, "of") for number in results.fates(COPY)),
        resembling=tuple(_pair(results, number, "like") for number in results.fates(LIKE)),
        versions=len(first),
        largest_group=int(np.bincount(component).max()),
        notes_merged=int(records["merged"].sum()),
        notes_dropped=int(records["dropped"].sum()),
        messages=messages,
    )


def _links(
    results: Results, numbers: np.ndarray, versions: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    yield from results.group_links(numbers)
    yield from versions


def _write(
    collection: Collection,
    tokenizer: Tokenizer,
    results: Results,
    numbers: np.ndarray,
    folder: Path,
    splits: np.ndarray,
    keyed: np.ndarray,
    may_ship: bool,
) -> None:
    writer = ShardWriter(folder, len(tokenizer.field_names))
    keys = list(results.keys)
    try:
        for place, rows in enumerate(results.arrays("rows", numbers)):
            number = int(numbers[place])
            item, record = results.items[number], results.records[number]
            writer.add(
                rows,
                name=item.name,
                corpus=item.corpus,
                style=item.style,
                notes=int(record["notes"]),
                group=group_key(results.items[int(numbers[keyed[place]])]),
                split=SPLITS[splits[place]],
                key=keys[record["key"]],
            )
        facts = {
            corpus.name: CorpusFacts(
                corpus.weight,
                corpus.augment.transpose,
                corpus.augment.tempo,
                corpus.augment.velocity,
                corpus.augment.drum_jitter,
                corpus.augment.programs,
            )
            for corpus in collection.corpora
        }
        writer.close(
            name=collection.name,
            tokenizer=tokenizer.name,
            field_names=tokenizer.field_names,
            field_sizes=tokenizer.field_sizes,
            corpora=facts,
            may_ship=may_ship,
        )
    finally:
        writer.abandon()
    tokenizer.save(folder / TOKENIZER_FILE)


def _facts(
    collection: Collection, results: Results, splits: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Of each corpus: files, pieces, notes, rows, what was left out, and the same of each split."""
    records = results.records[results.usable()]
    facts: dict[str, dict[str, Any]] = {}
    for corpus in collection.corpora:
        whole = results.of_corpus(corpus.name)
        here = records["corpus"] == results.corpora.get(corpus.name, -1)
        counts = {"files": len(whole), **_counts(records[here])}
        for name, fate in (("skipped", SKIPPED), ("duplicates", COPY), ("resembling", LIKE)):
            counts[name] = int(np.count_nonzero(whole["fate"] == fate))
        chosen = splits[here]
        of_split = {
            split: _counts(records[here][chosen == place])
            for place, split in enumerate(SPLITS)
            if place in chosen
        }
        facts[corpus.name] = {**counts, "splits": of_split}
    return facts


def _counts(records: np.ndarray) -> dict[str, int]:
    sums = {name: int(records[name].sum()) for name in ("notes", "rows")}
    return {"pieces": len(records), **sums}


def _named(results: Results, number: int) -> dict[str, str]:
    item = results.items[number]
    return {"corpus": item.corpus, "file": item.name}


def _pair(results: Results, number: int, relation: str) -> dict[str, str]:
    other = results.items[results.other[number]]
    return _named(results, number) | {relation: f"{other.corpus}/{other.name}"}


def _nothing(collection: Collection, results: Results) -> str:
    reason = ""
    for number in results.fates(SKIPPED)[:1]:
        reason = f"; the first: {results.items[number].name}: {results.reasons[number]}"
    return f"none of the {results.own} files of {collection.name} could be used{reason}"
