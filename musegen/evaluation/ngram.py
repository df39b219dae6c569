"""A 5-gram baseline: what counting alone knows about rows.

Any model must beat it by far. A row of F fields is predicted field by field: each from the head of
its row (field 0: a marker, or the place in the bar) and from the same field of the four rows before
(an n-gram counts the row itself, so 5); flat ids (F = 1) are the ordinary n-gram. Contexts of whole
rows are too rare to help: on the clean mix they cost 3 nats a note more. Counts are smoothed by
interpolated Kneser-Ney with one discount an order (Kneser and Ney 1995; Chen and Goodman, An
Empirical Study of Smoothing Techniques, 1998, section 4.1.6), down to an even spread over the
field's ids.

Contexts and what follows them are 64-bit hashes, and all of it is sorting: an order is counted,
looked up and forgotten before the next, so millions of rows need no more than some hundred
megabytes. Two contexts meet by chance less than once in a million pieces.

Letters: N rows, F fields.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["ORDER", "ngram_nats"]

ORDER = 5
"""Rows of an n-gram, the predicted one included."""

LEAST_DISCOUNT = 0.1
"""Taken from each count, at least."""

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def ngram_nats(
    train: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    field_sizes: Sequence[int],
    order: int = ORDER,
) -> list[np.ndarray]:
    """What held-out documents cost under the counts of the training documents.

    Args:
        train: documents, (N_i, F) integers each; id 0 is "nothing here" and is not predicted.
        held_out: documents of the same kind.
        field_sizes: ids of each field, 0 included.
        order: rows of an n-gram, at least 1.

    Returns:
        Of each held-out document nats, (N_i - 1, F) float64: of its second row and those after it;
        0 where the id is 0. The first row is given.
    """
    if not len(held_out):
        return []
    seen, counted = _joined(train, order)
    asked, wanted = _joined(held_out, order)
    nats = np.zeros((len(wanted), len(field_sizes)))
    for field, size in enumerate(field_sizes):
        live = counted[seen[counted, field] > 0]
        told = asked[wanted, field] > 0
        probability = _field(
            _contexts(seen, live, field, order),
            seen[live, field],
            _contexts(asked, wanted[told], field, order),
            asked[wanted[told], field],
            size,
        )
        nats[told, field] = -np.log(probability)
    ends = np.cumsum([max(0, len(document) - 1) for document in held_out])
    return np.split(nats, ends[:-1])


def _field(
    contexts: list[np.ndarray],
    ids: np.ndarray,
    asked_contexts: list[np.ndarray],
    asked_ids: np.ndarray,
    size: int,
) -> np.ndarray:
    """Probabilities of the asked ids; contexts are given from the shortest to the longest."""
    pairs = [_with(context, ids) for context in contexts]
    chance = np.full(len(asked_ids), 1 / max(1, size - 1))
    for order, (context, pair) in enumerate(zip(contexts, pairs, strict=True)):
        if order + 1 < len(pairs):
            # Kneser and Ney: shorter contexts count in how many longer ones an id was met.
            kinds = np.unique(pairs[order + 1], return_index=True)[1]
            pair, context = pair[kinds], context[kinds]
        met, place, times = np.unique(pair, return_index=True, return_counts=True)
        once, twice = int((times == 1).sum()), int((times == 2).sum())
        # Where nothing was met once there is no estimate; something is kept for what was not met.
        discount = max(LEAST_DISCOUNT, float(once) / max(1, once + 2 * twice))
        known, inverse = np.unique(context[place], return_inverse=True)
        total = np.bincount(inverse, weights=times, minlength=len(known))
        rest = discount * np.bincount(inverse, minlength=len(known))
        here = asked_contexts[order]
        count = _looked_up(met, np.maximum(times - discount, 0), _with(here, asked_ids))
        whole = _looked_up(known, total, here)
        mixed = count + _looked_up(known, rest, here) * chance
        chance = np.where(whole > 0, mixed / np.maximum(whole, 1e-300), chance)
    return chance


def _joined(documents: Sequence[np.ndarray], order: int) -> tuple[np.ndarray, np.ndarray]:
    """All rows behind one another, rows of zeros between; and the rows that are predicted."""
    fields = documents[0].shape[1] if len(documents) else 1
    gap = np.zeros((order - 1, fields), np.uint64)
    parts, targets, at = [], [np.empty(0, np.int64)], 0
    for document in documents:
        parts += [gap, np.asarray(document).astype(np.uint64)]
        at += len(gap) + len(document)
        targets.append(np.arange(at - len(document) + 1, at))
    return np.concatenate(parts) if parts else gap, np.concatenate(targets)


def _contexts(rows: np.ndarray, at: np.ndarray, field: int, order: int) -> list[np.ndarray]:
    """Hashes of what stands before each place: the row's head, then 0..order - 1 rows back."""
    found = [_with(np.zeros(len(at), np.uint64), rows[at, 0] if field else np.uint64(0))]
    for back in range(1, order):
        found.append(_with(found[-1], rows[at - back, field]))
    return found


def _with(hashes: np.ndarray, more: np.ndarray | np.uint64) -> np.ndarray:
    """Hashes that also depend on `more` (splitmix64's finaliser, shortened)."""
    mixed = (hashes ^ (more + np.uint64(1)) * _ODD) * _MIX
    return mixed ^ (mixed >> np.uint64(29))


def _looked_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each asked key; 0 where it is not among the sorted keys."""
    if not len(keys):
        return np.zeros(len(asked))
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0.0)
