"""Songs, shards and a random autoencoder of bars, for the tests of bars and of ideas."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from musegen.data.shards import CorpusFacts, ShardSet, ShardWriter
from musegen.models.bar_vae import BarVae
from musegen.models.bar_vae_config import BarVaeConfig
from musegen.models.registry import GENERATORS
from musegen.music.score import Key, Meter, Score, Tempo, Text, Track, note_array
from musegen.tokens.tokenizer import Tokenizer
from musegen.training.run import RunConfig

LEAD = 4
SIZES = {"width": 32, "heads": 4, "slots": LEAD, "slot_width": 8}
LAYERS = {"encoder_layers": 1, "decoder_layers": 1, "prior_layers": 1}


def song(bars: int = 6, program: int = 0, drums: bool = True, numerator: int = 4) -> Score:
    """Quarters, a bass note a bar, drums on the beats; a pedal, a name, a marker, two tempi."""
    beat = 480
    bar = numerator * beat
    melody = [(i * beat, beat, 60 + i % 7, 70 + i % 5) for i in range(bars * numerator)]
    low = [(i * bar, bar, 40 + i % 3, 60) for i in range(bars)]
    kit = [(i * beat, 120, 36 + 2 * (i % 2), 90) for i in range(bars * numerator)]
    tracks = [
        Track(note_array(melody), program=program, name="Tune"),
        Track(note_array(low), program=33, name="Low"),
    ]
    if drums:
        tracks.append(Track(note_array(kit), is_drum=True, name="Kit"))
    return Score(
        tracks=tuple(tracks),
        tempos=(Tempo(0, 600_000), Tempo(2 * bar, 400_000)),
        meters=(Meter(0, numerator, 4),),
        keys=(Key(0, 2, False),),
        markers=(Text(bar, "here"),),
    )


def config_of(tokenizer: Tokenizer, **settings: Any) -> BarVaeConfig:
    """The settings of the smallest autoencoder of bars."""
    run: Any = RunConfig.of(GENERATORS["bar_vae"], "tiny", tokenizer).model
    given = {name: getattr(run, name) for name in ("field_sizes", "field_names", "channels")}
    axes = {"axes": run.axes, "axis_scales": run.axis_scales}
    return BarVaeConfig(**given, **axes, **SIZES, **LAYERS, **settings)


def random_network(tokenizer: Tokenizer) -> BarVae:
    """Of the smallest size, with directions."""
    torch.manual_seed(0)
    made = BarVae(config_of(tokenizer))
    torch.nn.init.normal_(made.directions.weight, std=0.3)
    return made.eval()


def shards_of(folder: Path, tokenizer: Tokenizer, songs: Iterable[tuple[Score, str]]) -> ShardSet:
    """Shards of these songs, each in its split, named "0", "1" and so on."""
    writer = ShardWriter(folder, 4)
    for index, (score, split) in enumerate(songs):
        rows = tokenizer.encode(score).rows
        facts = {"style": "piano", "notes": tokenizer.num_notes(rows), "key": "", "corpus": "all"}
        writer.add(rows, name=f"{index}", group=f"{index}", split=split, **facts)
    writer.close(
        name="mine",
        tokenizer=tokenizer.name,
        field_names=tokenizer.field_names,
        field_sizes=tokenizer.field_sizes,
        corpora={"all": CorpusFacts(1.0)},
        may_ship=True,
    )
    tokenizer.save(folder / "tokenizer.json")
    return ShardSet.open(folder)
