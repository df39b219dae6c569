"""One chunk of files, encoded: the unit of parallel work and of resuming.

A part is a file that holds the rows and fingerprints of some items. Its name is a hash of
everything that it depends on (the files' bytes, the tokenizer, this module's version), so a part
that is there is right, whoever made it: a build that was killed goes on with what it finds.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import musegen
from musegen.data.corpus import Item, read_item
from musegen.data.duplicates import fingerprint
from musegen.errors import MusegenError
from musegen.music.analysis import estimate_key
from musegen.music.names import key_name
from musegen.tokens.tokenizer import Tokenizer, tokenizer_from_dict

PART_VERSION = 2
"""Raised when reading, encoding or fingerprints change what a part holds."""

_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, grams, melody."""

MIN_NOTES = 16
"""Shorter files teach nothing and are skipped."""


@dataclass(frozen=True)
class ItemResult:
    """What became of an item; `reason` is empty when it was encoded."""

    reason: str = ""
    rows: int = 0
    notes: int = 0
    exact: str = ""
    key: str = ""
    notes_merged: int = 0
    notes_dropped: int = 0
    repairs: tuple[str, ...] = ()
    """What reading dropped or repaired."""


@dataclass(frozen=True)
class Job:
    """A chunk to encode."""

    items: tuple[Item, ...]
    tokenizer: dict[str, Any]
    folder: Path
    crashed: tuple[int, ...] = ()
    """Items not to read, by index: the process that read them died. They are unreadable."""


@dataclass(frozen=True)
class Part:
    """An encoded chunk on disk."""

    path: Path
    results: tuple[ItemResult, ...]

    def arrays(self, name: str) -> list[np.ndarray]:
        """`rows`, `grams` or `melody` of each item, in order."""
        with np.load(self.path, allow_pickle=False) as data:
            whole, lengths = data[name], data[f"{name}_lengths"]
        return np.split(whole, np.cumsum(lengths)[:-1]) if len(lengths) else []


def part_name(job: Job) -> str:
    """The part's file name: a hash of all that it depends on. Reads the files."""
    digest = hashlib.sha256(f"{PART_VERSION} {musegen.__version__}".encode())
    digest.update(json.dumps(job.tokenizer, sort_keys=True).encode())
    seen: dict[Path, bytes] = {}
    for item in job.items:
        if item.path not in seen:
            try:
                with open(item.path, "rb") as file:
                    seen[item.path] = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                seen[item.path] = str(error).encode()
        digest.update(seen[item.path])
        facts = [item.name, item.corpus, item.format, item.entry, item.drum_map]
        digest.update(json.dumps(facts).encode())
    return f"{digest.hexdigest()[:40]}.part"


def process(job: Job) -> Part:
    """Encodes a chunk, or takes the part that is there already. Runs in a worker process."""
    path = job.folder / part_name(job)
    part = open_part(path)
    if part is not None and len(part.results) == len(job.items):
        return part
    tokenizer = tokenizer_from_dict(job.tokenizer)
    results: list[ItemResult] = []
    columns: dict[str, list[np.ndarray]] = {"rows": [], "grams": [], "melody": []}
    for index, item in enumerate(job.items):
        nothing: _Arrays = (
            np.empty((0, len(tokenizer.field_names)), np.uint16),
            np.empty(0, np.uint64),
            np.empty(0, np.uint64),
        )
        if index in job.crashed:
            result, arrays = ItemResult(reason="the reader died on it"), nothing
        else:
            result, arrays = _encode(item, tokenizer, nothing)
        results.append(result)
        for name, array in zip(columns, arrays, strict=True):
            columns[name].append(array)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    meta = json.dumps([asdict(result) for result in results]).encode()
    arrays_out: dict[str, np.ndarray] = {"meta": np.frombuffer(meta, np.uint8)}
    for name, found in columns.items():
        arrays_out[name] = np.concatenate(found)
        arrays_out[f"{name}_lengths"] = np.array([len(array) for array in found], np.int64)
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays_out)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return Part(path, tuple(results))


def _encode(item: Item, tokenizer: Tokenizer, nothing: _Arrays) -> tuple[ItemResult, _Arrays]:
    try:
        score, repairs = read_item(item)
        if score.num_notes < MIN_NOTES:
            return ItemResult(reason=f"too short: {score.num_notes} notes"), nothing
        encoding = tokenizer.encode(score)
        marks, estimate = fingerprint(score), estimate_key(score)
    except MusegenError as error:
        return ItemResult(reason=_without_path(str(error), item)), nothing
    except Exception as error:  # one bad file must not end a build of thousands
        return ItemResult(reason=f"unexpected {type(error).__name__}: {error}"), nothing
    rows = np.asarray(encoding.rows, np.uint16)
    notes = tokenizer.num_notes(rows)
    if notes < MIN_NOTES:
        return ItemResult(reason=f"too short: {notes} notes after encoding"), nothing
    result = ItemResult(
        rows=len(rows),
        notes=notes,
        exact=marks.exact,
        key=key_name(estimate.key) if estimate is not None else "",
        notes_merged=encoding.loss.notes_merged,
        notes_dropped=encoding.loss.notes_dropped,
        repairs=tuple(_without_path(line, item) for line in repairs),
    )
    return result, (rows, marks.grams, marks.melody)


def _without_path(text: str, item: Item) -> str:
    """Reports name files by their place in the corpus, so that they are the same anywhere."""
    return text.replace(str(item.path), item.path.name)


def open_part(path: Path) -> Part | None:
    """The part at `path`; None when it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as data:
            meta = json.loads(data["meta"].tobytes())
        results = [ItemResult(**{**one, "repairs": tuple(one["repairs"])}) for one in meta]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    return Part(path, tuple(results))
