from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from musegen.errors import CheckpointError, ConfigError, OutputError
from musegen.models.hf import export_llama, import_llama
from musegen.models.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(field_sizes=(60,), width=64, layers=2, heads=4, context=128)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    for parameter in model.parameters():  # far from the small numbers of a fresh model
        parameter.data.mul_(3.0)
    return model


def batch_of(ids):
    rows = torch.as_tensor(ids)[..., None]
    places = torch.arange(rows.shape[1], dtype=torch.float32).expand(rows.shape[:2])[..., None]
    return {
        "rows": rows,
        "targets": rows.roll(-1, 1),
        "channels": torch.zeros(*rows.shape[:2], 0, dtype=torch.long),
        "coordinates": places,
        "segments": torch.ones(rows.shape[:2], dtype=torch.long),
    }


def test_transformers_loads_it_with_equal_logits(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    export_llama(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        llama, info = transformers.LlamaForCausalLM.from_pretrained(
            tmp_path, output_loading_info=True
        )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = np.random.default_rng(0).integers(1, 60, (3, 100))
    with torch.no_grad():
        theirs = llama.eval()(torch.as_tensor(ids)).logits
        ours = model(batch_of(ids))[0]
    assert theirs.std() > 0.5, "the test is of logits that say something"
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_there_and_back(model, tmp_path):
    export_llama(model, tmp_path)
    back = import_llama(tmp_path)
    assert back.config.hidden == CONFIG.hidden and back.config.field_sizes == (60,)
    ids = torch.randint(1, 60, (1, 20))
    with torch.no_grad():
        assert torch.equal(back(batch_of(ids))[0], model(batch_of(ids))[0])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"field_sizes": (9, 9)}, "2 fields"),
        ({"channels": (("a", 2),)}, "side channels"),
        ({"axes": ("index", "time")}, "axes index, time"),
        ({"axis_scales": (0.5,)}, "scaled axis"),
    ],
)
def test_what_is_no_llama_is_refused(more, words, tmp_path):
    config = TransformerConfig(
        **{"field_sizes": (9,), "width": 32, "heads": 2, "layers": 1, **more}
    )
    with pytest.raises(ConfigError, match=words):
        export_llama(Transformer(config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, "model_type must be llama"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"attention_bias": True}, "biases"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ({"head_dim": 8}, "head size"),
        ({"intermediate_size": 100}, "multiple of 32"),
        ({"vocab_size": 61}, "embed_tokens"),
        ({"num_hidden_layers": 1}, "no place"),
        ({"hidden_size": None}, "not a Llama of ours"),
    ],
)
def test_other_folders_are_refused(model, tmp_path, change, words):
    export_llama(model, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=words):
        import_llama(tmp_path)


def test_damaged_folders(model, tmp_path):
    with pytest.raises(CheckpointError, match="no Llama folder"):
        import_llama(tmp_path)
    export_llama(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="no Llama folder"):
        import_llama(tmp_path)


def test_an_output_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export_llama(model, tmp_path / "file")
