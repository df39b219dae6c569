"""Logits rules: small pure functions from logits (B, V) to logits (B, V); -inf forbids.

They are applied in the order temperature, top-k, top-p, min-p, after whatever mask is in force.
Letters: B batch, V ids.
"""

from __future__ import annotations

import math

import numpy as np

from musegen.errors import GenerationError, UsageError

__all__ = ["allow", "guide", "min_p", "softmax", "temperature", "top_k", "top_p"]

MIN_TEMPERATURE = 1e-6
"""Below it only 0 is taken: logits over less could leave the range of float64."""


def allow(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Only where `allowed` (B, V) is true.

    Raises:
        GenerationError: a row has nothing left.
    """
    if not allowed.any(axis=-1).all():
        raise GenerationError(
            "the rules leave nothing that may come next; ask for less strict ones"
        )
    return np.where(allowed, logits, -np.inf)


def temperature(logits: np.ndarray, value: float) -> np.ndarray:
    """Divides by the temperature; 0 keeps the likeliest id only (the first of equals)."""
    if not (value == 0 or MIN_TEMPERATURE <= value < math.inf):  # also refuses NaN
        raise UsageError(f"temperature {value}: it must be 0, or {MIN_TEMPERATURE:g} or more")
    if value == 0:
        best = np.argmax(logits, axis=-1)[..., None]
        return np.where(np.arange(logits.shape[-1]) == best, 0.0, -np.inf)
    return logits if value == 1 else logits / value


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Only the k likeliest ids, and those equal to the k-th; 0 keeps all."""
    if k < 0:
        raise UsageError(f"top-k {k}: it must be 0 (off) or more")
    if k == 0 or k >= logits.shape[-1]:
        return logits
    threshold = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits >= threshold, logits, -np.inf)


def top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """The smallest set of likeliest ids whose mass reaches p (Holtzman et al. 2020, nucleus)."""
    if not 0 < p <= 1:
        raise UsageError(f"top-p {p}: it must be above 0 and at most 1")
    if p == 1:
        return logits
    order = np.argsort(-logits, axis=-1, kind="stable")
    probability = np.take_along_axis(softmax(logits), order, axis=-1)
    before = np.cumsum(probability, axis=-1) - probability
    keep = np.empty_like(logits, dtype=bool)
    np.put_along_axis(keep, order, before < p, axis=-1)
    return np.where(keep, logits, -np.inf)


def min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Only ids with at least p times the probability of the likeliest (Nguyen et al. 2024)."""
    if not 0 <= p <= 1:
        raise UsageError(f"min-p {p}: it must be from 0 to 1")
    if p == 0:
        return logits
    return np.where(logits >= logits.max(axis=-1, keepdims=True) + np.log(p), logits, -np.inf)


def guide(conditional: np.ndarray, unconditional: np.ndarray, weight: float) -> np.ndarray:
    """Classifier-free guidance, `uncond + w (cond - uncond)` (Ho & Salimans 2022).

    The same formula serves logits, predicted noise and predicted velocity.
    """
    return unconditional + weight * (conditional - unconditional)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (B, V) of logits (B, V), float64."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
