"""How many modes each loss of the GAN covers: points of 25 Gaussians on a grid, 5 by 5.

    python benchmarks/gan_modes.py [--quick] [--steps N] [--losses wgan_gp relativistic]

Centres at -4, -2, 0, 2, 4 on both axes, standard deviation 0.05 (Srivastava et al. 2017, VEEGAN).
Generator and critic are small nets without norms, the losses those of musegen/models/gan.py, the
loop musegen's Trainer, the weights its running mean. Of 2,500 made points `good` is the share
within three standard deviations of the nearest centre; a mode is covered (`modes`) when one good
point is of it (Lin et al. 2018, PacGAN), which even a square of noise does for most, and fairly
(`fair`) when a quarter of its share is: 25 good points. `off` is the total variation between the
shares of the modes, by the nearest centre, and even ones: 0 is even, 0.96 is one mode.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from bench import arguments, report
from torch import Tensor, nn

from musegen.models.base import Batch, GenerativeModel, Loss, Player
from musegen.models.gan import clip_weights, critic_objective, generator_objective
from musegen.models.gan_config import LOSSES
from musegen.sampling.draw import Draw
from musegen.sampling.sampler import sample
from musegen.training.config import TrainerConfig
from musegen.training.trainer import Trainer

DEVIATION = 0.05
SCALE = 2.828
"""Points are divided by this for the nets: numbers of about 1."""

CENTRES = np.array([(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)], np.float64)
SAMPLES = 2500
GOALS = {"fair": 25.0, "good": 0.5}
"""Of the best loss."""

PENALTIES = {"wgan_gp": 0.1, "relativistic": 0.01}
"""Lambda 0.1 is what the authors' code takes for points; gamma lets the logits be steep enough for
modes so narrow."""

UPDATES = {"nonsaturating": 1, "wgan": 5, "wgan_gp": 5, "relativistic": 1}
"""Of the critic for one of the generator. All losses are given as many updates of either net
together: where the critic has 5, a third of the steps."""

CLIP = 0.1
"""Of wgan: at 0.01 nets so small say nothing at all."""


@dataclass(frozen=True)
class GridConfig:
    """Shape and loss of the two nets."""

    loss: str
    width: int = 128
    noise: int = 2


def net(inner: int, width: int, outer: int) -> nn.Sequential:
    """Three hidden layers."""
    layers: list[nn.Module] = []
    for size in (inner, width, width):
        layers += [nn.Linear(size, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, outer))


class GridGan(GenerativeModel):
    """Points (B, 2) from noise (B, Z)."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = net(config.noise, config.width, 2)
        self.critic = net(2, config.width, 1)

    def _judge(self, points: Tensor) -> Tensor:
        return self.critic(points).squeeze(1)

    def _made(self, real: Tensor) -> Tensor:
        if self.config.loss == "wgan":
            clip_weights(self.critic, CLIP)
        return self.generator(torch.randn(len(real), self.config.noise))

    def critic_loss(self, batch: Batch) -> Loss:
        """As in `Gan`."""
        real, kind = batch["points"], self.config.loss
        penalty = PENALTIES.get(kind, 0.0)
        return Loss(*critic_objective(kind, self._judge, real, self._made(real), penalty))

    def generator_loss(self, batch: Batch) -> Loss:
        """As in `Gan`."""
        real = batch["points"]
        value = generator_objective(self.config.loss, self._judge, real, self._made(real))
        return Loss(value, {})

    def players(self) -> tuple[Player, ...]:
        """As in `Gan`."""
        often = UPDATES[self.config.loss]
        return (
            Player("critic", self.critic, self.critic_loss, steps=often, autocast=False),
            Player("generator", self.generator, self.generator_loss),
        )

    def begin(self, requests: Any, draw: Any) -> Any:
        """The noise, and that nothing is done."""
        return draw.noise((self.config.noise,), list(range(len(requests)))), False

    def step(self, state: Any, draw: Any) -> Any:
        """All of it."""
        return self.generator(torch.as_tensor(state[0], dtype=torch.float32)).numpy(), True

    def done(self, state: Any) -> bool:
        """Whether the points are there."""
        return state[1]

    def finish(self, state: Any) -> list[Any]:
        """Points (2,)."""
        return list(state[0])


class Grid:
    """Batches of points; each a function of its number."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.seed = size, seed

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """(B, 2) points, scaled."""
        rng = np.random.default_rng([self.seed, index])
        points = CENTRES[rng.integers(25, size=self.size)]
        points = points + DEVIATION * rng.standard_normal(points.shape)
        return {"points": (points / SCALE).astype(np.float32)}


def covered(points: np.ndarray) -> dict[str, float]:
    """What the points (N, 2), as large as the centres say, cover."""
    far = np.linalg.norm(points[:, None] - CENTRES, axis=2)
    nearest, good = far.argmin(1), far.min(1) <= 3 * DEVIATION
    hits = np.bincount(nearest[good], minlength=25)
    shares = np.bincount(nearest, minlength=25) / len(points)
    return {
        "modes": int((hits >= 1).sum()),
        "fair": int((hits >= len(points) / 100).sum()),
        "good": float(good.mean()),
        "off": float(np.abs(shares - 1 / 25).sum() / 2),
    }


def measured(loss: str, steps: int, batch: int, seed: int) -> dict[str, Any]:
    """Trains one and counts."""
    torch.manual_seed(seed)
    model = GridGan(GridConfig(loss))
    config = TrainerConfig(
        steps=steps,
        seed=seed,
        optimizer="adamw",
        learning_rate=1e-3,
        betas=(0.0, 0.9),
        weight_decay=0.0,
        clip=0.0,
        ema=0.999,
        precision="fp32",
        log_every=max(1, steps),
    )
    mean: dict[str, Tensor] = {}
    """The running mean of the weights, which a model folder would hold."""
    start = time.perf_counter()
    Trainer(
        model,
        config,
        Grid(batch, seed),
        device="cpu",
        save_best=lambda trainer, weights, values: mean.update(
            {name: tensor.clone() for name, tensor in weights.items()}
        ),
    ).fit()
    model.load_state_dict(mean)
    seconds = time.perf_counter() - start
    made = sample(model, [None] * SAMPLES, Draw(seed), batch_size=SAMPLES).results
    found = covered(np.stack(made).astype(np.float64) * SCALE)
    return {"loss": loss, "steps": steps, **found, "seconds": round(seconds, 1)}


def main() -> int:
    """Trains all of the losses."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, default=0, help="of one update each (40,000)")
    parser.add_argument("--batch", type=int, default=64, help="points of a batch")
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = options.steps or (1_000 if options.quick else 40_000)
    rows = [
        measured(loss, 2 * steps // (1 + UPDATES[loss]), options.batch, options.seed)
        for loss in options.losses
    ]
    ratios = {name: max(row[name] for row in rows) for name in GOALS}
    goals = dict.fromkeys(GOALS, 0.0) if options.quick else GOALS
    return 0 if report("gan_modes", rows, ratios, goals) else 1


if __name__ == "__main__":
    sys.exit(main())
