from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musegen.config import apply_overrides, from_dict, read_toml, to_dict, to_toml
from musegen.errors import ConfigError
from musegen.models.transformer_config import TransformerConfig
from musegen.training.config import TrainerConfig


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    pairs: tuple[tuple[str, int], ...] = (("x", 1),)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ConfigError("rate must not be negative")


@dataclass(frozen=True)
class Outer:
    count: int
    title: str = "plain"
    kind: Literal["one", "two"] = "one"
    on: bool = False
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    extra: dict[str, float] = field(default_factory=dict)
    free: Any = None


def test_round_trip_through_toml():
    config = Outer(3, 'quo"te\n\x7f é', "two", True, 7, Inner(1e-9, (), (("y", 2),)), {"k.k": 2.0})
    text = to_toml(to_dict(config))
    assert from_dict(Outer, tomllib.loads(text)) == config


def test_none_is_left_out():
    assert "limit" not in to_dict(Outer(1))
    assert from_dict(Outer, to_dict(Outer(1))) == Outer(1)


@pytest.mark.parametrize(
    "config", [TrainerConfig(), TransformerConfig((5, 4), channels=(("a", 3),))]
)
def test_real_configurations_round_trip(config):
    assert from_dict(type(config), tomllib.loads(to_toml(to_dict(config)))) == config


plain = st.one_of(
    st.text(), st.integers(-(2**62), 2**62), st.booleans(), st.floats(allow_nan=False)
)
keys = st.text(min_size=1, max_size=8)


@given(
    st.dictionaries(
        keys,
        st.one_of(plain, st.lists(plain, max_size=3), st.dictionaries(keys, plain)),
        max_size=5,
    )
)
def test_toml_says_what_it_was_given(tables):
    assert tomllib.loads(to_toml(tables)) == tables


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 1, "titel": "x"}, ["unknown setting 'titel'", "did you mean 'title'"]),
        ({}, ["'count' is missing"]),
        ({"count": 1.5}, ["c.count", "expected a whole number", "1.5"]),
        ({"count": True}, ["c.count", "whole number"]),
        ({"count": 1, "on": "yes"}, ["c.on", "true or false"]),
        ({"count": 1, "kind": "ones"}, ["c.kind", "'ones' is not a choice", "'one'"]),
        ({"count": 1, "inner": {"rate": -1.0}}, ["c.inner", "must not be negative"]),
        ({"count": 1, "inner": {"names": "ab"}}, ["c.inner.names", "expected a list"]),
        ({"count": 1, "inner": {"pairs": [["x"]]}}, ["c.inner.pairs[0]", "expected 2 values"]),
        ({"count": 1, "inner": {"rate": float("nan")}}, ["c.inner.rate", "finite"]),
        ({"count": 1, "inner": 3}, ["c.inner", "expected a table"]),
        ([1], ["expected a table"]),
    ],
)
def test_what_is_wrong_is_said(values, words):
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, values, "c")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_number_may_stand_for_a_float():
    assert from_dict(Inner, {"rate": 2}).rate == 2.0


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("count=5", Outer(5)),
        ("title=a=b c", Outer(1, title="a=b c")),
        ("kind=two", Outer(1, kind="two")),
        ("on=yes", Outer(1, on=True)),
        ("limit=4", Outer(1, limit=4)),
        ("inner.rate=1e-3", Outer(1, inner=Inner(rate=1e-3))),
        ("inner.names=x, y", Outer(1, inner=Inner(names=("x", "y")))),
        ('inner.names=["x"]', Outer(1, inner=Inner(names=("x",)))),
        ('inner.pairs=[["p", 2]]', Outer(1, inner=Inner(pairs=(("p", 2),)))),
    ],
)
def test_overrides(assignment, expected):
    assert apply_overrides(Outer(1), [assignment]) == expected


def test_overrides_reach_into_a_value_of_any_type_and_apply_in_order():
    config = apply_overrides(Outer(1, free=Inner()), ["free.rate=0.1", "free.rate=0.2"])
    assert config.free.rate == 0.2
    assert apply_overrides(Outer(1, limit=3), ["limit=none"]).limit is None


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("count", ["write it as name=value"]),
        ("count=x", ["--set count", "whole number", "'x'"]),
        ("inner.rat=1", ["unknown setting 'rat'", "did you mean 'rate'"]),
        ("title.x=1", ["'title' has no settings of its own"]),
        ("inner.rate=-1", ["--set inner.rate", "negative"]),
        ("inner.pairs=[", ["--set inner.pairs", "expected a list"]),
        ("kind=three", ["not a choice"]),
    ],
)
def test_wrong_overrides(assignment, words):
    with pytest.raises(ConfigError) as caught:
        apply_overrides(Outer(1), [assignment])
    for word in words:
        assert word in str(caught.value)


def test_reading_a_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "x.toml")
    (tmp_path / "bad.toml").write_bytes(b"a = \xff")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        read_toml(tmp_path / "bad.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        read_toml(tmp_path / "deep.toml")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"field_sizes": (1,)}, "2 ids"),
        ({"field_sizes": (5,), "field_names": ("a", "b")}, "2 names for 1 sizes"),
        ({"field_sizes": (5,), "width": 100, "heads": 6}, "width = 100"),
        ({"field_sizes": (5,), "heads": 3, "width": 192}, "multiple of kv_heads"),
        ({"field_sizes": (5,), "axes": ("a", "b", "c")}, "3 axes"),
        ({"field_sizes": (5,), "axes": ()}, "axes is empty"),
        ({"field_sizes": (5,), "dropout": 1.0}, "dropout"),
        ({"field_sizes": (5,), "layers": 0}, "layers = 0"),
        ({"field_sizes": (5,), "axis_scales": (1.0, 2.0)}, "axis_scales"),
        ({"field_sizes": (5,), "channels": (("a", 0),)}, "side channel"),
    ],
)
def test_cross_checks_of_the_transformer(settings, words):
    with pytest.raises(ConfigError, match=words):
        TransformerConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": -1}, "steps"),
        ({"accumulation": 0}, "accumulation"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"ema": 1.0}, "ema"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (-0.1, 0.9)}, "betas"),
        ({"final_rate": 2.0}, "final_rate"),
    ],
)
def test_cross_checks_of_the_trainer(settings, words):
    with pytest.raises(ConfigError, match=words):
        TrainerConfig(**settings)
