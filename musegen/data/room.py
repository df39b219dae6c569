"""Whether there is enough disk and memory for a build, before it starts and while it runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from musegen.data.corpus import Item
from musegen.errors import DataError, OutputError

PART_BYTES = 2.0
"""Bytes of parts a byte of MIDI: 1.6 on eleven corpora of 3,519 files, and some to spare."""

LAST_PASS = 0.8
"""Bytes that the last pass holds at once (shards, or grams and pairs), a byte of parts: 0.72 there.
"""

SAMPLE = 512
"""Files whose sizes are looked at to guess the sum."""

FILE_BYTES = 1000
"""Memory of the process that builds, a file: names, columns, groups, what is left out."""

PROCESS_BYTES = 250 * 2**20
"""Memory of each process: libraries, a chunk of files; of the last pass one bucket besides."""


def free_disk(folder: Path) -> int:
    """Free bytes where `folder` is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def free_memory() -> int | None:
    """Bytes of memory that programs can have; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def check_memory(files: int, workers: int) -> None:
    """Raises DataError where a build of so many files would not fit into memory."""
    needed = files * FILE_BYTES + PROCESS_BYTES * (1 + (workers if workers > 1 else 0))
    free = free_memory()
    if free is not None and needed > free:
        raise DataError(
            f"building from {files:,} files with {workers} workers takes about {size(needed)} of "
            f"memory, {size(free)} are free; ask for fewer --workers or --max-files, or end other "
            "programs"
        )


def check_disk_before(items: Sequence[Item], parts: Path) -> None:
    """Raises OutputError where the files would not fit, by the sizes of some of them.

    What an earlier build left in `parts` counts as done.
    """
    step = max(1, len(items) // SAMPLE)
    sizes, seen = 0, set[Path]()
    looked = items[::step]
    for item in looked:
        if item.path not in seen:  # a file may hold many pieces
            seen.add(item.path)
            sizes += _size_of(item.path)
    read = sizes / max(1, len(looked)) * len(items)
    there = sum(_size_of(path) for path in parts.glob("*.part")) if parts.is_dir() else 0
    _refuse(read * PART_BYTES * (1 + LAST_PASS) - there, parts, "")


def check_disk_during(done: int, files: int, part_bytes: int, parts: Path) -> None:
    """Raises OutputError where what is still to come would not fit, by what there is so far."""
    whole = part_bytes / max(1, done) * files
    _refuse(whole - part_bytes + whole * LAST_PASS, parts, "; what was read is kept")


def _refuse(needed: float, parts: Path, kept: str) -> None:
    free = free_disk(parts)
    if needed > free:
        raise OutputError(
            f"the build needs about {size(needed)} more in {parts.parent}, {size(free)} are free; "
            f"free some space or choose another --out, and run it again{kept}"
        )


def _size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def size(count: float) -> str:
    """Bytes in words: `3.2 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
