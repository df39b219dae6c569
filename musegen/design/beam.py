"""The bending partials of a bar that lies free, by finite elements.

The bar has a rectangular section of one width whose thickness varies along it. Timoshenko's beam
(elements that do not lock: Friedman & Kosmatka 1993) knows shear and rotary inertia; Euler and
Bernoulli's knows neither, and sets the upper partials of thick bars too high. Width drops out of
both. Bars here are alike from both ends, so half of one is solved twice, once for modes that are
alike from both ends and once for those that are not.

Letters: E elements of half a bar, K partials, P places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musegen.design.materials import Material

__all__ = ["SHEAR", "Modes", "free_bar", "uniform_partials_hz"]

SHEAR = 5 / 6
"""Shear coefficient of a rectangular section, as most tables use it."""


@dataclass(frozen=True, eq=False)
class Modes:
    """The bending modes of a bar, lowest first."""

    frequencies_hz: np.ndarray
    """(K,)."""
    places_m: np.ndarray
    """(P,) along the whole bar, from one end."""
    shapes: np.ndarray
    """(K, P): deflection, largest 1."""


def _element_matrices(
    length_m: float, thickness_m: np.ndarray, material: Material, thin: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Stiffness and mass of elements (E, 4, 4) of width 1 m: deflection and slope at both ends.

    Friedman & Kosmatka 1993, equations 16 and 20: `phi` is the ratio of bending to shear stiffness,
    0 for a thin beam, whose matrices are the well-known ones with cubic shapes.
    """
    h, long = thickness_m, length_m
    inertia, area = h**3 / 12, h
    modulus, density = material.young_pa, material.density_kg_m3
    phi = 12 * modulus * inertia / (SHEAR * material.shear_pa * area * long**2)
    if thin:
        phi = np.zeros_like(phi)
    one = np.ones_like(phi)

    def symmetric(rows: list[list[np.ndarray]]) -> np.ndarray:
        """(E, 4, 4) from its upper triangle."""
        full = np.zeros((len(h), 4, 4))
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                full[:, i, i + j] = full[:, i + j, i] = value
        return full

    stiffness = symmetric(
        [
            [12 * one, 6 * long * one, -12 * one, 6 * long * one],
            [(4 + phi) * long**2, -6 * long * one, (2 - phi) * long**2],
            [12 * one, -6 * long * one],
            [(4 + phi) * long**2],
        ]
    )
    stiffness *= (modulus * inertia / (long**3 * (1 + phi)))[:, None, None]
    # Moved mass.
    m1 = 70 * phi**2 + 147 * phi + 78
    m2 = (35 * phi**2 + 77 * phi + 44) * long / 4
    m3 = 35 * phi**2 + 63 * phi + 27
    m4 = (35 * phi**2 + 63 * phi + 26) * long / 4
    m5 = (7 * phi**2 + 14 * phi + 8) * long**2 / 4
    m6 = (7 * phi**2 + 14 * phi + 6) * long**2 / 4
    mass = symmetric([[m1, m2, m3, -m4], [m5, m4, -m6], [m1, -m2], [m5]])
    mass *= (density * area * long / (210 * (1 + phi) ** 2))[:, None, None]
    if not thin:  # turned mass
        r1 = 36 * one
        r2 = (3 - 15 * phi) * long
        r3 = (10 * phi**2 + 5 * phi + 4) * long**2
        r4 = (5 * phi**2 - 5 * phi - 1) * long**2
        turned = symmetric([[r1, r2, -r1, r2], [r3, -r2, r4], [r1, -r2], [r3]])
        turned *= (density * inertia / (30 * long * (1 + phi) ** 2))[:, None, None]
        mass = mass + turned
    return stiffness, mass


def free_bar(
    length_m: float,
    thickness_m: np.ndarray,
    material: Material,
    *,
    partials: int = 3,
    thin: bool = False,
) -> Modes:
    """The first bending modes of a bar that lies free.

    Args:
        length_m: of the whole bar.
        thickness_m: (E,) of the elements of one half, from the end to the middle.
        material: what it is made of.
        partials: how many (K).
        thin: whether by Euler and Bernoulli; else by Timoshenko.

    Returns:
        The modes; the two that move the bar without bending it are left out.
    """
    count = len(thickness_m)
    long = length_m / (2 * count)
    stiffness, mass = _element_matrices(long, np.asarray(thickness_m, float), material, thin)
    size = 2 * count + 2
    whole = np.zeros((2, size, size))
    for part, each in enumerate((stiffness, mass)):
        for i in range(4):
            for j in range(4):
                rows = 2 * np.arange(count) + i
                whole[part, rows, 2 * np.arange(count) + j] += each[:, i, j]
    found, shapes = [], []
    # At the middle the slope is 0 where both halves are alike, else the deflection is.
    for number, fixed in enumerate((size - 1, size - 2)):
        free = np.delete(np.arange(size), fixed)
        k, m = (one[np.ix_(free, free)] for one in whole)
        squared, vectors = _lowest(k, m, (partials + 1) // 2 + 2)
        # The first of each moves without bending: up and down, or turning.
        for value, vector in zip(squared[1:], vectors.T[1:], strict=True):
            full = np.zeros(size)
            full[free] = vector
            half = full[::2]
            other = half[::-1][1:] if number == 0 else -half[::-1][1:]
            shape = np.concatenate((half, other))
            found.append(np.sqrt(max(value, 0.0)) / (2 * np.pi))
            shapes.append(shape / np.abs(shape).max() * np.sign(shape[0] or 1.0))
    order = np.argsort(found)[:partials]
    places = np.linspace(0, length_m, 2 * count + 1)
    return Modes(np.array(found)[order], places, np.array(shapes)[order])


def _lowest(stiffness: np.ndarray, mass: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest squared angular frequencies and their modes: K v = w^2 M v, by Cholesky of M."""
    lower = np.linalg.cholesky(mass)
    reduced = np.linalg.solve(lower, np.linalg.solve(lower, stiffness).T)
    values, vectors = np.linalg.eigh((reduced + reduced.T) / 2)
    return values[:count], np.linalg.solve(lower.T, vectors[:, :count])


def uniform_partials_hz(length_m: float, thickness_m: float, material: Material) -> np.ndarray:
    """(3,): of a thin bar of one thickness, exactly.

    Fletcher & Rossing 1998, section 2.15: the roots of cos(x) cosh(x) = 1.
    """
    roots = np.array([4.730040744862704, 7.853204624095838, 10.995607838001671])
    speed = np.sqrt(material.young_pa / (12 * material.density_kg_m3)) * thickness_m
    return (roots / length_m) ** 2 * speed / (2 * np.pi)
