"""What may be done to a piece at batch time: another key, tempo, loudness, other players.

On ids, by the tokenizer: transposition keeps every instrument in its range and never moves drums.
Tracks are left out by the tokenizer too, where it cuts a document from a piece.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from musegen.data.shards import CorpusFacts
from musegen.music.kinship import kin
from musegen.tokens.tokenizer import Tokenizer

TRIES = 4
"""How many transpositions are drawn before the piece stays in its own key."""


def augmented(
    rows: np.ndarray, tokenizer: Tokenizer, facts: CorpusFacts, rng: np.random.Generator
) -> np.ndarray:
    """A piece (T, F), varied by draws of `rng` within the corpus's bounds.

    The semitones are uniform in `facts.transpose` among those that the instruments can play; the
    tempo's factor is log-uniform in `facts.tempo`; the loudness moves by up to `facts.velocity`,
    of the drum strokes a share of `facts.drum_jitter` is struck a little harder or softer, and a
    share of `facts.programs` of the pieces has other instruments of the same kind.
    """
    low, high = facts.transpose
    if low < high:
        for semitones in rng.integers(low, high + 1, TRIES).tolist():
            moved = tokenizer.transpose(rows, semitones)
            if moved is not None:
                rows = moved
                break
    slow, fast = facts.tempo
    if slow < fast:
        factor = float(np.exp(rng.uniform(np.log(slow), np.log(fast))))
        rows = tokenizer.stretch_tempo(rows, factor)
    if facts.programs and rng.random() < facts.programs:
        counts: Counter[int] = Counter(tokenizer.programs_of(rows))
        other = {old: int(rng.choice(kin(old, count))) for old, count in sorted(counts.items())}
        rows = tokenizer.change_programs(rows, other)
    if facts.velocity:
        rows = tokenizer.shift_velocities(rows, rng.uniform(-facts.velocity, facts.velocity))
    if facts.drum_jitter:
        rows = tokenizer.jitter_drums(rows, facts.drum_jitter, rng)
    return rows
