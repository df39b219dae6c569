"""The shared form of a benchmark: a table for people, and one JSON line for machines.

Every benchmark prints whatever it likes, then calls `report`. The last line that it prints is one
JSON object, ``{"bench": name, "ratios": {...}, "goals": {...}, "machine": {...}}``: ratios and
goals under the same keys, larger is better, so that one reader can check them all.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["arguments", "best_of", "machine", "report", "table"]

LIBRARIES = ("numpy", "torch", "transformers", "miditok", "symusic", "onnxruntime")


def arguments(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes: `--quick` and `--data FOLDER`.

    `defaults` overrides the defaults of these two; add further options to what is returned.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher figures")
    parser.add_argument("--data", type=Path, default=None, metavar="FOLDER", help="MIDI files")
    parser.set_defaults(**defaults)
    return parser


def best_of(function: Callable[[], Any], repeats: int = 3) -> float:
    """Seconds of the fastest of `repeats` calls: the least disturbed by the rest of the machine."""
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, Python and library versions.

    Libraries are asked for their version without importing them.
    """
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    found: dict[str, Any] = {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows (all with the keys of the first) as a plain-text table; numbers to the right."""
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(line[index]) for line in cells))
        for index, column in enumerate(columns)
    ]
    numeric = [
        all(isinstance(row.get(column, 0), int | float) for row in rows) for column in columns
    ]

    def line(values: Sequence[str]) -> str:
        return "  ".join(
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, cells)])


def report(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    ratios: Mapping[str, float],
    goals: Mapping[str, float],
) -> bool:
    """Prints the table, each ratio against its goal, and the JSON line last.

    `rows` are the table's lines (dicts with the same keys). `ratios` and `goals` have the same
    keys, and larger is better; a yes-or-no check is a ratio of 1.0 or 0.0 with the goal 1.0.
    Returns whether every goal is met. Raises ValueError when the keys differ or a ratio is no
    finite number: that is a fault of the benchmark.
    """
    if set(ratios) != set(goals):
        raise ValueError(f"benchmark {name}: ratios {sorted(ratios)}, goals {sorted(goals)}")
    plain = {key: float(value) for key, value in ratios.items()}
    for key, value in plain.items():
        if not math.isfinite(value):
            raise ValueError(f"benchmark {name}: ratio {key} is {value}")
    if rows:
        print(table(rows))
        print()
    for key, value in plain.items():
        verdict = "met" if value >= goals[key] else "MISSED"
        print(f"{key}: {value:.4g} (goal {goals[key]:.4g}, {verdict})")
    result = {
        "bench": name,
        "ratios": plain,
        "goals": {key: float(goals[key]) for key in plain},
        "machine": machine(),
    }
    print(json.dumps(result), flush=True)
    return all(value >= goals[key] for key, value in plain.items())


if __name__ == "__main__":  # how a report looks
    times = [best_of(lambda: sum(range(10_000))) for _ in range(5)]
    report(
        "example",
        [{"case": "sum", "median_s": statistics.median(times)}],
        {"repeatable": min(times) / statistics.median(times)},
        {"repeatable": 0.5},
    )
    sys.exit(0)
