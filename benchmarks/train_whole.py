"""The run around the steps of training, for benchmarks/train.py: processes, padding, memory.

* two_processes: seconds a step of `musegen train` in one process over those of the same command
  under torchrun with two, one thread each, the same rows in a batch; wall time from the run's log,
  start aside. Left out where there is one core.
* useful: the share of positions in packed batches that hold a document and not padding.
* memory: 1 over the power of the context that the memory of a step grows with, between an eighth of
  the longest context and the longest, with one row in the batch: 1 is linear, 0.5 quadratic. It is
  the peak of a process of its own less what model, optimiser and libraries take before, in fp32;
  measured where /proc tells of memory (Linux). The table also has batches of equal positions.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench import table

from musegen.data.batches import TrainBatches
from musegen.data.build import build
from musegen.data.shards import ShardSet
from musegen.tokens.tokenizer import load_tokenizer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ROWS, CONTEXT = 8, 512
"""Of a batch of real pieces, as `musegen train` has it by default."""

MEMORY = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from train import Ids, Step
from decode import Layout
torch.set_num_threads(1)
rows, context = int(sys.argv[2]), int(sys.argv[3])
model = Layout("rows", context).network.train()
batches = [Ids(model.config, 1, 64).one, Ids(model.config, rows, context).one]
batches = [{name: torch.as_tensor(a) for name, a in one.items()} for one in batches]
current = batches[0]
def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))
step = Step(model, lambda: model.loss(current).value, False)
step()
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak begins here, not at the imports
current = batches[1]
step(); step()
print(json.dumps([before, status("VmHWM")]))
"""


class Shards:
    """Shards of a folder of MIDI files (of the examples by default), in a temporary folder."""

    def __init__(self, data: Path | None) -> None:
        self.data = data or EXAMPLES

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        built = Path(self._folder.name) / "shards"
        build(self.data, built)
        return built

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def useful_share(folder: Path, batches: int) -> float:
    """Positions of real batches that hold a document over all of them."""
    shards = ShardSet.open(folder)
    tokenizer = load_tokenizer(shards.tokenizer_file())
    source = TrainBatches(shards, tokenizer, ROWS, CONTEXT)
    found = [source.batch(index)["segments"] for index in range(batches)]
    share = float(np.mean([segments > 0 for segments in found]))
    documents = float(np.mean([segments.max(axis=1) for segments in found]))
    print(
        f"{batches} batches of {ROWS} x {CONTEXT} from {shards.name}: {documents:.1f} documents a "
        f"row, {share:.4f} of the positions hold them"
    )
    return share


def seconds_a_step(shards: Path, processes: int, threads: int, steps: int) -> float:
    """Wall seconds of a step of `musegen train`, start aside."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command += ["-m"]
    first = 2  # these allocate
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        command += ["musegen", "train", "--data", str(shards), "--out", str(out), "-q"]
        command += ["--preset", "small", "--device", "cpu", "--max-steps", str(first + steps)]
        for setting in ("training.log_every=1", "training.validate_every=0",
                        "data.validation_batches=1"):  # fmt: skip
            command += ["--set", setting]
        done = subprocess.run(
            command, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    clock = {line["step"]: line["elapsed_s"] for line in lines if "elapsed_s" in line}
    return (clock[first + steps] - clock[first]) / steps


def two_processes(shards: Path, steps: int, turns: int) -> float | None:
    """Seconds a step of one process over those of two; None where there is one core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if (cores or 1) < 2:
        print("one core: two processes are not measured")
        return None
    best: dict[tuple[int, int], float] = {}
    # One process with two threads stands beside them, where there is time for it.
    shapes = ((1, 1), (2, 1), (1, 2)) if turns > 1 else ((1, 1), (2, 1))
    for _ in range(turns):  # the better ones: other programs may be at work
        for shape in shapes:
            seconds = seconds_a_step(shards, *shape, steps)
            best[shape] = min(seconds, best.get(shape, math.inf))
    rows = [
        {"processes": processes, "threads each": threads, "s/step": seconds}
        for (processes, threads), seconds in best.items()
    ]
    print(table(rows), end="\n\n")
    return best[1, 1] / best[2, 1]


def peak(rows: int, context: int) -> tuple[float, float]:
    """MB of model and optimiser (and the libraries), and what a step takes on top."""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, here, str(rows), str(context)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    before, highest = json.loads(done.stdout.splitlines()[-1])
    return before / 1e6, (highest - before) / 1e6


def memory_growth(contexts: tuple[int, ...], plots: Path | None) -> float | None:
    """1 over the power of the context that memory grows with; None where it is not known."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        print("memory is measured on Linux only")
        return None
    same: dict[int, float] = {}
    lines: list[dict[str, Any]] = []
    longest = contexts[-1]
    for context in contexts:
        rest, same[context] = peak(1, context)
        line = {"context": context, "model_mb": rest, "step_mb, 1 row": same[context]}
        # and as many rows as make the batch as large as the longest row
        rows = longest // context
        line[f"step_mb, {longest} positions"] = (
            peak(rows, context)[1] if rows > 1 else same[context]
        )
        lines.append(line)
    print(table(lines), end="\n\n")
    if plots is not None:
        plot(lines, plots)
    begin = max(contexts[0], longest // 8)
    return math.log(longest / begin) / math.log(same[longest] / same[begin])


def plot(lines: list[dict[str, Any]], folder: Path) -> None:
    """Memory of a step against the context, both axes logarithmic, and what is in proportion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    contexts = [line["context"] for line in lines]
    names = [name for name in lines[0] if name.startswith("step_mb")]
    for name in names:
        axes.loglog(contexts, [line[name] for line in lines], marker="o", label=name)
    first = lines[0][names[0]]
    line = [first * context / contexts[0] for context in contexts]
    axes.loglog(contexts, line, color="grey", linestyle=":", label="in proportion")
    axes.set_xticks(contexts, [str(context) for context in contexts], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="context", ylabel="MB", title="memory of a training step, fp32")
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "train.png", dpi=120)
    print(f"wrote {folder / 'train.png'}")
