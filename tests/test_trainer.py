from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from musegen.errors import CheckpointError, DeviceError, NonFiniteLoss, TrainingError
from musegen.training.config import TrainerConfig
from musegen.training.device import computes_bf16, resolve_device
from musegen.training.log import JsonLog, Progress, means, sums
from musegen.training.optim import Ema, build_optimizers, rate_at
from musegen.training.trainer import Trainer

from .toy_families import Blob, BlobConfig, Duel, Held, Points

QUICK = {"precision": "fp32", "warmup_steps": 2, "learning_rate": 0.01, "log_every": 5}


def blob(dropout=0.0):
    torch.manual_seed(0)
    return Blob(BlobConfig(dropout=dropout))


def duel():
    torch.manual_seed(0)
    return Duel(BlobConfig())


def run(model, source=None, held=None, resume=False, out=None, **settings):
    trainer = Trainer(
        model,
        TrainerConfig(**{**QUICK, **settings}),
        source or Points(),
        held,
        out=out,
        device="cpu",
    )
    return trainer, trainer.fit(resume=resume)


def same(one, two):
    return all(torch.equal(a, two[name]) for name, a in one.items())


# -- the loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_loss_falls(optimizer):
    _, result = run(blob(), held=Held(), steps=80, optimizer=optimizer)
    assert result.step == result.steps == 80 and not result.interrupted
    assert result.last_validation["error"] < 0.6 * result.first_validation["error"]
    assert result.best == min(result.best, result.last_validation["error"])


def test_the_loop_is_the_hand_written_loop():
    """AdamW, clipping, warm-up and cosine, accumulation: the same numbers as ten plain lines."""
    trainer, _ = run(blob(0.5), steps=12, optimizer="adamw", accumulation=2, seed=3)
    model, source, config = blob(0.5), Points(), trainer.config
    model.train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=config.betas, fused=True)
    for step in range(12):
        torch.manual_seed(3 * 1_000_003 + step)
        for micro in range(2):
            batch = {"points": torch.as_tensor(source.batch(2 * step + micro)["points"])}
            (model.loss(batch).value / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, 12, config)
        optimizer.step()
        optimizer.zero_grad()
    assert same(trainer.model.state_dict(), model.state_dict())


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    one, _ = run(blob(0.5), steps=6, seed=1)
    two, _ = run(blob(0.5), steps=6, seed=1)
    three, _ = run(blob(0.5), steps=6, seed=2)
    assert same(one.model.state_dict(), two.model.state_dict())
    assert not same(one.model.state_dict(), three.model.state_dict())


def test_two_players_take_turns_on_fresh_batches():
    source = Points()
    model = duel()
    _, result = run(model, source, steps=3)
    assert result.step == 3
    assert source.asked == list(range(9)), "each update takes a batch of its own"
    assert len(set(model.seen)) == 9
    critic, maker = (False, True), (True, False)
    assert model.frozen == [critic, critic, maker] * 3, "who does not train is frozen"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_two_players_learn():
    settings = {"optimizer": "adamw", "learning_rate": 0.02, "validate_every": 100}
    _, result = run(duel(), held=Held(), steps=300, ema=0.9, **settings)
    first, last = (v["maker/distance"] for v in (result.first_validation, result.last_validation))
    assert last < 0.5 * first


def test_a_bad_monitor_is_said():
    model = blob()
    model.monitor = lambda: "nothing"
    with pytest.raises(TrainingError, match="no held-out value of 'nothing'"):
        run(model, held=Held(), steps=1)


# -- schedule, optimisers, mean ---------------------------------------------------------------


def test_the_schedule_warms_up_and_falls():
    config = TrainerConfig(learning_rate=1.0, warmup_steps=10, final_rate=0.1)
    rates = [rate_at(step, 200, config) for step in range(200)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0 and rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rate_at(500, None, config) == 1.0
    assert rate_at(2, 20, config) == 1.0, "a short run warms up for a tenth of it"


def test_muon_takes_hidden_matrices_only():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(7, 4)
            self.hidden = torch.nn.Linear(4, 4)
            self.head = torch.nn.Linear(4, 7, bias=False)
            self.head.is_output = True
            self.tied = torch.nn.Linear(4, 7, bias=False)
            self.tied.weight = self.table.weight

    net = Net()
    muon, adamw = build_optimizers(net, TrainerConfig())
    assert [id(p) for group in muon.param_groups for p in group["params"]] == [
        id(net.hidden.weight)
    ]
    decayed, plain = (group["params"] for group in adamw.param_groups)
    assert [id(p) for p in decayed] == [id(net.head.weight)]
    assert {id(p) for p in plain} == {id(net.table.weight), id(net.hidden.bias)}
    assert len(build_optimizers(net, TrainerConfig(optimizer="adamw"))) == 1


def test_the_running_mean_follows_and_swaps():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    mean = Ema(model, 0.5)
    model.weight.data.fill_(1.0)
    mean.update()
    first = 1 - 2 / 11  # decay (1 + 1) / (10 + 1) at first
    assert float(mean.mean[0]) == pytest.approx(first)
    mean.swap()
    assert float(model.weight.detach()) == pytest.approx(first)
    mean.swap()
    assert float(model.weight.detach()) == 1.0


def test_means_weigh_by_count():
    pairs = [
        {"a": (torch.tensor(6.0), torch.tensor(2))},
        {"a": (torch.tensor(2.0), torch.tensor(6))},
    ]
    found = sums([*pairs, {"b": (torch.tensor(0.0), torch.tensor(0))}])
    assert found == {"a": (8.0, 8.0), "b": (0.0, 0.0)}
    assert means([found]) == means([sums(pairs[:1]), sums(pairs[1:])]) == {"a": 1.0}


def test_best_is_of_the_mean_and_last_is_of_the_weights():
    kept = []
    trainer = Trainer(
        blob(),
        TrainerConfig(**QUICK, steps=20, ema=0.9),
        Points(),
        Held(),
        device="cpu",
        save_best=lambda t, weights, found: kept.append(weights["net.0.weight"].clone()),
    )
    trainer.fit()
    assert kept and torch.equal(kept[-1], trainer.ema.mean[0])
    assert not torch.equal(kept[-1], trainer.model.net[0].weight)


def test_without_validation_the_end_is_kept():
    kept = []
    trainer = Trainer(
        blob(),
        TrainerConfig(**QUICK, steps=3),
        Points(),
        device="cpu",
        save_best=lambda t, weights, found: kept.append(found),
    )
    result = trainer.fit()
    assert kept == [{}] and result.best is None


# -- minutes, log, progress -------------------------------------------------------------------


class Slow(Points):
    def batch(self, index):
        time.sleep(0.004)
        return super().batch(index)


def test_minutes_become_steps_once(tmp_path):
    told = []
    trainer = Trainer(
        blob(),
        TrainerConfig(**QUICK, minutes=0.5 / 60),
        Slow(),
        out=tmp_path,
        device="cpu",
        on_progress=told.append,
    )
    result = trainer.fit()
    assert result.step == result.steps and 20 < result.steps < 130
    notes = [each for each in told if each.note]
    assert len(notes) == 1 and notes[0].step == 12 and "steps fit into" in notes[0].text()
    state = json.loads((tmp_path / "last" / "training.json").read_text())
    assert state["steps"] == result.steps


def test_the_log_and_the_progress(tmp_path):
    told = []
    trainer = Trainer(
        blob(),
        TrainerConfig(**QUICK, steps=10, validate_every=5),
        Points(),
        Held(),
        out=tmp_path,
        device="cpu",
        on_progress=told.append,
    )
    trainer.fit()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5, 5, 10, 10]
    assert {"loss", "error", "grad_norm", "rate", "elapsed_s"} <= set(lines[1])
    assert "error" in lines[2]["validation"]
    assert [p.step for p in told] == [0, 5, 5, 10, 10]
    assert told[1].eta_s > 0 and told[1].text().startswith("loss ")
    assert told[2].text().startswith("held-out ")
    summary = trainer.summary(data="points")
    assert summary["step"] == 10 and summary["data"] == "points" and summary["precision"] == "fp32"


def test_the_log_drops_what_will_be_written_again(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    JsonLog(path, after_step=2).write({"step": 9})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 9]
    JsonLog(path, after_step=-1)
    assert path.read_text() == ""


def test_progress_in_words():
    assert Progress(1, 10, 2.5, 1.0, 75.0).text() == "loss 2.500, 1:15 left"
    assert Progress(1, None, 2.5, 1.0, None).text() == "loss 2.500"


# -- stopping and going on --------------------------------------------------------------------


class Until(Points):
    """Sends a signal to this process when batch number `last` is asked for."""

    def __init__(self, last, number):
        super().__init__()
        self.last, self.number = last, number

    def batch(self, index):
        if index == self.last:
            os.kill(os.getpid(), self.number)
        return super().batch(index)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_signal_saves_and_resuming_changes_no_bit(tmp_path, number, optimizer):
    settings = {"steps": 30, "ema": 0.9, "optimizer": optimizer, "accumulation": 2}
    whole, _ = run(blob(0.3), held=Held(), **settings)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    _, stopped = run(blob(0.3), Until(25, number), Held(), out=tmp_path, **settings)
    assert stopped.interrupted and stopped.step == 13
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    torch.manual_seed(99)
    other = Blob(BlobConfig(dropout=0.3))
    again, result = run(other, held=Held(), out=tmp_path, resume=True, **settings)
    assert not result.interrupted and result.step == 30
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(whole.ema.tensors(), again.ema.tensors())


def test_two_players_resume_too(tmp_path):
    whole, _ = run(duel(), steps=12)
    run(duel(), Until(14, signal.SIGTERM), steps=12, out=tmp_path)
    again, _ = run(Duel(BlobConfig()), steps=12, out=tmp_path, resume=True)
    assert same(whole.model.state_dict(), again.model.state_dict())


def test_a_killed_process_resumes_to_the_same_bytes(tmp_path):
    code = textwrap.dedent(
        """
        import importlib.util, os, signal, sys
        import torch
        spec = importlib.util.spec_from_file_location("toy_families", sys.argv[1])
        toys = importlib.util.module_from_spec(spec)
        sys.modules["toy_families"] = toys
        spec.loader.exec_module(toys)
        from musegen.training.trainer import Trainer, TrainerConfig
        class Killed(toys.Points):
            def batch(self, index):
                if index == 17:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().batch(index)
        torch.manual_seed(0)
        config = TrainerConfig(precision="fp32", warmup_steps=2, learning_rate=0.01, log_every=5,
                               steps=24, checkpoint_every=8)
        Trainer(toys.Blob(toys.BlobConfig(dropout=0.3)), config, Killed(), out=sys.argv[2],
                device="cpu").fit()
        """
    )
    here = os.path.join(os.path.dirname(__file__), "toy_families.py")
    done = subprocess.run([sys.executable, "-c", code, here, str(tmp_path / "killed")], check=False)
    assert done.returncode == -signal.SIGKILL
    settings = {"steps": 24, "checkpoint_every": 8}
    run(blob(0.3), out=tmp_path / "whole", **settings)
    _, result = run(blob(0.3), out=tmp_path / "killed", resume=True, **settings)
    assert result.step == 24
    for name in ("model.safetensors", "training.safetensors"):
        whole, killed = (tmp_path / each / "last" / name for each in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()


def test_a_kill_between_the_renames_of_a_save_loses_nothing(tmp_path):
    run(blob(), steps=4, out=tmp_path)
    (tmp_path / "last").rename(tmp_path / "last.old")
    _, result = run(blob(), steps=6, out=tmp_path, resume=True)
    assert result.step == 6


def test_resuming_from_nothing_or_another_model(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume from"):
        run(blob(), steps=2, out=tmp_path / "none", resume=True)
    run(blob(), steps=2, out=tmp_path)
    with pytest.raises(CheckpointError, match="shape"):
        run(Blob(BlobConfig(width=8)), steps=2, out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="missing"):
        run(Duel(BlobConfig()), steps=2, out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="running mean"):
        run(blob(), steps=2, out=tmp_path, resume=True, ema=0.9)


@pytest.mark.parametrize("other", [{"seed": 1}, {"learning_rate": 0.02}, {"accumulation": 2}])
def test_resuming_with_other_settings_is_refused(tmp_path, other):
    run(blob(), steps=2, out=tmp_path)
    with pytest.raises(CheckpointError, match=next(iter(other))):
        run(blob(), steps=4, out=tmp_path, resume=True, **other)
    _, result = run(blob(), steps=4, out=tmp_path, resume=True, log_every=1, validate_every=2)
    assert result.step == 4


def test_resuming_with_other_batches_is_refused(tmp_path):
    def trainer(steps, batch_size):
        config = TrainerConfig(steps=steps, precision="fp32")
        settings = {"batch_size": batch_size}
        return Trainer(blob(), config, Points(), out=tmp_path, settings=settings, device="cpu")

    trainer(2, 8).fit()
    with pytest.raises(CheckpointError, match="batch_size = 8, this one 4"):
        trainer(3, 4).fit(resume=True)
    assert trainer(3, 8).fit(resume=True).step == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("training.json", b"{"),
        ("training.json", b"[1]"),
        ("training.json", b'{"format": 99}'),
        ("training.json", b'{"format": 1, "step": "x"}'),
        ("model.safetensors", b"\xff" * 40),
        ("training.safetensors", b""),
    ],
)
def test_a_damaged_state_is_one_line(tmp_path, name, content):
    run(blob(), steps=2, out=tmp_path)
    (tmp_path / "last" / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        run(blob(), steps=3, out=tmp_path, resume=True)
    assert name in str(caught.value) or "format 99" in str(caught.value)


class Poisoned(Points):
    def batch(self, index):
        batch = super().batch(index)
        if index >= 13:
            batch["points"][0, 0] = np.nan
        return batch


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"became nan by step 15.*last good state is kept"):
        run(blob(), Poisoned(), steps=30, out=tmp_path, checkpoint_every=8)
    state = json.loads((tmp_path / "last" / "training.json").read_text())
    assert state["step"] == 8
    again, _ = run(blob(), steps=10, out=tmp_path, resume=True)
    assert all(torch.isfinite(p).all() for p in again.model.parameters())


def test_a_loss_that_is_not_finite_is_never_saved(tmp_path):
    with pytest.raises(NonFiniteLoss, match="no checkpoint was written"):
        run(blob(), Poisoned(), steps=30, out=tmp_path, checkpoint_every=14, log_every=100)
    assert not (tmp_path / "last").exists()


def test_it_trains_in_a_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run(blob(), steps=2)[1]))
    thread.start()
    thread.join()
    assert results[0].step == 2


# -- devices ----------------------------------------------------------------------------------


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("tpu", "cuda:x", "gpu"):
        with pytest.raises(DeviceError, match="unknown device"):
            resolve_device(name)
    assert isinstance(computes_bf16(torch.device("cpu")), bool)


def test_an_absent_device_is_said():
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda' is not there"):
            resolve_device("cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(DeviceError, match="'mps' is not there"):
            resolve_device("mps")


class Reads(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: a number, or a shape, read from a tensor."""

    WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if str(operation).startswith(self.WAITING):
            self.found.append(str(operation))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_no_step_waits_for_the_device(optimizer, accumulation):
    settings = {**QUICK, "steps": 9, "ema": 0.9, "accumulation": accumulation}
    settings |= {"optimizer": optimizer, "log_every": 100}
    trainer = Trainer(blob(0.5), TrainerConfig(**settings), Points(), device="cpu")
    trainer.model.train()
    with Reads() as reads:
        for _ in range(3):
            trainer._train_step()
        assert reads.found == []
        trainer._check_finite()  # where a line of the log is written
        assert reads.found


@pytest.mark.gpu
def test_it_trains_on_the_gpu():
    trainer = Trainer(blob(), TrainerConfig(**QUICK, steps=20), Points(), Held(), device="cuda")
    result = trainer.fit()
    assert result.last_validation["error"] < result.first_validation["error"]


def test_without_a_compiler_it_says_so_and_trains(monkeypatch):
    from musegen.training import device

    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    assert "C++" in device.lacks_compiler(torch.device("cpu"))
    assert "mps" in device.lacks_compiler(torch.device("mps"))
