"""The partials of free bars, against what is known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from musegen.design.bar import BarShape
from musegen.design.beam import SHEAR, free_bar, uniform_partials_hz
from musegen.design.materials import material_named, materials
from musegen.errors import ConfigError, UsageError

STEEL = material_named("steel")
ROSEWOOD = material_named("rosewood")


def exact_timoshenko_hz(length_m, thickness_m, material, count):
    """The frequencies of a uniform free-free Timoshenko beam by its characteristic equation.

    The equations of motion are those of Huang 1961 (J. Appl. Mech. 28, 579-584). A general solution
    is put into the four conditions of free ends; the roots of the determinant, scaled, are found by
    bisection. Nothing of it is shared with the finite elements.
    """
    e, g, rho = material.young_pa, SHEAR * material.shear_pa, material.density_kg_m3
    area, inertia = thickness_m, thickness_m**3 / 12

    def determinant(omega):
        # w = W exp(q x), slope psi = P exp(q x): GA (q^2 W - q P) = -rho A w^2 W, and
        # EI q^2 P + GA (q W - P) = -rho I w^2 P
        a = rho * omega**2
        quartic = [
            g * area * e * inertia,
            0.0,
            g * area * a * inertia + a * area * e * inertia,
            0.0,
            a * area * (a * inertia - g * area),
        ]
        q = np.roots(quartic).astype(complex)
        ratio = (g * q**2 + a) / (g * q)  # P / W
        scale = np.exp(-np.abs(q.real) * length_m / 2)  # keeps the columns of like size
        rows = []
        for x in (-length_m / 2, length_m / 2):
            wave = np.exp(q * x) * scale
            rows.append(q * ratio * wave)  # moment
            rows.append((q - ratio) * wave)  # shear force
        return np.linalg.det(np.array(rows) / np.array(rows).__abs__().max(1, keepdims=True))

    def sign_of(omega):
        value = determinant(omega)
        return np.sign(value.real if abs(value.real) > abs(value.imag) else value.imag)

    thin = 2 * np.pi * uniform_partials_hz(length_m, thickness_m, material)
    grid = np.linspace(0.2 * thin[0], 1.02 * thin[count - 1], 4000)
    signs = np.array([sign_of(omega) for omega in grid])
    found = []
    for k in np.flatnonzero(np.diff(signs)):
        low, high = grid[k], grid[k + 1]
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if sign_of(middle) == signs[k] else (low, middle)
        found.append(low / (2 * np.pi))
    return np.array(found[:count])


def test_a_thin_bar_is_exact():
    found = free_bar(0.3, np.full(30, 0.003), STEEL, thin=True).frequencies_hz
    np.testing.assert_allclose(found, uniform_partials_hz(0.3, 0.003, STEEL), rtol=1e-5)
    np.testing.assert_allclose(found / found[0], [1, 2.7565, 5.4039], rtol=1e-4)


@pytest.mark.parametrize(("material", "thickness"), [(STEEL, 0.03), (ROSEWOOD, 0.02)])
def test_a_thick_bar_is_timoshenkos(material, thickness):
    """Three partials within a ten-thousandth of the roots of the exact equation."""
    exact = exact_timoshenko_hz(0.3, thickness, material, 3)
    assert len(exact) == 3
    found = free_bar(0.3, np.full(120, thickness), material).frequencies_hz
    np.testing.assert_allclose(found, exact, rtol=2e-4)


def test_thin_theory_sets_upper_partials_of_thick_bars_too_high():
    thin, thick = (
        free_bar(0.3, np.full(30, 0.02), ROSEWOOD, thin=one).frequencies_hz for one in (True, False)
    )
    too_high = thin / thick
    assert too_high[0] > 1.02 and too_high[2] > 1.15 and (np.diff(too_high) > 0).all()


def test_more_elements_find_the_same():
    half = BarShape(0.35, 0.02, (1.0, 0.8, 0.6, 0.4, 0.3, 0.28), 0.05, ROSEWOOD)
    coarse, fine, finest = (half.modes(count).frequencies_hz for count in (30, 120, 240))
    np.testing.assert_allclose(coarse, finest, rtol=2e-3)
    np.testing.assert_allclose(fine, finest, rtol=2e-4)


def test_a_bar_twice_as_large_is_an_octave_lower():
    """Which is what makes the first partial exact for every shape (musegen/design/bar.py)."""
    thickness = np.linspace(0.02, 0.006, 30)
    one = free_bar(0.35, thickness, ROSEWOOD).frequencies_hz
    two = free_bar(0.70, 2 * thickness, ROSEWOOD).frequencies_hz
    np.testing.assert_allclose(one / two, 2, rtol=1e-9)


def test_modes_are_alike_from_both_ends():
    modes = free_bar(0.3, np.full(20, 0.01), STEEL, partials=4)
    assert modes.shapes.shape == (4, 41) and modes.places_m[-1] == pytest.approx(0.3)
    for number, shape in enumerate(modes.shapes):
        np.testing.assert_allclose(shape, shape[::-1] * (-1) ** number, atol=1e-6)
        assert np.abs(shape).max() == pytest.approx(1)
        assert np.count_nonzero(np.diff(np.sign(shape[np.abs(shape) > 1e-9]))) == number + 2
    # Fletcher & Rossing 1998, table 2.2: the nodes of the first mode, 0.224 of the length in.
    crossing = np.flatnonzero(np.diff(np.sign(modes.shapes[0])))[0] / 40
    assert crossing <= 0.224 <= crossing + 1 / 40


def test_the_table_of_materials_has_sources():
    table = materials()
    assert {"rosewood", "padauk", "aluminium", "steel"} <= set(table)
    for one in table.values():
        assert one.source and 5e9 < one.young_pa < 3e11 and one.shear_pa < one.young_pa
    assert table["aluminium"].decay_s(440) > 5 * table["rosewood"].decay_s(440)
    with pytest.raises(UsageError, match="did you mean 'rosewood'"):
        material_named("rosewod")
    with pytest.raises(ConfigError, match="young_pa"):
        replace(STEEL, young_pa=0.0)
    with pytest.raises(ConfigError, match="air_hz"):
        replace(STEEL, air_hz=-1.0)
