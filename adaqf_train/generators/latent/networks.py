"""The motion VAE whose latents the latent diffusion family denoises."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adaqf_train.generators.latent.config import AutoencoderConfig
from adaqf_train.generators.temporal import TemporalDecoder, TemporalEncoder, latent_mask

SMALLEST_DEVIATION = 1e-2  # lower bound for latent channels that carry no information


class Posterior(NamedTuple):
    """A normal distribution for each latent frame."""

    mean: Tensor  # (B, N, latent)
    log_variance: Tensor  # (B, N, latent)


class MotionAutoencoder(nn.Module):
    """Motions to latent frames at a quarter of the rate, and back; reads no text."""

    def __init__(self, features: int, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TemporalEncoder(features, config.width, config.depth, 2 * config.latent)
        self.decoder = TemporalDecoder(config.latent, config.width, config.depth, features)
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("std", torch.ones(config.latent))

    def forward(self, motion: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """The reconstruction (B, T, D) through a latent drawn with noise (B, T / 4, latent), and its distribution."""
        posterior = self.posterior(motion, mask)
        drawn = posterior.mean + (0.5 * posterior.log_variance).exp() * noise
        return self.decoder(drawn, latent_mask(mask)), posterior

    def posterior(self, motion: Tensor, mask: Tensor) -> Posterior:
        """(B, T, D), mask (B, T) -> means and log variances (B, T / 4, latent)."""
        return Posterior(*self.encoder(motion, mask).chunk(2, dim=-1))

    def encode(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Standardised latents (B, T / 4, latent) for a diffusion, zero beyond a clip."""
        latents = (self.posterior(motion, mask).mean - self.mean) / self.std
        return latents * latent_mask(mask)[..., None]

    def decode(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Normalised features (B, 4 N, D) of standardised latents (B, N, latent), mask (B, N) True = real."""
        return self.decoder(latents * self.std + self.mean, mask)

    def set_statistics(self, latents: Tensor) -> None:
        """Takes the mean and deviation of raw latents (M, latent), by which `encode` standardises."""
        self.mean.copy_(latents.mean(dim=0))
        self.std.copy_(latents.std(dim=0).clamp(min=SMALLEST_DEVIATION))
