"""Songs and a random autoencoder of bars, for the tests of ideas and of their evaluation."""

from __future__ import annotations

from typing import Any

import torch

from musegen.config import to_dict
from musegen.models.bar_vae import BarVae
from musegen.models.bar_vae_config import BarVaeConfig
from musegen.models.registry import GENERATORS
from musegen.music.score import Key, Meter, Score, Tempo, Text, Track, note_array
from musegen.tokens.tokenizer import Tokenizer
from musegen.training.run import RunConfig

SIZES = {"width": 32, "heads": 4, "slots": 4, "slot_width": 8}
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


def random_network(tokenizer: Tokenizer) -> BarVae:
    """Of the smallest size."""
    config = RunConfig.of(GENERATORS["bar_vae"], "tiny", tokenizer).model
    settings = to_dict(config) | SIZES | LAYERS
    torch.manual_seed(0)
    made = BarVae(BarVaeConfig(**{name: _tupled(value) for name, value in settings.items()}))
    torch.nn.init.normal_(made.directions.weight, std=0.3)
    return made.eval()


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
