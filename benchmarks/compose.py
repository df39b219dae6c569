"""Composing from a cold start: where the seconds go, and how much memory it takes.

    python benchmarks/compose.py [--quick]

`musegen compose --bars 16 --instruments piano,bass,drums` in a new process each time, in wall clock
seconds from before the process was started: starting Python and importing, loading the model,
decoding, writing the file, and all else (planning, the check of originality, what is printed).
Memory is the largest resident set of the process. `onnx, first` has no graphs kept yet, so it
builds them; it is told, and has no goal.

The goals are those of two cores with nothing else to do: everything but decoding under 0.7 s, the
whole under 2 s, 400 MB. Ratios are the goal over what was measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import arguments, report

CASES: dict[str, list[str]] = {
    "onnx int8": [],
    "onnx fp32": ["--precision", "fp32"],
    "torch fp64": ["--engine", "torch"],
}
PARTS = ("import", "load", "decode", "write")
WHOLE_S, REST_S, MEMORY_MB = 2.0, 0.7, 400.0
GOALS = {"whole": 1.0, "all_but_decode": 1.0, "memory": 1.0}

CHILD = """
import json, resource, sys, time
begin, out, folder = float(sys.argv[1]), sys.argv[2], sys.argv[3]
from musegen.cli.main import run
import musegen.api, musegen.model, musegen.music.piece, musegen.sampling.sampler
spent = {"import": time.time() - begin}

def timed(owner, name, part):
    inner = getattr(owner, name)
    def outer(*arguments, **options):
        start = time.time()
        try:
            return inner(*arguments, **options)
        finally:
            spent[part] = spent.get(part, 0.0) + time.time() - start
    setattr(owner, name, outer)

timed(musegen.model.Model, "from_pretrained", "load")
timed(musegen.sampling.sampler, "sample", "decode")
timed(musegen.music.piece.Piece, "save", "write")
code = run(["compose", "--bars", "16", "--instruments", "piano,bass,drums", "--random-seed", "3",
            "--quiet", "--out", folder + "/x.mid", *sys.argv[4:]])
spent["whole"] = time.time() - begin
spent["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
open(out, "w").write(json.dumps(spent))
sys.exit(code)
"""


def started(extra: list[str], home: Path, folder: Path) -> dict[str, float]:
    """Seconds by part, and the memory, of one start."""
    out = folder / "spent.json"
    command = [sys.executable, "-c", CHILD, str(time.time()), str(out), str(folder), *extra]
    environment = {**os.environ, "MUSEGEN_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"compose ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(out.read_text())


def line(what: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """A row of the table: the start that took the median of the time."""
    one = sorted(runs, key=lambda run: run["whole"])[len(runs) // 2]
    parts = {part: round(one[part], 3) for part in PARTS}
    other = one["whole"] - sum(one[part] for part in PARTS)
    return {
        "what": what,
        **parts,
        "other": round(other, 3),
        "whole": round(one["whole"], 3),
        "all but decode": round(one["whole"] - one["decode"], 3),
        "MB": round(statistics.median(run["memory_mb"] for run in runs)),
    }


def main() -> bool:
    options = arguments(__doc__.splitlines()[0]).parse_args()
    rounds = 3 if options.quick else 9
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first = [started([], folder / f"home{number}", folder) for number in range(3)]
        home = folder / "home0"
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
        for number in range(rounds + 1):
            for name, extra in CASES.items():
                found = started(extra, home, folder)
                if number:  # the first ones fill the caches of the disk, and build graphs
                    runs[name].append(found)
    rows = [line(name, found) for name, found in runs.items()]
    rows.append(line("onnx int8, first", first))
    ours = rows[0]
    ratios = {
        "whole": WHOLE_S / ours["whole"],
        "all_but_decode": REST_S / ours["all but decode"],
        "memory": MEMORY_MB / ours["MB"],
    }
    return report("compose", rows, ratios, GOALS)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
