"""To and from the folder that `transformers` loads as LlamaForCausalLM.

A `Transformer` with one field, no side channels and the index as its only axis *is* a Llama: the
same names, shapes and arithmetic, the head tied to the embedding. What inference servers read is
`config.json` and `model.safetensors`; transformers itself is not needed here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from musegen.errors import CheckpointError, ConfigError, OutputError
from musegen.models.transformer import Transformer, TransformerConfig

__all__ = ["export_llama", "import_llama", "llama_config"]


def llama_config(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json` of a model. Raises ConfigError for one that is no Llama."""
    reasons = {
        f"{len(config.field_sizes)} fields in a row": len(config.field_sizes) > 1,
        "side channels": bool(config.channels),
        f"the axes {', '.join(config.axes)}": len(config.axes) > 1,
        "a scaled axis": config.axis_scales != (1.0,),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(
                f"a model with {reason} has no Llama layout; train with the flat preset 'remi'"
            )
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.field_sizes[0],
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,  # transformers 4
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},  # 5
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "torch_dtype": "float32",
    }


def export_llama(model: Transformer, folder: str | Path) -> None:
    """Writes `config.json` and `model.safetensors` (float32) into `folder`.

    Raises ConfigError for a model that is no Llama, OutputError when it cannot be written.
    """
    config = json.dumps(llama_config(model.config), indent=2)
    tensors = {
        name: tensor.detach().float().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("model.safetensors", save(tensors, metadata={"format": "pt"})),
            ("config.json", config.encode()),
        ):
            fresh = folder / f".{name}.part"
            fresh.write_bytes(content)
            fresh.replace(folder / name)
    except OSError as error:
        raise OutputError(f"{folder}: the model cannot be written ({error})") from error


def import_llama(folder: str | Path) -> Transformer:
    """A `Transformer` from a Llama folder with a tied head and plain rotary positions.

    Raises CheckpointError for a folder that is missing, damaged, or of another architecture.
    """
    folder = Path(folder)
    try:
        given = json.loads((folder / "config.json").read_text("utf-8"))
        tensors = load_file(folder / "model.safetensors")
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: no Llama folder that can be read ({error})") from error
    try:
        config = _config_of(given)
        with torch.device("meta"):
            expected = Transformer(config).state_dict()
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"{folder}/config.json: not a Llama of ours ({str(error)[:200]!r})"
        ) from error
    head = tensors.pop("lm_head.weight", None)
    table = tensors.get("model.embed_tokens.weight")
    if head is not None and (table is None or not torch.equal(head, table)):
        raise CheckpointError(f"{folder}: the output head is not tied to the embedding")
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise CheckpointError(f"{folder}: the tensor '{name}' is missing or misshaped")
    if extra := sorted(set(tensors) - set(expected)):
        raise CheckpointError(f"{folder}: the tensor '{extra[0]}' has no place in a Llama")
    model = Transformer(config)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()


def _config_of(given: Any) -> TransformerConfig:
    if not isinstance(given, dict) or given.get("model_type") != "llama":
        raise ConfigError("model_type must be llama")
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    kind = rope.get("rope_type", "default")
    width, heads = int(given["hidden_size"]), int(given["num_attention_heads"])
    refused = {
        f"rotary positions of the kind '{kind}'": kind != "default",
        "biases": bool(given.get("attention_bias") or given.get("mlp_bias")),
        "an activation other than silu": given.get("hidden_act", "silu") != "silu",
        "a head size of its own": given.get("head_dim") not in (None, width // max(1, heads)),
        "a feed-forward width that is no multiple of 32": int(given["intermediate_size"]) % 32 != 0,
    }
    for reason, holds in refused.items():
        if holds:
            raise ConfigError(f"{reason} cannot be imported")
    theta = float(rope.get("rope_theta") or given.get("rope_theta") or 10_000.0)
    eps = float(given.get("rms_norm_eps", 1e-6))
    if not (math.isfinite(theta) and math.isfinite(eps)):
        raise ConfigError("rope_theta and rms_norm_eps must be finite")
    return TransformerConfig(
        field_sizes=(int(given["vocab_size"]),),
        width=width,
        layers=int(given["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(given.get("num_key_value_heads") or heads),
        ffn_multiple=int(given["intermediate_size"]) / width,
        context=int(given.get("max_position_embeddings", 2048)),
        rope_theta=theta,
        norm_eps=eps,
    )
