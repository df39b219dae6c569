"""Training in several processes: the same run as in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from musegen import api
from musegen.data.build import build
from musegen.errors import UsageError
from musegen.music.score import Score, Track, note_array
from musegen.music.writer import write_midi

TINY = (
    "model.width=32", "model.layers=1", "model.heads=2", "data.batch_size=4", "data.length=64",
    "training.precision=fp32", "training.log_every=1", "training.validate_every=0",
    "data.validation_batches=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    rng = np.random.default_rng(0)
    for number in range(12):
        pitches = 60 + np.cumsum(rng.integers(-3, 4, 120)) % 24
        notes = [(240 * step, 200, int(pitch), 80) for step, pitch in enumerate(pitches)]
        (folder / "midi").mkdir(exist_ok=True)
        write_midi(Score(tracks=(Track(note_array(notes)),)), folder / "midi" / f"{number}.mid")
    build(folder / "midi", folder / "shards", workers=1)
    return folder / "shards"


def train(processes: int, shards: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """A run by the ordinary command line, under torchrun where there are several processes."""
    launch = [sys.executable, "-m"]
    if processes > 1:
        launch += [
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(processes),
            "-m",
        ]
    command = [*launch, "musegen", "train", "--data", str(shards), "--out", str(out)]
    command += ["--preset", "tiny", "--seed", "5", "--device", "cpu", "-q"]
    for setting in TINY:
        command += ["--set", setting]
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=120)


def losses(out: Path) -> list[float]:
    lines = (out / "log.jsonl").read_text().splitlines()
    found = {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line}
    return [found[step] for step in sorted(found)]


def held_out(out: Path) -> list[float]:
    lines = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [line["validation"]["nats_per_note"] for line in lines if "validation" in line]


def test_two_processes_train_as_one(shards, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(1, shards, one, "--max-steps", "6").returncode == 0
    done = train(2, shards, two, "--max-steps", "6")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(two)], "one process speaks"
    assert len(losses(one)) == 6
    np.testing.assert_allclose(losses(two), losses(one), rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(before, after, shards, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert train(1, shards, whole, "--max-steps", "8").returncode == 0
    # The rate follows the number of steps: the whole run's, of which the first half is kept.
    half = ["--max-steps", "8", "--set", "training.checkpoint_every=4"]
    done = train(before, shards, torn, *half)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(torn), losses(whole), rtol=2e-5)
    done = train(after, shards, torn, "--max-steps", "12", "--resume", *half[2:])
    assert done.returncode == 0, done.stderr
    assert len(losses(torn)) == 12
    further = train(before, shards, tmp_path / "again", *half)
    assert further.returncode == 0
    done = train(before, shards, tmp_path / "again", "--max-steps", "12", "--resume", *half[2:])
    np.testing.assert_allclose(losses(torn), losses(tmp_path / "again"), rtol=2e-5)


def tensors(out: Path) -> dict[str, np.ndarray]:
    """The best weights, and weights, optimisers and running mean to resume from."""
    found = {}
    for name in ("model", "last/model", "last/training"):
        for key, tensor in load_file(out / f"{name}.safetensors").items():
            found[f"{name}: {key}"] = tensor.float().numpy()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_model_that_is_shared_out_trains_as_a_whole_one(optimizer, shards, tmp_path):
    """Also accumulated, with a running mean, and with held-out batches that differ in number."""
    how = ["--max-steps", "6", "--set", f"training.optimizer={optimizer}"]
    for more in ("training.accumulation=2", "training.ema=0.9", "training.validate_every=3",
                 "data.validation_batches=3", "data.batch_size=2", "model.layers=2"):  # fmt: skip
        how += ["--set", more]
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    assert train(1, shards, whole, *how).returncode == 0
    done = train(2, shards, shared, "--shard", *how)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(shared), losses(whole), rtol=2e-5)
    assert held_out(whole) == pytest.approx(held_out(shared), rel=2e-5)
    one, two = tensors(whole), tensors(shared)
    assert {name: array.shape for name, array in one.items()} == {
        name: array.shape for name, array in two.items()
    }
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=0.02, atol=1e-3, err_msg=name)


@pytest.mark.slow
def test_a_run_goes_on_shared_out_or_not(shards, tmp_path):
    half = ["--max-steps", "4", "--set", "training.ema=0.9"]
    more = ["--max-steps", "8", "--resume", *half[2:]]
    ends = {}
    for name, first, then in (
        ("never", (1, ()), (1, ())),
        ("later", (1, ()), (2, ("--shard",))),
        ("before", (2, ("--shard",)), (1, ())),
        ("both", (2, ("--shard",)), (2, ())),
    ):
        out = tmp_path / name
        for (processes, flags), options in ((first, half), (then, more)):
            done = train(processes, shards, out, *flags, *options)
            assert done.returncode == 0, done.stderr
        ends[name] = losses(out)
    assert len(ends["never"]) == 8
    for found in ends.values():
        np.testing.assert_allclose(found, ends["never"], rtol=2e-5)


def test_one_process_has_nobody_to_share_a_model_with(shards, tmp_path):
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 2"):
        api.train(shards, tmp_path / "out", size="tiny", max_steps=1, sharded=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_rows_that_cannot_be_shared_are_refused(shards, tmp_path):
    done = train(3, shards, tmp_path / "out", "--max-steps", "2")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("musegen: error")]
    assert lines == ["musegen: error: 4 rows cannot be shared by 3 processes"]
