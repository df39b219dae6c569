"""What may be done to a piece at batch time: another key, tempo, loudness, another drummer's touch.

On ids, by the tokenizer: transposition keeps every instrument in its range and never moves drums.
Tracks are left out by the tokenizer too, where it cuts a document from a piece.
"""

from __future__ import annotations

import numpy as np

from musegen.data.shards import CorpusFacts
from musegen.tokens.tokenizer import Tokenizer

TRIES = 4
"""How many transpositions are drawn before the piece stays in its own key."""


def augmented(
    rows: np.ndarray, tokenizer: Tokenizer, facts: CorpusFacts, rng: np.random.Generator
) -> np.ndarray:
    """A piece (T, F), varied by draws of `rng` within the corpus's bounds.

    The semitones are uniform in `facts.transpose` among those that the instruments can play; the
    tempo's factor is log-uniform in `facts.tempo`; the loudness moves by up to `facts.velocity`,
    and of the drum strokes a share of `facts.drum_jitter` is struck a little harder or softer.
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
    if facts.velocity:
        rows = tokenizer.shift_velocities(rows, rng.uniform(-facts.velocity, facts.velocity))
    if facts.drum_jitter:
        rows = tokenizer.jitter_drums(rows, facts.drum_jitter, rng)
    return rows
