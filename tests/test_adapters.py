"""Low-rank adapters of any family: what trains, what is stored, the files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from musegen import pictures
from musegen.errors import ConfigError, UsageError
from musegen.image_model import ImageModel
from musegen.models.adapters import Adapted, LowRank
from musegen.training.config import TrainerConfig
from musegen.training.trainer import Trainer

from .test_contract import CASES
from .test_pictures import TINY, trained  # noqa: F401


def fresh(name):
    torch.manual_seed(0)
    case = CASES[name]
    return case, case.registry[case.family].model_class()(case.config)


@pytest.mark.parametrize("name", ["transformer", "bar_vae", "diffusion", "gan", "image_vae"])
def test_only_adapters_train_and_the_plain_model_says_the_same(name):
    case, model = fresh(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    adapted = Adapted(model, 2)
    config = TrainerConfig(
        **{"steps": 3, "learning_rate": 0.01, "precision": "fp32", "validate_every": 0}
        | {"optimizer": "adamw"}
    )
    Trainer(adapted, config, case.source, case.held, device="cpu").fit()
    state = adapted.state_dict()
    for key, tensor in before.items():
        kept = [state.get(f"model.{key}")]
        layer, _, kind = key.rpartition(".")
        kept.append(state.get(f"model.{layer}.base.{kind}"))
        (now,) = [one for one in kept if one is not None]
        assert torch.equal(now, tensor), key
    _, plain = fresh(name)
    plain.load_state_dict(adapted.plain(state))
    moved = [k for k, t in plain.state_dict().items() if not torch.equal(t, before[k])]
    assert moved
    batch = {key: torch.as_tensor(value) for key, value in case.held.batches()[0].items()}
    losses = []
    for one in (adapted, plain):
        torch.manual_seed(1)
        one.eval()
        losses.append([player.loss(batch).value.item() for player in one.players()][-1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_fresh_adapter_changes_nothing():
    for layer, x in (
        (nn.Linear(5, 3), torch.randn(2, 5)),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), torch.randn(1, 2, 6, 6)),
    ):
        adapted = LowRank(layer, 2, 2.0)
        assert torch.equal(adapted(x), layer(x))
        nn.init.normal_(adapted.up.weight)
        assert adapted(x).shape == layer(x).shape and not torch.equal(adapted(x), layer(x))


def test_ranks_that_cannot_be():
    for rank, alpha in ((0, 0.0), (1000, 0.0), (2, -1.0)):
        with pytest.raises(ConfigError, match="lora rank"):
            Adapted(fresh("diffusion")[1], rank, alpha)


def test_fine_tuning_by_adapters(tmp_path, trained):  # noqa: F811
    built = trained.parent / "set"
    out = tmp_path / "mine"
    settings = [*TINY[3:], "training.ema=0", "training.learning_rate=0.01"]
    pictures.train(built, out, max_steps=4, init=trained, lora=2, overrides=settings)
    tensors = load_file(out / "adapter_model.safetensors")
    facts = json.loads((out / "adapter_config.json").read_text())
    assert facts["peft_type"] == "LORA" and facts["r"] == 2
    assert facts["base_model_name_or_path"] == str(trained)
    layers = {name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for name in tensors}
    assert layers == set(facts["target_modules"])
    assert any(tensor.any() for name, tensor in tensors.items() if "lora_B" in name)
    one = pictures.sample(model=ImageModel.from_pretrained(out), random_seed=1)[0]
    other = pictures.sample(model=ImageModel.from_pretrained(trained), random_seed=1)[0]
    assert (one.pixels != other.pixels).any()
    with pytest.raises(UsageError, match="name it with --init"):
        pictures.train(built, tmp_path / "none", max_steps=1, lora=2, overrides=TINY)
