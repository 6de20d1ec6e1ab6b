"""Latent diffusion from text (SALAD's family): the motion VAE's latents, denoised under the prompt's token states."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from adaclip import AdaCLIP
from adaqf_train.config import SamplingConfig, schema
from adaqf_train.generators.base import MotionGenerator, OnStep
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.guidance import Guided
from adaqf_train.generators.latent.config import LatentFamily
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.mdm.networks import build_denoiser
from adaqf_train.generators.sampling import Batch
from adaqf_train.generators.temporal import latent_mask

_PARTS = ("autoencoder", "denoiser", "diffusion", "sampling")  # of the settings, what a trained generator needs


class LatentGenerator(MotionGenerator):
    """A motion VAE and a denoiser of its latents."""

    family = "latent"
    title = "latent diffusion"

    def __init__(
        self, encoder: AdaCLIP, autoencoder: MotionAutoencoder, mean: Tensor, std: Tensor, config: LatentFamily
    ) -> None:
        """Takes a frozen encoder and a trained autoencoder; the denoiser starts untrained."""
        super().__init__(encoder.requires_grad_(False), mean, std, config.sampling)
        self.config = config
        self.diffusion = Diffusion(config.diffusion)
        self.autoencoder = autoencoder.requires_grad_(False)
        self.denoiser = build_denoiser(encoder, autoencoder.config.latent, config.denoiser, config.diffusion.steps)

    @property
    def most_steps(self) -> int:
        """The timesteps of the diffusion."""
        return self.diffusion.config.steps

    def _sample(self, batch: Batch, settings: SamplingConfig, on_step: OnStep) -> Tensor:
        real = latent_mask(batch.mask)
        latents = self.diffusion.sample(
            Guided(self.denoiser, batch.text, real, settings.guidance),
            real,
            self.autoencoder.config.latent,
            steps=settings.steps,
            scheduler=settings.scheduler,
            noise=batch.noise,
            on_step=on_step,
        )
        return self.autoencoder.decode(latents.to(batch.text.pooled.dtype), real)

    def settings(self) -> dict[str, Any]:
        """The sizes of both networks, the diffusion and the sampling settings."""
        return {name: asdict(getattr(self.config, name)) for name in _PARTS} | {"sampling": asdict(self.sampling)}

    @classmethod
    def build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict[str, Any]) -> LatentGenerator:
        """An untrained generator of those sizes."""
        config = schema.build(LatentFamily, {name: settings[name] for name in _PARTS})
        return cls(encoder, MotionAutoencoder(len(mean), config.autoencoder), mean, std, config)
