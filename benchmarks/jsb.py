"""Bach's chorales: nats a voice and step of the same `Transformer` class that writes music.

    python benchmarks/jsb.py --data FOLDER [--pretrain HYMNS,QUARTETS] [--seeds 3] [--test]

FOLDER holds Jsb16thSeparated.json of czhuang/JSB-Chorales-dataset, in the Boulanger-Lewandowski
split (229, 76, 77 pieces). The figure is the plain mean over all voices and steps of a split:
windows of 128 sixteenths, 64 apart, each step scored once with at least 64 steps of context, the
first step of a piece included, no end token. `averaged` is the mean of the probabilities over all
transpositions within a tritone for which the piece stays within the 46 pitches; nothing is
averaged over models.

One thread. The scored model learns from the notes and from `--teachers` models of its own shape,
trained before it on the same music; their time counts. `--pretrain` names folders of MIDI files in
four voices (hymns, string quartets), which are mixed in; pieces that share a melody with the
chorales of the valid and test splits are left out. `--without` leaves out what is named, for the
ablation. The weights of the last step are scored: the validation split chose the options of this
file, no step and no seed. Ratios are goals over nats.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chorales
import numpy as np
import torch
from bench import arguments, report

from musegen.models.base import Loss
from musegen.models.transformer import Transformer, TransformerConfig
from musegen.training.config import TrainerConfig
from musegen.training.trainer import Trainer

GOALS = {"valid": 0.38, "valid_averaged": 0.365}
"""Nats a voice and step, at most."""
SHAPE = {
    "width": 128,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 128,
    "dropout": 0.25,
    "input_dropout": 0.2,
}
PARTS = (
    "relative",
    "channels",
    "transposing",
    "pretraining",
    "dropout",
    "input_dropout",
    "orders",
    "ema",
)


def config_of(without: Sequence[str], changes: dict[str, Any]) -> TransformerConfig:
    """The model's shape."""
    shape = {**SHAPE, **changes}
    for name in ("dropout", "input_dropout"):
        if name in without:
            shape[name] = 0.0
    return TransformerConfig(
        field_sizes=(chorales.IDS,) * len(chorales.VOICES),
        field_names=chorales.VOICES,
        channels=() if "channels" in without else chorales.CHANNELS,
        context=chorales.WINDOW,
        relative_heads="relative" not in without,
        **shape,
    )


def fitting(batch: dict[str, np.ndarray], config: TransformerConfig) -> dict[str, np.ndarray]:
    """The batch without side channels for a model that has none."""
    return batch if config.channels else {**batch, "channels": batch["channels"][..., :0]}


class Fitting:
    """A source of such batches."""

    def __init__(self, source: Any, config: TransformerConfig) -> None:
        self.source, self.config = source, config

    def batch(self, index: int) -> dict[str, np.ndarray]:
        return fitting(self.source.batch(index), self.config)

    def batches(self) -> Any:
        return (fitting(batch, self.config) for batch in self.source.batches())


class Student(Transformer):
    """A chorale model that also learns what its teachers think of each voice and step.

    In training its target is a mixture of the note that follows and of the mean of the teachers'
    distributions (Hinton et al. 2015, arXiv 1503.02531; for few data Timiryasov and Tastet 2023,
    arXiv 2308.02019).
    """

    def __init__(self, config: TransformerConfig, teachers: Sequence[Transformer], share: float):
        super().__init__(config)
        self._teachers = (teachers,)  # in a tuple, so that they are no parameters of the student
        self.share = share

    def loss(self, batch: Any) -> Loss:
        """Cross-entropy with the mixture in training, the plain one in validation."""
        plain = super().loss
        if not self.training:
            return plain(batch)
        with torch.no_grad():
            taught = [each.field_logits(batch) for each in self._teachers[0]]
        weights = batch["weights"].flatten()
        total = weights.new_zeros(())
        targets = batch["targets"].flatten(0, 1)
        for voice, logits in enumerate(self.field_logits(batch)):
            log = torch.log_softmax(logits.float(), -1)
            soft = torch.stack([torch.softmax(each[voice].float(), -1) for each in taught]).mean(0)
            hard = -log.gather(-1, targets[:, voice, None])[:, 0]
            mixed = self.share * -(soft * log).sum(-1) + (1 - self.share) * hard
            total = total + (mixed * weights).sum()
        rows = (weights > 0).sum()
        return Loss(total / rows.clamp(min=1), {"nats_per_row": (total.detach(), rows)}, rows)


def nats(model: Transformer, scored: chorales.Scored, semitones: Sequence[int]) -> dict[str, float]:
    """Nats a voice and step, as they are and averaged over transpositions."""
    model.eval()
    device = next(model.parameters()).device
    chance: dict[int, np.ndarray] = {}
    total: np.ndarray | None = None
    count: np.ndarray | None = None
    for shift in semitones:
        chosen = [
            n for n, (piece, _) in enumerate(scored.windows) if shift in chorales.shifts(piece)
        ]
        found = []
        for batch in scored.batches(shift):
            own_batch = fitting(batch, model.config)
            tensors = {k: torch.as_tensor(v).to(device) for k, v in own_batch.items()}
            with torch.inference_mode():
                logits = model(tensors)
            own = torch.stack(
                [
                    torch.log_softmax(each.double(), -1)
                    .gather(-1, tensors["targets"][..., voice, None])
                    .squeeze(-1)
                    for voice, each in enumerate(logits)
                ],
                -1,
            )
            live = tensors["notes"][..., None].expand_as(own)
            found.append(torch.where(live, own, 0.0).cpu().numpy())
        each = np.concatenate(found)
        if total is None:
            total = np.zeros((len(scored.windows), *each.shape[1:]))
            count = np.zeros(len(scored.windows))
        total[chosen] += np.exp(each)
        count[chosen] += 1
        chance[shift] = each
    live = np.concatenate([batch["notes"] for batch in scored.batches()])
    plain = -chance[0][live].mean()
    averaged = -np.log(total / count[:, None, None])[live].mean()
    return {"plain": float(plain), "averaged": float(averaged)}


def trained(
    config: TransformerConfig,
    source: Any,
    held_out: Any,
    settings: TrainerConfig,
    seed: int,
    device: str,
    teachers: Sequence[Transformer] = (),
    share: float = 0.0,
) -> tuple[Transformer, float]:
    """A trained model (the running mean of its weights, where one is kept), and CPU seconds."""
    torch.manual_seed(seed)
    model = Student(config, teachers, share) if teachers else Transformer(config)
    begin = time.process_time()
    trainer = Trainer(
        model,
        settings,
        Fitting(source, config),
        Fitting(held_out, config),
        device=device,
        on_progress=lambda p: (
            print(f"  step {p.step} of {p.steps}, {p.elapsed_s:.0f} s, {p.text()}", flush=True)
            if p.validation
            else None
        ),
    )
    trainer.fit()
    if trainer.ema is not None:
        trainer.ema.swap()
    model.eval()
    return model, time.process_time() - begin


def main() -> bool:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500, help="of a teacher, or of a model alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pretrain", default="", metavar="FOLDER,...", help="four-voice MIDI")
    parser.add_argument("--shares", default="0.4,0.3", help="of the windows, one a folder")
    parser.add_argument("--without", default="", metavar=",".join(PARTS), help="leave out")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--orders", type=float, default=0.0, help="share of other voice orders")
    parser.add_argument("--teachers", type=int, default=2, help="models that teach the scored one")
    parser.add_argument("--taught", type=float, default=0.7, help="share of their word")
    parser.add_argument("--student-steps", type=int, default=3000)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--every", type=int, default=100, help="steps between validations")
    parser.add_argument("--set", default="{}", metavar="JSON", help="changes to the shape")
    parser.add_argument("--test", action="store_true", help="score the test split too")
    options = parser.parse_args()
    if options.data is None:
        print("needs --data FOLDER with Jsb16thSeparated.json; skipped")
        return True
    torch.set_num_threads(1)
    without = [part for part in options.without.split(",") if part]
    unknown = set(without) - set(PARTS)
    if unknown:
        parser.error(f"--without {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    folders = [folder for folder in options.pretrain.split(",") if folder]
    if "pretraining" in without:
        folders = []
    shares = [float(share) for share in options.shares.split(",")][: len(folders)]
    if len(shares) < len(folders) or sum(shares) >= 1:
        parser.error(f"--shares {options.shares}: one a folder of --pretrain, below 1 in all")
    splits = chorales.read(options.data)
    kept_out = splits["valid"] + splits["test"]
    others = [
        (chorales.four_voices(Path(folder), kept_out), share)
        for folder, share in zip(folders, shares, strict=True)
    ]
    config = config_of(without, json.loads(options.set))
    settings = TrainerConfig(
        steps=60 if options.quick else options.steps,
        learning_rate=options.rate,
        weight_decay=options.decay,
        ema=0.0 if "ema" in without else options.ema,
        validate_every=options.every,
    )
    scored = {name: chorales.Scored(splits[name]) for name in ("valid", "test")}
    table = []
    seeds = 1 if options.quick else options.seeds
    for seed in range(options.first_seed, options.first_seed + seeds):
        teachers: list[Transformer] = []
        cpu_s = 0.0
        for number in range(options.teachers + 1):
            own = seed + 1000 * number
            source = chorales.Windows(
                [(splits["train"], 1.0 - sum(shares)), *others],
                options.batch,
                own,
                orders=0.0 if "orders" in without else options.orders,
                transpose="transposing" not in without,
            )
            last = number == options.teachers
            steps = options.student_steps if teachers and last else settings.steps
            model, took_s = trained(
                config,
                source,
                scored["valid"],
                dataclasses.replace(settings, seed=own, steps=60 if options.quick else steps),
                own,
                options.device,
                teachers if last else (),
                options.taught,
            )
            cpu_s += took_s
            teachers.append(model)
            if not last:
                print(f"  teacher {number}: {nats(model, scored['valid'], range(1))}", flush=True)
        line: dict[str, Any] = {"seed": seed, "cpu_min": cpu_s / 60}
        line["parameters"] = sum(each.numel() for each in model.parameters())
        for name in ("valid", "test") if options.test else ("valid",):
            found = nats(model, scored[name], range(-6, 7))
            line |= {name: found["plain"], f"{name}_averaged": found["averaged"]}
            line[f"{name}_step"] = 4 * found["plain"]
        print(line, flush=True)
        table.append(line)
    ratios = {name: goal / np.mean([line[name] for line in table]) for name, goal in GOALS.items()}
    return report("jsb", table, ratios, dict.fromkeys(GOALS, 1.0))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
