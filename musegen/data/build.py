"""From a corpus to shards: read, encode, drop duplicates, split, write.

Reading and encoding run in processes and leave parts (musegen/data/parts.py) in a folder beside the
output; everything after that (musegen/data/last_pass.py) is in order, so the shards are the same
whatever the number of workers and however often the build was killed and started again. The output
folder appears at the end, by a rename. Memory holds columns of some bytes a file, and one part or
bucket at a time.
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

import numpy as np

from musegen.data.build_report import BuildReport, save_report
from musegen.data.corpus import Collection, Item, find_corpora
from musegen.data.last_pass import write_shards
from musegen.data.listing import Joined, Lazy
from musegen.data.parts import Job, part_name
from musegen.data.results import Results
from musegen.data.room import check_disk_before, check_disk_during, check_memory
from musegen.data.shards import INDEX_FILE, REPORT_FILE, ShardSet
from musegen.data.workers import run, sensible_workers
from musegen.errors import DataError, OutputError, UsageError
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer

CHUNK = 16
"""Files a job: what a kill loses at most, for each worker."""

CHECK_DISK = 64
"""Parts after which the disk is looked at."""

Progress = Callable[[int, int, str], None]
"""Called with (files done, files in all, the same in words)."""


class _Jobs(Lazy[Job]):
    """Chunks of the items; each is made when it is asked for."""

    def __init__(self, items: Sequence[Item], tokenizer: Tokenizer, folder: Path) -> None:
        self._items, self._tokenizer, self._folder = items, tokenizer.to_dict(), folder

    def __len__(self) -> int:
        return -(-len(self._items) // CHUNK)

    def _at(self, index: int) -> Job:
        start = index * CHUNK
        chunk = tuple(self._items[start : start + CHUNK])
        return Job(chunk, self._tokenizer, self._folder)


@dataclass(frozen=True)
class _Plan:
    """What is to be built."""

    collection: Collection
    own: Sequence[Item]
    """The items that become shards."""
    items: Sequence[Item]
    """These, then the benchmark's."""
    tokenizer: Tokenizer

    def jobs(self, folder: Path) -> _Jobs:
        """Chunks of the items."""
        return _Jobs(self.items, self.tokenizer, folder)

    def inputs(self) -> str:
        """A hash of all that the shards depend on; reads the files."""
        digest = hashlib.sha256()
        for job in self.jobs(Path()):
            _take_in(digest, part_name(job), job)
        return self.finish(digest)

    def finish(self, digest: hashlib._Hash) -> str:
        """`inputs`, from a digest that took in every part."""
        for corpus in self.collection.corpora:
            rules = (corpus.name, corpus.weight, asdict(corpus.split), asdict(corpus.augment))
            digest.update(json.dumps(rules).encode())
        return digest.hexdigest()


def _take_in(digest: hashlib._Hash, part: str, job: Job) -> None:
    digest.update(part.encode())
    digest.update(json.dumps([[i.group, i.style, i.split] for i in job.items]).encode())


def _plan(
    name: str | Path, source: str | Path | None, preset: str | Path | Tokenizer, limit: int | None
) -> _Plan:
    collection = find_corpora(str(name), Path(source) if source is not None else None)
    tokenizer = preset if isinstance(preset, Tokenizer) else load_tokenizer(preset)
    own: Sequence[Item] = Joined(corpus.items for corpus in collection.corpora)
    if limit is not None and limit < len(own):
        places = np.linspace(0, len(own) - 1, max(1, limit)).round().astype(int)
        own = Joined([own], np.unique(places).tolist())
    held_out = collection.held_out.items if collection.held_out is not None else ()
    return _Plan(collection, own, Joined([own, held_out]), tokenizer)


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
    workers = sensible_workers(len(plan.items), workers)
    check_memory(len(plan.items), workers)
    check_disk_before(plan.items, parts)
    try:
        parts.mkdir(parents=True, exist_ok=True)
        with _lock(parts / "lock", out):
            results, inputs = _read_all(plan, parts, workers, on_progress)
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            report = write_shards(plan.collection, plan.tokenizer, results, building)
            report = replace(report, folder=out, inputs=inputs)
            save_report(report, building)
            _replace(building, out)
        shutil.rmtree(parts, ignore_errors=True)
    except DataError:
        shutil.rmtree(parts, ignore_errors=True)  # nothing in them would serve another build
        raise
    except MemoryError:
        raise OutputError(
            f"{out} cannot be built: the memory is full; end other programs, or ask for fewer "
            "--workers or --max-files, and run it again: what was read is kept"
        ) from None
    except OSError as error:
        where = error.filename or parts
        raise OutputError(
            f"{out} cannot be written: {error.strerror or error} ({where}); free some space or "
            "choose another --out, and run it again: what was read is kept"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return replace(report, seconds=time.monotonic() - started)


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


def _read_all(
    plan: _Plan, folder: Path, workers: int, on_progress: Progress | None
) -> tuple[Results, str]:
    """What became of each item, and the hash of all inputs."""
    for stale in folder.glob("*.tmp"):
        stale.unlink(missing_ok=True)
    jobs, digest = plan.jobs(folder), hashlib.sha256()
    total = len(plan.items)
    results = Results(plan.items, len(plan.own), folder)
    for number, part in enumerate(run(jobs, min(workers, len(jobs)))):
        job = jobs[number]
        results.add(job.items, part)
        _take_in(digest, part.path.name, job)
        if number % CHECK_DISK == CHECK_DISK - 1:
            check_disk_during(results.count, total, results.bytes, folder)
        if on_progress is not None:
            on_progress(results.count, total, f"{results.count}/{total} files")
    check_disk_during(results.count, total, results.bytes, folder)
    return results, plan.finish(digest)
