"""Decoding: how many notes a second our engines write, beside transformers' generate and midigpt.

    python benchmarks/decode.py [--quick] [--plots DIR]

Models of about six million parameters with random weights, one thread, processor time, batch 1 and
8, the contenders in turns. Ours write bands from nothing under the full grammar: masks, filters and
draws are in the time. What is counted are positions that bring a piece on: rows or tokens that are
drawn or forced, but not those of a context that is laid out anew. Positions become notes by the
positions a note that the same preset needs for the pieces in examples/, so that random weights,
which write odd music, do not decide: transformers' generate, which draws without a mask, is counted
in the tokens of the same flat preset.

midigpt 0.4.2 runs in a process of its own, with a GPT-2 of the same size and random weights,
through its own session: four bars of one track, no retries; the notes are those of its result. It
takes one piece at a time. Where it is not installed, its line is left out and so is its goal.

`bandwidth` is the share of the memory limit: bytes of the weights over (seconds a position x bytes
a second that numpy reads of an array of that size). `step_over_hook` is a whole step over what of
it is spent in masks, filters, draws and the guides' own work.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import dataclasses
import importlib.metadata
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report

from musegen.guide import Advance, RowRequest
from musegen.models.autoregressive import Rows
from musegen.models.hf import llama_config
from musegen.models.registry import GENERATORS
from musegen.models.transformer import Transformer
from musegen.music.midi import read_midi
from musegen.sampling.draw import Draw
from musegen.sampling.engines.onnx import OnnxEngine, OnnxModel
from musegen.sampling.engines.onnx_graph import build_graphs
from musegen.sampling.engines.torch import TorchEngine
from musegen.tokens.planning import Ask, plan_composition
from musegen.tokens.tokenizer import load_tokenizer
from musegen.tokens.wishes import Controls
from musegen.training.run import RunConfig

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHAPES = {
    "rows": {"width": 288, "layers": 5, "heads": 4},
    "flat": {"width": 320, "layers": 5, "heads": 4},
}
PRESETS = {"rows": "events", "flat": "remi"}
CONTEXT = 512
GOALS = {
    "rows_b1_over_transformers": 15.0,
    "rows_b8_over_transformers": 12.0,
    "rows_b1_over_midigpt": 5.0,
    "flat_b1_onnx_over_torch": 3.0,
    "bandwidth_b1": 0.25,
    "step_over_hook_b1": 10.0,
    "step_over_hook_b8": 10.0,
    "linear_growth": 0.75,
}
LONG = 4096


class Layout:
    """A preset with a model of random weights, and what a note takes of it."""

    def __init__(self, layout: str, context: int = CONTEXT) -> None:
        self.tokenizer = load_tokenizer(PRESETS[layout])
        tokenizer = self.tokenizer
        settings = RunConfig.of(GENERATORS["transformer"], "tiny", tokenizer).model
        config = dataclasses.replace(settings, context=context, **SHAPES[layout])
        torch.manual_seed(0)
        self.network = Transformer(config).eval()
        self.parameters = sum(one.numel() for one in self.network.parameters())
        positions = notes = 0
        for path in sorted(EXAMPLES.glob("*.mid")):
            score, _ = read_midi(path)
            positions += len(tokenizer.encode(score).rows)
            notes += sum(len(track.notes) for track in score.tracks)
        self.positions_a_note = positions / notes

    def engines(self) -> dict[str, Any]:
        """Our engines over this model, by name."""
        tensors = {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}
        found: dict[str, Any] = {}
        for precision in ("int8", "fp32"):
            graphs = build_graphs(self.network.config, tensors, precision)
            table = tensors["model.embed_tokens.weight"]
            found[f"onnx {precision}"] = OnnxEngine(OnnxModel(self.network.config, graphs, table))
        for name, dtype in (("fp32", torch.float32), ("fp64", torch.float64)):
            found[f"torch {name}"] = TorchEngine(self.network, dtype=dtype)
        return found


class Timed:
    """An engine that counts what brings the pieces on, and the processor time spent in it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.field_sizes, self.max_positions = engine.field_sizes, engine.max_positions
        self.positions, self.seconds = 0, 0.0

    def open(self, slots: int) -> None:
        self.engine.open(slots)

    def extend(self, advances: Mapping[int, Advance]) -> None:
        begin = time.process_time()
        self.engine.extend(advances)
        self.seconds += time.process_time() - begin
        self.positions += sum(len(one.rows) for one in advances.values() if not one.restart)

    def logits(self, *arguments: Any) -> np.ndarray:
        begin = time.process_time()
        found = self.engine.logits(*arguments)
        self.seconds += time.process_time() - begin
        return found


def written(
    layout: Layout, engine: Any, batch: int, positions: int, seed: int
) -> tuple[float, ...]:
    """Positions written by `batch` pieces side by side, seconds, and seconds in the engine."""
    ask = Ask(1024, None, ["piano", "bass", "drums"], None, None, None, Controls.of())
    planned = plan_composition(ask, None, "").fitted(layout.tokenizer)
    timed = Timed(engine)
    requests = []
    for sample in range(batch):
        guide = layout.tokenizer.guide(planned.for_sample(seed, sample), engine.max_positions)
        requests.append(RowRequest(guide, timed))
    rows, draw = Rows(), Draw(seed)
    state = rows.begin(requests, draw)
    timed.positions, timed.seconds = 0, 0.0
    begin = time.process_time()
    while timed.positions < positions:
        state = rows.step(state, draw)
    return timed.positions, time.process_time() - begin, timed.seconds


def generated(llama: Any, vocabulary: int, batch: int, tokens: int) -> tuple[float, ...]:
    """Tokens that transformers' generate draws, and seconds."""
    prompt = torch.randint(1, vocabulary, (batch, 16), generator=torch.Generator().manual_seed(0))
    count = max(16, min(tokens // batch, CONTEXT - 32))
    begin = time.process_time()
    with torch.no_grad():
        out = llama.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            use_cache=True,
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=0,
        )
    return (out.shape[1] - 16) * batch, time.process_time() - begin, 0.0


def llama_of(layout: Layout) -> Any:
    """LlamaForCausalLM of the same weights."""
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = transformers.LlamaConfig(**llama_config(layout.network.config))
        settings.eos_token_id = settings.bos_token_id = None
        return transformers.LlamaForCausalLM(settings).eval()


def midigpt_notes() -> dict[str, float]:
    """Notes a second of midigpt; called in a process of its own."""
    from midigpt import Bar, Score, Track, _core
    from midigpt.attributes.base import AttributeAnalyzer
    from midigpt.inference import GenerationRequest, InferenceConfig, InferenceEngine, TrackPrompt
    from midigpt.inference.model.gpt2 import GPT2Config, GPT2LMHeadModel
    from midigpt.tokenizer.tokenizer import Tokenizer

    settings = {
        "resolution": 12,
        "num_bars_map": [4, 8],
        "time_signatures": ["4/4", "3/4"],
        "supports_infill": True,
        "velocity_levels": 32,
    }
    config = _core.EncoderConfig.from_json(json.dumps(settings))
    analyzer = AttributeAnalyzer.from_config(config)
    tokenizer = Tokenizer(config, analyzer)
    torch.manual_seed(0)
    shape = {"n_positions": 4096, "n_embd": 256, "n_layer": 6, "n_head": 8}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer._vocab.size(), **shape)).eval()
    engine = InferenceEngine(model, tokenizer, analyzer)
    engine.warmup()
    rates = []
    for seed in (1, 2, 3):
        score = Score(tracks=[Track(bars=[Bar() for _ in range(4)])])
        how = InferenceConfig(
            model_dim=4, seed=seed, max_attempts=1, novelty_check=False, silence_check=False
        )
        request = GenerationRequest(tracks=[TrackPrompt(id=0, bars=[0, 1, 2, 3])], config=how)
        begin = time.process_time()
        result = engine.session(score, request).run()
        seconds = time.process_time() - begin
        rates.append(sum(len(bar.notes) for one in result.tracks for bar in one.bars) / seconds)
    parameters = sum(one.numel() for one in model.parameters())
    return {"notes_per_s": statistics.median(rates), "parameters": parameters}


def midigpt() -> dict[str, float] | None:
    """The same, from that process; None where midigpt is not installed."""
    try:
        importlib.metadata.version("midigpt")
    except importlib.metadata.PackageNotFoundError:
        return None
    here = [sys.executable, __file__, "--midigpt"]
    done = subprocess.run(here, capture_output=True, text=True)
    if done.returncode:
        print(f"midigpt does not run: {done.stderr.splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def read_rate(size: int) -> float:
    """Bytes a second that one thread reads of an array of so many bytes."""
    array = np.ones(size // 8, np.uint64)
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        np.bitwise_or.reduce(array)
        times.append(time.perf_counter() - begin)
    return size / statistics.median(times)


def growth(positions: int, plots: Path | None) -> float:
    """1 over the power of the length that decoding takes: 1 is linear, 0.5 quadratic."""
    layout = Layout("rows", positions)
    config = layout.network.config
    rng = np.random.default_rng(0)
    engines = layout.engines()
    curves: dict[str, list[float]] = {}
    for name in ("onnx int8", "torch fp32"):
        engine = engines[name]
        engine.open(1)
        taken, spent = [0.0], 0.0
        for place in range(positions):
            row = np.array([[rng.integers(1, size) for size in config.field_sizes]])
            channels = np.zeros((1, len(config.channels)), np.int64)
            advance = Advance(row, channels, np.full((1, len(config.axes)), float(place)))
            begin = time.process_time()
            engine.extend({0: advance})
            spent += time.process_time() - begin
            taken.append(spent)
        curves[name] = taken
        print(f"{positions} positions, {name}: {spent:.2f} s")
    if plots is not None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(6, 4))
        for name, taken in curves.items():
            axes.plot(taken, label=name)
        axes.set(xlabel="positions", ylabel="seconds", title="decoding, batch 1")
        axes.legend()
        plots.mkdir(parents=True, exist_ok=True)
        figure.savefig(plots / "decode.png", dpi=120)
        print(f"wrote {plots / 'decode.png'}")
    taken, eighth = curves["onnx int8"], positions // 8
    return math.log(8) / math.log(taken[-1] / taken[eighth])


def in_turns(
    runs: Mapping[str, Callable[[int], tuple[float, ...]]], rounds: int
) -> dict[str, list[tuple[float, ...]]]:
    """The results of each run, one after another, so that a busy machine slows all alike."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            result = run(number)
            if number:  # the first one allocates
                found[name].append(result)
    return found


def main() -> bool:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the growth as a picture")
    parser.add_argument("--midigpt", action="store_true", help="only midigpt, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.midigpt:
        print(json.dumps(midigpt_notes()))
        return True
    rounds, positions = (2, 128) if options.quick else (6, 512)
    layouts = {name: Layout(name) for name in SHAPES}
    llama = llama_of(layouts["flat"])
    vocabulary = layouts["flat"].tokenizer.field_sizes[0]
    table, notes_s, shares = [], {}, {}
    for batch in (1, 8):
        runs: dict[str, Callable[[int], tuple[float, ...]]] = {}
        for layout_name, layout in layouts.items():
            for name, engine in layout.engines().items():
                runs[f"{layout_name}, {name}"] = (
                    lambda seed, layout=layout, engine=engine, batch=batch: written(
                        layout, engine, batch, positions * batch, seed
                    )
                )
        runs["flat, transformers generate"] = lambda seed, batch=batch: generated(
            llama, vocabulary, batch, positions * batch
        )
        for name, results in in_turns(runs, rounds).items():
            layout = layouts[name.split(",")[0]]
            seconds = statistics.median(spent / count for count, spent, _ in results)
            inside = statistics.median(inner / spent for _, spent, inner in results)
            notes_s[name, batch] = 1 / seconds / layout.positions_a_note
            shares[name, batch] = (seconds, 1 - inside)
            table.append(
                {
                    "what": name,
                    "batch": batch,
                    "parameters": layout.parameters,
                    "us/position": 1e6 * seconds,
                    "positions/note": layout.positions_a_note,
                    "notes/s": notes_s[name, batch],
                    "hook": 1 - inside if inside else "",
                }
            )
    ours, theirs = "rows, onnx int8", "flat, transformers generate"
    weights = layouts["rows"].parameters
    stored = weights * (1 + 4 / 32)
    rate = read_rate(int(stored))
    second, hook = shares[ours, 1]
    share = stored / rate / second
    print(
        f"{stored / 1e6:.1f} MB of weights at {rate / 1e9:.1f} GB/s are {1e6 * stored / rate:.0f} "
        f"of {1e6 * second:.0f} us a position ({share:.2f}); {hook:.2f} of it is masks, filters, "
        "draws and guides, the rest the engine: attention, small operators, heads, Python's calls"
    )
    ratios = {
        "rows_b1_over_transformers": notes_s[ours, 1] / notes_s[theirs, 1],
        "rows_b8_over_transformers": notes_s[ours, 8] / notes_s[theirs, 8],
        "flat_b1_onnx_over_torch": notes_s["flat, onnx int8", 1] / notes_s["flat, torch fp32", 1],
        "bandwidth_b1": share,
        "step_over_hook_b1": 1 / shares[ours, 1][1],
        "step_over_hook_b8": 1 / shares[ours, 8][1],
        "linear_growth": growth(1024 if options.quick else LONG, options.plots),
    }
    peer = midigpt()
    if peer is not None:
        table.append(
            {
                "what": "midigpt, its session",
                "batch": 1,
                "parameters": int(peer["parameters"]),
                "us/position": "",
                "positions/note": "",
                "notes/s": peer["notes_per_s"],
                "hook": "",
            }
        )
        ratios["rows_b1_over_midigpt"] = notes_s[ours, 1] / peer["notes_per_s"]
    return report("decode", table, ratios, {name: GOALS[name] for name in ratios})


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
