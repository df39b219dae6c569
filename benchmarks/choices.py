"""Why the default model is as it is: short runs of equal budget, each with one thing otherwise.

    python benchmarks/choices.py --data SHARDS --flat SHARDS --arranged SHARDS [--device cuda]

SHARDS are built by `musegen data build`, those of `--flat` with `--preset remi`. Every run sees as
many positions (a batch is 32 rows of 512, or 8 of 2,048 flat tokens) and anneals fully. The figure
is nats per note of held-out pieces in plain order, four windows of each at most, and its difference
to the first line, paired over pieces, with a 95% bootstrap interval. `--out DIR` keeps a JSON file
a run: its curve, and what each piece costs. The last column is of the same pieces on other
instruments of the same kind (hymns by a choir, songs by a flute), two windows of each.

Ratios say whether the rows beat the flat tokens, as they must.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, report

from musegen.evaluation.intervals import ratio_interval

BASE = (
    "model.width=320",
    "model.layers=5",
    "model.dropout=0.1",
    "data.told=0.7",
    "data.batch_size=32",
    "training.ema=0.99",
)
"""The shipped shape; the size `small` is what these change."""

TINY = ("data.told=0.7", "data.batch_size=16", "training.ema=0.99")
"""With `--size tiny`: for a CPU."""

FLAT_LENGTH = 2048
"""Flat tokens a window: about the notes of 512 rows."""

SHELL = ("program", "instance", "meter", "tempo", "bars_left", "key", "style")
"""Side channels that a plain document could do without."""

CHANGES: dict[str, tuple[str, ...]] = {
    "as shipped": (),
    "flat tokens": ("data.batch_size=8", f"model.context={FLAT_LENGTH}"),
    "field layer in place of MLP heads": ("model.field_heads=layer",),
    "relative heads": ("model.relative_heads=true",),
    "4 layers of 256": ("model.width=256", "model.layers=4"),
    "8 layers of 256": ("model.width=256", "model.layers=8"),
    "6 layers of 384": ("model.width=384", "model.layers=6"),
    "AdamW for Muon": ("training.optimizer=adamw",),
    "AdamW, a third of the rate": ("training.optimizer=adamw", "training.learning_rate=0.001"),
    "no extra inputs": (),
    "plain documents only": ("data.masked=0", "data.told=0"),
    "no masked documents": ("data.masked=0",),
    "four in five masked": ("data.masked=0.8",),
    "no controls told": ("data.told=0",),
    "controls told in all": ("data.told=1.0",),
    "no augmentation": ("data.augment=false",),
    "loudness and drums varied": (),
    "other instruments": (),
    "arrangements in a quarter": (),
    "arrangements in half": (),
    "dropout 0.2": ("model.dropout=0.2",),
    "input dropout 0.1": ("model.input_dropout=0.1",),
    "weight decay 0.5": ("training.weight_decay=0.5",),
}
"""What each run has otherwise, in the form of `musegen train --set`."""

VARIED: dict[str, dict[str, Any]] = {
    "loudness and drums varied": {"velocity": 12, "drum_jitter": 0.3},
    "other instruments": {"programs": 0.4},
}
"""What the cards say otherwise in these runs."""


ARRANGED = {"arrangements in a quarter": 0.25, "arrangements in half": 0.5}
"""Share of the draws."""


def without(channels: np.ndarray, names: list[str]) -> np.ndarray:
    """Side channels (..., C) of which those of `SHELL` say nothing."""
    channels = channels.copy()
    channels[..., [names.index(name) for name in SHELL]] = 0
    return channels


def reinstrumented(documents: Any, shards: Any, tokenizer: Any, length: int) -> Any:
    """The held-out pieces on other instruments of the same kind, the same ones each time."""
    from musegen.data.augment import augmented
    from musegen.data.shards import CorpusFacts
    from musegen.tokens.tokenizer import PieceInfo

    facts = CorpusFacts(1.0, (0, 0), (1.0, 1.0), programs=1.0)
    samples, piece_of = [], []
    for number, piece in enumerate(documents.pieces):
        rng = np.random.default_rng(number)
        rows = augmented(shards.rows(piece), tokenizer, facts, rng)
        own = tokenizer.windows(rows, length + 1, PieceInfo(piece.style))[:2]
        samples += [window for window in own if len(window.rows) > 1]
        piece_of += [number] * (len(samples) - len(piece_of))
    return dataclasses.replace(documents, samples=tuple(samples), piece_of=tuple(piece_of))


def arranged_share(shards: Any) -> float:
    """Of the draws of the shards as they are."""
    from musegen.data.batches import PIECE_CAP

    table = shards.split("train")
    names = np.array(table.words["corpus"])[table.column("corpus")]
    weigh = np.minimum(table.column("length"), PIECE_CAP) * np.array(
        [shards.corpora[name].weight for name in names]
    )
    return float(weigh[names == "arranged"].sum() / weigh.sum())


class Untold:
    """A source of batches with such side channels."""

    def __init__(self, source: Any, names: list[str]) -> None:
        self.source, self.names = source, names

    def batch(self, index: int) -> dict[str, np.ndarray]:
        batch = self.source.batch(index)
        return {**batch, "channels": without(batch["channels"], self.names)}

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self.source.batches():
            yield {**batch, "channels": without(batch["channels"], self.names)}


def run(name: str, folder: Path, steps: int, device: str, seed: int, size: str) -> dict[str, Any]:
    """Trains one and measures it on the held-out pieces."""
    import torch

    from musegen.config import apply_overrides
    from musegen.data.batches import TrainBatches, ValidBatches
    from musegen.data.prefetch import Prefetch
    from musegen.data.shards import ShardSet
    from musegen.evaluation.likelihood import HeldOutDocuments, network_nats
    from musegen.models.registry import GENERATORS
    from musegen.tokens.tokenizer import DocumentMix, load_tokenizer
    from musegen.training.device import pinned, resolve_device
    from musegen.training.run import RunConfig
    from musegen.training.trainer import Trainer

    torch.set_num_threads(1)
    where = resolve_device(device)
    shards = ShardSet.open(folder)
    if name in VARIED:
        said = VARIED[name]
        varied = {key: dataclasses.replace(one, **said) for key, one in shards.corpora.items()}
        shards = dataclasses.replace(shards, corpora=varied)
    if name in ARRANGED:
        one = shards.corpora["arranged"]
        share, made = ARRANGED[name], arranged_share(shards)
        weight = one.weight * share / (1 - share) * (1 - made) / made
        weighed = {**shards.corpora, "arranged": dataclasses.replace(one, weight=weight)}
        shards = dataclasses.replace(shards, corpora=weighed)
    plain = {key: dataclasses.replace(one, programs=0.0) for key, one in shards.corpora.items()}
    if name != "other instruments":
        shards = dataclasses.replace(shards, corpora=plain)
    tokenizer = load_tokenizer(shards.tokenizer_file())
    family = GENERATORS["transformer"]
    config = RunConfig.of(family, size, tokenizer, seed=seed, max_steps=steps)
    config = apply_overrides(config, [*(BASE if size == "small" else TINY), *CHANGES[name]])
    training = dataclasses.replace(
        config.training, validate_every=max(1, steps // 8), log_every=max(1, steps // 8)
    )
    rows, length = config.data.batch_size, config.model.context
    batches = TrainBatches(
        shards,
        tokenizer,
        rows,
        length,
        seed=seed,
        augment=config.data.augment,
        mix=DocumentMix(config.data.masked, config.data.told),
    )
    channels = [channel.name for channel in tokenizer.channels]
    untold = name == "no extra inputs"

    def seen(source: Any) -> Any:
        return Untold(source, channels) if untold else source

    def silent(sample: Any) -> Any:
        return dataclasses.replace(sample, channels=without(sample.channels, channels))

    curve: list[tuple[int, float]] = []

    def on_progress(progress: Any) -> None:
        if progress.validation:
            curve.append((progress.step, progress.validation["nats_per_note"]))
            print(f"{name}: step {progress.step} {curve[-1][1]:.3f}", file=sys.stderr, flush=True)

    torch.manual_seed(seed)
    network = family.model_class()(config.model)
    begin = time.perf_counter()
    workers = 2 if where.type == "cuda" else 0
    prepare = pinned if where.type == "cuda" else None
    with Prefetch(seen(batches), depth=4, workers=workers, prepare=prepare) as ahead:
        trainer = Trainer(
            network,
            training,
            ahead,
            seen(ValidBatches(shards, tokenizer, rows, length, max_batches=6)),
            device=device,
            on_progress=on_progress,
        )
        trainer.fit()
    seconds = time.perf_counter() - begin
    if trainer.ema is not None:
        trainer.ema.swap()
    documents = HeldOutDocuments.of(shards, ("valid",), tokenizer, tokenizer, length)
    if untold:
        documents = dataclasses.replace(documents, samples=tuple(map(silent, documents.samples)))

    def costs(own: HeldOutDocuments) -> dict[str, tuple[float, float]]:
        scored = network_nats(network, own, tokenizer)
        nats, notes = (column.tolist() for column in scored.by_piece())
        names = [f"{piece.corpus}/{piece.name}" for piece in scored.pieces]
        return dict(zip(names, zip(nats, notes, strict=True), strict=True))

    cost = costs(documents)
    moved = costs(reinstrumented(documents, shards, tokenizer, length)) if channels else {}
    return {
        "name": name,
        "parameters": sum(each.numel() for each in network.parameters()),
        "steps": steps,
        "positions": steps * rows * length,
        "seconds": seconds,
        "curve": curve,
        "pieces": cost,
        "on other instruments": moved,
    }


def table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line a run, and its difference to the first, piece by piece, over what all have."""
    pieces = sorted(set.intersection(*[set(one["pieces"]) for one in found]))
    base, weights = np.array([found[0]["pieces"][piece] for piece in pieces]).T
    rows = []
    for one in found:
        nats, notes = np.array([one["pieces"][piece] for piece in pieces]).T
        gap = ratio_interval((nats / notes - base / weights) * weights, weights)
        if gap is None:
            raise SystemExit("no held-out piece was scored")
        rows.append(
            {
                "run": one["name"],
                "parameters": one["parameters"],
                "steps": one["steps"],
                "nats/note": round(nats.sum() / notes.sum(), 3),
                "difference": round(gap.value, 3),
                "from": round(gap.low, 3),
                "to": round(gap.high, 3),
                "other instruments": _mean(one.get("on other instruments", {})),
            }
        )
    return rows


def _mean(cost: dict[str, Any]) -> float | str:
    nats, notes = np.array(list(cost.values())).T if cost else (np.zeros(1), np.zeros(1))
    return round(float(nats.sum() / notes.sum()), 3) if cost else ""


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--flat", type=Path, metavar="FOLDER", help="shards of the preset remi")
    parser.add_argument("--arranged", type=Path, metavar="FOLDER", help="of `data arrange`")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--size", choices=("small", "tiny"), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these runs")
    parser.add_argument("--out", type=Path, help="keep a JSON file a run here; what is there stays")
    parser.add_argument("--one", help="one run, in this process; its JSON goes to --out")
    options = parser.parse_args()
    size = "tiny" if options.quick else options.size
    steps = 8 if options.quick else options.steps
    if options.one:
        folder = options.flat if options.one == "flat tokens" else options.data
        folder = options.arranged if options.one in ARRANGED else folder
        found = run(options.one, folder, steps, options.device, options.seed, size)
        path = options.out / f"{options.one.replace(' ', '_')}.json"
        path.write_text(json.dumps(found), encoding="utf-8")
        return
    names = [name for name in options.only.split(",") if name] or list(CHANGES)
    if options.quick:
        names = names[:2]
    unknown = set(names) - set(CHANGES)
    if unknown:
        parser.error(f"--only {', '.join(sorted(unknown))}: there are {', '.join(CHANGES)}")
    with tempfile.TemporaryDirectory() as temporary:
        data, flat = options.data, options.flat
        if data is None:
            from musegen.data.build import build

            data, flat = Path(temporary) / "rows", Path(temporary) / "flat"
            build("music21", data, preset="events", max_files=20)
            build("music21", flat, preset="remi", max_files=20)
        if flat is None:
            names = [name for name in names if name != "flat tokens"]
        if options.arranged is None:
            names = [name for name in names if name not in ARRANGED]
        out = options.out or Path(temporary) / "runs"
        out.mkdir(parents=True, exist_ok=True)

        def start(name: str) -> None:
            path = out / f"{name.replace(' ', '_')}.json"
            if path.exists():
                return
            command = [sys.executable, __file__, "--one", name, "--data", data, "--out", out]
            command += ["--steps", str(steps), "--seed", str(options.seed), "--size", size]
            command += ["--device", options.device, *(("--quick",) if options.quick else ())]
            command += ["--flat", flat] if flat is not None else []
            command += ["--arranged", options.arranged] if options.arranged is not None else []
            if subprocess.run(command).returncode:
                print(f"{name}: failed", file=sys.stderr, flush=True)

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(start, names))
        files = [out / f"{name.replace(' ', '_')}.json" for name in names]
        found = [json.loads(path.read_text("utf-8")) for path in files if path.exists()]
        if not found:
            raise SystemExit("no run ended well")
        rows = table(found)
    better = [row["difference"] for row in rows if row["run"] == "flat tokens"]
    ratios = {"flat_minus_rows": better[0]} if better else {}
    report("choices", rows, ratios, dict.fromkeys(ratios, 0.0))


if __name__ == "__main__":
    main()
