"""`musegen data build`: two cores against one, and how time and memory grow with the corpus.

    python benchmarks/build.py [--quick] [--data FOLDER_OF_MIDI] [--plots DIR]

Every build runs in a process of its own, into an empty folder. The seconds are those of the build,
without the start of Python; the memory is the peak of the process that builds, and of the largest
of its workers. Without `--data`, generated files stand in (four tracks, about 1,000 notes); with
it, files are taken evenly from the folder and linked beside each other. Goals:

* two_cores: seconds of one worker over those of two, on the most files, the best of several each,
  one after the other; 1 worker reads in the building process itself.
* linear_time: seconds a file of 100 files over those of the most, with one worker: 1 where time
  grows in proportion, below where it grows faster.
* flat_memory: peak memory of 10 files over that of the most. Some libraries and buffers fill at
  first, and 50 to 1,000 bytes a file stay.
* equal_bytes: both numbers of workers wrote the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, report

from musegen.music.midi import write_midi
from musegen.music.score import Score, Track, note_array

GOALS = {"two_cores": 1.7, "linear_time": 0.8, "flat_memory": 0.5, "equal_bytes": 1.0}

BUILD = """
import json, resource, sys
from musegen.data.build import build
made = build(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]))
who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
facts = {"seconds": made.seconds, "notes": made.notes, "pieces": made.pieces}
print(json.dumps({**facts, "peak": [resource.getrusage(one).ru_maxrss for one in who]}))
"""
MAXRSS = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of ru_maxrss."""


def generated(seed: int) -> Score:
    """Four tracks of a random walk each, about 1,000 notes in all."""
    rng = np.random.default_rng(seed)
    tracks = []
    for program in (0, 32, 48, 73):
        gaps = rng.choice([120, 240, 240, 480], int(rng.integers(100, 400)))
        pitches = 60 + np.cumsum(rng.integers(-3, 4, len(gaps))) % 24
        starts = np.cumsum(gaps) - gaps
        notes = zip(starts.tolist(), gaps.tolist(), pitches.tolist(), strict=True)
        tracks.append(Track(notes=note_array((s, g, p, 80) for s, g, p in notes), program=program))
    return Score(tracks=tuple(tracks))


def corpora(data: Path | None, sizes: list[int], folder: Path) -> dict[int, Path]:
    """A folder of each number of files."""
    found = []
    if data is not None:
        found = sorted(p for p in data.rglob("*") if p.suffix.lower() in (".mid", ".midi"))
        if len(found) < sizes[-1]:
            raise SystemExit(f"{data} holds {len(found)} MIDI files, {sizes[-1]} are needed")
    made = {}
    for size in sizes:
        made[size] = folder / f"{size}"
        made[size].mkdir()
        for number in range(size):
            path = made[size] / f"{number:05d}.mid"
            if data is None:
                write_midi(generated(number), path)
            else:
                path.symlink_to(found[number * len(found) // size].resolve())
    return made


def measured(music: Path, out: Path, workers: int) -> dict[str, Any]:
    """Builds in a process of its own: seconds, notes, pieces, and bytes at the peak."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(music), str(out), str(workers)],
        stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    facts = json.loads(done.stdout)
    return {**facts, "peak": [peak * MAXRSS for peak in facts["peak"]]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """Time and memory against files, both axes logarithmic, with what is in proportion beside."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4))
    for workers, marker in ((1, "o"), (2, "s")):
        own = [row for row in rows if row["workers"] == workers]
        files = [row["files"] for row in own]
        left.loglog(
            files, [row["seconds"] for row in own], marker=marker, label=f"{workers} workers"
        )
        right.semilogx(files, [row["peak_mb"] for row in own], marker=marker,
                       label=f"{workers} at work: the build")  # fmt: skip
        busy = [row for row in own if row["worker_mb"]]  # of few files there is no worker
        if busy:
            right.semilogx([row["files"] for row in busy], [row["worker_mb"] for row in busy],
                           marker=marker, label=f"{workers} at work: a worker")  # fmt: skip
    last = [row for row in rows if row["workers"] == 1][-1]
    ends = [min(row["files"] for row in rows), last["files"]]
    line = [last["seconds"] * files / last["files"] for files in ends]
    left.loglog(ends, line, color="grey", linestyle=":", label="in proportion")
    left.set(xlabel="files", ylabel="seconds", title="time of a build")
    right.set(xlabel="files", ylabel="MB at the peak", title="memory of a process", ylim=(0, None))
    for axes in (left, right):
        axes.legend()
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "build.png", dpi=120)
    print(f"wrote {folder / 'build.png'}")


def main() -> bool:
    parser = arguments("Building shards: two cores against one, and growth.")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the growth as a picture")
    options = parser.parse_args()
    sizes = [10, 100, 1000]
    repeats = 2 if options.quick else 4
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        best: dict[tuple[int, int], dict[str, Any]] = {}
        for size, music in corpora(options.data, sizes, folder).items():
            for repeat in range(repeats):
                for workers in (1, 2):
                    out = folder / f"{size}-{workers}-{repeat}"
                    found = measured(music, out, workers)
                    old = best.get((size, workers))
                    if old is None or found["seconds"] < old["seconds"]:
                        best[size, workers] = found
        last = [files_of(folder / f"{sizes[-1]}-{workers}-0") for workers in (1, 2)]
        equal = last[0] == last[1]
        disk = sum(len(data) for data in last[0].values())
    for (size, workers), found in best.items():
        rows.append(
            {
                "files": size,
                "workers": workers,
                "seconds": found["seconds"],
                "files_s": size / found["seconds"],
                "notes_s": found["notes"] / found["seconds"],
                "peak_mb": found["peak"][0] / 1e6,
                "worker_mb": found["peak"][1] / 1e6,
            }
        )
    whole, some, few = (best[size, 1] for size in (sizes[-1], 100, 10))
    notes = whole["notes"]
    print(f"{options.data or 'generated files'}: the most files hold {notes:,} notes in "
          f"{whole['pieces']:,} pieces, {disk / notes:.2f} bytes a note in shards")  # fmt: skip
    if options.plots is not None:
        plot(rows, options.plots)
    ratios = {
        "two_cores": whole["seconds"] / best[sizes[-1], 2]["seconds"],
        "linear_time": (some["seconds"] / 100) / (whole["seconds"] / sizes[-1]),
        "flat_memory": few["peak"][0] / whole["peak"][0],
        "equal_bytes": float(equal),
    }
    return report("build", rows, ratios, GOALS)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
