from __future__ import annotations

import numpy as np
import pytest
import torch

from musegen.errors import ConfigError
from musegen.models.base import parameters_of
from musegen.models.registry import GENERATORS
from musegen.models.transformer import Transformer, TransformerConfig

ROWS = {
    "field_sizes": (12, 9, 7),
    "field_names": ("head", "pitch", "length"),
    "channels": (("voice", 4), ("bar", 6)),
    "axes": ("index", "time"),
}
SMALL = {"width": 32, "layers": 2, "heads": 4, "context": 64}


def make(**settings):
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**{**ROWS, **SMALL, **settings}))


def batch_for(config, batch=2, length=20, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.integers(1, size, (batch, length + 1)) for size in config.field_sizes], -1)
    channels = [rng.integers(0, size, (batch, length)) for _, size in config.channels]
    places = np.cumsum(rng.random((batch, length, len(config.axes))), axis=1)
    return {
        "rows": torch.as_tensor(rows[:, :-1]),
        "targets": torch.as_tensor(rows[:, 1:]),
        "channels": torch.as_tensor(
            np.stack(channels, -1) if channels else np.zeros((batch, length, 0), np.int64)
        ),
        "coordinates": torch.as_tensor(places.astype(np.float32)),
        "segments": torch.ones(batch, length, dtype=torch.long),
        "weights": torch.ones(batch, length),
        "notes": torch.ones(batch, length, dtype=torch.bool),
    }


KINDS = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"field_heads": "layer"},
        {"relative_heads": True},
        {"field_sizes": (30,), "field_names": (), "channels": (), "axes": ("index",)},
        {"field_sizes": (30,), "field_names": ()},
        {"head_width": 16},
    ],
    ids=["mlp", "layer", "relative", "flat", "flat+channels", "narrow heads"],
)


@KINDS
def test_logits_have_the_shapes_of_the_fields(settings):
    model = make(**settings)
    logits = model(batch_for(model.config))
    assert [tuple(each.shape) for each in logits] == [
        (2, 20, size) for size in model.config.field_sizes
    ]


@KINDS
def test_a_fresh_model_is_as_good_as_guessing(settings):
    model = make(**settings)
    loss = model.loss(batch_for(model.config))
    assert float(loss.value.detach()) == pytest.approx(
        np.log(model.config.field_sizes).sum(), rel=0.05
    )


@KINDS
def test_the_future_is_not_seen(settings):
    model = make(**settings).eval()
    batch = batch_for(model.config)
    other = {name: value.clone() for name, value in batch.items()}
    other["rows"][:, 10:] = 1
    other["channels"][:, 10:] = 0
    other["coordinates"][:, 10:] += 3
    with torch.no_grad():
        for one, two in zip(model(batch), model(other), strict=True):
            torch.testing.assert_close(one[:, :10], two[:, :10])
            assert not torch.allclose(one[:, 10:], two[:, 10:])


@pytest.mark.parametrize("heads", [{}, {"field_heads": "layer"}, {"relative_heads": True}], ids=str)
def test_a_field_sees_the_fields_before_it_and_none_after(heads):
    model = make(**heads).eval()
    batch = batch_for(model.config)
    with torch.no_grad():
        before = model(batch)
        for changed in range(3):
            other = dict(batch, targets=batch["targets"].clone())
            other["targets"][..., changed] = other["targets"][..., changed] % 6 + 1
            for field, (one, two) in enumerate(zip(before, model(other), strict=True)):
                same = torch.allclose(one, two, atol=1e-6)
                assert same == (field <= changed), (field, changed)


def test_relative_heads_weigh_distances():
    model = make(relative_heads=True, channels=()).eval()
    for parameter in model.parameters():
        parameter.data.zero_()
    heads = model.heads
    heads.hidden.weight.data.fill_(1.0)
    model.model.norm.weight.data.fill_(1.0)
    size = model.config.field_sizes[1]
    heads.distance[1].weight.data[size - 1 + 2] = 1.0  # two above the same field one row ago
    states = torch.ones(3, model.config.width)
    rows = torch.tensor([[1, 1, 1], [1, 3, 1], [1, 0, 1]])  # the last has nothing to measure from
    logits = heads(states, torch.ones(3, 3, dtype=torch.long), rows)[1]
    assert logits.argmax(-1)[:2].tolist() == [3, 5]
    assert (logits != 0).sum(-1).tolist() == [1, 1, 0]


def test_input_dropout_hides_inputs_in_training_alone():
    model = make(input_dropout=0.5)
    batch = batch_for(model.config)
    seen = []
    model.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[:2]))
    model.eval()
    quiet = model.loss(batch)
    model.train()
    torch.manual_seed(0)
    loud = model.loss(batch)
    assert torch.equal(seen[0][0], batch["rows"])
    assert torch.equal(seen[0][1], batch["channels"])
    hidden = (seen[1][0] == 0) & (batch["rows"] != 0)
    share = hidden.sum() / (batch["rows"] != 0).sum()
    assert 0.3 < float(share) < 0.7
    assert torch.equal(seen[1][0][~hidden], batch["rows"][~hidden])
    assert float(quiet.weight) == float(loud.weight)
    with pytest.raises(ConfigError, match="input_dropout"):
        make(input_dropout=1.0)


def test_packed_documents_do_not_see_each_other():
    model = make().eval()
    whole = batch_for(model.config, batch=1, length=20)
    parts = [{name: value[:, part] for name, value in whole.items()} for part in (_A, _B)]
    packed = dict(whole, segments=torch.tensor([[1] * 8 + [2] * 12]))
    with torch.no_grad():
        for together, *apart in zip(model(packed), *(model(part) for part in parts), strict=True):
            torch.testing.assert_close(together, torch.cat(apart, dim=1))


_A, _B = slice(0, 8), slice(8, 20)


def test_padding_changes_nothing():
    model = make().eval()
    batch = batch_for(model.config, batch=1, length=20)
    padded = {name: value.clone() for name, value in batch.items()}
    for name in ("rows", "targets", "segments", "weights"):
        padded[name][:, 15:] = 0
    short = {name: value[:, :15] for name, value in batch.items()}
    one, two = model.loss(padded), model.loss(short)
    torch.testing.assert_close(one.value, two.value)
    for name, (total, count) in one.metrics.items():
        torch.testing.assert_close(total, two.metrics[name][0])
        assert count == two.metrics[name][1]


def test_a_target_of_zero_bears_no_loss_and_is_not_counted():
    model = make()
    batch = batch_for(model.config)
    batch["targets"][:, ::2, 1:] = 0  # every other row has its first field only
    batch["notes"][:, ::2] = False
    loss = model.loss(batch)
    assert int(loss.metrics["nats_head"][1]) == 40
    assert int(loss.metrics["nats_pitch"][1]) == 20
    assert int(loss.metrics["nats_per_note"][1]) == 20
    assert int(loss.metrics["nats_per_row"][1]) == 40
    total = sum(float(loss.metrics[f"nats_{name}"][0]) for name in ROWS["field_names"])
    assert float(loss.metrics["nats_per_note"][0]) == pytest.approx(total, rel=1e-5)
    assert float(loss.value.detach()) == pytest.approx(total / 40, rel=1e-5)
    batch["targets"][:] = 0
    assert float(model.loss(batch).value.detach()) == 0.0


def test_weights_weigh_the_loss_but_not_the_metrics():
    model = make()
    batch = batch_for(model.config)
    plain = model.loss(batch)
    batch["weights"][:] = 0.5
    half = model.loss(batch)
    assert float(half.value.detach()) == pytest.approx(float(plain.value.detach()) / 2, rel=1e-5)
    torch.testing.assert_close(half.metrics["nats_per_row"], plain.metrics["nats_per_row"])
    batch["weights"][:, 5:] = 0.0
    assert int(model.loss(batch).metrics["nats_per_row"][1]) == 10


def test_a_field_of_zero_adds_nothing_to_the_input():
    model = make()
    config = model.config
    rows = torch.zeros(1, 1, 3, dtype=torch.long)
    channels = torch.tensor([[[2, 3]]])
    table, offsets = model.model.embed_tokens.weight, config.table_offsets
    expected = table[offsets[3] + 2] + table[offsets[4] + 3]
    torch.testing.assert_close(model.model.embed(rows, channels)[0, 0], expected)
    rows[0, 0, 1] = 5
    expected = expected + table[offsets[1] + 5]
    torch.testing.assert_close(model.model.embed(rows, channels)[0, 0], expected)


@KINDS
def test_every_parameter_learns(settings):
    model = make(**settings)
    model.loss(batch_for(model.config)).value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_bfloat16_is_near_float32():
    model = make()
    batch = batch_for(model.config)
    with torch.autocast("cpu", torch.bfloat16):
        low = model.loss(batch).value
    assert float(low.detach()) == pytest.approx(float(model.loss(batch).value.detach()), rel=0.01)


def test_one_field_has_the_names_of_llama():
    model = make(field_sizes=(30,), field_names=(), channels=(), axes=("index",))
    names = set(model.state_dict())
    layer = {
        *(f"self_attn.{part}_proj.weight" for part in "qkvo"),
        *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
    }
    assert names == {"model.embed_tokens.weight", "model.norm.weight"} | {
        f"model.layers.{number}.{name}" for number in range(2) for name in layer
    }


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", (1, 2)), ("small", (3, 5)), ("base", (8, 12))]
)
def test_presets_have_the_sizes_that_they_name(size, millions):
    family = GENERATORS["transformer"]
    config = family.config(
        field_sizes=(500, 130, 34, 100), axes=("index", "time"), **family.preset(size)
    )
    with torch.device("meta"):
        count = parameters_of([family.model_class()(config)])
    assert millions[0] < count / 1e6 < millions[1]
