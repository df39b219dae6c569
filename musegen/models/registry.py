"""The families of generative models by name; seen by musegen/api.py only.

To add a family: a frozen dataclass of settings in a module without torch, a `GenerativeModel`
that takes it, and an entry here. The trainer and the sampler need no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from musegen.config import nearest
from musegen.errors import UsageError
from musegen.models.bar_vae_config import BarVaeConfig
from musegen.models.design_vae_config import DesignVaeConfig
from musegen.models.gan_config import GanConfig
from musegen.models.image_config import DiffusionConfig
from musegen.models.image_features_config import ImageFeaturesConfig
from musegen.models.image_vae_config import ImageVaeConfig
from musegen.models.stylizer_config import StylizerConfig
from musegen.models.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from musegen.models.base import GenerativeModel

__all__ = ["GENERATORS", "Family", "family_named"]


@dataclass(frozen=True)
class Family:
    """One kind of model: its settings, where its class is, and its sizes."""

    name: str
    description: str
    config: type
    """The frozen dataclass of its settings."""
    model: str
    """Where its class is, as "module:name": imported (with torch) when it is first needed."""
    presets: Mapping[str, Mapping[str, Any]]
    """Settings of each size, by name of the size: what a TOML table of them would hold."""
    batches: str = "windows"
    """What it trains on, by its name in musegen/data/sources.py."""
    writes: str = "pieces"
    """What its samples are: `pieces`, which `compose` hands out, `bars`, `images`, `transfers`
    from picture to picture, `designs`; `features` of what draws nothing."""
    asks: tuple[str, ...] = ()
    """Settings of its own that its batches must know."""
    features: str = ""
    """The installed model of features that it sees with, where it needs one."""
    request: str = ""
    """Where the class of its requests is, as `model`; for families that write images."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the trainer that suit it, where they are not the defaults."""

    def batch_options(self, config: Any) -> dict[str, Any]:
        """What its batches must know of these settings."""
        return {name: getattr(config, name) for name in self.asks}

    def model_class(self) -> type[GenerativeModel]:
        """The class; imports torch."""
        module, _, name = self.model.partition(":")
        return getattr(import_module(module), name)

    def preset(self, size: str) -> dict[str, Any]:
        """The settings of a size. Raises UsageError for an unknown one."""
        if size not in self.presets:
            raise UsageError(f"no preset '{size}' of {self.name}; {nearest(size, self.presets)}")
        return dict(self.presets[size])


_OF_IMAGES = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01, "ema": 0.999}
"""Convolutions are no matrices between states, which Muon is for."""

_OF_CONTENDERS = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "betas": (0.0, 0.9),
    "weight_decay": 0.0,
    "clip": 0.0,
    "ema": 0.995,
}
"""No momentum, and no clipping: what the other network does now is what counts (Gulrajani et al.
2017, algorithm 1). The rate is five times the customary one, and the mean of the weights a short
one, for a run on a CPU has few steps."""

GENERATORS: dict[str, Family] = {
    "transformer": Family(
        name="transformer",
        description="decoder-only transformer over rows of fields (one field: the Llama layout)",
        config=TransformerConfig,
        model="musegen.models.transformer:Transformer",
        presets={
            # Parameters of the blocks: 0.8, 3.0 and 7.9 million; embeddings and heads come on
            # top. Few, wide layers and heads: at equal size they are faster on a CPU (4 x 256 with
            # 4 heads takes 0.41 s for 8 x 512 rows on one core, 6 x 192 with 6 heads 0.48 s).
            "tiny": {"width": 128, "layers": 4, "heads": 4, "context": 512},
            "small": {"width": 256, "layers": 4, "heads": 4, "context": 512},
            "base": {"width": 384, "layers": 5, "heads": 6, "context": 1024},
        },
    ),
    "bar_vae": Family(
        name="bar_vae",
        description="variational autoencoder of bars, with a prior over the bars of a section",
        config=BarVaeConfig,
        model="musegen.models.bar_vae:BarVae",
        presets={
            "tiny": {"width": 96, "encoder_layers": 2, "decoder_layers": 2, "heads": 4},
            "small": {"width": 192, "encoder_layers": 3, "decoder_layers": 4, "heads": 6},
            "base": {"width": 256, "encoder_layers": 4, "decoder_layers": 4, "heads": 8},
        },
        batches="bars",
        writes="bars",
        asks=("lead", "section", "longest"),
    ),
    "diffusion": Family(
        name="diffusion",
        description="pictures out of noise: flow matching (or DDPM) with a U-Net",
        config=DiffusionConfig,
        model="musegen.models.diffusion:Diffusion",
        presets={
            "tiny": {"size": 32, "width": 16, "multiples": [1, 2, 4]},
            "small": {"size": 32, "width": 32, "multiples": [1, 2, 4]},
            "base": {"size": 32, "width": 64, "multiples": [1, 2, 4], "blocks": 2},
        },
        batches="images",
        writes="images",
        request="musegen.models.diffusion:DiffusionRequest",
        training=_OF_IMAGES,
    ),
    "gan": Family(
        name="gan",
        description="pictures in one step: a generator and a critic that contend",
        config=GanConfig,
        model="musegen.models.gan:Gan",
        presets={
            "tiny": {"size": 32, "width": 16},
            "small": {"size": 32, "width": 32},
            "base": {"size": 32, "width": 64, "noise": 128},
        },
        batches="images",
        writes="images",
        request="musegen.models.gan:GanRequest",
        training=_OF_CONTENDERS,
    ),
    "image_vae": Family(
        name="image_vae",
        description="pictures from a Gaussian latent: a variational autoencoder",
        config=ImageVaeConfig,
        model="musegen.models.image_vae:ImageVae",
        presets={
            "tiny": {"size": 32, "width": 16, "latent": 32},
            "small": {"size": 32, "width": 32},
            "base": {"size": 32, "width": 64, "latent": 128},
        },
        batches="images",
        writes="images",
        request="musegen.models.image_vae:ImageVaeRequest",
        training=_OF_IMAGES,
    ),
    "image_features": Family(
        name="image_features",
        description="describes pictures: what image models are measured with",
        config=ImageFeaturesConfig,
        model="musegen.models.image_features:ImageFeatures",
        presets={
            "tiny": {"size": 32, "width": 16, "features": 64},
            "small": {"size": 32},
            "base": {"size": 32, "width": 48, "features": 256},
        },
        batches="images",
        writes="features",
        training=_OF_IMAGES,
    ),
    "stylizer": Family(
        name="stylizer",
        description="the style of one picture on the content of another",
        config=StylizerConfig,
        model="musegen.models.stylizer:Stylizer",
        presets={
            "tiny": {"size": 32, "width": 16},
            "small": {"size": 32},
            "base": {"size": 32, "width": 48},
        },
        batches="images",
        writes="transfers",
        features="glyph-features",
        request="musegen.models.stylizer:StyleRequest",
        training=_OF_IMAGES,
    ),
    "design_vae": Family(
        name="design_vae",
        description="designs from a Gaussian latent: where a search for good ones can move",
        config=DesignVaeConfig,
        model="musegen.models.design_vae:DesignVae",
        presets={
            "tiny": {"latent": 4, "width": 32, "layers": 1},
            "small": {},
            "base": {"latent": 12, "width": 256, "layers": 3},
        },
        batches="designs",
        writes="designs",
        training={**_OF_IMAGES, "weight_decay": 0.0},
    ),
}
"""Every family that musegen trains and samples."""


def family_named(name: str) -> Family:
    """The family of that name. Raises UsageError, which suggests the nearest."""
    if name not in GENERATORS:
        raise UsageError(f"no model family '{name}'; {nearest(name, GENERATORS)}")
    return GENERATORS[name]
