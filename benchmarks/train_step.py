"""A step of training: our transformer against the same-size LlamaForCausalLM of transformers, and
the one generic loop against a loop written by hand.

Both comparisons run in one process, interleaved, on the same random ids, in the same precision
(bfloat16 autocast where the processor has units for it). Goals: `llama` 1.0 (forward, backward
and AdamW are not slower than theirs), `loop` 0.97 (the trainer costs at most 3%).

    python benchmarks/train_step.py --quick
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import contextlib
import dataclasses
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from bench import arguments, report

from musegen.models.hf import llama_config
from musegen.models.transformer import Transformer, TransformerConfig
from musegen.training.config import TrainerConfig
from musegen.training.device import computes_bf16, resolve_device
from musegen.training.optim import build_optimizers, rate_at
from musegen.training.trainer import Trainer

GOALS = {"llama": 1.0, "loop": 0.97}
LOOP_SHAPE = {"width": 64, "layers": 2, "heads": 2, "context": 128}
"""A small model: what the loop costs shows most where a step is short."""


class Ids:
    """Random ids; a batch is made once, so that the data cost nothing here."""

    def __init__(self, config: TransformerConfig, rows: int) -> None:
        rng = np.random.default_rng(0)
        length = config.context
        ids = rng.integers(1, config.field_sizes[0], (rows, length + 1, 1))
        places = np.arange(length, dtype=np.float32)[None, :, None]
        self.one = {
            "rows": ids[:, :-1].copy(),
            "targets": ids[:, 1:].copy(),
            "channels": np.zeros((rows, length, 0), np.int64),
            "coordinates": np.repeat(places, rows, axis=0),
            "segments": np.ones((rows, length), np.int64),
            "weights": np.ones((rows, length), np.float32),
            "notes": np.ones((rows, length), bool),
        }

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """The batch, whatever its number."""
        return self.one


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


def against_llama(config: TransformerConfig, rows: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of forward, backward and update of both."""
    import transformers

    device = resolve_device("auto")
    torch.manual_seed(0)
    ours = Transformer(config).to(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = transformers.LlamaConfig(**llama_config(config))
        settings.use_cache = False
        llama = transformers.LlamaForCausalLM(settings).to(device).train()
    missing = set(ours.state_dict()) - set(llama.state_dict())
    if missing:
        raise SystemExit(f"the models differ: {sorted(missing)[:3]}")
    llama.load_state_dict({**ours.state_dict(), "lm_head.weight": llama.lm_head.weight.data})
    batch = {
        name: torch.as_tensor(array).to(device) for name, array in Ids(config, rows).one.items()
    }
    ids, targets = batch["rows"][..., 0], batch["targets"][..., 0]
    fused = device.type in ("cpu", "cuda")
    adams = {
        name: torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)
        for name, model in (("ours", ours), ("llama", llama))
    }
    low = computes_bf16(device)

    def autocast() -> Any:
        return torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext()

    def our_loss() -> torch.Tensor:
        return ours.loss(batch).value

    def their_loss() -> torch.Tensor:
        logits = llama(input_ids=ids).logits.float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def step(name: str, loss_of: Callable[[], torch.Tensor]) -> None:
        with autocast():
            loss = loss_of()
        loss.backward()
        adams[name].step()
        adams[name].zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad(), autocast():
        one, two = float(our_loss()), float(their_loss())
    if abs(one - two) > 0.02:
        raise SystemExit(f"the models differ: losses {one:.4f} and {two:.4f}")
    return interleaved(
        {"ours": lambda: step("ours", our_loss), "llama": lambda: step("llama", their_loss)},
        rounds,
    )


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


def paired(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """The median over rounds of time(slow) / time(fast): above 1, `fast` is the faster one."""
    pairs = zip(times[slow], times[fast], strict=True)
    return statistics.median(one / two for one, two in pairs)


def main() -> int:
    """Runs both comparisons."""
    options = arguments(__doc__ or "").parse_args()
    # One thread unless told: the figures are of processor time, which threads spend in waiting.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = TransformerConfig(
        field_sizes=(400,), width=256, layers=4, heads=4, kv_heads=2, context=512
    )
    rows, rounds = (4, 6) if options.quick else (8, 20)
    llama = against_llama(config, rows, rounds)
    loop = against_hand(*((20, 7) if options.quick else (40, 15)))
    table = [
        {"what": name, "median_s": statistics.median(times), "least_s": min(times)}
        for name, times in (*llama.items(), *loop.items())
    ]
    ratios = {"llama": paired(llama, "llama", "ours"), "loop": paired(loop, "hand", "trainer")}
    print(f"step of {rows} x {config.context} ids, {dataclasses.asdict(config)['width']} wide")
    report("train_step", table, ratios, GOALS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
