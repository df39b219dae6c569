"""Training: a step beside other libraries, rows beside flat ids, and the run around the steps.

    python benchmarks/train.py [--quick] [--data FOLDER_OF_MIDI] [--plots DIR]

Steps (forward, backward, AdamW) of models of about six million parameters, in turns in one process,
on the same random ids, one thread, processor time, bfloat16 autocast where the processor has units
for it. Ratios, larger is better:

* rows_over_flat: notes a second of the preset `events` over those of `remi`, in the shapes and with
  the positions a note of benchmarks/decode.py; both batches hold the same number of notes.
* over_llama: seconds of LlamaForCausalLM with the same weights over those of our flat model.
* over_x_transformers: the same against a Decoder of x-transformers in the same shape (rotary,
  RMSNorm, SwiGLU, grouped heads, flash attention). Left out where it is not installed.
* bf16_over_fp32: seconds of our flat step in fp32 over those in bfloat16; without units for
  bfloat16 it is printed, but has no goal.
* loop: seconds of a loop written by hand over those of the trainer, for the same small model.

What is around the steps is in benchmarks/train_whole.py: `two_processes`, `useful`, `memory`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import contextlib
import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import arguments, report
from decode import Layout
from train_whole import Shards, memory_growth, two_processes, useful_share

from musegen.models.hf import llama_config
from musegen.models.transformer import Transformer, TransformerConfig
from musegen.training.config import TrainerConfig
from musegen.training.device import computes_bf16, resolve_device
from musegen.training.optim import build_optimizers, rate_at
from musegen.training.trainer import Trainer

GOALS = {
    "rows_over_flat": 3.0,
    "over_llama": 1.0,
    "over_x_transformers": 1.0,
    "bf16_over_fp32": 1.0,
    "loop": 0.97,
    "two_processes": 1.5,
    "useful": 0.95,
    "memory": 0.75,
}
LOOP_SHAPE = {"width": 64, "layers": 2, "heads": 2, "context": 128}
"""A small model: what the loop costs shows most where a step is short."""


class Ids:
    """Random rows; a batch is made once, so that the data cost nothing here."""

    def __init__(self, config: TransformerConfig, rows: int, length: int = 0) -> None:
        rng = np.random.default_rng(0)
        length = length or config.context
        shape = (rows, length + 1)
        ids = np.stack([rng.integers(1, size, shape) for size in config.field_sizes], axis=-1)
        channels = [rng.integers(0, size, (rows, length)) for _, size in config.channels]
        places = np.arange(length, dtype=np.float32)[None, :, None]
        self.one = {
            "rows": ids[:, :-1].copy(),
            "targets": ids[:, 1:].copy(),
            "channels": np.stack([np.zeros((rows, length), np.int64), *channels], -1)[..., 1:],
            "coordinates": np.tile(places, (rows, 1, len(config.axes))),
            "segments": np.ones((rows, length), np.int64),
            "weights": np.ones((rows, length), np.float32),
            "notes": np.ones((rows, length), bool),
        }

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """The batch, whatever its number."""
        return self.one


class Step:
    """Forward, backward and update of one model on one batch."""

    def __init__(self, model: torch.nn.Module, loss: Callable[[], torch.Tensor], low: bool) -> None:
        self.device = next(model.parameters()).device
        self.loss, self.low = loss, low
        self.parameters = sum(one.numel() for one in model.parameters())
        fused = self.device.type in ("cpu", "cuda")
        self.adam = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)

    def value(self) -> torch.Tensor:
        """The loss, in the precision of this step."""
        with (
            torch.autocast(self.device.type, torch.bfloat16)
            if self.low
            else contextlib.nullcontext()
        ):
            return self.loss()

    def __call__(self) -> None:
        self.value().backward()
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def interleaved(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, in turns, so that a busy machine slows all of them alike.

    On the CPU it is processor time, of which other programs take none.
    """
    clock = time.process_time if resolve_device("auto").type == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            start = clock()
            step()
            if number >= 2:  # the first ones allocate
                times[name].append(clock() - start)
    return times


def paired(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """The median over rounds of time(slow) / time(fast): above 1, `fast` is the faster one."""
    pairs = zip(times[slow], times[fast], strict=True)
    return statistics.median(one / two for one, two in pairs)


def llama_of(ours: Transformer) -> torch.nn.Module:
    """LlamaForCausalLM of the same weights."""
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = transformers.LlamaConfig(**llama_config(ours.config))
        settings.use_cache = False
        llama = transformers.LlamaForCausalLM(settings).train()
    missing = set(ours.state_dict()) - set(llama.state_dict())
    if missing:
        raise SystemExit(f"the models differ: {sorted(missing)[:3]}")
    llama.load_state_dict({**ours.state_dict(), "lm_head.weight": llama.lm_head.weight.data})
    return llama


def x_transformer_of(config: TransformerConfig) -> torch.nn.Module:
    """A model of x-transformers with the same parts in the same sizes."""
    from x_transformers import Decoder, TransformerWrapper

    decoder = Decoder(
        dim=config.width,
        depth=config.layers,
        heads=config.heads,
        attn_dim_head=config.head_size,
        attn_kv_heads=config.kv_heads,
        attn_flash=True,
        rotary_pos_emb=True,
        rotary_emb_dim=config.head_size,
        use_rmsnorm=True,
        ff_mult=config.hidden / config.width,
        ff_glu=True,
        ff_swish=True,
        ff_no_bias=True,
        verbose=False,
    )
    return TransformerWrapper(
        num_tokens=config.field_sizes[0],
        max_seq_len=config.context,
        attn_layers=decoder,
        tie_embedding=True,
        use_abs_pos_emb=False,
    ).train()


def models_in_turns(flat_rows: int, rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The table and the ratios of all models' steps."""
    device = resolve_device("auto")
    low = computes_bf16(device)
    layouts = {name: Layout(name) for name in ("rows", "flat")}
    context = layouts["flat"].network.config.context
    notes = flat_rows * context / layouts["flat"].positions_a_note
    # As many positions of rows as those notes take, in windows of about the same length.
    count = notes * layouts["rows"].positions_a_note
    lines = max(1, round(count / context))
    shapes = {"rows": (lines, round(count / lines)), "flat": (flat_rows, context)}
    steps: dict[str, Step] = {}
    for name, layout in layouts.items():
        model = layout.network.to(device).train()
        arrays = Ids(model.config, *shapes[name]).one
        batch = {key: torch.as_tensor(array).to(device) for key, array in arrays.items()}
        steps[name] = Step(model, lambda m=model, b=batch: m.loss(b).value, low)
    ours = layouts["flat"].network
    ids, targets = batch["rows"][..., 0], batch["targets"][..., 0]

    def entropy(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    llama = llama_of(ours).to(device)
    steps["llama"] = Step(llama, lambda: entropy(llama(input_ids=ids).logits), low)
    with torch.no_grad():
        one, two = float(steps["flat"].value()), float(steps["llama"].value())
    if abs(one - two) > 0.02:
        raise SystemExit(f"the models differ: losses {one:.4f} and {two:.4f}")
    if importlib.util.find_spec("x_transformers"):
        other = x_transformer_of(ours.config).to(device)
        steps["x_transformers"] = Step(other, lambda: entropy(other(ids)), low)
        share = steps["x_transformers"].parameters / steps["flat"].parameters
        if abs(share - 1) > 0.02:
            raise SystemExit(f"the models differ: x-transformers has {share:.3f} of our parameters")
    # The same model once more: its steps go on, whatever the precision.
    steps["flat, other precision"] = Step(ours, steps["flat"].loss, not low)
    times = interleaved(dict(steps), rounds)
    table = []
    for name, spent in times.items():
        lines, length = shapes["rows" if name == "rows" else "flat"]
        seconds = statistics.median(spent)
        table.append(
            {
                "step of": name,
                "precision": "bf16" if steps[name].low else "fp32",
                "parameters": steps[name].parameters,
                "positions": lines * length,
                "median_s": seconds,
                "positions/s": lines * length / seconds,
                "notes/s": notes / seconds,
            }
        )
    ratios = {
        "rows_over_flat": paired(times, "flat", "rows"),
        "over_llama": paired(times, "llama", "flat"),
    }
    if "x_transformers" in times:
        ratios["over_x_transformers"] = paired(times, "x_transformers", "flat")
    names = ("flat, other precision", "flat") if low else ("flat", "flat, other precision")
    gain = paired(times, *names)
    if low:
        ratios["bf16_over_fp32"] = gain
    else:
        print(f"no units for bfloat16 here: a step in it is {gain:.2f} times as fast as in fp32")
    return table, ratios


def against_hand(steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of `steps` steps of the trainer, and of the same arithmetic written out."""
    config = TransformerConfig(field_sizes=(300,), **LOOP_SHAPE)
    source = Ids(config, 4)
    settings = TrainerConfig(steps=steps, checkpoint_minutes=0.0, precision="fp32")
    device = resolve_device("auto")

    def trainer() -> None:
        torch.manual_seed(0)
        Trainer(Transformer(config), settings, source).fit()

    def hand() -> None:
        torch.manual_seed(0)
        model = Transformer(config).to(device).train()
        optimizers = build_optimizers(model, settings)
        parameters = list(model.parameters())
        for step in range(steps):
            torch.manual_seed(step)
            arrays = source.batch(step)
            batch = {name: torch.as_tensor(array).to(device) for name, array in arrays.items()}
            model.loss(batch).value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
            rate = rate_at(step, steps, settings)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

    return interleaved({"trainer": trainer, "hand": hand}, rounds)


def main() -> bool:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the growth as a picture")
    options = parser.parse_args()
    # One thread unless told: the figures are of processor time, which threads spend in waiting.
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    quick = options.quick
    table, ratios = models_in_turns(*((3, 3) if quick else (7, 12)))
    loop = against_hand(*((20, 5) if quick else (40, 15)))
    ratios["loop"] = paired(loop, "hand", "trainer")
    per_step = {name: 1e3 * statistics.median(times) for name, times in loop.items()}
    print(f"ms of {20 if quick else 40} small steps: {per_step}")
    with Shards(options.data) as shards:
        ratios["useful"] = useful_share(shards, 40 if quick else 200)
        gain = two_processes(shards, *((6, 1) if quick else (12, 2)))
    contexts = (256, 2048) if quick else (256, 512, 1024, 2048, 4096)
    linear = memory_growth(contexts, options.plots)
    ratios |= {"two_processes": gain} if gain is not None else {}
    ratios |= {"memory": linear} if linear is not None else {}
    return report("train", table, ratios, {name: GOALS[name] for name in ratios})


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
