"""The one training loop, for every family: it knows players and losses, nothing of models.

Reproducible by construction: a batch is a function of its number, the random numbers of a step
are seeded by (seed, step), and a checkpoint holds weights, optimisers, running mean and step in
full precision. So a run that is killed and resumed ends with the same bytes as one that was not
(on one device, with one number of threads).
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from musegen.config import to_dict
from musegen.errors import CheckpointError, NonFiniteLoss, TrainingError
from musegen.models.base import GenerativeModel, Player
from musegen.training.checkpoint import load_tensors, weight_bytes, write_folder
from musegen.training.config import TrainerConfig
from musegen.training.device import computes_bf16, resolve_device
from musegen.training.log import JsonLog, Progress, TrainingResult, means
from musegen.training.optim import Ema, build_optimizers, pack_state, rate_at, unpack_state

__all__ = ["DataSource", "Progress", "Trainer", "TrainerConfig", "TrainingResult", "Validation"]

TIMED_SHARE = 0.02
"""Share of `minutes` whose steps are timed before the number of steps is fixed."""

TIMED_STEPS = 12
"""Fewest steps that are timed; the first two (allocations) are left out of the pace."""

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
    `save_best(trainer, validation)` is called with the best weights in `model` whenever the
    monitor improves (and at the end when there is no validation): the caller knows what a model
    folder should say. `on_progress` is called with a `Progress` at each line of the log.
    """

    def __init__(
        self,
        model: GenerativeModel,
        config: TrainerConfig,
        source: DataSource,
        validation: Validation | None = None,
        *,
        out: str | Path | None = None,
        device: str = "auto",
        save_best: Callable[[Trainer, Mapping[str, float]], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.config = config
        self.device = resolve_device(device)
        if config.precision == "bf16" and self.device.type == "mps":
            raise TrainingError("precision bf16 is not supported on mps; use auto or fp32")
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and computes_bf16(self.device)
        )
        self.model = model.to(self.device)
        self.source, self.validation = source, validation
        self.out = Path(out) if out is not None else None
        self.save_best, self.on_progress = save_best, on_progress
        self.players = model.players()
        self.optimizers = {
            player.name: build_optimizers(player.module, config) for player in self.players
        }
        self.owned = {player.name: list(player.module.parameters()) for player in self.players}
        self.ema = Ema(model, config.ema) if config.ema else None
        self.step = 0
        self.steps: int | None = config.steps or (None if config.minutes else DEFAULT_STEPS)
        self.best: float | None = None
        self.best_step = 0
        self.first_validation: dict[str, float] = {}
        self.last_validation: dict[str, float] = {}
        self.elapsed_s = 0.0
        self._stopping = False
        self._validation_s = 0.0
        self._pending: list[Mapping[str, tuple[Tensor, Tensor]]] = []

    # -- the loop ---------------------------------------------------------------------------

    def fit(self, resume: bool = False) -> TrainingResult:
        """Trains to the end, or until Ctrl-C or SIGTERM, which save and return.

        With `resume` it goes on from `out/last`. Raises NonFiniteLoss (checkpoints of before are
        kept), CheckpointError when there is nothing fitting to resume from, TrainingError.
        """
        if resume:
            self.load_state()
        log = JsonLog(self.out / "log.jsonl" if self.out else None, self.step if resume else -1)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        config, model = self.config, self.model
        before_s, start_s = self.elapsed_s, time.perf_counter()
        saved_s, mark_s, mark_step, reported = start_s, start_s, self.step, self.step
        model.train()
        with self._signals():
            if self.step == 0 and self.validation is not None:
                self.first_validation = self._validate(log)
            while not self._stopping and (self.steps is None or self.step < self.steps):
                self._train_step()
                self.step += 1
                now_s = time.perf_counter()
                self.elapsed_s = before_s + now_s - start_s
                if self.steps is None:
                    if self.step == 2:
                        mark_s, mark_step = now_s, self.step
                    self._fix_steps(now_s - mark_s, self.step - mark_step, log)
                ended = self.step == self.steps
                if self.step % config.log_every == 0 or ended:
                    pace_s = (now_s - start_s) / max(1, self.step - reported)
                    self._report(log, pace_s)
                if ended or (config.validate_every and self.step % config.validate_every == 0):
                    self._validate(log)
                due = config.checkpoint_every and self.step % config.checkpoint_every == 0
                old_s = 60 * config.checkpoint_minutes
                if self.out is not None and (due or (old_s and now_s - saved_s > old_s)):
                    self.save_state()
                    saved_s = time.perf_counter()
            interrupted = self.steps is None or self.step < self.steps
            self._check_finite()
            if self.out is not None:
                self.save_state()
            if self.validation is None and self.save_best is not None:
                with self._mean_weights():
                    self.save_best(self, {})
        return TrainingResult(
            step=self.step,
            steps=self.steps,
            interrupted=interrupted,
            first_validation=self.first_validation,
            last_validation=self.last_validation,
            best=self.best,
            best_step=self.best_step,
            elapsed_s=self.elapsed_s,
        )

    def _train_step(self) -> None:
        config = self.config
        # Seeding by step leaves no generator state to keep, on whatever device.
        torch.manual_seed((config.seed * 1_000_003 + self.step) % 2**63)
        rate = rate_at(self.step, self.steps, config)
        updates = sum(player.steps for player in self.players)
        index = self.step * updates * config.accumulation
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
        count = self.config.accumulation
        optimizers = self.optimizers[player.name]
        for micro in range(count):
            batch = self._tensors(self.source.batch(index + micro))
            with self._autocast(player):
                loss = player.loss(batch)
            (loss.value / count if count > 1 else loss.value).backward()
            self._collect(player, loss.value.detach(), loss.metrics, metrics)
        if self.config.clip:
            norm = torch.nn.utils.clip_grad_norm_(self.owned[player.name], self.config.clip)
            self._collect(player, None, {"grad_norm": (norm, torch.ones(()))}, metrics)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _collect(
        self,
        player: Player,
        value: Tensor | None,
        found: Mapping[str, tuple[Tensor, Tensor]],
        metrics: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        prefix = f"{player.name}/" if len(self.players) > 1 else ""
        pairs = dict(found) if value is None else {**found, "loss": (value, _ONE)}
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
        budget_s = 60 * self.config.minutes
        if timed < TIMED_STEPS or timed_s < TIMED_SHARE * budget_s:
            return
        pace_s = timed_s / timed
        every = self.config.validate_every
        pace_s += self._validation_s / every if every else 0.0
        left_s = budget_s - self.elapsed_s - self._validation_s
        self.steps = self.step + max(1, int(left_s / pace_s))
        note = f"{self.steps} steps fit into {self.config.minutes:g} minutes ({pace_s:.3f} s each)"
        log.write({"step": self.step, "steps": self.steps, "note": note})
        if self.on_progress is not None:
            self.on_progress(
                Progress(self.step, self.steps, math.nan, self.elapsed_s, None, note=note)
            )

    def _report(self, log: JsonLog, pace_s: float) -> None:
        metrics = self._check_finite()
        loss = metrics.get("loss", metrics.get(f"{self.players[-1].name}/loss", math.nan))
        eta_s = pace_s * (self.steps - self.step) if self.steps is not None else None
        rate = rate_at(self.step - 1, self.steps, self.config)
        log.write(
            {"step": self.step, "elapsed_s": round(self.elapsed_s, 3), "rate": rate, **metrics}
        )
        if self.on_progress is not None:
            self.on_progress(Progress(self.step, self.steps, loss, self.elapsed_s, eta_s, metrics))

    def _check_finite(self) -> dict[str, float]:
        """The means since the last look. Raises NonFiniteLoss."""
        metrics = means(self._pending)
        self._pending.clear()
        for name, value in metrics.items():
            if not math.isfinite(value):
                kept = "no checkpoint was written yet"
                if self.out is not None and (self.out / "last").is_dir():
                    kept = f"the last good state is kept in {self.out / 'last'}"
                raise NonFiniteLoss(
                    f"{name} became {value} by step {self.step}; {kept}; "
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
        monitor = self.model.monitor()
        with self._mean_weights():
            self.model.eval()
            torch.manual_seed(self.config.seed)  # losses with noise meet the same noise each time
            for batch in self.validation.batches():
                tensors = self._tensors(batch)
                for player in self.players:
                    with torch.set_grad_enabled(not player.autocast), self._autocast(player):
                        loss = player.loss(tensors)
                    metrics: dict[str, tuple[Tensor, Tensor]] = {}
                    self._collect(player, loss.value.detach(), loss.metrics, metrics)
                    found.append(metrics)
            values = means(found)
            if monitor not in values:
                known = ", ".join(values) or "nothing: no held-out batches"
                raise TrainingError(f"no held-out value of '{monitor}' (found {known})")
            if self.step and (self.best is None or values[monitor] < self.best):
                self.best, self.best_step = values[monitor], self.step
                if self.save_best is not None:
                    self.save_best(self, values)
            self.model.train()
        self._validation_s = time.perf_counter() - start_s
        self.last_validation = values
        log.write({"step": self.step, "validation": values})
        if self.on_progress is not None:
            self.on_progress(
                Progress(
                    self.step,
                    self.steps,
                    values[monitor],
                    self.elapsed_s,
                    None,
                    validation=values,
                )
            )
        return values

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
        if self.out is None:
            raise TrainingError("there is no folder to keep the state in: give `out`")
        self._check_finite()
        tensors: dict[str, Tensor] = {}
        for player in self.players:
            tensors |= pack_state(self.optimizers[player.name], f"optimizer.{player.name}")
        if self.ema is not None:
            tensors |= {f"mean.{name}": tensor for name, tensor in self.ema.tensors().items()}
        state = {
            "format": STATE_FORMAT,
            "step": self.step,
            "steps": self.steps,
            "best": self.best,
            "best_step": self.best_step,
            "first_validation": self.first_validation,
            "last_validation": self.last_validation,
            "elapsed_s": self.elapsed_s,
            "ema_updates": self.ema.updates if self.ema else 0,
            "config": to_dict(self.config),
        }

        def fill(folder: Path) -> None:
            (folder / "model.safetensors").write_bytes(weight_bytes(self.model, "fp32"))
            contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, folder / "training.safetensors")
            (folder / "training.json").write_text(json.dumps(state, indent=1), "utf-8")

        write_folder(self.out / "last", fill)

    def load_state(self) -> None:
        """Reads `out/last`. Raises CheckpointError: missing, damaged, or of another model."""
        folder = self.out / "last" if self.out is not None else None
        if folder is not None and not folder.is_dir():
            folder = folder.with_name("last.old")  # killed between the two renames of a save
        if folder is None or not folder.is_dir():
            raise CheckpointError(
                f"{self.out}: nothing to resume from; train without --resume first"
            )
        try:
            state = json.loads((folder / "training.json").read_text("utf-8"))
            version = state["format"]
            step, steps = int(state["step"]), state["steps"]
            found = {
                name: state[name] for name in ("best", "best_step", "elapsed_s", "ema_updates")
            }
            first, last = dict(state["first_validation"]), dict(state["last_validation"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{folder}/training.json: damaged ({error!r})") from error
        if version != STATE_FORMAT:
            raise CheckpointError(f"{folder}: state of format {version}, expected {STATE_FORMAT}")
        shapes = {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(load_tensors(folder / "model.safetensors", shapes))
        tensors = load_tensors(folder / "training.safetensors")
        for player in self.players:
            unpack_state(self.optimizers[player.name], f"optimizer.{player.name}", tensors)
        if self.ema is not None:
            means_found = {n[5:]: tensor for n, tensor in tensors.items() if n.startswith("mean.")}
            self.ema.load(means_found, int(found["ema_updates"]))
        self.step = step
        self.steps = self.config.steps or steps or self.steps
        self.best, self.best_step = found["best"], int(found["best_step"])
        self.elapsed_s = float(found["elapsed_s"])
        self.first_validation, self.last_validation = first, last

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the loop after the step that is running; a second one kills."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        watched = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in watched}

        def stop(number: int, frame: Any) -> None:
            self._stopping = True
            for each in watched:
                signal.signal(each, before[each])

        for number in watched:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number in watched:
                signal.signal(number, before[number])


STATE_FORMAT = 1
"""Version of the layout of `last/`."""

_ONE = torch.ones(())
