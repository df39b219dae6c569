"""What may be done to a piece at batch time: another key, another tempo.

On ids, by the tokenizer: transposition keeps every instrument in its range and never moves drums.
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
    """A piece (T, F), transposed and stretched by draws of `rng` within the corpus's bounds.

    The semitones are uniform in `facts.transpose` among those that the instruments can play; the
    tempo's factor is log-uniform in `facts.tempo`.
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
    return rows
