"""The one training loop, for every family: it knows players and losses, nothing of models.

Reproducible by construction: a batch is a function of its number, the random numbers of a step
are seeded by (seed, step), and a checkpoint holds weights, optimisers, running mean and step in
full precision. So a run that is killed and resumed ends with the same bytes as one that was not
(on one device, with one number of threads). Several processes (musegen/training/distributed.py)
share the rows of each batch: they see the same samples in the same order as one process does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from musegen.config import to_dict
from musegen.errors import CheckpointError, NonFiniteLoss, TrainingError
from musegen.models.base import GenerativeModel, Loss, Player, parameters_of
from musegen.training.config import TrainerConfig
from musegen.training.device import computes_bf16, lacks_compiler, resolve_device
from musegen.training.distributed import Processes, SharedLoss
from musegen.training.log import JsonLog, Progress, TrainingResult, means, sums
from musegen.training.optim import Ema, build_optimizers, rate_at
from musegen.training.sharding import local, together, whole
from musegen.training.signals import stop_signals
from musegen.training.state import RunState, load_run, save_run

__all__ = ["DataSource", "Progress", "Trainer", "TrainerConfig", "TrainingResult", "Validation"]

TIMED_SHARE = 0.02
"""Share of `minutes` whose steps are timed before the number of steps is fixed."""

TIMED_STEPS = 10
"""Fewest steps that are timed."""

UNTIMED_STEPS = 2
"""Steps before that: they allocate and warm up."""

DEFAULT_STEPS = 1_000


class DataSource(Protocol):
    """An endless stream of batches."""

    def batch(self, index: int) -> Mapping[str, np.ndarray]:
        """Batch number `index`, from 0; a pure function of the source's seed and `index`."""
        ...


class Validation(Protocol):
    """Held-out batches, the same each time."""

    def batches(self) -> Iterable[Mapping[str, np.ndarray]]:
        """All of them, once."""
        ...


class Trainer:
    """Trains one model from one source; see `fit`.

    `out` is the folder of the log and of `last/`, the state to resume from; None keeps neither.
    `settings` are those of the source: with `config` they say which run it is, and another one is
    not resumed.
    `save_best(trainer, weights, validation)` is called with the best weights, by name, whenever
    the monitor improves (and at the end when there is no validation): the caller knows what a model
    folder should say. `on_progress` is called with a `Progress` at each line of the log.
    `processes` are those that train together; the first one alone writes and calls back.
    `compiled` compiles the model's parts where a compiler is there, and says so where none is; the
    bits of a step are then those of the compiler.
    """

    def __init__(
        self,
        model: GenerativeModel,
        config: TrainerConfig,
        source: DataSource,
        validation: Validation | None = None,
        *,
        out: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
        save_best: Callable[[Trainer, Mapping[str, Tensor], Mapping[str, float]], None]
        | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        processes: Processes = Processes(),
        compiled: bool = False,
    ) -> None:
        self.config, self.processes = config, processes
        self.device = resolve_device(device)
        if config.precision == "bf16" and self.device.type == "mps":
            raise TrainingError("precision bf16 is not supported on mps; use auto or fp32")
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and computes_bf16(self.device)
        )
        self.model = model.to(self.device)
        self.source, self.validation = source, validation
        self.out = Path(out) if out is not None else None
        self.settings = {**to_dict(config), **(settings or {})}
        self.save_best = save_best
        self.on_progress = on_progress if processes.main else None
        self.notes: tuple[str, ...] = ()
        """What the user should know of the run."""
        if compiled:
            self._compile()
        self.players = model.players()
        if processes.sharded and len(self.players) > 1:
            raise TrainingError(
                f"this family trains {len(self.players)} players, and only one can be shared out "
                "among processes; train without --shard"
            )
        parts = model.compile_parts()
        self.losses = {
            player.name: SharedLoss(player, processes, parts, self.device)
            for player in self.players
        }
        self.optimizers = {
            player.name: build_optimizers(player.module, config) for player in self.players
        }
        self.owned = {player.name: list(player.module.parameters()) for player in self.players}
        self.ema = Ema(model, config.ema) if config.ema else None
        self.state = RunState(steps=config.steps or (None if config.minutes else DEFAULT_STEPS))
        self._stopping = False
        self._one = torch.ones((), device=self.device)
        self._validation_s = 0.0
        self._pending: list[Mapping[str, tuple[Tensor, Tensor]]] = []

    def _compile(self) -> None:
        """Compiles the model's parts in place, or says why not; their names stay."""
        parts = self.model.compile_parts()
        reason = lacks_compiler(self.device) if parts else "this family names no parts for it"
        if reason:
            self.notes += (f"the model is not compiled: {reason}; training goes on without",)
        for part in parts if not reason else ():
            part.compile(dynamic=False)

    # -- the loop ---------------------------------------------------------------------------

    def fit(self, resume: bool = False) -> TrainingResult:
        """Trains to the end, or until Ctrl-C or SIGTERM, which save and return.

        With `resume` it goes on from `out/last`. Raises NonFiniteLoss (checkpoints of before are
        kept), CheckpointError when there is nothing fitting to resume from, TrainingError.
        """
        if resume:
            self.load_state()
        out = self.out if self.processes.main else None
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        config, state = self.config, self.state
        log = JsonLog(out / "log.jsonl" if out else None, state.step if resume else -1)
        before_s, start_s = state.elapsed_s, time.perf_counter()
        saved_s, timed_s, first_step = 0.0, 0.0, state.step
        self.model.train()
        with stop_signals(self._stop, patient=self.processes.size > 1):
            if state.step == 0 and self.validation is not None:
                state.first_validation = self._validate(log)
            now_s, stopping = self._clock(start_s)
            while not stopping and (state.steps is None or state.step < state.steps):
                self._train_step()
                state.step += 1
                now_s, stopping = self._clock(start_s)
                state.elapsed_s = before_s + now_s
                if state.step == first_step + UNTIMED_STEPS:
                    timed_s = now_s
                if state.steps is None:
                    self._fix_steps(now_s - timed_s, state.step - first_step - UNTIMED_STEPS, log)
                ended = state.step == state.steps
                if ended or state.step % config.log_every == 0:
                    self._report(log, now_s / (state.step - first_step))
                if ended or (config.validate_every and state.step % config.validate_every == 0):
                    self._validate(log)
                due = config.checkpoint_every and state.step % config.checkpoint_every == 0
                old_s = 60 * config.checkpoint_minutes
                if not ended and (due or (old_s and now_s - saved_s > old_s)):
                    self.save_state()
                    saved_s = now_s
            self.save_state()
            if state.best is None:
                with self._mean_weights():
                    self._keep({})
        return TrainingResult(
            step=state.step,
            steps=state.steps,
            interrupted=state.steps is None or state.step < state.steps,
            first_validation=state.first_validation,
            last_validation=state.last_validation,
            best=state.best,
            best_step=state.best_step,
            elapsed_s=state.elapsed_s,
        )

    def _stop(self) -> None:
        self._stopping = True

    def _clock(self, start_s: float) -> tuple[float, bool]:
        """Seconds since `start_s`, and whether to stop: the same answer in every process."""
        now_s, stopping = self.processes.agree(time.perf_counter() - start_s, self._stopping)
        return now_s, bool(stopping)

    def _train_step(self) -> None:
        config = self.config
        # Seeding by step leaves no generator state to keep, on whatever device. Each process has
        # rows of its own, and so random numbers of its own.
        own = self.processes.rank * 7_368_787_123
        torch.manual_seed((config.seed * 1_000_003 + self.state.step + own) % 2**63)
        rate = rate_at(self.state.step, self.state.steps, config)
        updates = sum(player.steps for player in self.players)
        index = self.state.step * updates * config.accumulation
        metrics: dict[str, tuple[Tensor, Tensor]] = {}
        for player in self.players:
            with self._only(player):
                for _ in range(player.steps):
                    self._update(player, index, rate, metrics)
                    index += config.accumulation
        if self.ema is not None:
            self.ema.update()
        self._pending.append(metrics)

    def _update(
        self, player: Player, index: int, rate: float, metrics: dict[str, tuple[Tensor, Tensor]]
    ) -> None:
        """One update of one player, on fresh batches from number `index`."""
        count, size = self.config.accumulation, self.processes.size
        optimizers, loss_of = self.optimizers[player.name], self.losses[player.name]
        weights: list[Tensor] = []
        for micro in range(count):
            batch = self._tensors(self.source.batch(index + micro))
            with loss_of.exchanging(micro + 1 == count):
                with self._autocast(player):
                    loss = loss_of(batch)
                if count == size == 1:
                    loss.value.backward()
                else:
                    weights.append(self._one if loss.weight is None else loss.weight)
                    (loss.value * weights[-1]).backward()
            self._collect(player, loss, loss.metrics, metrics)
        if weights:
            self._average(player, torch.stack([w.float() for w in weights]).sum())
        if self.config.clip:
            norm = torch.nn.utils.clip_grad_norm_(self.owned[player.name], self.config.clip)
            # Every process has the same norm: adding them up and counting them changes nothing.
            self._collect(player, None, {"grad_norm": (together(norm), _ONE)}, metrics)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _average(self, player: Player, weight: Tensor) -> None:
        """Makes gradients of sums those of a mean over all batches and processes.

        `weight` is what this process's losses weighed; the gradients are already means over the
        processes. The sum stays on the device: nothing waits for it here.
        """
        whole = self.processes.total(weight)
        scale = torch.where(whole > 0, self.processes.size / whole, 0.0)
        gradients = [local(p.grad) for p in self.owned[player.name] if p.grad is not None]
        torch._foreach_mul_(gradients, scale)

    def _collect(
        self,
        player: Player,
        loss: Loss | None,
        found: Mapping[str, tuple[Tensor, Tensor]],
        metrics: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        prefix = f"{player.name}/" if len(self.players) > 1 else ""
        pairs = dict(found)
        if loss is not None:
            weight = _ONE if loss.weight is None else loss.weight.detach()
            pairs["loss"] = (loss.value.detach() * weight, weight)
        for name, (total, size) in pairs.items():
            key = prefix + name
            if key in metrics:
                total, size = metrics[key][0] + total, metrics[key][1] + size
            metrics[key] = (total, size)

    def _tensors(self, batch: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        tensors = {name: torch.as_tensor(array) for name, array in batch.items()}
        if self.device.type == "cpu":
            return tensors
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def _autocast(self, player: Player) -> Any:
        if not (self.bf16 and player.autocast):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @contextmanager
    def _only(self, player: Player) -> Iterator[None]:
        """Freezes what the other players own; costs nothing when there is one player."""
        if len(self.players) == 1:
            yield
            return
        own = {id(parameter) for parameter in self.owned[player.name]}
        frozen = [p for p in self.model.parameters() if p.requires_grad and id(p) not in own]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    # -- reports ----------------------------------------------------------------------------

    def _fix_steps(self, timed_s: float, timed: int, log: JsonLog) -> None:
        """Once enough steps are timed, says how many fit into the minutes."""
        state, budget_s = self.state, 60 * self.config.minutes
        if timed < TIMED_STEPS or timed_s < TIMED_SHARE * budget_s:
            return
        pace_s = timed_s / timed
        every = self.config.validate_every
        whole_s = pace_s + (self._validation_s / every if every else 0.0)
        left_s = budget_s - state.elapsed_s - self._validation_s
        state.steps = state.step + max(1, int(left_s / whole_s))
        minutes = f"{self.config.minutes:g} minutes"
        note = f"{state.steps} steps fit into {minutes} ({pace_s:.3f} s each)"
        log.write({"step": state.step, "steps": state.steps, "note": note})
        if self.on_progress is not None:
            self.on_progress(
                Progress(state.step, state.steps, math.nan, state.elapsed_s, None, note=note)
            )

    def _report(self, log: JsonLog, pace_s: float) -> None:
        state, metrics = self.state, self._check_finite()
        loss = metrics.get("loss", metrics.get(f"{self.players[-1].name}/loss", math.nan))
        rate = rate_at(state.step - 1, state.steps, self.config)
        elapsed_s = round(state.elapsed_s, 3)
        log.write({"step": state.step, "elapsed_s": elapsed_s, "rate": rate, **metrics})
        if self.on_progress is not None:
            eta_s = pace_s * (state.steps - state.step) if state.steps is not None else None
            self.on_progress(Progress(state.step, state.steps, loss, elapsed_s, eta_s, metrics))

    def _check_finite(self) -> dict[str, float]:
        """The means since the last look. Raises NonFiniteLoss."""
        metrics = means(self.processes.gather(sums(self._pending)))
        self._pending.clear()
        for name, value in metrics.items():
            if not math.isfinite(value):
                kept = "no checkpoint was written yet"
                if self.out is not None and (self.out / "last").is_dir():
                    kept = f"the last good state is kept in {self.out / 'last'}"
                raise NonFiniteLoss(
                    f"{name} became {value} by step {self.state.step}; {kept}; "
                    "try a lower learning_rate, or precision=fp32"
                )
        return metrics

    def _validate(self, log: JsonLog) -> dict[str, float]:
        """Held-out means, with the running mean's weights when there is one; keeps the best."""
        if self.validation is None:
            return {}
        self._check_finite()
        start_s = time.perf_counter()
        found: list[Mapping[str, tuple[Tensor, Tensor]]] = []
        state, monitor = self.state, self.model.monitor()
        with self._mean_weights():
            self.model.eval()
            torch.manual_seed(self.config.seed)  # losses with noise meet the same noise each time
            for batch, mine in self._shared_out(self.validation.batches()):
                tensors = self._tensors(batch)
                for player in self.players:
                    with torch.set_grad_enabled(not player.autocast), self._autocast(player):
                        loss = self.losses[player.name].held_out(tensors)
                    metrics: dict[str, tuple[Tensor, Tensor]] = {}
                    self._collect(player, loss, loss.metrics, metrics)
                    if mine:
                        found.append(metrics)
            values = means(self.processes.gather(sums(found)))
            if monitor not in values:
                known = ", ".join(values) or "nothing: no held-out batches"
                raise TrainingError(f"no held-out value of '{monitor}' (found {known})")
            if state.step and (state.best is None or values[monitor] < state.best):
                state.best, state.best_step = values[monitor], state.step
                self._keep(values)
            self.model.train()
        (self._validation_s,) = self.processes.agree(time.perf_counter() - start_s)
        state.last_validation = values
        log.write({"step": state.step, "validation": values})
        self._warn(values, log)
        if self.on_progress is not None:
            value, elapsed_s = values[monitor], state.elapsed_s
            self.on_progress(
                Progress(state.step, state.steps, value, elapsed_s, None, validation=values)
            )
        return values

    def _warn(self, values: Mapping[str, float], log: JsonLog) -> None:
        """Passes on what the family makes of the held-out metrics of a run that has begun."""
        if not self.state.step:
            return
        for alarm in self.model.alarms(values):
            if alarm not in self.notes:
                log.write({"step": self.state.step, "note": alarm})
                self.notes += (alarm,)

    def _shared_out(
        self, batches: Iterable[Mapping[str, np.ndarray]]
    ) -> Iterator[tuple[Mapping[str, np.ndarray], bool]]:
        """The batches of this process, and whether they count here.

        Processes that share a model compute side by side: to those for which the last ones do not
        suffice, another's is given again.
        """
        rank, stream = self.processes.rank, iter(batches)
        while group := list(islice(stream, self.processes.size)):
            if rank < len(group):
                yield group[rank], True
            elif self.processes.sharded:
                yield group[0], False

    def _keep(self, values: Mapping[str, float]) -> None:
        """Hands the weights of now to `save_best`, in the one process that writes."""
        if self.save_best is None:
            return
        main = self.processes.main
        weights = whole(self.model.state_dict(), main)
        if main:
            self.save_best(self, weights, values)

    @contextmanager
    def _mean_weights(self) -> Iterator[None]:
        """Within, the model holds the running mean of its weights (when there is one)."""
        if self.ema is None:
            yield
            return
        self.ema.swap()
        try:
            yield
        finally:
            self.ema.swap()

    # -- state ------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Writes `out/last`, all that resuming needs. Raises OutputError, NonFiniteLoss."""
        self._check_finite()
        if self.out is not None:
            last, main = self.out / "last", self.processes.main
            save_run(
                last, self.state, self.model, self.optimizers, self.ema, self.settings, write=main
            )

    def load_state(self) -> None:
        """Reads `out/last`. Raises CheckpointError: missing, damaged, or of another model."""
        if self.out is None:
            raise CheckpointError("there is no folder to resume from: give `out`")
        steps = self.state.steps
        last = self.out / "last"
        self.state = load_run(last, self.model, self.optimizers, self.ema, self.settings)
        # The same run unless the user asks for another length.
        self.state.steps = self.config.steps or self.state.steps or steps

    def summary(self, **more: Any) -> dict[str, Any]:
        """What a model folder says of its training, for `save_model`; `more` comes on top."""
        state = self.state
        told = {
            "step": state.step,
            "steps": state.steps,
            "minutes": round(state.elapsed_s / 60, 2),
            "device": self.device.type,
            "precision": "bf16" if self.bf16 else "fp32",
            "parameters": parameters_of([self.model]),
            "settings": to_dict(self.config),
        }
        return told | more


_ONE = torch.ones(())
